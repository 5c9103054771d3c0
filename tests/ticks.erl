%% @doc Emits an event with ascending numbers, 500 a second, until a line is read; then writes `truth' and the time of each number, in
%% ns. For tests that compare what a subscriber gets with the truth.
-module(ticks).

-export([main/0]).

main() ->
    Main = self(),
    _ = spawn_link(fun() -> _ = io:get_line(""), Main ! stop end),
    io:format("ready~n"),
    Times = tick(0, []),
    io:format("truth ~ts~n", [lists:join(" ", [integer_to_list(T) || T <- lists:reverse(Times)])]),
    receive after infinity -> ok end.

tick(N, Times) ->
    Time = erlang:system_time(nanosecond),
    Conn = #{'__struct__' => 'Elixir.Plug.Conn', method => <<"GET">>, status => 200, request_path => <<"/">>},
    telemetry:execute([phoenix, endpoint, stop], #{duration => N}, #{conn => Conn}),
    receive stop -> [Time | Times] after 2 -> tick(N + 1, [Time | Times]) end.
