%% @doc What it costs to start and to stop the relay on a node with many processes: processor time of the VM, with and without
%% `telemetry:persist()'.
%%
%% After `telemetry:persist()' each attach and detach replaces a persistent term, and the VM then visits every process. Starting attaches
%% the plan that the relay has built in, some 200 events; stopping detaches it. `one by one' attaches the same events with an id
%% for each, as a comparison.
-module(attach_bench).

-export([main/0, noop/4]).

main() ->
    {ok, _} = application:ensure_all_started(telemetry),
    Processes = env("PROCESSES", 100000),
    os:putenv("DICHROIC_SOCKET", "/nonexistent/dichroic.sock"),
    Pids = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, Processes)],
    io:format("OTP ~ts, ~b processes, telemetry ~ts~n",
              [erlang:system_info(otp_release), length(Pids), element(2, application:get_key(telemetry, vsn))]),
    %% Code is loaded once; its literals cost the same kind of visits.
    Events = relay("first start, stop", 1),
    round("not persisted", Events),
    ok = telemetry:persist(),
    round("persisted", Events),
    halt().

round(Title, Events) ->
    [relay(Title, N) || N <- [1, 2, 3]],
    Some = lists:sublist(Events, 30),
    Attach = cpu(fun() -> [ok = telemetry:attach({bench, E}, E, fun ?MODULE:noop/4, none) || E <- Some] end),
    Detach = cpu(fun() -> [ok = telemetry:detach({bench, E}) || E <- Some] end),
    io:format("~-20s one by one, ~b events: attach ~b ms, detach ~b ms~n", [Title, length(Some), Attach, Detach]).

relay(Title, N) ->
    Start = cpu(fun() -> {ok, _} = application:ensure_all_started(dichroic) end),
    Events = lists:usort([E || #{id := {dichroic, _}, event_name := E} <- telemetry:list_handlers([])]),
    true = length(Events) > 100,
    Stop = cpu(fun() -> ok = application:stop(dichroic) end),
    io:format("~-20s ~b: start ~b ms, stop ~b ms of processor time, ~b events~n", [Title, N, Start, Stop, length(Events)]),
    Events.

%% The visits are made after the call.
cpu(Work) ->
    timer:sleep(500),
    {Before, _} = erlang:statistics(runtime),
    _ = Work(),
    settle(Before, 0).

settle(Before, Last) ->
    timer:sleep(1500),
    case erlang:statistics(runtime) of
        {Now, _} when Now - Before - Last > 20 -> settle(Before, Now - Before);
        {Now, _} -> Now - Before
    end.

env(Name, Default) -> case os:getenv(Name) of false -> Default; V -> list_to_integer(V) end.

noop(_, _, _, _) -> ok.
