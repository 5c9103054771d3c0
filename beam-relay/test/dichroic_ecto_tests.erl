%% @doc Readings of the pools of Ecto's repositories, from modules with the names and the functions that the relay calls.
-module(dichroic_ecto_tests).

-include_lib("eunit/include/eunit.hrl").

-define(POOL, 'Elixir.DBConnection.ConnectionPool').

load(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Module, Beam} = compile:forms(forms(Tokens, [])),
    {module, Module} = code:load_binary(Module, "", Beam),
    Module.

forms([], []) -> [];
forms([{dot, _} = Dot | Tokens], Form) ->
    {ok, Parsed} = erl_parse:parse_form(lists:reverse([Dot | Form])),
    [Parsed | forms(Tokens, [])];
forms([Token | Tokens], Form) -> forms(Tokens, [Token | Form]).

with_ecto(Test) ->
    Modules = [load("-module('Elixir.DBConnection.ConnectionPool'). -export([init/1, handle_call/3, handle_cast/2, get_connection_metrics/1]).
                     init(State) -> {ok, State}.
                     get_connection_metrics(_) -> error(not_called).
                     handle_call(get_connection_metrics, _, slow) -> timer:sleep(400), {noreply, slow};
                     handle_call(get_connection_metrics, _, {I, W} = S) ->
                         {reply, [#{source => {pool, self()}, ready_conn_count => I, checkout_queue_length => W}], S}.
                     handle_cast(_, S) -> {noreply, S}."),
               load("-module('Elixir.Ecto.Repo'). -export([all_running/0]).
                     all_running() -> persistent_term:get(dichroic_ecto_tests_repos)."),
               load("-module('Elixir.Ecto.Adapter'). -export([lookup_meta/1]).
                     lookup_meta(Repo) -> maps:get(Repo, persistent_term:get(dichroic_ecto_tests_metas)).")],
    try Test()
    after
        [persistent_term:erase(Key) || Key <- [dichroic_ecto_tests_repos, dichroic_ecto_tests_metas]],
        [begin code:purge(M), code:delete(M), code:purge(M) end || M <- Modules]
    end.

%% As gen_server:start/3 starts it: the initial call is that of the module.
pool(State) -> fun() -> {ok, Pid} = gen_server:start(?POOL, State, []), Pid end.

without_ecto_nothing_is_read_test() ->
    ?assertEqual([], dichroic_ecto:sample()).

the_pool_of_each_repository_is_read_test() ->
    with_ecto(fun() ->
        Metas = #{main => #{pid => (pool({3, 0}))(), opts => [{timeout, 15000}, {pool_size, 10}]},
                  reports => #{pid => (pool({0, 4}))(), opts => []},
                  %% Another kind of pool, a supervisor of several, one that has stopped.
                  sandbox => #{pid => whereis(kernel_sup), opts => [{pool_size, 5}]},
                  strange => #{pid => not_a_pid},
                  stopped => gone},
        persistent_term:put(dichroic_ecto_tests_repos, lists:sort(maps:keys(Metas)) ++ [self()]),
        persistent_term:put(dichroic_ecto_tests_metas, maps:remove(stopped, Metas)),
        Rows = dichroic_ecto:sample(),
        [gen_server:stop(maps:get(pid, maps:get(R, Metas))) || R <- [main, reports]],
        ?assertEqual([{#{idle => 3, waiting => 0, size => 10}, #{repo => main}}, {#{idle => 0, waiting => 4}, #{repo => reports}}], Rows)
    end).

a_pool_that_does_not_answer_costs_a_tenth_of_a_second_test() ->
    with_ecto(fun() ->
        Metas = #{main => #{pid => (pool(slow))(), opts => []}, other => #{pid => (pool(slow))(), opts => []}},
        persistent_term:put(dichroic_ecto_tests_repos, [main, other]),
        persistent_term:put(dichroic_ecto_tests_metas, Metas),
        {Micros, Rows} = timer:tc(dichroic_ecto, sample, []),
        [exit(Pid, kill) || #{pid := Pid} <- maps:values(Metas)],
        ?assertEqual([], Rows),
        ?assert(Micros < 190000)
    end).
