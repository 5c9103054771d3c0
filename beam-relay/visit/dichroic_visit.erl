%% @doc Finds the telemetry events that this node can emit and, on request, those that it does emit, and removes itself.
%%
%% Loaded into a node over distribution and called once by a collector. run/1 reads the code of the node's modules: those that
%% call `telemetry:execute' or `telemetry:span' name their events, see dichroic_visit_code. With `live_ms' it also attaches one
%% handler that only counts, in memory of fixed size and for a limited time, and a trace that sends each emitted name about once:
%% names that no loaded code has are counted from then on. The tracer has a limited heap, so that the VM ends it and the trace
%% with it if it cannot keep up. The result is a message to the caller if it is still connected. When the worker has ended, for any
%% reason, the supervising process detaches what is left and unloads this module.
-module(dichroic_visit).

-export([run/1, count/4, clean_up/1]).
-export_type([options/0]).

-define(HANDLER, dichroic_visit).
-define(MAX_EVENTS, 4000).
-define(MAX_HANDLERS, 1000).
-define(MAX_LIVE_MS, 600000).
-define(MAX_LENGTH, 10).
-define(MAX_NOT_LOADED, 20000).
-define(MAX_HEAP_WORDS, 33554432).
-define(TRACER, dichroic_visit_tracer).
-define(MAX_SEEN, 500).
-define(POLL_MS, 100).
-define(MAX_TRACED, 20000).
-define(TRACER_HEAP_WORDS, 1048576).
%% The file name that the collector gives to modules it loads.
-define(ATTACHED, "(attached by dichroic)").
-define(TRACED, {telemetry, execute, 3}).
-define(GRACE_MS, 200).
-define(PURGE_TRIES, 100).
-define(PURGE_MS, 50).
%% Modules of OTP that a node in interactive mode may load only for this module.
-define(OTP, [beam_lib, io_lib_pretty, erl_scan, string, unicode_util, ordsets]).

%% `also' are dotted names of further events that the node may emit.
-type options() :: #{guardian := node(), answer := {pid(), term()}, live_ms := non_neg_integer(), also := [binary()]}.

-type event() :: [atom()].

%% @doc Starts a discovery; `busy' if one is running. The registered name is that of the supervising process.
-spec run(options()) -> started | busy.
run(#{answer := Answer} = Options) ->
    Loaded = code:all_loaded(),
    Pid = spawn(fun() -> receive registered -> supervise(Answer, Options, Loaded) end end),
    try register(?MODULE, Pid) of
        true ->
            Pid ! registered,
            started
    catch error:badarg ->
        exit(Pid, kill),
        busy
    end.

work(#{guardian := Guardian, live_ms := Ms, also := Also}, Loaded) ->
    _ = process_flag(max_heap_size, #{size => ?MAX_HEAP_WORDS, kill => true, error_logger => false}),
    _ = process_flag(priority, low),
    {Found, Unread} = scan(Loaded),
    Ecto = ecto(),
    {Ours, Handlers} = lists:partition(fun({Id, _, _}) -> is_ours(Id) end, handlers()),
    Applications = application:loaded_applications(),
    Handled = lists:usort(Ecto ++ [dotted(E) || {_, E, _} <- Handlers]),
    Apps = [atom_to_binary(A) || {A, _, _} <- Applications],
    Named = maps:from_list([{join(Name), {likely(Name, How, Apps, Handled), Modules}} || {Name, {How, Modules}} <- maps:to_list(Found)]),
    Events = lists:sublist(lists:usort(maps:keys(Named) ++ Handled), ?MAX_EVENTS),
    Known = lists:sublist(lists:usort(existing(Events ++ Also) ++ [E || {_, E, _} <- Ours ++ Handlers]), ?MAX_EVENTS),
    _ = process_flag(priority, normal),
    #{node => node(), otp => list_to_binary(erlang:system_info(otp_release)),
      telemetry => version(telemetry), modules => length(Loaded), unread => Unread,
      truncated => map_size(Named) > ?MAX_EVENTS,
      applications => [{atom_to_binary(A), iolist_to_binary(V)} || {A, _, V} <- Applications],
      events => [{E, Likely, [atom_to_binary(M) || M <- lists:sublist(Modules, 8)]}
                 || E <- Events, {Likely, Modules} <- [maps:get(E, Named, {true, []})]],
      ecto => Ecto, relay => length(Ours), subscribed => lists:usort([dotted(E) || {_, E, _} <- Ours]),
      handlers => [{shown(Id), dotted(E), shown(F)} || {Id, E, F} <- lists:sublist(Handlers, ?MAX_HANDLERS)],
      live => live(min(Ms, ?MAX_LIVE_MS), Known, Guardian)}.

version(App) ->
    case application:get_key(App, vsn) of
        {ok, Vsn} -> iolist_to_binary(Vsn);
        undefined -> case erlang:module_loaded(App) of true -> <<"unknown">>; false -> <<>> end
    end.

dotted(Event) -> iolist_to_binary(lists:join($., [atom_to_binary(A) || A <- Event])).

%% Any term as short text.
shown(Term) ->
    case unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 120}])) of
        Text when is_binary(Text) -> Text;
        _ -> <<"?">>
    end.

%% A name without existing atoms was never emitted.
existing(Names) ->
    lists:flatmap(fun(Name) ->
        try [[binary_to_existing_atom(Part) || Part <- binary:split(Name, <<".">>, [global])]]
        catch error:badarg -> []
        end
    end, Names).

%%% Reading modules

%% Certain and guessed names. `Unread' counts modules without a readable file.
scan(Loaded) ->
    Known = maps:from_list(Loaded),
    {Names, Unread} = lists:foldl(fun({Module, File}, Acc) -> scan(Module, File, Acc) end, {#{}, 0}, Loaded),
    {Later, _} = lists:foldl(fun({Module, File}, Acc) -> scan(Module, File, Acc) end, {Names, 0}, not_loaded(Known)),
    {Later, Unread}.

scan(Module, File, {Names, Unread}) ->
    case read(Module, File) of
        none -> {Names, Unread};
        unread -> {Names, Unread + 1};
        #{certain := Certain, guessed := Guessed, calls := Calls} ->
            Guesses = lists:usort(lists:flatmap(fun(L) -> as_events(L, Calls) end, Guessed)) -- Certain,
            {note(Module, guessed, Guesses, note(Module, certain, Certain, Names)), Unread}
    end.

note(Module, How, New, Names) ->
    lists:foldl(fun(Name, Acc) ->
        maps:update_with(Name, fun({Was, Ms}) -> {min(Was, How), [Module | Ms]} end, {How, [Module]}, Acc)
    end, Names, New).

%% Reads files in this process, to keep the code server free.
read(?MODULE, _) -> none;
read(telemetry, _) -> none;
read(_, preloaded) -> none;
%% An attached relay.
read(_, ?ATTACHED) -> none;
read(_, [_ | _] = File) ->
    case dichroic_visit_code:read(File) of
        unread -> from_archive(File);
        Read -> Read
    end;
read(_, _) -> unread.

from_archive(File) ->
    case erl_prim_loader:get_file(File) of
        {ok, Beam, _} -> dichroic_visit_code:read(Beam);
        error -> unread
    end.

%% Modules of running applications that a node in interactive mode has not loaded yet.
not_loaded(Known) ->
    Running = [App || {App, _, _} <- application:which_applications()],
    lists:sublist([{M, filename:join(Ebin, atom_to_list(M) ++ ".beam")} || App <- Running, {ok, Modules} <- [application:get_key(App, modules)],
                   Ebin <- ebin(App), M <- Modules, not is_map_key(M, Known)], ?MAX_NOT_LOADED).

ebin(App) ->
    case code:lib_dir(App) of
        {error, _} -> [];
        Dir -> [filename:join(Dir, "ebin")]
    end.

%% Prefixes of spans, and whole names.
as_events(L, Calls) ->
    case {ends_as_spans_do(L), Calls} of
        {false, [span]} -> span(L);
        {false, [execute, span]} -> [L | span(L)];
        {_, [span]} -> [];
        _ -> [L]
    end.

span(Prefix) -> [Prefix ++ [Last] || Last <- [<<"start">>, <<"stop">>, <<"exception">>]].

ends_as_spans_do(Name) -> lists:member(lists:last(Name), [<<"start">>, <<"stop">>, <<"exception">>]).

%% A guess is likely if it starts with the name of an application; other lists of atoms are mostly not events.
likely(_, certain, _, _) -> true;
likely([<<"vm">> | _], _, _, _) -> true;
likely([First | _] = Name, guessed, Applications, Handled) ->
    lists:member(First, Applications) orelse lists:member(join(Name), Handled).

join(Name) -> iolist_to_binary(lists:join($., Name)).

%%% Libraries that list their events

%% The events of all running repositories.
ecto() ->
    try
        Repos = apply('Elixir.Ecto.Repo', all_running, []),
        lists:usort([dotted(Prefix ++ [query]) || Repo <- Repos, is_atom(Repo), Prefix <- prefix(Repo)])
    catch _:_ -> []
    end.

%% The prefix of a repository's event from the adapter's metadata, else from its configuration.
prefix(Repo) ->
    try apply('Elixir.Ecto.Adapter', lookup_meta, [Repo]) of
        #{telemetry := {_, _, [_, _ | _] = Event}} -> [lists:droplast(Event)];
        _ -> configured(Repo)
    catch _:_ -> configured(Repo)
    end.

configured(Repo) ->
    try lists:keyfind(telemetry_prefix, 1, apply(Repo, config, [])) of
        {_, [_ | _] = Prefix} -> [Prefix];
        _ -> []
    catch _:_ -> []
    end.

%% Without the configurations of handlers, which may be large or secret.
handlers() ->
    try [{Id, E, F} || #{id := Id, event_name := E, function := F} <- telemetry:list_handlers([])]
    catch _:_ -> []
    end.

%% Handlers of a relay are not handlers of the application.
is_ours({dichroic, _}) -> true;
is_ours(_) -> false.

%%% Listening

live(0, _, _) -> none;
live(Ms, Events, Guardian) ->
    Numbered = maps:from_list(lists:zip(Events, lists:seq(1, length(Events)))),
    Counts = counters:new(length(Events) + ?MAX_SEEN, [write_concurrency]),
    persistent_term:put(?HANDLER, {Counts, Numbered}),
    Tracer = spawn(fun trace/0),
    {Begun, Traced} = try telemetry:attach_many(?HANDLER, Events, fun ?MODULE:count/4, none) of
        ok ->
            %% The time starts when handlers and trace are active, which can take long on a busy node; then the tracer answers.
            _ = seen(Tracer, seen_so_far),
            Now = now_us(),
            {Now, wait(Now + Ms * 1000, Guardian, Tracer, Numbered)}
    catch _:_ -> {now_us(), #{}}
    after stop_listening()
    end,
    Ended = now_us(),
    {Status, Seen} = seen(Tracer, end_of_trace),
    %% A name that was not emitted again after its handler was attached is not counted.
    Late = maps:filter(fun(_, {I, _}) -> counters:get(Counts, I) > 0 end, Traced),
    Places = maps:merge(Numbered, maps:map(fun(_, {I, _}) -> I end, Late)),
    {Ended - Begun, [{dotted(E), N} || {E, I} <- maps:to_list(Places), N <- [counters:get(Counts, I)], N > 0],
     case Status of none -> none; _ -> [dotted(E) || E <- Seen, not is_map_key(E, Places)] end,
     [{dotted(E), Ended - Since} || {E, {_, Since}} <- maps:to_list(Late)], Status =:= limited}.

now_us() -> erlang:monotonic_time(microsecond).

%% Names found by the trace get their own handler and are counted from then on.
wait(Until, Guardian, Tracer, Numbered) ->
    %% A monitor of a disconnected node would try to connect to it.
    case lists:member(Guardian, nodes(hidden)) of
        true ->
            true = monitor_node(Guardian, true),
            listen(Until, Guardian, Tracer, Numbered, #{});
        false -> #{}
    end.

listen(Until, Guardian, Tracer, Numbered, Traced) ->
    %% Rounded up, so that the time is not shorter than asked for.
    Left = (Until - now_us() + 999) div 1000,
    receive {nodedown, Guardian} -> Traced
    after max(0, min(Left, ?POLL_MS)) ->
        {_, Seen} = seen(Tracer, seen_so_far),
        New = [E || E <- Seen, not is_map_key(E, Numbered), not is_map_key(E, Traced)],
        More = attach(New, map_size(Numbered) + map_size(Traced) + 1, Traced),
        case Left > ?POLL_MS of
            true -> listen(Until, Guardian, Tracer, Numbered, More);
            false -> More
        end
    end.

%% As one handler: after telemetry:persist() every change makes the VM visit all processes.
attach([], _, Traced) -> Traced;
attach(Events, First, Traced) ->
    Numbers = maps:from_list(lists:zip(Events, lists:seq(First, First + length(Events) - 1))),
    try telemetry:attach_many({?HANDLER, First}, Events, fun ?MODULE:count/4, Numbers) of
        ok ->
            Now = now_us(),
            maps:merge(Traced, maps:map(fun(_, I) -> {I, Now} end, Numbers));
        _ -> Traced
    catch _:_ -> Traced
    end.

%% @doc The handler: adds one. Called in the process that emits.
-spec count(event(), term(), term(), term()) -> ok.
count(Event, _, _, Traced) ->
    try
        {Counts, Numbered} = persistent_term:get(?HANDLER),
        counters:add(Counts, maps:get(Event, case Traced of none -> Numbered; _ -> Traced end), 1)
    catch _:_ -> ok
    end.

stop_listening() ->
    _ = try [telemetry:detach(Id) || Id <- lists:usort([Id || #{id := Id} <- telemetry:list_handlers([]), is_own(Id)])] catch _:_ -> ok end,
    ok.

is_own(?HANDLER) -> true;
is_own({?HANDLER, _}) -> true;
is_own(_) -> false.

%%% Names built at run time

%% Does not trace if another tracer is active. The VM removes the trace flags of a tracer that ends.
trace() ->
    true = register(?TRACER, self()),
    _ = process_flag(max_heap_size, #{size => ?TRACER_HEAP_WORDS, kill => true, error_logger => false}),
    _ = process_flag(priority, high),
    case {erlang:trace_info(?TRACED, traced), erlang:trace_info(new, flags)} of
        {{traced, false}, {flags, []}} ->
            _ = watch([]),
            _ = erlang:trace(all, true, [call, arity]),
            trace([], 0);
        _ -> hold_result({none, []})
    end.

%% Sends emitted names that were not seen yet, without measurements and metadata.
watch(Seen) ->
    Guards = [{is_list, '$1'}, {'=<', {length, '$1'}, ?MAX_LENGTH} | [{'=/=', '$1', {const, E}} || E <- Seen]],
    erlang:trace_pattern(?TRACED, [{['$1', '_', '_'], Guards, [{message, '$1'}]}], [local]).

unwatch() -> erlang:trace_pattern(?TRACED, false, [local]).

trace(Seen, N) when N >= ?MAX_TRACED; length(Seen) >= ?MAX_SEEN ->
    _ = unwatch(),
    hold_result({limited, Seen});
trace(Seen, N) ->
    receive
        {trace, _, call, ?TRACED, Event} ->
            case is_name(Event) andalso not lists:member(Event, Seen) of
                true ->
                    _ = watch([Event | Seen]),
                    trace([Event | Seen], N + 1);
                false -> trace(Seen, N + 1)
            end;
        {seen_so_far, From, Tag} ->
            From ! {Tag, {complete, Seen}},
            trace(Seen, N);
        {end_of_trace, From, Tag} ->
            _ = unwatch(),
            From ! {Tag, {complete, Seen}}
    end.

hold_result(Result) ->
    receive
        {seen_so_far, From, Tag} ->
            From ! {Tag, Result},
            hold_result(Result);
        {end_of_trace, From, Tag} -> From ! {Tag, Result}
    end.

%% The trace pattern has already limited the length.
is_name([_, _ | _] = Event) -> lists:all(fun is_atom/1, Event);
is_name(_) -> false.

stop_tracing(undefined) -> ok;
stop_tracing(Tracer) ->
    exit(Tracer, kill),
    _ = unwatch(),
    ok.

%% `none': the node could not be traced, or the tracer did not keep up; `limited': it stopped at a limit.
seen(Tracer, Question) ->
    Monitor = monitor(process, Tracer),
    Tracer ! {Question, self(), Monitor},
    Result = receive {Monitor, R} -> R; {'DOWN', Monitor, process, _, _} -> _ = unwatch(), {none, []} end,
    _ = demonitor(Monitor, [flush]),
    Result.

%%% Cleaning up

supervise(Answer, Options, Loaded) ->
    {Worker, Monitor} = spawn_monitor(fun() -> answer(Answer, {ok, work(Options, Loaded)}) end),
    receive {'DOWN', Monitor, process, Worker, Reason} -> Reason =:= normal orelse answer(Answer, {error, shown(Reason)}) end,
    %% In the newest code: a second discovery that was refused has loaded it again.
    ?MODULE:clean_up([M || {M, _} <- Loaded]).

%% Does not reconnect to a disconnected node.
answer({Pid, Tag}, Answer) -> erlang:send(Pid, {Tag, Answer}, [noconnect]).

%% @private
-spec clean_up([module()]) -> term().
clean_up(Known) ->
    stop_listening(),
    stop_tracing(whereis(?TRACER)),
    case persistent_term:get(?HANDLER, none) of
        none -> ok;
        _ ->
            receive after ?GRACE_MS -> ok end,
            _ = persistent_term:erase(?HANDLER),
            ok
    end,
    %% The code server logs an error if old code is still in use, so that is checked first.
    _ = [code:soft_purge(M) andalso code:delete(M) andalso code:soft_purge(M)
         || M <- ?OTP, not lists:member(M, Known), erlang:module_loaded(M)],
    _ = [code:soft_purge(M) andalso code:delete(M) andalso code:soft_purge(M)
         || M <- [dichroic_visit_code], code:is_loaded(M) =:= {file, ?ATTACHED}],
    case others(?PURGE_TRIES) =:= none andalso code:soft_purge(?MODULE) of
        true -> lists:zipwith(fun erlang:apply/2, [fun code:delete/1, fun code:purge/1], [[?MODULE], [?MODULE]]);
        false -> ok
    end.

%% Whether a process of the application is still in count/4: purging the module would kill it.
others(0) -> some;
others(Tries) ->
    Here = [P || P <- processes(), P =/= self(), {current_stacktrace, Stack} <- [process_info(P, current_stacktrace)],
                 lists:keymember(?MODULE, 1, Stack)],
    case Here of
        [] -> none;
        _ ->
            receive after ?PURGE_MS -> others(Tries - 1) end
    end.
