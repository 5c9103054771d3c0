%% @doc A node without the relay, for tests of attaching, controlled by commands on standard input:
%%
%%   snapshot       prints everything that an attached relay could leave behind, one `snapshot Key Value' per line
%%   secrets        prints all inspectable state of the relay's processes and environment, on one line
%%   emit N         emits N requests from N processes and waits for them
%%   dynamic A.b    emits an event whose name is built at run time, fifty times a second
%%   dynamic A.b N  emits N such events, and prints how many
%%   load Module    loads a module that is on the code path
%%   query A.b N    emits N queries of the repository that emits as A.b
%%   hold           attaches a handler before the relay's; `held' then blocks a process in it, in the middle of an event
%%   watch          starts checking continuously whether the relay's handler can be called
%%   release        prints how often it could not, releases the held process, and prints its result
%%   go Rate        starts the demo's shop; `stop' stops its clients, prints its counts, and waits for `end'
%%   pause_load     suspends the next process that loads code for a visitor, and prints `loading paused'; `continue_load' ends that
%%   end            ends the node
-module(attach_node).

-export([main/0, hold/4]).

main() ->
    _ = [io_lib:format("~0tp", [Value]) || {_, Value} <- snapshot()],
    io:format("attach_node ready~n"),
    loop(none).

loop(Console) ->
    case string:lexemes(io:get_line(""), " \n") of
        ["snapshot"] ->
            [io:format("snapshot ~s ~0tp~n", [Key, Value]) || {Key, Value} <- snapshot()],
            io:format("snapshot end~n"),
            loop(Console);
        ["secrets"] ->
            io:format("secrets ~0tp~n", [secrets()]),
            loop(Console);
        ["emit", N] ->
            emit(list_to_integer(N)),
            loop(Console);
        ["dynamic", Name] ->
            Made = made(Name),
            spawn(fun Emit() -> telemetry:execute(Made, #{}, #{}), timer:sleep(20), Emit() end),
            loop(Console);
        ["dynamic", Name, N] ->
            Made = made(Name),
            _ = [telemetry:execute(Made, #{}, #{}) || _ <- lists:seq(1, list_to_integer(N))],
            io:format("emitted ~s ~s times~n", [Name, N]),
            loop(Console);
        ["load", Module] ->
            {module, _} = code:ensure_loaded(list_to_atom(Module)),
            loop(Console);
        ["query", Prefix, N] ->
            Event = [list_to_atom(Part) || Part <- string:lexemes(Prefix, ".")] ++ [query],
            Time = erlang:convert_time_unit(5, millisecond, native),
            _ = [telemetry:execute(Event, #{total_time => Time}, #{source => <<"books">>}) || _ <- lists:seq(1, list_to_integer(N))],
            loop(Console);
        ["hold"] ->
            Event = [phoenix, endpoint, stop],
            ok = telemetry:attach(hold, Event, fun ?MODULE:hold/4, none),
            loop(Console);
        ["held"] ->
            Self = self(),
            spawn(fun() ->
                true = register(held, self()),
                Self ! {ended, telemetry:execute([phoenix, endpoint, stop], #{duration => 1}, #{hold => Self})}
            end),
            receive holding -> io:format("held~n") end,
            loop(Console);
        ["watch"] ->
            _ = spawn(fun() -> true = register(watch, self()), watch(0) end),
            io:format("watching~n"),
            loop(Console);
        ["release"] ->
            watch ! {enough, self()},
            receive {gone, Times} -> io:format("gone ~b times~n", [Times]) end,
            held ! go,
            receive {ended, How} -> io:format("held process: ~p~n", [How]) end,
            loop(Console);
        ["pause_load"] ->
            true = register(load_pauser, spawn(fun pause_load/0)),
            loop(Console);
        ["continue_load"] ->
            load_pauser ! continue,
            loop(Console);
        ["go", Rate] ->
            New = spawn_link(fun() -> console(none) end),
            spawn(fun() -> group_leader(New, self()), shop:main([list_to_atom(Rate)]) end),
            loop(New);
        ["stop"] ->
            Console ! stop,
            loop(Console);
        _ -> halt()
    end.

%% No module has the name as a literal.
made(Name) -> [list_to_atom(Part) || Part <- string:lexemes(Name, ".")].

hold(_, _, #{hold := To}, _) -> To ! holding, receive go -> ok end;
hold(_, _, _, _) -> ok.

watch(Gone) ->
    receive {enough, From} -> From ! {gone, Gone}
    after 0 ->
        case erlang:function_exported(dichroic_handler, handle, 4) andalso erlang:function_exported(dichroic_unload_guard, check, 3) of
            true -> watch(Gone);
            false -> watch(Gone + 1)
        end
    end.

%% Loading takes milliseconds after the call is traced: long enough to suspend the caller before anything is loaded.
pause_load() ->
    _ = process_flag(priority, max),
    1 = erlang:trace_pattern({code, atomic_load, 1}, true, []),
    1 = erlang:trace(whereis(rex), true, [call, set_on_spawn]),
    receive {trace, Caller, call, {code, atomic_load, _}} -> true = erlang:suspend_process(Caller) end,
    io:format("loading paused~n"),
    receive continue -> ok end,
    _ = erlang:trace(all, false, [all]),
    _ = erlang:trace_pattern({code, atomic_load, 1}, false, []),
    true = erlang:resume_process(Caller).

emit(N) ->
    Conn = #{'__struct__' => 'Elixir.Plug.Conn', method => <<"GET">>, status => 200},
    Emitters = [spawn_monitor(fun() ->
        telemetry:execute([phoenix, router_dispatch, start], #{system_time => 1}, #{conn => Conn, route => <<"/emitted">>}),
        telemetry:execute([phoenix, endpoint, stop], #{duration => 1000000}, #{conn => Conn})
    end) || _ <- lists:seq(1, N)],
    Ends = [receive {'DOWN', Ref, process, Pid, Why} -> Why end || {Pid, Ref} <- Emitters],
    io:format("emitted ~b of which ~b ended normally~n", [N, length([normal || normal <- Ends])]).

%% The shop's input and output. It reads "stop" on the command; after it has printed its counts it is blocked.
console(Reader) ->
    receive
        stop ->
            {From, As} = Reader,
            From ! {io_reply, As, "stop\n"},
            console(none);
        {io_request, From, As, Request} when element(1, Request) =:= get_line -> console({From, As});
        {io_request, From, As, Request} ->
            Text = text(Request),
            io:put_chars(user, Text),
            case lists:prefix("truth", Text) of
                true -> ok;
                false -> From ! {io_reply, As, ok}
            end,
            console(Reader)
    end.

text({put_chars, _, M, F, A}) -> unicode:characters_to_list(apply(M, F, A));
text({put_chars, _, Chars}) -> unicode:characters_to_list(Chars);
text(_) -> "".

snapshot() ->
    Loaded = [M || {M, _} <- code:all_loaded()],
    [{handlers, lists:sort([{Id, E} || #{id := Id, event_name := E} <- telemetry:list_handlers([])])},
     {modules, lists:sort(Loaded)},
     {old_code, [M || M <- Loaded, erlang:check_old_code(M)]},
     {ours, [M || M <- [dichroic_attach, dichroic_visit, dichroic_handler, dichroic_sup], erlang:check_old_code(M)]},
     {processes, lists:sort([process_name(P) || P <- processes()])},
     {ports, lists:sort([Name || P <- erlang:ports(), {name, Name} <- [erlang:port_info(P, name)]])},
     {tables, lists:sort([ets:info(T, name) || T <- ets:all()])},
     {terms, {persistent_term:info(), lists:sort([K || {K, _} <- persistent_term:get()])}},
     {environment, application:get_all_env(dichroic)},
     {applications, lists:sort([A || {A, _, _} <- application:loaded_applications()])},
     {loggers, lists:sort(logger:get_handler_ids())},
     {wall_time, [scheduler || erlang:statistics(scheduler_wall_time) =/= undefined]},
     {traced, [erlang:trace_info(new, flags), erlang:trace_info({telemetry, execute, 3}, traced) |
               [F || P <- processes(), {flags, [_ | _]} = F <- [erlang:trace_info(P, flags)]]]}].

secrets() ->
    Asked = [dictionary, messages, backtrace, registered_name, current_stacktrace],
    [catch dichroic_attach:info(), application:get_all_env(dichroic), persistent_term:get(),
     [catch sys:get_status(P) || P <- [dichroic_connection, dichroic_sup]], [process_info(P, Asked) || P <- processes()]].

process_name(P) ->
    case process_info(P, [registered_name, initial_call, dictionary]) of
        [{_, Name}, _, _] when is_atom(Name) -> Name;
        [_, {_, Call}, {_, Dictionary}] -> proplists:get_value('$initial_call', Dictionary, Call);
        undefined -> gone
    end.
