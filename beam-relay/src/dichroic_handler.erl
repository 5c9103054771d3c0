%% @doc The handler that telemetry calls, in the process that emits the event.
%%
%% handle/4 reads one persistent term, finds the program of its event in it, adds to the counters of the current scheduler and
%% returns. It sends a message only for a subscribed stream, and only while there is credit. It never raises, blocks, logs or allocates without a limit: label sets are admitted against caps, unusable
%% measurements are counted as skipped, and unexpected exceptions are caught and counted as handler failures.
-module(dichroic_handler).

-include("dichroic.hrl").

-export([handle/4, failed/0]).

-define(MAX_SMALL, 16#7ffffffffffffff).
-define(MIN_I64, -16#8000000000000000).
-define(MAX_I64, 16#7fffffffffffffff).
-define(MAX_FLOAT, 1.0e280).
-define(VIEW_TRIES, 8).

%% @doc One handler serves many events: its program is found by the name of the event, and the configuration is not used. An event
%% without a program is not in the plan any more.
-spec handle(term(), term(), term(), term()) -> ok.
handle(Event, Measurements, Metadata, _Config) ->
    try
        case persistent_term:get(?STATIC) of
            #static{programs = #{Event := Program}} = St -> run(Program, Measurements, Metadata, St);
            _ -> ok
        end
    catch
        _:_ -> failed()
    end.

%% @doc Counts an unexpected exception that was caught.
-spec failed() -> ok.
failed() ->
    try atomics:add((persistent_term:get(?STATIC))#static.acct, ?ACCT_FAILURES, 1)
    catch _:_ -> ok
    end.

%% Aggregates and streams of an event read carried values before the event writes its own.
run(#program{groups = Groups, streams = Streams, carries = Carries, string_cap = Cap, label_cap = LabelCap}, Meas, Meta, St) ->
    Shard = shard(erlang:system_info(scheduler_id), St#static.shards),
    groups(Groups, Meas, Meta, LabelCap, St, element(Shard, St#static.tables)),
    streams(Streams, Meas, Meta, Cap, St, Shard),
    carries(Carries, Meas, Meta, Cap).

%% Usually there is a shard per scheduler, and a comparison is cheaper than a division.
shard(Id, Shards) when Id =< Shards -> Id;
shard(Id, Shards) -> (Id - 1) rem Shards + 1.

%%% Aggregates

groups([], _, _, _, _, _) -> ok;
groups([#group{keep = Keep, labels = Labels, tag = Tag, entries = Entries} = Group | Groups], Meas, Meta, Cap, St, Table) ->
    case Keep =:= [] orelse dichroic_expression:holds(Keep, Meas, Meta) of
        true when Tag =:= 0 -> entries(Entries, labels(Labels, Meas, Meta, Cap), Meas, Meta, St, Table);
        true -> grouped(Group, labels(Labels, Meas, Meta, Cap), Meas, Meta, St, Table);
        false -> ok
    end,
    groups(Groups, Meas, Meta, Cap, St, Table).

labels([], _, _, _) -> {};
labels([A], Meas, Meta, Cap) -> {label(A, Meas, Meta, Cap)};
labels([A, B], Meas, Meta, Cap) -> {label(A, Meas, Meta, Cap), label(B, Meas, Meta, Cap)};
labels([A, B, C], Meas, Meta, Cap) ->
    {label(A, Meas, Meta, Cap), label(B, Meas, Meta, Cap), label(C, Meas, Meta, Cap)};
labels([A, B, C, D], Meas, Meta, Cap) ->
    {label(A, Meas, Meta, Cap), label(B, Meas, Meta, Cap), label(C, Meas, Meta, Cap), label(D, Meas, Meta, Cap)};
labels({tagged, F, Tags}, Meas, Meta, Cap) ->
    Values = try F(Meta) catch _:_ -> #{} end,
    labels([{meta, A, B} || {A, B} <- Tags], Meas, Values, Cap);
labels(L, Meas, Meta, Cap) -> list_to_tuple([label(E, Meas, Meta, Cap) || E <- L]).

label(E, Meas, Meta, Cap) -> dichroic_expression:label(dichroic_expression:eval(E, Meas, Meta), Cap).

entries([], _, _, _, _, _) -> ok;
entries([#entry{type = counter} = E | Es], Labels, Meas, Meta, St, Table) ->
    atomics:add(cells({E#entry.slot, Labels}, E, St, Table), 1, 1),
    entries(Es, Labels, Meas, Meta, St, Table);
entries([#entry{type = last} = E | Es], Labels, Meas, Meta, St, Table) ->
    case value(E, Meas, Meta, St) of
        skip -> ok;
        V -> last(E, V, {E#entry.slot, Labels}, St)
    end,
    entries(Es, Labels, Meas, Meta, St, Table);
entries([E | Es], Labels, Meas, Meta, St, Table) ->
    case value(E, Meas, Meta, St) of
        skip -> ok;
        V -> record(E, V, cells({E#entry.slot, Labels}, E, St, Table), Labels, St, Table)
    end,
    entries(Es, Labels, Meas, Meta, St, Table).

value(#entry{slot = Slot, value = Value}, Meas, Meta, St) ->
    case usable(dichroic_expression:eval(Value, Meas, Meta)) of
        absent -> skip;
        {skip, Why} ->
            atomics:add(St#static.acct, dichroic_tables:acct(Slot, Why), 1),
            skip;
        V -> V
    end.

%% Finding cells is half the cost of an event, so a group of several entries finds all of them in one row.
grouped(#group{tag = Tag, entries = [#entry{slot = Leader} | _] = Entries} = Group, Labels, Meas, Meta, St, Table) ->
    case find_view({Leader, Labels}, Table) of
        View when element(1, View) =:= Tag -> by_view(Entries, 3, View, Group, Labels, Meas, Meta, St, Table);
        _ ->
            entries(Entries, Labels, Meas, Meta, St, Table),
            dichroic_tables:view(Table, Group, Labels, 0)
    end.

find_view(Key, Table) ->
    try ets:lookup_element(Table, Key, 2)
    catch error:badarg -> none
    end.

by_view([#entry{type = counter} = E | Es], Ix, View, Group, Labels, Meas, Meta, St, Table) ->
    atomics:add(view_cells(E, Ix, View, Group, Labels, St, Table), 1, 1),
    by_view(Es, Ix + 1, View, Group, Labels, Meas, Meta, St, Table);
by_view([#entry{type = Type} = E | Es], Ix, View, Group, Labels, Meas, Meta, St, Table) when Type =/= last ->
    case value(E, Meas, Meta, St) of
        skip -> ok;
        V -> record(E, V, view_cells(E, Ix, View, Group, Labels, St, Table), Labels, St, Table)
    end,
    by_view(Es, Ix + 1, View, Group, Labels, Meas, Meta, St, Table);
by_view(Lasts, _, _, _, Labels, Meas, Meta, St, Table) -> entries(Lasts, Labels, Meas, Meta, St, Table).

%% Adds an entry to the view if its first value comes later than those of the others, unless a cap refused it.
view_cells(E, Ix, View, Group, Labels, St, Table) ->
    case element(Ix, View) of
        none ->
            Ref = cells({E#entry.slot, Labels}, E, St, Table),
            element(2, View) < ?VIEW_TRIES andalso dichroic_tables:view(Table, Group, Labels, element(2, View) + 1),
            Ref;
        Ref -> Ref
    end.

%% A larger float would not leave room for a sum of floats; a larger integer is not an integer on the wire.
usable(V) when is_integer(V), V =< ?MAX_SMALL, V >= -?MAX_SMALL -> V;
usable(V) when is_float(V), V < ?MAX_FLOAT, V > -?MAX_FLOAT -> V;
usable(V) when is_integer(V), V >= ?MIN_I64, V =< ?MAX_I64 -> V;
usable(V) when is_number(V) -> {skip, ?SKIP_RANGE};
%% An absent measurement is not a loss: a query that did not wait for a connection has no queue time.
usable(nil) -> absent;
usable(undefined) -> absent;
usable(_) -> {skip, ?SKIP_NOT_NUMERIC}.

cells(Key, E, St, Table) ->
    try ets:lookup_element(Table, Key, 3)
    catch error:badarg -> dichroic_tables:cell(St, Table, Key, E)
    end.

record(#entry{type = exponential, factor = Factor, grid = Grid} = E, V, Ref, Labels, St, Table) ->
    case V * Factor of
        F when F > 0.0 -> atomics:add(Ref, ?CELL_BUCKETS + dichroic_bucket:index(F, Grid) - element(2, Grid), 1);
        F when F < 0.0 -> negative(E, -F, Labels, St, Table);
        _ -> atomics:add(Ref, ?CELL_ZERO, 1)
    end,
    observed(Ref, V);
record(#entry{type = buckets, grid = Bounds}, V, Ref, _, _, _) ->
    atomics:add(Ref, ?CELL_ZERO + dichroic_bucket:bound(V, Bounds), 1),
    observed(Ref, V);
record(#entry{type = sum}, V, Ref, _, _, _) -> add(Ref, ?CELL_SUM_INT, V).

last(E, V, Key, St) ->
    case ets:update_element(St#static.lasts, Key, [{2, V}, {3, erlang:monotonic_time()}]) of
        true -> ok;
        false -> dichroic_tables:last(St, Key, E, V)
    end.

%% The count is written last: a reader of the count also sees the bucket and the sum of every observation in it.
observed(Ref, V) ->
    add(Ref, ?CELL_INT, V),
    atomics:add(Ref, ?CELL_COUNT, 1).

%% Negative values are rare, so only label sets that have one need a second table row.
negative(#entry{slot = Slot, grid = {_, Least, _, _} = Grid, size = Size} = E, F, Labels, St, Table) ->
    Ref = cells({Slot, Labels, neg}, E, St, Table),
    Greatest = min(Size - ?CELL_ZERO, 1023 - (Size - ?CELL_ZERO)) - 1,
    atomics:add(Ref, ?CELL_BUCKETS + min(dichroic_bucket:index(F, Grid) - Least, Greatest), 1).

add(Ref, Cell, V) when is_integer(V), V =< ?MAX_SMALL, V >= -?MAX_SMALL ->
    case atomics:add_get(Ref, Cell, V) of
        Sum when Sum =< ?MAX_SMALL, Sum >= -?MAX_SMALL -> ok;
        Sum when Sum > 0 -> carry(Ref, Cell, ?CARRY);
        _ -> carry(Ref, Cell, -?CARRY)
    end;
add(Ref, Cell, V) -> add_float(Ref, Cell + 1, float(V), atomics:get(Ref, Cell + 1)).

%% A reader in between sees a total that is too low, which the collector ignores; one that is too high would remain.
carry(Ref, Cell, V) when V > 0 ->
    atomics:sub(Ref, Cell, V),
    add_float(Ref, Cell + 1, float(V), atomics:get(Ref, Cell + 1));
carry(Ref, Cell, V) ->
    add_float(Ref, Cell + 1, float(V), atomics:get(Ref, Cell + 1)),
    atomics:sub(Ref, Cell, V).

add_float(Ref, Cell, V, Bits) ->
    <<Held/float>> = <<Bits:64>>,
    <<New:64/signed>> = <<(Held + V)/float>>,
    case atomics:compare_exchange(Ref, Cell, Bits, New) of
        ok -> ok;
        Other -> add_float(Ref, Cell, V, Other)
    end.

%%% Raw streams

streams([], _, _, _, _, _) -> ok;
streams([#stream{content = Content} = S | Ss], Meas, Meta, Cap, St, Shard) ->
    case atomics:get(St#static.subs, Content) of
        0 -> ok;
        Account -> stream(S, Account, Meas, Meta, Cap, St, Shard)
    end,
    streams(Ss, Meas, Meta, Cap, St, Shard).

stream(#stream{keep = Keep, sample = Sample, columns = {log, _, _}} = S, Account, Meas, Meta, _, #static{rows = Rows} = St, _) ->
    case dichroic_expression:holds(Keep, Meas, Meta) andalso sampled(Sample, Rows, (Account - 1) * ?ROWS_PER_STREAM) of
        true -> dichroic_logger:row(S, Account, Meas, Meta, St);
        false -> ok
    end;
stream(#stream{keep = Keep, sample = Sample, columns = Columns}, Account, Meas, Meta, Cap, St, Shard) ->
    Rows = St#static.rows,
    Base = (Account - 1) * ?ROWS_PER_STREAM,
    case dichroic_expression:holds(Keep, Meas, Meta) andalso sampled(Sample, Rows, Base) of
        false -> ok;
        true ->
            Now = erlang:system_time(nanosecond),
            Credit = St#static.credit,
            Lane = dichroic_limiter:lane(Shard, St#static.shards),
            case dichroic_limiter:admit(Credit, ?EVENT_POOL, Lane, Now div 1000000000) of
                true ->
                    Row = {row, Account, Now, [cell(C, Meas, Meta, Cap, Rows, Base) || C <- Columns]},
                    dichroic_limiter:send(element(Shard, St#static.relays), Row, Credit, ?EVENT_POOL, Lane)
                        orelse atomics:add(Rows, Base + ?DROP_OVERLOAD, 1);
                Reason -> atomics:add(Rows, Base + Reason, 1)
            end
    end.

cell({number, E}, Meas, Meta, _, Rows, Base) ->
    case number(dichroic_expression:eval(E, Meas, Meta)) of
        {skip, Why} ->
            atomics:add(Rows, Base + Why, 1),
            nil;
        V -> V
    end;
cell(E, Meas, Meta, Cap, _, _) -> dichroic_expression:column(dichroic_expression:eval(E, Meas, Meta), Cap).

%% Subscribers receive measurements as numbers only.
number(V) when is_integer(V), V >= ?MIN_I64, V =< ?MAX_I64 -> V;
number(V) when is_float(V) -> V;
number(V) when is_integer(V) ->
    try float(V)
    catch error:badarg -> {skip, ?ROWS_RANGE}
    end;
number(nil) -> nil;
number(undefined) -> nil;
number(_) -> {skip, ?ROWS_NOT_NUMERIC}.

%% A hash of a running number needs no state in the caller and does not follow the rhythm of events.
sampled(1.0, _, _) -> true;
sampled(Sample, Rows, Base) ->
    erlang:phash2(atomics:add_get(Rows, Base + ?ROWS_SAMPLED, 1), 16#8000000) < Sample * 16#8000000.

%%% Carry

carries([], _, _, _) -> ok;
carries([{Key, clear} | Cs], Meas, Meta, Cap) ->
    _ = erase(Key),
    carries(Cs, Meas, Meta, Cap);
carries([{Key, Expr} | Cs], Meas, Meta, Cap) ->
    _ = case dichroic_expression:column(dichroic_expression:eval(Expr, Meas, Meta), Cap) of
            nil -> erase(Key);
            undefined -> erase(Key);
            V -> put(Key, V)
        end,
    carries(Cs, Meas, Meta, Cap).
