%% @doc Emits the given number of endpoint requests at once, with the durations in turn, and keeps the node alive:
%% `fixed:main([Requests, Milliseconds…])'. For tests that compare counts with the truth.
-module(fixed).

-export([main/2]).

main(Requests, Milliseconds) ->
    Native = [erlang:convert_time_unit(Ms, millisecond, native) || Ms <- Milliseconds],
    wait_steady(),
    emit(Requests, Native, Native),
    io:format("emitted ~b~n", [Requests]),
    _ = io:get_line(""),
    _ = application:stop(dichroic),
    init:stop().

%% Handlers are attached before streams are on: an event in between is counted but is not a row.
wait_steady() ->
    case {dichroic:info(), telemetry:list_handlers([phoenix, endpoint, stop])} of
        {#{state := steady}, [_ | _]} -> ok;
        _ -> timer:sleep(20), wait_steady()
    end.

emit(0, _, _) -> ok;
emit(N, [], All) -> emit(N, All, All);
emit(N, [Duration | Rest], All) ->
    Conn = #{'__struct__' => 'Elixir.Plug.Conn', method => <<"GET">>, status => 200, request_path => <<"/">>},
    Dispatch = #{conn => Conn#{status := nil}, route => <<"/fixed">>},
    telemetry:execute([phoenix, endpoint, start], #{system_time => erlang:system_time()}, #{conn => Conn#{status := nil}}),
    telemetry:execute([phoenix, router_dispatch, start], #{system_time => erlang:system_time()}, Dispatch),
    telemetry:execute([phoenix, endpoint, stop], #{duration => Duration}, #{conn => Conn}),
    emit(N - 1, Rest, All).
