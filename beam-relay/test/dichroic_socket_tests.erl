%% @doc Destinations of the relay, and its token.
-module(dichroic_socket_tests).

-include_lib("eunit/include/eunit.hrl").

-define(TOKEN, <<"0123456789abcdef0123456789abcdef">>).

with(Settings, Body) ->
    Before = os:getenv("DICHROIC_SOCKET"),
    _ = os:unsetenv("DICHROIC_SOCKET"),
    _ = [application:set_env(dichroic, Key, Value) || {Key, Value} <- Settings],
    try Body()
    after
        _ = [application:unset_env(dichroic, Key) || {Key, _} <- Settings],
        is_list(Before) andalso os:putenv("DICHROIC_SOCKET", Before)
    end.

every_notation_of_a_host_is_accepted_test_() ->
    [{lists:flatten(io_lib:format("~p", [Host])), fun() ->
        {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
        {ok, Port} = inet:port(Listener),
        with([{socket, {tcp, Host, Port}}], fun() ->
            {ok, Socket, {tcp, Host, Port}} = dichroic_socket:connect(),
            ?assertEqual({ok, [{nodelay, true}]}, inet:getopts(Socket, [nodelay])),
            gen_tcp:close(Socket)
        end),
        gen_tcp:close(Listener)
    end} || Host <- ["127.0.0.1", <<"127.0.0.1">>, {127, 0, 0, 1}, "localhost", localhost]].

an_invalid_host_is_an_error_without_a_crash_test_() ->
    [fun() ->
        with([{socket, {tcp, Host, 1}}], fun() -> ?assertMatch({error, {{tcp, Host, 1}, _}}, dichroic_socket:connect()) end)
     end || Host <- ["no such:host", "::x", 7, {1, 2}, "::1"]].

an_empty_socket_setting_is_ignored_test_() ->
    Usual = fun() -> with([], fun dichroic_socket:candidates/0) end,
    [{lists:flatten(io_lib:format("~p", [None])), fun() ->
        ?assertEqual(Usual(), with([{socket, None}], fun dichroic_socket:candidates/0))
    end} || None <- [nil, undefined, "", <<>>]].

a_valid_token_is_used_and_an_invalid_one_is_ignored_test() ->
    ?assertEqual(undefined, dichroic_socket:token()),
    Set = fun(Token) -> with([{token, Token}], fun dichroic_socket:token/0) end,
    ?assertEqual({ok, ?TOKEN}, Set(?TOKEN)),
    ?assertEqual({ok, ?TOKEN}, Set(binary_to_list(?TOKEN))),
    ?assertEqual(undefined, Set({secret, 1})).

the_token_of_an_attached_relay_is_used_but_not_printed_test() ->
    Place = {tcp, {127, 0, 0, 1}, 9, fun() -> ?TOKEN end},
    with([{socket, {attached, Place}}, {token, <<"another">>}], fun() ->
        ?assertEqual({ok, ?TOKEN}, dichroic_socket:token()),
        ?assertEqual([{tcp, {127, 0, 0, 1}, 9}], dichroic_socket:candidates()),
        Printed = io_lib:format("~p", [application:get_env(dichroic, socket)]),
        ?assertEqual(nomatch, string:find(Printed, ?TOKEN))
    end).
