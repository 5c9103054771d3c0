%% @doc The handler under load, with hostile events, and at its caps.
-module(dichroic_handler_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [counter/3, sum/4, plan/1, slow_plan/1, plan/2, meas/1, meta/1, stream/3, engine/1, emit/4, flush/2, flush/4, total/3, account/3]).

-define(E, [a, b]).
-define(V, meas(<<"v">>)).

typed(Type, More) -> maps:merge((sum(100, ?E, ?V, []))#{<<"type">> := Type}, More).
exponential() -> typed(<<"exponential">>, #{<<"scale">> => 3, <<"octaves">> => [-20, 12], <<"factor">> => 1.0e-9}).

values(Plan, Measurements) ->
    {ok, [], E} = engine(Plan),
    [emit(E, ?E, #{v => V}, #{}) || V <- Measurements],
    {Frames, _} = flush(1, E),
    Frames.

every_type_holds_its_values_test_() ->
    Sum = fun(Vs, Expected) -> ?assertEqual(Expected, total(values(plan([sum(100, ?E, ?V, [])]), Vs), 100, [])) end,
    [{"a counter counts events, whatever their measurements", fun() ->
        ?assertEqual({3, 0.0}, total(values(plan([counter(100, ?E, [])]), [1, none, self()]), 100, [])) end},
     {"a sum keeps integers and floats apart", fun() -> Sum([1, 2.5, -7, 1 bsl 58], {(1 bsl 58) - 6, 2.5}) end},
     {"a sum beyond its integer part goes on in its float part", fun() ->
         Small = (1 bsl 59) - 1,
         Sum([(1 bsl 63) - 1, 2], {2, math:pow(2, 63)}),
         Sum([Small, 2], {1, math:pow(2, 59)}),
         Sum([Small, Small, Small, Small, 1], {Small - 2, 3 * math:pow(2, 59)}),
         Sum([-Small, -2], {-1, -math:pow(2, 59)}),
         Sum([-Small, -2, 7], {6, -math:pow(2, 59)}) end},
     {"a last value is the last integer or float", fun() ->
        Last = plan([typed(<<"last">>, #{})]),
        ?assertEqual({7, 0.0}, total(values(Last, [3.5, 7]), 100, [])),
        ?assertEqual({0, 3.5}, total(values(Last, [7, 3.5]), 100, [])) end},
     {"an exponential histogram equals the golden one", fun() ->
        Vs = lists:duplicate(3, 1100000) ++ lists:duplicate(9, 1250000) ++ [3600000],
        ?assertEqual({18150000, 0.0, [{-79, 1, 3}, {-78, 1, 9}, {-65, 1, 1}]}, total(values(plan([exponential()]), Vs), 100, [])) end},
     {"an exponential histogram has zeros and negatives", fun() ->
        Unit = (exponential())#{<<"factor">> := 1},
        ?assertEqual({-9, 1.0, [{0, 0, 2}, {4, 1, 1}, {7, 1, 1}, {-9, 2, 1}, {27, 2, 1}]},
                     total(values(plan([Unit]), [0, 0.0, 2, 1.5, -11, -0.5]), 100, [])) end},
     {"explicit buckets include their upper bound", fun() ->
        B = typed(<<"buckets">>, #{<<"bounds">> => [10, 20.5]}),
        ?assertEqual({61, 20.5, [{0, 1, 2}, {1, 1, 1}, {2, 1, 1}]}, total(values(plan([B]), [10, 0, 20.5, 51]), 100, [])) end}].

a_value_that_is_not_a_number_is_skipped_and_counted_by_reason_test() ->
    Frames = values(plan([exponential()]), [nil, undefined, <<"1">>, [1], 1 bsl 63, 1.0e300, -1.0e300, 5]),
    ?assertEqual([[100, <<"not_numeric">>], [100, <<"out_of_range">>]], skips(Frames)),
    ?assertEqual(2, account(Frames, 3, [100, <<"not_numeric">>])),
    ?assertEqual(3, account(Frames, 3, [100, <<"out_of_range">>])),
    ?assertMatch({5, _, [_]}, total(Frames, 100, [])).

skips(Frames) -> lists:sort([L || {define, series, Ds} <- Frames, {_, #{<<"key">> := 3, <<"labels">> := L}} <- Ds]).

an_event_without_the_measurement_is_not_a_skip_test() ->
    {ok, [], E} = engine(plan([exponential(), typed(<<"last">>, #{<<"key">> => 101}), sum(102, ?E, ?V, [])])),
    [emit(E, ?E, M, #{}) || M <- [#{}, #{v => nil}, #{v => undefined}, #{other => 1}, #{v => 1}]],
    {Frames, _} = flush(1, E),
    ?assertEqual([], skips(Frames)),
    ?assertEqual({1, 0.0}, total(Frames, 102, [])).

only_events_that_meet_the_conditions_are_counted_test() ->
    Keep = (counter(100, ?E, []))#{<<"keep">> => [[<<"has">>, meta(<<"x">>)], [<<"gt">>, ?V, 3]]},
    {ok, [], E} = engine(plan([Keep])),
    [emit(E, ?E, #{v => V}, M) || V <- [1, 4, 5], M <- [#{}, #{x => 1}]],
    {Frames, _} = flush(1, E),
    ?assertEqual({2, 0.0}, total(Frames, 100, [])).

a_label_set_is_one_series_in_all_spellings_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"r">>), [<<"metadata">>, [<<"m">>], <<"name">>]])])),
    [emit(E, ?E, #{}, M) || M <- [#{r => ok, m => 'Elixir.A.B'}, #{r => <<"ok">>, m => <<"A.B">>}, #{<<"r">> => ok, m => 'A.B'}]],
    {Frames, _} = flush(1, E),
    ?assertEqual({3, 0.0}, total(Frames, 100, [<<"ok">>, <<"A.B">>])),
    ?assertEqual(1, length([1 || {define, series, Ds} <- Frames, {_, #{<<"key">> := 100}} <- Ds])).

labels_with_the_same_text_are_one_series_of_the_first_type_test_() ->
    [{support:title(Same), fun() ->
        {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"r">>)]), sum(101, ?E, ?V, [meta(<<"r">>)]),
                                   (exponential())#{<<"key">> := 102, <<"labels">> := [meta(<<"r">>)]},
                                   typed(<<"last">>, #{<<"key">> => 103, <<"labels">> => [meta(<<"r">>)]})])),
        %% With and without a flush in between: later spellings join the series in both cases.
        E1 = lists:foldl(fun({N, R}, Acc) ->
            emit(Acc, ?E, #{v => N}, #{r => R}),
            case N > 1 of true -> Acc; false -> {_, Flushed} = flush(1, Acc), Flushed end
        end, E, lists:zip(lists:seq(1, length(Same)), Same)),
        {Frames, _} = flush(2, dichroic_engine:reconnected(E1)),
        N = length(Same),
        [First] = lists:usort([L || {define, series, Ds} <- Frames, {_, #{<<"labels">> := [L]}} <- Ds]),
        ?assertEqual({N, 0.0}, total(Frames, 100, [First])),
        ?assertEqual({N * (N + 1) div 2, 0.0}, total(Frames, 101, [First])),
        {_, _, Buckets} = total(Frames, 102, [First]),
        ?assertEqual(N, lists:sum([C || {_, _, C} <- Buckets])),
        ?assertEqual({N, 0.0}, total(Frames, 103, [First]))
    end} || Same <- [[1, <<"1">>, '1', 1.0], [<<"1">>, 1], [true, <<"true">>], [<<"false">>, false], [ok, <<"ok">>], [0.5, <<"0.5">>],
                     [<<>>, nil, undefined, self()], [-3, <<"-3">>], [1.0e21, <<"1000000000000000000000">>], [<<255>>, <<254>>, <<"\x{fffd}"/utf8>>]]].

labels_with_different_text_are_separate_series_test() ->
    Labels = [1, <<"01">>, <<"1.0">>, <<" 1">>, true, <<"True">>, -0.0, 0, <<"null">>, <<>>, <<"ok">>, <<"OK">>],
    {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"r">>)])])),
    [emit(E, ?E, #{}, #{r => R}) || R <- Labels],
    {Frames, _} = flush(1, E),
    [?assertEqual({R, {1, 0.0}}, {R, total(Frames, 100, [R])}) || R <- Labels].

spellings_of_a_series_count_against_its_cap_and_expire_together_test() ->
    Capped = (counter(100, ?E, [meta(<<"r">>)]))#{<<"series">> => 2, <<"expire_s">> => 300},
    {ok, [], E} = engine(slow_plan([Capped])),
    [emit(E, ?E, #{}, #{r => R}) || R <- [1, <<"1">>, '1']],
    {F1, E0} = flush(1, 0, 0, E),
    ?assertEqual(1, account(F1, 6, [100])),
    ?assertEqual(2, length([1 || {define, series, Ds} <- F1, {_, #{<<"key">> := 100}} <- Ds])),
    {_, E1} = flush(2, 1, 200, E0),
    {_, E2} = flush(3, 2, 301, E1),
    {_, E3} = flush(4, 3, 302, E2),
    {F4, E4} = flush(5, 4, 303, E3),
    ?assertEqual(2, length([Id || {define, series, Ds} <- F4, {Id, null} <- Ds])),
    ?assertEqual(0, dichroic_engine:live(E4)),
    ?assertEqual(0, atomics:get((persistent_term:get(?STATIC))#static.acct, ?ACCT_SERIES)),
    [emit(E4, ?E, #{}, #{r => R}) || R <- [<<"1">>, 1]],
    {F5, _} = flush(6, E4),
    ?assertEqual({2, 0.0}, total(F5, 100, [<<"1">>])).

a_term_that_is_not_a_label_is_null_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"r">>)])])),
    [emit(E, ?E, #{}, #{r => R}) || R <- [self(), nil, undefined, #{}, [4711], "text"]],
    {Frames, _} = flush(1, E),
    ?assertEqual({5, 0.0}, total(Frames, 100, [null])),
    ?assertEqual({1, 0.0}, total(Frames, 100, [<<"text">>])).

totals_are_exact_under_load_from_many_processes_test_() ->
    {timeout, 120, fun() ->
        {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, ?V, [meta(<<"k">>)]),
                                   sum(102, ?E, meas(<<"f">>), []), (exponential())#{<<"key">> := 103}])),
        Processes = 40,
        Each = 5000,
        %% Flushes meanwhile must not change the counts.
        Pids = [spawn_monitor(fun() ->
            [emit(E, ?E, #{v => (P * Each + N) * 1000, f => 0.25}, #{k => N rem 7}) || N <- lists:seq(1, Each)]
        end) || P <- lists:seq(1, Processes)],
        {Held, E1, N} = flush_until_done(Pids, 1, #{}, E),
        {Frames, _} = flush(N, E1),
        All = apply_frames(Frames, Held),
        Values = [(P * Each + I) * 1000 || P <- lists:seq(1, Processes), I <- lists:seq(1, Each)],
        ?assertEqual(0, account(Frames, 4, [])),
        ?assertEqual(Processes * Each, in_tables()),
        ?assertEqual(Processes * Each, lists:sum([I || {{100, _}, {I, 0.0}} <- maps:to_list(All)])),
        ?assertEqual(lists:sum(Values), lists:sum([I || {{101, _}, {I, 0.0}} <- maps:to_list(All)])),
        ?assertEqual({0, 0.25 * Processes * Each}, maps:get({102, []}, All)),
        {Sum, 0.0, Buckets} = maps:get({103, []}, All),
        ?assertEqual({lists:sum(Values), Processes * Each}, {Sum, lists:sum([C || {_, _, C} <- Buckets])})
    end}.

%% The cells of the first entry, read directly: distinguishes a lost count from a lost row.
in_tables() ->
    #static{tables = Tables} = persistent_term:get(?STATIC),
    lists:sum([atomics:get(Ref, 1) || T <- tuple_to_list(Tables), {{1, _}, _, Ref} <- ets:tab2list(T)]).

flush_until_done([], N, Held, E) -> {Held, E, N};
flush_until_done([{Pid, Ref} | Left] = Pids, N, Held, E) ->
    receive {'DOWN', Ref, process, Pid, Reason} ->
        ?assertEqual(normal, Reason),
        flush_until_done(Left, N, Held, E)
    after 1 ->
        {Frames, E1} = flush(N, E),
        flush_until_done(Pids, N + 1, apply_frames(Frames, Held), E1)
    end.

%% A minimal collector: ids, then rows that replace earlier ones and never decrease.
apply_frames(Frames, Held) -> lists:foldl(fun apply_frame/2, Held, Frames).

apply_frame({define, series, Ds}, Held) ->
    lists:foldl(fun({Id, #{<<"key">> := K, <<"labels">> := L}}, H) -> H#{{id, Id} => {K, L}}; ({Id, null}, H) -> maps:remove({id, Id}, H) end,
                Held, Ds);
apply_frame({_, _, Rows}, Held) ->
    lists:foldl(fun(Row, H) ->
        Series = maps:get({id, element(1, Row)}, H),
        Value = list_to_tuple(tl(tuple_to_list(Row))),
        ?assert(element(1, Value) >= element(1, maps:get(Series, H, {-1 bsl 63}))),
        H#{Series => Value}
    end, Held, Rows).

a_label_explosion_is_counted_in_one_overflow_series_test() ->
    Capped = (sum(100, ?E, ?V, [meta(<<"k">>)]))#{<<"series">> => 50},
    {ok, [], E} = engine(plan([Capped])),
    Before = erlang:memory(ets),
    [emit(E, ?E, #{v => 2}, #{k => integer_to_binary(N)}) || N <- lists:seq(1, 100000)],
    ?assert(erlang:memory(ets) - Before < 1000000),
    {Frames, _} = flush(1, E),
    [Overflow] = [D || {define, series, Ds} <- Frames, {_, #{<<"overflow">> := true} = D} <- Ds],
    ?assertMatch(#{<<"key">> := 100, <<"labels">> := [null]}, Overflow),
    ?assertEqual({2 * (100000 - 50), 0.0}, total(Frames, 100, [null])),
    ?assertEqual(51, length([1 || {define, series, Ds} <- Frames, {_, #{<<"key">> := 100}} <- Ds])),
    ?assertEqual(100000 - 50, account(Frames, 6, [100])).

beyond_the_cap_each_observation_is_counted_once_whatever_its_sign_test() ->
    Capped = (exponential())#{<<"labels">> => [meta(<<"k">>)], <<"series">> => 1},
    {ok, [], E} = engine(plan([Capped])),
    [emit(E, ?E, #{v => V}, #{k => K}) || K <- lists:seq(1, 11), V <- [-1, 0, 1]],
    {Frames, _} = flush(1, E),
    ?assertEqual(30, account(Frames, 6, [100])),
    {_, _, Buckets} = total(Frames, 100, [null]),
    ?assertEqual([10, 10, 10], [N || {_, _, N} <- Buckets]).

the_node_has_its_own_cap_test() ->
    {ok, [], E} = engine(plan([counter(100 + I, ?E, [meta(<<"k">>)]) || I <- lists:seq(1, 4)], #{<<"limits">> => #{<<"series">> => 80}})),
    [emit(E, ?E, #{}, #{k => N}) || N <- lists:seq(1, 1000)],
    {Frames, _} = flush(1, E),
    Ids = [Id || {define, series, Ds} <- Frames, {Id, _} <- Ds],
    ?assert(length(Ids) =< 80),
    ?assertEqual([], [Id || Id <- Ids, Id >= 80]),
    ?assertEqual(4000, lists:sum([V || {numbers, _, Rows} <- Frames, {Id, V, _} <- Rows, series_key(Id, Frames) > 100])).

series_key(Id, Frames) -> hd([K || {define, series, Ds} <- Frames, {I, #{<<"key">> := K}} <- Ds, I =:= Id]).

%%% Killed emitters

%% Killed at each step of admitting a new label set; on one scheduler, so that the step is known.
an_emitter_killed_while_a_series_is_admitted_loses_no_other_counts_test_() ->
    {timeout, 60, [{support:title(Type), fun() -> killed(Type) end} || Type <- [<<"counter">>, <<"sum">>, <<"exponential">>, <<"last">>]]}.

killed(Type) ->
    {Pid, Ref} = spawn_opt(fun() -> kill_each(Type) end, [monitor, {scheduler, 1}]),
    receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end.

kill_each(Type) ->
    {ok, [], E} = engine(slow_plan([(expiring(Type))#{<<"labels">> => [meta(<<"k">>)], <<"expire_s">> => 300}])),
    emit(E, ?E, #{v => 1}, #{k => warm}),
    Ks = lists:seq(1, 500),
    ?assertNotEqual([], [K || K <- Ks, killed_after(K, E)]),
    [emit(E, ?E, #{v => -1}, #{k => K}) || K <- Ks, _ <- lists:seq(1, 10)],
    {Frames, E1} = flush(1, 0, 0, E),
    ?assertEqual([], [{K, T} || K <- Ks, T <- [total(Frames, 100, [K])], not whole(Type, T)]),
    {_, E2} = flush(2, 1, 30, E1),
    {_, E3} = flush(3, 2, 61, E2),
    ?assertEqual({501, 501}, budget()),
    %% All of them expire.
    {_, E4} = lists:foldl(fun(N, {_, Acc}) -> flush(N, N - 1, N * 100, Acc) end, {[], E3}, lists:seq(4, 10)),
    ?assertEqual({{0, 0}, 0}, {budget(), dichroic_engine:live(E4)}).

expiring(<<"counter">>) -> counter(100, ?E, []);
expiring(<<"exponential">>) -> (exponential())#{<<"factor">> := 1};
expiring(Type) -> typed(Type, #{}).

killed_after(K, E) ->
    Victim = stopped_after(K, E),
    exit(Victim, kill),
    receive {Victim, done} -> false after 0 -> true end.

%% Emits with few reductions left, so that it is preempted at some step.
stopped_after(K, E) ->
    Self = self(),
    Pid = spawn_opt(fun() ->
        receive go -> ok end,
        erlang:yield(),
        erlang:bump_reductions(4000 - K),
        emit(E, ?E, #{v => -1}, #{k => K}),
        Self ! {self(), done}
    end, [{scheduler, 1}]),
    Pid ! go,
    erlang:yield(), erlang:yield(),
    Pid.

whole(_, none) -> false;
whole(<<"counter">>, {N, _}) -> N =:= 10 orelse N =:= 11;
whole(<<"sum">>, {N, _}) -> N =:= -10 orelse N =:= -11;
whole(<<"last">>, {N, _}) -> N =:= -1;
whole(_, {_, _, Buckets}) -> N = lists:sum([B || {_, _, B} <- Buckets]), N =:= 10 orelse N =:= 11.

budget() ->
    #static{acct = Acct} = persistent_term:get(?STATIC),
    {atomics:get(Acct, ?ACCT_SERIES), atomics:get(Acct, dichroic_tables:acct(1, ?ENTRY_SERIES))}.

%% A flush reads the announcement before the row exists; or a plan removes the entry and the next one adds it again.
a_series_read_or_hidden_while_it_is_admitted_is_counted_test_() ->
    Read = fun(_, N, E) -> flush(N, E) end,
    Hidden = fun(Plan, N, E) ->
        {ok, [], E1} = dichroic_engine:plan(slow_plan([]), E),
        {ok, [], E2} = dichroic_engine:plan(Plan, E1),
        flush(N, E2)
    end,
    {timeout, 60, [{Title, fun() -> beside(Between) end} || {Title, Between} <- [{"read", Read}, {"hidden", Hidden}]]}.

beside(Between) ->
    {Pid, Ref} = spawn_opt(fun() -> between_each(Between) end, [monitor, {scheduler, 1}]),
    receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end.

between_each(Between) ->
    Plan = slow_plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, ?V, [meta(<<"k">>)])]),
    {ok, [], E} = engine(Plan),
    emit(E, ?E, #{v => -1}, #{k => warm}),
    Ks = lists:seq(1, 500),
    {Frames, E1} = lists:foldl(fun(K, {Before, Acc}) ->
        Pid = stopped_after(K, Acc),
        _ = (catch erlang:suspend_process(Pid)),
        {F, Next} = Between(Plan, K, Acc),
        _ = (catch erlang:resume_process(Pid)),
        receive {Pid, done} -> ok end,
        emit(Next, ?E, #{v => -1}, #{k => K}),
        {Before ++ F, Next}
    end, {[], E}, Ks),
    {Last, _} = lists:foldl(fun(N, {Before, Acc}) -> {F, Next} = flush(N, Acc), {Before ++ F, Next} end, {[], E1}, lists:seq(501, 505)),
    Counted = incarnations(Frames ++ Last),
    ?assertEqual([], [{K, Held} || K <- Ks, Key <- [100, 101], Held <- [maps:get({Key, [K]}, Counted, 0)], abs(Held) =/= 2]).

%% The sum of the last rows of every series, over its removals and returns.
incarnations(Frames) ->
    {Ids, Done} = lists:foldl(fun incarnation/2, {#{}, #{}}, [{Type, X} || {Type, _, Xs} <- Frames, X <- Xs]),
    maps:fold(fun(_, {S, V}, Acc) -> more(S, V, Acc) end, Done, Ids).

incarnation({define, {Id, null}}, {Ids, Done}) ->
    {{S, V}, Left} = maps:take(Id, Ids),
    {Left, more(S, V, Done)};
incarnation({define, {Id, #{<<"key">> := Key, <<"labels">> := Labels}}}, {Ids, Done}) -> {Ids#{Id => {{Key, Labels}, 0}}, Done};
incarnation({numbers, {Id, V, _}}, {Ids, Done}) -> {maps:update_with(Id, fun({S, _}) -> {S, V} end, Ids), Done}.

more(S, V, Acc) -> maps:update_with(S, fun(W) -> V + W end, V, Acc).

label_sets_created_during_a_flush_are_all_counted_test_() ->
    {timeout, 60, fun() ->
        {ok, [], E} = engine(plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, ?V, [meta(<<"k">>)])])),
        Emit = fun() -> [emit(E, ?E, #{v => 1}, #{k => K}) || K <- lists:seq(1, 1000)] end,
        Refs = [Ref || {_, Ref} <- [spawn_monitor(Emit) || _ <- lists:seq(1, 4)]],
        {Frames, _} = flush(1000000, dichroic_engine:reconnected(flushing(1, Refs, E))),
        ?assertEqual([], [K || K <- lists:seq(1, 1000), Key <- [100, 101], total(Frames, Key, [K]) =/= {4, 0.0}]),
        #static{acct = Acct} = persistent_term:get(?STATIC),
        ?assertEqual(2000, atomics:get(Acct, ?ACCT_SERIES))
    end}.

flushing(_, [], E) -> E;
flushing(N, Refs, E) ->
    {_, E1} = dichroic_engine:flush(N, N - 1, 0, 262144, E),
    receive {'DOWN', Ref, _, _, normal} -> flushing(N + 1, Refs -- [Ref], E1)
    after 0 -> flushing(N + 1, Refs, E1)
    end.

%% As after an emitter was killed: room is taken without a series.
room_taken_by_a_killed_emitter_is_returned_test() ->
    {ok, [], E} = engine(plan([(counter(100, ?E, [meta(<<"k">>)]))#{<<"series">> => 3}])),
    #static{acct = Acct} = persistent_term:get(?STATIC),
    [atomics:add(Acct, Cell, 2) || Cell <- [?ACCT_SERIES, dichroic_tables:acct(1, ?ENTRY_SERIES)]],
    [emit(E, ?E, #{}, #{k => K}) || K <- [1, 2]],
    {F1, E1} = flush(1, 0, 0, E),
    ?assertEqual({1, 0.0}, total(F1, 100, [null])),
    {_, E2} = flush(2, 1, 59, E1),
    ?assertEqual({3, 3}, budget()),
    {_, E3} = flush(3, 2, 60, E2),
    ?assertEqual({1, 1}, budget()),
    [emit(E3, ?E, #{}, #{k => K}) || K <- [3, 4]],
    {F4, _} = flush(4, 3, 61, E3),
    ?assertEqual([{1, 0.0}, {1, 0.0}], [total(F4, 100, [K]) || K <- [3, 4]]).

%%% Carry

the_route_of_a_request_is_carried_to_its_stop_event_test() ->
    Slot = fun(V) -> #{<<"phoenix.route">> => V} end,
    Event = fun(E) -> support:names(E) end,
    Start = [phoenix, endpoint, start], Route = [phoenix, router_dispatch, start], Stop = [phoenix, endpoint, stop],
    {ok, [], E} = engine(plan(
        [counter(100, Stop, [meta([<<"conn">>, <<"status">>]), [<<"carry">>, [<<"phoenix.route">>], [<<"default">>, <<"none">>]]])],
        #{<<"carries">> => [#{<<"event">> => Event(Start), <<"slots">> => Slot(null)},
                            #{<<"event">> => Event(Route), <<"slots">> => Slot(meta(<<"route">>))}]})),
    ?assertEqual([Start, Stop, Route], dichroic_engine:events(E)),
    Request = fun(R, Status) ->
        emit(E, Start, #{}, #{}),
        R =:= none orelse emit(E, Route, #{}, #{route => R}),
        Status =:= crashed orelse emit(E, Stop, #{}, #{conn => #{status => Status}})
    end,
    %% One process serves several requests, as with keep-alive; another process has its own slots.
    Other = spawn_monitor(fun() -> Request(<<"/other">>, 200) end),
    Request(<<"/users/:id">>, 200), Request(<<"/leaks">>, crashed), Request(none, 404), Request(<<"/users/:id">>, 200),
    receive {'DOWN', _, process, P, normal} when P =:= element(1, Other) -> ok end,
    {Frames, _} = flush(1, E),
    ?assertEqual({2, 0.0}, total(Frames, 100, [200, <<"/users/:id">>])),
    ?assertEqual({1, 0.0}, total(Frames, 100, [404, <<"none">>])),
    ?assertEqual({1, 0.0}, total(Frames, 100, [200, <<"/other">>])).

an_event_reads_carried_values_before_it_writes_its_own_test() ->
    {ok, [], E} = engine(plan([counter(100, ?E, [[<<"carry">>, [<<"x">>]]])],
                              #{<<"carries">> => [#{<<"event">> => support:names(?E), <<"slots">> => #{<<"x">> => meta(<<"x">>)}}]})),
    [emit(E, ?E, #{}, #{x => X}) || X <- [1, 2, self(), 3]],
    {Frames, _} = flush(1, E),
    ?assertEqual([{1, 0.0}, {1, 0.0}, {2, 0.0}], [total(Frames, 100, [L]) || L <- [1, 2, null]]).

%%% Hostile events

cyclic_looking(0) -> #{};
cyclic_looking(N) -> #{'__struct__' => 'Elixir.Node', parent => cyclic_looking(N - 1), children => [cyclic_looking(0)]}.

hostile_events_never_raise_and_never_stop_other_events_test_() ->
    {timeout, 60, fun() ->
        Labels = [meta(<<"a">>), meta([<<"a">>, <<"b">>]), [<<"metadata">>, [<<"a">>, 0, <<"b">>], <<"length">>],
                  [<<"metadata">>, [<<"a">>], <<"name">>], [<<"metadata">>, [<<"a">>], <<"class">>],
                  [<<"metadata">>, [<<"a">>], <<"tag">>], [<<"metadata">>, [<<"a">>], <<"type">>],
                  [<<"metadata">>, [<<"a">>], [<<"cut">>, 3]], [<<"metadata">>, [<<"a">>], [<<"allow">>, 1]]],
        Every = [counter(100, ?E, Labels), sum(101, ?E, ?V, []), (exponential())#{<<"key">> := 102},
                 typed(<<"last">>, #{<<"key">> => 103}), typed(<<"buckets">>, #{<<"key">> => 104, <<"bounds">> => [1]}),
                 (counter(105, ?E, []))#{<<"keep">> => [[<<"eq">>, meta(<<"a">>), 1]]}],
        {ok, [], E} = engine(plan(Every, #{<<"carries">> => [#{<<"event">> => support:names(?E), <<"slots">> => #{<<"c">> => meta(<<"a">>)}}]})),
        Seed = support:seed(),
        Maps = [#{}, [], [a | b], 5, <<"map">>, {}, self(), #{v => #{}}, #{v => -0.0}, #{v => [1 | 2]}, #{a => cyclic_looking(200)},
                #{a => lists:seq(1, 100000)}, #{a => [1 | improper]}, #{a => <<1:7>>}, #{a => binary:copy(<<200>>, 100000)},
                #{a => fun() -> ok end}, #{a => {error, make_ref()}}, #{a => 1 bsl 100000}, #{v => 1 bsl 100000},
                #{v => 1.7976931348623157e308}, #{v => -1.7976931348623157e308}, #{v => 5.0e-324}, #{a => ''}],
        [emit(E, ?E, Meas, Meta) || Meas <- Maps, Meta <- Maps],
        [try emit(E, ?E, random(3), random(3)) catch K:R -> error({seed, Seed, K, R}) end || _ <- lists:seq(1, 20000)],
        emit(E, ?E, #{v => 5}, #{}),
        {Frames, _} = flush(1, E),
        ?assertEqual(0, account(Frames, 4, [])),
        ?assertMatch({5, 0.0}, total(Frames, 103, [])),
        ?assertMatch({I, _} when is_integer(I), total(Frames, 101, []))
    end}.

random(0) -> element(rand:uniform(12), {1, -1, 1.5, nil, true, <<"x">>, <<200>>, a, [], self(), 1 bsl 80, {}});
random(D) ->
    case rand:uniform(5) of
        1 -> maps:from_list([{lists:nth(rand:uniform(4), [a, b, v, <<"a">>]), random(D - 1)} || _ <- lists:seq(1, rand:uniform(3))]);
        2 -> [random(D - 1) || _ <- lists:seq(1, rand:uniform(3))];
        3 -> [random(D - 1) | random(D - 1)];
        4 -> list_to_tuple([random(D - 1) || _ <- lists:seq(1, rand:uniform(3))]);
        5 -> random(0)
    end.

row_and_labels_of_any_event_can_be_encoded_test_() ->
    {timeout, 60, fun() ->
        Seed = support:seed(),
        Expressions = [meta(<<"a">>), meta(<<"b">>), [<<"metadata">>, [<<"a">>], [<<"cut">>, 3]], [<<"metadata">>, [<<"v">>], <<"type">>]],
        Labelled = (counter(100, ?E, Expressions))#{<<"series">> => 3000},
        {ok, [], E} = engine(plan([Labelled])),
        Compiled = [begin {ok, C} = dichroic_expression:compile(X, fun(B) -> {ok, binary_to_atom(B)} end), C end || X <- Expressions],
        [begin
             Metadata = #{a => wild(), b => wild(), v => wild()},
             emit(E, ?E, #{}, Metadata),
             Rows = [{I, [dichroic_expression:column(dichroic_expression:eval(C, #{}, Metadata), 20) || C <- Compiled]} || I <- [1, 2]],
             Bytes = iolist_to_binary(dichroic_wire:encode(dichroic_wire:events(1, Rows))),
             ?assertMatch({ok, {events, 1, _, _, _, _, _}, <<>>}, dichroic_wire:decode(Bytes, 262144), {Seed, Metadata})
         end || _ <- lists:seq(1, 5000)],
        %% flush/2 decodes every frame again.
        {Frames, _} = flush(1, E),
        ?assertEqual(0, account(Frames, 4, []))
    end}.

%% Also terms that look like the internal form of a cut string.
wild() ->
    case rand:uniform(12) of
        1 -> {cut, rand:uniform(5), <<"abc">>};
        2 -> {cut, -1, <<"abc">>};
        3 -> {cut, a, b};
        4 -> {cut, 1 bsl 40, <<"abcdefgh">>};
        5 -> {bytes, <<"x">>};
        6 -> {float_bits, 0};
        7 -> rand:bytes(rand:uniform(40));
        8 -> binary_to_atom(binary:copy(<<16#20ac/utf8>>, 255));
        9 -> 1 bsl rand:uniform(2000);
        _ -> random(2)
    end.

a_handler_without_tables_does_nothing_test() ->
    persistent_term:erase(?STATIC),
    ?assertEqual(ok, dichroic_handler:handle(?E, #{v => 1}, #{}, 1)),
    ?assertEqual(ok, dichroic_handler:handle(?E, #{v => 1}, #{}, nonsense)),
    {ok, [], E} = engine(plan([counter(100, ?E, [])])),
    dichroic_tables:drop(persistent_term:get(?STATIC)),
    ?assertEqual(ok, emit(E, ?E, #{}, #{})).

%%% Streams without senders: the decisions of the handler

streamed(More, Limits, N) ->
    {ok, [], E} = engine(plan([], #{<<"streams">> => [maps:merge(stream(9, ?E, [?V]), More)], <<"limits">> => Limits})),
    %% The test process takes the place of every sender.
    Me = self(),
    Relays = [{Name, spawn_link(fun() -> forward(Me) end)} || Name <- dichroic_event_sender:names()],
    [register(Name, P) || {Name, P} <- Relays],
    [emit(E, ?E, #{v => I}, #{}) || I <- lists:seq(1, 10)],
    dichroic_engine:streams_on(E),
    [emit(E, ?E, #{v => I}, #{}) || I <- lists:seq(1, N)],
    dichroic_engine:streams_off(E),
    [emit(E, ?E, #{v => I}, #{}) || I <- lists:seq(1, 10)],
    {Frames, _} = flush(1, E),
    [begin P ! stop, receive {P, stopped} -> ok end end || {_, P} <- Relays],
    Frames.

forward(To) -> receive stop -> To ! {self(), stopped}; M -> To ! M, forward(To) end.

rows() -> receive {row, _, _, _} = R -> [R | rows()] after 0 -> [] end.

rows_are_sent_only_to_a_subscriber_test() ->
    _ = streamed(#{}, #{}, 100),
    Rows = rows(),
    ?assertEqual(lists:seq(1, 100), lists:sort([V || {row, _, _, [V]} <- Rows])),
    ?assert(lists:all(fun({row, _, T, _}) -> abs(T - erlang:system_time(nanosecond)) < 60000000000 end, Rows)).

%% The first columns are measurements.
a_measurement_of_a_row_is_a_number_or_null_test() ->
    Values = [1, -2.5, 1 bsl 63, nil, undefined, <<"1">>, true, [1], self(), 1 bsl 2000],
    Stream = (stream(9, ?E, [?V, meta(<<"m">>)]))#{<<"numbers">> => 1},
    {ok, [], E} = engine(plan([], #{<<"streams">> => [Stream]})),
    Me = self(),
    Relays = [{Name, spawn_link(fun() -> forward(Me) end)} || Name <- dichroic_event_sender:names()],
    [register(Name, P) || {Name, P} <- Relays],
    dichroic_engine:streams_on(E),
    [emit(E, ?E, #{v => V}, #{m => <<"text">>}) || V <- Values],
    {Frames, _} = flush(1, E),
    [begin P ! stop, receive {P, stopped} -> ok end end || {_, P} <- Relays],
    ?assertEqual([1, -2.5, float(1 bsl 63), nil, nil, nil, nil, nil, nil, nil], [V || {row, _, _, [V, <<"text">>]} <- rows()]),
    ?assertEqual({4, 1}, {account(Frames, 7, [9, <<"not_numeric">>]), account(Frames, 7, [9, <<"out_of_range">>])}).

without_credit_a_row_is_dropped_and_counted_test() ->
    Shards = length(dichroic_event_sender:names()),
    Frames = streamed(#{}, #{<<"credit">> => 10 * Shards}, 1000),
    Rows = length(rows()),
    ?assert(Rows =< 10 * Shards),
    ?assertEqual(1000, Rows + account(Frames, 2, [9, 4])).

beyond_the_rate_a_row_is_dropped_and_counted_test() ->
    Frames = streamed(#{}, #{<<"rows_per_s">> => 50}, 1000),
    Rows = length(rows()),
    ?assert(Rows =< 100),
    ?assertEqual(1000, Rows + account(Frames, 2, [9, 5])).

a_sample_is_about_its_share_and_conditions_come_first_test() ->
    _ = streamed(#{<<"sample">> => 0.25, <<"keep">> => [[<<"gt">>, ?V, 4000]]}, #{}, 12000),
    Rows = rows(),
    ?assert(abs(length(Rows) - 2000) < 250),
    ?assert(lists:all(fun({row, _, _, [V]}) -> V > 4000 end, Rows)).

%% Building the row takes by far the most time, so each emitter is killed there.
an_emitter_killed_while_it_builds_a_row_holds_no_credit_test_() ->
    {timeout, 60, fun() ->
        Slow = [<<"metadata">>, [<<"l">>], <<"length">>],
        {ok, [], E} = engine(plan([], #{<<"streams">> => [stream(9, ?E, lists:duplicate(8, Slow))],
                                        <<"limits">> => #{<<"credit">> => 1000, <<"rows_per_s">> => 1000000}})),
        St = persistent_term:get(?STATIC),
        Shards = lists:seq(1, St#static.shards),
        Relays = [spawn_link(fun() -> true = register(dichroic_event_sender:name(S), self()), giving_back(St, S) end) || S <- Shards],
        support:wait(fun() -> lists:all(fun(Name) -> is_pid(whereis(Name)) end, dichroic_event_sender:names()) end),
        dichroic_engine:streams_on(E),
        Metadata = #{l => lists:seq(1, 300000)},
        try
            [killed_soon(fun() -> emit_for_ever(E, Metadata) end) || _ <- lists:seq(1, 50)],
            support:wait(fun() -> [0] =:= lists:usort([atomics:get(St#static.credit, dichroic_limiter:lane(S, St#static.shards)) || S <- Shards]) end)
        after
            [begin unlink(P), exit(P, kill) end || P <- Relays]
        end
    end}.

giving_back(St, Shard) ->
    receive {row, _, _, _} -> dichroic_limiter:return(St#static.credit, dichroic_limiter:lane(Shard, St#static.shards), 1) end,
    giving_back(St, Shard).

killed_soon(Emit) ->
    Me = self(),
    {Pid, Ref} = spawn_monitor(fun() -> Me ! ready, Emit() end),
    receive ready -> ok end,
    receive after 1 -> exit(Pid, kill) end,
    receive {'DOWN', Ref, _, _, killed} -> ok end.

emit_for_ever(E, Metadata) -> emit(E, ?E, #{}, Metadata), emit_for_ever(E, Metadata).
