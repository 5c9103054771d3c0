%% @doc Tagged values: the encoding of maps, lists and scalars in HELLO, PLAN, DEFINE and the tables of EVENTS.
%%
%% Called by dichroic_wire in any process; has no state. A value has exactly one encoding: encode/1 returns the same bytes that
%% decode/1 accepts. Invalid input gives `{error, Message}', never an exception, and takes memory in proportion to its bytes.
%% encode/1 raises only for a term that is not a value, which is a fault of the caller.
-module(dichroic_value).

-export([encode/1, decode/1, decode_one/2, encode_float/1, decode_float/1, text/1, representative/1, as_text/1, cut/2, is_utf8/1]).
-export_type([value/0]).

-type value() :: null | boolean() | integer() | float() | {float_bits, non_neg_integer()} | binary()
               | {cut, pos_integer(), binary()} | {bytes, binary()} | [value()] | #{binary() => value()}.

-define(MAX_DEPTH, 8).
-define(MAX_VALUES, 65536).
-define(MIN_I64, -16#8000000000000000).
-define(MAX_I64, 16#7fffffffffffffff).
-define(NAN, 16#7ff8000000000000).

-spec encode(value()) -> iodata().
encode(null) -> <<0>>;
encode(false) -> <<1>>;
encode(true) -> <<2>>;
encode(I) when is_integer(I), I >= ?MIN_I64, I =< ?MAX_I64 -> <<3, I:64/little-signed>>;
encode(I) when is_integer(I) -> [4, encode_float(saturate(I))];
encode(F) when is_float(F) -> <<4, F:64/little-float>>;
encode({float_bits, _} = F) -> [4, encode_float(F)];
encode(B) when is_binary(B), byte_size(B) =< 65535 -> [<<5, (byte_size(B)):16/little>>, B];
encode({cut, Whole, B}) -> [<<6, Whole:32/little, (byte_size(B)):16/little>>, B];
encode({bytes, B}) -> [<<7, (byte_size(B)):16/little>>, B];
encode(L) when is_list(L) -> [<<8, (length(L)):16/little>> | [encode(V) || V <- L]];
encode(M) when is_map(M) ->
    Pairs = lists:sort(maps:to_list(M)),
    [<<9, (length(Pairs)):16/little>> | [[byte_size(K), K, encode(V)] || {K, V} <- Pairs]].

saturate(I) ->
    try float(I) catch error:_ -> case I > 0 of true -> 1.7976931348623157e308; false -> -1.7976931348623157e308 end end.

%% Erlang has no NaN and no infinite floats: those are kept as their bits.
-spec encode_float(float() | {float_bits, non_neg_integer()}) -> binary().
encode_float({float_bits, Bits}) -> <<Bits:64/little>>;
encode_float(F) -> <<F:64/little-float>>.

-spec decode_float(<<_:64>>) -> float() | {float_bits, non_neg_integer()}.
decode_float(<<F:64/little-float>>) -> F;
decode_float(<<Bits:64/little>>) -> {float_bits, Bits}.

%% @doc Decodes one value that fills the whole binary.
-spec decode(binary()) -> {ok, value()} | {error, iodata()}.
decode(Bin) ->
    case decode_one(Bin, ?MAX_VALUES) of
        {ok, V, <<>>, _} -> {ok, V};
        {ok, _, Rest, _} -> {error, [integer_to_binary(byte_size(Rest)), " trailing bytes after a value"]};
        {error, _} = E -> E
    end.

%% @doc Decodes one value from the front; `Left' is the number of values that this frame may still have.
-spec decode_one(binary(), integer()) -> {ok, value(), binary(), integer()} | {error, iodata()}.
decode_one(Bin, Left) ->
    try value(Bin, 1, Left) of
        {V, Rest, Left1} -> {ok, V, Rest, Left1}
    catch
        throw:Message -> {error, Message}
    end.

value(_, _, Left) when Left =< 0 -> throw("more than 65536 values in one frame");
value(<<0, R/binary>>, _, L) -> {null, R, L - 1};
value(<<1, R/binary>>, _, L) -> {false, R, L - 1};
value(<<2, R/binary>>, _, L) -> {true, R, L - 1};
value(<<3, I:64/little-signed, R/binary>>, _, L) -> {I, R, L - 1};
value(<<4, F:8/binary, R/binary>>, _, L) -> {canonical(decode_float(F)), R, L - 1};
value(<<5, N:16/little, S:N/binary, R/binary>>, _, L) -> {utf8(S), R, L - 1};
value(<<6, Whole:32/little, N:16/little, S:N/binary, R/binary>>, _, L) when Whole > N ->
    {{cut, Whole, utf8(S)}, R, L - 1};
value(<<7, N:16/little, B:N/binary, R/binary>>, _, L) -> {{bytes, B}, R, L - 1};
value(<<8, N:16/little, R/binary>>, D, L) when D =< ?MAX_DEPTH -> list(N, R, D + 1, L - 1, []);
value(<<9, N:16/little, R/binary>>, D, L) when D =< ?MAX_DEPTH -> map(N, R, D + 1, L - 1, <<>>, []);
value(<<T, _/binary>>, D, _) when T >= 8, T =< 9, D > ?MAX_DEPTH -> throw("values are nested deeper than 8");
value(<<T, _/binary>>, _, _) when T > 9 -> throw(["unknown value tag ", integer_to_binary(T)]);
value(_, _, _) -> throw("value is truncated").

list(0, R, _, L, Acc) -> {lists:reverse(Acc), R, L};
list(N, R, D, L, Acc) ->
    {V, R1, L1} = value(R, D, L),
    list(N - 1, R1, D, L1, [V | Acc]).

map(0, R, _, L, _, Acc) -> {maps:from_list(Acc), R, L};
map(N, <<K, Key:K/binary, R/binary>>, D, L, Before, Acc) when K >= 1, Key > Before ->
    Key1 = utf8(Key),
    {V, R1, L1} = value(R, D, L),
    map(N - 1, R1, D, L1, Key1, [{Key1, V} | Acc]);
map(_, <<K, Key:K/binary, _/binary>>, _, _, _, _) when K >= 1 ->
    throw(["map keys are not ascending: ", io_lib:format("~tp", [Key])]);
map(_, _, _, _, _, _) -> throw("map is truncated").

canonical({float_bits, Bits}) when Bits band 16#7ff0000000000000 =:= 16#7ff0000000000000,
                                   Bits band 16#fffffffffffff =/= 0, Bits =/= ?NAN ->
    throw("NaN must be 7ff8000000000000");
canonical(F) -> F.

utf8(S) ->
    case is_utf8(S) of
        true -> S;
        false -> throw("string is not UTF-8")
    end.

-spec is_utf8(binary()) -> boolean().
is_utf8(<<>>) -> true;
is_utf8(<<A, B, C, D, R/binary>>) when A < 128, B < 128, C < 128, D < 128 -> is_utf8(R);
is_utf8(<<_/utf8, R/binary>>) -> is_utf8(R);
is_utf8(_) -> false.

%% @doc A scalar as the collector writes it into a label: label sets with the same text are one series. Floats have all their digits
%% and no exponent, as in Rust's Display.
-spec text(null | boolean() | number() | binary()) -> binary().
text(null) -> <<>>;
text(V) when is_boolean(V) -> atom_to_binary(V);
text(V) when is_integer(V) -> integer_to_binary(V);
text(V) when is_float(V) -> decimal(float_to_binary(V, [short]));
text(V) -> V.

decimal(<<"-", Short/binary>>) -> <<"-", (decimal(Short))/binary>>;
decimal(Short) ->
    {Mantissa, Exponent} = case binary:split(Short, <<"e">>) of
                               [M, E] -> {M, binary_to_integer(E)};
                               [M] -> {M, 0}
                           end,
    [Whole, Fraction] = binary:split(Mantissa, <<".">>),
    point(Whole, case Fraction of <<"0">> -> <<>>; _ -> Fraction end, Exponent).

point(Whole, <<>>, 0) -> Whole;
point(Whole, Fraction, 0) -> <<Whole/binary, ".", Fraction/binary>>;
point(Whole, <<>>, E) when E > 0 -> <<Whole/binary, (zeros(E))/binary>>;
point(Whole, <<Digit, Fraction/binary>>, E) when E > 0 -> point(<<Whole/binary, Digit>>, Fraction, E - 1);
point(<<Digit>>, Fraction, E) -> <<"0.", (zeros(-E - 1))/binary, Digit, Fraction/binary>>.

zeros(N) -> binary:copy(<<"0">>, N).

%% @doc The representative of all scalars with the same text: the most usual type.
-spec representative(null | boolean() | number() | binary()) -> null | boolean() | integer() | binary().
representative(<<>>) -> null;
representative(<<"true">>) -> true;
representative(<<"false">>) -> false;
representative(<<C, _/binary>> = B) when C =< $9, byte_size(B) =< 20 ->
    try binary_to_integer(B) of
        I when I >= ?MIN_I64, I =< ?MAX_I64 -> case integer_to_binary(I) of B -> I; _ -> B end;
        _ -> B
    catch error:badarg -> B
    end;
representative(F) when is_float(F) -> representative(text(F));
representative(V) -> V.

%% @doc Bytes as text, with U+FFFD for each invalid byte.
-spec as_text(binary()) -> binary().
as_text(B) ->
    case is_utf8(B) of
        true -> B;
        false -> unicode:characters_to_binary(code_points(B))
    end.

code_points(<<C/utf8, R/binary>>) -> [C | code_points(R)];
code_points(<<_, R/binary>>) -> [16#fffd | code_points(R)];
code_points(<<>>) -> [].

%% @doc At most the first `N' bytes, ending on a code point. Bytes that are not UTF-8 are cut at `N'.
-spec cut(binary(), non_neg_integer()) -> binary().
cut(B, N) when byte_size(B) =< N -> B;
cut(B, N) -> cut_back(B, N, N - 3).

cut_back(B, N, Least) when N > 0, N > Least ->
    case binary:at(B, N) band 16#c0 of
        16#80 -> cut_back(B, N - 1, Least);
        _ -> binary:part(B, 0, N)
    end;
cut_back(B, N, _) -> binary:part(B, 0, max(N, 0)).
