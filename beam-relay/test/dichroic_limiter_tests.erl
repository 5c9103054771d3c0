%% @doc Credit and rate: admission, sending, and return of credit.
-module(dichroic_limiter_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-define(SENDER, dichroic_limiter_tests_sender).

limited(InFlight, PerSecond) ->
    Credit = dichroic_limiter:new(2),
    [ok = dichroic_limiter:set_limits(Credit, Pool, InFlight, PerSecond) || Pool <- [?EVENT_POOL, ?LOG_POOL]],
    Credit.

in_flight(Credit) -> [atomics:get(Credit, dichroic_limiter:lane(L, 2)) || L <- [1, 2, log]].

registered(Test) ->
    true = register(?SENDER, self()),
    try Test() after unregister(?SENDER) end.

send(Credit, Lane) -> dichroic_limiter:send(?SENDER, {row, Lane}, Credit, ?EVENT_POOL, Lane).

rows_in_flight_are_bounded_per_lane_test() ->
    registered(fun() ->
        Credit = limited(3, 1000),
        ?assertEqual([true, true, true, false], [send(Credit, dichroic_limiter:lane(1, 2)) || _ <- lists:seq(1, 4)]),
        ?assertEqual(?DROP_OVERLOAD, dichroic_limiter:admit(Credit, ?EVENT_POOL, dichroic_limiter:lane(1, 2), 7)),
        ?assertEqual(true, dichroic_limiter:admit(Credit, ?EVENT_POOL, dichroic_limiter:lane(2, 2), 7)),
        ?assertEqual([3, 0, 0], in_flight(Credit)),
        [receive {row, _} -> ok end || _ <- [1, 2, 3]]
    end).

the_count_of_the_rate_is_reset_each_second_test() ->
    Credit = limited(100, 2),
    Lane = dichroic_limiter:lane(1, 2),
    ?assertEqual([true, true, ?DROP_RATE, true, true, ?DROP_RATE],
                 [dichroic_limiter:admit(Credit, ?EVENT_POOL, Lane, S) || S <- [5, 5, 5, 6, 6, 6]]).

pools_do_not_share_their_rate_test() ->
    Credit = limited(100, 1),
    Admit = fun(Pool, L) -> dichroic_limiter:admit(Credit, Pool, dichroic_limiter:lane(L, 2), 5) end,
    ?assertEqual([true, ?DROP_RATE, true, ?DROP_RATE], [Admit(P, L) || {P, L} <- [{?EVENT_POOL, 1}, {?EVENT_POOL, 2}, {?LOG_POOL, log}, {?LOG_POOL, log}]]).

admission_takes_no_credit_test() ->
    Credit = limited(10, 1000),
    [true = dichroic_limiter:admit(Credit, ?EVENT_POOL, dichroic_limiter:lane(1, 2), 5) || _ <- lists:seq(1, 20)],
    ?assertEqual([0, 0, 0], in_flight(Credit)).

without_a_sender_no_credit_is_taken_test() ->
    Credit = limited(10, 1000),
    ?assertEqual(false, send(Credit, dichroic_limiter:lane(1, 2))),
    ?assertEqual([0, 0, 0], in_flight(Credit)).

credit_never_falls_below_zero_test() ->
    Credit = limited(10, 1000),
    Lane = dichroic_limiter:lane(1, 2),
    atomics:put(Credit, Lane, 3),
    ?assertEqual([2, 0, 0], [begin ok = dichroic_limiter:return(Credit, Lane, N), atomics:get(Credit, Lane) end || N <- [1, 5, 1]]).

all_credit_of_a_lane_is_returned_at_once_test() ->
    Credit = limited(10, 1000),
    [atomics:put(Credit, dichroic_limiter:lane(L, 2), 4) || L <- [1, 2, log]],
    ok = dichroic_limiter:return_all(Credit, dichroic_limiter:lane(log, 2)),
    ?assertEqual([4, 4, 0], in_flight(Credit)).

many_processes_take_no_more_than_there_is_test_() ->
    {timeout, 30, fun() ->
        registered(fun() ->
            Credit = limited(500, 1000),
            Lane = dichroic_limiter:lane(1, 2),
            Workers = [spawn_monitor(fun() -> exit({sent, length([x || _ <- lists:seq(1, 200), send(Credit, Lane)])}) end) || _ <- lists:seq(1, 8)],
            Sent = [receive {'DOWN', Ref, process, _, {sent, N}} -> N end || {_, Ref} <- Workers],
            ?assertEqual({500, 500}, {lists:sum(Sent), hd(in_flight(Credit))}),
            [receive {row, _} -> ok end || _ <- lists:seq(1, 500)]
        end)
    end}.
