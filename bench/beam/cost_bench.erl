%% @doc The cost of each contestant in the process that emits: ns per event, with one and two processes, small and large metadata.
%%
%% Rounds of all kinds alternate, so that changes in machine speed affect all alike; the medians and minima over rounds are
%% printed. With a subscribed stream, rows are sent to the event sender: all of them, or as many as the collector's limits
%% allow, with the rest counted as dropped. `cpu' is the VM's processor time per event, the better figure on a shared machine.
%% Every kind has one counter and one distribution with three labels unless its name states otherwise.
-module(cost_bench).

-export([main/0]).

-define(KINDS, [none, noop, {dichroic, buckets}, {dichroic, exponential}, {dichroic, phoenix}, {dichroic, stream},
                {dichroic, stream_on}, {dichroic, stream_flood},
                {peep, default}, {peep, striped}, core]).

main() ->
    {ok, _} = application:ensure_all_started(telemetry),
    Rounds = env("ROUNDS", 9),
    Events = env("EVENTS", 100000),
    Persist = os:getenv("PERSIST") =:= "1",
    io:format("OTP ~ts, ~b schedulers, ~b rounds of ~b events, telemetry ~ts~ts~n",
              [erlang:system_info(otp_release), erlang:system_info(schedulers_online), Rounds, Events,
               element(2, application:get_key(telemetry, vsn)),
               case Persist of true -> ", telemetry:persist() after attaching"; false -> "" end]),
    io:format("metadata: small ~b words, conn ~b words~n",
              [erts_debug:flat_size(contestants:metadata(M)) || M <- [small, conn]]),
    [report(P, M, Rounds, Events, Persist) || M <- [small, conn], P <- [1, 2]],
    halt().

env(Name, Default) -> case os:getenv(Name) of false -> Default; V -> list_to_integer(V) end.

report(Processes, Size, Rounds, Events, Persist) ->
    Kinds = contestants:present(?KINDS),
    Seen = [[{K, round_of(K, Processes, Size, Events, Persist)} || K <- Kinds] || _ <- lists:seq(1, Rounds)],
    Sorted = fun(K, Ix) -> lists:sort([element(Ix, T) || R <- Seen, {K1, T} <- R, K1 =:= K]) end,
    Median = fun(K, Ix) -> lists:nth(Rounds div 2 + 1, Sorted(K, Ix)) end,
    io:format("~n~-32s    wall   least  over no-op     cpu  over no-op~n",
              [io_lib:format("~b process(es), ~p", [Processes, Size])]),
    [io:format("  ~-30s ~7b ~7b ~11b ~7b ~11b~n",
               [contestants:name(K), Median(K, 1), hd(Sorted(K, 1)), Median(K, 1) - Median(noop, 1), Median(K, 2),
                Median(K, 2) - Median(noop, 2)]) || K <- Kinds].

round_of(Kind, Processes, Size, Events, Persist) ->
    Contestant = contestants:start(Kind, [#{type => counter, name => [http, requests]}, #{type => distribution, name => [http, duration]}]),
    Persist andalso telemetry:persist(),
    Parent = self(),
    Each = Events div Processes,
    Pids = [spawn_opt(fun() -> emitter(Parent, Each, Size) end, [{min_heap_size, 20000}]) || _ <- lists:seq(1, Processes)],
    [receive {P, ready} -> ok end || P <- Pids],
    {Cpu0, _} = erlang:statistics(runtime),
    [P ! go || P <- Pids],
    %% Wall time of one process's share: two processes on two cores run at the same time.
    Ns = lists:max([receive {P, T} -> T end || P <- Pids]),
    {Cpu1, _} = erlang:statistics(runtime),
    %% Guards against a run that counts nothing.
    true = counted(Contestant(read)),
    Contestant(stop),
    {Ns div Each, (Cpu1 - Cpu0) * 1000000 div (Each * Processes)}.

counted(ok) -> true;
counted(Frames) when is_list(Frames) -> lists:any(fun(F) -> lists:member(element(1, F), [numbers, histograms]) end, Frames);
counted(Metrics) when is_map(Metrics) -> map_size(Metrics) =:= 2;
counted(Page) -> byte_size(Page) > 100.

emitter(Parent, N, Size) ->
    Metadata = contestants:metadata(Size),
    run(2000, Metadata),
    garbage_collect(),
    Parent ! {self(), ready},
    receive go -> ok end,
    T0 = erlang:monotonic_time(nanosecond),
    run(N, Metadata),
    Parent ! {self(), erlang:monotonic_time(nanosecond) - T0}.

run(0, _) -> ok;
run(N, Metadata) ->
    telemetry:execute([phoenix, endpoint, stop], #{duration => 1000000 + N band 16#fffff}, Metadata),
    run(N - 1, Metadata).
