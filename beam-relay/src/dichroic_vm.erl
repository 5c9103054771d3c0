%% @doc Measurements of the VM as events with measurements and metadata, in the form of telemetry_poller.
%%
%% Called by dichroic_vm_poller, in its process, every few seconds and only for events of the plan. Totals since boot are given
%% as the increase since the previous reading, so that a sum starts at zero with the relay. Every reading is bounded in time
%% and size, whatever the number of processes, tables or peers of the node.
-module(dichroic_vm).

-export([events/0, polled/1, start/1, sample/2, stop/2]).
-export_type([state/0]).

-type state() :: none | term().
-type emitted() :: {Measurements :: #{atom() => number()}, Metadata :: #{atom() => atom() | binary() | integer()}}.

-define(MAX_SCHEDULERS, 128).
-define(MAX_PEERS, 64).
-define(MAX_APPLICATIONS, 64).
%% Samples for which the list of applications is reused: five minutes.
-define(APPLICATIONS_CACHED, 60).

-spec events() -> [[atom()]].
events() ->
    [[vm, memory], [vm, total_run_queue_lengths], [vm, system_counts], [vm, persistent_term],
     [dichroic, vm, work], [dichroic, vm, uptime], [dichroic, vm, scheduler], [dichroic, vm, run_queue],
     [dichroic, vm, tasks], [dichroic, vm, ets], [dichroic, vm, distribution], [dichroic, vm, info], [dichroic, vm, system],
     [dichroic, vm, application]].

%% @doc Whether telemetry_poller emits the event too. Its older versions do not emit persistent terms.
-spec polled([atom()]) -> boolean().
polled([vm, persistent_term]) -> erlang:function_exported(telemetry_poller_builtin, persistent_term, 0);
polled(Event) -> hd(Event) =:= vm.

%% @doc Called once before the first sample.
-spec start([atom()]) -> state().
start([dichroic, vm, scheduler]) ->
    %% The VM counts this flag by process: it is off again when every process that enabled it has disabled it or is dead.
    _ = erlang:system_flag(scheduler_wall_time, true),
    none;
start([dichroic, vm, distribution]) -> #{};
start(_) -> none.

%% @doc Called once after the last sample.
-spec stop([atom()], state()) -> ok.
stop([dichroic, vm, scheduler], _) ->
    _ = erlang:system_flag(scheduler_wall_time, false),
    ok;
stop(_, _) -> ok.

-spec sample([atom()], state()) -> {[emitted()], state()}.
sample([vm, memory], S) -> {[{maps:from_list(erlang:memory()), #{}}], S};
sample([vm, total_run_queue_lengths], S) ->
    Total = erlang:statistics(total_run_queue_lengths_all),
    Cpu = erlang:statistics(total_run_queue_lengths),
    {[{#{total => Total, cpu => Cpu, io => max(0, Total - Cpu)}, #{}}], S};
sample([vm, system_counts], S) ->
    {[{maps:from_list([{C, erlang:system_info(C)} || C <- [process_count, process_limit, atom_count, atom_limit,
                                                           port_count, port_limit]]), #{}}], S};
sample([vm, persistent_term], S) -> {[{maps:with([count, memory], persistent_term:info()), #{}}], S};
sample([dichroic, vm, work], Before) ->
    Now = work(),
    {[{rise(Now, Before), #{}}], Now};
sample([dichroic, vm, uptime], S) ->
    {[{#{uptime => erlang:monotonic_time() - erlang:system_info(start_time)}, #{}}], S};
sample([dichroic, vm, scheduler], Before) -> schedulers(Before);
sample([dichroic, vm, run_queue], S) -> {run_queues(), S};
sample([dichroic, vm, tasks], S) ->
    Normal = erlang:statistics(total_active_tasks),
    {[{#{normal => Normal, dirty => max(0, erlang:statistics(total_active_tasks_all) - Normal)}, #{}}], S};
sample([dichroic, vm, ets], S) ->
    {[{#{count => erlang:system_info(ets_count), limit => erlang:system_info(ets_limit)}, #{}}], S};
sample([dichroic, vm, distribution], Before) -> peers(Before);
sample([dichroic, vm, info], S) ->
    Versions = #{otp => list_to_binary(erlang:system_info(otp_release)), erts => list_to_binary(erlang:system_info(version)),
                 flavor => erlang:system_info(emu_flavor), schedulers => erlang:system_info(schedulers_online),
                 architecture => list_to_binary(erlang:system_info(system_architecture))},
    {[{#{value => 1}, Versions}], S};
sample([dichroic, vm, system], S) -> {[{system(), #{}}], S};
sample([dichroic, vm, application], {Left, Rows}) when Left > 0 -> {Rows, {Left - 1, Rows}};
sample([dichroic, vm, application], _) ->
    Rows = applications(),
    {Rows, {?APPLICATIONS_CACHED, Rows}}.

%%% Configuration of the VM. Counts of processors that the system does not report are left out.

system() ->
    Counts = [{C, erlang:system_info(C)}
              || C <- [schedulers, schedulers_online, dirty_cpu_schedulers, dirty_cpu_schedulers_online, dirty_io_schedulers,
                       logical_processors, logical_processors_online, logical_processors_available, thread_pool_size]],
    Flags = [{F, bit(erlang:system_info(I))} || {F, I} <- [{smp, smp_support}, {threads, threads}, {time_correction, time_correction}]],
    maps:filter(fun(_, V) -> is_integer(V) end,
                maps:from_list([{otp_release, release()}, {word_size, erlang:system_info(wordsize)},
                                {jit, bit(erlang:system_info(emu_flavor) =:= jit)} | Counts ++ Flags])).

bit(true) -> 1;
bit(_) -> 0.

release() -> try list_to_integer(erlang:system_info(otp_release)) catch error:badarg -> unknown end.

%%% The main application and its dependencies

applications() ->
    case dichroic_identity:main() of
        {ok, Main} ->
            Needed = case application:get_key(Main, applications) of {ok, As} -> lists:sublist(As, ?MAX_APPLICATIONS); undefined -> [] end,
            application(Main, primary) ++ lists:append([application(A, dependency) || A <- Needed]);
        none -> []
    end.

application(App, Kind) ->
    try
        {ok, Vsn} = application:get_key(App, vsn),
        {ok, Modules} = application:get_key(App, modules),
        Version = <<_/binary>> = unicode:characters_to_binary(Vsn),
        [{#{value => 1}, #{kind => Kind, name => App, version => Version, modules => length(Modules)}}]
    catch error:_ -> []
    end.

%%% Totals since boot

work() ->
    {Collections, Words, _} = erlang:statistics(garbage_collection),
    {Reductions, _} = erlang:statistics(reductions),
    {Switches, _} = erlang:statistics(context_switches),
    {{input, In}, {output, Out}} = erlang:statistics(io),
    #{gc_count => Collections, gc_reclaimed => Words * erlang:system_info(wordsize), reductions => Reductions,
      context_switches => Switches, io_input => In, io_output => Out}.

rise(Now, none) -> maps:map(fun(_, _) -> 0 end, Now);
rise(Now, Before) -> maps:map(fun(K, V) -> max(0, V - maps:get(K, Before, V)) end, Now).

%%% Schedulers: normal ones individually, dirty ones as two pools

schedulers(Before) ->
    case erlang:statistics(scheduler_wall_time_all) of
        undefined -> {[], none};
        Times ->
            Now = pools(Times),
            {[{#{utilization => (A - A0) / (T - T0)}, Pool}
              || is_map(Before), {Pool, {A, T}} <- maps:to_list(Now), #{Pool := {A0, T0}} <- [Before], T > T0, A >= A0], Now}
    end.

pools(Times) ->
    lists:foldl(
        fun({Id, Active, Total}, Acc) ->
            maps:update_with(pool(Id), fun({A, T}) -> {A + Active, T + Total} end, {Active, Total}, Acc)
        end, #{}, Times).

pool(Id) -> pool(Id, erlang:system_info(schedulers), erlang:system_info(dirty_cpu_schedulers)).

pool(Id, Normal, _) when Id =< Normal, Id =< ?MAX_SCHEDULERS -> #{type => normal, scheduler => Id};
pool(Id, Normal, _) when Id =< Normal -> #{type => normal};
pool(Id, Normal, Cpu) when Id =< Normal + Cpu -> #{type => dirty_cpu};
pool(_, _, _) -> #{type => dirty_io}.

run_queues() ->
    Normal = erlang:system_info(schedulers),
    Lengths = erlang:statistics(run_queue_lengths_all),
    {Own, Dirty} = lists:split(min(Normal, length(Lengths)), Lengths),
    {One, More} = lists:split(min(?MAX_SCHEDULERS, length(Own)), Own),
    [{#{length => L}, #{type => normal, scheduler => Id}} || {Id, L} <- lists:zip(lists:seq(1, length(One)), One)]
    ++ [{#{length => lists:sum(More)}, #{type => normal}} || More =/= []]
    ++ [{#{length => L}, #{type => Type}} || {Type, L} <- zip([dirty_cpu, dirty_io], Dirty)].

zip([A | As], [B | Bs]) -> [{A, B} | zip(As, Bs)];
zip(_, _) -> [].

%%% Connections to other nodes: bytes queued, received and sent. A disconnected peer is emitted once with an empty queue. Hidden nodes
%%% (shells, tools, collectors) are left out: their names are generated for one connection, and each would remain a series.

peers(Before) ->
    Visible = nodes(),
    Cluster = [C || {Node, _} = C <- erlang:system_info(dist_ctrl), lists:member(Node, Visible)],
    Peers = [P || {Node, Controller} <- lists:sublist(Cluster, ?MAX_PEERS),
                  {ok, Reading} <- [controller(Controller)], P <- [{Node, {Controller, Reading}}]],
    Now = maps:from_list(Peers),
    Rows = [{(rise(maps:remove(queue, R), of_before(Node, Controller, Before)))#{queue => maps:get(queue, R)}, #{peer => Node}}
            || {Node, {Controller, R}} <- Peers],
    Disconnected = [{#{queue => 0, input => 0, output => 0}, #{peer => Node}} || Node <- maps:keys(Before), not is_map_key(Node, Now)],
    {Rows ++ Disconnected, Now}.

of_before(Node, Controller, Before) ->
    case Before of
        #{Node := {Controller, R}} -> R;
        _ -> none
    end.

%% A port is a socket; a process carries the connection over another transport, such as TLS.
controller(Port) when is_port(Port) ->
    try inet:getstat(Port, [send_pend, recv_oct, send_oct]) of
        {ok, Stats} ->
            Of = fun(S) -> proplists:get_value(S, Stats, 0) end,
            {ok, #{queue => Of(send_pend), input => Of(recv_oct), output => Of(send_oct)}};
        {error, _} -> disconnected
    catch _:_ -> disconnected
    end;
controller(Pid) when is_pid(Pid) ->
    case erlang:process_info(Pid, message_queue_len) of
        {message_queue_len, _} -> {ok, #{queue => 0, input => 0, output => 0}};
        undefined -> disconnected
    end;
controller(_) -> disconnected.
