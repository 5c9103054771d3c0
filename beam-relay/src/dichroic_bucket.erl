%% @doc The bucket of a number: base-2 exponential buckets from the bits of the float, explicit buckets by bounds.
%%
%% Pure functions. grid/3 is called once per plan entry; index/2 and bound/2 by the handler for every observation. Bucket i of
%% scale s is (b^i, b^(i+1)] with b = 2^(2^-s), as in OTLP. The inner boundaries are irrational for s > 0: each is stored as the
%% largest 52-bit mantissa below it, computed with integers, so that rounding never selects the wrong bucket.
-module(dichroic_bucket).

-export([grid/3, bounds/1, size/1, least/1, index/2, bound/2]).
-export_type([grid/0, bounds/0]).

%% {Scale, Least index, Greatest index, Boundaries inside one octave}
-type grid() :: {-4..4, integer(), integer(), tuple()}.
%% {Bounds, the same rounded down}: integers are compared with integers, which the VM does without a call.
-type bounds() :: {tuple(), tuple()}.

-define(MANTISSA, 52).

-spec grid(-4..4, integer(), integer()) -> grid().
grid(Scale, Lo, Hi) when Scale >= 0 ->
    Inner = [boundary(K, Scale) || K <- lists:seq(1, (1 bsl Scale) - 1)],
    {Scale, (Lo bsl Scale) - 1, (Hi bsl Scale) - 1, list_to_tuple(Inner ++ [1 bsl ?MANTISSA])};
grid(Scale, Lo, Hi) ->
    {Scale, (Lo - 1) bsr -Scale, (Hi - 1) bsr -Scale, {}}.

%% The largest m with (1 + m/2^52)^(2^s) =< 2^k.
boundary(K, Scale) ->
    Power = 1 bsl Scale,
    Limit = 1 bsl (K + ?MANTISSA * Power),
    bisect(0, 1 bsl ?MANTISSA, fun(M) -> power((1 bsl ?MANTISSA) + M, Scale) =< Limit end).

power(X, 0) -> X;
power(X, S) -> power(X * X, S - 1).

bisect(Lo, Hi, _) when Hi - Lo =< 1 -> Lo;
bisect(Lo, Hi, Fits) ->
    Mid = (Lo + Hi) bsr 1,
    case Fits(Mid) of
        true -> bisect(Mid, Hi, Fits);
        false -> bisect(Lo, Mid, Fits)
    end.

-spec size(grid()) -> pos_integer().
size({_, Least, Greatest, _}) -> Greatest - Least + 1.

-spec least(grid()) -> integer().
least({_, Least, _, _}) -> Least.

%% @doc Index of a positive float, clamped to the grid.
-spec index(float(), grid()) -> integer().
index(F, {Scale, Least, Greatest, Inner}) ->
    %% 32-bit fields are matched inline; fields that begin inside a byte are not. The sign bit of a positive float is 0.
    <<High:32, Low:32>> = <<F/float>>,
    clamp(raw((High bsr 20) - 1023, (High band 16#fffff) bsl 32 bor Low, Scale, Inner), Least, Greatest).

raw(E, 0, Scale, _) when Scale >= 0 -> (E bsl Scale) - 1;
raw(E, M, Scale, Inner) when Scale >= 0 -> (E bsl Scale) + inner(M bsr (?MANTISSA - Scale), M, Inner);
raw(E, 0, Scale, _) -> (E - 1) bsr -Scale;
raw(E, _, Scale, _) -> E bsr -Scale.

%% The linear estimate is never too high, and at most two too low: 2^s log2(1+x) - 2^s x < 1.4 for s =< 4.
inner(J, M, Inner) when M > element(J + 1, Inner) -> inner(J + 1, M, Inner);
inner(J, _, _) -> J.

clamp(I, Least, _) when I < Least -> Least;
clamp(I, _, Greatest) when I > Greatest -> Greatest;
clamp(I, _, _) -> I.

-spec bounds([number()]) -> bounds().
bounds(Bounds) -> {list_to_tuple(Bounds), list_to_tuple([floor(B) || B <- Bounds])}.

%% @doc Index of the first bound that is not below the value; the number of bounds if there is none.
-spec bound(number(), bounds()) -> non_neg_integer().
bound(V, {_, Whole}) when is_integer(V) -> bound(V, Whole, 0, tuple_size(Whole));
bound(V, {Bounds, _}) -> bound(V, Bounds, 0, tuple_size(Bounds)).

bound(_, _, Lo, Lo) -> Lo;
bound(V, Bounds, Lo, Hi) ->
    Mid = (Lo + Hi) bsr 1,
    case V =< element(Mid + 1, Bounds) of
        true -> bound(V, Bounds, Lo, Mid);
        false -> bound(V, Bounds, Mid + 1, Hi)
    end.
