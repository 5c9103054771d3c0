%% @doc Bucket indices, compared with integer arithmetic.
-module(dichroic_bucket_tests).

-include_lib("eunit/include/eunit.hrl").

%% Is b^i < F =< b^(i+1), with b = 2^(2^-s)? For s >= 0 both sides are raised to 2^s and compared as fractions.
inside(F, I, S) when S >= 0 -> above(F, I, S) andalso not above(F, I + 1, S);
inside(F, I, S) -> above(F, I bsl -S, 0) andalso not above(F, (I + 1) bsl -S, 0).

above(F, I, S) ->
    <<_:1, E:11, M:52>> = <<F/float>>,
    %% F = (2^52 + M) * 2^(E - 1075)
    P = 1 bsl S,
    Left = pow((1 bsl 52) + M, P),
    Shift = I - (E - 1075) * P,
    case Shift >= 0 of
        true -> Left > 1 bsl Shift;
        false -> Left bsl -Shift > 1
    end.

pow(_, 0) -> 1;
pow(X, N) -> X * pow(X, N - 1).

random_numbers_lie_inside_the_bucket_of_their_index_test_() ->
    {timeout, 60, fun() ->
        Seed = support:seed(),
        [begin
             Grid = dichroic_bucket:grid(S, -60, 60),
             F = rand:uniform() * math:pow(2, rand:uniform(100) - 50) + 1.0e-17,
             ?assert(inside(F, dichroic_bucket:index(F, Grid), S), {seed, Seed, S, F})
         end || S <- lists:seq(-4, 4), _ <- lists:seq(1, 1500)]
    end}.

the_neighbours_of_every_boundary_are_in_the_right_buckets_test() ->
    [begin
         Grid = dichroic_bucket:grid(S, -8, 8),
         B = math:pow(2, K / (1 bsl S)),
         <<Bits:64>> = <<B/float>>,
         [begin <<F/float>> = <<(Bits + D):64>>, ?assert(inside(F, dichroic_bucket:index(F, Grid), S)) end || D <- [-2, -1, 0, 1, 2]]
     end || S <- [0, 1, 2, 3, 4], K <- lists:seq(-6 * (1 bsl S), 6 * (1 bsl S))].

an_exact_power_belongs_to_the_lower_bucket_test_() ->
    [?_assertEqual(I, dichroic_bucket:index(F, dichroic_bucket:grid(S, -20, 20))) || {F, S, I} <- [
        {1.0, 0, -1}, {2.0, 0, 0}, {2.0, 3, 7}, {1.0, 3, -1}, {1.0000000000000002, 3, 0}, {4.0, -1, 0}, {4.5, -1, 1},
        {0.0011, 3, -79}, {0.00125, 3, -78}, {0.0036, 3, -65}]].

values_beyond_the_octaves_are_counted_in_the_outermost_buckets_test() ->
    Grid = dichroic_bucket:grid(3, -20, 12),
    ?assertEqual(257, dichroic_bucket:size(Grid)),
    [?assertEqual(dichroic_bucket:least(Grid), dichroic_bucket:index(F, Grid)) || F <- [5.0e-324, 1.0e-300, math:pow(2, -20)]],
    [?assertEqual(95, dichroic_bucket:index(F, Grid)) || F <- [4096.0, 1.0e300]].

a_bucket_includes_its_upper_bound_test_() ->
    Bounds = dichroic_bucket:bounds([-2.5, 1, 2.5, 10]),
    [?_assertEqual(I, dichroic_bucket:bound(V, Bounds)) || {V, I} <- [
        {-5, 0}, {-3, 0}, {-2.5, 0}, {-2, 1}, {1, 1}, {1.0, 1}, {1.01, 2}, {2, 2}, {2.5, 2}, {3, 3}, {10, 3}, {10.5, 4}, {1 bsl 62, 4}]].
