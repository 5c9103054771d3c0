%% @doc Changing plans, expiring series, new connections.
-module(dichroic_engine_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [counter/3, sum/4, plan/1, plan/2, slow_plan/1, meas/1, meta/1, stream/3, engine/1, emit/4, flush/2, flush/4, total/3, account/3]).

-define(E, [a, b]).
-define(F, [a, c]).

defined(Frames, Key) -> [Id || {define, series, Ds} <- Frames, {Id, #{<<"key">> := K}} <- Ds, K =:= Key].
forgotten(Frames) -> [Id || {define, series, Ds} <- Frames, {Id, null} <- Ds].
rows(Frames) -> [R || {Type, _, Rows} <- Frames, Type =/= define, R <- Rows].

a_flush_holds_only_what_changed_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"k">>)])])),
    emit(E, ?E, #{}, #{k => 1}), emit(E, ?E, #{}, #{k => 2}),
    {F1, E1} = flush(1, E),
    ?assertEqual(2, length(rows(F1))),
    {F2, E2} = flush(2, E1),
    ?assertEqual([], F2),
    emit(E2, ?E, #{}, #{k => 2}),
    {F3, _} = flush(3, E2),
    ?assertMatch([{numbers, _, [{_, 2, 0.0}]}], F3).

a_new_connection_gets_all_series_and_totals_continue_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, []), sum(101, ?E, meas(<<"v">>), [])])),
    emit(E, ?E, #{v => 2}, #{}),
    {_, E1} = flush(1, E),
    emit(E, ?E, #{v => 2}, #{}),
    {F, _} = flush(2, dichroic_engine:reconnected(E1)),
    ?assertEqual({2, 0.0}, total(F, 100, [])),
    ?assertEqual({4, 0.0}, total(F, 101, [])),
    ?assertEqual([0, 1], lists:sort(defined(F, 100) ++ defined(F, 101))).

a_key_keeps_its_totals_over_plans_and_a_new_key_starts_at_zero_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, [])])),
    emit(E, ?E, #{}, #{}),
    {F1, E1} = flush(1, E),
    [Id] = defined(F1, 100),
    {ok, [], E2} = dichroic_engine:plan(plan([counter(100, ?E, []), counter(101, ?E, [])]), E1),
    emit(E2, ?E, #{}, #{}),
    {F2, E3} = flush(2, E2),
    ?assertEqual([], defined(F2, 100)),
    ?assert(lists:member({Id, 2, 0.0}, rows(F2))),
    ?assertEqual({1, 0.0}, total(F2, 101, [])),
    %% A removed entry: hidden, its last row read once more, then removed.
    {ok, [], E4} = dichroic_engine:plan(plan([counter(101, ?E, [])]), E3),
    Frames = settle(3, 8, E4),
    ?assertEqual([Id], forgotten(Frames)),
    ?assertEqual(1, dichroic_engine:live(E4) - 1).

settle(N, Last, _) when N > Last -> [];
settle(N, Last, E) ->
    {Frames, E1} = flush(N, E),
    Frames ++ settle(N + 1, Last, E1).

an_unchanged_plan_changes_no_program_test() ->
    Plan = plan([counter(100, ?E, [meta(<<"k">>)])]),
    {ok, [], E} = engine(Plan),
    Before = persistent_term:get(?STATIC),
    {ok, [], E1} = dichroic_engine:plan(Plan#{<<"generation">> := 2}, E),
    ?assert(erts_debug:same(Before, persistent_term:get(?STATIC))),
    ?assertEqual(2, dichroic_engine:generation(E1)).

subscribing_again_creates_no_new_program_test() ->
    Plan = fun(Streams) -> plan([counter(100, ?E, [])], #{<<"streams">> => Streams}) end,
    {ok, [], E0} = engine(Plan([stream(1, ?E, [meas(<<"v">>)])])),
    Before = persistent_term:get(?STATIC),
    E = lists:foldl(fun(Schema, Acc) ->
        {ok, [], Off} = dichroic_engine:plan(Plan([]), Acc),
        {ok, [], On} = dichroic_engine:plan(Plan([stream(Schema, ?E, [meas(<<"v">>)])]), Off),
        {_, Flushed} = flush(Schema, On),
        Flushed
    end, E0, lists:seq(2, 50)),
    ?assert(erts_debug:same(Before, persistent_term:get(?STATIC))),
    ?assertEqual([?E], dichroic_engine:events(E)).

%% Every write makes the VM visit all processes.
a_plan_is_one_write_of_one_persistent_term_test() ->
    {ok, [], E} = engine(plan([])),
    Before = length(persistent_term:get()),
    true = erlang:trace_pattern({persistent_term, '_', '_'}, true, [global]) > 0,
    Events = [[shop, binary_to_atom(<<"e", (integer_to_binary(I))/binary>>)] || I <- lists:seq(1, 300)],
    Plan = fun(Es) -> plan([counter(1000 + I, Event, []) || {I, Event} <- lists:zip(lists:seq(1, length(Es)), Es)]) end,
    Test = self(),
    Pid = spawn_link(fun() ->
        receive go -> ok end,
        {ok, [], E1} = dichroic_engine:plan(Plan(Events), E),
        {ok, [], _} = dichroic_engine:plan(Plan(lists:nthtail(100, Events)), E1),
        Test ! done
    end),
    _ = erlang:trace(Pid, true, [call, {tracer, self()}]),
    Pid ! go,
    receive done -> ok end,
    _ = erlang:trace_pattern({persistent_term, '_', '_'}, false, [global]),
    ?assertEqual(2, written(0)),
    ?assertEqual(Before, length(persistent_term:get())).

written(N) ->
    receive
        {trace, _, call, {persistent_term, F, _}} when F =:= put; F =:= erase -> written(N + 1);
        {trace, _, call, _} -> written(N)
    after 50 -> N
    end.

many_plans_keep_only_a_few_programs_test() ->
    {ok, [], E} = engine(plan([])),
    Before = length(persistent_term:get()),
    E1 = lists:foldl(fun(I, Acc) ->
        {ok, [], New} = dichroic_engine:plan(plan([counter(1000 + I, ?E, [meta(<<"k">>)])]), Acc),
        emit(New, ?E, #{}, #{k => I}),
        {_, Flushed} = flush(I, New),
        Flushed
    end, E, lists:seq(1, 500)),
    ?assert(dichroic_engine:live(E1) < 10),
    ?assertEqual(Before, length(persistent_term:get())).

an_event_removed_from_the_plan_is_not_counted_any_more_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, []), counter(101, ?F, [])])),
    {ok, [], E1} = dichroic_engine:plan(plan([counter(100, ?E, [])]), E),
    ?assertEqual([?E], dichroic_engine:events(E1)),
    ok = dichroic_handler:handle(?F, #{}, #{}, none),
    {F, _} = flush(1, E1),
    ?assertEqual(none, total(F, 101, [])).

%%% Ids

%% Every entry overflows: each has an overflow series and a row of the account with its count.
a_plan_whose_entries_all_overflow_counts_every_event_test() ->
    Events = [[ev, binary_to_atom(<<"e", (integer_to_binary(I))/binary>>)] || I <- lists:seq(1, 100)],
    Entries = [counter(1000 + I, Event, [meta(<<"k">>)]) || {I, Event} <- lists:zip(lists:seq(1, 100), Events)],
    {ok, [], E} = engine(plan(Entries, #{<<"limits">> => #{<<"series">> => 1000}})),
    [emit(E, Event, #{}, #{k => K}) || K <- lists:seq(1, 20), Event <- Events],
    {Frames, E1} = flush(1, E),
    Keys = maps:from_list([{Id, Key} || {define, series, Ds} <- Frames, {Id, #{<<"key">> := Key}} <- Ds]),
    ?assertEqual(2000, lists:sum([V || {Id, V, _} <- rows(Frames), maps:get(Id, Keys) >= 1000])),
    ?assertEqual([], [Id || Id <- maps:keys(Keys), Id >= 1000]),
    ?assertEqual([], dichroic_engine:unreported(E1)).

%% Later entries find all ids taken, but still have room for label sets.
a_series_without_an_id_is_reported_and_sent_when_one_is_free_test() ->
    Limit = #{<<"limits">> => #{<<"series">> => 8}, <<"flush_ms">> => 60000},
    {ok, [], E} = engine(plan([expiring()], Limit)),
    [emit(E, ?E, #{v => 1}, #{k => K}) || K <- lists:seq(1, 10)],
    {F1, E1} = flush(1, 0, 0, E),
    ?assertEqual({6, 0.0}, total(F1, 100, [null])),
    {ok, [], E2} = dichroic_engine:plan(plan([expiring(), counter(101, ?F, []), counter(102, ?F, [])], Limit), E1),
    emit(E2, ?F, #{}, #{}),
    {F2, E3} = flush(2, 1, 200, E2),
    ?assertEqual([none, none], [total(F2, K, []) || K <- [101, 102]]),
    ?assertMatch([[null, <<"2 series are not sent", _/binary>>]], dichroic_engine:unreported(E3)),
    {Later, E4} = lists:foldl(fun(N, {Fs, Acc}) -> {F, Next} = flush(N, N - 1, N * 100, Acc), {Fs ++ F, Next} end,
                              {[], E3}, lists:seq(3, 10)),
    ?assertEqual([{1, 0.0}, {1, 0.0}], [total(Later, K, []) || K <- [101, 102]]),
    ?assertEqual([], dichroic_engine:unreported(E4)).

%%% Reused slots

slots_are_cleared_together_and_other_slots_are_not_touched_test() ->
    Negative = (sum(0, ?E, meas(<<"v">>), [meta(<<"k">>)]))#{<<"type">> := <<"exponential">>, <<"scale">> => 0, <<"octaves">> => [-4, 4]},
    Types = [Negative#{<<"key">> := 100}, (expiring())#{<<"key">> := 101, <<"type">> := <<"last">>}, counter(102, ?E, [meta(<<"k">>)]),
             counter(103, ?E, [])],
    {ok, [], E} = engine(plan(Types)),
    emit(E, ?E, #{v => -1}, #{k => 1}),
    #static{acct = Acct, series = Series, lasts = Lasts, tables = Tables} = St = persistent_term:get(?STATIC),
    Rows = fun() -> lists:usort([element(1, element(1, R)) || T <- [Series, Lasts | tuple_to_list(Tables)], R <- ets:tab2list(T)]) end,
    ?assertEqual([1, 2, 3, 4], Rows()),
    ok = dichroic_tables:purge(St, [1, 2, 4]),
    ?assertEqual([3], Rows()),
    ?assertEqual([1, 0, 0, 1, 0], [atomics:get(Acct, Cell) || Cell <- [?ACCT_SERIES | [dichroic_tables:acct(S, ?ENTRY_SERIES) || S <- [1, 2, 3, 4]]]]).

a_reused_slot_starts_at_zero_test() ->
    Entries = fun(From) -> [counter(From + I, ?E, [meta(<<"k">>)]) || I <- lists:seq(1, 20)] end,
    {ok, [], E} = engine(plan(Entries(100))),
    Last = lists:foldl(fun(Round, Before) ->
        emit(Before, ?E, #{}, #{k => 1}),
        {_, E1} = flush(Round * 10, Before),
        {ok, [], E2} = dichroic_engine:plan(plan(Entries(100 * (Round + 1))), E1),
        emit(E2, ?E, #{}, #{k => 1}),
        {F, E3} = flush(Round * 10 + 1, E2),
        ?assertEqual([{1, 0.0}], lists:usort([total(F, 100 * (Round + 1) + I, [1]) || I <- lists:seq(1, 20)])),
        lists:foldl(fun(N, Acc) -> {_, Next} = flush(N, Acc), Next end, E3, lists:seq(Round * 10 + 2, Round * 10 + 9))
    end, E, lists:seq(1, 10)),
    ?assertEqual(20, dichroic_engine:live(Last)),
    #static{acct = Acct} = persistent_term:get(?STATIC),
    ?assertEqual(20, atomics:get(Acct, ?ACCT_SERIES)).

%%% Expiry

expiring() -> (sum(100, ?E, meas(<<"v">>), [meta(<<"k">>)]))#{<<"expire_s">> => 300}.

an_idle_series_expires_by_the_rule_and_returns_as_a_new_series_test() ->
    {ok, [], E0} = engine(slow_plan([expiring()])),
    emit(E0, ?E, #{v => 5}, #{k => 1}),
    {F1, E1} = flush(1, 0, 1000, E0),
    [Id] = defined(F1, 100),
    %% Acknowledged, but not idle for long enough.
    {[], E2} = flush(2, 1, 1200, E1),
    %% Idle for long enough, but its last total is not acknowledged.
    {[], E3} = flush(3, 0, 1400, E2),
    ?assertEqual(1, dichroic_engine:live(E3)),
    %% Hidden now; a handler that has already read the cell still counts.
    Ref = cell(E3, 1),
    {[], E4} = flush(4, 3, 1401, E3),
    ?assertEqual(none, cell(E4, 1)),
    atomics:add(Ref, 1, 7),
    {[], E5} = flush(5, 4, 1402, E4),
    %% Meanwhile it returns: a new series, which waits until this one is removed, because the collector accepts a
    %% series under one id at a time.
    emit(E5, ?E, #{v => 1}, #{k => 1}),
    {F6, E6} = flush(6, 5, 1403, E5),
    ?assertEqual([{Id, 12, 0.0}], rows(F6)),
    ?assertEqual([Id], forgotten(F6)),
    ?assertEqual(1, dichroic_engine:live(E6)),
    {F7, _} = flush(7, 6, 1404, E6),
    [Id2] = defined(F7, 100),
    ?assertEqual([{Id2, 1, 0.0}], rows(F7)),
    %% Start times differ, and the room is free again.
    [S1] = starts(F1), [S2] = starts(F7),
    ?assert(S2 > S1),
    #static{acct = Acct} = persistent_term:get(?STATIC),
    ?assertEqual(1, atomics:get(Acct, ?ACCT_SERIES)).

starts(Frames) -> [S || {define, series, Ds} <- Frames, {_, #{<<"key">> := 100, <<"start">> := S}} <- Ds].

cell(_, K) ->
    #static{tables = Tables} = persistent_term:get(?STATIC),
    case [Ref || T <- tuple_to_list(Tables), {{_, {L}}, _, Ref} <- ets:tab2list(T), L =:= K] of [Ref | _] -> Ref; [] -> none end.

an_active_series_never_expires_test() ->
    {ok, [], E0} = engine(slow_plan([expiring()])),
    lists:foldl(fun(N, E) ->
        emit(E, ?E, #{v => 1}, #{k => 1}),
        {Frames, E1} = flush(N, N - 1, N * 200, E),
        ?assertEqual([], forgotten(Frames)),
        E1
    end, E0, lists:seq(1, 20)).

a_gauge_without_writes_expires_test() ->
    Gauge = (expiring())#{<<"type">> := <<"last">>},
    {ok, [], E0} = engine(slow_plan([Gauge])),
    emit(E0, ?E, #{v => 5}, #{k => 1}),
    {_, E1} = flush(1, 0, 1000, E0),
    %% Writing the same value again counts as activity.
    emit(E0, ?E, #{v => 5}, #{k => 1}),
    {[_], E2} = flush(2, 1, 1200, E1),
    {[], E3} = flush(3, 2, 1400, E2),
    {[], E4} = flush(4, 3, 1499, E3),
    {[], E5} = flush(5, 4, 1500, E4),
    {[], E6} = flush(6, 5, 1501, E5),
    {F7, E7} = flush(7, 6, 1502, E6),
    ?assertEqual(1, length(forgotten(F7))),
    ?assertEqual(0, dichroic_engine:live(E7)).

%% After a long outage a collector must get the same series with all its counts.
counts_during_an_outage_longer_than_expiry_keep_the_series_test() ->
    {ok, [], E0} = engine(slow_plan([expiring(), (expiring())#{<<"key">> := 101, <<"type">> := <<"last">>}])),
    emit(E0, ?E, #{v => 1}, #{k => 1}),
    {_, E1} = flush(1, 0, 1000, E0),
    {[], E2} = flush(2, 1, 1200, E1),
    [emit(E2, ?E, #{v => 1}, #{k => 1}) || _ <- lists:seq(1, 60)],
    {F3, E3} = flush(3, 2, 1900, dichroic_engine:reconnected(E2)),
    ?assertEqual({61, 0.0}, total(F3, 100, [1])),
    {F4, E4} = flush(4, 3, 2100, E3),
    ?assertEqual([], F4),
    emit(E4, ?E, #{v => 1}, #{k => 1}),
    {F5, _} = flush(5, 4, 2300, E4),
    ?assertMatch([{_, 62, 0.0}], [R || {_, 62, _} = R <- rows(F5)]).

time_without_a_connection_is_not_idle_time_test() ->
    {ok, [], E0} = engine(slow_plan([expiring()])),
    emit(E0, ?E, #{v => 1}, #{k => 1}),
    {_, E1} = flush(1, 0, 1000, E0),
    {[], E2} = flush(2, 1, 1200, E1),
    {F3, E3} = flush(3, 2, 9000, dichroic_engine:reconnected(E2)),
    ?assertEqual({1, 0.0}, total(F3, 100, [1])),
    %% 200 s in the first connection and 100 s in the second.
    {[], E4} = flush(4, 3, 9099, E3),
    ?assertNotEqual(none, cell(E4, 1)),
    {[], _} = flush(5, 4, 9100, E4),
    ?assertEqual(none, cell(E4, 1)).

a_suspended_vm_expires_nothing_test() ->
    {ok, [], E0} = engine(plan([expiring()])),
    emit(E0, ?E, #{v => 1}, #{k => 1}),
    {_, E1} = flush(1, 0, 1000, E0),
    E2 = lists:foldl(fun(N, E) -> {[], Next} = flush(N, N - 1, N * 5000, E), Next end, E1, lists:seq(2, 29)),
    ?assertNotEqual(none, cell(E2, 1)).

expiry_makes_room_under_the_cap_test() ->
    {ok, [], E0} = engine(slow_plan([(expiring())#{<<"series">> => 10}])),
    [emit(E0, ?E, #{v => 1}, #{k => K}) || K <- lists:seq(1, 10)],
    {_, E1} = flush(1, 0, 0, E0),
    E2 = lists:foldl(fun(N, E) -> {_, Next} = flush(N, N - 1, N * 100, E), Next end, E1, lists:seq(2, 6)),
    [emit(E2, ?E, #{v => 1}, #{k => K}) || K <- lists:seq(11, 20)],
    {F, _} = flush(7, 6, 601, E2),
    ?assertEqual(0, account(F, 6, [100])),
    ?assertEqual(10, length(defined(F, 100))).

label_churn_keeps_totals_exact_and_memory_flat_test_() ->
    {timeout, 120, fun() ->
        {ok, [], E0} = engine(slow_plan([(expiring())#{<<"series">> => 200}])),
        Loop = fun Loop(N, E, Held, _) when N > 300 -> {E, Held};
                   Loop(N, E, Held, Ids) ->
                       [emit(E, ?E, #{v => 1}, #{k => (N div 3) * 100 + K}) || K <- lists:seq(50, 69)],
                       [emit(E, ?E, #{v => 1}, #{k => N * 100 + K}) || K <- lists:seq(1, 20)],
                       {Frames, E1} = flush(N, N - 1, N * 100, E),
                       Ids1 = lists:foldl(fun({Id, null}, M) -> maps:remove(Id, M);
                                             ({Id, D}, M) -> M#{Id => maps:with([<<"labels">>, <<"start">>], D)} end, Ids,
                                          lists:append([Ds || {define, series, Ds} <- Frames, [x || {_, null} <- Ds] =:= []])),
                       Held1 = lists:foldl(fun({Id, V, _}, M) -> M#{maps:get(Id, Ids1) => V} end, Held, rows(Frames)),
                       Ids2 = maps:without(forgotten(Frames), Ids1),
                       Loop(N + 1, E1, Held1, Ids2)
               end,
        {E, Held} = Loop(1, E0, #{}, #{}),
        ?assertEqual(300 * 40, lists:sum(maps:values(Held))),
        ?assert(dichroic_engine:live(E) =< 200)
    end}.

%% The collector accepts a series under one id at a time and would reject a second definition.
a_series_that_returns_while_it_expires_is_defined_after_its_removal_test() ->
    Expiring = (counter(100, ?E, [meta(<<"k">>)]))#{<<"expire_s">> => 300},
    {ok, [], E} = engine(slow_plan([Expiring])),
    emit(E, ?E, #{}, #{k => 1}),
    {_, E0} = flush(1, 0, 0, E),
    {[], E1} = flush(2, 1, 200, E0),
    {[], E2} = flush(3, 2, 301, E1),
    emit(E2, ?E, #{}, #{k => <<"1">>}),
    {[], E3} = flush(4, 3, 302, E2),
    {[{define, series, [{0, null}]}], E4} = flush(5, 4, 303, E3),
    {F5, _} = flush(6, 5, 304, E4),
    ?assertEqual({1, 0.0}, total(F5, 100, [<<"1">>])).
