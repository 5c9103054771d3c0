%% @doc Valid entries of a plan, and the refusal of the others.
-module(dichroic_plan_tests).

-include_lib("eunit/include/eunit.hrl").
-include("../src/dichroic.hrl").

-define(EVENT, [<<"a">>, <<"b">>]).

aggregate(More) -> maps:merge(#{<<"key">> => 100, <<"type">> => <<"counter">>, <<"event">> => ?EVENT}, More).
valued(Type, More) -> aggregate(maps:merge(#{<<"type">> => Type, <<"value">> => [<<"measurements">>, [<<"v">>]]}, More)).
exponential(More) -> valued(<<"exponential">>, maps:merge(#{<<"scale">> => 3, <<"octaves">> => [-20, 12]}, More)).

refused(Plan) ->
    {ok, #{refused := R}} = dichroic_plan:compile(maps:merge(#{<<"generation">> => 1}, Plan)),
    R.

an_invalid_entry_is_refused_by_its_key_with_a_message_test_() ->
    [{support:title(E), fun() ->
        [[100, Message]] = refused(#{<<"aggregates">> => [E]}),
        ?assert(byte_size(Message) > 0)
      end} || E <- [
        aggregate(#{<<"type">> => <<"median">>}),
        aggregate(#{<<"colour">> => 1}),
        aggregate(#{<<"value">> => [<<"measurements">>, [<<"v">>]]}),
        aggregate(#{<<"event">> => []}),
        aggregate(#{<<"event">> => [1]}),
        aggregate(#{<<"event">> => <<"a.b">>}),
        aggregate(#{<<"labels">> => [[<<"metadata">>, [<<"a">>], <<"upcase">>]]}),
        aggregate(#{<<"labels">> => lists:duplicate(33, [<<"metadata">>, [<<"a">>]])}),
        aggregate(#{<<"labels">> => 1}),
        aggregate(#{<<"keep">> => [[<<"like">>, [<<"metadata">>, [<<"a">>]], <<"x">>]]}),
        aggregate(#{<<"expire_s">> => 299}),
        aggregate(#{<<"labels">> => [[<<"carry">>, [<<"unwritten">>]]]}),
        aggregate(#{<<"type">> => <<"sum">>}),
        exponential(#{<<"scale">> => 5}),
        exponential(#{<<"octaves">> => [5, 5]}),
        exponential(#{<<"octaves">> => [-1022, 1023]}),
        exponential(#{<<"factor">> => 0}),
        valued(<<"buckets">>, #{}),
        valued(<<"buckets">>, #{<<"bounds">> => [1, 1]}),
        valued(<<"buckets">>, #{<<"bounds">> => lists:seq(1, 161)})]].

a_refused_entry_does_not_stop_the_others_test() ->
    {ok, Plan} = dichroic_plan:compile(#{<<"generation">> => 1, <<"aggregates">> =>
        [aggregate(#{<<"type">> => <<"median">>}), aggregate(#{<<"key">> => 101}), aggregate(#{<<"key">> => 101}), 7,
         aggregate(#{<<"key">> => 5})]}),
    ?assertMatch(#{aggregates := [{[a, b], [], [], #entry{key = 101, type = counter}}]}, Plan),
    ?assertMatch([[100, _], [null, _], [5, _], [101, _]], maps:get(refused, Plan)).

an_invalid_plan_is_an_error_with_a_message_test_() ->
    [?_assertMatch({error, _}, dichroic_plan:compile(P)) || P <- [
        #{}, #{<<"generation">> => <<"1">>}, #{<<"generation">> => 1, <<"aggregates">> => 3},
        #{<<"generation">> => 1, <<"limits">> => []}, #{<<"generation">> => 1, <<"flush_ms">> => null}]].

invalid_streams_and_carries_are_refused_by_name_test() ->
    Carry = #{<<"event">> => ?EVENT, <<"slots">> => #{<<"n">> => [<<"metadata">>, [<<"x">>]]}},
    Reads = [<<"carry">>, [<<"n">>]],
    Stream = #{<<"schema">> => 7, <<"event">> => ?EVENT, <<"columns">> => [Reads]},
    ?assertEqual([], refused(#{<<"carries">> => [Carry], <<"streams">> => [Stream]})),
    ?assertMatch([[7, _]], refused(#{<<"streams">> => [Stream]})),
    ?assertMatch([[null, <<"carry of ", _/binary>>], [7, _]], refused(#{<<"carries">> => [Carry#{<<"slots">> := 1}], <<"streams">> => [Stream]})),
    ?assertMatch([[null, _]], refused(#{<<"carries">> => [Carry#{<<"extra">> => 1}]})),
    ?assertMatch([[7, _]], refused(#{<<"streams">> => [(Stream#{<<"columns">> := []})#{<<"kind">> => <<"log">>}]})),
    ?assertMatch([[7, _]], refused(#{<<"streams">> => [(Stream#{<<"columns">> := []})#{<<"sample">> => 0}]})),
    [?assertMatch([[7, _]], refused(#{<<"streams">> => [(Stream#{<<"columns">> := []})#{<<"numbers">> => N}]})) || N <- [1, -1, <<"1">>]],
    ?assertMatch([[7, _]], refused(#{<<"streams">> => [(Stream#{<<"columns">> := []})#{<<"sort">> => 0}]})).

entries_beyond_the_limit_are_refused_test() ->
    Plan = #{<<"aggregates">> => [aggregate(#{<<"key">> => 100 + I}) || I <- lists:seq(1, 2010)]},
    ?assertEqual(10, length(refused(Plan))).

refusals_fit_into_the_frame_of_the_reply_test() ->
    Many = [[I bsl 40, binary:copy(<<"w">>, 256)] || I <- lists:seq(1, 2000)],
    [?assert(iolist_size(dichroic_value:encode(dichroic_plan:fitting(Many, Max))) =< Max) || Max <- [8192, 131072, 1048576]],
    ?assertEqual(2000, length(dichroic_plan:fitting(Many, 131072))).

the_golden_plan_is_accepted_without_refusals_test() ->
    {ok, Bytes} = file:read_file(filename:join(os:getenv("DICHROIC_GOLDEN", "../collector/wire/golden"), "plan.bin")),
    {ok, {plan, Plan}, <<>>} = dichroic_wire:decode(Bytes, 1048576),
    {ok, #{refused := [], aggregates := [{[phoenix, endpoint, stop], [_], [_, _], Entry}], streams := [_]}} =
        dichroic_plan:compile(Plan),
    ?assertMatch(#entry{type = exponential, size = 261, cap = 2000, expire_s = 900}, Entry).

%% In a separate node, because atoms are never freed.
names_beyond_the_budget_of_atoms_are_refused_test_() ->
    {timeout, 60, fun() ->
        {ok, Peer, _} = peer:start(#{connection => standard_io, args => ["-pa" | code:get_path()]}),
        try
            Before = peer:call(Peer, erlang, system_info, [atom_count]),
            Plans = [#{<<"generation">> => G, <<"aggregates">> =>
                [aggregate(#{<<"key">> => 100 + I,
                             <<"event">> => [<<"new-", (integer_to_binary(G * 10000 + I))/binary>>]}) || I <- lists:seq(1, 2000)]}
                     || G <- lists:seq(1, 6)],
            [peer:call(Peer, dichroic_plan, compile, [P], 30000) || P <- Plans],
            {ok, #{refused := Refused}} = peer:call(Peer, dichroic_plan, compile, [lists:last(Plans)], 30000),
            ?assertEqual(2000, length(Refused)),
            ?assertEqual(0, peer:call(Peer, dichroic_plan, atom_budget_left, [])),
            ?assert(peer:call(Peer, erlang, system_info, [atom_count]) - Before < 8192 + 2000),
            %% Existing atoms are still accepted.
            ?assertMatch({ok, #{refused := []}},
                         peer:call(Peer, dichroic_plan, compile, [#{<<"generation">> => 9, <<"aggregates">> => [aggregate(#{<<"event">> => [<<"kernel">>]})]}]))
        after peer:stop(Peer) end
    end}.
