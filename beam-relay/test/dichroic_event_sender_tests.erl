%% @doc The senders of rows: when they return credit.
-module(dichroic_event_sender_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [plan/2, meas/1, stream/3, wait/1]).

-define(E, [shop, order]).

with_relay(Limits, Test) ->
    {timeout, 60, fun() ->
        Path = support:socket_path(),
        Plan = plan([], #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])], <<"limits">> => Limits}),
        {C, _} = fake_collector:start(Path, #{plan => Plan}),
        support:start_relay(Path),
        try
            fake_collector:wait(C, fun(#{pings := N, replies := [_ | _]}) -> N > 0 end),
            Test(C),
            ?assertEqual([], maps:get(errors, fake_collector:state(C)))
        after
            support:stop_relay(),
            fake_collector:stop(C)
        end
    end}.

cells() ->
    #static{credit = Credit, shards = Shards} = persistent_term:get(?STATIC),
    [{Credit, dichroic_limiter:lane(S, Shards)} || S <- lists:seq(1, Shards + 1)].

held() -> [atomics:get(Credit, Cell) || {Credit, Cell} <- cells()].

rows(C) -> length(lists:append([Rows || {7, Rows} <- maps:get(events, fake_collector:state(C))])).

credit_without_a_sent_row_is_returned_when_the_sender_is_idle_test_() ->
    with_relay(#{<<"credit">> => 40}, fun(C) ->
        [atomics:put(Credit, Cell, 40) || {Credit, Cell} <- cells()],
        telemetry:execute(?E, #{v => 1}, #{}),
        ?assertEqual(0, rows(C)),
        wait(fun() -> [0] =:= lists:usort(held()) end),
        telemetry:execute(?E, #{v => 2}, #{}),
        wait(fun() -> rows(C) =:= 1 end),
        wait(fun() -> [0] =:= lists:usort(held()) end)
    end).

%% Rows whose credit was taken before all credit was returned.
rows_sent_without_credit_return_none_test_() ->
    with_relay(#{}, fun(C) ->
        [begin dichroic_event_sender_1 ! {row, 1, erlang:system_time(nanosecond), [N]}, ok end || N <- lists:seq(1, 10)],
        wait(fun() -> rows(C) =:= 10 end),
        _ = sys:get_state(dichroic_event_sender_1),
        ?assertEqual([0], lists:usort(held()))
    end).
