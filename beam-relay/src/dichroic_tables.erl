%% @doc The memory that handlers count in: ETS tables, `atomics' arrays, and the one persistent term that names them.
%%
%% Written by handlers (in whatever process emits) through cell/4 and last/4, read by dichroic_aggregates. The process only
%% owns the tables: if it dies they go, handlers find nothing and do nothing, and the supervisor starts a new epoch. All
%% tables are bounded: a label set is admitted against the cap of its entry and of the node, beyond it everything is
%% counted in one overflow series of the entry.
%%
%% An emitter may be killed at any step. So what is made is announced in `fresh' first, where dichroic_aggregates reads of it, and
%% handlers find it after that: an announcement of cells that nobody finds reads as zero, and twice the same as once. What a
%% killed emitter has taken of the budget comes back by drift/2 and amend/3.
-module(dichroic_tables).

-behaviour(gen_server).

-include("dichroic.hrl").

-export([start_link/0, reset/0, static/0, make/1, drop/1]).
-export([cell/4, last/4, view/4, unview/2, purge/2, forget/2, acct/2, drift/2, amend/3]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(MIN_RESET_MS, 500).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc A new epoch: empty tables. Called by the connection when it starts and when linger_s is over.
-spec reset() -> #static{}.
reset() -> gen_server:call(?MODULE, reset, infinity).

-spec static() -> #static{} | none.
static() -> persistent_term:get(?STATIC, none).

init([]) ->
    _ = process_flag(trap_exit, true),
    {ok, {none, erlang:monotonic_time(millisecond) - ?MIN_RESET_MS}}.

%% Two resets in quick succession mean that something crashes in a loop: slow it down, never give up.
handle_call(reset, _From, {Old, At}) ->
    Wait = At + ?MIN_RESET_MS - erlang:monotonic_time(millisecond),
    Old =/= none andalso Wait > 0 andalso timer:sleep(Wait),
    New = make(erlang:system_time(nanosecond)),
    persistent_term:put(?STATIC, New),
    drop(Old),
    {reply, New, {New, erlang:monotonic_time(millisecond)}}.

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
            slots = atomics:new(?MAX_EVENTS, []),
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

%% @doc Where a cell of the account of an entry is.
-spec acct(pos_integer(), pos_integer()) -> pos_integer().
acct(Slot, Cell) -> ?ACCT_FIXED + (Slot - 1) * ?ACCT_PER_ENTRY + Cell.

%%% The slow path of a handler: a label set that this shard sees for the first time

%% @doc The cells of a series in this table, made if need be; those of the overflow series when there is no room.
-spec cell(#static{}, ets:tid(), tuple(), #entry{}) -> atomics:atomics_ref().
cell(St, Table, Key, Entry) ->
    case admit(St, base(Key), Entry) of
        full ->
            %% A negative observation has passed here with its label set before.
            tuple_size(Key) =:= 2 andalso atomics:add(St#static.acct, acct(Entry#entry.slot, ?OVERFLOWED), 1),
            in_table(St, Table, setelement(2, Key, overflow), Entry#entry.size, known);
        Room -> in_table(St, Table, Key, Entry#entry.size, Room)
    end.

base({_, _} = Key) -> Key;
base({Slot, Labels, neg}) -> {Slot, Labels}.

in_table(St, Table, Key, Size, Room) ->
    case ets:lookup(Table, Key) of
        [{_, _, Ref}] ->
            ok = stay_out(Room, St, base(Key)),
            Ref;
        [] ->
            Own = own(Key),
            Ref = atomics:new(Size, [{signed, true}]),
            Told = announce(St, Own, Ref),
            ok = move_in(Room, St, base(Own)),
            case ets:insert_new(Table, {Own, Ref, Ref}) andalso announced(St, Told) of
                true -> Ref;
                false ->
                    ok = retract(St, Table, Own, Told, Ref),
                    in_table(St, Table, Key, Size, known)
            end
    end.

announce(#static{fresh = Fresh}, Own, What) ->
    Told = erlang:unique_integer(),
    true = ets:insert(Fresh, {Told, Own, What}),
    Told.

announced(#static{fresh = Fresh}, Told) -> ets:member(Fresh, Told).

%% Somebody was faster; or the announcement was read before the cells were to be found, and their series may have been hidden since.
retract(St, Table, Own, Told, Ref) ->
    true = ets:delete(St#static.fresh, Told),
    case ets:lookup(Table, Own) of
        [{_, _, Ref}] ->
            true = ets:delete(Table, Own),
            unview(St, base(Own));
        _ -> ok
    end.

%% Whether there is room; what is taken of it is given back by who finds that the label set is there already.
admit(#static{series = Series, acct = Acct} = St, {Slot, _} = Key, #entry{cap = Cap}) ->
    case ets:member(Series, Key) of
        true -> known;
        false ->
            All = atomics:add_get(Acct, ?ACCT_SERIES, 1),
            Mine = atomics:add_get(Acct, acct(Slot, ?ENTRY_SERIES), 1),
            case Mine =< Cap andalso All =< atomics:get(Acct, ?ACCT_SERIES_CAP) of
                true -> room;
                false ->
                    give_back(St, Slot),
                    full
            end
    end.

%% After it was announced, so that a label set whose emitter was killed leaves like others.
move_in(known, _, _) -> ok;
move_in(room, #static{series = Series} = St, {Slot, _} = Key) ->
    case ets:insert_new(Series, {own(Key), erlang:system_time(nanosecond)}) of
        true -> ok;
        false -> give_back(St, Slot)
    end.

%% Another was faster; or the series is being hidden, and is read once more.
stay_out(known, _, _) -> ok;
stay_out(room, St, {Slot, _}) -> give_back(St, Slot).

%% That of the entry before that of all: what is killed in between shows in the latter.
give_back(#static{acct = Acct}, Slot) ->
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
        true -> stay_out(Room, St, Key);
        false ->
            Own = own(Key),
            Told = announce(St, Own, last),
            ok = move_in(Room, St, Own),
            case ets:insert_new(Lasts, {Own, Value, erlang:monotonic_time()}) of
                true ->
                    _ = announced(St, Told) orelse announce(St, Own, last),
                    ok;
                false -> put_last(St, Key, Value, known)
            end
    end.

%% What stays in a table must not keep alive the long binary (a request, say) that a label is a part of.
own({Slot, Labels}) when is_tuple(Labels) -> {Slot, list_to_tuple([own_label(L) || L <- tuple_to_list(Labels)])};
own({Slot, Labels, neg}) when is_tuple(Labels) -> erlang:append_element(own({Slot, Labels}), neg);
own(Key) -> Key.

own_label(L) when is_binary(L) -> binary:copy(L);
own_label(L) -> L.

%% @doc Puts the cells of all entries of a group into the row of its first, where the next event finds them at once.
%% Whoever is hidden in between is hidden from the view too: by forget/2 if it comes after us, else by the second look.
-spec view(ets:tid(), #group{}, tuple(), non_neg_integer()) -> ok.
view(Table, #group{tag = Tag, entries = [#entry{slot = Leader} | _] = Entries}, Labels, Tries) ->
    Look = fun() -> [present(Table, {Slot, Labels}) || #entry{slot = Slot, type = Type} <- Entries, Type =/= last] end,
    case Look() of
        [none | _] -> ok;
        Refs ->
            _ = ets:update_element(Table, {Leader, Labels}, {2, list_to_tuple([Tag, Tries | Refs])}),
            Look() =:= Refs orelse unview_row(Table, {Leader, Labels}),
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

%% @doc Takes the cells of a series out of the view that they are in.
-spec unview(#static{}, {pos_integer(), tuple() | overflow}) -> ok.
unview(#static{tables = Tables, acct = Acct}, {Slot, Labels}) ->
    case atomics:get(Acct, acct(Slot, ?ENTRY_LEADER)) of
        0 -> ok;
        Leader -> _ = [unview_row(T, {Leader, Labels}) || T <- tuple_to_list(Tables)], ok
    end.

%% @doc Takes a label set out of the tables, so that its next event begins a new series.
-spec forget(#static{}, {pos_integer(), tuple() | overflow}) -> ok.
forget(#static{tables = Tables, series = Series, lasts = Lasts} = St, {Slot, Labels} = Key) ->
    ets:delete(Series, Key),
    ets:delete(Lasts, Key),
    _ = [begin ets:delete(T, Key), ets:delete(T, {Slot, Labels, neg}) end || T <- tuple_to_list(Tables)],
    unview(St, Key).

%% @doc How many more label sets are counted as alive than there are; `Leaving' says how many are out of the table already but
%% still counted, by entry slot. An emitter that is being admitted is one too many, for a moment.
-spec drift(#static{}, #{pos_integer() => non_neg_integer()}) -> integer().
drift(#static{acct = Acct, series = Series}, Leaving) ->
    atomics:get(Acct, ?ACCT_SERIES) - ets:info(Series, size) - lists:sum(maps:values(Leaving)).

%% @doc Takes a drift that has lasted out of the budget, of the node and of the entries that have it.
-spec amend(#static{}, #{pos_integer() => non_neg_integer()}, integer()) -> ok.
amend(_, _, 0) -> ok;
amend(#static{acct = Acct, series = Series}, Leaving, Drift) ->
    Count = fun({{Slot, _}, _}, N) -> maps:update_with(Slot, fun(C) -> C + 1 end, 1, N) end,
    Alive = ets:foldl(Count, Leaving, Series),
    _ = lists:foldl(fun(Slot, Left) -> Left - amend(Acct, Slot, maps:get(Slot, Alive, 0), Left) end, Drift, lists:seq(1, ?MAX_ENTRIES)),
    atomics:sub(Acct, ?ACCT_SERIES, Drift).

amend(Acct, Slot, Alive, Left) ->
    Cell = acct(Slot, ?ENTRY_SERIES),
    Part = between(min(0, Left), atomics:get(Acct, Cell) - Alive, max(0, Left)),
    atomics:sub(Acct, Cell, Part),
    Part.

between(Least, N, Most) -> max(Least, min(N, Most)).

%% @doc Takes everything of these entry slots out of the tables: before the slots mean something else. One walk for all of them.
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
