%% @doc Messages of logger as events and rows: counting, sending, cutting, and the protection of the
%% process that logs.
-module(dichroic_logger_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/logger.hrl").
-include("../src/dichroic.hrl").

-import(support, [plan/1, plan/2, meas/1, meta/1, counter/3, engine/1, flush/2, total/3, wait/1, account/3]).
-import(fake_collector, [wait/2]).

-export([crash_at/1, init/1, handle_info/2]).

-define(MESSAGE, [dichroic, logger, message]).
-define(CRASH, [dichroic, logger, crash]).

log_stream(Schema) -> log_stream(Schema, [[<<"allow">>, <<"request_id">>, <<"mfa">>, <<"line">>, <<"pid">>, <<"conn">>]]).
log_stream(Schema, Allow) ->
    #{<<"schema">> => Schema, <<"kind">> => <<"log">>, <<"event">> => support:names(?MESSAGE),
      <<"columns">> => [meas(<<"severity">>), meta(<<"body">>) ++ [[<<"cut">>, 200]], meta(<<"trace_id">>), meta(<<"span_id">>),
                        meta(<<"attributes">>) ++ Allow]}.

logs() -> plan([counter(100, ?MESSAGE, [meta(<<"level">>)]), counter(101, ?CRASH, [meta(<<"initial_call">>), meta(<<"class">>)])],
               #{<<"streams">> => [log_stream(7)]}).

%% An engine whose log rows are sent to the test process. The default handler is silenced.
with_logs(Plan, Test) ->
    {ok, Refused, E} = engine(Plan),
    ?assertEqual([], Refused),
    _ = waiting(),
    true = register(dichroic_event_sender_log, self()),
    _ = logger:set_handler_config(default, level, none),
    ok = dichroic_logger:set_events(dichroic_engine:events(E)),
    ok = dichroic_engine:streams_on(E),
    try Test(E)
    after
        dichroic_logger:set_events([]),
        _ = logger:set_handler_config(default, level, all),
        unregister(dichroic_event_sender_log)
    end.

%% The cells of the next row.
row() -> receive {log, _, _, Log} -> dichroic_logger:cells(Log) after 2000 -> none end.
waiting() -> receive {log, _, _, Log} -> [Log | waiting()] after 0 -> [] end.
no_row() -> receive {log, _, _, _} = Log -> Log after 50 -> none end.

check(Title, Log, [Severity, Body, Attributes]) ->
    {Title, fun() ->
        with_logs(logs(), fun(_) ->
            Log(),
            [S, B, _, _, {map, A}] = row(),
            ?assertEqual({Severity, Body}, {S, B}),
            ?assertEqual(Attributes, maps:with(maps:keys(Attributes), A)),
            ?assertEqual(none, no_row())
        end)
    end}.

messages_are_rows_with_severity_body_and_the_planned_metadata_test_() ->
    Wide = lists:duplicate(300, $x),
    Whole = list_to_binary(lists:duplicate(200, $x)),
    [check("an error", fun() -> ?LOG_ERROR("it ~ts", ["broke"]) end, [17, <<"it broke">>, #{}]),
     check("a notice", fun() -> logger:notice("n") end, [10, <<"n">>, #{}]),
     check("an emergency", fun() -> logger:emergency("n") end, [21, <<"n">>, #{}]),
     check("text that is a binary", fun() -> logger:error(<<"gr", 195, 188, "n">>) end, [17, <<"gr", 195, 188, "n">>, #{}]),
     check("nested text", fun() -> logger:error(["a", [<<"b">>, $c]]) end, [17, <<"abc">>, #{}]),
     check("a report", fun() -> logger:error(#{what => 1}) end, [17, <<"    what: 1">>, #{}]),
     check("a report with a callback",
           fun() -> logger:error(#{n => 5}, #{report_cb => fun(#{n := N}) -> {"five is ~b", [N]} end}) end,
           [17, <<"five is 5">>, #{}]),
     check("a report whose callback fails",
           fun() -> logger:error(#{n => 5}, #{report_cb => fun(_) -> error(no) end}) end,
           [17, <<"{report,#{n => 5}}">>, #{}]),
     check("a wrong format", fun() -> logger:error("~b ~b", [x]) end, [17, <<"{\"~b ~b\",[x]}">>, #{}]),
     check("text beyond the cap", fun() -> logger:error(Wide) end, [17, {cut, 300, Whole}, #{}]),
     check("a large term beyond the cap", fun() -> logger:error("~0p", [lists:duplicate(100000, $x)]) end,
           [17, iolist_to_binary(["\"", lists:duplicate(195, $x), "\"..."]), #{}]),
     check("a very long text", fun() -> logger:error(lists:duplicate(100000, $x)) end,
           [17, iolist_to_binary([lists:duplicate(197, $x), "..."]), #{}]),
     check("a long list that is not text", fun() -> logger:error([oops | lists:duplicate(100000, $x)]) end,
           [17, iolist_to_binary(["[oops", lists:duplicate(48, ",120"), "..."]), #{}]),
     check("bytes that are not text", fun() -> logger:error(<<255, 254>>) end, [17, <<255, 254>>, #{}]),
     check("metadata", fun() -> logger:error("m", #{request_id => <<"r1">>, secret => <<"s">>, mfa => {a, b, 2}, line => 5}) end,
           [17, <<"m">>, #{<<"request_id">> => <<"r1">>, <<"code.function.name">> => <<"a:b/2">>, <<"code.line.number">> => 5}]),
     check("metadata that is not a scalar", fun() -> logger:error("m", #{conn => #{a => {b, "c"}}}) end,
           [17, <<"m">>, #{<<"conn">> => <<"#{a => {b,\"c\"}}">>}]),
     check("a tuple that looks like a cut string", fun() -> logger:error("m", #{request_id => {cut, 5, <<"x">>}}) end,
           [17, <<"m">>, #{<<"request_id">> => <<"{cut,5,<<\"x\">>}">>}]),
     check("an improper list", fun() -> logger:error("m", #{request_id => [a | b]}) end,
           [17, <<"m">>, #{<<"request_id">> => <<"[a|b]">>}])].

metadata_that_the_plan_does_not_name_is_never_sent_test() ->
    with_logs(logs(), fun(_) ->
        logger:error("m", #{secret => <<"hidden">>, request_id => 1}),
        [_, _, _, _, {map, A}] = row(),
        ?assertEqual([<<"beam.pid">>, <<"request_id">>], lists:sort(maps:keys(A)))
    end).

a_large_report_is_pruned_and_keeps_all_its_parts_test() ->
    with_logs(plan([], #{<<"streams">> => [(log_stream(7))#{<<"columns">> := columns_of_2000_bytes()}]}), fun(_) ->
        logger:error(#{a => 1, b => lists:duplicate(100000, {x, y}), c => maps:from_list([{N, N} || N <- lists:seq(1, 1000)]), d => "last"}),
        [17, Body | _] = row(),
        [?assertMatch({Part, {_, _}}, {Part, binary:match(Body, Part)})
         || Part <- [<<"a: 1\n">>, <<"{x,y},">>, <<"'...'">>, <<"c: #{">>, <<"d: last">>]]
    end).

columns_of_2000_bytes() ->
    #{<<"columns">> := [Severity, [Root, Path | _] | Others]} = log_stream(7),
    [Severity, [Root, Path, [<<"cut">>, 2000]] | Others].

trace_ids_are_bytes_test() ->
    with_logs(logs(), fun(_) ->
        Trace = "0af7651916cd43dd8448eb211c80319c",
        logger:error("m", #{otel_trace_id => Trace, otel_span_id => <<"b7ad6b7169203331">>}),
        [_, _, T, S, _] = row(),
        ?assertEqual({{bytes, binary:decode_hex(list_to_binary(Trace))}, {bytes, <<183, 173, 107, 113, 105, 32, 51, 49>>}}, {T, S}),
        logger:error("m", #{otel_trace_id => "zz", otel_span_id => [self() | x]}),
        ?assertMatch([_, _, nil, nil, _], row())
    end).

messages_are_counted_by_level_without_a_subscriber_test() ->
    with_logs((logs())#{<<"streams">> => []}, fun(E) ->
        [logger:error("x") || _ <- lists:seq(1, 100)],
        [logger:warning("x") || _ <- lists:seq(1, 50)],
        {F, _} = flush(1, E),
        ?assertEqual({100, 0.0}, total(F, 100, [<<"error">>])),
        ?assertEqual({50, 0.0}, total(F, 100, [<<"warning">>])),
        ?assertEqual(none, no_row())
    end).

levels_and_domains_are_conditions_of_the_plan_test() ->
    Keep = [[<<"gt">>, meas(<<"severity">>), 12], [<<"ne">>, meta(<<"domain">>), <<"otp.sasl">>]],
    with_logs(plan([], #{<<"streams">> => [(log_stream(7))#{<<"keep">> => Keep}]}), fun(_) ->
        logger:notice("a"),
        logger:error("b", #{domain => [otp, sasl]}),
        logger:error("c", #{domain => [shop]}),
        ?assertMatch([17, <<"c">> | _], row()),
        ?assertEqual(none, no_row())
    end).

messages_of_another_node_are_not_counted_here_test() ->
    %% A pid of another node, in the external format.
    Away = binary_to_term(<<131, 88, 100, 0, 3, "a@b", 1:32, 0:32, 1:32>>),
    ?assertEqual('a@b', node(Away)),
    with_logs(logs(), fun(_) ->
        logger:error("away", #{gl => Away}),
        ?assertEqual(none, no_row())
    end).

%% Crashes

crash(Fun) ->
    {Pid, Ref} = Fun(),
    receive {'DOWN', Ref, process, Pid, _} -> ok after 5000 -> error(alive) end.

crashed(E, Labels) -> crashed(E, Labels, 200).
crashed(E, Labels, Left) when Left > 0 ->
    {F, E1} = flush(1, E),
    case total(F, 101, Labels) of
        none -> receive after 5 -> crashed(E1, Labels, Left - 1) end;
        N -> ?assertEqual({1, 0.0}, N), E1
    end.

a_crash_is_counted_once_by_its_initial_call_test_() ->
    [{Title, fun() ->
        with_logs(logs(), fun(E) ->
            crash(Fun),
            crashed(E, Labels)
        end)
    end} || {Title, Fun, Labels} <-
        [{"a process of proc_lib", fun() -> P = proc_lib:spawn(?MODULE, crash_at, [go]), R = monitor(process, P), P ! go, {P, R} end,
          [<<"dichroic_logger_tests:crash_at/1">>, <<"error">>]},
         {"a gen_server", fun() -> {ok, P} = gen_server:start(?MODULE, [], []), R = monitor(process, P), P ! crash, {P, R} end,
          [<<"dichroic_logger_tests:init/1">>, <<"error">>]},
         {"a bare process", fun() -> spawn_monitor(fun() -> error(oops) end) end, [null, null]}]].

an_elixir_crash_is_recognized_by_its_metadata_test() ->
    with_logs(logs(), fun(E) ->
        Error = #{'__exception__' => true, '__struct__' => 'Elixir.RuntimeError', message => <<"x">>},
        logger:error("GenServer terminating", #{crash_reason => {Error, []}, domain => [otp], initial_call => {'Elixir.Shop', init, 1}}),
        E1 = crashed(E, [<<"Shop:init/1">>, <<"error">>]),
        logger:error("the same, reported by sasl", #{crash_reason => {Error, []}, domain => [otp, sasl]}),
        {F, _} = flush(2, E1),
        ?assertEqual([], [D || {define, series, Ds} <- F, {_, #{<<"key">> := 101} = D} <- Ds])
    end).

a_handled_exception_that_the_application_logs_is_not_a_crash_test_() ->
    [{Title, fun() ->
         with_logs(logs(), fun(E) ->
             Error = #{'__exception__' => true, '__struct__' => 'Elixir.RuntimeError', message => <<"x">>},
             logger:error("** (RuntimeError) x", #{crash_reason => {Error, []}, domain => Domain}),
             {F, _} = flush(1, E),
             ?assertEqual([], [D || {define, series, Ds} <- F, {_, #{<<"key">> := 101} = D} <- Ds])
         end)
     end} || {Title, Domain} <- [{"Logger.error/2", [elixir]}, {"a library with a domain of its own", [elixir, bandit]}]].

crash_at(Word) -> receive Word -> error(oops) end.
init(_) -> {ok, none}.
handle_info(crash, _) -> error(oops).

%% Bounds

a_burst_of_logs_uses_its_own_credit_and_drops_are_counted_test() ->
    Plan = (logs())#{<<"limits">> => #{<<"credit">> => 800, <<"rows_per_s">> => 100000000}},
    with_logs(Plan, fun(E) ->
        [logger:error("x") || _ <- lists:seq(1, 1000)],
        {F, _} = flush(1, E),
        ?assertEqual({1000, 0.0}, total(F, 100, [<<"error">>])),
        ?assertEqual(900, account(F, 2, [7, 4])),
        {messages, Waiting} = process_info(self(), messages),
        ?assertEqual(100, length([L || {log, _, _, _} = L <- Waiting])),
        %% Events keep all their credit.
        #static{credit = Credit, shards = Shards} = persistent_term:get(?STATIC),
        ?assertEqual([0], lists:usort([atomics:get(Credit, dichroic_limiter:lane(S, Shards)) || S <- lists:seq(1, Shards)])),
        [row() || _ <- lists:seq(1, 100)]
    end).

no_message_removes_the_handler_or_disturbs_the_caller_test_() ->
    Hostile = [[a | b], {1, 2}, #{self() => make_ref()}, <<1:3>>, 1 bsl 100000, fun() -> ok end, lists:seq(1, 100000), [[[[]]]],
               {cut, x, y}, {bytes, 5}, -0.0, list_to_tuple(lists:seq(1, 10000))],
    {timeout, 30, fun() ->
        with_logs(logs(), fun(_) ->
            {ok, Config} = logger:get_handler_config(dichroic),
            lists:foreach(fun(T) ->
                [?assertEqual(ok, catch dichroic_logger:log(Event, Config))
                 || Event <- [T, #{level => T, msg => T, meta => T}, #{level => error, msg => {string, T}, meta => #{gl => T, time => T, domain => T, crash_reason => T}},
                              #{level => error, msg => {report, T}, meta => #{report_cb => T, initial_call => T, mfa => T, request_id => T, otel_trace_id => T}},
                              #{level => error, msg => {T, T}, meta => #{file => T, line => T, pid => T, crash_reason => T, initial_call => {T, T, T}}}]]
            end, Hostile),
            Rows = waiting(),
            ?assert(length(Rows) >= 3 * length(Hostile)),
            Cells = [{1, dichroic_logger:cells(L)} || L <- Rows],
            Frame = iolist_to_binary(dichroic_wire:encode(dichroic_wire:events(7, Cells))),
            ?assertMatch({ok, _, <<>>}, dichroic_wire:decode(Frame, 1048576)),
            ?assert(dichroic_logger:installed())
        end)
    end}.

a_message_that_is_not_text_does_not_keep_credit_test_() ->
    Long = lists:duplicate(3000, $x),
    [{support:title(Title), fun() ->
        with_logs((logs())#{<<"limits">> => #{<<"credit">> => 800, <<"rows_per_s">> => 100000000}}, fun(E) ->
            [logger:error(Message) || _ <- lists:seq(1, 200)],
            {F, _} = flush(1, E),
            ?assertEqual(0, account(F, 4, [])),
            Sent = length(waiting()),
            #static{credit = Credit, shards = Shards} = persistent_term:get(?STATIC),
            ?assertEqual({100, 100}, {Sent, atomics:get(Credit, dichroic_limiter:lane(log, Shards))})
        end)
    end} || {Title, Message} <- [{atom, [oops | Long]}, {tuple, [{oops, Long} | Long]}, {improper_tail, Long ++ oops},
                                 {large_integer, [1 bsl 100000 | Long]}, {float, [1.5 | Long]}, {map, [[#{}] | Long]}]].

a_message_of_any_size_costs_the_caller_little_time_and_memory_test() ->
    Huge = lists:seq(1, 1000000),
    with_logs(logs(), fun(_) ->
        {ok, Config} = logger:get_handler_config(dichroic),
        {_, R0} = process_info(self(), reductions),
        dichroic_logger:log(#{level => error, msg => {report, #{x => Huge}}, meta => #{conn => Huge}},
                            Config),
        {_, R1} = process_info(self(), reductions),
        ?assert(R1 - R0 < 100000),
        [_, Body | _] = row(),
        ?assert(is_binary(Body) orelse is_tuple(Body))
    end).

%% Plans

refused(Stream) ->
    {ok, [[7, Message]], _} = engine(plan([], #{<<"streams">> => [Stream]})),
    Message.

an_invalid_log_stream_is_refused_by_name_test_() ->
    L = log_stream(7),
    [?_assertMatch(<<"a log stream needs the columns", _/binary>>, refused(L#{<<"columns">> => [meas(<<"severity">>)]})),
     ?_assertMatch(<<"a log stream needs the columns", _/binary>>, refused(log_stream(7, [[<<"allow">>, 5]]))),
     ?_assertMatch(<<"a log stream needs the columns", _/binary>>, refused(log_stream(7, [[<<"cut">>, 5]]))),
     ?_assertMatch(<<"a log stream needs the event", _/binary>>, refused(L#{<<"event">> => [<<"a">>]})),
     ?_assertMatch(<<"unsupported stream kind", _/binary>>, refused(L#{<<"kind">> => <<"metric">>}))].

%% A whole relay

the_handler_is_installed_only_while_planned_and_is_reinstalled_test_() ->
    {timeout, 30, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => plan([])}),
        support:start_relay(Path),
        try
            wait(C, fun(#{replies := [_ | _]}) -> true end),
            ?assertNot(dichroic_logger:installed()),
            fake_collector:plan(C, (logs())#{<<"generation">> => 2}),
            wait(fun dichroic_logger:installed/0),
            wait(C, fun(#{replies := [#{<<"generation">> := 2, <<"attached">> := 2} | _]}) -> true end),
            _ = logger:set_handler_config(default, level, none),
            logger:error("over the wire ~b", [1]),
            wait(C, fun(#{events := Events}) -> [Body || {7, Rows} <- Events, [_, 17, Body | _] <- Rows] =:= [<<"over the wire 1">>] end),
            ok = logger:remove_handler(dichroic),
            wait(fun dichroic_logger:installed/0),
            _ = logger:set_handler_config(default, level, all),
            fake_collector:plan(C, (plan([]))#{<<"generation">> => 3}),
            wait(fun() -> not dichroic_logger:installed() end),
            ?assertEqual([], maps:get(errors, fake_collector:state(C)))
        after
            support:stop_relay(),
            fake_collector:stop(C)
        end,
        ?assertNot(dichroic_logger:installed())
    end}.

the_credit_of_a_log_sender_killed_in_a_burst_is_returned_test_() ->
    {timeout, 60, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => (logs())#{<<"limits">> => #{<<"credit">> => 800, <<"rows_per_s">> => 100000000}}}),
        support:start_relay(Path),
        _ = logger:set_handler_config(default, level, none),
        try
            wait(C, fun(#{pings := N}) -> N > 0 end),
            wait(fun dichroic_logger:installed/0),
            Stormers = [spawn_monitor(fun() -> [logger:error("~b", [N]) || N <- lists:seq(1, 5000)] end) || _ <- [1, 2]],
            [begin exit(whereis(dichroic_event_sender_log), kill), wait(fun() -> is_pid(whereis(dichroic_event_sender_log)) end) end || _ <- [1, 2, 3]],
            [receive {'DOWN', Ref, _, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Ref} <- Stormers],
            %% Reports of the relay's supervisor are left out, so exactly these messages are counted.
            wait(C, fun(S) -> fake_collector:total(S, 100, [<<"error">>]) =:= {10000, 0.0} end),
            #static{credit = Credit, shards = Shards} = persistent_term:get(?STATIC),
            wait(fun() -> atomics:get(Credit, dichroic_limiter:lane(log, Shards)) =< 0 end),
            logger:error("the last"),
            wait(C, fun(#{events := Events}) -> [x] =:= [x || {7, Rows} <- Events, [_, _, <<"the last">> | _] <- Rows] end),
            ?assertEqual([], maps:get(errors, fake_collector:state(C)))
        after
            _ = logger:set_handler_config(default, level, all),
            support:stop_relay(),
            fake_collector:stop(C)
        end
    end}.
