%% @doc The whole relay with a collector on a real socket.
-module(dichroic_connection_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [counter/3, sum/4, plan/1, plan/2, meas/1, meta/1, stream/3]).
-import(fake_collector, [wait/2, total/3]).

-define(E, [shop, order]).

both() -> [counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, meas(<<"v">>), []), sum(102, ?E, meas(<<"f">>), []),
           (sum(103, ?E, meas(<<"v">>), []))#{<<"type">> := <<"exponential">>, <<"scale">> => 3, <<"octaves">> => [-20, 20]}].

with_relay(Plan, Test) ->
    {timeout, 60, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => Plan}),
        ok = support:start_relay(Path),
        try
            ok = steady(C),
            Test(C, Path)
        after
            support:stop_relay(),
            catch fake_collector:stop(C),
            file:delete(Path)
        end
    end}.

steady(C) -> wait(C, fun(#{replies := [_ | _], pings := P, connected := true}) -> P > 0 end), ok.

order(N) -> telemetry:execute(?E, #{v => N, f => 0.5}, #{k => N rem 3}).

%% Waits until a flush that started after this call is read.
flushed(C) ->
    #{flush := N} = dichroic:info(),
    wait(C, fun(#{pings := P}) -> P > N + 1 end).

holds_exactly(C, Ns) ->
    flushed(C),
    Sum = lists:sum(Ns), Count = length(Ns),
    #{errors := Errors} = State = fake_collector:state(C),
    ?assertEqual([], Errors),
    ?assertEqual([{length([N || N <- Ns, N rem 3 =:= K]), 0.0} || K <- [0, 1, 2]], [shown(total(State, 100, [K])) || K <- [0, 1, 2]]),
    ?assertEqual({Sum, 0.0}, total(State, 101, [])),
    ?assertEqual({0, Count * 0.5}, total(State, 102, [])),
    {Sum, 0.0, Buckets} = total(State, 103, []),
    ?assertEqual(Count, lists:sum([N || {_, N} <- Buckets])).

%% A series exists from its first event on.
shown(none) -> {0, 0.0};
shown(Total) -> Total.

hello_identifies_the_node_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        #{hello := Hello} = fake_collector:state(C),
        ?assertMatch(#{<<"agent">> := <<"dichroic-relay/", _/binary>>, <<"attempt">> := 1, <<"mode">> := <<"installed">>,
                       <<"resource">> := #{<<"service.name">> := _}}, Hello),
        ?assertEqual(atom_to_binary(node()), maps:get(<<"node">>, Hello)),
        ?assertEqual(list_to_integer(os:getpid()), maps:get(<<"os_pid">>, Hello)),
        ?assertEqual(erlang:convert_time_unit(1, second, native), maps:get(<<"native_per_s">>, Hello)),
        ?assert(byte_size(maps:get(<<"telemetry">>, Hello)) > 0),
        #{replies := [Reply]} = fake_collector:state(C),
        ?assertEqual(#{<<"generation">> => 1, <<"attached">> => 1, <<"refused">> => []}, maps:remove(<<"rows_from">>, Reply))
    end).

%% The collector would reject every later HELLO with more values.
values_found_later_are_sent_up_to_sixteen_and_the_others_are_refused_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        Named = fun(Ns) -> [iolist_to_binary(io_lib:format("domain_~2..0b", [N])) || N <- Ns] end,
        Find = fun(Ns) -> gen_statem:cast(dichroic_connection, {variables, #{<<"ash_domain">> => Named(Ns)}}) end,
        Expected = fun(Ns) -> #{<<"ash_domain">> => Named(Ns)} end,
        Find(lists:seq(9, 20)),
        wait(C, fun(#{replies := [R | _]}) -> maps:get(<<"variables">>, R) =:= Expected(lists:seq(9, 20)) end),
        Find(lists:seq(1, 16)),
        Find(lists:seq(1, 20)),
        LeftOut = fun(#{<<"refused">> := [[null, <<"ash_domain: 4 values ignored", _/binary>>]]}) -> true; (_) -> false end,
        wait(C, fun(#{replies := Replies}) -> lists:any(LeftOut, Replies) end),
        #{replies := [Reply | _]} = fake_collector:state(C),
        ?assertEqual(Expected([1, 2, 3, 4] ++ lists:seq(9, 20)), maps:get(<<"variables">>, Reply)),
        fake_collector:cut(C),
        dichroic:reconnect(),
        wait(C, fun(#{connections := N, hello := Hello}) -> N > 1 andalso maps:get(<<"variables">>, Hello) =:= maps:get(<<"variables">>, Reply) end)
    end).

a_lack_of_ids_is_reported_in_the_reply_to_the_plan_test_() ->
    Limits = #{<<"limits">> => #{<<"series">> => 8}},
    with_relay(plan([counter(100 + I, ?E, [meta(<<"k">>)]) || I <- lists:seq(1, 5)], Limits), fun(C, _) ->
        [order(N) || N <- [1, 2, 3]],
        IsReported = fun(#{<<"refused">> := [[null, <<N, " series are not sent", _/binary>>]]}) -> N > $0; (_) -> false end,
        wait(C, fun(#{replies := Replies}) -> lists:any(IsReported, Replies) end),
        flushed(C),
        flushed(C),
        #{replies := Replies, errors := Errors} = fake_collector:state(C),
        ?assertEqual({1, []}, {length(lists:filter(IsReported, Replies)), Errors})
    end).

totals_arrive_exactly_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        Ns = lists:seq(1, 20000),
        Parts = [[N || N <- Ns, N rem 8 =:= I] || I <- lists:seq(0, 7)],
        Pids = [spawn_monitor(fun() -> [order(N) || N <- Part] end) || Part <- Parts],
        [receive {'DOWN', Ref, _, _, normal} -> ok end || {_, Ref} <- Pids],
        holds_exactly(C, Ns)
    end).

totals_continue_after_a_collector_is_killed_and_restarted_test_() ->
    with_relay(plan(both()), fun(C, Path) ->
        [order(N) || N <- lists:seq(1, 100)],
        holds_exactly(C, lists:seq(1, 100)),
        fake_collector:kill(C),
        [order(N) || N <- lists:seq(101, 200)],
        {C2, _} = fake_collector:start(Path, #{plan => plan(both())}),
        ok = steady(C2),
        [order(N) || N <- lists:seq(201, 300)],
        holds_exactly(C2, lists:seq(1, 300)),
        ?assert(maps:get(<<"attempt">>, maps:get(hello, fake_collector:state(C2))) > 1),
        ?assertEqual(maps:get(epoch, dichroic:info()), maps:get(<<"epoch">>, maps:get(hello, fake_collector:state(C2)))),
        fake_collector:stop(C2)
    end).

a_connection_cut_at_any_byte_loses_nothing_test_() ->
    {timeout, 120, fun() ->
        Seed = support:seed(),
        Path = support:socket_path(),
        ok = support:start_relay(Path),
        try
            Ends = lists:foldl(fun(_, From) ->
                {C, _} = fake_collector:start(Path, #{plan => plan(both()), limit => rand:uniform(1500)}),
                dichroic:reconnect(),
                [order(N) || N <- lists:seq(From, From + 49)],
                %% The limit cuts the connection after a random number of bytes.
                support:wait(fun() -> #{connections := N, connected := On} = fake_collector:state(C), N > 1 orelse N =:= 1 andalso not On end),
                ?assertMatch(#{errors := []}, fake_collector:state(C), {seed, Seed}),
                fake_collector:kill(C),
                From + 50
            end, 1, lists:seq(1, 40)),
            {Last, _} = fake_collector:start(Path, #{plan => plan(both())}),
            dichroic:reconnect(),
            ok = steady(Last),
            flushed(Last),
            State = fake_collector:state(Last),
            ?assertEqual([], maps:get(errors, State)),
            %% Handlers are attached by the first plan; from then on every order is counted.
            {Count, 0.0} = lists:foldl(fun({I, F}, {J, G}) -> {I + J, F + G} end, {0, 0.0}, [total(State, 100, [K]) || K <- [0, 1, 2]]),
            {Sum, 0.0} = total(State, 101, []),
            First = Ends - Count,
            ?assert(First =< 1001, {seed, Seed}),
            ?assertEqual(lists:sum(lists:seq(First, Ends - 1)), Sum),
            fake_collector:stop(Last)
        after support:stop_relay(), file:delete(Path) end
    end}.

rows_are_sent_to_a_subscriber_and_stop_without_one_test_() ->
    Stream = stream(7, ?E, [meas(<<"v">>), meta(<<"k">>)]),
    with_relay(plan(both(), #{<<"streams">> => [Stream]}), fun(C, _) ->
        [order(N) || N <- lists:seq(1, 1000)],
        wait(C, fun(#{events := Es}) -> length(lists:append([R || {7, R} <- Es])) =:= 1000 end),
        #{events := Es} = fake_collector:state(C),
        Rows = lists:append([R || {7, R} <- Es]),
        ?assertEqual([[N, N rem 3] || N <- lists:seq(1, 1000)], lists:sort([tl(R) || R <- Rows])),
        ?assert(lists:all(fun({_, R}) -> length(R) =< 256 end, Es)),
        flushed(C),
        ?assertEqual({1000, 0.0}, total(fake_collector:state(C), 1, [7])),
        fake_collector:plan(C, (plan(both()))#{<<"generation">> := 2}),
        wait(C, fun(#{replies := R}) -> length(R) =:= 2 end),
        [order(N) || N <- lists:seq(1, 100)],
        flushed(C),
        #{events := After, errors := Errors} = fake_collector:state(C),
        ?assertEqual({1000, []}, {length(lists:append([R || {7, R} <- After])), Errors})
    end).

%% What the collector reports as not requested is the time between them.
the_times_at_which_rows_end_and_start_are_reported_test_() ->
    Streams = #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])]},
    with_relay(plan(both(), Streams), fun(C, _) ->
        Now = fun() -> erlang:system_time(nanosecond) end,
        Reply = fun(Generation) ->
            wait(C, fun(#{replies := Rs}) -> lists:any(fun(#{<<"generation">> := G}) -> G =:= Generation end, Rs) end),
            hd([R || #{<<"generation">> := Generation} = R <- maps:get(replies, fake_collector:state(C))])
        end,
        ?assertNot(is_map_key(<<"rows_until">>, Reply(1))),
        T1 = Now(),
        fake_collector:plan(C, (plan(both()))#{<<"generation">> := 2}),
        #{<<"rows_until">> := Off} = Reply(2),
        T2 = Now(),
        fake_collector:plan(C, (plan(both(), Streams))#{<<"generation">> := 3}),
        #{<<"rows_from">> := On} = Reply(3),
        T3 = Now(),
        fake_collector:cut(C),
        wait(C, fun(#{connections := N, hello := H}) -> N > 1 andalso is_map_key(<<"rows_until">>, H) end),
        #{hello := #{<<"rows_until">> := Broke} = Hello} = fake_collector:state(C),
        ?assertNot(is_map_key(<<"rows_from">>, Hello)),
        Times = [T1, Off, T2, On, T3, Broke, Now()],
        ?assertEqual(Times, lists:sort(Times))
    end).

a_relay_that_stops_sends_the_rows_that_it_holds_test_() ->
    with_relay(plan(both(), #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])]}), fun(C, _) ->
        [order(N) || N <- lists:seq(1, 100)],
        ok = dichroic_connection:drain(),
        #{events := Es, errors := Errors} = fake_collector:state(C),
        ?assertEqual({100, []}, {length(lists:append([R || {7, R} <- Es])), Errors})
    end).

row_counts_are_sent_first_on_a_new_connection_test_() ->
    Stream = stream(7, ?E, [meas(<<"v">>)]),
    with_relay(plan(both(), #{<<"streams">> => [Stream]}), fun(C, _) ->
        %% Rows are emitted all the time.
        Busy = spawn_link(fun Loop() -> order(1), receive stop -> ok after 0 -> Loop() end end),
        wait(C, fun(#{events := Es}) -> length(Es) > 3 end),
        fake_collector:cut(C),
        wait(C, fun(#{connections := N, events := _, order := O}) -> N > 1 andalso lists:member(events, O) end),
        #{order := Order, errors := Errors} = fake_collector:state(C),
        unlink(Busy), Busy ! stop,
        ?assertEqual([hello, define, numbers], lists:sublist(Order, 3)),
        ?assertEqual([], Errors)
    end).

rows_sent_and_dropped_add_up_when_the_collector_reads_slowly_test_() ->
    Stream = stream(7, ?E, [meas(<<"v">>), meta(<<"pad">>)]),
    with_relay(plan([counter(100, ?E, [])], #{<<"streams">> => [Stream], <<"limits">> => #{<<"credit">> => 2000, <<"string">> => 4096}}), fun(C, _) ->
        fake_collector:mute(C, true),
        Pad = binary:copy(<<"p">>, 2000),
        [telemetry:execute(?E, #{v => N}, #{pad => <<(integer_to_binary(N))/binary, Pad/binary>>}) || N <- lists:seq(1, 20000)],
        fake_collector:mute(C, false),
        flushed(C),
        State = wait(C, fun(S) ->
            {Sent, _} = total(S, 1, [7]),
            Dropped = case total(S, 2, [7, 4]) of none -> 0; {D, _} -> D end,
            Received = length(lists:append([R || {7, R} <- maps:get(events, S)])),
            Sent =:= Received andalso Sent + Dropped =:= 20000 andalso S
        end),
        ?assertEqual([], maps:get(errors, State)),
        ?assertEqual({20000, 0.0}, total(State, 100, []))
    end).

a_detached_handler_is_attached_again_and_counted_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        order(1),
        [Id] = support:handlers(?E),
        ok = telemetry:detach(Id),
        support:wait(fun() -> [] =/= support:handlers(?E) end),
        order(2),
        holds_exactly(C, [1, 2]),
        ?assertEqual({1, 0.0}, total(fake_collector:state(C), 5, []))
    end).

a_failed_handler_is_counted_and_attached_again_at_once_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        %% The handler cannot be made to fail, so the test emits telemetry's failure event.
        [Id] = support:handlers(?E),
        ok = telemetry:detach(Id),
        telemetry:execute([telemetry, handler, failure], #{}, #{handler_id => Id, kind => error}),
        support:wait(fun() -> [] =/= support:handlers(?E) end, 500),
        flushed(C),
        ?assertEqual({1, 0.0}, total(fake_collector:state(C), 4, []))
    end).

handlers_are_attached_when_telemetry_starts_later_test_() ->
    {timeout, 60, fun() ->
        ok = support:telemetry(),
        ok = application:stop(telemetry),
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => plan(both())}),
        os:putenv("DICHROIC_SOCKET", Path),
        ok = application:start(dichroic),
        try
            ok = steady(C),
            ?assertMatch([#{<<"attached">> := 0}], maps:get(replies, fake_collector:state(C))),
            ok = application:start(telemetry),
            wait(C, fun(#{replies := [#{<<"attached">> := 1} | _]}) -> true end),
            order(5),
            holds_exactly(C, [5])
        after support:stop_relay(), support:telemetry(), fake_collector:stop(C), file:delete(Path) end
    end}.

stopping_flushes_sends_goodbye_and_removes_everything_test_() ->
    {timeout, 60, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => (plan(both()))#{<<"flush_ms">> := 60000}}),
        Before = {length(ets:all()), [K || {K, _} <- persistent_term:get(), K =:= dichroic_handler]},
        ok = support:start_relay(Path),
        ok = steady(C),
        [order(N) || N <- lists:seq(1, 10)],
        support:stop_relay(),
        State = wait(C, fun(#{goodbye := {goodbye, 7, _, _}} = S) -> S end),
        ?assertEqual({55, 0.0}, total(State, 101, [])),
        ?assertEqual([], [H || #{id := {dichroic, _}} = H <- telemetry:list_handlers([])]),
        ?assertEqual(Before, {length(ets:all()), [K || {K, _} <- persistent_term:get(), K =:= dichroic_handler]}),
        fake_collector:stop(C)
    end}.

%%% GOODBYE, invalid frames and silence of the collector

on_goodbye(Code, Retry, Check) ->
    with_relay(plan(both()), fun(C, _) ->
        order(3),
        fake_collector:goodbye(C, Code, Retry),
        Check(C)
    end).

a_collector_that_shuts_down_gets_the_last_flush_test_() ->
    {timeout, 60, fun() ->
        Path = support:socket_path(),
        {C, _} = fake_collector:start(Path, #{plan => (plan(both()))#{<<"flush_ms">> := 60000}}),
        ok = support:start_relay(Path),
        try
            ok = steady(C),
            order(3),
            fake_collector:goodbye(C, 7, 60000),
            State = wait(C, fun(#{goodbye := {goodbye, 7, _, _}} = S) -> S end),
            ?assertEqual({3, 0.0}, total(State, 101, [])),
            ?assertMatch(#{state := backoff}, support:wait(fun() -> #{state := backoff} = dichroic:info() end))
        after support:stop_relay(), fake_collector:stop(C), file:delete(Path) end
    end}.

a_superseded_relay_disconnects_at_once_and_honors_the_retry_delay_test_() ->
    on_goodbye(6, 60000, fun(C) ->
        wait(C, fun(#{connected := false}) -> true end),
        ?assertMatch(#{state := backoff, last_error := {goodbye, 6, _}}, dichroic:info()),
        %% Counting continues, and reconnect/0 connects again.
        order(4),
        dichroic:reconnect(),
        wait(C, fun(#{connections := 2}) -> true end),
        ok = steady(C),
        holds_exactly(C, [3, 4])
    end).

a_relay_without_permission_to_retry_reconnects_only_on_request_test_() ->
    on_goodbye(2, 16#ffffffff, fun(C) ->
        wait(C, fun(#{connected := false}) -> true end),
        receive after 700 -> ok end,
        ?assertMatch(#{connections := 1}, fake_collector:state(C)),
        dichroic:reconnect(),
        wait(C, fun(#{connections := 2}) -> true end)
    end).

a_detached_relay_removes_its_handlers_and_returns_with_a_new_epoch_test_() ->
    on_goodbye(9, 16#ffffffff, fun(C) ->
        support:wait(fun() -> #{state := detached} = dichroic:info() end),
        ?assertEqual([], [H || #{id := {dichroic, _}} = H <- telemetry:list_handlers([])]),
        #{hello := #{<<"epoch">> := First}} = fake_collector:state(C),
        dichroic:reconnect(),
        wait(C, fun(#{connections := 2, hello := #{<<"epoch">> := E, <<"attempt">> := 1}}) -> E > First end),
        ok = steady(C)
    end).

without_a_collector_for_linger_s_everything_is_detached_test_() ->
    with_relay(plan(both(), #{<<"linger_s">> => 1}), fun(C, Path) ->
        order(1),
        #{epoch := Epoch} = dichroic:info(),
        fake_collector:kill(C),
        support:wait(fun() -> [] =:= [H || #{id := {dichroic, _}} = H <- telemetry:list_handlers([])] end),
        ?assert(maps:get(epoch, dichroic:info()) > Epoch),
        {C2, _} = fake_collector:start(Path, #{plan => plan(both())}),
        ok = steady(C2),
        order(2),
        holds_exactly(C2, [2]),
        fake_collector:stop(C2)
    end).

garbage_from_the_collector_ends_the_connection_but_not_the_relay_test_() ->
    [{Why, with_relay(plan(both()), fun(C, _) ->
        #{epoch := Epoch} = dichroic:info(),
        fake_collector:send(C, Bytes),
        wait(C, fun(#{connections := N}) -> N > 1 end),
        ok = steady(C),
        order(1),
        holds_exactly(C, [1]),
        ?assertEqual(Epoch, maps:get(epoch, dichroic:info()))
    end)} || {Why, Bytes} <- [
        {"a frame of 2 MiB", <<2097152:32/little, 5>>},
        {"a plan that is not a map", <<1:32/little, 5, 0>>},
        {"a second HELLO", iolist_to_binary(dichroic_wire:encode({hello, 1, 0, 0, #{<<"agent">> => <<"x">>}}))},
        {"rows, which only relays send", iolist_to_binary(dichroic_wire:encode({numbers, 0, []}))},
        {"an HTTP answer", <<"HTTP/1.1 400 Bad Request\r\n\r\n">>}]].

a_collector_of_another_major_version_gets_goodbye_and_a_long_retry_delay_test_() ->
    {timeout, 30, fun() ->
        Path = support:socket_path(),
        _ = file:delete(Path),
        {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {packet, raw}, {ifaddr, {local, Path}}]),
        ok = support:start_relay(Path),
        try
            {ok, S} = gen_tcp:accept(L, 5000),
            ok = gen_tcp:send(S, <<9:32/little, 1, "DICH", 2, 0, 0, "??">>),
            Received = read_until_closed(S, <<>>),
            {ok, {hello, 1, 0, 1, _}, Rest} = dichroic_wire:decode(Received, 16384),
            ?assertMatch({ok, {goodbye, 1, _, _}, <<>>}, dichroic_wire:decode(Rest, 16384)),
            ?assertEqual({error, timeout}, gen_tcp:accept(L, 500))
        after support:stop_relay(), gen_tcp:close(L), file:delete(Path) end
    end}.

read_until_closed(S, Acc) ->
    case gen_tcp:recv(S, 0, 5000) of
        {ok, Bytes} -> read_until_closed(S, <<Acc/binary, Bytes/binary>>);
        {error, closed} -> Acc
    end.

a_collector_killed_a_hundred_times_under_load_loses_and_doubles_nothing_test_() ->
    {timeout, 120, fun() ->
        Seed = support:seed(),
        Path = support:socket_path(),
        {First, _} = fake_collector:start(Path, #{plan => plan(both())}),
        ok = support:start_relay(Path),
        try
            ok = steady(First),
            Writers = [spawn_link(fun() -> write(I, 0) end) || I <- [0, 1, 2]],
            Last = lists:foldl(fun(_, C) ->
                receive after rand:uniform(40) -> ok end,
                #{errors := []} = fake_collector:state(C),
                fake_collector:kill(C),
                {Next, _} = fake_collector:start(Path, #{plan => plan(both())}),
                dichroic:reconnect(),
                Next
            end, First, lists:seq(1, 100)),
            Counts = [begin P ! {stop, self()}, receive {P, N} -> {I, N} end end || {I, P} <- lists:zip([0, 1, 2], Writers)],
            dichroic:reconnect(),
            ok = steady(Last),
            flushed(Last),
            State = fake_collector:state(Last),
            ?assertEqual([], maps:get(errors, State)),
            [?assertEqual({N, 0.0}, total(State, 100, [I]), {seed, Seed}) || {I, N} <- Counts],
            ?assertEqual({lists:sum([I * N || {I, N} <- Counts]), 0.0}, total(State, 101, [])),
            ?assertEqual({0, 0.5 * lists:sum([N || {_, N} <- Counts])}, total(State, 102, [])),
            fake_collector:stop(Last)
        after support:stop_relay(), file:delete(Path) end
    end}.

write(I, N) ->
    telemetry:execute(?E, #{v => I, f => 0.5}, #{k => I}),
    receive {stop, From} -> From ! {self(), N + 1} after 0 -> write(I, N + 1) end.

reconnects_to_a_collector_that_closes_at_once_back_off_test_() ->
    {timeout, 30, fun() ->
        Path = support:socket_path(),
        _ = file:delete(Path),
        {ok, L} = gen_tcp:listen(0, [binary, {active, false}, {packet, raw}, {backlog, 100}, {ifaddr, {local, Path}}]),
        ok = support:start_relay(Path),
        try
            N = hang_up(L, erlang:monotonic_time(millisecond) + 3000, 0),
            %% Mean delays of 100, 200, 400 ... 2,500 ms: about six attempts in three seconds, thousands without backoff.
            ?assert(N >= 2 andalso N =< 30, N)
        after support:stop_relay(), gen_tcp:close(L), file:delete(Path) end
    end}.

hang_up(L, End, N) ->
    case gen_tcp:accept(L, max(0, End - erlang:monotonic_time(millisecond))) of
        {ok, S} -> gen_tcp:close(S), hang_up(L, End, N + 1);
        {error, timeout} -> N
    end.

unknown_frames_of_a_later_minor_version_are_skipped_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        fake_collector:send(C, <<3:32/little, 77, "abc">>),
        order(1),
        holds_exactly(C, [1]),
        ?assertMatch(#{connections := 1}, fake_collector:state(C))
    end).

a_collector_without_a_plan_is_disconnected_after_the_timeout_test_() ->
    {timeout, 30, fun silent_collector/0}.

silent_collector() ->
    %% Only that the state ends; the timeouts are those of the protocol.
    Path = support:socket_path(),
    {C, _} = fake_collector:start(Path, #{}),
    ok = support:start_relay(Path),
    try
        support:wait(fun() -> #{state := plan} = dichroic:info() end),
        support:wait(fun() -> #{last_error := {goodbye_sent, 5, _}} = dichroic:info() end, 9000)
    after support:stop_relay(), fake_collector:stop(C), file:delete(Path) end.

a_collector_that_stops_reading_is_disconnected_and_gets_the_counts_later_test_() ->
    Stream = stream(7, ?E, [meas(<<"v">>), meta(<<"pad">>)]),
    with_relay(plan(both(), #{<<"streams">> => [Stream], <<"limits">> => #{<<"credit">> => 4000, <<"string">> => 4096}}), fun(C, _) ->
        Pad = binary:copy(<<"p">>, 4000),
        fake_collector:mute(C, true),
        %% More than the socket buffers, so that a sender blocks; emitters must not.
        T0 = erlang:monotonic_time(millisecond),
        [telemetry:execute(?E, #{v => N, f => 0.5}, #{k => N rem 3, pad => <<N:32, Pad/binary>>}) || N <- lists:seq(1, 3000)],
        ?assert(erlang:monotonic_time(millisecond) - T0 < 2000),
        support:wait(fun() -> #{last_error := E} = dichroic:info(), E =/= none end, 20000),
        [order(N) || N <- lists:seq(3001, 3100)],
        fake_collector:mute(C, false),
        wait(C, fun(#{connections := N}) -> N > 1 end),
        ok = steady(C),
        holds_exactly(C, lists:seq(1, 3100))
    end).

a_collector_that_answers_no_ping_is_disconnected_after_ten_seconds_test_() ->
    with_relay(plan(both()), fun(C, _) ->
        fake_collector:silent(C, true),
        support:wait(fun() -> #{last_error := no_pong} = dichroic:info() end, 15000),
        fake_collector:silent(C, false),
        order(1),
        wait(C, fun(#{connections := N}) -> N > 1 end),
        ok = steady(C),
        holds_exactly(C, [1])
    end).

the_token_is_sent_over_tcp_test_() ->
    {timeout, 30, fun() ->
        {C, Port} = fake_collector:start(tcp, #{plan => plan(both())}),
        application:set_env(dichroic, token, <<"secret">>),
        ok = support:start_relay({tcp, {127, 0, 0, 1}, Port}),
        try
            ok = steady(C),
            ?assertMatch(#{hello := #{<<"token">> := <<"secret">>}}, fake_collector:state(C)),
            order(7),
            holds_exactly(C, [7])
        after support:stop_relay(), application:unset_env(dichroic, token), fake_collector:stop(C) end
    end}.

vm_events_reach_only_the_relays_handler_test_() ->
    Memory = (sum(100, [vm, memory], meas(<<"total">>), []))#{<<"type">> := <<"last">>},
    with_relay(plan([Memory, counter(101, [vm, system_counts], [])]), fun(C, _) ->
        Me = self(),
        ok = telemetry:attach(other, [vm, memory], fun telemetry_contract_tests:forward/4, {Me, other}),
        wait(C, fun(S) -> {Bytes, 0.0} = total(S, 100, []), {N, 0.0} = total(S, 101, []), Bytes > 1000000 andalso N > 0 end),
        telemetry:detach(other),
        receive {other, _, _, _, _} -> error(doubled) after 0 -> ok end
    end).

counting_continues_after_any_process_of_the_relay_dies_test_() ->
    [{atom_to_list(Name), with_relay(plan(both(), #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])]}), fun(C, _) ->
        Level = maps:get(level, logger:get_primary_config()),
        logger:set_primary_config(level, none),
        Old = whereis(Name),
        exit(Old, kill),
        support:wait(fun() -> P = whereis(Name), is_pid(P) andalso P =/= Old end),
        support:wait(fun() -> #{state := steady, attached := 1} = dichroic:info() end),
        logger:set_primary_config(level, Level),
        order(5),
        %% Handlers may have been attached again just before; the event is counted in the latest epoch in any case.
        wait(C, fun(S) -> {5, 0.0} = total(S, 101, []), true end),
        wait(C, fun(#{events := Es}) -> lists:member([5], [tl(R) || {7, Rows} <- Es, R <- Rows]) end),
        ?assertMatch(#{errors := []}, fake_collector:state(C))
    end)} || Name <- [dichroic_connection, dichroic_tables, dichroic_handler_keeper, dichroic_vm_poller, dichroic_event_sender_1, dichroic_event_sender_log]].

destinations_are_tried_in_order_test() ->
    os:putenv("DICHROIC_SOCKET", "/named"),
    application:set_env(dichroic, socket, "/configured"),
    ?assertEqual([{local, "/named"}], dichroic_socket:candidates()),
    os:unsetenv("DICHROIC_SOCKET"),
    ?assertEqual([{local, "/configured"}], dichroic_socket:candidates()),
    application:unset_env(dichroic, socket),
    Xdg = os:getenv("XDG_RUNTIME_DIR"),
    os:putenv("XDG_RUNTIME_DIR", "/xdg"),
    [{local, "/run/dichroic/dichroic.sock"}, {local, "/xdg/dichroic.sock"}, {local, Tmp}] = dichroic_socket:candidates(),
    case Xdg of false -> os:unsetenv("XDG_RUNTIME_DIR"); _ -> os:putenv("XDG_RUNTIME_DIR", Xdg) end,
    ?assertMatch("/tmp/dichroic-" ++ _, Tmp).
