%% @doc Encodes and decodes the frames of the wire, in both directions, without I/O.
%%
%% The only module that knows the layout of a frame. Called by dichroic_connection, dichroic_engine and dichroic_event_sender, and
%% by tests that play the collector. encode/1 gives the bytes of one frame, header included; decode/2 takes the front of a read
%% buffer. A decoded frame encodes to the same bytes. Input from a peer never raises: the result is a frame, `more', or
%% `{error, Message}', on which the caller sends GOODBYE and closes.
-module(dichroic_wire).

-export([encode/1, decode/2, body_size/1, packed/3, events/2, name/1]).
-export_type([frame/0, row/0]).

-type f64() :: float() | {float_bits, non_neg_integer()}.
-type bucket() :: {Index :: integer(), Side :: 0..2, Count :: pos_integer()}.
-type column() :: absent | {i64, [integer()]} | {f64, [f64()]} | {ref, [integer()]}.
-type row() :: {TimeNs :: integer(), [term()]}.
-type frame() ::
    {hello, byte(), byte(), 0..3, #{binary() => dichroic_value:value()}}
    | {goodbye, non_neg_integer(), non_neg_integer(), binary()}
    | {ping | pong, non_neg_integer()}
    | {plan, #{binary() => dichroic_value:value()}}
    | {define, series | schema | source, [{non_neg_integer(), null | map()}]}
    | {numbers, integer(), [{non_neg_integer(), integer(), f64()}]}
    | {histograms, integer(), [{non_neg_integer(), integer(), f64(), [bucket()]}]}
    | {events, Schema :: non_neg_integer(), Source :: non_neg_integer(), Position :: non_neg_integer(),
       [column()], Strings :: [binary()], Values :: [dichroic_value:value()]}
    | {gap, non_neg_integer(), byte(), non_neg_integer()}
    | {gap, non_neg_integer(), byte(), non_neg_integer(), {integer(), integer()}}
    | {unknown, byte(), binary()}.

-define(MAJOR, 1).
-define(MAX_BODY, 1048576).
-define(MAX_VALUES, 65536).
-define(HEADER_BYTES, 5).
%% Bytes before the items in DEFINE, NUMBERS and HISTOGRAMS, rounded up.
-define(PREFIX_BYTES, 16).
-define(NUMBER_BYTES, 20).
%% Keeps a DEFINE below ?MAX_VALUES: the smallest definition has 12 bytes per value.
-define(MAX_DEFINE, 262144).

-spec name(1..10) -> atom().
name(T) -> element(T, {hello, goodbye, ping, pong, plan, define, numbers, histograms, events, gap}).

-spec encode(frame()) -> iodata().
encode(Frame) ->
    {Type, Body} = body(Frame),
    [<<(iolist_size(Body)):32/little, Type>>, Body].

%% @doc The size of the body of an encoded frame, which `max_frame' limits.
-spec body_size(binary()) -> integer().
body_size(Frame) -> byte_size(Frame) - ?HEADER_BYTES.

%% @doc Frames that hold all items in order, none with a body larger than `Max' unless a single item is.
-spec packed({define, series} | {numbers | histograms, Time :: integer()}, [tuple()], Max :: pos_integer()) -> [frame()].
packed({define, _} = Frame, Items, Max) -> packed(Frame, Items, min(Max, ?MAX_DEFINE) - ?PREFIX_BYTES, fun define_bytes/1);
packed({numbers, _} = Frame, Rows, Max) -> packed(Frame, Rows, Max - ?PREFIX_BYTES, fun(_) -> ?NUMBER_BYTES end);
packed({histograms, _} = Frame, Rows, Max) -> packed(Frame, Rows, Max - ?PREFIX_BYTES, fun histogram_bytes/1).

packed({Name, What}, Items, Max, Size) -> [{Name, What, Chunk} || Chunk <- chunks(Items, Max, Size, 0, []), Chunk =/= []].

define_bytes({_, V}) -> 4 + iolist_size(dichroic_value:encode(V)).
histogram_bytes({_, _, _, Buckets}) -> 22 + 11 * length(Buckets).

chunks([], _, _, _, Acc) -> [lists:reverse(Acc)];
chunks([I | Items], Max, Size, Used, Acc) ->
    Bytes = Size(I),
    case Used + Bytes > Max andalso Acc =/= [] of
        true -> [lists:reverse(Acc) | chunks([I | Items], Max, Size, 0, [])];
        false -> chunks(Items, Max, Size, Used + Bytes, [I | Acc])
    end.

body({hello, Major, Minor, Role, Fields}) ->
    {1, [<<"DICH", Major, Minor, Role>>, dichroic_value:encode(Fields)]};
body({goodbye, Code, Retry, Message}) -> {2, [<<Code:16/little, Retry:32/little>>, Message]};
body({ping, T}) -> {3, <<T:64/little>>};
body({pong, T}) -> {4, <<T:64/little>>};
body({plan, Map}) -> {5, dichroic_value:encode(Map)};
body({define, Kind, Items}) ->
    {6, [kind(Kind) | [[<<Id:32/little>>, dichroic_value:encode(V)] || {Id, V} <- Items]]};
body({numbers, Time, Rows}) ->
    {7, [<<Time:64/little-signed>> |
         [[<<Id:32/little, I:64/little-signed>>, dichroic_value:encode_float(F)] || {Id, I, F} <- Rows]]};
body({histograms, Time, Rows}) ->
    {8, [<<Time:64/little-signed>> | [histogram(Row) || Row <- Rows]]};
body({events, Schema, Source, Position, Columns, Strings, Values}) ->
    R = rows(Columns),
    {9, [<<Schema:32/little, Source:32/little, Position:64/little, R:16/little, (length(Columns)),
           (length(Strings)):16/little, (length(Values)):16/little>>,
         [column_kind(C) || C <- Columns], [column(C) || C <- Columns],
         [<<(byte_size(S)):16/little>> || S <- Strings], Strings,
         [dichroic_value:encode(V) || V <- Values]]};
body({gap, Schema, Reason, Lost}) -> {10, <<Schema:32/little, Reason, Lost:64/little>>};
body({gap, Schema, 8, Lost, {Start, End}}) -> {10, <<Schema:32/little, 8, Lost:64/little, Start:64/little-signed, End:64/little-signed>>};
body({unknown, Type, Body}) -> {Type, Body}.

kind(series) -> 1;
kind(schema) -> 2;
kind(source) -> 3.

histogram({Id, I, F, Buckets}) ->
    [<<Id:32/little, (length(Buckets)):16/little, I:64/little-signed>>, dichroic_value:encode_float(F),
     << <<Ix:16/little-signed, Side, N:64/little>> || {Ix, Side, N} <- Buckets >>].

rows([{_, Values} | _]) -> length(Values).

column_kind(absent) -> 0;
column_kind({i64, _}) -> 1;
column_kind({f64, _}) -> 2;
column_kind({ref, _}) -> 3.

column(absent) -> [];
column({i64, L}) -> << <<V:64/little-signed>> || V <- L >>;
column({f64, L}) -> [dichroic_value:encode_float(V) || V <- L];
column({ref, L}) -> << <<V:16/little-signed>> || V <- L >>.

%% @doc The first frame of a buffer. `Limit' is the largest body accepted in the present state. The announced length reserves no
%% memory: the buffer holds only received bytes.
-spec decode(binary(), pos_integer()) ->
    {ok, frame(), Rest :: binary()} | more | {error, {limit | malformed | version, iodata()}}.
decode(<<Len:32/little, _/binary>>, Limit) when Len > Limit; Len > ?MAX_BODY ->
    {error, {limit, ["frame of ", integer_to_binary(Len), " bytes exceeds the limit of ",
                     integer_to_binary(min(Limit, ?MAX_BODY)), " bytes"]}};
decode(<<Len:32/little, Type, Body:Len/binary, Rest/binary>>, _) ->
    try frame(Type, Body) of
        Frame -> {ok, Frame, Rest}
    catch
        throw:{version, Message} -> {error, {version, Message}};
        throw:Message -> {error, {malformed, Message}}
    end;
decode(_, _) -> more.

frame(1, <<"DICH", Major, Minor, _, _/binary>>) when Major =/= ?MAJOR ->
    throw({version, io_lib:format("the peer has protocol version ~b.~b, this side 1.0: update the older one", [Major, Minor])});
frame(1, <<"DICH", Major, Minor, Role, Body/binary>>) when Role =< 3 ->
    {hello, Major, Minor, Role, map_body(Body)};
frame(1, <<"DICH", _, _, Role, _/binary>>) -> throw(["unknown role ", integer_to_binary(Role)]);
frame(2, <<Code:16/little, Retry:32/little, Message/binary>>) when byte_size(Message) =< 1024 ->
    dichroic_value:is_utf8(Message) orelse throw("GOODBYE with a message that is not UTF-8"),
    {goodbye, Code, Retry, Message};
frame(3, <<T:64/little>>) -> {ping, T};
frame(4, <<T:64/little>>) -> {pong, T};
frame(5, Body) -> {plan, map_body(Body)};
frame(6, <<K, Body/binary>>) when K >= 1, K =< 3 ->
    {define, element(K, {series, schema, source}), defines(Body, ?MAX_VALUES, [])};
frame(7, <<Time:64/little-signed, Body/binary>>) -> {numbers, Time, numbers(Body, [])};
frame(8, <<Time:64/little-signed, Body/binary>>) -> {histograms, Time, histograms(Body, [])};
frame(9, <<Schema:32/little, Source:32/little, Position:64/little, R:16/little, C, S:16/little, V:16/little,
           Kinds:C/binary, Body/binary>>) when R >= 1, R =< 4096, C >= 1, C =< 64, S =< 32767, V =< 32767 ->
    <<First, _/binary>> = Kinds,
    First =:= 1 orelse throw("EVENTS without the time as its first column"),
    {Columns, Rest} = columns(Kinds, R, S, V, Body, []),
    {Strings, Rest1} = strings(S, Rest),
    {events, Schema, Source, Position, Columns, Strings, values(V, Rest1, ?MAX_VALUES, [])};
frame(10, <<Schema:32/little, 8, Lost:64/little, Start:64/little-signed, End:64/little-signed>>) -> {gap, Schema, 8, Lost, {Start, End}};
frame(10, <<Schema:32/little, Reason, Lost:64/little>>) when Reason =/= 8 -> {gap, Schema, Reason, Lost};
frame(T, _) when T >= 1, T =< 10 -> throw([string:uppercase(atom_to_list(name(T))), " has an invalid layout"]);
frame(0, _) -> throw("invalid frame type 0");
frame(T, Body) -> {unknown, T, Body}.

map_body(Body) ->
    case dichroic_value:decode(Body) of
        {ok, Map} when is_map(Map) -> Map;
        {ok, _} -> throw("body is not a map");
        {error, Message} -> throw(Message)
    end.

defines(<<>>, _, Acc) -> lists:reverse(Acc);
defines(<<Id:32/little, Body/binary>>, Left, Acc) ->
    case dichroic_value:decode_one(Body, Left) of
        {ok, V, Rest, Left1} when V =:= null; is_map(V) -> defines(Rest, Left1, [{Id, V} | Acc]);
        {ok, _, _, _} -> throw("DEFINE has a value that is neither a map nor null");
        {error, Message} -> throw(Message)
    end;
defines(_, _, _) -> throw("DEFINE is truncated").

numbers(<<>>, Acc) -> lists:reverse(Acc);
numbers(<<Id:32/little, I:64/little-signed, F:8/binary, Rest/binary>>, Acc) ->
    numbers(Rest, [{Id, I, dichroic_value:decode_float(F)} | Acc]);
numbers(_, _) -> throw("NUMBERS is truncated").

histograms(<<>>, Acc) -> lists:reverse(Acc);
histograms(<<Id:32/little, N:16/little, I:64/little-signed, F:8/binary, Body/binary>>, Acc) when N =< 1024 ->
    {Buckets, Rest} = buckets(N, Body, {0, -40000}, []),
    histograms(Rest, [{Id, I, dichroic_value:decode_float(F), Buckets} | Acc]);
histograms(_, _) -> throw("HISTOGRAMS is truncated or has more than 1024 buckets").

buckets(0, Rest, _, Acc) -> {lists:reverse(Acc), Rest};
buckets(N, <<Ix:16/little-signed, Side, Count:64/little, Rest/binary>>, Before, Acc)
  when Side =< 2, Count > 0, {Side, Ix} > Before, Side > 0 orelse Ix =:= 0 ->
    buckets(N - 1, Rest, {Side, Ix}, [{Ix, Side, Count} | Acc]);
buckets(_, _, _, _) -> throw("HISTOGRAMS has buckets that are truncated, empty or not ascending").

columns(<<>>, _, _, _, Rest, Acc) -> {lists:reverse(Acc), Rest};
columns(<<0, Kinds/binary>>, R, S, V, Body, Acc) -> columns(Kinds, R, S, V, Body, [absent | Acc]);
columns(<<K, Kinds/binary>>, R, S, V, Body, Acc) when K =< 3 ->
    Bytes = R * case K of 3 -> 2; _ -> 8 end,
    case Body of
        <<Cells:Bytes/binary, Rest/binary>> -> columns(Kinds, R, S, V, Rest, [cells(K, Cells, S, V) | Acc]);
        _ -> throw("EVENTS is truncated in its columns")
    end;
columns(_, _, _, _, _, _) -> throw("EVENTS has an unknown kind of column").

cells(1, Cells, _, _) -> {i64, [X || <<X:64/little-signed>> <= Cells]};
cells(2, Cells, _, _) -> {f64, [dichroic_value:decode_float(X) || <<X:8/binary>> <= Cells]};
cells(3, Cells, S, V) ->
    Refs = [X || <<X:16/little-signed>> <= Cells],
    lists:all(fun(X) -> X < S andalso X >= -V end, Refs) orelse throw("EVENTS has a reference beyond its tables"),
    {ref, Refs}.

strings(S, Body) ->
    Bytes = S * 2,
    case Body of
        <<Lengths:Bytes/binary, Rest/binary>> -> strings(Lengths, Rest, []);
        _ -> throw("EVENTS is truncated in its strings")
    end.

strings(<<>>, Rest, Acc) -> {lists:reverse(Acc), Rest};
strings(<<N:16/little, Lengths/binary>>, Body, Acc) ->
    case Body of
        <<String:N/binary, Rest/binary>> ->
            dichroic_value:is_utf8(String) orelse throw("EVENTS has a string that is not UTF-8"),
            strings(Lengths, Rest, [String | Acc]);
        _ -> throw("EVENTS is truncated in its strings")
    end.

values(0, <<>>, _, Acc) -> lists:reverse(Acc);
values(0, _, _, _) -> throw("EVENTS has trailing bytes");
values(N, Body, Left, Acc) ->
    case dichroic_value:decode_one(Body, Left) of
        {ok, V, Rest, Left1} -> values(N - 1, Rest, Left1, [V | Acc]);
        {error, Message} -> throw(Message)
    end.

%% @doc EVENTS from rows of scalars (atoms, binaries, integers, floats, {cut, Whole, Prefix}). In rows of logs a cell may also be
%% {bytes, Binary}, or {map, Map} of values.
-spec events(Schema :: non_neg_integer(), [row(), ...]) -> frame().
events(Schema, Rows) ->
    Times = {i64, [T || {T, _} <- Rows]},
    {Columns, Table} = lists:mapfoldl(fun fold_column/2, {#{}, [], 0, #{}, [], 0}, transpose([C || {_, C} <- Rows])),
    {_, Strings, _, _, Values, _} = Table,
    {events, Schema, 0, 0, [Times | Columns], lists:reverse(Strings), lists:reverse(Values)}.

transpose([[] | _]) -> [];
transpose(Rows) -> [[hd(R) || R <- Rows] | transpose([tl(R) || R <- Rows])].

fold_column(Cells, Table) ->
    case column_type(Cells, none) of
        none -> {absent, Table};
        i64 -> {{i64, Cells}, Table};
        f64 -> {{f64, [float(C) || C <- Cells]}, Table};
        ref ->
            {Refs, Table1} = lists:mapfoldl(fun reference/2, Table, Cells),
            {{ref, Refs}, Table1}
    end.

%% `none' means only nulls so far. Integers become floats only where the conversion is exact.
column_type([], T) -> T;
column_type([C | R], T) when C =:= nil; C =:= undefined -> case T of none -> nulls(R); _ -> ref end;
column_type([C | R], T) when is_integer(C), C >= -16#8000000000000000, C =< 16#7fffffffffffffff ->
    case T of
        none -> column_type(R, i64);
        i64 -> column_type(R, i64);
        f64 when abs(C) =< 16#20000000000000 -> column_type(R, f64);
        f64 -> ref
    end;
column_type([C | R], T) when is_float(C) ->
    case T of
        none -> column_type(R, f64);
        f64 -> column_type(R, f64);
        i64 -> ref
    end;
column_type(_, _) -> ref.

nulls([]) -> none;
nulls([C | R]) when C =:= nil; C =:= undefined -> nulls(R);
nulls(_) -> ref.

reference(Cell, {SIndex, Strings, S, VIndex, Values, V} = Table) ->
    case scalar(Cell) of
        B when is_binary(B) ->
            case SIndex of
                #{B := I} -> {I, Table};
                _ -> {S, {SIndex#{B => S}, [B | Strings], S + 1, VIndex, Values, V}}
            end;
        Value ->
            case VIndex of
                #{Value := I} -> {I, Table};
                _ -> {-1 - V, {SIndex, Strings, S, VIndex#{Value => -1 - V}, [Value | Values], V + 1}}
            end
    end.

%% The wire form of a BEAM scalar. Atoms become strings, nil and undefined become null, and binaries that are not UTF-8 stay bytes.
scalar(nil) -> null;
scalar(undefined) -> null;
scalar(true) -> true;
scalar(false) -> false;
scalar(A) when is_atom(A) -> atom_to_binary(A);
scalar(B) when is_binary(B) -> case dichroic_value:is_utf8(B) of true -> B; false -> {bytes, B} end;
scalar({cut, Whole, B}) -> case dichroic_value:is_utf8(B) of true -> {cut, Whole, B}; false -> {bytes, B} end;
scalar(N) when is_number(N) -> N;
scalar({bytes, B} = V) when is_binary(B) -> V;
scalar({map, M}) when is_map(M) -> M;
scalar(_) -> null.
