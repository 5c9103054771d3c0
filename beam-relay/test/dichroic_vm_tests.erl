%% @doc Measurements of the VM: their form and bounds, and that no flag stays enabled.
-module(dichroic_vm_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [plan/1, meas/1, meta/1, counter/3, engine/1, wait/1]).

twice(Event, Between) ->
    S0 = dichroic_vm:start(Event),
    {First, S1} = dichroic_vm:sample(Event, S0),
    Between(),
    {Second, S2} = dichroic_vm:sample(Event, S1),
    ok = dichroic_vm:stop(Event, S2),
    {First, Second}.

every_sample_has_numbers_and_scalars_test_() ->
    [{support:title(Event), fun() ->
        {First, Second} = twice(Event, fun() -> ok end),
        [begin
             ?assert(maps:fold(fun(K, V, Ok) -> Ok andalso is_atom(K) andalso is_number(V) andalso V >= 0 end, true, Meas)),
             ?assert(maps:fold(fun(_, V, Ok) -> Ok andalso (is_atom(V) orelse is_binary(V) orelse is_integer(V)) end, true, Meta))
         end || {Meas, Meta} <- First ++ Second],
        ?assert(length(Second) =< 2 * 128 + 4)
    end} || Event <- dichroic_vm:events()].

totals_since_boot_start_at_zero_and_grow_with_the_work_test() ->
    {[{Zero, _}], [{Rise, _}]} = twice([dichroic, vm, work], fun() ->
        [erlang:garbage_collect() || _ <- lists:seq(1, 10)],
        lists:sum(lists:seq(1, 100000))
    end),
    ?assertEqual([0], lists:usort(maps:values(Zero))),
    ?assertMatch(#{gc_count := Gc, reductions := R} when Gc >= 10 andalso R > 1000, Rise),
    ?assertEqual([gc_count, gc_reclaimed, context_switches, io_input, io_output, reductions] -- maps:keys(Rise), []).

scheduler_time_is_measured_only_while_it_is_planned_test() ->
    Measured = fun() -> erlang:statistics(scheduler_wall_time) =/= undefined end,
    Before = Measured(),
    Event = [dichroic, vm, scheduler],
    S0 = dichroic_vm:start(Event),
    {[], S1} = dichroic_vm:sample(Event, S0),
    ?assert(Measured()),
    busy(erlang:monotonic_time(millisecond) + 20),
    {Rows, S2} = dichroic_vm:sample(Event, S1),
    ok = dichroic_vm:stop(Event, S2),
    ?assertEqual(Before, Measured()),
    Share = [U || {#{utilization := U}, #{type := normal}} <- Rows],
    ?assertEqual(erlang:system_info(schedulers), length(Share)),
    ?assert(lists:all(fun(U) -> U >= 0 andalso U =< 1.001 end, Share)),
    ?assert(lists:max(Share) > 0.1).

busy(Until) -> erlang:monotonic_time(millisecond) < Until andalso busy(Until).

each_scheduler_has_its_run_queue_test() ->
    {Rows, _} = dichroic_vm:sample([dichroic, vm, run_queue], none),
    Ids = [Id || {#{length := _}, #{type := normal, scheduler := Id}} <- Rows],
    ?assertEqual(lists:seq(1, erlang:system_info(schedulers)), Ids),
    ?assertMatch([_, _], [T || {_, #{type := T}} <- Rows, T =/= normal]).

persistent_terms_are_read_unless_the_poller_emits_them_test() ->
    Count = fun() -> {[{#{count := N, memory := M}, _}], _} = dichroic_vm:sample([vm, persistent_term], none), ?assert(M > 0), N end,
    Before = Count(),
    persistent_term:put(?MODULE, here),
    After = Count(),
    persistent_term:erase(?MODULE),
    ?assertEqual(Before + 1, After),
    ?assertNot(dichroic_vm:polled([vm, persistent_term])).

a_running_process_is_an_active_task_test() ->
    {[{#{normal := Normal, dirty := Dirty}, _}], _} = dichroic_vm:sample([dichroic, vm, tasks], none),
    ?assert(Normal >= 1),
    ?assert(Dirty >= 0).

the_configuration_of_the_vm_is_integers_without_unknown_values_test() ->
    {[{System, _}], _} = dichroic_vm:sample([dichroic, vm, system], none),
    ?assert(lists:all(fun is_integer/1, maps:values(System))),
    ?assertEqual(erlang:system_info(otp_release), integer_to_list(maps:get(otp_release, System))),
    ?assertEqual(erlang:system_info(schedulers_online), maps:get(schedulers_online, System)),
    ?assertEqual([], [F || F <- [smp, jit, threads, time_correction], not lists:member(maps:get(F, System), [0, 1])]),
    ?assertEqual(is_integer(erlang:system_info(logical_processors)), is_map_key(logical_processors, System)).

the_main_application_and_its_dependencies_have_versions_test() ->
    App = {application, a_shop_of_this_test, [{vsn, "1.2.3"}, {modules, [a, b, c]}, {applications, [kernel, stdlib, dichroic, not_there]}]},
    ok = application:load(App),
    {Rows, S} = dichroic_vm:sample([dichroic, vm, application], none),
    {Again, _} = dichroic_vm:sample([dichroic, vm, application], S),
    ok = application:unload(a_shop_of_this_test),
    ?assertEqual([{a_shop_of_this_test, <<"1.2.3">>, 3}], [{N, V, M} || {_, #{kind := primary, name := N, version := V, modules := M}} <- Rows]),
    Needed = [N || {#{value := 1}, #{kind := dependency, name := N}} <- Rows],
    ?assertEqual([kernel, stdlib], Needed -- [dichroic]),
    ?assertEqual(Rows, Again).

an_added_table_is_counted_test() ->
    Count = fun() -> {[{#{count := N, limit := L}, _}], _} = dichroic_vm:sample([dichroic, vm, ets], none), ?assert(L >= N), N end,
    Before = Count(),
    Tables = [ets:new(t, []) || _ <- lists:seq(1, 50)],
    ?assert(Count() >= Before + 45),
    lists:foreach(fun ets:delete/1, Tables).

a_disconnected_peer_is_emitted_once_as_empty_test() ->
    Gone = #{'x@y' => {make_ref(), #{queue => 7, input => 1, output => 1}}},
    {[{Meas, Meta}], State} = dichroic_vm:sample([dichroic, vm, distribution], Gone),
    ?assertEqual({#{queue => 0, input => 0, output => 0}, #{peer => 'x@y'}}, {Meas, Meta}),
    ?assertEqual({[], #{}}, dichroic_vm:sample([dichroic, vm, distribution], State)).

%%% Message queues

stuck(Messages) ->
    Pid = spawn(fun() -> receive stop -> ok end end),
    [Pid ! N || N <- lists:seq(1, Messages)],
    Pid.

at_most_the_ten_longest_message_queues_are_found_test() ->
    Pids = [stuck(1000 + N) || N <- lists:seq(1, 20)],
    #{top := Top, processes := Looked, messages := Messages} = dichroic_message_queues:survey(fun() -> ok end),
    [P ! stop || P <- Pids],
    ?assertEqual(lists:reverse(lists:seq(1011, 1020)), [N || {N, _} <- Top]),
    ?assert(Looked >= 20),
    ?assert(Messages >= 20 * 1010).

processes_of_the_relay_are_left_out_test() ->
    Ours = [begin P = stuck(3000), true = register(Name, P), P end
            || Name <- [dichroic_connection, dichroic_attach, dichroic_event_sender_log | dichroic_event_sender:names()]],
    Theirs = stuck(2000),
    #{top := Top, messages := Messages} = dichroic_message_queues:survey(fun() -> ok end),
    [P ! stop || P <- [Theirs | Ours]],
    ?assertMatch([{2000, Theirs} | _], Top),
    ?assertEqual([], [P || {_, P} <- Top, lists:member(P, Ours)]),
    ?assert(Messages < 3000 * length(Ours)).

a_survey_checks_few_processes_between_two_pauses_test() ->
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 2000)],
    Self = self(),
    #{processes := Looked} = dichroic_message_queues:survey(fun() -> Self ! pause end),
    [P ! stop || P <- Pids],
    Pauses = fun Count(N) -> receive pause -> Count(N + 1) after 0 -> N end end(0),
    ?assert(Looked > 2000),
    ?assert(Pauses >= 2000 div 256).

a_queue_has_the_name_of_its_process_and_is_emitted_as_empty_when_it_shrinks_test_() ->
    {timeout, 30, fun() ->
        Event = [dichroic, vm, mailbox],
        Last = (counter(100, Event, [meta(<<"process">>)]))#{<<"type">> => <<"last">>, <<"value">> => meas(<<"length">>)},
        {ok, [], E} = engine(plan([Last])),
        [Event] = dichroic_engine:events(E),
        Pid = stuck(5000),
        true = register(a_slow_one, Pid),
        Walker = dichroic_message_queues:start_link(),
        #static{lasts = Lasts} = persistent_term:get(?STATIC),
        wait(fun() -> [5000] =:= [V || {{_, {a_slow_one}}, V, _} <- ets:tab2list(Lasts)] end),
        Pid ! stop,
        wait(fun() -> [0] =:= [V || {{_, {a_slow_one}}, V, _} <- ets:tab2list(Lasts)] end),
        unlink(Walker),
        exit(Walker, kill)
    end}.

%%% A whole relay

last(Key, Event, Value) -> (counter(Key, Event, []))#{<<"type">> => <<"last">>, <<"value">> => meas(Value)}.

events_of_telemetry_poller_are_emitted_unless_its_default_poller_runs_test_() ->
    [{support:title(Process), {timeout, 30, fun() ->
        Standing = spawn(fun() -> true = register(Process, self()), receive stop -> ok end end),
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => plan([last(100, [vm, memory], <<"total">>), last(101, [dichroic, vm, uptime], <<"uptime">>)])}),
        support:start_relay(Path),
        try
            fake_collector:wait(C, fun(S) -> {_, _} = fake_collector:total(S, 101, []) end),
            Memory = fun(S) -> fake_collector:total(S, 100, []) =/= none end,
            case Read of
                true -> fake_collector:wait(C, Memory);
                false -> ?assertNot(Memory(fake_collector:state(C)))
            end
        after
            support:stop_relay(),
            fake_collector:stop(C),
            Standing ! stop
        end
    end}} || {Process, Read} <- [{telemetry_poller_sup, true}, {telemetry_poller_default, false}]].

walkers() -> [P || P <- processes(), {initial_call, {dichroic_message_queues, _, _}} <- [process_info(P, initial_call)]].

the_vm_poller_restarts_and_leaves_no_flag_enabled_test_() ->
    {timeout, 60, fun() ->
        Before = erlang:statistics(scheduler_wall_time) =:= undefined,
        Path = support:socket_path(),
        Plan = plan([last(100, [dichroic, vm, uptime], <<"uptime">>), last(101, [dichroic, vm, scheduler], <<"utilization">>),
                     last(102, [dichroic, vm, mailboxes], <<"processes">>)]),
        {C, _} = fake_collector:start(Path, #{plan => Plan}),
        support:start_relay(Path),
        try
            Uptime = fun(S) -> {U, 0.0} = fake_collector:total(S, 100, []), U end,
            First = fake_collector:wait(C, Uptime),
            fake_collector:wait(C, fun(S) -> {N, 0.0} = fake_collector:total(S, 102, []), N > 10 end),
            ?assert(erlang:statistics(scheduler_wall_time) =/= undefined),
            Walkers = wait(fun() -> [_] = walkers() end),
            exit(whereis(dichroic_vm_poller), kill),
            fake_collector:wait(C, fun(S) -> Uptime(S) > First end),
            %% The queue scanner died with it, and exactly one runs again.
            wait(fun() -> [W] = walkers(), not lists:member(W, Walkers) end),
            fake_collector:plan(C, (plan([]))#{<<"generation">> => 2}),
            wait(fun() -> Before =:= (erlang:statistics(scheduler_wall_time) =:= undefined) end),
            fake_collector:plan(C, Plan#{<<"generation">> => 3}),
            wait(fun() -> erlang:statistics(scheduler_wall_time) =/= undefined end)
        after
            support:stop_relay(),
            fake_collector:stop(C)
        end,
        wait(fun() -> Before =:= (erlang:statistics(scheduler_wall_time) =:= undefined) end)
    end}.
