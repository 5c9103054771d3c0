%% @doc The identity of a node in HELLO.
-module(dichroic_identity_tests).

-include_lib("eunit/include/eunit.hrl").

-export([load_with_source/2]).

attributes_test_() ->
    [{support:title(In), ?_assertEqual(Out, dichroic_identity:resource_attributes(In))} || {In, Out} <- [
        {<<>>, #{}},
        {<<"service.name=shop,a=b">>, #{<<"service.name">> => <<"shop">>, <<"a">> => <<"b">>}},
        {<<" a = b c ">>, #{<<"a">> => <<"b c">>}},
        {<<"a=x%20y%2Cz">>, #{<<"a">> => <<"x y,z">>}},
        {<<"a=b=c">>, #{<<"a">> => <<"b=c">>}},
        {<<"nothing,=x,ok=1">>, #{<<"ok">> => <<"1">>}},
        {<<"bad=%zz,ok=1">>, #{<<"ok">> => <<"1">>}},
        {<<"bad=%ff,ok=1">>, #{<<"ok">> => <<"1">>}}]].

the_name_comes_from_opentelemetry_then_the_release_then_the_application_test_() ->
    Names = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "RELEASE_NAME", "RELEASE_VSN"],
    Resource = fun(Env) ->
        Before = [{N, os:getenv(N)} || N <- Names],
        [os:unsetenv(N) || N <- Names],
        [os:putenv(N, V) || {N, V} <- Env],
        R = dichroic_identity:resource(),
        [case V of false -> os:unsetenv(N); _ -> os:putenv(N, V) end || {N, V} <- Before],
        R
    end,
    [?_assertEqual(#{<<"service.name">> => <<"a">>, <<"x">> => <<"1">>},
                   Resource([{"OTEL_SERVICE_NAME", "a"}, {"OTEL_RESOURCE_ATTRIBUTES", "service.name=b,x=1"}, {"RELEASE_NAME", "c"}])),
     ?_assertEqual(#{<<"service.name">> => <<"b">>}, Resource([{"OTEL_RESOURCE_ATTRIBUTES", "service.name=b"}, {"RELEASE_NAME", "c"}])),
     ?_assertEqual(#{<<"service.name">> => <<"c">>, <<"service.version">> => <<"2">>},
                   Resource([{"RELEASE_NAME", "c"}, {"RELEASE_VSN", "2"}])),
     ?_assertMatch(#{<<"service.name">> := <<_, _/binary>>}, Resource([]))].

%% In the other node.
load_with_source(App, Source) ->
    {ok, Module, Beam} = compile:forms([{attribute, 1, module, App}], [{source, Source}]),
    {module, Module} = code:load_binary(Module, "", Beam),
    application:load({application, App, [{vsn, "1"}, {modules, [not_loaded, App]}, {applications, [kernel, stdlib]}]}).

a_dependency_is_not_the_main_application_test_() ->
    {timeout, 30, fun() ->
        {ok, Peer, _} = peer:start(#{connection => standard_io, env => [{"RELEASE_NAME", ""}, {"OTEL_SERVICE_NAME", ""}],
                                     args => ["-pa" | code:get_path()]}),
        try
            Load = fun(App, Source) -> ok = peer:call(Peer, ?MODULE, load_with_source, [App, Source]) end,
            Name = fun() -> maps:get(<<"service.name">>, peer:call(Peer, dichroic_identity, resource, [])) end,
            Load(zeta, "/home/a/.cache/mix/installs/x/deps/zeta/lib/zeta.ex"),
            Load(zebra, "/src/shop/_build/default/lib/zebra/src/zebra.erl"),
            ?assertEqual(<<"beam">>, Name()),
            Load(anvil, "/src/deps_of_anvil/anvil/lib/anvil.ex"),
            ?assertEqual(<<"anvil">>, Name())
        after peer:stop(Peer) end
    end}.

the_main_application_is_the_one_that_depends_on_the_relay_test_() ->
    {timeout, 30, fun() ->
        {ok, Peer, _} = peer:start(#{connection => standard_io, env => [{"RELEASE_NAME", ""}, {"OTEL_SERVICE_NAME", ""}],
                                     args => ["-pa" | code:get_path()]}),
        try
            Load = fun(Name, Needs) ->
                ok = peer:call(Peer, application, load, [{application, Name, [{vsn, "1"}, {applications, [kernel, stdlib | Needs]}]}])
            end,
            Load(some_library, []), Load(shop_web, [shop, dichroic]), Load(shop, [some_library]), Load(lonely_tool, [some_library, shop]),
            ?assertMatch(#{<<"service.name">> := <<"shop_web">>}, peer:call(Peer, dichroic_identity, resource, []))
        after peer:stop(Peer) end
    end}.
