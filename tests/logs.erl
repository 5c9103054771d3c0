%% @doc Logs messages by commands on standard input, one per line. The default handler is silenced.
-module(logs).

-behaviour(gen_server).

-export([main/0, init/1, handle_call/3, handle_cast/2]).

main() ->
    ok = logger:set_primary_config(level, info),
    _ = logger:remove_handler(default),
    io:format("ready~n"),
    commands().

commands() ->
    case string:lexemes(io:get_line(""), " \n") of
        ["info" | Words] -> logger:info(lists:join(" ", Words), #{request_id => <<"r-1">>});
        ["error" | Words] -> logger:error("~ts", [lists:join(" ", Words)], #{otel_trace_id => "0af7651916cd43dd8448eb211c80319c",
                                                                             otel_span_id => "b7ad6b7169203331"});
        ["crash"] -> crash();
        ["storm", Lines, Requests] -> storm(list_to_integer(Lines), list_to_integer(Requests));
        ["stop"] ->
            _ = application:stop(dichroic),
            init:stop()
    end,
    io:format("done~n"),
    commands().

init(_) -> {ok, state}.
handle_call(_, _, S) -> {reply, ok, S}.
handle_cast(crash, _) -> error(on_purpose).

crash() ->
    {ok, Pid} = gen_server:start(?MODULE, [], []),
    Ref = monitor(process, Pid),
    gen_server:cast(Pid, crash),
    receive {'DOWN', Ref, _, _, _} -> ok end.

%% Four processes that log and emit at once.
storm(Lines, Requests) ->
    Pids = [spawn_monitor(fun() ->
        [begin
             logger:error("line ~b of process ~b, ~ts", [N, P, lists:duplicate(100, $x)]),
             N =< Requests div 4 andalso telemetry:execute([phoenix, endpoint, stop], #{duration => 1000000}, #{})
         end || N <- lists:seq(1, Lines div 4)]
    end) || P <- lists:seq(1, 4)],
    [receive {'DOWN', Ref, _, _, Reason} -> normal = Reason end || {_, Ref} <- Pids],
    ok.
