%% @doc Load, long outages and many nodes: totals are exact and memory is flat.
-module(load_SUITE).

-compile([export_all, nowarn_export_all]).

-import(support, [counter/3, sum/4, plan/1, plan/2, meas/1, meta/1]).
-import(test_node, [with/2, call/3, call/4, counted/4]).

-define(E, [shop, order]).

all() -> [a_million_events_of_two_hundred_processes_are_counted_exactly, counts_of_a_long_outage_are_sent_in_one_flush,
          {group, nodes}].

groups() -> [{nodes, [parallel], [six_nodes_at_once_are_six_sources, a_node_that_starts_again_and_again_is_counted_each_time]}].

typed(Key, Type, More) -> maps:merge((sum(Key, ?E, meas(<<"v">>), []))#{<<"type">> := Type}, More).

plan() ->
    plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, meas(<<"v">>), [meta(<<"k">>)]),
          typed(102, <<"exponential">>, #{<<"scale">> => 3, <<"octaves">> => [-20, 20]}),
          typed(103, <<"buckets">>, #{<<"bounds">> => [10, 100, 1000]}), typed(104, <<"last">>, #{})]).

a_million_events_of_two_hundred_processes_are_counted_exactly(_) ->
    Processes = 200,
    Each = 5000,
    All = Processes * Each,
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, burst, [?E, Processes, 10]),
        Before = call(Peer, memory, []),
        ok = call(Peer, burst, [?E, Processes, Each - 10]),
        %% Each process emits the measurements 1, 2, ... in both bursts.
        Sum = Processes * (10 * 11 + (Each - 10) * (Each - 9)) div 2,
        [counted(C, 100, [K], {All div 4, 0.0}) || K <- [0, 1, 2, 3]],
        {I, F, Buckets} = fake_collector:wait(C, fun(S) -> {Sum, _, _} = fake_collector:total(S, 102, []) end),
        {Sum, 0.0, All} = {I, F, lists:sum([N || {_, N} <- Buckets])},
        {Sum, 0.0, Bounds} = fake_collector:wait(C, fun(S) -> {Sum, _, _} = fake_collector:total(S, 103, []) end),
        [{{1, 0}, 4000}, {{1, 1}, 18000}, {{1, 2}, 180000}, {{1, 3}, 798000}] = lists:sort(Bounds),
        true = call(Peer, memory, []) - Before < 4000000
    end).

%% Meanwhile: label sets beyond the cap, values that are not numbers, streams that are not read.
counts_of_a_long_outage_are_sent_in_one_flush(_) ->
    Capped = [E#{<<"series">> => 50} || E <- maps:get(<<"aggregates">>, plan())],
    Plan = plan(Capped, #{<<"streams">> => [support:stream(7, ?E, [meas(<<"v">>)])]}),
    with(#{plan => Plan}, fun(#{peer := Peer, collector := C, path := Path}) ->
        ok = call(Peer, miniature, [?E, 20000]),
        _ = fake_collector:wait(C, fun(S) -> {20000, 0.0} = all(100, S) end),
        fake_collector:kill(C),
        ok = call(Peer, miniature, [?E, 20000]),
        Before = call(Peer, memory, []),
        ok = call(Peer, miniature, [?E, 460000]),
        true = call(Peer, memory, []) - Before < 2000000,
        {Next, _} = fake_collector:start(Path, #{plan => Plan}),
        try
            _ = fake_collector:wait(Next, fun(S) -> {500000, 0.0} = all(100, S) end),
            _ = fake_collector:wait(Next, fun(S) -> {500000, 0.0} = all(101, S) end)
        after fake_collector:stop(Next)
        end
    end).

%% The sum over all label sets of a key.
all(Key, #{rows := Rows}) ->
    lists:foldl(fun({I, F}, {J, G}) -> {I + J, F + G} end, {0, 0.0}, [V || {{K, _, _}, V} <- maps:to_list(Rows), K =:= Key]).

six_nodes_at_once_are_six_sources(_) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
        Self ! {self(), with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
            ok = call(Peer, emit, [?E, #{k => <<"x">>}, 1000 * N]),
            counted(C, 100, [<<"x">>], {1000 * N, 0.0}),
            #{hello := #{<<"os_pid">> := OsPid}} = fake_collector:state(C),
            OsPid
        end)}
    end) || N <- lists:seq(1, 6)],
    OsPids = [receive {P, OsPid} -> OsPid end || P <- Pids],
    6 = length(lists:usort(OsPids)).

a_node_that_starts_again_and_again_is_counted_each_time(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        lists:foreach(fun(N) ->
            ok = call(Peer, emit, [?E, #{k => <<"x">>}, 100]),
            ok = call(Peer, application, stop, [dichroic]),
            [] = call(Peer, handlers, []),
            counted(C, 100, [<<"x">>], {100 * N, 0.0}),
            ok = call(Peer, application, start, [dichroic]),
            ok = call(Peer, attached, [])
        end, [1, 2, 3, 4])
    end).
