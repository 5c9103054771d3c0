%% @doc The relay in a separate node: started beside an application, stopped and killed with it.
-module(dichroic_node_tests).

-include_lib("eunit/include/eunit.hrl").

-import(support, [counter/3, sum/4, plan/1, plan/2, meas/1, meta/1, stream/3]).
-import(fake_collector, [wait/2, total/3]).

-export([reload/0, workers/0, burst/2, procs/1, pause/1, name/1]).

-define(E, [shop, order]).

node_with(Plan, Test) ->
    {timeout, 90, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => Plan}),
        {ok, Peer, _} = peer:start(#{connection => standard_io,
                                     env => [{"DICHROIC_SOCKET", Path}, {"OTEL_SERVICE_NAME", "shop"}],
                                     args => ["-pa" | code:get_path()]}),
        try
            ok = peer:call(Peer, support, telemetry, []),
            ok = peer:call(Peer, application, start, [dichroic]),
            wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
            Test(C, Peer)
        after
            catch peer:stop(Peer),
            fake_collector:stop(C),
            file:delete(Path)
        end
    end}.

%% In the other node.
burst(From, To) ->
    Parts = 4,
    Pids = [spawn_monitor(fun() ->
        [telemetry:execute(?E, #{v => N}, #{k => N rem 5}) || N <- lists:seq(From, To), N rem Parts =:= I]
    end) || I <- lists:seq(0, Parts - 1)],
    [receive {'DOWN', Ref, _, _, Reason} -> normal = Reason end || {_, Ref} <- Pids],
    ok.

orders() -> plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, meas(<<"v">>), [])]).

the_service_has_its_configured_name_test_() ->
    node_with(orders(), fun(C, Peer) ->
        #{hello := Hello} = fake_collector:state(C),
        ?assertMatch(#{<<"resource">> := #{<<"service.name">> := <<"shop">>}, <<"node">> := <<"nonode@nohost">>}, Hello),
        ?assertEqual(list_to_integer(peer:call(Peer, os, getpid, [])), maps:get(<<"os_pid">>, Hello))
    end).

%% In the other node.
name(Node) ->
    {ok, _} = net_kernel:start(Node, #{name_domain => longnames, dist_listen => false}),
    node().

a_node_named_later_introduces_itself_again_and_keeps_its_totals_test_() ->
    node_with(orders(), fun(C, Peer) ->
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000]),
        #{hello := #{<<"epoch">> := Epoch, <<"attempt">> := 1}} = wait(C, fun(S) -> {500500, 0.0} = total(S, 101, []), S end),
        'late@127.0.0.1' = peer:call(Peer, ?MODULE, name, ['late@127.0.0.1']),
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000]),
        State = wait(C, fun(#{hello := #{<<"node">> := <<"late@127.0.0.1">>}} = S) -> {1001000, 0.0} = total(S, 101, []), S end),
        ?assertMatch(#{hello := #{<<"epoch">> := Epoch, <<"attempt">> := 2}, errors := []}, State)
    end).

a_node_that_stops_sends_its_last_totals_and_goodbye_test_() ->
    node_with((orders())#{<<"flush_ms">> := 60000}, fun(C, Peer) ->
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000]),
        peer:call(Peer, init, stop, []),
        State = wait(C, fun(#{goodbye := {goodbye, 7, _, _}} = S) -> S end),
        ?assertEqual({500500, 0.0}, total(State, 101, [])),
        ?assertEqual([], maps:get(errors, State))
    end).

a_stopped_application_leaves_nothing_and_its_handler_does_nothing_test_() ->
    node_with(orders(), fun(_, Peer) ->
        [#{function := Handler, config := Config}] = [H || #{id := {dichroic, _}} = H <- peer:call(Peer, telemetry, list_handlers, [?E])],
        ok = peer:call(Peer, application, stop, [dichroic]),
        %% The count of created atoms is kept for the life of the VM.
        ?assertMatch(#{processes := [], tables := [], terms := [dichroic_atoms], env := [], logger := [], handlers := []},
                     peer:call(Peer, test_node, left, [[]])),
        ?assertEqual(ok, peer:call(Peer, erlang, apply, [Handler, [?E, #{v => 1}, #{}, Config]])),
        ok = peer:call(Peer, application, start, [dichroic])
    end).

%% In the other node.
reload() ->
    Modules = [M || {M, _} <- code:all_loaded(), lists:prefix("dichroic", atom_to_list(M)), not lists:suffix("_tests", atom_to_list(M))],
    _ = [begin code:purge(M), {module, M} = code:load_file(M) end || _ <- [1, 2], M <- Modules],
    ok.

%% In the other node: the event senders and the processes linked to the VM poller.
workers() ->
    {links, Linked} = process_info(whereis(dichroic_vm_poller), links),
    lists:usort([whereis(Name) || Name <- [dichroic_event_sender:log_name() | dichroic_event_sender:names()]] ++ Linked).

new_code_can_be_loaded_twice_without_ending_a_process_test_() ->
    Plan = plan([counter(100, ?E, [meta(<<"k">>)]), counter(102, [dichroic, vm, mailboxes], [])],
                #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])]}),
    node_with(Plan, fun(C, Peer) ->
        wait(C, fun(S) -> {_, 0.0} = total(S, 102, []) end),
        Workers = peer:call(Peer, ?MODULE, workers, []),
        Where = fun(P) -> {_, {M, _, _}} = peer:call(Peer, erlang, process_info, [P, current_function]), M end,
        support:wait(fun() -> [] =:= [P || P <- Workers, lists:member(Where(P), [dichroic_event_sender, dichroic_message_queues])] end),
        #{epoch := Epoch} = peer:call(Peer, dichroic, info, []),
        ok = peer:call(Peer, ?MODULE, reload, []),
        ?assertEqual(Workers, peer:call(Peer, ?MODULE, workers, [])),
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000]),
        wait(C, fun(#{events := Events} = S) -> total(S, 100, [1]) =:= {200, 0.0} andalso length(lists:append([R || {7, R} <- Events])) =:= 1000 end),
        ?assertMatch(#{epoch := Epoch, state := steady}, peer:call(Peer, dichroic, info, []))
    end).

the_last_flush_of_a_killed_node_is_kept_test_() ->
    node_with(orders(), fun(C, Peer) ->
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000]),
        wait(C, fun(S) -> total(S, 101, []) =:= {500500, 0.0} end),
        Pid = peer:call(Peer, os, getpid, []),
        _ = os:cmd("kill -9 " ++ Pid),
        State = wait(C, fun(#{connected := false} = S) -> S end),
        ?assertMatch(#{goodbye := none, errors := []}, State),
        ?assertEqual({500500, 0.0}, total(State, 101, []))
    end).

a_million_events_in_a_burst_are_counted_in_flat_memory_test_() ->
    node_with(plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, meas(<<"v">>), [])],
                   #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])], <<"limits">> => #{<<"credit">> => 5000, <<"rows_per_s">> => 100000}}),
              fun(C, Peer) ->
        %% Rows are subscribed too, and most are dropped; no message queue may grow.
        Before = peer:call(Peer, erlang, memory, [total]),
        ok = peer:call(Peer, ?MODULE, burst, [1, 1000000], 80000),
        settles(Peer, Before + 20000000, erlang:monotonic_time(millisecond) + 10000),
        State = wait(C, fun(S) ->
            {500000500000, 0.0} = total(S, 101, []),
            {Sent, _} = total(S, 1, [7]),
            Dropped = lists:sum([D || R <- [4, 5], {D, _} <- [total(S, 2, [7, R])]]),
            Sent + Dropped =:= 1000000 andalso Sent =:= length(lists:append([R || {7, R} <- maps:get(events, S)])) andalso S
        end),
        ?assertEqual([], maps:get(errors, State)),
        ?assertEqual([{200000, 0.0} || _ <- lists:seq(1, 5)], [total(State, 100, [K]) || K <- lists:seq(0, 4)])
    end).

%% Messages in flight are garbage soon after.
settles(Peer, Most, Until) ->
    [peer:call(Peer, erlang, garbage_collect, [P]) || P <- peer:call(Peer, erlang, processes, [])],
    case peer:call(Peer, erlang, memory, [total]) of
        Memory when Memory < Most -> ok;
        Memory -> ?assert(erlang:monotonic_time(millisecond) < Until, {Memory, Most}), settles(Peer, Most, Until)
    end.

%% In the other node: idle processes with a small heap.
procs(N) -> _ = [spawn(fun() -> X = lists:seq(1, 50), receive X -> ok end end) || _ <- lists:seq(1, N)], ok.

%% In the other node: the longest pause of a process that only reads the clock.
pause(Ms) ->
    End = erlang:monotonic_time(microsecond) + Ms * 1000,
    pause(erlang:monotonic_time(microsecond), End, 0).

pause(Before, End, Longest) ->
    Now = erlang:monotonic_time(microsecond),
    case Now < End of
        true -> pause(Now, End, max(Longest, Now - Before));
        false -> Longest
    end.

subscribing_does_not_pause_the_processes_of_the_node_test_() ->
    node_with(orders(), fun(C, Peer) ->
        ok = peer:call(Peer, ?MODULE, procs, [20000]),
        Stream = fun(S) -> plan([counter(100, ?E, [meta(<<"k">>)])], #{<<"generation">> => S, <<"streams">> => [stream(S, ?E, [meas(<<"v">>)])]}) end,
        Collections = fun() -> element(1, peer:call(Peer, erlang, statistics, [garbage_collection])) end,
        lists:foreach(fun(S) ->
            fake_collector:plan(C, Stream(S)),
            wait(C, fun(#{replies := [#{<<"generation">> := G} | _]}) -> G =:= S end)
        end, [2, 3]),
        Before = Collections(),
        lists:foreach(fun(S) ->
            fake_collector:plan(C, Stream(S)),
            wait(C, fun(#{replies := [#{<<"generation">> := G} | _]}) -> G =:= S end)
        end, lists:seq(4, 40)),
        %% Rewriting a persistent term would make the VM scan all 20,000 processes.
        ?assert(Collections() - Before < 10000)
    end).
