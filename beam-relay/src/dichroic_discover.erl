%% @doc Which telemetry events can this node emit, and which does it emit? Answered from outside, leaving nothing behind.
%%
%% Loaded into a node over distribution and called once: run/1 reads the modules that are loaded, not what they do. Every module
%% that calls `telemetry:execute' or `telemetry:span' is read for its literals; lists of atoms among them may be events. Asked to
%% listen too, it attaches one handler that counts, in memory of fixed size and for a limited time, and sends nothing; and a trace
%% that sends each name that is emitted about once tells the names that no loaded code has. Its tracer has a limited heap, so that
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
-define(MAX_DEPTH, 3).
-define(MAX_HEAP_WORDS, 33554432).
-define(TRACER, dichroic_discover_tracer).
-define(MAX_SEEN, 500).
-define(MAX_TRACED, 20000).
-define(TRACER_HEAP_WORDS, 1048576).
-define(TRACED, {telemetry, execute, 3}).
-define(GRACE_MS, 200).
-define(PURGE_TRIES, 100).
-define(PURGE_MS, 50).
%% Modules of OTP that a node in interactive mode may load only because of us.
-define(OTP, [beam_lib, io_lib_pretty, erl_scan, string, unicode_util, ordsets, timer]).

%% `also' are names of events that may be there, dotted, beside those that are found.
-type options() :: #{guardian := node(), answer := {pid(), term()}, live_ms := non_neg_integer(), also := [binary()]}.

-type call() :: execute | span.
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
    Events = lists:sublist(lists:usort(maps:keys(Found) ++ Ecto ++ [E || {_, E, _} <- Handlers]), ?MAX_EVENTS),
    Known = lists:sublist(lists:usort(Events ++ existing(Also)), ?MAX_EVENTS),
    _ = process_flag(priority, normal),
    #{node => node(), otp => list_to_binary(erlang:system_info(otp_release)),
      telemetry => version(telemetry), modules => length(Loaded), unread => Unread,
      truncated => maps:size(Found) > ?MAX_EVENTS,
      applications => [{atom_to_binary(A), iolist_to_binary(V)} || {A, _, V} <- application:loaded_applications()],
      events => [{dotted(E), likely(E, Handlers), [atom_to_binary(M) || M <- lists:sublist(maps:get(E, Found, []), 8)]} || E <- Events],
      ecto => [dotted(E) || E <- Ecto], relay => length(Ours),
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

scan(Loaded) ->
    lists:foldl(fun({Module, File}, {Events, Unread}) ->
        case calls(Module, File) of
            unread -> {Events, Unread + 1};
            {[], _} -> {Events, Unread};
            {Calls, Beam} -> {note(Module, events(Beam, Calls), Events), Unread}
        end
    end, {#{}, 0}, Loaded).

note(Module, New, Events) ->
    lists:foldl(fun(E, Acc) -> maps:update_with(E, fun(Ms) -> [Module | Ms] end, [Module], Acc) end, Events, New).

%% How the module calls telemetry, and where its code is. Files are read here and not by the code server, which others need.
-spec calls(module(), term()) -> {[call()], file:filename() | binary()} | unread.
calls(?MODULE, _) -> {[], <<>>};
calls(telemetry, _) -> {[], <<>>};
calls(_, preloaded) -> {[], <<>>};
%% Loaded by us; see dichroic_attach.
calls(_, "(attached by dichroic)") -> {[], <<>>};
calls(Module, [_ | _] = File) ->
    case beam_lib:chunks(File, [imports]) of
        {ok, {Module, [{imports, Imports}]}} -> {calls(Imports), File};
        _ -> from_archive(Module, File)
    end;
calls(_, _) -> unread.

from_archive(Module, File) ->
    case erl_prim_loader:get_file(File) of
        {ok, Beam, _} ->
            case beam_lib:chunks(Beam, [imports]) of
                {ok, {Module, [{imports, Imports}]}} -> {calls(Imports), Beam};
                _ -> unread
            end;
        error -> unread
    end.

calls(Imports) ->
    lists:usort([F || {telemetry, F, A} <- Imports, lists:member({F, A}, [{execute, 2}, {execute, 3}, {span, 3}])]).

events(Beam, Calls) ->
    Lists = lists:usort(lists:flatmap(fun(L) -> lists_of_atoms(L, ?MAX_DEPTH) end, literals(Beam))),
    lists:usort(lists:flatmap(fun(L) -> as_events(L, Calls) end, Lists)).

%% Compressed with the size before it; from OTP 28 on plain, with a size of 0.
literals(Beam) ->
    try beam_lib:chunks(Beam, ["LitT"]) of
        {ok, {_, [{_, <<0:32, _:32, Table/binary>>}]}} -> terms(Table);
        {ok, {_, [{_, <<_:32, Packed/binary>>}]}} ->
            <<_:32, Table/binary>> = zlib:uncompress(Packed),
            terms(Table);
        _ -> []
    catch _:_ -> []
    end.

terms(<<Size:32, Term:Size/binary, Rest/binary>>) ->
    try [binary_to_term(Term, [safe]) | terms(Rest)] catch error:badarg -> terms(Rest) end;
terms(_) -> [].

%% Names have two parts at least; those that are events by themselves are looked for in no deeper place.
lists_of_atoms(_, 0) -> [];
lists_of_atoms([_ | _] = L, Depth) ->
    case is_name(L) of
        true -> [L];
        false -> inside(L, Depth - 1)
    end;
lists_of_atoms(T, Depth) when is_tuple(T), tuple_size(T) =< 64 -> inside(tuple_to_list(T), Depth - 1);
lists_of_atoms(M, Depth) when is_map(M), map_size(M) =< 256 -> inside(maps:keys(M) ++ maps:values(M), Depth - 1);
lists_of_atoms(_, _) -> [].

inside([X | Rest], Depth) -> lists_of_atoms(X, Depth) ++ inside(Rest, Depth);
inside(_, _) -> [].

is_name([_, _ | _] = L) -> atoms(L, 0);
is_name(_) -> false.

atoms([], N) -> N =< ?MAX_LENGTH;
atoms([A | Rest], N) when is_atom(A), A =/= nil, A =/= true, A =/= false, A =/= undefined, A =/= '__struct__' -> atoms(Rest, N + 1);
atoms(_, _) -> false.

-spec as_events(event(), [call()]) -> [event()].
as_events(L, Calls) ->
    case {lists:member(lists:last(L), [start, stop, exception]), Calls} of
        {false, [span]} -> span(L);
        {false, [execute, span]} -> [L | span(L)];
        {_, [span]} -> [];
        _ -> [L]
    end.

span(Prefix) -> [Prefix ++ [Last] || Last <- [start, stop, exception]].

%% Events are named after the application that emits them, or end as spans do; other lists of atoms are more often something else.
likely([First | _] = Event, Handlers) ->
    lists:member(lists:last(Event), [start, stop, exception])
        orelse First =:= vm
        orelse application:get_key(First, vsn) =/= undefined
        orelse lists:keymember(Event, 2, Handlers).

%%% What knows its events itself

%% Every repository that runs, by the name that it emits under.
ecto() ->
    try
        Repos = apply('Elixir.Ecto.Repo', all_running, []),
        lists:usort([Prefix ++ [query] || Repo <- Repos, is_atom(Repo), Prefix <- prefix(Repo)])
    catch _:_ -> []
    end.

prefix(Repo) ->
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
    Counts = counters:new(max(1, length(Events)), [write_concurrency]),
    persistent_term:put(?HANDLER, {Counts, Numbered}),
    Tracer = spawn(fun trace/0),
    Begun = erlang:monotonic_time(microsecond),
    try telemetry:attach_many(?HANDLER, Events, fun ?MODULE:count/4, none) of
        ok -> wait(Ms, Guardian)
    catch _:_ -> ok
    after stop_listening()
    end,
    Took = erlang:monotonic_time(microsecond) - Begun,
    {Took, [{dotted(E), N} || {E, I} <- maps:to_list(Numbered), N <- [counters:get(Counts, I)], N > 0],
     case seen(Tracer) of none -> none; Seen -> [dotted(E) || E <- Seen, not is_map_key(E, Numbered)] end}.

wait(Ms, Guardian) ->
    %% Of a node that is gone a monitor would try to connect to it.
    lists:member(Guardian, nodes(hidden)) andalso begin
        true = monitor_node(Guardian, true),
        receive {nodedown, Guardian} -> ok after Ms -> ok end
    end.

%% @doc The handler: adds one, in the process that emits.
-spec count(event(), term(), term(), term()) -> ok.
count(Event, _, _, _) ->
    try
        {Counts, Numbered} = persistent_term:get(?HANDLER),
        #{Event := I} = Numbered,
        counters:add(Counts, I, 1)
    catch _:_ -> ok
    end.

stop_listening() ->
    _ = try telemetry:detach(?HANDLER) catch _:_ -> ok end,
    ok.

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
        {seen, From, Tag} ->
            _ = unwatch(),
            From ! {Tag, Seen}
    end.

told(Seen) -> receive {seen, From, Tag} -> From ! {Tag, Seen} end.

stop_tracing(undefined) -> ok;
stop_tracing(Tracer) ->
    exit(Tracer, kill),
    _ = unwatch(),
    ok.

seen(Tracer) ->
    Monitor = monitor(process, Tracer),
    Tracer ! {seen, self(), Monitor},
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
