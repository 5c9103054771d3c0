%% @doc Restarts of helpers, and of the processes beside them.
-module(dichroic_sup_tests).

-include_lib("eunit/include/eunit.hrl").

%% A fake connection that gives each VM poller a request that kills it.
killing(Asked) ->
    receive {'$gen_cast', vm_poller_ready} ->
        counters:add(Asked, 1, 1),
        gen_server:cast(dichroic_vm_poller, {set_events, nonsense})
    after 20000 -> exit(timeout)
    end,
    killing(Asked).

a_helper_killed_by_its_work_restarts_slowly_and_alone_test_() ->
    {timeout, 30, fun() ->
        Trapped = process_flag(trap_exit, true),
        #{level := Level} = logger:get_primary_config(),
        ok = logger:set_primary_config(level, none),
        Asked = counters:new(1, []),
        Killer = spawn_link(fun() -> true = register(dichroic_connection, self()), killing(Asked) end),
        support:wait(fun() -> is_pid(whereis(dichroic_connection)) end),
        {ok, Sup} = supervisor:start_link(dichroic_sup, helpers),
        Janitor = whereis(dichroic_handler_keeper),
        try
            support:wait(fun() -> counters:get(Asked, 1) >= 3 end),
            receive after 1000 -> ok end,
            %% After 0, 100, 300, 700, 1500 ms.
            ?assert(counters:get(Asked, 1) =< 5),
            ?assert(is_process_alive(Sup)),
            ?assertEqual(Janitor, whereis(dichroic_handler_keeper))
        after
            [begin unlink(P), exit(P, kill) end || P <- [Killer, Sup]],
            support:wait(fun() -> whereis(dichroic_handler_keeper) =:= undefined andalso whereis(dichroic_vm_poller) =:= undefined end),
            ok = logger:set_primary_config(level, Level),
            process_flag(trap_exit, Trapped)
        end
    end}.
