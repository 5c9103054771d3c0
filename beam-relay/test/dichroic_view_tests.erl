%% @doc Entries whose cells are found together: every event is counted over any sequence of plans, values and expiry.
-module(dichroic_view_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-import(support, [counter/3, sum/4, slow_plan/1, meas/1, meta/1, engine/1, emit/4, flush/2, flush/4, total/3, account/3, seed/0]).

-define(E, [a, b]).
-define(KEYS, [100, 101, 102, 103, 104]).

labels() -> [meta(<<"k">>)].

entry(100) -> counter(100, ?E, labels());
entry(101) -> (sum(101, ?E, meas(<<"v">>), labels()))#{<<"expire_s">> => 300};
entry(102) -> (sum(102, ?E, meas(<<"w">>), labels()))#{<<"type">> := <<"buckets">>, <<"bounds">> => [1, 5, 20.5], <<"expire_s">> => 300};
entry(103) -> (sum(103, ?E, meas(<<"w">>), labels()))#{<<"type">> := <<"last">>};
entry(104) -> (sum(104, ?E, meas(<<"v">>), labels()))#{<<"type">> := <<"exponential">>, <<"scale">> => 2, <<"octaves">> => [-4, 10]}.

views() ->
    #static{tables = Tables} = persistent_term:get(?STATIC),
    [View || T <- tuple_to_list(Tables), {_, View, _} <- ets:tab2list(T), is_tuple(View)].

%% Each scheduler has a table with its own views.
on_one_scheduler(Test) ->
    fun() ->
        {Pid, Ref} = spawn_opt(Test, [monitor, {scheduler, 1}]),
        receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end
    end.

two_entries_share_one_row_test_() -> on_one_scheduler(fun() ->
    {ok, [], E} = engine(slow_plan([entry(100), entry(101)])),
    emit(E, ?E, #{v => 1}, #{k => 1}),
    [View] = views(),
    ?assertMatch({_, 0, _, _}, View),
    emit(E, ?E, #{v => 2}, #{k => 1}),
    ?assertEqual([View], views()),
    {F, _} = flush(1, E),
    ?assertEqual([{2, 0.0}, {3, 0.0}], [total(F, Key, [1]) || Key <- [100, 101]])
end).

one_entry_needs_no_view_test() ->
    {ok, [], E} = engine(slow_plan([entry(102), entry(103)])),
    emit(E, ?E, #{w => 1}, #{k => 1}),
    ?assertEqual([], views()).

an_entry_with_a_later_first_value_joins_the_view_test_() -> on_one_scheduler(fun() ->
    {ok, [], E} = engine(slow_plan([entry(100), entry(101)])),
    [emit(E, ?E, Meas, #{k => 1}) || Meas <- [#{}, #{v => 3}, #{v => self()}, #{v => 4.5}]],
    ?assertMatch([{_, 1, _, Ref}] when is_reference(Ref), views()),
    {F, _} = flush(1, E),
    ?assertEqual([{4, 0.0}, {3, 4.5}], [total(F, Key, [1]) || Key <- [100, 101]]),
    ?assertEqual(1, account(F, 3, [101, <<"not_numeric">>]))
end).

an_entry_refused_by_its_cap_is_looked_up_a_limited_number_of_times_test_() -> on_one_scheduler(fun() ->
    {ok, [], E} = engine(slow_plan([entry(100), (entry(101))#{<<"series">> => 1}])),
    [emit(E, ?E, #{v => 1}, #{k => K}) || K <- [1 | lists:duplicate(50, 2)]],
    ?assertMatch([{_, 0, _, _}, {_, 8, _, none}], lists:keysort(2, views())),
    {F, _} = flush(1, E),
    ?assertEqual([{50, 0.0}, {1, 0.0}, {50, 0.0}], [total(F, 100, [2]), total(F, 101, [1]), total(F, 101, [null])])
end).

an_expired_series_leaves_its_view_test() ->
    {ok, [], E} = engine(slow_plan([entry(100), entry(101)])),
    emit(E, ?E, #{v => 1}, #{k => 1}),
    {_, E0} = flush(1, 0, 1000, E),
    {_, E1} = flush(2, 1, 1200, E0),
    {_, E2} = flush(3, 2, 1300, E1),
    ?assertEqual([], views()),
    emit(E2, ?E, #{v => 1}, #{k => 1}),
    {_, E3} = flush(4, 3, 1301, E2),
    {_, E4} = flush(5, 4, 1302, E3),
    {F, _} = flush(6, 5, 1303, E4),
    ?assertEqual({1, 0.0}, total(F, 101, [1])).

%%% Compared with a model: emitted values, summed over removals and returns of a series

random_plans_and_expiry_lose_and_double_nothing_test_() ->
    {timeout, 120, [{integer_to_list(N), fun() -> random_life(seed()) end} || N <- lists:seq(1, 40)]}.

random_life(Seed) ->
    {ok, [], E} = engine(slow_plan([entry(K) || K <- ?KEYS])),
    Model0 = #{plan => ?KEYS, emitted => #{}, ids => #{}, done => #{}, now => 1000},
    {E1, Model} = lists:foldl(fun(N, Acc) -> random_step(N, Acc) end, {E, Model0}, lists:seq(1, 150)),
    ?assertEqual({Seed, maps:get(emitted, Model)}, {Seed, counted(read(400, E1, Model))}).

random_step(N, {E, #{plan := Keys, now := Now} = Model}) ->
    case rand:uniform(10) of
        1 ->
            New = [K || K <- ?KEYS, rand:uniform(3) > 1],
            {ok, [], E1} = dichroic_engine:plan(slow_plan([entry(K) || K <- shuffled(New)]), E),
            {E1, Model#{plan := New}};
        2 ->
            {E1, Model1} = step_flush(2 * N, E, Model#{now := Now + 200}),
            step_flush(2 * N + 1, E1, Model1#{now := Now + 400});
        3 -> step_flush(2 * N, E, Model#{now := Now + 1});
        _ when Keys =:= [] -> {E, Model};
        _ -> {E, random_event(E, Model)}
    end.

shuffled(L) -> [X || {_, X} <- lists:sort([{rand:uniform(), X} || X <- L])].

random_event(E, #{plan := Keys, emitted := Emitted} = Model) ->
    K = rand:uniform(3),
    Meas = maps:from_list([{Name, rand:uniform(40) - 5} || Name <- [v, w], rand:uniform(4) > 1]),
    emit(E, ?E, Meas, #{k => spelt(K)}),
    Hits = [{{Key, K}, amount(Key, Meas)} || Key <- Keys, Key =/= 103, amount(Key, Meas) =/= none],
    Model#{emitted := lists:foldl(fun({S, {C, A}}, Acc) ->
        maps:update_with(S, fun({C0, A0}) -> {C0 + C, A0 + A} end, {C, A}, Acc)
    end, Emitted, Hits)}.

%% One series for all types of the label.
spelt(K) -> lists:nth(rand:uniform(4), [K, float(K), integer_to_binary(K), binary_to_atom(integer_to_binary(K))]).

%% {Count, sum}
amount(100, _) -> {0, 1};
amount(101, #{v := V}) -> {0, V};
amount(102, #{w := W}) -> {1, W};
amount(104, #{v := V}) -> {1, V};
amount(_, _) -> none.

step_flush(N, E, Model) ->
    {Frames, E1} = flush(N, N - 1, maps:get(now, Model), E),
    {E1, lists:foldl(fun frame/2, Model, Frames)}.

%% An expiring series is read once more, two flushes later.
read(N, E, Model) ->
    {_, Read} = lists:foldl(fun(I, {Acc, M}) -> step_flush(N + I, Acc, M) end, {E, Model}, lists:seq(1, 4)),
    Read.

frame({define, series, Ds}, Model) ->
    lists:foldl(fun define/2, Model, Ds);
frame({Type, _, Rows}, #{ids := Ids} = Model) when Type =:= numbers; Type =:= histograms ->
    Model#{ids := lists:foldl(fun(Row, Acc) -> maps:update_with(element(1, Row), fun({S, _}) -> {S, value(Row)} end, Acc) end, Ids, Rows)}.

define({Id, null}, #{ids := Ids, done := Done} = Model) ->
    {{S, V}, Left} = maps:take(Id, Ids),
    Model#{ids := Left, done := add(S, V, Done)};
define({Id, #{<<"key">> := Key, <<"labels">> := Labels}}, #{ids := Ids} = Model) ->
    S = {Key, [dichroic_value:text(L) || L <- Labels]},
    %% The collector accepts a series under one id at a time.
    ?assertNot(lists:keymember(S, 1, maps:values(Ids))),
    Model#{ids := Ids#{Id => {S, {0, 0}}}}.

value({_, I, _}) -> {0, I};
value({_, I, _, Buckets}) -> {lists:sum([N || {_, _, N} <- Buckets]), I}.

add(S, {C, A}, Acc) -> maps:update_with(S, fun({C0, A0}) -> {C0 + C, A0 + A} end, {C, A}, Acc).

counted(#{ids := Ids, done := Done}) ->
    All = lists:foldl(fun({S, V}, Acc) -> add(S, V, Acc) end, Done, maps:values(Ids)),
    maps:from_list([{{Key, binary_to_integer(K)}, V} || {{Key, [K]}, V} <- maps:to_list(All), lists:member(Key, ?KEYS), Key =/= 103]).

%% Expiry during constant emission. A flush waits until each emitter has completed an event that it started after
%% the previous flush: a count that takes longer than two flushes is lost, by the rule.
expiry_during_emission_loses_nothing_test_() ->
    {timeout, 120, fun() ->
        {ok, [], E} = engine(slow_plan([entry(K) || K <- [100, 101, 102]])),
        Events = counters:new(7, []),
        Pids = [spawn_link(fun() -> emitter(E, P, Events) end) || P <- lists:seq(1, 6)],
        Model0 = #{ids => #{}, done => #{}, now => 1000},
        {E1, Model} = lists:foldl(fun(N, {Acc, #{now := Now} = M}) ->
            progress(Events),
            counters:add(Events, 7, 1),
            step_flush(N, Acc, M#{now := Now + 240})
        end, {E, Model0}, lists:seq(1, 400)),
        Each = [begin P ! {stop, self()}, receive {P, Counts} -> Counts end end || P <- Pids],
        Expected = lists:foldl(fun(Counts, Acc) -> maps:fold(fun add/3, Acc, Counts) end, #{}, Each),
        ?assertNotEqual(#{}, maps:get(done, Model)),
        ?assertEqual(Expected, counted(read(500, E1, Model)))
    end}.

progress(Events) ->
    Before = [counters:get(Events, I) || I <- lists:seq(1, 6)],
    support:wait(fun() ->
        lists:all(fun({I, B}) -> counters:get(Events, I) > B + 1 end, lists:zip(lists:seq(1, 6), Before))
    end).

emitter(E, P, Events) -> emitter(E, P, Events, 0, #{}).
emitter(E, P, Events, N, Counts) ->
    receive {stop, From} -> From ! {self(), Counts}
    after 0 ->
        %% No values for the two expiring entries during some flushes.
        K = N rem 3,
        Meas = case counters:get(Events, 7) rem 4 of 0 -> #{v => N, w => P}; _ -> #{} end,
        emit(E, ?E, Meas, #{k => spelt(K)}),
        counters:add(Events, P, 1),
        Hits = [{{Key, K}, A} || Key <- [100, 101, 102], A <- [amount(Key, Meas)], A =/= none],
        emitter(E, P, Events, N + 1, lists:foldl(fun({S, V}, Acc) -> add(S, V, Acc) end, Counts, Hits))
    end.
