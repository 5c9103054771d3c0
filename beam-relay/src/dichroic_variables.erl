%% @doc What this node knows of the templates of packs: under which names its repositories, caches and domains emit.
%%
%% Libraries whose events are named after a module of the application (Ecto, Nebulex, Ash) keep a list of what runs. look/1 reads those
%% lists in a process of its own, of limited memory, so that code of libraries can neither hold up nor break the connection, and sends
%% what it found as a cast. Only libraries that are loaded are asked, and only by functions that read. remember/2 makes of it what the
%% connection says, within what a collector takes: what was said once stays, what finds no room is told.
-module(dichroic_variables).

-export([look/1, known/0, remember/2]).
-export_type([variables/0]).

%% Name of a template, and the dotted prefixes that it may stand for, sorted.
-type variables() :: #{binary() => [binary(), ...]}.

-define(MAX_HEAP_WORDS, 4194304).
%% What a collector takes of one template; beyond it the frame is malformed.
-define(MAX_VALUES, 16).
-define(MAX_BYTES, 255).
-define(MAX_FOUND, 256).
-define(SHOWN, 5).

%% @doc Casts `{variables, variables()}' to the process, some time.
-spec look(pid()) -> pid().
look(To) ->
    spawn_opt(fun() -> gen_statem:cast(To, {variables, known()}) end,
              [{max_heap_size, #{size => ?MAX_HEAP_WORDS, kill => true, error_logger => false}}, {priority, low}]).

-spec known() -> variables().
known() ->
    maps:filter(fun(_, Values) -> Values =/= [] end,
                #{<<"ecto_prefix">> => dotted(fun ecto/0), <<"nebulex_prefix">> => dotted(fun nebulex/0),
                  <<"ash_domain">> => dotted(fun ash/0)}).

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

%% @doc What was known, and of what was found as much as there is room for; what is left out, in words.
-spec remember(Found :: variables(), Known :: variables()) -> {variables(), [dichroic_plan:refusal()]}.
remember(Found, Known) ->
    Filled = maps:map(fun(Template, Values) -> fill(maps:get(Template, Known, []), Values) end, Found),
    Variables = maps:filter(fun(_, Values) -> Values =/= [] end, maps:merge(Known, Filled)),
    {Variables, [left_out(Template, Left) || {Template, Values} <- lists:sort(maps:to_list(Found)),
                                             Left <- [Values -- maps:get(Template, Variables, [])], Left =/= []]}.

%% An entry that a later plan leaves out would lose its totals: who comes first stays.
fill(Known, Found) -> lists:sort(lists:sublist(Known ++ [V || V <- Found -- Known, fits(V)], ?MAX_VALUES)).

%% It stands in the name of an event and may have no templates of its own.
fits(Value) -> Value =/= <<>> andalso binary:match(Value, [<<"$">>, <<"{">>, <<"}">>]) =:= nomatch.

left_out(Template, Values) ->
    Shown = lists:join(", ", lists:sublist(Values, ?SHOWN)),
    More = [", ..." || length(Values) > ?SHOWN],
    Words = io_lib:format("~ts: ~b names are left out, beyond ~b or of no use in a name: ~ts~ts",
                          [Template, length(Values), ?MAX_VALUES, Shown, More]),
    [null, dichroic_value:cut(unicode:characters_to_binary(Words), 256)].

%% The name of the event is in the meta data that the adapter gave when the repository started; the configuration, which is the other place,
%% may be computed by the application anew for each who asks.
ecto() ->
    [lists:droplast(Event) || erlang:function_exported('Elixir.Ecto.Repo', all_running, 0),
                              Repo <- apply('Elixir.Ecto.Repo', all_running, []),
                              #{telemetry := {_, _, [_, _ | _] = Event}} <- [meta(Repo)]].

meta(Repo) -> try apply('Elixir.Ecto.Adapter', lookup_meta, [Repo]) catch _:_ -> none end.

%% Levels of a cache, whose names go on from the cache's, tell parts of its commands again.
nebulex() ->
    Caches = caches(),
    [P || P <- Caches, not lists:any(fun(Q) -> Q =/= P andalso lists:prefix(Q, P) end, Caches)].

caches() ->
    [Prefix || erlang:module_loaded('Elixir.Nebulex.Cache.Registry'),
               {{'Elixir.Nebulex.Cache.Registry', Pid}, {_, Value}} <- persistent_term:get(), is_pid(Pid),
               #{telemetry_prefix := Prefix} <- [case Value of {_, Meta} -> Meta; Meta -> Meta end]].

ash() ->
    [[apply('Elixir.Ash.Domain.Info', short_name, [Domain])]
     || erlang:function_exported('Elixir.Ash.Domain.Info', short_name, 1), {App, _, _} <- application:loaded_applications(),
        Domain <- application:get_env(App, ash_domains, []), erlang:module_loaded(Domain)].
