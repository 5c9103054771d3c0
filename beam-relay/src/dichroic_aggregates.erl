%% @doc The reading side of the counters: which series live, what changed since the last flush, which have been idle.
%%
%% Owned by the engine, in the connection's process; no I/O. A row is the whole total of a series, so nothing is kept for
%% resending and a lost connection costs nothing: reconnected/1 forgets the ids, and the next flush defines and sends all.
%% Leaving follows the wire's rule: idle, its last total acknowledged, hidden for two flushes, read once more, forgotten.
-module(dichroic_aggregates).

-include("dichroic.hrl").

-export([new/0, reconnected/1, flush/4, retire/4, live/1, leaving/1]).
-export_type([totals/0, out/0, ids/0]).

-record(ser, {
    entry       :: #entry{},
    labels      :: [dichroic_value:value()] | overflow,
    start       :: integer(),
    raw = []    :: [{pos_integer(), tuple() | overflow}],     % keys in the tables that mean this series
    cells = []  :: [{pos | neg, atomics:atomics_ref()}],
    id = none   :: none | non_neg_integer(),
    stamp = none :: term(),                                   % what tells that nothing changed
    sent = none :: none | non_neg_integer(),                  % flush that sent the last total on this connection
    changed = 0 :: integer(),                                 % second of the idle clock of the last change
    hidden = 0  :: non_neg_integer()                          % flush at which it was hidden
}).

-record(totals, {series = #{} :: #{term() => #ser{}}, leaving = [] :: [#ser{}], clock = 0 :: integer()}).
-opaque totals() :: #totals{}.

%% Ids of one connection: next unused, freed, limit.
-type ids() :: {non_neg_integer(), [non_neg_integer()], non_neg_integer()}.
%% `untold' are series for which there was none.
-type out() :: #{ids := ids(), freed := [non_neg_integer()], defines := list(), numbers := list(),
                 histograms := list(), untold := non_neg_integer()}.

-spec new() -> totals().
new() -> #totals{}.

-spec live(totals()) -> non_neg_integer().
live(#totals{series = S, leaving = L}) -> map_size(S) + length(L).

%% @doc How many label sets are out of the tables and still in the budget, by entry slot.
-spec leaving(totals()) -> #{pos_integer() => non_neg_integer()}.
leaving(#totals{leaving = Leaving}) ->
    lists:foldl(fun(#ser{entry = #entry{slot = Slot}} = S, Acc) ->
        N = admitted(S),
        maps:update_with(Slot, fun(M) -> M + N end, N, Acc)
    end, #{}, Leaving).

admitted(#ser{raw = Raw}) -> length([L || {_, L} <- Raw, L =/= overflow]).

%% @doc A new connection knows no ids. The stamps stay: what differs then has changed meanwhile.
-spec reconnected(totals()) -> totals().
reconnected(#totals{series = Series, leaving = Leaving} = T) ->
    Forget = fun(S) -> S#ser{id = none, sent = none} end,
    T#totals{series = maps:map(fun(_, S) -> Forget(S) end, Series), leaving = [Forget(S) || S <- Leaving]}.

%% @doc Entries that a new plan lacks: their series leave. Their slots may be used again when no series has them.
-spec retire(#static{}, #{pos_integer() => #entry{}}, [pos_integer()], totals()) -> totals().
retire(_, _, [], T) -> T;
retire(St, Entries, Slots, #totals{} = T0) ->
    #totals{series = Series, leaving = Leaving} = T = fresh(St, Entries, T0),
    Retired = maps:from_keys(Slots, true),
    Gone = maps:filter(fun(_, #ser{entry = #entry{slot = Slot}}) -> is_map_key(Slot, Retired) end, Series),
    Hidden = [hide(St, 0, S) || S <- maps:values(Gone)],
    T#totals{series = maps:without(maps:keys(Gone), Series), leaving = Hidden ++ Leaving}.

%% @doc Everything that changed, as rows; `Ponged' is the last flush that the collector acknowledged, `Clock' what idle time is
%% measured by.
-spec flush(#static{}, #{pos_integer() => #entry{}}, {Flush :: integer(), Ponged :: integer(), ClockS :: integer(), out()},
            totals()) -> {out(), totals()}.
flush(St, Entries, {Flush, Ponged, Clock, Out0}, T0) ->
    #totals{series = Series, leaving = Leaving} = T = fresh(St, Entries, T0#totals{clock = Clock}),
    {Changed, Hide, Out1} = maps:fold(
        fun(Key, S, Acc) -> visit(St, Flush, Ponged, Clock, Key, S, Acc) end, {[], [], Out0}, present(Series, Leaving)),
    Kept = maps:without([K || {K, _} <- Hide], maps:merge(Series, maps:from_list(Changed))),
    Alive = maps:from_list([{ser_key(S), true} || #ser{id = Id} = S <- Leaving, Id =/= none]),
    {Still, Out2, _} = lists:foldl(fun(S, Acc) -> leave(St, Flush, S, Acc) end, {[], Out1, Alive}, Leaving),
    {Out2, T#totals{series = Kept, leaving = [hide(St, Flush, S) || {_, S} <- Hide] ++ Still}}.

%% What came back while it is leaving waits until its old id is forgotten: the collector takes a series under one id at a time.
present(Series, []) -> Series;
present(Series, Leaving) -> maps:without([ser_key(S) || S <- Leaving], Series).

visit(St, Flush, Ponged, Clock, Key, S, {Changed, Hide, Out} = Acc) ->
    case unsent(St, S) of
        same ->
            case idle(S, Ponged, Clock) of
                true -> {Changed, [{Key, S} | Hide], Out};
                false -> Acc
            end;
        {Stamp, Value} ->
            case send(Value, S, Out) of
                %% Nobody knows of it yet: the next flush tries again.
                {#ser{id = none}, Out1} -> {Changed, Hide, Out1};
                {S1, Out1} -> {[{Key, (stamped(Stamp, Clock, S1))#ser{sent = Flush}} | Changed], Hide, Out1}
            end
    end.

%% A new connection has none of it, changed or not.
unsent(St, #ser{sent = none} = S) -> read(St, S#ser{stamp = none});
unsent(St, S) -> read(St, S).

%% Only what differs is a sign of life.
stamped(Stamp, _, #ser{stamp = Stamp} = S) -> S;
stamped(Stamp, Clock, S) -> S#ser{stamp = Stamp, changed = Clock}.

idle(#ser{entry = #entry{expire_s = 0}}, _, _) -> false;
%% What was never sent has nothing to tell: a last value whose emitter was killed before it was there.
idle(#ser{entry = #entry{expire_s = E}, sent = Sent, changed = At}, Ponged, Clock) ->
    Clock - At >= E andalso (Sent =:= none orelse Sent =< Ponged).

hide(St, Flush, #ser{raw = Raw} = S) ->
    _ = [dichroic_tables:forget(St, Key) || Key <- Raw],
    S#ser{hidden = Flush}.

%% Handlers that had the cells in hand when they were hidden are done by now.
leave(_, Flush, #ser{hidden = 0} = S, {Still, Out, Alive}) -> {[S#ser{hidden = Flush} | Still], Out, Alive};
leave(St, Flush, #ser{hidden = H, raw = Raw} = S, {Still, Out, Alive}) when Flush < H + 2 ->
    %% A handler that was stopped while it made a view may have brought them back.
    _ = [dichroic_tables:unview(St, Key) || Key <- Raw],
    {[S | Still], Out, Alive};
leave(St, _, S, {Still, Out, Alive}) ->
    Key = ser_key(S),
    case S#ser.id =:= none andalso is_map_key(Key, Alive) of
        true -> {[S | Still], Out, Alive};
        false -> {Still, left(St, S, Out), Alive#{Key => true}}
    end.

left(St, #ser{entry = #entry{slot = Slot}} = S, Out) ->
    Admitted = admitted(S),
    atomics:sub(St#static.acct, ?ACCT_SERIES, Admitted),
    atomics:sub(St#static.acct, dichroic_tables:acct(Slot, ?ENTRY_SERIES), Admitted),
    case unsent(St, S) of
        same -> free(S, Out);
        {_, Value} ->
            {S1, Out1} = send(Value, S, Out),
            free(S1, Out1)
    end.

free(#ser{id = none}, Out) -> Out;
free(#ser{id = Id}, #{freed := Freed} = Out) -> Out#{freed := [Id | Freed]}.

%%% Rows

send(Value, #ser{id = none} = S, #{ids := Ids, defines := Defines} = Out) ->
    case take_id(Ids) of
        none -> {S, maps:update_with(untold, fun(N) -> N + 1 end, Out)};
        {Id, Ids1} -> send(Value, S#ser{id = Id}, Out#{ids := Ids1, defines := [{Id, define(S)} | Defines]})
    end;
send({number, I, F}, #ser{id = Id} = S, #{numbers := Rows} = Out) -> {S, Out#{numbers := [{Id, I, F} | Rows]}};
send({histogram, I, F, Buckets}, #ser{id = Id} = S, #{histograms := Rows} = Out) ->
    {S, Out#{histograms := [{Id, I, F, Buckets} | Rows]}}.

take_id({Next, [Id | Freed], Limit}) -> {Id, {Next, Freed, Limit}};
take_id({Next, [], Limit}) when Next < Limit -> {Next, {Next + 1, [], Limit}};
take_id(_) -> none.

define(#ser{entry = #entry{key = Key, late = Late} = Entry, labels = overflow, start = Start}) ->
    own(Entry, #{<<"key">> => Key, <<"labels">> => [null || _ <- Late], <<"start">> => Start, <<"overflow">> => true});
define(#ser{entry = #entry{key = Key} = Entry, labels = Labels, start = Start}) ->
    own(Entry, #{<<"key">> => Key, <<"labels">> => Labels, <<"start">> => Start}).

own(#entry{own = none}, Define) -> Define;
own(#entry{own = Own}, Define) -> Define#{<<"own">> => Own}.

%%% Reading cells

read(St, #ser{entry = #entry{type = last}, raw = Raw, stamp = Stamp}) ->
    Held = [{At, V} || Key <- Raw, {_, V, At} <- ets:lookup(St#static.lasts, Key)],
    case Held =/= [] andalso lists:max(Held) of
        false -> same;
        Stamp -> same;
        {_, V} = New when is_integer(V) -> {New, {number, V, 0.0}};
        {_, V} = New -> {New, {number, 0, V}}
    end;
read(_, #ser{entry = #entry{type = counter}, cells = Cells, stamp = Stamp}) ->
    case sum(1, Cells) of
        Stamp -> same;
        I -> {I, {number, I, 0.0}}
    end;
read(_, #ser{entry = #entry{type = sum}, cells = Cells, stamp = Stamp}) ->
    case {sum(?CELL_SUM_INT, Cells), floats(?CELL_SUM_FLOAT, Cells)} of
        Stamp -> same;
        {I, F} = New -> {New, {number, I, F}}
    end;
read(_, #ser{entry = Entry, cells = Cells, stamp = Stamp}) ->
    Pos = [C || {pos, _} = C <- Cells],
    case sum(?CELL_COUNT, Pos) of
        Stamp -> same;
        Count -> {Count, {histogram, sum(?CELL_INT, Pos), floats(?CELL_FLOAT, Pos), buckets(Entry, Pos, Cells -- Pos)}}
    end.

sum(Ix, Cells) -> lists:foldl(fun({_, Ref}, Acc) -> Acc + atomics:get(Ref, Ix) end, 0, Cells).

floats(Ix, Cells) ->
    lists:foldl(fun({_, Ref}, Acc) -> <<F/float>> = <<(atomics:get(Ref, Ix)):64>>, Acc + F end, 0.0, Cells).

buckets(#entry{type = buckets, size = Size}, Pos, _) -> side(?CELL_ZERO, Size, 1, -?CELL_ZERO, Pos);
buckets(#entry{grid = Grid, size = Size}, Pos, Neg) ->
    Shift = dichroic_bucket:least(Grid) - ?CELL_BUCKETS,
    side(?CELL_ZERO, ?CELL_ZERO, 0, -?CELL_ZERO, Pos) ++ side(?CELL_BUCKETS, Size, 1, Shift, Pos)
        ++ side(?CELL_BUCKETS, Size, 2, Shift, Neg).

side(_, _, _, _, []) -> [];
side(From, To, Side, Shift, Cells) ->
    [{Ix + Shift, Side, N} || Ix <- lists:seq(From, To), N <- [sum(Ix, Cells)], N > 0].

%%% Cells that handlers have made since the last flush

fresh(#static{fresh = Fresh} = St, Entries, T) ->
    lists:foldl(
        fun({U, Key, Ref}, Acc) ->
            true = ets:delete(Fresh, U),
            adopt(St, Entries, Key, Ref, Acc)
        end, T, lists:sort(ets:tab2list(Fresh))).

adopt(St, Entries, {Slot, Labels, neg}, Ref, T) -> adopt(St, Entries, {Slot, Labels}, {neg, Ref}, T);
adopt(St, Entries, {Slot, Labels} = Raw, Ref, #totals{series = Series} = T) ->
    case Entries of
        #{Slot := #entry{late = Late} = Entry} ->
            Norm = normal(Labels, Late),
            SerKey = ser_key(Entry, Norm),
            S = case Series of
                    #{SerKey := #ser{raw = Raws} = Known} ->
                        _ = lists:member(Raw, Raws) orelse start(St, Raw),
                        Known;
                    _ -> #ser{entry = Entry, labels = Norm, start = start(St, Raw), changed = T#totals.clock}
                end,
            T#totals{series = Series#{SerKey => join(Raw, Ref, S)}};
        _ ->
            ok = dichroic_tables:forget(St, Raw),
            T
    end.

%% What is one label set on the collector's page is one series, of all its spellings: 1, "1", 1.0 and '1'. The handler counts each in
%% cells of its own, here they are added up. On the wire the one that was met first stands for all.
ser_key(#ser{entry = Entry, labels = Labels}) -> ser_key(Entry, Labels).

ser_key(#entry{key = Key}, overflow) -> {Key, overflow};
ser_key(#entry{key = Key}, Norm) ->
    case [dichroic_value:representative(L) || L <- Norm] of
        %% Mostly: then it is the same list in memory, not one more.
        Norm -> {Key, Norm};
        Other -> {Key, Other}
    end.

%% A cell belongs to the incarnation that is alive when the engine learns of it; whoever is not in the table any more
%% was hidden in between, and begins anew.
start(St, {Slot, Labels} = Raw) ->
    case ets:lookup(St#static.series, Raw) of
        [{_, Start}] -> Start;
        [] when Labels =:= overflow -> erlang:system_time(nanosecond);
        [] ->
            Now = erlang:system_time(nanosecond),
            true = ets:insert(St#static.series, {Raw, Now}),
            atomics:add(St#static.acct, ?ACCT_SERIES, 1),
            atomics:add(St#static.acct, dichroic_tables:acct(Slot, ?ENTRY_SERIES), 1),
            Now
    end.

%% What is told twice is there once.
join(Raw, What, #ser{raw = Raws, cells = Cells} = S) -> S#ser{raw = with(Raw, Raws), cells = cells(What, Cells)}.

cells(last, Cells) -> Cells;
cells({neg, _} = Cell, Cells) -> with(Cell, Cells);
cells(Ref, Cells) -> with({pos, Ref}, Cells).

with(X, L) -> case lists:member(X, L) of true -> L; false -> [X | L] end.

%% Labels as they are on the wire.
normal(overflow, _) -> overflow;
normal(Labels, Late) -> lists:zipwith(fun finish/2, tuple_to_list(Labels), Late).

finish(V, _) when V =:= nil; V =:= undefined -> null;
finish(V, _) when is_boolean(V); is_number(V) -> V;
finish(V, name) when is_atom(V) ->
    case atom_to_binary(V) of <<"Elixir.", Name/binary>> -> short(Name); Name -> short(Name) end;
finish(V, none) when is_atom(V) -> short(atom_to_binary(V));
finish(V, _) -> short(dichroic_value:as_text(V)).

%% Strings were cut before they became a key; an atom is one word there, however long its name, and what stands for bytes is longer.
short(Name) -> dichroic_value:cut(Name, ?MAX_LABEL_BYTES).
