%% @doc The pause of a node with many processes when a stream is subscribed, compared with rewriting a persistent term.
%%
%% Run by `make bench'. A process on each scheduler reads the clock in a loop; the longest gap is the pause of an application.
%% The last line, for comparison, is what the relay avoids.
-module(subscribe_bench).

-export([main/0]).

-define(PROCESSES, 20000).
-define(TIMES, 50).
-define(EVENT, [<<"shop">>, <<"order">>]).

main() ->
    _ = [spawn(fun() -> X = lists:seq(1, 200), receive stop -> X end end) || _ <- lists:seq(1, ?PROCESSES)],
    Static = dichroic_tables:make(1),
    persistent_term:put(dichroic_handler, Static),
    {ok, [], Engine} = dichroic_engine:plan(plan(1), dichroic_engine:new(Static)),
    io:format("~n~b processes, ~b times each~n", [?PROCESSES, ?TIMES]),
    report("nothing", fun(_, S) -> S end, none),
    E2 = report("subscribe and unsubscribe", fun(I, E) ->
        {ok, [], On} = dichroic_engine:plan(plan(I), E),
        dichroic_engine:streams_on(On),
        {ok, [], Off} = dichroic_engine:plan(plan(0), On),
        Off
    end, Engine),
    _ = report("a new metric", fun(I, E) -> {ok, [], New} = dichroic_engine:plan(metric(I), E), New end, E2),
    _ = report("rewriting a persistent term", fun(I, S) -> persistent_term:put(rewritten, {I}), S end, none),
    halt().

plan(0) -> #{<<"generation">> => 1, <<"aggregates">> => [counter(100)], <<"streams">> => []};
plan(I) ->
    (plan(0))#{<<"streams">> => [#{<<"schema">> => I, <<"event">> => ?EVENT, <<"columns">> => [[<<"metadata">>, [<<"k">>]]]}]}.

metric(I) -> (plan(0))#{<<"aggregates">> => [counter(1000 + I)]}.

counter(Key) -> #{<<"key">> => Key, <<"type">> => <<"counter">>, <<"event">> => ?EVENT, <<"labels">> => []}.

report(Name, Step, State) ->
    Watchers = [spawn_link(fun() -> watch(erlang:monotonic_time(microsecond), []) end)
                || _ <- lists:seq(1, max(1, erlang:system_info(schedulers_online) - 1))],
    {Us, {After, Steps}} = timer:tc(fun() -> steps(1, Step, State, []) end),
    Gaps = lists:append([begin W ! {stop, self()}, receive {W, L} -> L end end || W <- Watchers]),
    io:format("  ~-28s ~6b us a step (median), longest pause ~6b us, total ~b ms~n",
              [Name, lists:nth(?TIMES div 2, lists:sort(Steps)), lists:max([0 | Gaps]), Us div 1000]),
    After.

steps(I, _, State, Us) when I > ?TIMES -> {State, Us};
steps(I, Step, State, Us) ->
    {T, Next} = timer:tc(fun() -> Step(I, State) end),
    receive after 5 -> ok end,
    steps(I + 1, Step, Next, [T | Us]).

watch(Before, Gaps) ->
    Now = erlang:monotonic_time(microsecond),
    Kept = case Now - Before > 500 of true -> [Now - Before | Gaps]; false -> Gaps end,
    receive {stop, From} -> From ! {self(), Kept} after 0 -> watch(Now, Kept) end.
