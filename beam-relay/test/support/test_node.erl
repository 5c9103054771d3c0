%% @doc A node for tests with a collector, and the functions that tests call in that node.
%%
%% with/2 starts both, runs the test and stops both. The relay is part of the node's application, or attached, and then its
%% modules are not on the node's code path. The functions under "In the node" are called there.
-module(test_node).

-export([with/2, call/3, call/4, counted/4, attach/1, load_relay/1, start_attached/1, relay_modules/0]).
-export([quiet/0, logged/0, load/2, unload/0, kill/1, kill_all/1, kill_together/1, attached/0, attached_again/1, terms/0, log_notices/2, spans/3, attach_failing/1,
         forget_logged/0, burst/3, miniature/2, emit/3, left/1, handlers/0, memory/0, attach_slow_handler/1, stopped/1, go/1, suspend/1, suspended_inside/1, resume/1,
         freeze/0, thaw/0, detach/0, start_callers/1, replies/0, suspended_caller/0, handled_message/1, take_name/1]).
-export([log/2, slow/4, failed/4, failing/4]).

-define(FILE_NAME, "(attached by dichroic)").

%% Options: plan; telemetry (stand_in, or the library of TELEMETRY_EBIN); attached (by the test); args (of the emulator)
with(Options, Test) ->
    Path = support:socket_path(),
    {C, _} = fake_collector:start(Path, #{plan => maps:get(plan, Options)}),
    Library = case Options of #{telemetry := stand_in} -> [{"TELEMETRY_EBIN", ""}]; _ -> [] end,
    Attached = is_map_key(attached, Options),
    {ok, Peer, _} = peer:start(#{connection => standard_io, wait_boot => 30000,
                                 env => [{"DICHROIC_SOCKET", Path}, {"ERL_CRASH_DUMP_SECONDS", "0"} | Library],
                                 args => maps:get(args, Options, []) ++ ["-pa" | [P || P <- code:get_path(), not (Attached andalso lists:suffix("dichroic/ebin", P))]]}),
    try
        ok = call(Peer, quiet, []),
        ok = call(Peer, support, telemetry, []),
        Node = #{collector => C, peer => Peer, path => Path},
        case Attached of
            true -> ok;
            false ->
                ok = call(Peer, application, start, [dichroic]),
                _ = fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end)
        end,
        Result = Test(Node),
        [] = call(Peer, logged, []),
        _ = is_process_alive(C) andalso begin #{errors := []} = fake_collector:state(C) end,
        Result
    after
        catch peer:stop(Peer),
        fake_collector:stop(C),
        file:delete(Path)
    end.

call(Peer, Function, Args) -> call(Peer, ?MODULE, Function, Args).
call(Peer, Module, Function, Args) -> peer:call(Peer, Module, Function, Args, 60000).

%% Waits until the collector has this total.
counted(C, Key, Labels, Expected) ->
    try fake_collector:wait(C, fun(S) -> fake_collector:total(S, Key, Labels) =:= Expected end, 20000)
    catch error:{wait_timeout, S} -> error({total, Key, Labels, Expected, fake_collector:total(S, Key, Labels)})
    end.

%% As `dichroic attach' does: purges old code, loads all modules at once, starts the keeper.
attach(Node) ->
    ok = load_relay(Node),
    start_attached(Node).

load_relay(#{peer := Peer}) ->
    Modules = relay_modules(),
    Load = [{M, ?FILE_NAME, Code} || M <- Modules, {_, Code, _} <- [code:get_object_code(M)]],
    [] = [M || M <- Modules, not call(Peer, code, soft_purge, [M])],
    ok = call(Peer, code, atomic_load, [Load]),
    _ = [call(Peer, code, soft_purge, [M]) || M <- Modules],
    ok.

start_attached(#{peer := Peer, path := Path}) ->
    Options = #{guardian => 'guardian@nowhere', socket => Path, modules => relay_modules(), vsn => <<"0">>},
    call(Peer, dichroic_attach, start, [Options]).

relay_modules() ->
    Ebin = filename:dirname(code:which(dichroic_handler)),
    [list_to_atom(filename:basename(F, ".beam")) || F <- filelib:wildcard(filename:join(Ebin, "dichroic*.beam"))]
        -- [dichroic_app].

%%% In the node

%% Collects log messages of the node, and failed handlers reported by telemetry.
quiet() ->
    Self = self(),
    _ = spawn(fun() ->
        ?MODULE = ets:new(?MODULE, [named_table, public, duplicate_bag]),
        Self ! ready,
        receive never -> ok end
    end),
    receive ready -> ok end,
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => error}),
    logger:remove_handler(default).

%% Reports of the relay's killed processes and their supervisors are expected.
log(#{meta := #{domain := [otp, sasl]}}, _) -> ok;
log(#{msg := {report, #{label := {supervisor, _}}}}, _) -> ok;
log(#{msg := {report, #{label := {_, terminate}, name := Name}}} = Event, _) ->
    lists:prefix("dichroic", atom_to_list(Name)) orelse ets:insert(?MODULE, {logged, Event});
log(#{msg := Message}, _) -> ets:insert(?MODULE, {logged, Message}).

failed(_, _, Metadata, _) -> ets:insert(?MODULE, {failed, Metadata}).

logged() -> ets:lookup(?MODULE, logged) ++ ets:lookup(?MODULE, failed).

handlers() -> lists:usort(support:handlers([])).

%% Starts processes that emit until unload/0.
load(Processes, Event) ->
    _ = spawn(fun() ->
        true = register(test_load, self()),
        Pids = [spawn_monitor(fun() -> emitting(Event, N, 0) end) || N <- lists:seq(1, Processes)],
        ets:insert(?MODULE, [{emitter, P} || {P, _} <- Pids]),
        receive {stop, From} ->
            From ! {unloaded, lists:sum([begin
                P ! {stop, self()},
                receive {P, Events} -> Events; {'DOWN', Ref, _, _, Reason} -> exit({emitter_died, Reason}) end
            end || {P, Ref} <- Pids])}
        end
    end),
    support:wait(fun() -> is_pid(whereis(test_load)) end),
    ok.

emitting(Event, N, Events) ->
    receive {stop, From} -> From ! {self(), Events}
    after 0 ->
        ok = telemetry:execute(Event, #{v => 1}, #{k => N rem 7}),
        emitting(Event, N, Events + 1)
    end.

%% The number of events; exits if one of the processes was disturbed.
unload() ->
    Ref = monitor(process, test_load),
    test_load ! {stop, self()},
    receive
        {unloaded, Events} -> demonitor(Ref, [flush]), Events;
        {'DOWN', Ref, _, _, Reason} -> error(Reason)
    end.

kill(Name) ->
    Pid = whereis(Name),
    exit(Pid, kill),
    support:wait(fun() -> P = whereis(Name), is_pid(P) andalso P =/= Pid end),
    ok.

kill_all(Names) ->
    _ = [exit(P, kill) || Name <- Names, P <- [whereis(Name)]],
    ok.

take_name(Name) ->
    _ = spawn(fun() -> true = register(Name, self()), receive never -> ok end end),
    support:wait(fun() -> is_pid(whereis(Name)) end),
    ok.

kill_together(Names) ->
    Pids = [whereis(Name) || Name <- Names],
    _ = [exit(P, kill) || P <- Pids],
    support:wait(fun() ->
        Now = [whereis(Name) || Name <- Names],
        lists:all(fun is_pid/1, Now) andalso Now -- Pids =:= Now
    end),
    ok.

%% Persistent terms of the relay.
terms() -> [K || {K, _} <- persistent_term:get(), string:prefix(io_lib:format("~p", [K]), "dichroic") =/= nomatch orelse
                                                  string:prefix(io_lib:format("~p", [K]), "{dichroic") =/= nomatch].

log_notices(Domain, Times) ->
    _ = [logger:notice("x", #{domain => [binary_to_atom(Domain)]}) || _ <- lists:seq(1, Times)],
    ok.

%% The handler keeper has attached handlers, not only adopted ones.
attached() ->
    support:wait(fun() -> map_size(element(4, sys:get_state(dichroic_handler_keeper))) > 0 end),
    ok.

emit(Event, Metadata, Times) ->
    _ = [ok = telemetry:execute(Event, #{v => 1}, Metadata) || _ <- lists:seq(1, Times)],
    ok.

%% Spans that end normally, and spans that fail.
spans(Event, Ok, Failing) ->
    _ = [done = telemetry:span(Event, #{k => <<"s">>}, fun() -> {done, #{k => <<"s">>}} end) || _ <- lists:seq(1, Ok)],
    _ = [try telemetry:span(Event, #{k => <<"s">>}, fun() -> error(failed) end) catch error:failed -> ok end
         || _ <- lists:seq(1, Failing)],
    ok.

attach_failing(Event) -> telemetry:attach(failing, Event, fun ?MODULE:failing/4, none).

failing(_, _, _, _) -> error(failing).

forget_logged() -> ets:delete(?MODULE, logged).

%% Attached in telemetry, not only in the state of the handler keeper.
attached_again(Event) ->
    support:wait(fun() -> support:handlers(Event) =/= [] end),
    attached().

burst(Event, Processes, Each) ->
    Pids = [spawn_monitor(fun() ->
        [ok = telemetry:execute(Event, #{v => V}, #{k => N rem 4}) || V <- lists:seq(1, Each)]
    end) || N <- lists:seq(1, Processes)],
    _ = [receive {'DOWN', Ref, _, _, Reason} -> normal = Reason end || {_, Ref} <- Pids],
    ok.

%% Unbounded label sets; every event has a valid measurement, and some have an invalid one.
miniature(Event, Times) ->
    _ = [ok = telemetry:execute(Event, #{v => 1, w => self()}, #{k => N}) || N <- lists:seq(1, Times)],
    ok.

%% Memory of the VM after garbage collection; memory freed by another scheduler is returned a little later.
memory() -> memory(none, 100).

memory(Before, Tries) ->
    _ = [garbage_collect(P) || P <- processes()],
    case erlang:memory(total) of
        Total when Tries > 0, (Before =:= none orelse abs(Total - Before) > 16384) ->
            receive after 20 -> memory(Total, Tries - 1) end;
        Total -> Total
    end.

%% What is left in a node after the relay was detached; old code counts only if a process uses it.
left(Modules) ->
    #{loaded => [M || M <- Modules, erlang:module_loaded(M) orelse erlang:check_old_code(M)],
      processes => [N || N <- registered(), lists:prefix("dichroic", atom_to_list(N))],
      tables => [T || T <- ets:all(), N <- [ets:info(T, name)], is_atom(N), lists:prefix("dichroic", atom_to_list(N))],
      terms => [K || {K, _} <- persistent_term:get(), K =:= dichroic_handler orelse K =:= dichroic_atoms],
      env => proplists:delete(early, application:get_all_env(dichroic)),
      logger => [H || H <- logger:get_handler_ids(), H =:= dichroic],
      handlers => handlers()}.

%% A process in the middle of an event: it waits in an earlier handler until go/1.
attach_slow_handler(Event) ->
    ok = telemetry:attach(slow, Event, fun ?MODULE:slow/4, none),
    ok = telemetry:attach(slow_failed, [telemetry, handler, failure], fun ?MODULE:failed/4, none),
    ok.

slow(_, _, #{stop := To}, _) -> To ! {stopped, self()}, receive go -> ok end;
slow(_, _, _, _) -> ok.

go(Pid) ->
    Ref = monitor(process, Pid),
    Pid ! go,
    receive {'DOWN', Ref, _, _, Reason} -> Reason end.

%% A process that waits in that handler.
stopped(Event) ->
    Self = self(),
    Pid = spawn(fun() -> exit({emitted, telemetry:execute(Event, #{v => 1}, #{stop => Self})}) end),
    receive {stopped, Pid} -> Pid end.

%% A process that is suspended in that handler.
suspend(Event) ->
    Self = self(),
    %% The suspending process must stay alive.
    _ = spawn(fun() ->
        Pid = spawn(fun() -> exit({emitted, telemetry:execute(Event, #{v => 1}, #{stop => Self})}) end),
        receive after 0 -> ok end,
        true = register(suspender, self()),
        Self ! {suspended, Pid},
        suspender(Pid)
    end),
    Pid = receive {suspended, P} -> P end,
    receive {stopped, Pid} -> ok end,
    suspender ! suspend,
    support:wait(fun() -> {status, suspended} =:= process_info(Pid, status) end),
    Pid.

%% A process that is suspended in the relay's handler.
suspended_inside(Event) ->
    Self = self(),
    _ = spawn(fun() ->
        Pid = spawn(fun() -> exit({emitted, emit_until_go(Event)}) end),
        true = register(suspender, self()),
        inside(Pid),
        Self ! {suspended, Pid},
        suspender(Pid)
    end),
    receive {suspended, P} -> P end.

emit_until_go(Event) ->
    ok = telemetry:execute(Event, #{v => 1}, #{k => <<"inside">>}),
    receive go -> ok after 0 -> emit_until_go(Event) end.

%% In the handler and in no other module of the relay, which could not be loaded twice.
inside(Pid) ->
    erlang:suspend_process(Pid),
    {current_stacktrace, Stack} = process_info(Pid, current_stacktrace),
    case lists:usort([M || {M, _, _, _} <- Stack, lists:prefix("dichroic", atom_to_list(M))]) =:= [dichroic_handler] of
        true -> ok;
        false ->
            erlang:resume_process(Pid),
            receive after 1 -> inside(Pid) end
    end.

suspender(Pid) ->
    receive
        suspend -> erlang:suspend_process(Pid), suspender(Pid);
        resume -> erlang:resume_process(Pid)
    end.

resume(Pid) ->
    suspender ! resume,
    go(Pid).

%% Suspends the emitters of load/2, wherever they are, until thaw/0.
freeze() ->
    Self = self(),
    _ = spawn(fun() ->
        true = register(freezer, self()),
        Pids = [P || {emitter, P} <- ets:lookup(?MODULE, emitter)],
        _ = [true = erlang:suspend_process(P) || P <- Pids],
        Self ! frozen,
        receive {thaw, From} ->
            _ = [true = erlang:resume_process(P) || P <- Pids],
            From ! thawed
        end
    end),
    receive frozen -> ok end.

thaw() ->
    freezer ! {thaw, self()},
    receive thawed -> ok end.

%% Processes that call info/0 without a pause until the relay has no state to report; replies/0 collects their last results.
start_callers(N) ->
    Self = self(),
    _ = spawn(fun() ->
        true = register(callers, self()),
        Pids = [spawn_monitor(fun() -> exit({replied, call_info()}) end) || _ <- lists:seq(1, N)],
        Self ! calling,
        Replies = [receive {'DOWN', Ref, process, P, Reason} -> case Reason of {replied, Reply} -> Reply; _ -> Reason end end || {P, Ref} <- Pids],
        receive {replies, From} -> From ! {replies, Replies} end
    end),
    receive calling -> ok end.

%% After the relay is unloaded the call is undefined.
call_info() ->
    try dichroic_attach:info() of
        #{} -> call_info();
        Error -> Error
    catch error:undef -> {error, not_attached}
    end.

replies() ->
    callers ! {replies, self()},
    receive {replies, Replies} -> Replies end.

%% A process that is suspended while it waits for the keeper's reply, so that the keeper cannot finish detaching. Until resume/1.
suspended_caller() ->
    Self = self(),
    _ = spawn(fun() ->
        Keeper = whereis(dichroic_attach),
        true = erlang:suspend_process(Keeper),
        Pid = spawn(fun() -> exit({replied, call_info()}) end),
        support:wait(fun() -> {current_function, {dichroic_attach, await_reply, 3}} =:= process_info(Pid, current_function) end),
        true = erlang:suspend_process(Pid),
        true = erlang:resume_process(Keeper),
        true = register(suspender, self()),
        Self ! {suspended, Pid},
        suspender(Pid)
    end),
    receive {suspended, P} -> P end.

%% Waits until the process has handled its next message, or has ended because of it. That it runs is not enough: it also runs to
%% answer process_info/2.
handled_message(Pid) ->
    1 = erlang:trace(Pid, true, ['receive', running]),
    receive {trace, Pid, 'receive', _} -> ok after 10000 -> error(no_message) end,
    receive
        {trace, Pid, out, _} -> ok;
        {trace, Pid, out_exited, _} -> ok
    after 10000 -> error(not_handled)
    end.

%% The reply to `dichroic detach'.
detach() ->
    Tag = make_ref(),
    dichroic_attach ! {detach, self(), Tag},
    receive {Tag, {detached, Kept}} -> Kept after 30000 -> timeout end.
