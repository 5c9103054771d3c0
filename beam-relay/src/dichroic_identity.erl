%% @doc The identity of this node: the fields of HELLO that describe it.
%%
%% Called by dichroic_connection for every connection, so that applications loaded after the relay are included in the next one.
%% Reads the environment and the tables of the application controller; never blocks.
-module(dichroic_identity).

-export([hello/0, resource/0, resource_attributes/1, main/0]).

%% Tools and libraries of the platform, which are never the main application.
-define(NOT_MAIN, [kernel, stdlib, sasl, compiler, syntax_tools, crypto, ssl, public_key, asn1, inets, mnesia, runtime_tools,
                   tools, os_mon, observer, wx, et, debugger, xmerl, edoc, eunit, common_test, dialyzer, parsetools, reltool,
                   erl_interface, ssh, ftp, tftp, snmp, megaco, eldap, diameter, erl_docgen, odbc, jinterface,
                   elixir, logger, mix, iex, hex, eex, ex_unit, rebar, dichroic, telemetry, telemetry_poller]).

-spec hello() -> #{binary() => dichroic_value:value()}.
hello() ->
    #{<<"agent">> => <<"dichroic-relay/", (version())/binary>>,
      <<"node">> => atom_to_binary(node()),
      <<"os_pid">> => os_pid(),
      <<"otp">> => list_to_binary(erlang:system_info(otp_release)),
      <<"telemetry">> => telemetry(),
      <<"native_per_s">> => erlang:convert_time_unit(1, second, native),
      <<"time_offset">> => erlang:time_offset(),
      <<"mode">> => mode(),
      <<"max_frame">> => 1048576,
      <<"resource">> => resource()}.

mode() ->
    case application:get_env(dichroic, mode) of
        {ok, attached} -> <<"attached">>;
        _ -> <<"installed">>
    end.

version() ->
    case application:get_key(dichroic, vsn) of
        {ok, Vsn} -> list_to_binary(Vsn);
        %% An attached relay has no loaded application.
        undefined -> application:get_env(dichroic, vsn, <<"0.0.0">>)
    end.

os_pid() ->
    try list_to_integer(os:getpid()) catch error:_ -> 0 end.

telemetry() ->
    case application:get_key(telemetry, vsn) of
        {ok, Vsn} -> try list_to_binary(Vsn) catch error:_ -> <<"unknown">> end;
        undefined ->
            case code:is_loaded(telemetry) of
                false -> <<>>;
                _ -> <<"unknown">>
            end
    end.

%% @doc Resource attributes from OpenTelemetry's variables, else from the release, else from the main application.
-spec resource() -> #{binary() => dichroic_value:value()}.
resource() ->
    Given = resource_attributes(env("OTEL_RESOURCE_ATTRIBUTES")),
    Version = case env("RELEASE_VSN") of <<>> -> #{}; V -> #{<<"service.version">> => V} end,
    Attributes = maps:merge(Version, Given),
    case {env("OTEL_SERVICE_NAME"), Attributes} of
        {<<>>, #{<<"service.name">> := _}} -> Attributes;
        {<<>>, _} -> Attributes#{<<"service.name">> => default_name()};
        {Name, _} -> Attributes#{<<"service.name">> => Name}
    end.

default_name() ->
    case env("RELEASE_NAME") of
        <<>> -> case main() of {ok, App} -> atom_to_binary(App); none -> node_name() end;
        Name -> Name
    end.

env(Name) ->
    case os:getenv(Name) of
        false -> <<>>;
        Value ->
            case unicode:characters_to_binary(Value) of
                B when is_binary(B) -> dichroic_value:cut(B, 4096);
                _ -> <<>>
            end
    end.

%% @doc Parses `key=value,key=value' with percent-encoded values. Malformed pairs are ignored.
-spec resource_attributes(binary()) -> #{binary() => binary()}.
resource_attributes(Text) ->
    maps:from_list(lists:flatmap(fun attribute/1, lists:sublist(binary:split(Text, <<",">>, [global]), 64))).

attribute(Pair) ->
    case binary:split(Pair, <<"=">>) of
        [K, V] ->
            case {string:trim(K), decode(string:trim(V))} of
                {Key, Value} when byte_size(Key) >= 1, byte_size(Key) =< 255, is_binary(Value) -> [{Key, Value}];
                _ -> []
            end;
        _ -> []
    end.

%% uri_string raises for values that are not percent-encoded UTF-8; they are ignored.
decode(V) ->
    try uri_string:percent_decode(V) of
        Value when is_binary(Value) -> Value;
        _ -> error
    catch _:_ -> error
    end.

%% @doc The main application of the release: no other application depends on it, it was not compiled as a dependency of a project,
%% it depends on the relay, and it has the most dependencies. A script that only uses libraries has none.
-spec main() -> {ok, atom()} | none.
main() ->
    Apps = [A || {A, _, _} <- application:loaded_applications()],
    Needs = maps:from_list([{A, needs(A)} || A <- Apps]),
    Needed = lists:usort(lists:append(maps:values(Needs))),
    Ranked = [{lists:member(dichroic, closure(A, Needs)), length(closure(A, Needs)), A}
              || A <- Apps -- ?NOT_MAIN, not lists:member(A, Needed)],
    first_own(lists:reverse(lists:sort(Ranked))).

first_own([]) -> none;
first_own([{_, _, App} | Apps]) ->
    case is_dependency(App) of
        true -> first_own(Apps);
        false -> {ok, App}
    end.

%% Whether Mix or rebar3 compiled it from their folder of dependencies, by the path of one of its loaded modules.
is_dependency(App) ->
    case application:get_key(App, modules) of
        {ok, Modules} -> lists:any(fun(Path) -> in_dependencies(Path, atom_to_binary(App)) end, source(Modules));
        undefined -> false
    end.

source([]) -> [];
source([Module | Modules]) ->
    case erlang:module_loaded(Module) of
        true ->
            try unicode:characters_to_binary(proplists:get_value(source, Module:module_info(compile), "")) of
                Path when is_binary(Path) -> [Path];
                _ -> []
            catch _:_ -> []
            end;
        false -> source(Modules)
    end.

in_dependencies(Path, Name) ->
    binary:match(Path, <<"/deps/", Name/binary, "/">>) =/= nomatch
        orelse (binary:match(Path, <<"/_build/">>) =/= nomatch andalso binary:match(Path, <<"/lib/", Name/binary, "/src/">>) =/= nomatch).

needs(App) ->
    lists:append([L || Key <- [applications, included_applications], {ok, L} <- [application:get_key(App, Key)]]).

closure(App, Needs) -> closure(maps:get(App, Needs, []), Needs, []).

closure([], _, Seen) -> Seen;
closure([A | As], Needs, Seen) ->
    case lists:member(A, Seen) of
        true -> closure(As, Needs, Seen);
        false -> closure(maps:get(A, Needs, []) ++ As, Needs, [A | Seen])
    end.

node_name() ->
    case binary:split(atom_to_binary(node()), <<"@">>) of
        [<<"nonode">> | _] -> <<"beam">>;
        [Name | _] -> Name
    end.
