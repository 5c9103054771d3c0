%% @doc Which telemetry events can this node emit, and which does it emit? Answered from outside, leaving nothing behind.
%%
%% Loaded into a node over distribution and called once: run/1 reads the modules of the node, not what they do. Those that call
%% `telemetry:execute' or `telemetry:span' name their events, see dichroic_discover_code. Asked to listen too, it attaches one handler that counts, in memory of fixed size and for a limited time, and sends nothing; and a trace
%% that sends each name that is emitted about once tells the names that no loaded code has; they are counted from then on. Its tracer has a limited heap, so that
%% the VM ends it, and the trace with it, should it ever fall behind. The answer
%% is a message to who asked, while that one is still connected. When the process that works has ended, however it ended, an
%% undertaker detaches what is left and unloads this module.
-module(dichroic_discover).

-export([run/1, count/4]).
-export_type([options/0]).

-define(HANDLER, dichroic_discover).
-define(MAX_EVENTS, 4000).
-define(MAX_HANDLERS, 1000).
-define(MAX_LIVE_MS, 600000).
-define(MAX_LENGTH, 10).
-define(MAX_NOT_LOADED, 20000).
-define(MAX_HEAP_WORDS, 33554432).
-define(TRACER, dichroic_discover_tracer).
-define(MAX_SEEN, 500).
-define(LOOK_MS, 100).
-define(MAX_TRACED, 20000).
-define(TRACER_HEAP_WORDS, 1048576).
%% What the attacher gives as the file of what it loads.
-define(ATTACHED, "(attached by dichroic)").
-define(TRACED, {telemetry, execute, 3}).
-define(GRACE_MS, 200).
-define(PURGE_TRIES, 100).
-define(PURGE_MS, 50).
%% Modules of OTP that a node in interactive mode may load only because of us.
-define(OTP, [beam_lib, io_lib_pretty, erl_scan, string, unicode_util, ordsets, timer]).

%% `also' are names of events that may be there, dotted, beside those that are found.
-type options() :: #{guardian := node(), answer := {pid(), term()}, live_ms := non_neg_integer(), also := [binary()]}.

-type event() :: [atom()].

-spec run(options()) -> started.
run(#{answer := Answer} = Options) ->
    _ = spawn(fun() -> undertaker(Answer, Options, code:all_loaded()) end),
    started.

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
      handlers => [{words(Id), dotted(E), words(F)} || {Id, E, F} <- lists:sublist(Handlers, ?MAX_HANDLERS)],
      live => live(min(Ms, ?MAX_LIVE_MS), Known, Guardian)}.

version(App) ->
    case application:get_key(App, vsn) of
        {ok, Vsn} -> iolist_to_binary(Vsn);
        undefined -> case erlang:module_loaded(App) of true -> <<"unknown">>; false -> <<>> end
    end.

dotted(Event) -> iolist_to_binary(lists:join($., [atom_to_binary(A) || A <- Event])).

%% What it prints to is short, whatever it is given.
words(Term) ->
    case unicode:characters_to_binary(io_lib:format("~0tp", [Term], [{chars_limit, 120}])) of
        Text when is_binary(Text) -> Text;
        _ -> <<"?">>
    end.

%% An atom that is not there yet was never part of an event.
existing(Names) ->
    lists:flatmap(fun(Name) ->
        try [[binary_to_existing_atom(Part) || Part <- binary:split(Name, <<".">>, [global])]]
        catch error:badarg -> []
        end
    end, Names).

%%% Reading modules

%% What code names for certain, and what may be a name. `Unread' counts modules whose file is not there.
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

%% Files are read here and not by the code server, which others need.
read(?MODULE, _) -> none;
read(telemetry, _) -> none;
read(_, preloaded) -> none;
%% Loaded by us; see dichroic_attach.
read(_, ?ATTACHED) -> none;
read(_, [_ | _] = File) ->
    case dichroic_discover_code:read(File) of
        unread -> from_archive(File);
        Read -> Read
    end;
read(_, _) -> unread.

from_archive(File) ->
    case erl_prim_loader:get_file(File) of
        {ok, Beam, _} -> dichroic_discover_code:read(Beam);
        error -> unread
    end.

%% Modules of applications that run, which a node in interactive mode loads when they are first called.
not_loaded(Known) ->
    Running = [App || {App, _, _} <- application:which_applications()],
    lists:sublist([{M, filename:join(Ebin, atom_to_list(M) ++ ".beam")} || App <- Running, {ok, Modules} <- [application:get_key(App, modules)],
                   Ebin <- ebin(App), M <- Modules, not is_map_key(M, Known)], ?MAX_NOT_LOADED).

ebin(App) ->
    case code:lib_dir(App) of
        {error, _} -> [];
        Dir -> [filename:join(Dir, "ebin")]
    end.

%% Beginnings of spans, and whole names.
as_events(L, Calls) ->
    case {ends_as_spans_do(L), Calls} of
        {false, [span]} -> span(L);
        {false, [execute, span]} -> [L | span(L)];
        {_, [span]} -> [];
        _ -> [L]
    end.

span(Prefix) -> [Prefix ++ [Last] || Last <- [<<"start">>, <<"stop">>, <<"exception">>]].

ends_as_spans_do(Name) -> lists:member(lists:last(Name), [<<"start">>, <<"stop">>, <<"exception">>]).

%% A guess is likely when it begins as an application is named; other lists of atoms are more often something else.
likely(_, certain, _, _) -> true;
likely([<<"vm">> | _], _, _, _) -> true;
likely([First | _] = Name, guessed, Applications, Handled) ->
    lists:member(First, Applications) orelse lists:member(join(Name), Handled).

join(Name) -> iolist_to_binary(lists:join($., Name)).

%%% What knows its events itself

%% Every repository that runs, by the name that it emits under.
ecto() ->
    try
        Repos = apply('Elixir.Ecto.Repo', all_running, []),
        lists:usort([dotted(Prefix ++ [query]) || Repo <- Repos, is_atom(Repo), Prefix <- prefix(Repo)])
    catch _:_ -> []
    end.

%% The name that it emits under, from what its adapter keeps; else from its configuration.
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

%% Without their configurations, which may hold anything.
handlers() ->
    try [{Id, E, F} || #{id := Id, event_name := E, function := F} <- telemetry:list_handlers([])]
    catch _:_ -> []
    end.

%% Handlers of a relay say nothing of the application.
is_ours({dichroic, _}) -> true;
is_ours(_) -> false.

%%% Listening

live(0, _, _) -> none;
live(Ms, Events, Guardian) ->
    Numbered = maps:from_list(lists:zip(Events, lists:seq(1, length(Events)))),
    Counts = counters:new(length(Events) + ?MAX_SEEN, [write_concurrency]),
    persistent_term:put(?HANDLER, {Counts, Numbered}),
    Tracer = spawn(fun trace/0),
    Begun = erlang:monotonic_time(microsecond),
    Late = try telemetry:attach_many(?HANDLER, Events, fun ?MODULE:count/4, none) of
        ok -> wait(Begun + Ms * 1000, Guardian, Tracer, Numbered)
    catch _:_ -> #{}
    after stop_listening()
    end,
    Took = erlang:monotonic_time(microsecond) - Begun,
    Seen = seen(Tracer, end_of_trace),
    {Took, [{dotted(E), N} || {E, I} <- maps:to_list(maps:merge(Numbered, Late)), N <- [counters:get(Counts, I)], N > 0],
     case Seen of none -> none; _ -> [dotted(E) || E <- Seen, not is_map_key(E, Numbered), not is_map_key(E, Late)] end,
     [dotted(E) || E <- maps:keys(Late)]}.

%% Names that the trace finds get a handler of their own, and count from then on.
wait(Until, Guardian, Tracer, Numbered) ->
    %% Of a node that is gone a monitor would try to connect to it.
    case lists:member(Guardian, nodes(hidden)) of
        true ->
            true = monitor_node(Guardian, true),
            listen(Until, Guardian, Tracer, Numbered, #{});
        false -> #{}
    end.

listen(Until, Guardian, Tracer, Numbered, Late) ->
    Left = (Until - erlang:monotonic_time(microsecond)) div 1000,
    receive {nodedown, Guardian} -> Late
    after max(0, min(Left, ?LOOK_MS)) ->
        New = case seen(Tracer, so_far) of
            none -> [];
            Seen -> [E || E <- Seen, not is_map_key(E, Numbered), not is_map_key(E, Late)]
        end,
        More = lists:foldl(fun(E, Acc) -> attach(E, map_size(Numbered) + map_size(Acc) + 1, Acc) end, Late, New),
        case Left > ?LOOK_MS of
            true -> listen(Until, Guardian, Tracer, Numbered, More);
            false -> More
        end
    end.

attach(Event, I, Late) ->
    try telemetry:attach({?HANDLER, I}, Event, fun ?MODULE:count/4, I) of
        ok -> Late#{Event => I};
        _ -> Late
    catch _:_ -> Late
    end.

%% @doc The handler: adds one, in the process that emits.
-spec count(event(), term(), term(), term()) -> ok.
count(Event, _, _, Late) ->
    try
        {Counts, Numbered} = persistent_term:get(?HANDLER),
        counters:add(Counts, case Late of none -> maps:get(Event, Numbered); I -> I end, 1)
    catch _:_ -> ok
    end.

stop_listening() ->
    _ = try [telemetry:detach(Id) || #{id := Id} <- telemetry:list_handlers([]), is_own(Id)] catch _:_ -> ok end,
    ok.

is_own(?HANDLER) -> true;
is_own({?HANDLER, _}) -> true;
is_own(_) -> false.

%%% Names that are made at run time

%% If anybody else traces the node we do not. A tracer that ends takes its trace flags with it.
trace() ->
    true = register(?TRACER, self()),
    _ = process_flag(max_heap_size, #{size => ?TRACER_HEAP_WORDS, kill => true, error_logger => false}),
    _ = process_flag(priority, high),
    case {erlang:trace_info(?TRACED, traced), erlang:trace_info(new, flags)} of
        {{traced, false}, {flags, []}} ->
            _ = watch([]),
            _ = erlang:trace(all, true, [call, arity]),
            trace([], 0);
        _ -> told(none)
    end.

%% Emitted names but those that were seen are sent, without measurements and metadata.
watch(Seen) ->
    Guards = [{is_list, '$1'}, {'=<', {length, '$1'}, ?MAX_LENGTH} | [{'=/=', '$1', {const, E}} || E <- Seen]],
    erlang:trace_pattern(?TRACED, [{['$1', '_', '_'], Guards, [{message, '$1'}]}], [local]).

unwatch() -> erlang:trace_pattern(?TRACED, false, [local]).

trace(Seen, N) when N >= ?MAX_TRACED; length(Seen) >= ?MAX_SEEN ->
    _ = unwatch(),
    told(Seen);
trace(Seen, N) ->
    receive
        {trace, _, call, ?TRACED, Event} ->
            case is_name(Event) andalso not lists:member(Event, Seen) of
                true ->
                    _ = watch([Event | Seen]),
                    trace([Event | Seen], N + 1);
                false -> trace(Seen, N + 1)
            end;
        {so_far, From, Tag} ->
            From ! {Tag, Seen},
            trace(Seen, N);
        {end_of_trace, From, Tag} ->
            _ = unwatch(),
            From ! {Tag, Seen}
    end.

told(Seen) ->
    receive
        {so_far, From, Tag} ->
            From ! {Tag, Seen},
            told(Seen);
        {end_of_trace, From, Tag} -> From ! {Tag, Seen}
    end.

%% The pattern lets through lists that are not too long.
is_name([_, _ | _] = Event) -> lists:all(fun is_atom/1, Event);
is_name(_) -> false.

stop_tracing(undefined) -> ok;
stop_tracing(Tracer) ->
    exit(Tracer, kill),
    _ = unwatch(),
    ok.

seen(Tracer, Question) ->
    Monitor = monitor(process, Tracer),
    Tracer ! {Question, self(), Monitor},
    Seen = receive {Monitor, S} -> S; {'DOWN', Monitor, process, _, _} -> _ = unwatch(), none end,
    _ = demonitor(Monitor, [flush]),
    Seen.

%%% Leaving

undertaker(Answer, Options, Loaded) ->
    {Worker, Monitor} = spawn_monitor(fun() -> answer(Answer, {ok, work(Options, Loaded)}) end),
    receive {'DOWN', Monitor, process, Worker, Reason} -> Reason =:= normal orelse answer(Answer, {error, words(Reason)}) end,
    bury([M || {M, _} <- Loaded]).

%% To a node that is gone nothing is sent, and no connection is tried.
answer({Pid, Tag}, Answer) -> erlang:send(Pid, {Tag, Answer}, [noconnect]).

bury(Known) ->
    stop_listening(),
    stop_tracing(whereis(?TRACER)),
    case persistent_term:get(?HANDLER, none) of
        none -> ok;
        _ ->
            timer:sleep(?GRACE_MS),
            _ = persistent_term:erase(?HANDLER),
            ok
    end,
    _ = [code:delete(M) andalso code:soft_purge(M) || M <- ?OTP, not lists:member(M, Known), erlang:module_loaded(M)],
    _ = [code:delete(M) andalso code:purge(M) || M <- [dichroic_discover_code], code:is_loaded(M) =:= {file, ?ATTACHED}],
    case others(?PURGE_TRIES) of
        none -> lists:zipwith(fun erlang:apply/2, [fun code:delete/1, fun code:purge/1], [[?MODULE], [?MODULE]]);
        some -> ok
    end.

%% Whether a process of the application is still in count/4: it must not die of our leaving.
others(0) -> some;
others(Tries) ->
    Here = [P || P <- processes(), P =/= self(), {current_stacktrace, Stack} <- [process_info(P, current_stacktrace)],
                 lists:keymember(?MODULE, 1, Stack)],
    case Here of
        [] -> none;
        _ ->
            timer:sleep(?PURGE_MS),
            others(Tries - 1)
    end.
