%% @doc Labels as text, as the collector writes them.
-module(dichroic_value_tests).

-include_lib("eunit/include/eunit.hrl").

%% The same table is in collector/model/src/attributes.rs: labels with the same text there are added up here.
values_are_rendered_as_by_the_collector_test_() ->
    [{support:title({Value, Text}), ?_assertEqual(Text, dichroic_value:text(Value))} || {Value, Text} <-
        [{null, <<>>}, {true, <<"true">>}, {false, <<"false">>}, {-7, <<"-7">>}, {16#7fffffffffffffff, <<"9223372036854775807">>},
         {<<"ключ"/utf8>>, <<"ключ"/utf8>>}, {0.0, <<"0">>}, {-0.0, <<"-0">>}, {1.0, <<"1">>}, {-2.5, <<"-2.5">>}, {100.0, <<"100">>},
         {0.1, <<"0.1">>}, {0.1 + 0.2, <<"0.30000000000000004">>}, {1.0e-7, <<"0.0000001">>}, {1.25e-5, <<"0.0000125">>},
         {123456.789, <<"123456.789">>}, {9007199254740993.0, <<"9007199254740992">>},
         {123456789012345680.0, <<"123456789012345680">>}, {1.0e21, <<"1000000000000000000000">>},
         {1.5e22, <<"15000000000000000000000">>}, {-1.7e-3, <<"-0.0017">>},
         {1.7976931348623157e308, <<"17976931348623157", (binary:copy(<<"0">>, 292))/binary>>},
         {4.94065645841246544e-324, <<"0.", (binary:copy(<<"0">>, 323))/binary, "5">>}]].

any_float_is_rendered_in_decimal_and_parses_back_test() ->
    Seed = support:seed(),
    [begin
         <<Bits:64>> = rand:bytes(8),
         case <<Bits:64>> of
             <<F/float>> ->
                 Text = dichroic_value:text(F),
                 ?assertEqual({Seed, match}, {Seed, re:run(Text, "^-?(0|[1-9][0-9]*)(\\.[0-9]*[1-9])?$", [{capture, none}])}),
                 Read = case binary:match(Text, <<".">>) of nomatch -> <<Text/binary, ".0">>; _ -> Text end,
                 ?assertEqual({Seed, F}, {Seed, binary_to_float(Read)});
             _ -> ok
         end
     end || _ <- lists:seq(1, 2000)].

values_have_the_same_representative_exactly_if_they_have_the_same_text_test() ->
    Some = [null, true, false, <<>>, <<"true">>, <<"null">>, <<"false">>, <<"-">>, <<"1e3">>, <<"+1">>, <<"-0">>, -0.0, 0.0, 0, <<"0">>, <<"00">>,
            <<"01">>, 1000, 1.0e3, <<"1000">>, <<"1000.0">>, 1.0e18, 1000000000000000000, 1.0e19, <<"10000000000000000000">>,
            16#7fffffffffffffff, <<"9223372036854775807">>, <<"9223372036854775808">>, 9223372036854775808.0, -16#8000000000000000,
            <<"-9223372036854775808">>, -9223372036854775808.0, 0.5, <<"0.5">>, <<".5">>, <<" 1">>, <<"/users">>, <<"1 ">>, <<"9">>, 9],
    [?assertEqual({A, B, dichroic_value:text(A) =:= dichroic_value:text(B)},
                  {A, B, dichroic_value:representative(A) =:= dichroic_value:representative(B)}) || A <- Some, B <- Some],
    [?assertEqual(dichroic_value:text(A), dichroic_value:text(dichroic_value:representative(A))) || A <- Some].

invalid_bytes_are_replaced_one_by_one_test_() ->
    [?_assertEqual(unicode:characters_to_binary(Text), dichroic_value:as_text(Bytes)) || {Text, Bytes} <-
        [{"abc", <<"abc">>}, {"", <<>>}, {[16#fffd], <<255>>}, {[$a, 16#fffd, 16#fffd, $b], <<"a", 255, 254, "b">>},
         {[16#20ac], <<16#20ac/utf8>>}, {[16#fffd, 16#fffd], <<16#e2, 16#82>>}]].
