%% @doc An application with random terms in its events: counts equal a model, no process is disturbed, memory is flat.
-module(hostile_SUITE).

-compile([export_all, nowarn_export_all]).

-import(support, [counter/3, sum/4, plan/2, meas/1, meta/1, stream/3]).
-import(test_node, [with/2, call/4, counted/4]).

-define(E, [shop, order]).

all() -> [{group, hostile}].

groups() -> [{hostile, [parallel], [any_measurement_is_counted_or_skipped, any_metadata_is_a_label_or_null,
                                    a_failed_vm_reading_affects_only_itself]}].

any_measurement_is_counted_or_skipped(_) ->
    Seed = support:seed(),
    Plan = plan([counter(100, ?E, []), sum(101, ?E, meas(<<"v">>), [])],
                #{<<"streams">> => [(stream(7, ?E, [meas(<<"v">>), meta(<<"k">>)]))#{<<"numbers">> => 1}],
                  <<"limits">> => #{<<"credit">> => 1000000, <<"rows_per_s">> => 1000000}}),
    with(#{plan => Plan}, fun(#{peer := Peer, collector := C}) ->
        #{events := Events, integers := Integers, not_numeric := No, out_of_range := Range, row_range := RowRange} =
            call(Peer, hostile, measurements, [Seed, ?E, 10000]),
        counted(C, 100, [], {Events, 0.0}),
        %% Multiples of 2^59 move to the float part.
        fake_collector:wait(C, fun(S) ->
            {I, _} = fake_collector:total(S, 101, []),
            (I - Integers) rem (1 bsl 59) =:= 0
        end),
        counted(C, 3, [101, <<"not_numeric">>], {No, 0.0}),
        counted(C, 3, [101, <<"out_of_range">>], {Range, 0.0}),
        counted(C, 7, [7, <<"not_numeric">>], {No, 0.0}),
        counted(C, 7, [7, <<"out_of_range">>], {RowRange, 0.0}),
        Rows = fake_collector:wait(C, fun(S) ->
            Rows = lists:append([R || {7, R} <- maps:get(events, S)]),
            length(Rows) =:= Events andalso Rows
        end),
        true = lists:all(fun([_, V, _]) -> is_number(V) orelse V =:= null end, Rows),
        none = fake_collector:total(fake_collector:state(C), 4, [])
    end).

any_metadata_is_a_label_or_null(_) ->
    Seed = support:seed(),
    Labels = [meta(<<"k">>), [<<"metadata">>, [<<"k">>], <<"name">>], meta([<<"conn">>, <<"status">>]), [<<"metadata">>, [<<"conn">>], <<"type">>]],
    Plan = plan([(counter(100 + I, ?E, [L]))#{<<"series">> => 500} || {I, L} <- lists:zip([0, 1, 2, 3], Labels)],
                #{<<"limits">> => #{<<"series">> => 4000}}),
    with(#{plan => Plan}, fun(#{peer := Peer, collector := C}) ->
        Events = call(Peer, hostile, metadata, [Seed, ?E, 3000]),
        Before = test_node:call(Peer, memory, []),
        More = call(Peer, hostile, metadata, [Seed, ?E, 3000]),
        true = test_node:call(Peer, memory, []) - Before < 3000000,
        [_ = fake_collector:wait(C, fun(#{rows := Rows}) ->
            Events + More =:= lists:sum([N || {{K, _, _}, {N, 0.0}} <- maps:to_list(Rows), K =:= Key])
        end) || Key <- [100, 101, 102, 103]],
        %% One exposition identity is one series.
        #{ids := Ids} = fake_collector:state(C),
        Identities = [{K, [dichroic_value:text(L) || L <- Ls]} || {K, Ls, _} <- maps:values(Ids), K >= 100, Ls =/= [null]],
        [] = Identities -- lists:usort(Identities),
        none = fake_collector:total(fake_collector:state(C), 4, [])
    end).

a_failed_vm_reading_affects_only_itself(_) ->
    Last = fun(Key, Event, Value) -> (sum(Key, Event, meas(Value), []))#{<<"type">> := <<"last">>} end,
    Plan = plan([counter(100, ?E, []), Last(101, [vm, memory], <<"total">>), Last(102, [dichroic, vm, uptime], <<"uptime">>)], #{}),
    %% Without this allocator erlang:memory/0 raises.
    with(#{plan => Plan, args => ["+MBe", "false"]}, fun(#{peer := Peer, collector := C}) ->
        _ = fake_collector:wait(C, fun(S) -> {_, 0.0} = fake_collector:total(S, 102, []) end),
        ok = test_node:call(Peer, emit, [?E, #{}, 1000]),
        counted(C, 100, [], {1000, 0.0}),
        #{connections := 1} = State = fake_collector:wait(C, fun(S) -> {N, 0.0} = fake_collector:total(S, 4, []), N >= 1 andalso S end),
        none = fake_collector:total(State, 101, [])
    end).
