%% @doc The attached relay, and events on its node while it detaches: the application is not disturbed, and nothing is left.
-module(attached_SUITE).

-compile([export_all, nowarn_export_all]).

-import(support, [counter/3, plan/1, meta/1, wait/2]).
-import(test_node, [with/2, call/3, call/4, counted/4, attach/1]).

-define(E, [shop, order]).

all() -> [{group, attached}].

groups() ->
    [{attached, [parallel],
      [a_detached_relay_leaves_nothing,
       a_call_of_a_detaching_relay_gets_a_reply,
       a_killed_keeper_leaves_nothing,
       a_killed_keeper_and_relay_leave_nothing,
       a_keeper_killed_under_load_disturbs_no_emitter,
       a_process_suspended_in_an_event_never_finds_the_handler_unloaded,
       a_process_in_a_slow_handler_never_finds_the_handler_unloaded,
       the_handler_is_unloaded_after_a_slow_detach,
       a_relay_can_be_attached_again_while_a_process_may_still_call_the_handler,
       an_attached_relay_reports_modules_that_are_unloaded_while_it_starts,
       two_versions_of_the_handler_are_kept_while_a_process_is_inside,
       emitters_suspended_anywhere_never_find_the_handler_unloaded,
       an_attached_relay_beside_the_applications_relay_changes_nothing_and_reports_it,
       a_relay_that_cannot_start_leaves_the_environment_as_it_was]}].

plan() -> plan([counter(100, ?E, [meta(<<"k">>)]), counter(101, [dichroic, logger, message], [])]).

attached(Test) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer, collector := C} = Node) ->
        {ok, started} = attach(Node),
        _ = fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
        Test(Node),
        nothing_left(Peer)
    end).

nothing_left(Peer) ->
    Nothing = #{loaded => [], processes => [], tables => [], terms => [], env => [], logger => [], handlers => []},
    Left = fun() -> call(Peer, left, [test_node:relay_modules()]) end,
    try wait(fun() -> Left() =:= Nothing end, 20000)
    catch error:wait_timeout -> error({detached, Left()})
    end.

a_detached_relay_leaves_nothing(_) ->
    attached(fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, emit, [?E, #{k => <<"before">>}, 1000]),
        [] = call(Peer, detach, []),
        counted(C, 100, [<<"before">>], {1000, 0.0})
    end).

%% Unloading the keeper's module must not kill processes that wait for its reply.
a_call_of_a_detaching_relay_gets_a_reply(_) ->
    attached(fun(#{peer := Peer}) ->
        ok = call(Peer, start_callers, [8]),
        [] = call(Peer, detach, []),
        true = lists:all(fun(Reply) -> lists:member(Reply, [{error, not_attached}, {error, detaching}]) end, call(Peer, replies, []))
    end).

a_killed_keeper_leaves_nothing(_) ->
    attached(fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, emit, [?E, #{k => <<"before">>}, 1000]),
        true = call(Peer, erlang, exit, [call(Peer, erlang, whereis, [dichroic_attach]), kill]),
        %% It sends its last totals, as when it is detached.
        counted(C, 100, [<<"before">>], {1000, 0.0})
    end).

a_killed_keeper_and_relay_leave_nothing(_) ->
    attached(fun(#{peer := Peer}) -> ok = call(Peer, kill_all, [[dichroic_sup, dichroic_attach]]) end).

a_keeper_killed_under_load_disturbs_no_emitter(_) ->
    attached(fun(#{peer := Peer} = Node) ->
        ok = call(Peer, load, [4, ?E]),
        [begin
             true = call(Peer, erlang, exit, [call(Peer, erlang, whereis, [dichroic_attach]), kill]),
             nothing_left(Peer),
             {ok, started} = attach(Node)
         end || _ <- [1, 2]],
        [] = call(Peer, detach, []),
        true = call(Peer, unload, []) > 0
    end).

a_process_suspended_in_an_event_never_finds_the_handler_unloaded(_) ->
    with_process_in_event(fun(Peer) -> call(Peer, suspend, [?E]) end, fun(Peer, Pid) -> call(Peer, resume, [Pid]) end).

a_process_in_a_slow_handler_never_finds_the_handler_unloaded(_) ->
    with_process_in_event(fun(Peer) -> call(Peer, stopped, [?E]) end, fun(Peer, Pid) -> call(Peer, go, [Pid]) end).

%% A process of the application has read the list of handlers, and stops before it calls the relay's.
with_process_in_event(Stop, Go) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer, collector := C} = Node) ->
        ok = call(Peer, attach_slow_handler, [?E]),
        {ok, started} = attach(Node),
        _ = fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
        Pid = Stop(Peer),
        Kept = call(Peer, detach, []),
        true = lists:member(dichroic_handler, Kept),
        {emitted, ok} = Go(Peer, Pid),
        nothing_left(Peer)
    end).

%% The unload guard checks for the first time while the keeper's module is still loaded.
the_handler_is_unloaded_after_a_slow_detach(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer, collector := C} = Node) ->
        ok = call(Peer, attach_slow_handler, [?E]),
        {ok, started} = attach(Node),
        _ = fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
        Caller = call(Peer, stopped, [?E]),
        InfoCaller = call(Peer, suspended_caller, []),
        [_ | _] = call(Peer, detach, []),
        ok = call(Peer, handled_message, [call(Peer, erlang, whereis, [dichroic_unload_guard])]),
        true = call(Peer, erlang, module_loaded, [dichroic_attach]),
        {replied, {error, not_attached}} = call(Peer, resume, [InfoCaller]),
        {emitted, ok} = call(Peer, go, [Caller]),
        nothing_left(Peer)
    end).

a_relay_can_be_attached_again_while_a_process_may_still_call_the_handler(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer, collector := C} = Node) ->
        ok = call(Peer, attach_slow_handler, [?E]),
        {ok, started} = attach(Node),
        _ = fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
        Pid = call(Peer, stopped, [?E]),
        [_ | _] = call(Peer, detach, []),
        Waiter = call(Peer, erlang, whereis, [dichroic_unload_guard]),
        true = is_pid(Waiter),
        {ok, started} = attach(Node),
        ok = call(Peer, attached, []),
        %% The unload guard, which would unload modules of the new relay, has ended.
        false = call(Peer, erlang, is_process_alive, [Waiter]),
        ok = call(Peer, emit, [?E, #{k => <<"again">>}, 100]),
        counted(C, 100, [<<"again">>], {100, 0.0}),
        {emitted, ok} = call(Peer, go, [Pid]),
        [] = call(Peer, detach, []),
        nothing_left(Peer)
    end).

an_attached_relay_reports_modules_that_are_unloaded_while_it_starts(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer} = Node) ->
        ok = test_node:load_relay(Node),
        true = call(Peer, code, delete, [dichroic_handler_keeper]),
        {error, {unloaded, [dichroic_handler_keeper]}} = test_node:start_attached(Node),
        undefined = call(Peer, erlang, whereis, [dichroic_attach]),
        {ok, started} = attach(Node),
        [] = call(Peer, detach, []),
        nothing_left(Peer)
    end).

two_versions_of_the_handler_are_kept_while_a_process_is_inside(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer} = Node) ->
        {ok, started} = attach(Node),
        ok = call(Peer, attached, []),
        Pid = call(Peer, suspended_inside, [?E]),
        [_ | _] = call(Peer, detach, []),
        {ok, started} = attach(Node),
        ok = call(Peer, attached, []),
        true = call(Peer, erlang, check_process_code, [Pid, dichroic_handler]),
        [_ | _] = call(Peer, detach, []),
        {emitted, ok} = call(Peer, resume, [Pid]),
        nothing_left(Peer)
    end).

emitters_suspended_anywhere_never_find_the_handler_unloaded(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer} = Node) ->
        ok = call(Peer, load, [10, ?E]),
        [begin
             {ok, started} = attach(Node),
             ok = call(Peer, attached, []),
             ok = call(Peer, freeze, []),
             _ = call(Peer, detach, []),
             ok = call(Peer, thaw, []),
             nothing_left(Peer)
         end || _ <- [1, 2]],
        true = call(Peer, unload, []) > 0
    end).

an_attached_relay_beside_the_applications_relay_changes_nothing_and_reports_it(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C} = Node) ->
        ok = call(Peer, application, set_env, [dichroic, socket, "/run/of/the/application"]),
        Before = lists:sort(call(Peer, application, get_all_env, [dichroic])),
        [{module, M} = call(Peer, code, ensure_loaded, [M]) || M <- test_node:relay_modules()],
        {error, installed} = test_node:start_attached(Node),
        Before = lists:sort(call(Peer, application, get_all_env, [dichroic])),
        undefined = call(Peer, erlang, whereis, [dichroic_attach]),
        ok = call(Peer, emit, [?E, #{k => <<"on">>}, 100]),
        counted(C, 100, [<<"on">>], {100, 0.0})
    end).

a_relay_that_cannot_start_leaves_the_environment_as_it_was(_) ->
    with(#{plan => plan(), attached => true}, fun(#{peer := Peer} = Node) ->
        ok = test_node:load_relay(Node),
        ok = call(Peer, application, set_env, [dichroic, socket, "/run/of/the/application"]),
        ok = call(Peer, take_name, [dichroic_tables]),
        {error, {shutdown, _}} = test_node:start_attached(Node),
        [{socket, "/run/of/the/application"}] = proplists:delete(early, call(Peer, application, get_all_env, [dichroic])),
        undefined = call(Peer, erlang, whereis, [dichroic_attach]),
        ok = call(Peer, application, unset_env, [dichroic, socket]),
        ok = call(Peer, kill_all, [[dichroic_tables]]),
        {ok, started} = attach(Node),
        [] = call(Peer, detach, []),
        nothing_left(Peer)
    end).
