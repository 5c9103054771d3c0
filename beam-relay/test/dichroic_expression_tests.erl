%% @doc Paths, transforms and conditions.
-module(dichroic_expression_tests).

-include_lib("eunit/include/eunit.hrl").

atoms(B) -> {ok, binary_to_atom(B)}.

metadata() ->
    #{conn => #{method => <<"GET">>, status => 503}, <<"pool">> => <<"p1">>, plug => 'Elixir.My.Controller', action => show,
      worker => <<"gpu_worker_pool_worker_3_1771">>, lone => <<"_worker_1">>, named => 'Elixir.Pool_worker_1_2',
      endless => binary:copy(<<"_worker_">>, 1000), odd => <<1:3>>,
      commands => [[<<"SET">>, <<"k">>], []], result => {error, #{command => insert}}, improper => [a | b], none => nil,
      flag => false, list => [1, 2, 3], long => binary:copy(<<"x">>, 300), exc => #{'__struct__' => 'Elixir.RuntimeError'},
      pid => self(), big => 1 bsl 70, erl => undefined}.

eval(Value) ->
    {ok, E} = dichroic_expression:compile(Value, fun atoms/1),
    dichroic_expression:eval(E, #{duration => 5}, metadata()).

m(Path) -> [<<"metadata">>, Path].
m(Path, T) -> [<<"metadata">>, Path, T].

expressions_test_() ->
    [{support:title(V), ?_assertEqual(Expected, eval(V))} || {V, Expected} <- [
        {[<<"measurements">>, [<<"duration">>]], 5},
        {m([<<"conn">>, <<"status">>]), 503},
        {m([<<"pool">>]), <<"p1">>},
        {m([<<"absent">>]), nil},
        {m([<<"conn">>, <<"absent">>]), nil},
        {m([<<"plug">>, <<"deeper">>]), nil},
        {m([<<"commands">>, 0, 0]), <<"SET">>},
        {m([<<"commands">>, 1, 0]), nil},
        {m([<<"result">>, 1, <<"command">>]), insert},
        {m([<<"result">>, 2]), nil},
        {m([<<"improper">>, 0]), a},
        {m([<<"improper">>, 1]), nil},
        {m([<<"plug">>], <<"name">>), <<"My.Controller">>},
        {m([<<"plug">>], [<<"name">>]), <<"My.Controller">>},
        {m([<<"action">>], <<"name">>), <<"show">>},
        {m([<<"conn">>, <<"status">>], <<"class">>), <<"5xx">>},
        {m([<<"pool">>], <<"class">>), nil},
        {m([<<"result">>], <<"tag">>), error},
        {m([<<"action">>], <<"tag">>), show},
        {m([<<"list">>], <<"tag">>), nil},
        {m([<<"list">>], <<"length">>), 3},
        {m([<<"improper">>], <<"length">>), nil},
        {m([<<"absent">>], <<"bool">>), false},
        {m([<<"flag">>], <<"bool">>), false},
        {m([<<"conn">>], <<"bool">>), true},
        {m([<<"exc">>], <<"type">>), <<"RuntimeError">>},
        {m([<<"result">>], <<"type">>), tuple},
        {m([<<"absent">>], <<"type">>), nil},
        {m([<<"action">>], <<"upper">>), <<"SHOW">>},
        {m([<<"pool">>], <<"upper">>), <<"P1">>},
        {m([<<"absent">>], <<"upper">>), nil},
        {m([<<"flag">>], <<"upper">>), false},
        {m([<<"conn">>, <<"status">>], <<"upper">>), 503},
        {m([<<"long">>], [<<"cut">>, 4]), {cut, 300, <<"xxxx">>}},
        {m([<<"pool">>], [<<"cut">>, 4]), <<"p1">>},
        {m([<<"pool">>], [<<"allow">>, <<"p1">>, <<"p2">>]), <<"p1">>},
        {m([<<"action">>], [<<"allow">>, <<"show">>]), show},
        {m([<<"pool">>], [<<"rename">>, <<"p0">>, <<"q0">>, <<"p1">>, <<"q1">>]), <<"q1">>},
        {m([<<"pool">>], [<<"rename">>, <<"p">>, <<"q">>]), <<"p1">>},
        {m([<<"action">>], [<<"rename">>, <<"show">>, <<"read">>]), <<"read">>},
        {m([<<"absent">>], [<<"rename">>, <<"nil">>, <<"q">>]), nil},
        {m([<<"conn">>, <<"status">>], [<<"rename">>, <<"503">>, <<"q">>]), 503},
        {m([<<"pool">>], [<<"allow">>, <<"p2">>]), <<"_OTHER">>},
        {m([<<"worker">>], [<<"before">>, <<"_worker_">>]), <<"gpu_worker_pool">>},
        {m([<<"named">>], [<<"before">>, <<"_worker_">>]), <<"Elixir.Pool">>},
        {m([<<"pool">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"lone">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"endless">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"odd">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"absent">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"flag">>], [<<"before">>, <<"a">>]), nil},
        {m([<<"list">>], [<<"before">>, <<"_worker_">>]), nil},
        {m([<<"absent">>], [<<"default">>, <<"d">>]), <<"d">>},
        {m([<<"erl">>], [<<"default">>, 7]), 7},
        {m([<<"flag">>], [<<"default">>, true]), false}]].

refused_expressions_test_() ->
    [{support:title(V), ?_assertMatch({error, _}, dichroic_expression:compile(V, fun atoms/1))} || V <- [
        5, [], [<<"metadata">>], [<<"elsewhere">>, [<<"a">>]], m([]), m([-1]), m([null]), m([<<"a">>], <<"upcase">>),
        m([<<"a">>], [<<"cut">>]), m([<<"a">>], [<<"cut">>, -1]), m([<<"a">>], [<<"allow">>]), m([<<"a">>], [<<"before">>]),
        m([<<"a">>], [<<"rename">>]), m([<<"a">>], [<<"rename">>, <<"b">>]), m([<<"a">>], [<<"rename">>, <<"b">>, 1]),
        m([<<"a">>], [<<"before">>, <<>>]), m([<<"a">>], [<<"before">>, 1]), m([<<"a">>], [<<"default">>, []]),
        m(lists:duplicate(9, <<"a">>)), [<<"carry">>, [<<"a">>, <<"b">>]]]].

conditions_test_() ->
    [{support:title(C), fun() ->
        {ok, Compiled} = dichroic_expression:condition(C, fun atoms/1),
        ?assertEqual(Expected, dichroic_expression:holds([Compiled], #{duration => 5}, metadata()))
      end} || {C, Expected} <- [
        {[<<"has">>, m([<<"conn">>])], true}, {[<<"has">>, m([<<"none">>])], false}, {[<<"has">>, m([<<"absent">>])], false},
        {[<<"lacks">>, m([<<"absent">>])], true}, {[<<"lacks">>, m([<<"pid">>])], false},
        {[<<"eq">>, m([<<"action">>]), <<"show">>], true}, {[<<"eq">>, m([<<"pool">>]), <<"p1">>], true},
        {[<<"eq">>, m([<<"conn">>, <<"status">>]), 503], true}, {[<<"eq">>, m([<<"conn">>, <<"status">>]), 503.0], true},
        {[<<"eq">>, m([<<"flag">>]), false], true}, {[<<"eq">>, m([<<"flag">>]), <<"false">>], false},
        {[<<"eq">>, m([<<"absent">>]), null], true}, {[<<"eq">>, m([<<"erl">>]), null], true},
        {[<<"ne">>, m([<<"absent">>]), <<"x">>], true}, {[<<"ne">>, m([<<"action">>]), <<"show">>], false},
        {[<<"lt">>, [<<"measurements">>, [<<"duration">>]], 6], true}, {[<<"gt">>, [<<"measurements">>, [<<"duration">>]], 5], false},
        {[<<"gt">>, m([<<"pool">>]), 1], false}, {[<<"lt">>, m([<<"pid">>]), 1], false},
        {[<<"in">>, m([<<"action">>]), <<"index">>, <<"show">>], true}, {[<<"in">>, m([<<"action">>]), [<<"show">>]], true},
        {[<<"in">>, m([<<"action">>]), <<"index">>], false}]].

labels_are_scalars_within_their_cap_test_() ->
    [?_assertEqual(Expected, dichroic_expression:label(V, 4)) || {V, Expected} <- [
        {ok, ok}, {<<"abcd">>, <<"abcd">>}, {<<"abcde">>, <<"abcd">>}, {5, 5}, {1.5, 1.5}, {[1], nil}, {{a}, nil}, {#{}, nil},
        {self(), nil}, {<<1:3>>, nil}, {1 bsl 63, float(1 bsl 63)}, {1 bsl 5000, nil}, {(1 bsl 63) - 1, (1 bsl 63) - 1},
        {{cut, 9, <<"abcdef">>}, <<"abcd">>},
        %% Charlists.
        {"abcd", <<"abcd">>}, {"abcde", <<"abcd">>}, {[$a, 7], nil}, {[$a, 4711], nil}, {[$a, <<"b">>], nil}, {[$a | $b], nil}, {[], nil}]].

a_cut_column_has_the_full_length_test() ->
    ?assertEqual({cut, 6, <<"abcd">>}, dichroic_expression:column(<<"abcdef">>, 4)),
    ?assertEqual({cut, 99, <<"ab">>}, dichroic_expression:column({cut, 99, <<"ab">>}, 4)),
    ?assertEqual(nil, dichroic_expression:column(self(), 4)).
