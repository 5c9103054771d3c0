%% @doc Event prefixes that libraries choose at run time, read from where the libraries keep them.
-module(dichroic_variables_tests).

-include_lib("eunit/include/eunit.hrl").

-define(ECTO, "-module('Elixir.Ecto.Repo'). -export([all_running/0]). all_running() -> ['Elixir.Stock.Repo', 'Elixir.Gone.Repo', self()].").
-define(ADAPTER, "-module('Elixir.Ecto.Adapter'). -export([lookup_meta/1]). "
                 "lookup_meta('Elixir.Stock.Repo') -> #{telemetry => {'Elixir.Stock.Repo', debug, [stock, repo, query]}}; "
                 "lookup_meta(P) when is_pid(P) -> #{telemetry => {x, debug, [by, pid, query]}}; "
                 "lookup_meta(_) -> error(not_started).").
-define(REGISTRY, "-module('Elixir.Nebulex.Cache.Registry'). -export([x/0]). x() -> ok.").
-define(ASH, "-module('Elixir.Ash.Domain.Info'). -export([short_name/1]). short_name(_) -> shop.").

a_node_without_such_libraries_has_no_values_test() -> ?assertEqual(#{}, dichroic_variables:read()).

repositories_caches_and_domains_are_found_test() ->
    Modules = [load(Source) || Source <- [?ECTO, ?ADAPTER, ?REGISTRY, ?ASH]],
    Key = {'Elixir.Nebulex.Cache.Registry', self()},
    persistent_term:put(Key, {make_ref(), {adapter, #{telemetry_prefix => [shop, cache]}}}),
    Level = {'Elixir.Nebulex.Cache.Registry', group_leader()},
    persistent_term:put(Level, {make_ref(), {adapter, #{telemetry_prefix => [shop, cache, l1]}}}),
    application:set_env(stdlib, ash_domains, [?MODULE]),
    try
        ?assertEqual(#{<<"ecto_prefix">> => [<<"by.pid">>, <<"stock.repo">>], <<"nebulex_prefix">> => [<<"shop.cache">>],
                       <<"ash_domain">> => [<<"shop">>]}, dichroic_variables:read())
    after
        application:unset_env(stdlib, ash_domains),
        persistent_term:erase(Key),
        persistent_term:erase(Level),
        [code:purge(M) || M <- Modules, code:delete(M)]
    end.

caches_of_all_nebulex_versions_are_found_test_() ->
    [{Title, fun() ->
         Module = load(?REGISTRY),
         Key = {'Elixir.Nebulex.Cache.Registry', self()},
         persistent_term:put(Key, Entry),
         try ?assertEqual(Found, dichroic_variables:read())
         after
             persistent_term:erase(Key),
             code:delete(Module),
             code:purge(Module)
         end
     end} || {Title, Entry, Found} <-
        [{"2.0", {make_ref(), {adapter, #{telemetry_prefix => [shop, cache]}}}, #{<<"nebulex_prefix">> => [<<"shop.cache">>]}},
         {"2.4", {make_ref(), #{telemetry_prefix => [shop, cache]}}, #{<<"nebulex_prefix">> => [<<"shop.cache">>]}},
         {"3.0", {make_ref(), 'Elixir.Shop.Cache', #{telemetry_prefix => [shop, cache]}}, #{<<"nebulex_prefix">> => [<<"shop.cache">>]}},
         {"3.0, a cache without a name", {make_ref(), nil, #{telemetry_prefix => [shop, cache]}}, #{<<"nebulex_prefix">> => [<<"shop.cache">>]}},
         {"another entry", {make_ref(), a, b, c}, #{}}, {"no tuple", x, #{}}]].

the_time_after_which_snakepit_ends_telemetry_is_found_test_() ->
    [{Vsn, fun() ->
         ok = application:load({application, snakepit, [{vsn, Vsn}, {applications, [kernel, stdlib]}, {env, Env}]}),
         try ?assertEqual(Found, dichroic_variables:read()) after application:unload(snakepit) end
     end} || {Vsn, Env, Found} <-
        [{"0.13.0", [], #{<<"snakepit_stream_ms">> => [<<"5000">>]}}, {"0.9.1", [], #{<<"snakepit_stream_ms">> => [<<"5000">>]}},
         {"0.13.1", [{grpc_stream_open_timeout_ms, 86400000}], #{<<"snakepit_stream_ms">> => [<<"86400000">>]}},
         {"0.13.2", [{grpc_stream_open_timeout_ms, infinity}], #{}}, {"0.14.0", [], #{}}, {"1.0.0", [], #{}}, {"dev", [], #{}}]].

a_library_that_raises_or_returns_nonsense_hides_no_other_values_test_() ->
    [fun() ->
         Modules = [load(Source) || Source <- [Ecto, ?ADAPTER, ?ASH]],
         application:set_env(stdlib, ash_domains, [?MODULE]),
         try ?assertEqual(#{<<"ash_domain">> => [<<"shop">>]}, dichroic_variables:read())
         after
             application:unset_env(stdlib, ash_domains),
             [code:purge(M) || M <- Modules, code:delete(M)]
         end
     end || Ecto <- ["-module('Elixir.Ecto.Repo'). -export([all_running/0]). all_running() -> error(no).",
                     "-module('Elixir.Ecto.Repo'). -export([all_running/0]). all_running() -> [not_a_repository].",
                     "-module('Elixir.Ecto.Repo'). -export([all_running/0]). all_running() -> nonsense."]].

found(Values) -> #{<<"ash_domain">> => Values}.
named(Numbers) -> [iolist_to_binary(io_lib:format("domain_~2..0b", [N])) || N <- Numbers].

remembered(Found, Known) -> dichroic_variables:merge(found(Found), found(Known)).

sent_values_are_kept_and_never_more_than_sixteen_are_sent_test() ->
    Late = named(lists:seq(9, 20)),
    {Sent, []} = remembered(Late, []),
    ?assertEqual(found(Late), Sent),
    {Full, [[null, Message]]} = remembered(named(lists:seq(1, 20)), Late),
    ?assertEqual(found(named([1, 2, 3, 4] ++ lists:seq(9, 20))), Full),
    ?assertEqual(<<"ash_domain: 4 values ignored (more than 16, or invalid in an event name): domain_05, domain_06, domain_07, domain_08">>, Message),
    ?assertMatch({Full, [[null, Message]]}, dichroic_variables:merge(found(named(lists:seq(1, 20))), Full)),
    ?assertEqual({Full, []}, dichroic_variables:merge(#{}, Full)).

values_that_a_collector_rejects_are_ignored_and_the_others_are_sent_test() ->
    {Sent, [[null, Message]]} = remembered([<<>>, <<"$x">>, <<"a.{b">>, <<"a}">>, <<"shop">>], []),
    ?assertEqual(found([<<"shop">>]), Sent),
    ?assertMatch(<<"ash_domain: 4 values ignored", _/binary>>, Message),
    ?assertMatch({Nothing, [_]} when map_size(Nothing) =:= 0, dichroic_variables:merge(found([<<>>]), #{})).

the_result_of_a_lookup_is_cast_test() ->
    Pid = dichroic_variables:start_lookup(self()),
    Monitor = monitor(process, Pid),
    receive {'$gen_cast', {variables, Found}} -> ?assertEqual(#{}, Found) after 5000 -> error(nothing_came) end,
    receive {'DOWN', Monitor, process, Pid, Reason} -> ?assert(lists:member(Reason, [normal, noproc])) end.

load(Source) ->
    {Module, Beam} = support:compiled(Source),
    {module, Module} = code:load_binary(Module, "test", Beam),
    Module.
