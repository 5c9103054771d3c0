%% @doc Metrics of the application: definitions of Telemetry.Metrics, its structs, and functions that fail.
-module(dichroic_app_metrics_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [plan/1, engine/1, emit/4, flush/2]).

-export([metrics/0, none/0, sometimes/0]).

-define(STOP, [shop, checkout, stop]).

%% The structs of Telemetry.Metrics 1.0.
struct(Type, More) ->
    maps:merge(#{'__struct__' => Type, name => [shop, checkout, stop, duration], event_name => ?STOP, measurement => duration,
                 tags => [], tag_values => fun(M) -> M end, keep => nil, description => nil, unit => unit,
                 reporter_options => []}, More).

metrics() -> [{counter, "shop.checkout.stop.count"}].
none() -> error(no).
sometimes() ->
    case application:get_env(dichroic, answer_of_test, list) of
        list -> [{counter, "shop.checkout.stop.count"}];
        nonsense -> [a | b];
        error -> error(no)
    end.

answer(Answer) -> application:set_env(dichroic, answer_of_test, Answer).

with(Setting, Test) ->
    application:set_env(dichroic, metrics, Setting),
    try
        {ok, Refused, E} = engine(plan([])),
        Test(Refused, E)
    after application:unset_env(dichroic, metrics)
    end.

%% The content for a collector: {Definition, Labels, Row}
sent(Frames) ->
    Rows = maps:from_list([{element(1, R), list_to_tuple(tl(tuple_to_list(R)))} || {T, _, Rs} <- Frames, T =/= define, R <- Rs]),
    lists:sort([{Own, Labels, maps:get(Id, Rows)} || {define, series, Ds} <- Frames, {Id, #{<<"own">> := Own, <<"labels">> := Labels}} <- Ds]).

check(Title, Metric, Events, Expected) ->
    {Title, fun() ->
        with([Metric], fun(Refused, E) ->
            ?assertEqual([], Refused),
            [emit(E, ?STOP, Meas, Meta) || {Meas, Meta} <- Events],
            {Frames, _} = flush(1, E),
            ?assertEqual(Expected, [{maps:get(<<"type">>, Own), maps:get(<<"labels">>, Own), maps:get(<<"unit">>, Own), Labels, Row}
                                    || {Own, Labels, Row} <- sent(Frames)])
        end)
    end}.

%% A measurement as Telemetry.Metrics builds it for a conversion: a function with two values in its environment.
converting(Inner, Ratio) ->
    {Module, Beam} = support:compiled(
        "-module('Elixir.Telemetry.Metrics'). -export([convert/2]). "
        "convert(K, R) when is_atom(K) -> fun(#{K := V}) -> V * R end;"
        "convert(F, R) -> fun(M) -> F(M) * R end."),
    {module, Module} = code:load_binary(Module, "telemetry_metrics.ex", Beam),
    Module:convert(Inner, Ratio).

app_metrics_are_counted_like_those_of_a_plan_test_() ->
    Two = [{#{duration => 5}, #{plan => gold}}, {#{duration => 7}, #{plan => gold}}],
    [check("a counter", {counter, "shop.checkout.stop.count"}, Two, [{<<"counter">>, [], <<>>, [], {2, 0.0}}]),
     check("a sum by tag", {sum, "shop.checkout.stop.duration", [{tags, [plan]}, {unit, byte}]}, Two,
           [{<<"sum">>, [<<"plan">>], <<"byte">>, [<<"gold">>], {12, 0.0}}]),
     check("a name different from the event", {sum, "orders.time", #{event_name => "shop.checkout.stop", measurement => duration}}, Two,
           [{<<"sum">>, [], <<>>, [], {12, 0.0}}]),
     check("a map", #{type => last_value, name => <<"shop.checkout.stop.duration">>, unit => {native, millisecond}}, Two,
           [{<<"last">>, [], <<"native">>, [], {7, 0.0}}]),
     check("a distribution with buckets", {distribution, "shop.checkout.stop.duration", [{reporter_options, [{buckets, [5, 6]}]}, {unit, millisecond}]},
           Two, [{<<"buckets">>, [], <<"millisecond">>, [], {12, 0.0, [{0, 1, 1}, {2, 1, 1}]}}]),
     check("buckets are in the unit that a definition converts to",
           {distribution, "shop.checkout.stop.duration", [{reporter_options, [{buckets, [0.3, 5, 6]}]}, {unit, {nanosecond, millisecond}}]},
           [{#{duration => D}, #{}} || D <- [300000, 300001, 5000000, 6000001]],
           [{<<"buckets">>, [], <<"nanosecond">>, [], {11600002, 0.0, [{0, 1, 1}, {1, 1, 2}, {3, 1, 1}]}}]),
     check("a sum in kilobytes that is shown in megabytes", {sum, "shop.checkout.stop.duration", [{unit, {kilobyte, megabyte}}]},
           [{#{duration => 4019}, #{}}], [{<<"sum">>, [], <<"kilobyte">>, [], {4019, 0.0}}]),
     [check("a conversion of Telemetry.Metrics is taken out of its function: " ++ support:title(Wrapped),
            struct('Elixir.Telemetry.Metrics.Sum', #{measurement => converting(Wrapped, 0.001), unit => megabyte}),
            [{#{duration => 4019}, #{}}], [{<<"sum">>, [], <<"kilobyte">>, [], {4019, 0.0}}])
      || Wrapped <- [duration, fun(#{duration := D}) -> D end]],
     check("the buckets of a converting struct",
           struct('Elixir.Telemetry.Metrics.Distribution',
                  #{measurement => converting(duration, 1.0e-6), unit => millisecond, reporter_options => [{buckets, [1, 2]}]}),
           [{#{duration => D}, #{}} || D <- [1000000, 2000001]],
           [{<<"buckets">>, [], <<"nanosecond">>, [], {3000001, 0.0, [{0, 1, 1}, {2, 1, 1}]}}]),
     check("a ratio that is not of two units", struct('Elixir.Telemetry.Metrics.Sum', #{measurement => converting(duration, 0.5), unit => megabyte}),
           [{#{duration => 3}, #{}}], [{<<"sum">>, [], <<"megabyte">>, [], {0, 1.5}}]),
     check("a summary", {summary, "shop.checkout.stop.duration", [{unit, second}]}, [{#{duration => 1.0}, #{}}],
           [{<<"exponential">>, [], <<"second">>, [], {0, 1.0, [{-1, 1, 1}]}}]),
     check("a struct of a counter", struct('Elixir.Telemetry.Metrics.Counter', #{tags => [plan]}), Two,
           [{<<"counter">>, [<<"plan">>], <<>>, [<<"gold">>], {2, 0.0}}]),
     check("a struct whose tags are calculated",
           struct('Elixir.Telemetry.Metrics.Counter', #{tags => [plan], tag_values => fun(#{plan := P}) -> #{plan => {P}, x => 1} end}),
           Two, [{<<"counter">>, [<<"plan">>], <<>>, [null], {2, 0.0}}]),
     check("a struct whose measurement is calculated",
           struct('Elixir.Telemetry.Metrics.Sum', #{measurement => fun(#{duration := D}) -> D * 0.5 end, unit => millisecond}), Two,
           [{<<"sum">>, [], <<"millisecond">>, [], {0, 6.0}}]),
     check("a measurement of both", struct('Elixir.Telemetry.Metrics.Sum', #{measurement => fun(_, M) -> map_size(M) end}), Two,
           [{<<"sum">>, [], <<>>, [], {2, 0.0}}]),
     check("a struct that keeps some", struct('Elixir.Telemetry.Metrics.Counter', #{keep => fun(#{plan := P}) -> P =:= none end}), Two, []),
     check("one that drops some", {counter, "shop.checkout.stop.count", [{drop, fun(_, #{duration := D}) -> D > 5 end}]}, Two,
           [{<<"counter">>, [], <<>>, [], {1, 0.0}}])].

a_last_value_expires_earlier_than_a_total_unless_the_application_says_otherwise_test() ->
    Of = fun(Type, Options) ->
        case dichroic_app_metrics:compile([{Type, "shop.checkout.stop.duration", Options}], 10) of
            {[{_, _, _, #entry{expire_s = S}}], []} -> S;
            {[], [[null, Message]]} -> Message
        end
    end,
    ?assertEqual(3600, Of(last_value, [])),
    ?assertEqual(86400, Of(sum, [])),
    ?assertEqual(600, Of(last_value, [{reporter_options, [{expire_s, 600}]}])),
    [?assertMatch(<<"metrics: expire_s must be a number of seconds, at least 300", _/binary>>, Of(last_value, [{reporter_options, [{expire_s, Bad}]}]))
     || Bad <- [299, 0, 600.0, hour]].

functions_that_raise_count_nothing_and_stop_nothing_test() ->
    Bad = fun(_) -> error(no) end,
    with([{sum, "shop.checkout.stop.duration", [{measurement, Bad}]},
          {counter, "shop.checkout.stop.kept", [{keep, Bad}]},
          {counter, "shop.checkout.stop.tagged", [{tags, [a]}, {tag_values, Bad}]},
          {counter, "shop.checkout.stop.count"}], fun([], E) ->
        emit(E, ?STOP, #{duration => 1}, #{a => 1}),
        {Frames, _} = flush(1, E),
        ?assertEqual([{<<"shop.checkout.stop.count">>, [], {1, 0.0}}, {<<"shop.checkout.stop.tagged">>, [null], {1, 0.0}}],
                     lists:sort([{maps:get(<<"name">>, O), L, R} || {O, L, R} <- sent(Frames)])),
        ?assertEqual(0, support:account(Frames, 4, []))
    end).

an_invalid_metric_is_refused_by_name_and_the_others_count_test_() ->
    [{support:title(Bad), fun() ->
        with([Bad, {counter, "shop.checkout.stop.count"}], fun(Refused, E) ->
            ?assertMatch([[null, <<"metrics: ", _/binary>>]], Refused),
            emit(E, ?STOP, #{}, #{}),
            {Frames, _} = flush(1, E),
            ?assertMatch([{_, [], {1, 0.0}}], sent(Frames))
        end)
    end} || Bad <- [x, {gauge, "a.b"}, {counter, "a"}, {counter, ""}, {sum, 5}, #{type => sum}, struct('Elixir.Shop', #{}), [a | b],
                    {distribution, "a.b", [{reporter_options, [{buckets, [2, 1]}]}]}, {counter, "a.b", [{tags, x}]},
                    {counter, "a.b", [{keep, 1}]}, {counter, "shop.checkout.stop.count"}, {sum, "a.b", [{measurement, 1.5}]}]].

a_function_of_the_application_may_return_the_list_test() ->
    with({?MODULE, metrics, []}, fun(Refused, E) ->
        ?assertEqual([], Refused),
        ?assertEqual([?STOP], dichroic_engine:events(E))
    end),
    with({?MODULE, none, []}, fun(Refused, _) -> ?assertMatch([[null, <<"metrics: dichroic_app_metrics_tests:none/0 raised an exception">>]], Refused) end),
    with(nonsense, fun(Refused, _) -> ?assertMatch([[null, _]], Refused) end).

a_list_function_that_fails_once_loses_no_counts_test_() ->
    [{atom_to_list(Answer), fun() -> fails_once(Answer) end} || Answer <- [error, nonsense]].

fails_once(Answer) ->
    answer(list),
    with({?MODULE, sometimes, []}, fun([], E) ->
        [emit(E, ?STOP, #{}, #{}) || _ <- lists:seq(1, 100)],
        {_, E1} = flush(1, E),
        ?assertEqual(same, dichroic_engine:retry_app_metrics(E1)),
        answer(Answer),
        {ok, Refused, E2} = dichroic_engine:plan(plan([]), E1),
        ?assertMatch([[null, <<"metrics: ", _/binary>>]], Refused),
        ?assertEqual(same, dichroic_engine:retry_app_metrics(E2)),
        E3 = lists:foldl(fun(N, Acc) -> {_, Next} = flush(N, Acc), Next end, E2, lists:seq(2, 8)),
        answer(list),
        {ok, [], E4} = dichroic_engine:retry_app_metrics(E3),
        emit(E4, ?STOP, #{}, #{}),
        {F, _} = flush(9, E4),
        ?assertMatch([{numbers, _, [{_, 101, 0.0}]}], F)
    end).

%% The new function has not returned a list yet.
the_last_list_of_another_function_is_not_used_test() ->
    answer(list),
    with({?MODULE, sometimes, []}, fun([], E) ->
        application:set_env(dichroic, metrics, {?MODULE, none, []}),
        {ok, [_], E1} = dichroic_engine:plan(plan([]), E),
        ?assertEqual([], dichroic_engine:events(E1))
    end).

a_list_function_that_fails_at_first_is_called_again_test_() ->
    {timeout, 30, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => plan([])}),
        answer(error),
        application:set_env(dichroic, metrics, {?MODULE, sometimes, []}),
        ok = support:start_relay(Path),
        try
            fake_collector:wait(C, fun(#{replies := [#{<<"refused">> := [[null, <<"metrics: ", _/binary>>]]} | _]}) -> true end),
            answer(list),
            fake_collector:wait(C, fun(#{replies := [#{<<"refused">> := [], <<"attached">> := 1} | _]}) -> true end),
            telemetry:execute(?STOP, #{}, #{}),
            fake_collector:wait(C, fun(#{rows := Rows}) -> [{1, 0.0}] =:= maps:values(Rows) end),
            ?assertMatch(#{errors := []}, fake_collector:state(C))
        after
            application:unset_env(dichroic, metrics),
            support:stop_relay(),
            fake_collector:stop(C),
            file:delete(Path)
        end
    end}.

the_same_metric_keeps_its_key_and_totals_over_plans_test() ->
    Metrics = [{counter, "shop.checkout.stop.count", [{tags, [plan]}, {tag_values, fun(M) -> M end}]}],
    with(Metrics, fun([], E) ->
        emit(E, ?STOP, #{}, #{plan => a}),
        {F1, E1} = flush(1, E),
        {ok, [], E2} = dichroic_engine:plan((plan([]))#{<<"generation">> := 2}, E1),
        emit(E2, ?STOP, #{}, #{plan => a}),
        {F2, _} = flush(2, E2),
        ?assertMatch([{_, [<<"a">>], {1, 0.0}}], sent(F1)),
        ?assertMatch([{numbers, _, [{_, 2, 0.0}]}], F2)
    end).
