%% @doc The memory that handlers count in: ETS tables, `atomics' arrays, and the persistent term that refers to them.
%%
%% Written by handlers, in the process that emits, through cell/4 and last/4; read by dichroic_aggregates. The process itself only
%% owns the tables: if it dies they are deleted, handlers fail quietly, and the supervisor starts a new epoch. All tables are
%% bounded: label sets are admitted against the caps of their entry and of the node; further ones are counted in the overflow
%% series of the entry.
%%
%% An emitter may be killed at any step. Therefore new cells are first announced in `fresh', where dichroic_aggregates reads
%% them, and are visible to handlers only after that: announced cells without a table row read as zero, and a second announcement
%% has no effect. Budget that a killed emitter has taken is returned by drift/2 and amend/3.
-module(dichroic_tables).

-behaviour(gen_server).

-include("dichroic.hrl").

-export([start_link/0, reset/0, static/0, make/1, drop/1]).
-export([cell/4, last/4, view/4, unview/2, purge/2, remove/2, acct/2, drift/2, amend/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(MIN_RESET_MS, 500).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Starts a new epoch with empty tables. Called by the connection when it starts and when `linger_s' has passed.
-spec reset() -> #static{}.
reset() -> gen_server:call(?MODULE, reset, infinity).

-spec static() -> #static{} | none.
static() -> persistent_term:get(?STATIC, none).

-spec init([]) -> {ok, {none, integer()}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    {ok, {none, erlang:monotonic_time(millisecond) - ?MIN_RESET_MS}}.

%% Resets in quick succession are a crash loop, so they are slowed down.
-spec handle_call(reset, gen_server:from(), {#static{} | none, integer()}) -> {reply, #static{}, {#static{}, integer()}}.
handle_call(reset, _From, {Old, At}) ->
    Wait = At + ?MIN_RESET_MS - erlang:monotonic_time(millisecond),
    Old =/= none andalso Wait > 0 andalso timer:sleep(Wait),
    New = make(erlang:system_time(nanosecond)),
    persistent_term:put(?STATIC, New),
    drop(Old),
    {reply, New, {New, erlang:monotonic_time(millisecond)}}.

-spec handle_cast(term(), State) -> {noreply, State}.
handle_cast(_, S) -> {noreply, S}.

%% @doc Tables of one epoch, owned by the calling process.
-spec make(integer()) -> #static{}.
make(Epoch) ->
    Shards = min(erlang:system_info(schedulers), ?MAX_SHARDS),
    Shared = [set, public, {write_concurrency, true}, {read_concurrency, true}],
    Acct = atomics:new(?ACCT_FIXED + ?ACCT_PER_ENTRY * ?MAX_ENTRIES, [{signed, true}]),
    atomics:put(Acct, ?ACCT_SERIES_CAP, 10000),
    #static{epoch = Epoch,
            shards = Shards,
            tables = list_to_tuple([ets:new(dichroic_cells, [set, public]) || _ <- lists:seq(1, Shards)]),
            relays = list_to_tuple([dichroic_event_sender:name(I) || I <- lists:seq(1, Shards)]),
            acct = Acct,
            subs = atomics:new(?MAX_STREAMS, []),
            rows = atomics:new(?ROWS_PER_STREAM * ?MAX_STREAMS, []),
            credit = dichroic_limiter:new(Shards),
            series = ets:new(dichroic_series, Shared),
            lasts = ets:new(dichroic_lasts, Shared),
            fresh = ets:new(dichroic_fresh, Shared),
            streams = ets:new(dichroic_streams, Shared)}.

-spec drop(#static{} | none) -> ok.
drop(none) -> ok;
drop(#static{tables = Tables, series = A, lasts = B, fresh = C, streams = D}) ->
    _ = [catch ets:delete(T) || T <- [A, B, C, D | tuple_to_list(Tables)]],
    ok.

%% @doc The index of a cell of an entry in `acct'.
-spec acct(pos_integer(), pos_integer()) -> pos_integer().
acct(Slot, Cell) -> ?ACCT_FIXED + (Slot - 1) * ?ACCT_PER_ENTRY + Cell.

%%% The slow path of a handler: a label set that is new in this shard

%% @doc The cells of a series in this table, created if missing; those of the overflow series beyond the caps.
-spec cell(#static{}, ets:tid(), tuple(), #entry{}) -> atomics:atomics_ref().
cell(St, Table, Key, Entry) ->
    case admit(St, base(Key), Entry) of
        full ->
            %% The label set of a negative observation was already counted here.
            tuple_size(Key) =:= 2 andalso atomics:add(St#static.acct, acct(Entry#entry.slot, ?OVERFLOWED), 1),
            in_table(St, Table, setelement(2, Key, overflow), Entry#entry.size, known);
        Room -> in_table(St, Table, Key, Entry#entry.size, Room)
    end.

base({_, _} = Key) -> Key;
base({Slot, Labels, neg}) -> {Slot, Labels}.

in_table(St, Table, Key, Size, Room) ->
    case ets:lookup(Table, Key) of
        [{_, _, Ref}] ->
            ok = return_room(Room, St, base(Key)),
            Ref;
        [] ->
            Copy = copy_key(Key),
            Ref = atomics:new(Size, [{signed, true}]),
            Id = announce(St, Copy, Ref),
            ok = add_series(Room, St, base(Copy)),
            case ets:insert_new(Table, {Copy, Ref, Ref}) andalso announced(St, Id) of
                true -> Ref;
                false ->
                    ok = retract(St, Table, Copy, Id, Ref),
                    in_table(St, Table, Key, Size, known)
            end
    end.

announce(#static{fresh = Fresh}, Copy, What) ->
    Id = erlang:unique_integer(),
    true = ets:insert(Fresh, {Id, Copy, What}),
    Id.

announced(#static{fresh = Fresh}, Id) -> ets:member(Fresh, Id).

%% Another process created the row first; or the announcement was read before the row existed, and its series may have been hidden
%% since.
retract(St, Table, Copy, Id, Ref) ->
    true = ets:delete(St#static.fresh, Id),
    case ets:lookup(Table, Copy) of
        [{_, _, Ref}] ->
            true = ets:delete(Table, Copy),
            unview(St, base(Copy));
        _ -> ok
    end.

%% Takes room from the budget. The caller returns it if the label set turns out to exist already.
admit(#static{series = Series, acct = Acct} = St, {Slot, _} = Key, #entry{cap = Cap}) ->
    case ets:member(Series, Key) of
        true -> known;
        false ->
            All = atomics:add_get(Acct, ?ACCT_SERIES, 1),
            Mine = atomics:add_get(Acct, acct(Slot, ?ENTRY_SERIES), 1),
            case Mine =< Cap andalso All =< atomics:get(Acct, ?ACCT_SERIES_CAP) of
                true -> room;
                false ->
                    return_budget(St, Slot),
                    full
            end
    end.

%% Called after the announcement, so that a label set whose emitter was killed expires like others.
add_series(known, _, _) -> ok;
add_series(room, #static{series = Series} = St, {Slot, _} = Key) ->
    case ets:insert_new(Series, {copy_key(Key), erlang:system_time(nanosecond)}) of
        true -> ok;
        false -> return_budget(St, Slot)
    end.

%% Another process added the series first; or it is being hidden and is read once more.
return_room(known, _, _) -> ok;
return_room(room, St, {Slot, _}) -> return_budget(St, Slot).

%% The entry's budget first: after a kill in between the drift shows in that of the node.
return_budget(#static{acct = Acct}, Slot) ->
    atomics:sub(Acct, acct(Slot, ?ENTRY_SERIES), 1),
    atomics:sub(Acct, ?ACCT_SERIES, 1).

%% @doc The slow path of a last value.
-spec last(#static{}, tuple(), #entry{}, number()) -> ok.
last(St, Key, Entry, Value) ->
    case admit(St, Key, Entry) of
        full ->
            atomics:add(St#static.acct, acct(Entry#entry.slot, ?OVERFLOWED), 1),
            put_last(St, setelement(2, Key, overflow), Value, known);
        Room -> put_last(St, Key, Value, Room)
    end.

put_last(#static{lasts = Lasts} = St, Key, Value, Room) ->
    case ets:update_element(Lasts, Key, [{2, Value}, {3, erlang:monotonic_time()}]) of
        true -> return_room(Room, St, Key);
        false ->
            Copy = copy_key(Key),
            Id = announce(St, Copy, last),
            ok = add_series(Room, St, Copy),
            case ets:insert_new(Lasts, {Copy, Value, erlang:monotonic_time()}) of
                true ->
                    _ = announced(St, Id) orelse announce(St, Copy, last),
                    ok;
                false -> put_last(St, Key, Value, known)
            end
    end.

%% A stored label must not keep alive the larger binary that it is part of, such as a request.
copy_key({Slot, Labels}) when is_tuple(Labels) -> {Slot, list_to_tuple([copy_label(L) || L <- tuple_to_list(Labels)])};
copy_key({Slot, Labels, neg}) when is_tuple(Labels) -> erlang:append_element(copy_key({Slot, Labels}), neg);
copy_key(Key) -> Key.

copy_label(L) when is_binary(L) -> binary:copy(L);
copy_label(L) -> L.

%% @doc Stores the cells of all entries of a group in the row of its first entry, so that later events need one lookup. Cells
%% hidden meanwhile are removed from the view as well: by remove/2 if that runs later, otherwise after the second lookup here.
-spec view(ets:tid(), #group{}, tuple(), non_neg_integer()) -> ok.
view(Table, #group{tag = Tag, entries = [#entry{slot = Leader} | _] = Entries}, Labels, Tries) ->
    Cells = fun() -> [present(Table, {Slot, Labels}) || #entry{slot = Slot, type = Type} <- Entries, Type =/= last] end,
    case Cells() of
        [none | _] -> ok;
        Refs ->
            _ = ets:update_element(Table, {Leader, Labels}, {2, list_to_tuple([Tag, Tries | Refs])}),
            Cells() =:= Refs orelse unview_row(Table, {Leader, Labels}),
            ok
    end.

present(Table, Key) ->
    case ets:lookup(Table, Key) of
        [{_, _, Ref}] -> Ref;
        [] -> none
    end.

unview_row(Table, Key) ->
    case ets:lookup(Table, Key) of
        [{_, View, Ref}] when is_tuple(View) -> ets:update_element(Table, Key, {2, Ref});
        _ -> false
    end.

%%% For dichroic_aggregates

%% @doc Removes the cells of a series from their view.
-spec unview(#static{}, {pos_integer(), tuple() | overflow}) -> ok.
unview(#static{tables = Tables, acct = Acct}, {Slot, Labels}) ->
    case atomics:get(Acct, acct(Slot, ?ENTRY_LEADER)) of
        0 -> ok;
        Leader -> _ = [unview_row(T, {Leader, Labels}) || T <- tuple_to_list(Tables)], ok
    end.

%% @doc Removes a label set from the tables, so that its next event starts a new series.
-spec remove(#static{}, {pos_integer(), tuple() | overflow}) -> ok.
remove(#static{tables = Tables, series = Series, lasts = Lasts} = St, {Slot, Labels} = Key) ->
    ets:delete(Series, Key),
    ets:delete(Lasts, Key),
    _ = [begin ets:delete(T, Key), ets:delete(T, {Slot, Labels, neg}) end || T <- tuple_to_list(Tables)],
    unview(St, Key).

%% @doc The number of label sets that the budget counts but that do not exist. `Expiring' holds, by entry slot, those that are already removed from
%% the tables but still counted. A label set that is just being admitted makes the drift one too high for a moment.
-spec drift(#static{}, #{pos_integer() => non_neg_integer()}) -> integer().
drift(#static{acct = Acct, series = Series}, Expiring) ->
    atomics:get(Acct, ?ACCT_SERIES) - ets:info(Series, size) - lists:sum(maps:values(Expiring)).

%% @doc Corrects the budget of the node and of the entries by a drift that has lasted.
-spec amend(#static{}, #{pos_integer() => non_neg_integer()}, integer()) -> ok.
amend(_, _, 0) -> ok;
amend(#static{acct = Acct, series = Series}, Expiring, Drift) ->
    Count = fun({{Slot, _}, _}, N) -> maps:update_with(Slot, fun(C) -> C + 1 end, 1, N) end,
    Alive = ets:foldl(Count, Expiring, Series),
    _ = lists:foldl(fun(Slot, Left) -> Left - amend(Acct, Slot, maps:get(Slot, Alive, 0), Left) end, Drift, lists:seq(1, ?MAX_ENTRIES)),
    atomics:sub(Acct, ?ACCT_SERIES, Drift).

amend(Acct, Slot, Alive, Left) ->
    Cell = acct(Slot, ?ENTRY_SERIES),
    Part = between(min(0, Left), atomics:get(Acct, Cell) - Alive, max(0, Left)),
    atomics:sub(Acct, Cell, Part),
    Part.

between(Least, N, Most) -> max(Least, min(N, Most)).

%% @doc Removes all rows of these entry slots, before the slots are used again. One pass over each table for all of them.
-spec purge(#static{}, [pos_integer()]) -> ok.
purge(_, []) -> ok;
purge(#static{tables = Tables, series = Series, lasts = Lasts, acct = Acct}, Slots) ->
    Wanted = maps:from_keys(Slots, true),
    Of = fun(Row) -> [{Row, [{is_map_key, {element, 1, '$1'}, {const, Wanted}}], [true]}] end,
    _ = ets:select_delete(Series, Of({'$1', '_'})),
    _ = [ets:select_delete(T, Of({'$1', '_', '_'})) || T <- [Lasts | tuple_to_list(Tables)]],
    lists:foreach(fun(Slot) -> clear(Acct, Slot) end, Slots).

clear(Acct, Slot) ->
    atomics:sub(Acct, ?ACCT_SERIES, max(0, atomics:get(Acct, acct(Slot, ?ENTRY_SERIES)))),
    _ = [atomics:put(Acct, acct(Slot, C), 0) || C <- lists:seq(1, ?ACCT_PER_ENTRY)],
    ok.
