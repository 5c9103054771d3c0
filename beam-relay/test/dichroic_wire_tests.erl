%% @doc The codec: golden frames byte for byte, damaged frames refused with a message.
-module(dichroic_wire_tests).

-include_lib("eunit/include/eunit.hrl").

-define(LIMIT, 1048576).

golden() ->
    Dir = os:getenv("DICHROIC_GOLDEN", "../collector/wire/golden"),
    Files = filelib:wildcard(filename:join(Dir, "*.bin")),
    true = length(Files) >= 21,
    [{filename:basename(F), element(2, {ok, _} = file:read_file(F))} || F <- Files].

every_golden_frame_is_decoded_and_encoded_to_the_same_bytes_test_() ->
    [{Name, fun() -> same_bytes(Bytes) end} || {Name, Bytes} <- golden()].

same_bytes(<<>>) -> ok;
same_bytes(Bytes) ->
    {ok, Frame, Rest} = dichroic_wire:decode(Bytes, ?LIMIT),
    Size = byte_size(Bytes) - byte_size(Rest),
    %% Frames of version 1.1 are skipped: the relay has 1.0.
    Known = binary:at(Bytes, 4) =< 10,
    ?assertEqual(Known, element(1, Frame) =/= unknown),
    ?assertEqual(binary:part(Bytes, 0, Size), iolist_to_binary(dichroic_wire:encode(Frame))),
    same_bytes(Rest).

the_golden_events_have_the_content_of_the_specification_test() ->
    {_, Bytes} = lists:keyfind("events.bin", 1, golden()),
    ?assertEqual(
        {ok, {events, 1, 0, 0,
              [{i64, [1763800000000001000, 1763800000000002000, 1763800000000003000]},
               {i64, [1200345, 880021, 99000417]}, {ref, [0, 0, 1]}, {i64, [200, 200, 500]}, {ref, [2, 2, -1]}],
              [<<"GET">>, <<"POST">>, <<"/users/:id">>], [{cut, 81, <<"/reports/2026/very-long">>}]}, <<>>},
        dichroic_wire:decode(Bytes, ?LIMIT)).

every_prefix_of_a_golden_frame_is_incomplete_and_every_truncated_body_is_refused_test_() ->
    {timeout, 60, fun() ->
        [begin
             ?assertEqual(more, dichroic_wire:decode(binary:part(Bytes, 0, N), ?LIMIT)),
             N < 5 orelse shortened(N, Bytes)
         end || {_, Bytes} <- golden(), N <- lists:seq(0, byte_size(Bytes) - 1)]
    end}.

%% A truncated body may be a valid frame with fewer rows: then it encodes to the same bytes.
shortened(N, <<_:32, Type, Body/binary>>) ->
    Size = N - 5,
    Bytes = <<Size:32/little, Type, (binary:part(Body, 0, Size))/binary>>,
    accepted_or_refused(Bytes).

accepted_or_refused(Bytes) ->
    case dichroic_wire:decode(Bytes, ?LIMIT) of
        {ok, Frame, Rest} ->
            Size = byte_size(Bytes) - byte_size(Rest),
            ?assertEqual(binary:part(Bytes, 0, Size), iolist_to_binary(dichroic_wire:encode(Frame)));
        {error, {Kind, Message}} when Kind =:= malformed; Kind =:= version -> ?assert(iolist_size(Message) > 0);
        {error, {limit, Message}} -> ?assert(iolist_size(Message) > 0);
        more -> ok
    end.

mutated_frames_are_accepted_unchanged_or_refused_with_a_message_test_() ->
    {timeout, 60, fun() ->
        Seed = support:seed(),
        Golden = list_to_tuple([B || {_, B} <- golden()]),
        [try accepted_or_refused(mutate(element(rand:uniform(tuple_size(Golden)), Golden)))
         catch K:R:St -> error({seed, Seed, K, R, St}) end || _ <- lists:seq(1, 60000)]
    end}.

mutate(Bytes) ->
    case rand:uniform(4) of
        1 -> flip(Bytes, rand:uniform(4));
        2 -> <<_:32, Rest/binary>> = flip(Bytes, 2), <<(byte_size(Rest) - 1):32/little, Rest/binary>>;
        3 ->
            At = rand:uniform(byte_size(Bytes)) - 1,
            <<A:At/binary, _, B/binary>> = Bytes,
            fix(<<A/binary, B/binary>>);
        4 ->
            At = rand:uniform(byte_size(Bytes)) - 1,
            <<A:At/binary, B/binary>> = Bytes,
            fix(<<A/binary, (rand:uniform(256) - 1), B/binary>>)
    end.

fix(<<_:32, T, Body/binary>>) -> <<(byte_size(Body)):32/little, T, Body/binary>>;
fix(Short) -> Short.

flip(Bytes, 0) -> Bytes;
flip(Bytes, N) ->
    At = rand:uniform(byte_size(Bytes)) - 1,
    <<A:At/binary, _, B/binary>> = Bytes,
    flip(<<A/binary, (rand:uniform(256) - 1), B/binary>>, N - 1).

random_bytes_never_raise_test() ->
    _ = support:seed(),
    [accepted_or_refused(<<(N + 0):32/little, (rand:uniform(12)), (rand:bytes(N))/binary>>)
     || _ <- lists:seq(1, 20000), N <- [rand:uniform(80)]].

check({Why, Bytes}) -> {Why, ?_assertMatch({error, {malformed, _}}, dichroic_wire:decode(frame(5, Bytes), ?LIMIT))}.

frame(Type, Body) -> <<(byte_size(Body)):32/little, Type, Body/binary>>.

one_value_has_one_encoding_test_() ->
    Deep = iolist_to_binary([lists:duplicate(9, <<8, 1, 0>>), 0]),
    [check(Case) || Case <- [
        {"keys that do not ascend", <<9, 2, 0, 1, "b", 0, 1, "a", 0>>},
        {"a duplicate key", <<9, 2, 0, 1, "a", 0, 1, "a", 0>>},
        {"an empty key", <<9, 1, 0, 0, 0>>},
        {"another NaN", <<9, 1, 0, 1, "a", 4, 1, 0, 0, 0, 0, 0, 16#f8, 16#7f>>},
        {"a cut string with its full length", <<9, 1, 0, 1, "a", 6, 2:32/little, 2:16/little, "ab">>},
        {"a string that is not UTF-8", <<9, 1, 0, 1, "a", 5, 1, 0, 16#ff>>},
        {"an unknown tag", <<9, 1, 0, 1, "a", 10>>},
        {"values nested nine deep", Deep},
        {"a list longer than the frame", <<8, 16#ff, 16#ff, 0>>},
        {"a second value", <<9, 0, 0, 0>>},
        {"not a map", <<0>>}]].

a_frame_beyond_the_limit_is_refused_before_its_body_arrives_test() ->
    ?assertMatch({error, {limit, _}}, dichroic_wire:decode(<<16385:32/little>>, 16384)),
    ?assertMatch({error, {limit, _}}, dichroic_wire:decode(<<16#ffffffff:32/little>>, 16#ffffffff)),
    ?assertEqual(more, dichroic_wire:decode(<<16384:32/little, 7>>, 16384)).

another_major_version_is_recognized_by_its_first_seven_bytes_test() ->
    ?assertMatch({error, {version, _}}, dichroic_wire:decode(frame(1, <<"DICH", 2, 0, 9, "whatever">>), ?LIMIT)),
    ?assertMatch({error, {malformed, _}}, dichroic_wire:decode(frame(1, <<"DICH", 1, 0, 9, 9, 0, 0>>), ?LIMIT)).

the_zero_bucket_has_index_zero_test() ->
    Row = fun(Ix) -> frame(8, <<0:64, 1:32/little, 1:16/little, 0:64, 0:64, Ix:16/little-signed, 0, 1:64/little>>) end,
    ?assertMatch({ok, _, _}, dichroic_wire:decode(Row(0), ?LIMIT)),
    [?assertMatch({error, {malformed, _}}, dichroic_wire:decode(Row(I), ?LIMIT)) || I <- [-1, 1]].

an_unknown_type_is_skipped_by_its_length_test() ->
    ?assertEqual({ok, {unknown, 11, <<"later">>}, <<"x">>}, dichroic_wire:decode(<<5:32/little, 11, "laterx">>, ?LIMIT)).

rows_of_scalars_become_columns_test() ->
    Rows = [{1, [1, nil, <<"a">>, true, 1]}, {2, [2, undefined, b, null_atom, 1.5]}, {3, [-3, nil, <<"a">>, <<255>>, 1 bsl 60]}],
    Frame = dichroic_wire:events(7, Rows),
    ?assertEqual({events, 7, 0, 0, [{i64, [1, 2, 3]}, {i64, [1, 2, -3]}, absent, {ref, [0, 1, 0]}, {ref, [-1, 2, -2]},
                                    {ref, [-3, -4, -5]}],
                  [<<"a">>, <<"b">>, <<"null_atom">>], [true, {bytes, <<255>>}, 1, 1.5, 1 bsl 60]}, Frame),
    ?assertMatch({ok, Frame, <<>>}, dichroic_wire:decode(iolist_to_binary(dichroic_wire:encode(Frame)), ?LIMIT)).

integers_beside_floats_are_promoted_if_that_is_exact_test() ->
    {events, _, _, _, [_, Column], _, _} = dichroic_wire:events(1, [{1, [1.5]}, {2, [2]}]),
    ?assertEqual({f64, [1.5, 2.0]}, Column).

a_string_is_cut_on_a_code_point_test_() ->
    [?_assertEqual(Expected, dichroic_value:cut(In, N)) || {In, N, Expected} <- [
        {<<"abc">>, 2, <<"ab">>}, {<<"abc">>, 3, <<"abc">>}, {<<"a", 16#e4/utf8>>, 2, <<"a">>},
        {<<16#1f600/utf8, "x">>, 3, <<>>}, {<<"ab", 16#20ac/utf8>>, 4, <<"ab">>}, {<<128, 128, 128, 128, 128, 128>>, 5, <<128, 128>>},
        {<<"x">>, 0, <<>>}]].
