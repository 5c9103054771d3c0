%% @doc Where the relay looks for a collector, and what it shows there.
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

a_port_is_reached_however_its_host_is_written_test_() ->
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

a_host_that_is_none_is_an_error_and_no_crash_test_() ->
    [fun() ->
        with([{socket, {tcp, Host, 1}}], fun() -> ?assertMatch({error, {{tcp, Host, 1}, _}}, dichroic_socket:connect()) end)
     end || Host <- ["no such:host", "::x", 7, {1, 2}, "::1"]].

a_setting_that_says_nothing_is_as_none_test_() ->
    Usual = fun() -> with([], fun dichroic_socket:candidates/0) end,
    [{lists:flatten(io_lib:format("~p", [None])), fun() ->
        ?assertEqual(Usual(), with([{socket, None}], fun dichroic_socket:candidates/0))
    end} || None <- [nil, undefined, "", <<>>]].

a_token_is_shown_as_it_was_set_and_a_bad_one_not_at_all_test() ->
    ?assertEqual(undefined, dichroic_socket:token()),
    Set = fun(Token) -> with([{token, Token}], fun dichroic_socket:token/0) end,
    ?assertEqual({ok, ?TOKEN}, Set(?TOKEN)),
    ?assertEqual({ok, ?TOKEN}, Set(binary_to_list(?TOKEN))),
    ?assertEqual(undefined, Set({secret, 1})).

the_token_of_a_visitor_is_shown_but_not_printed_test() ->
    Place = {tcp, {127, 0, 0, 1}, 9, fun() -> ?TOKEN end},
    with([{socket, {attached, Place}}, {token, <<"another">>}], fun() ->
        ?assertEqual({ok, ?TOKEN}, dichroic_socket:token()),
        ?assertEqual([{tcp, {127, 0, 0, 1}, 9}], dichroic_socket:candidates()),
        Printed = io_lib:format("~p", [application:get_env(dichroic, socket)]),
        ?assertEqual(nomatch, string:find(Printed, ?TOKEN))
    end).
