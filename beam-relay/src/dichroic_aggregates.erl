%% @doc Reads the counters: which series exist, which changed since the last flush, which are idle.
%%
%% Owned by the engine, in the connection's process; no I/O. A row is the whole total of a series, so no row is kept for resending:
%% after a lost connection reconnected/1 clears the ids, and the next flush defines and sends every series. A series expires by
%% the rule of the wire: idle, its last total acknowledged, hidden for two flushes, read once more, removed.
-module(dichroic_aggregates).

-include("dichroic.hrl").

-export([new/0, reconnected/1, flush/4, retire/4, live/1, expiring/1]).
-export_type([totals/0, out/0, ids/0]).

-record(series, {
    entry       :: #entry{},
    labels      :: [dichroic_value:value()] | overflow,
    start       :: integer(),
    raw = []    :: [{pos_integer(), tuple() | overflow}],     % keys of this series in the tables
    cells = []  :: [{pos | neg, atomics:atomics_ref()}],
    id = none   :: none | non_neg_integer(),
    stamp = none :: term(),                                   % last reading; the same again means no change
    sent = none :: none | non_neg_integer(),                  % flush that sent the last total on this connection
    changed = 0 :: integer(),                                 % idle clock, in seconds, at the last change
    hidden = 0  :: non_neg_integer()                          % flush at which it was hidden
}).

-record(totals, {series = #{} :: #{term() => #series{}}, expiring = [] :: [#series{}], clock = 0 :: integer()}).
-opaque totals() :: #totals{}.

%% Ids of one connection: next unused, freed, limit.
-type ids() :: {non_neg_integer(), [non_neg_integer()], non_neg_integer()}.
%% `unreported' counts series without an id.
-type out() :: #{ids := ids(), freed := [non_neg_integer()], defines := list(), numbers := list(),
                 histograms := list(), unreported := non_neg_integer()}.

-spec new() -> totals().
new() -> #totals{}.

-spec live(totals()) -> non_neg_integer().
live(#totals{series = S, expiring = L}) -> map_size(S) + length(L).

%% @doc The number of label sets that are removed from the tables but still in the budget, by entry slot.
-spec expiring(totals()) -> #{pos_integer() => non_neg_integer()}.
expiring(#totals{expiring = Expiring}) ->
    lists:foldl(fun(#series{entry = #entry{slot = Slot}} = S, Acc) ->
        N = admitted(S),
        maps:update_with(Slot, fun(M) -> M + N end, N, Acc)
    end, #{}, Expiring).

admitted(#series{raw = Raw}) -> length([L || {_, L} <- Raw, L =/= overflow]).

%% @doc Clears the ids for a new connection. Stamps are kept: a different reading is a change.
-spec reconnected(totals()) -> totals().
reconnected(#totals{series = Series, expiring = Expiring} = T) ->
    Reset = fun(S) -> S#series{id = none, sent = none} end,
    T#totals{series = maps:map(fun(_, S) -> Reset(S) end, Series), expiring = [Reset(S) || S <- Expiring]}.

%% @doc Expires the series of entries that a new plan lacks. Their slots are free when no series uses them.
-spec retire(#static{}, #{pos_integer() => #entry{}}, [pos_integer()], totals()) -> totals().
retire(_, _, [], T) -> T;
retire(St, Entries, Slots, #totals{} = T0) ->
    #totals{series = Series, expiring = Expiring} = T = fresh(St, Entries, T0),
    Retired = maps:from_keys(Slots, true),
    Gone = maps:filter(fun(_, #series{entry = #entry{slot = Slot}}) -> is_map_key(Slot, Retired) end, Series),
    Hidden = [hide(St, 0, S) || S <- maps:values(Gone)],
    T#totals{series = maps:without(maps:keys(Gone), Series), expiring = Hidden ++ Expiring}.

%% @doc Rows of all series that changed. `Ponged' is the last flush that the collector acknowledged, `Clock' the idle clock.
-spec flush(#static{}, #{pos_integer() => #entry{}}, {Flush :: integer(), Ponged :: integer(), ClockS :: integer(), out()},
            totals()) -> {out(), totals()}.
flush(St, Entries, {Flush, Ponged, Clock, Out0}, T0) ->
    #totals{series = Series, expiring = Expiring} = T = fresh(St, Entries, T0#totals{clock = Clock}),
    {Changed, Hide, Out1} = maps:fold(
        fun(Key, S, Acc) -> visit(St, Flush, Ponged, Clock, Key, S, Acc) end, {[], [], Out0}, present(Series, Expiring)),
    Kept = maps:without([K || {K, _} <- Hide], maps:merge(Series, maps:from_list(Changed))),
    Alive = maps:from_list([{series_key(S), true} || #series{id = Id} = S <- Expiring, Id =/= none]),
    {Still, Out2, _} = lists:foldl(fun(S, Acc) -> expire(St, Flush, S, Acc) end, {[], Out1, Alive}, Expiring),
    {Out2, T#totals{series = Kept, expiring = [hide(St, Flush, S) || {_, S} <- Hide] ++ Still}}.

%% A series that returns while it expires waits until its old id is removed: the collector accepts a series under one id at a time.
present(Series, []) -> Series;
present(Series, Expiring) -> maps:without([series_key(S) || S <- Expiring], Series).

visit(St, Flush, Ponged, Clock, Key, S, {Changed, Hide, Out} = Acc) ->
    case unsent(St, S) of
        same ->
            case idle(S, Ponged, Clock) of
                true -> {Changed, [{Key, S} | Hide], Out};
                false -> Acc
            end;
        {Stamp, Value} ->
            case send(Value, S, Out) of
                %% There was no id for it: the next flush tries again.
                {#series{id = none}, Out1} -> {Changed, Hide, Out1};
                {S1, Out1} -> {[{Key, (stamped(Stamp, Clock, S1))#series{sent = Flush}} | Changed], Hide, Out1}
            end
    end.

%% On a new connection every row is sent, changed or not.
unsent(St, #series{sent = none} = S) -> read(St, S#series{stamp = none});
unsent(St, S) -> read(St, S).

%% Only a different reading counts as activity.
stamped(Stamp, _, #series{stamp = Stamp} = S) -> S;
stamped(Stamp, Clock, S) -> S#series{stamp = Stamp, changed = Clock}.

idle(#series{entry = #entry{expire_s = 0}}, _, _) -> false;
%% A series that was never sent has no value: the emitter of a last value was killed before it wrote it.
idle(#series{entry = #entry{expire_s = E}, sent = Sent, changed = At}, Ponged, Clock) ->
    Clock - At >= E andalso (Sent =:= none orelse Sent =< Ponged).

hide(St, Flush, #series{raw = Raw} = S) ->
    _ = [dichroic_tables:remove(St, Key) || Key <- Raw],
    S#series{hidden = Flush}.

%% Handlers that had read the cells before they were hidden have finished by now.
expire(_, Flush, #series{hidden = 0} = S, {Still, Out, Alive}) -> {[S#series{hidden = Flush} | Still], Out, Alive};
expire(St, Flush, #series{hidden = H, raw = Raw} = S, {Still, Out, Alive}) when Flush < H + 2 ->
    %% A handler that was suspended while it built a view may have stored them again.
    _ = [dichroic_tables:unview(St, Key) || Key <- Raw],
    {[S | Still], Out, Alive};
expire(St, _, S, {Still, Out, Alive}) ->
    Key = series_key(S),
    case S#series.id =:= none andalso is_map_key(Key, Alive) of
        true -> {[S | Still], Out, Alive};
        false -> {Still, expired(St, S, Out), Alive#{Key => true}}
    end.

expired(St, #series{entry = #entry{slot = Slot}} = S, Out) ->
    Admitted = admitted(S),
    atomics:sub(St#static.acct, ?ACCT_SERIES, Admitted),
    atomics:sub(St#static.acct, dichroic_tables:acct(Slot, ?ENTRY_SERIES), Admitted),
    case unsent(St, S) of
        same -> free(S, Out);
        {_, Value} ->
            {S1, Out1} = send(Value, S, Out),
            free(S1, Out1)
    end.

free(#series{id = none}, Out) -> Out;
free(#series{id = Id}, #{freed := Freed} = Out) -> Out#{freed := [Id | Freed]}.

%%% Rows

send(Value, #series{id = none} = S, #{ids := Ids, defines := Defines} = Out) ->
    case take_id(Ids) of
        none -> {S, maps:update_with(unreported, fun(N) -> N + 1 end, Out)};
        {Id, Ids1} -> send(Value, S#series{id = Id}, Out#{ids := Ids1, defines := [{Id, define(S)} | Defines]})
    end;
send({number, I, F}, #series{id = Id} = S, #{numbers := Rows} = Out) -> {S, Out#{numbers := [{Id, I, F} | Rows]}};
send({histogram, I, F, Buckets}, #series{id = Id} = S, #{histograms := Rows} = Out) ->
    {S, Out#{histograms := [{Id, I, F, Buckets} | Rows]}}.

take_id({Next, [Id | Freed], Limit}) -> {Id, {Next, Freed, Limit}};
take_id({Next, [], Limit}) when Next < Limit -> {Next, {Next + 1, [], Limit}};
take_id(_) -> none.

define(#series{entry = #entry{key = Key, late = Late} = Entry, labels = overflow, start = Start}) ->
    app_metric(Entry, #{<<"key">> => Key, <<"labels">> => [null || _ <- Late], <<"start">> => Start, <<"overflow">> => true});
define(#series{entry = #entry{key = Key} = Entry, labels = Labels, start = Start}) ->
    app_metric(Entry, #{<<"key">> => Key, <<"labels">> => Labels, <<"start">> => Start}).

app_metric(#entry{own = none}, Define) -> Define;
app_metric(#entry{own = Own}, Define) -> Define#{<<"own">> => Own}.

%%% Reading cells

read(St, #series{entry = #entry{type = last}, raw = Raw, stamp = Stamp}) ->
    Held = [{At, V} || Key <- Raw, {_, V, At} <- ets:lookup(St#static.lasts, Key)],
    case Held =/= [] andalso lists:max(Held) of
        false -> same;
        Stamp -> same;
        {_, V} = New when is_integer(V) -> {New, {number, V, 0.0}};
        {_, V} = New -> {New, {number, 0, V}}
    end;
read(_, #series{entry = #entry{type = counter}, cells = Cells, stamp = Stamp}) ->
    case sum(1, Cells) of
        Stamp -> same;
        I -> {I, {number, I, 0.0}}
    end;
read(_, #series{entry = #entry{type = sum}, cells = Cells, stamp = Stamp}) ->
    case total(?CELL_SUM_INT, Cells) of
        Stamp -> same;
        {I, F} = New -> {New, {number, I, F}}
    end;
read(_, #series{entry = Entry, cells = Cells, stamp = Stamp}) ->
    Pos = [C || {pos, _} = C <- Cells],
    case sum(?CELL_COUNT, Pos) of
        Stamp -> same;
        Count ->
            {I, F} = total(?CELL_INT, Pos),
            {Count, {histogram, I, F, buckets(Entry, Pos, Cells -- Pos)}}
    end.

%% Both parts of a sum over all shards, the integer part within 64 bits.
total(Ix, Cells) ->
    case {sum(Ix, Cells), floats(Ix + 1, Cells)} of
        {I, _} = Total when I < ?CARRY, I > -?CARRY -> Total;
        {I, F} -> {I rem ?CARRY, F + float(I - I rem ?CARRY)}
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

%%% Cells created since the last flush

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
            SeriesKey = series_key(Entry, Norm),
            S = case Series of
                    #{SeriesKey := #series{raw = Raws} = Known} ->
                        _ = lists:member(Raw, Raws) orelse start(St, Raw),
                        Known;
                    _ -> #series{entry = Entry, labels = Norm, start = start(St, Raw), changed = T#totals.clock}
                end,
            T#totals{series = Series#{SeriesKey => join(Raw, Ref, S)}};
        _ ->
            ok = dichroic_tables:remove(St, Raw),
            T
    end.

%% Label sets with the same text (1, "1", 1.0 and '1') are one series for the collector. Handlers count each in separate cells, which
%% are added up here. The definition has the labels that were seen first.
series_key(#series{entry = Entry, labels = Labels}) -> series_key(Entry, Labels).

series_key(#entry{key = Key}, overflow) -> {Key, overflow};
series_key(#entry{key = Key}, Norm) ->
    case [dichroic_value:representative(L) || L <- Norm] of
        %% The usual case shares the list in memory.
        Norm -> {Key, Norm};
        Other -> {Key, Other}
    end.

%% A cell belongs to the series that exists when the engine reads its announcement. A label set that is no longer in the table was
%% hidden meanwhile, and starts a new series.
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

%% A second announcement has no effect.
join(Raw, What, #series{raw = Raws, cells = Cells} = S) -> S#series{raw = with(Raw, Raws), cells = cells(What, Cells)}.

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

%% Strings are already cut in the key, but atoms may have long names, and replaced bytes make a text longer.
short(Name) -> dichroic_value:cut(Name, ?MAX_LABEL_BYTES).
