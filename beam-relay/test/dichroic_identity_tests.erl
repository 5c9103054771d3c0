%% @doc The identity of a node in HELLO.
-module(dichroic_identity_tests).

-include_lib("eunit/include/eunit.hrl").

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
