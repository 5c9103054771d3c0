%% @doc Readings of Snakepit's pools, from a process with its name that answers like it.
-module(dichroic_snakepit_tests).

-include_lib("eunit/include/eunit.hrl").

-export([init/1, handle_call/3, handle_cast/2]).

-define(POOL, 'Elixir.Snakepit.Pool').

init(Stats) -> {ok, Stats}.

handle_call({set, Stats}, _, _) -> {reply, ok, Stats};
handle_call(hang, From, Stats) ->
    gen_server:reply(From, ok),
    timer:sleep(500),
    {noreply, Stats};
handle_call({get_stats, Pool}, _, Stats) ->
    {reply, maps:get(Pool, Stats, {error, {pool_not_found, Pool}}), Stats}.

handle_cast(_, Stats) -> {noreply, Stats}.

with_pools(Stats, Test) ->
    {ok, Pid} = gen_server:start({local, ?POOL}, ?MODULE, Stats, []),
    try Test(Pid)
    after
        application:unset_env(snakepit, pools),
        gen_server:stop(Pid)
    end.

stats(Timeouts, Busy) ->
    #{requests => 40, queued => 3, errors => 0, queue_timeouts => Timeouts, pool_saturated => 1, workers => 4, available => 4 - Busy, busy => Busy}.

row(Pool, Timeouts, Busy) ->
    {#{queued => 3, queue_timeouts => Timeouts, workers => 4, available => 4 - Busy, busy => Busy}, #{pool => Pool}}.

without_snakepit_nothing_is_read_test() ->
    ?assertEqual({[], #{}}, dichroic_snakepit:sample(none)).

the_default_pool_is_read_without_a_list_of_pools_test() ->
    with_pools(#{default => stats(2, 1)}, fun(_) ->
        {Rows, State} = dichroic_snakepit:sample(none),
        ?assertEqual([row(default, 0, 1)], Rows),
        ok = gen_server:call(?POOL, {set, #{default => stats(5, 4)}}),
        {Later, State1} = dichroic_snakepit:sample(State),
        ?assertEqual([row(default, 3, 4)], Later),
        %% Restarted.
        ok = gen_server:call(?POOL, {set, #{default => stats(1, 0)}}),
        ?assertMatch({[{#{queue_timeouts := 1}, _}], _}, dichroic_snakepit:sample(State1))
    end).

a_pool_that_starts_after_the_relay_counts_from_its_start_test() ->
    {[], State} = dichroic_snakepit:sample(none),
    with_pools(#{default => stats(2, 1)}, fun(_) ->
        ?assertMatch({[{#{queue_timeouts := 2}, #{pool := default}}], _}, dichroic_snakepit:sample(State))
    end).

configured_pools_are_read_and_unknown_ones_left_out_test() ->
    with_pools(#{cpu => stats(0, 1), gpu => stats(0, 2)}, fun(_) ->
        application:set_env(snakepit, pools, [#{name => cpu}, #{name => nowhere}, [{name, gpu}], not_a_pool, #{name => <<"text">>}]),
        {Rows, _} = dichroic_snakepit:sample(none),
        ?assertEqual([row(cpu, 0, 1), row(gpu, 0, 2)], Rows)
    end).

a_pool_that_does_not_answer_costs_a_tenth_of_a_second_test() ->
    with_pools(#{cpu => stats(1, 1), gpu => stats(0, 2)}, fun(_) ->
        application:set_env(snakepit, pools, [#{name => cpu}, #{name => gpu}]),
        {[_, _], State} = dichroic_snakepit:sample(none),
        ok = gen_server:call(?POOL, hang),
        {Micros, {Rows, State1}} = timer:tc(dichroic_snakepit, sample, [State]),
        ?assertEqual([], Rows),
        ?assertEqual(State, State1),
        ?assert(Micros < 450000)
    end).
