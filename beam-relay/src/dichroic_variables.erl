%% @doc Values for the templates of packs: the event prefixes of this node's repositories, caches and domains; and which of the
%% libraries that share metrics are loaded, so that the collector's packs count a request once.
%%
%% Libraries whose events are named after a module of the application (Ecto, Nebulex, Ash) keep a list of running instances.
%% start_lookup/1 reads those lists in a separate process with limited memory, so that library code can neither block nor crash
%% the connection, and casts the result to it. Only loaded libraries are called, and only functions that read. merge/2, called by
%% dichroic_connection, adds the result to the values that are already sent, within the collector's limits: a value that was sent
%% once is kept, and values beyond the limits are reported.
-module(dichroic_variables).

-export([start_lookup/1, read/0, loaded/0, merge/2]).
-export_type([variables/0]).

%% Name of a template, and its values: dotted prefixes, sorted.
-type variables() :: #{binary() => [binary(), ...]}.

-define(MAX_HEAP_WORDS, 4194304).
%% The collector's limits for one template; it rejects a frame beyond them as malformed.
-define(MAX_VALUES, 16).
-define(MAX_BYTES, 255).
-define(MAX_FOUND, 256).
-define(SHOWN, 5).
%% The `application' of packs: several of them may report one request.
-define(SHARING, [bandit, cowboy_telemetry, finch, phoenix, plug, tesla]).

%% @doc Casts `{variables, variables()}' to the process when the lookup is done.
-spec start_lookup(pid()) -> pid().
start_lookup(To) ->
    spawn_opt(fun() -> gen_statem:cast(To, {variables, read()}) end,
              [{max_heap_size, #{size => ?MAX_HEAP_WORDS, kill => true, error_logger => false}}, {priority, low}]).

-spec read() -> variables().
read() ->
    maps:filter(fun(_, Values) -> Values =/= [] end,
                (maps:merge(loaded(), snakepit()))#{<<"ecto_prefix">> => dotted(fun ecto/0), <<"nebulex_prefix">> => dotted(fun nebulex/0),
                  <<"ash_domain">> => dotted(fun ash/0)}).

%% @doc Which of these libraries are loaded. Does not block.
-spec loaded() -> variables().
loaded() ->
    Apps = [A || {A, _, _} <- application:loaded_applications()],
    case [atom_to_binary(A) || A <- ?SHARING, lists:member(A, Apps)] of
        [] -> #{};
        Loaded -> #{<<"loaded">> => Loaded}
    end.

%% Up to 0.13, Snakepit ends the telemetry of a Python worker this long after its start. The collector's lint reports it.
snakepit() ->
    case application:get_key(snakepit, vsn) of
        {ok, Vsn} ->
            case lists:sublist(string:lexemes(Vsn, "."), 2) of
                ["0", Minor] when length(Minor) =:= 1; Minor >= "10", Minor =< "13", length(Minor) =:= 2 ->
                    case application:get_env(snakepit, grpc_stream_open_timeout_ms, 5000) of
                        Ms when is_integer(Ms), Ms >= 0 -> #{<<"snakepit_stream_ms">> => [integer_to_binary(Ms)]};
                        _ -> #{}
                    end;
                _ -> #{}
            end;
        _ -> #{}
    end.

dotted(Read) ->
    Prefixes = try Read() catch _:_ -> [] end,
    lists:sublist(lists:usort(lists:flatmap(fun name/1, Prefixes)), ?MAX_FOUND).

name([_ | _] = Prefix) ->
    try iolist_to_binary(lists:join($., [atom_to_binary(Part) || Part <- Prefix])) of
        Name when byte_size(Name) =< ?MAX_BYTES -> [Name];
        _ -> []
    catch _:_ -> []
    end;
name(_) -> [].

%% @doc The known values and as many of the found ones as fit; refusals for those left out.
-spec merge(Found :: variables(), Known :: variables()) -> {variables(), [dichroic_plan:refusal()]}.
merge(Found, Known) ->
    Filled = maps:map(fun(Template, Values) -> fill(maps:get(Template, Known, []), Values) end, Found),
    Variables = maps:filter(fun(_, Values) -> Values =/= [] end, maps:merge(Known, Filled)),
    {Variables, [left_out(Template, Left) || {Template, Values} <- lists:sort(maps:to_list(Found)),
                                             Left <- [Values -- maps:get(Template, Variables, [])], Left =/= []]}.

%% Known values have priority: without its value a template's entry would lose its totals.
fill(Known, Found) -> lists:sort(lists:sublist(Known ++ [V || V <- Found -- Known, fits(V)], ?MAX_VALUES)).

%% A value becomes part of an event name, so it must not contain a template.
fits(Value) -> Value =/= <<>> andalso binary:match(Value, [<<"$">>, <<"{">>, <<"}">>]) =:= nomatch.

left_out(Template, Values) ->
    Shown = lists:join(", ", lists:sublist(Values, ?SHOWN)),
    More = [", ..." || length(Values) > ?SHOWN],
    Message = io_lib:format("~ts: ~b values ignored (more than ~b, or invalid in an event name): ~ts~ts",
                          [Template, length(Values), ?MAX_VALUES, Shown, More]),
    [null, dichroic_value:cut(unicode:characters_to_binary(Message), 256)].

%% The event name is in the metadata that the adapter stored when the repository started. The configuration has it too, but the
%% application may compute that for every call.
ecto() ->
    [lists:droplast(Event) || erlang:function_exported('Elixir.Ecto.Repo', all_running, 0),
                              Repo <- apply('Elixir.Ecto.Repo', all_running, []),
                              #{telemetry := {_, _, [_, _ | _] = Event}} <- [meta(Repo)]].

meta(Repo) -> try apply('Elixir.Ecto.Adapter', lookup_meta, [Repo]) catch _:_ -> none end.

%% Levels of a cache, whose names extend the name of the cache, would count its commands twice.
nebulex() ->
    Caches = caches(),
    [P || P <- Caches, not lists:any(fun(Q) -> Q =/= P andalso lists:prefix(Q, P) end, Caches)].

caches() ->
    [Prefix || erlang:module_loaded('Elixir.Nebulex.Cache.Registry'),
               {{'Elixir.Nebulex.Cache.Registry', Pid}, Entry} <- persistent_term:get(), is_pid(Pid),
               #{telemetry_prefix := Prefix} <- [cache(Entry)]].

%% Nebulex 3 registers {Ref, Name, Meta}; Nebulex 2 {Ref, Meta}, or {Ref, {Adapter, Meta}} before 2.4.
cache({_, _, Meta}) -> Meta;
cache({_, {_, Meta}}) -> Meta;
cache({_, Meta}) -> Meta;
cache(_) -> none.

ash() ->
    [[apply('Elixir.Ash.Domain.Info', short_name, [Domain])]
     || erlang:function_exported('Elixir.Ash.Domain.Info', short_name, 1), {App, _, _} <- application:loaded_applications(),
        Domain <- application:get_env(App, ash_domains, []), erlang:module_loaded(Domain)].
