%% @doc The contract with telemetry on a separate node: of the stand-in, and of the library if TELEMETRY_EBIN is set.
-module(telemetry_SUITE).

-compile([export_all, nowarn_export_all]).

-import(support, [counter/3, sum/4, plan/1, meas/1, meta/1]).
-import(test_node, [call/3, call/4, counted/4]).

-define(E, [shop, order]).

all() ->
    [{group, stand_in} | [{group, library} || Ebin <- [os:getenv("TELEMETRY_EBIN")], is_list(Ebin), Ebin =/= ""]].

groups() ->
    Cases = [every_part_of_a_span_is_counted, a_handler_that_fails_beside_ours_costs_no_count,
             a_detached_handler_is_attached_again_and_counts, a_plan_is_attached_as_one_handler,
             events_are_counted_after_handlers_are_persisted, telemetry_that_stops_and_starts_is_attached_again],
    [{stand_in, [parallel], Cases}, {library, [parallel], Cases}].

init_per_group(stand_in, Config) -> [{library, #{telemetry => stand_in}} | Config];
init_per_group(_, Config) -> [{library, #{}} | Config].

end_per_group(_, _) -> ok.

with(Config, Plan, Test) -> test_node:with((proplists:get_value(library, Config))#{plan => Plan}, Test).

orders() -> plan([counter(100, ?E, [meta(<<"k">>)])]).

every_part_of_a_span_is_counted(Config) ->
    Plan = plan([counter(100 + I, ?E ++ [Part], [meta(<<"k">>)]) || {I, Part} <- [{0, start}, {1, stop}, {2, exception}]]
                ++ [sum(103, ?E ++ [stop], meas(<<"monotonic_time">>), [])]),
    with(Config, Plan, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, spans, [?E, 50, 7]),
        [counted(C, Key, [<<"s">>], {N, 0.0}) || {Key, N} <- [{100, 57}, {101, 50}, {102, 7}]]
    end).

a_handler_that_fails_beside_ours_costs_no_count(Config) ->
    with(Config, orders(), fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, attach_failing, [?E]),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 500]),
        counted(C, 100, [<<"x">>], {500, 0.0}),
        none = fake_collector:total(fake_collector:state(C), 4, []),
        %% The library's own log message is expected.
        true = call(Peer, forget_logged, [])
    end).

a_detached_handler_is_attached_again_and_counts(Config) ->
    with(Config, orders(), fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        [ok = call(Peer, telemetry, detach, [Id]) || Id <- call(Peer, handlers, [])],
        support:wait(fun() -> length(call(Peer, handlers, [])) =:= 2 end),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        counted(C, 100, [<<"x">>], {20, 0.0}),
        counted(C, 5, [], {1, 0.0})
    end).

%% After telemetry:persist() every attach and detach makes the VM visit all processes.
a_plan_is_attached_as_one_handler(Config) ->
    Events = [[shop, binary_to_atom(<<"e", (integer_to_binary(I))/binary>>)] || I <- lists:seq(1, 300)],
    Plan = fun(Es) -> plan([counter(100 + I, Event, []) || {I, Event} <- lists:zip(lists:seq(1, length(Es)), Es)]) end,
    with(Config, Plan(Events), fun(#{peer := Peer, collector := C}) ->
        [{dichroic, 1}, {dichroic, failure}] = lists:sort(call(Peer, handlers, [])),
        %% The events that remain stay attached; those that are added are another handler.
        Changed = lists:sublist(Events, 100) ++ [?E],
        fake_collector:plan(C, (Plan(Changed))#{<<"generation">> => 2}),
        _ = fake_collector:wait(C, fun(#{replies := [#{<<"generation">> := G, <<"attached">> := N} | _]}) -> G =:= 2 andalso N =:= 101 end),
        [{dichroic, 1}, {dichroic, 2}, {dichroic, failure}] = lists:sort(call(Peer, handlers, [])),
        ok = call(Peer, emit, [?E, #{}, 7]),
        ok = call(Peer, emit, [hd(Events), #{}, 5]),
        ok = call(Peer, emit, [lists:last(Events), #{}, 3]),
        counted(C, 201, [], {7, 0.0}),
        counted(C, 101, [], {5, 0.0}),
        %% A handler without an event of the plan is detached.
        fake_collector:plan(C, (orders())#{<<"generation">> => 3}),
        support:wait(fun() -> [{dichroic, 2}, {dichroic, failure}] =:= lists:sort(call(Peer, handlers, [])) end),
        none = fake_collector:total(fake_collector:state(C), 5, [])
    end).

events_are_counted_after_handlers_are_persisted(Config) ->
    with(Config, orders(), fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        ok = call(Peer, telemetry, persist, []),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        counted(C, 100, [<<"x">>], {20, 0.0}),
        fake_collector:plan(C, (plan([counter(100, ?E, [meta(<<"k">>)]), counter(101, [shop, late], [])]))#{<<"generation">> => 2}),
        _ = fake_collector:wait(C, fun(#{replies := [#{<<"attached">> := 2} | _]}) -> true; (_) -> false end),
        ok = call(Peer, emit, [[shop, late], #{}, 5]),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        counted(C, 101, [], {5, 0.0}),
        counted(C, 100, [<<"x">>], {30, 0.0}),
        [ok = call(Peer, telemetry, detach, [Id]) || Id <- call(Peer, handlers, [])],
        support:wait(fun() -> length(call(Peer, handlers, [])) =:= 2 end),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        counted(C, 100, [<<"x">>], {40, 0.0})
    end).

telemetry_that_stops_and_starts_is_attached_again(Config) ->
    with(Config, orders(), fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        ok = call(Peer, application, stop, [telemetry]),
        ok = call(Peer, emit, [?E, #{k => <<"detached">>}, 10]),
        ok = call(Peer, application, start, [telemetry]),
        ok = call(Peer, attached_again, [?E]),
        ok = call(Peer, emit, [?E, #{k => <<"x">>}, 10]),
        counted(C, 100, [<<"x">>], {20, 0.0}),
        none = fake_collector:total(fake_collector:state(C), 100, [<<"detached">>]),
        true = call(Peer, forget_logged, [])
    end).
