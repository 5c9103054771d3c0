%% @doc The behaviour of telemetry that the relay relies on. Runs with the stand-in, and with the real library if TELEMETRY_EBIN
%% is its ebin folder, so that the two cannot diverge.
-module(telemetry_contract_tests).

-include_lib("eunit/include/eunit.hrl").

-export([forward/4, fail/4]).

forward(Event, Measurements, Metadata, {Pid, Tag}) -> Pid ! {Tag, self(), Event, Measurements, Metadata}.
fail(_, _, _, Kind) -> erlang:raise(Kind, on_purpose, []).

contract_test_() ->
    {foreach,
     fun() -> ok = support:telemetry(), logger:set_primary_config(level, none) end,
     fun(_) ->
         [telemetry:detach(Id) || Id <- lists:usort([Id || #{id := Id} <- telemetry:list_handlers([])])],
         logger:set_primary_config(level, notice)
     end,
     [{"an id is attached once, and freed by detaching", fun() ->
           ?assertEqual(ok, attach(x, [a, b], tag)),
           ?assertEqual({error, already_exists}, attach(x, [a, c], tag)),
           ?assertEqual(ok, telemetry:detach(x)),
           ?assertEqual({error, not_found}, telemetry:detach(x)),
           ?assertEqual(ok, attach(x, [a, c], tag)) end},
      {"a handler is called in the process that executes, with its configuration", fun() ->
           ok = attach(x, [a, b], tag),
           ok = telemetry:execute([a, b], #{v => 1}, #{m => 2}),
           ?assertEqual([{tag, self(), [a, b], #{v => 1}, #{m => 2}}], all()) end},
      {"only events with exactly this name are handled", fun() ->
           ok = attach(x, [a, b], tag),
           [telemetry:execute(E, #{}, #{}) || E <- [[a], [a, b, c], [b, a]]],
           ?assertEqual([], all()) end},
      {"attach_many is one handler for many events", fun() ->
           ok = telemetry:attach_many(x, [[a], [b]], fun ?MODULE:forward/4, {self(), t}),
           telemetry:execute([a], #{}), telemetry:execute([b], #{}),
           ?assertMatch([{t, _, [a], _, _}, {t, _, [b], _, _}], all()),
           ok = telemetry:detach(x),
           telemetry:execute([a], #{}),
           ?assertEqual([], all()) end},
      {"all handlers of an event are called", fun() ->
           ok = attach(x, [a], one), ok = attach(y, [a], two),
           telemetry:execute([a], #{}),
           ?assertEqual([one, two], lists:sort([element(1, M) || M <- all()])) end},
      {"handlers are listed by prefix, with their configuration", fun() ->
           ok = attach(x, [a, b], tag), ok = attach(y, [c], tag),
           ?assertMatch([#{id := x, event_name := [a, b], config := {_, tag}, function := F}] when is_function(F, 4),
                        telemetry:list_handlers([a])),
           ?assertEqual(2, length([H || #{id := Id} = H <- telemetry:list_handlers([]), lists:member(Id, [x, y])])) end},
      {"a bare number is the measurement value", fun() ->
           ok = attach(x, [a], tag),
           telemetry:execute([a], 5),
           ?assertMatch([{_, _, _, #{value := 5}, M}] when M =:= #{}, all()) end},
      {"a span emits start and stop with the same context", fun() ->
           ok = telemetry:attach_many(x, [[s, start], [s, stop], [s, exception]], fun ?MODULE:forward/4, {self(), t}),
           ?assertEqual(done, telemetry:span([s], #{a => 1}, fun() -> {done, #{b => 2}} end)),
           [{t, _, [s, start], #{system_time := _, monotonic_time := _}, #{a := 1, telemetry_span_context := C}},
            {t, _, [s, stop], #{duration := D, monotonic_time := _}, #{b := 2, telemetry_span_context := C} = Stop}] = all(),
           ?assert(is_integer(D)),
           ?assertNot(maps:is_key(a, Stop)) end},
      {"a span that fails emits the exception with the metadata of its start", fun() ->
           ok = telemetry:attach_many(x, [[s, stop], [s, exception]], fun ?MODULE:forward/4, {self(), t}),
           ?assertError(on_purpose, telemetry:span([s], #{a => 1}, fun() -> error(on_purpose) end)),
           ?assertMatch([{t, _, [s, exception], #{duration := _}, #{a := 1, kind := error, reason := on_purpose, stacktrace := _}}], all()) end},
      {"without the application executing does nothing", fun() ->
           ok = attach(x, [a], tag),
           ok = application:stop(telemetry),
           ?assertEqual(ok, telemetry:execute([a], #{}, #{})),
           ?assertEqual([], all()),
           ok = support:telemetry() end}]
     ++ [{"a handler that fails by " ++ atom_to_list(Kind) ++ " is detached from all its events and reported, others go on", fun() ->
           ok = telemetry:attach_many(bad, [[a], [b]], fun ?MODULE:fail/4, Kind),
           ok = attach(good, [a], good),
           ok = attach(watch, [telemetry, handler, failure], watch),
           ?assertEqual(ok, telemetry:execute([a], #{v => 1}, #{})),
           telemetry:execute([b], #{}),
           ?assertMatch([{good, _, [a], _, _},
                         {watch, _, [telemetry, handler, failure], #{monotonic_time := _, system_time := _},
                          #{event_name := [a], handler_id := bad, handler_config := Kind, kind := Kind, reason := on_purpose,
                            stacktrace := _}}], lists:sort(all())),
           ?assertEqual([], [H || #{id := bad} = H <- telemetry:list_handlers([])]) end} || Kind <- [error, exit, throw]]}.

the_library_under_test_is_the_configured_one_test() ->
    ok = support:telemetry(),
    case os:getenv("TELEMETRY_EBIN", "") of
        "" -> ?assertEqual({ok, "0.0.0-stand-in"}, application:get_key(telemetry, vsn));
        Ebin -> ?assertEqual(filename:join(filename:absname(Ebin), "telemetry.beam"), filename:absname(code:which(telemetry)))
    end.

attach(Id, Event, Tag) -> telemetry:attach(Id, Event, fun ?MODULE:forward/4, {self(), Tag}).

all() -> receive M when is_tuple(M), tuple_size(M) =:= 5 -> [M | all()] after 0 -> [] end.
