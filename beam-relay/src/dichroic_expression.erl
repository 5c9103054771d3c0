%% @doc Expressions and conditions of a plan: a path into measurements, metadata or carried values, then transforms from a closed
%% set.
%%
%% compile/2 and condition/2 are called by dichroic_plan, once per plan; eval/3 and holds/3 by the handler, in the process that
%% emits the event. The latter are total: any term at any step gives a value or `nil' (absent), never an exception.
-module(dichroic_expression).

-export([compile/2, condition/2, eval/3, holds/3, label/2, column/2, carry_names/1, carry_key/1]).
-export_type([expr/0, condition/0, labels/0, atoms/0]).

-type step() :: {atom(), binary()} | non_neg_integer().
-type transform() :: name | class | tag | length | bool | type | upper | {cut, non_neg_integer()}
                   | {before, binary()} | {allow, [term()]} | {rename, #{binary() => binary()}} | {default, term()}.
-type fetch() :: {meas | meta, atom(), binary()} | {meta2, atom(), binary(), atom(), binary()}
               | {path, meas | meta, [step()]} | {carry, tuple()}.
-type expr() :: fetch() | {then, fetch(), [transform()]} | {call, function()}.
%% App metrics may have functions of measurements, of metadata, or of both.
-type labels() :: [expr()] | {tagged, fun((term()) -> term()), [{atom(), binary()}]}.
-type condition() :: {holds | holds_not, function()} | {has | lacks, expr()} | {eq | ne | lt | gt | in, expr(), [term()]}.
-type atoms() :: fun((binary()) -> {ok, atom()} | {error, iodata()}).

-define(MAX_STEPS, 8).
%% Longer texts are not names, and searching them would delay the process that emits.
-define(MAX_SEARCHED, 1024).
-define(MAX_SMALL, 16#7ffffffffffffff).

%%% Compiling

-spec compile(dichroic_value:value(), atoms()) -> {ok, expr()} | {error, iodata()}.
compile(Value, Atoms) ->
    try {ok, expr(Value, Atoms)} catch throw:Message -> {error, Message} end.

expr([Root, Path | Transforms], Atoms) when is_list(Path) ->
    length(Path) =< ?MAX_STEPS orelse throw("a path must have at most 8 steps"),
    Fetch = fetch(Root, Path, Atoms),
    case [transform(T) || T <- Transforms] of
        [] -> Fetch;
        Ts -> {then, Fetch, Ts}
    end;
expr(_, _) -> throw("an expression must be [root, path, transform...]").

fetch(<<"carry">>, [Name], _) when is_binary(Name) -> {carry, carry_key(Name)};
fetch(<<"carry">>, _, _) -> throw("the path of a carry must be one name");
fetch(_, [], _) -> throw("a path must not be empty");
fetch(<<"measurements">>, Path, Atoms) -> path(meas, [step(S, Atoms) || S <- Path]);
fetch(<<"metadata">>, Path, Atoms) -> path(meta, [step(S, Atoms) || S <- Path]);
fetch(Root, _, _) -> throw(io_lib:format("unknown root ~tp", [Root])).

path(Root, [{A, B}]) -> {Root, A, B};
path(meta, [{A, B}, {C, D}]) -> {meta2, A, B, C, D};
path(Root, Steps) -> {path, Root, Steps}.

step(I, _) when is_integer(I), I >= 0, I =< 65535 -> I;
step(B, Atoms) when is_binary(B), B =/= <<>> ->
    case Atoms(B) of
        {ok, A} -> {A, B};
        {error, Message} -> throw(Message)
    end;
step(S, _) -> throw(io_lib:format("invalid path step ~tp: expected a name or an index", [S])).

transform(T) when is_binary(T) -> transform([T]);
transform([<<"name">>]) -> name;
transform([<<"class">>]) -> class;
transform([<<"tag">>]) -> tag;
transform([<<"length">>]) -> length;
transform([<<"bool">>]) -> bool;
transform([<<"type">>]) -> type;
transform([<<"upper">>]) -> upper;
transform([<<"cut">>, N]) when is_integer(N), N >= 0, N =< 65535 -> {cut, N};
transform([<<"before">>, S]) when is_binary(S), S =/= <<>> -> {before, S};
transform([<<"allow">> | Vs]) when Vs =/= [] -> {allow, [operand(V) || V <- Vs]};
transform([<<"rename">> | Names]) when Names =/= [] -> {rename, renames(Names)};
transform([<<"default">>, V]) -> {default, operand(V)};
transform(T) -> throw(io_lib:format("unknown transform ~tp", [T])).

renames([From, To | More]) when is_binary(From), is_binary(To) -> (renames(More))#{From => To};
renames([]) -> #{};
renames(_) -> throw("invalid operands of rename: expected pairs of texts").

operand(V) when is_binary(V); is_number(V); is_boolean(V) -> V;
operand(null) -> nil;
operand(V) -> throw(io_lib:format("invalid operand ~tp: expected a scalar", [V])).

-spec condition(dichroic_value:value(), atoms()) -> {ok, condition()} | {error, iodata()}.
condition(Value, Atoms) ->
    try {ok, cond_(Value, Atoms)} catch throw:Message -> {error, Message} end.

cond_([<<"has">>, E], Atoms) -> {has, expr(E, Atoms)};
cond_([<<"lacks">>, E], Atoms) -> {lacks, expr(E, Atoms)};
cond_([<<"eq">>, E, V], Atoms) -> {eq, expr(E, Atoms), [operand(V)]};
cond_([<<"ne">>, E, V], Atoms) -> {ne, expr(E, Atoms), [operand(V)]};
cond_([<<"lt">>, E, V], Atoms) when is_number(V) -> {lt, expr(E, Atoms), [V]};
cond_([<<"gt">>, E, V], Atoms) when is_number(V) -> {gt, expr(E, Atoms), [V]};
cond_([<<"in">>, E, Vs], Atoms) when is_list(Vs) -> {in, expr(E, Atoms), [operand(V) || V <- Vs]};
cond_([<<"in">>, E | Vs], Atoms) when Vs =/= [] -> {in, expr(E, Atoms), [operand(V) || V <- Vs]};
cond_(C, _) -> throw(io_lib:format("unknown condition ~tp", [C])).

%% @doc The key of a carried value in the process dictionary.
-spec carry_key(binary()) -> tuple().
carry_key(Name) -> {'$dichroic_carry', Name}.

%% @doc The names of carried values that an expression or a condition reads.
-spec carry_names(expr() | condition() | undefined) -> [binary()].
carry_names({carry, {_, Name}}) -> [Name];
carry_names({then, {carry, {_, Name}}, _}) -> [Name];
carry_names({has, E}) -> carry_names(E);
carry_names({lacks, E}) -> carry_names(E);
carry_names({Op, E, _}) when Op =:= eq; Op =:= ne; Op =:= lt; Op =:= gt; Op =:= in -> carry_names(E);
carry_names(_) -> [].

%%% Evaluating, in the process that emits

-spec eval(expr(), term(), term()) -> term().
eval({meta2, A, B, C, D}, _, Meta) ->
    case Meta of
        #{A := #{C := V}} -> V;
        #{A := #{D := V}} -> V;
        #{A := _} -> nil;
        #{B := #{C := V}} -> V;
        #{B := #{D := V}} -> V;
        _ -> nil
    end;
eval({meta, A, B}, _, Meta) ->
    case Meta of #{A := V} -> V; #{B := V} -> V; _ -> nil end;
eval({meas, A, B}, Meas, _) ->
    case Meas of #{A := V} -> V; #{B := V} -> V; _ -> nil end;
eval({carry, Key}, _, _) -> get(Key);
eval({path, meta, Steps}, _, Meta) -> walk(Steps, Meta);
eval({path, meas, Steps}, Meas, _) -> walk(Steps, Meas);
eval({call, F}, Meas, _) when is_function(F, 1) -> try F(Meas) catch _:_ -> nil end;
eval({call, F}, Meas, Meta) -> try F(Meas, Meta) catch _:_ -> nil end;
eval({then, Fetch, Transforms}, Meas, Meta) -> transforms(Transforms, eval(Fetch, Meas, Meta)).

walk([], V) -> V;
walk([{A, B} | Steps], V) ->
    case V of #{A := V1} -> walk(Steps, V1); #{B := V1} -> walk(Steps, V1); _ -> nil end;
walk([I | Steps], V) when is_tuple(V), I < tuple_size(V) -> walk(Steps, element(I + 1, V));
walk([I | Steps], [_ | _] = V) -> walk(Steps, nth(I, V));
walk(_, _) -> nil.

nth(0, [V | _]) -> V;
nth(I, [_ | T]) -> nth(I - 1, T);
nth(_, _) -> nil.

transforms([], V) -> V;
transforms([T | Ts], V) -> transforms(Ts, apply_transform(T, V)).

apply_transform({default, D}, V) -> case V of nil -> D; undefined -> D; _ -> V end;
apply_transform(name, A) when is_atom(A), A =/= nil, A =/= undefined, not is_boolean(A) -> module_name(A);
apply_transform(class, I) when is_integer(I), I >= 100, I =< 599 ->
    element(I div 100, {<<"1xx">>, <<"2xx">>, <<"3xx">>, <<"4xx">>, <<"5xx">>});
apply_transform(class, _) -> nil;
apply_transform(tag, A) when is_atom(A) -> A;
apply_transform(tag, T) when is_tuple(T), tuple_size(T) > 0, is_atom(element(1, T)) -> element(1, T);
apply_transform(tag, _) -> nil;
apply_transform(length, V) -> size_of(V);
apply_transform(bool, V) -> V =/= nil andalso V =/= undefined andalso V =/= false;
apply_transform(type, V) -> type_of(V);
apply_transform(upper, V) -> upper(V);
apply_transform({cut, N}, V) -> cut(V, N);
apply_transform({allow, Vs}, V) -> allow(Vs, V);
apply_transform({before, S}, V) -> before(V, S);
apply_transform({rename, Names}, V) -> rename(V, Names);
apply_transform(_, V) -> V.

module_name(A) ->
    case atom_to_binary(A) of
        <<"Elixir.", Name/binary>> -> Name;
        Name -> Name
    end.

size_of(L) when is_list(L), length(L) >= 0 -> length(L);
size_of(M) when is_map(M) -> map_size(M);
size_of(T) when is_tuple(T) -> tuple_size(T);
size_of(B) when is_binary(B) -> byte_size(B);
size_of(_) -> nil.

type_of(#{'__struct__' := A}) when is_atom(A) -> module_name(A);
type_of(V) when V =:= nil; V =:= undefined -> nil;
type_of(V) when is_boolean(V) -> bool;
type_of(V) when is_atom(V) -> atom;
type_of(V) when is_binary(V) -> string;
type_of(V) when is_integer(V) -> int;
type_of(V) when is_float(V) -> float;
type_of(V) when is_tuple(V) -> tuple;
type_of(V) when is_map(V) -> map;
type_of(V) when is_list(V) -> list;
type_of(V) when is_pid(V) -> pid;
type_of(V) when is_reference(V) -> ref;
type_of(V) when is_function(V) -> 'fun';
type_of(_) -> other.

cut(B, N) when is_binary(B), byte_size(B) > N -> {cut, byte_size(B), dichroic_value:cut(B, N)};
cut(A, N) when is_atom(A), A =/= nil, A =/= undefined, not is_boolean(A) -> cut(atom_to_binary(A), N);
cut({cut, Whole, B}, N) when is_integer(Whole), is_binary(B), byte_size(B) > N -> {cut, Whole, dichroic_value:cut(B, N)};
cut(V, _) -> V.

%% For HTTP methods: only ASCII letters are changed.
upper(B) when is_binary(B), byte_size(B) =< ?MAX_SEARCHED -> << <<(capital(C))>> || <<C>> <= B >>;
upper(A) when is_atom(A), A =/= nil, A =/= undefined, not is_boolean(A) -> upper(atom_to_binary(A));
upper({cut, Whole, B}) when is_integer(Whole), is_binary(B) -> {cut, Whole, upper(B)};
upper(V) -> V.

capital(C) when C >= $a, C =< $z -> C - 32;
capital(C) -> C.

%% Up to the last occurrence, because the part before it may contain the text too. Without an occurrence the result is absent: the
%% whole text may be unique to one event.
before(B, S) when is_binary(B), byte_size(B) =< ?MAX_SEARCHED ->
    case binary:matches(B, S) of
        [] -> nil;
        Found -> head(B, lists:last(Found))
    end;
before(A, S) when is_atom(A), A =/= nil, A =/= undefined, not is_boolean(A) -> before(atom_to_binary(A), S);
before(_, _) -> nil.

head(_, {0, _}) -> nil;
head(B, {At, _}) -> binary:part(B, 0, At).

rename(B, Names) when is_binary(B) -> maps:get(B, Names, B);
rename(A, Names) when is_atom(A), A =/= nil, A =/= undefined, not is_boolean(A) -> maps:get(atom_to_binary(A), Names, A);
rename(V, _) -> V.

%% The semantic conventions' value for anything that is not on the list.
allow(Vs, V) -> case same_as_any(Vs, V) of true -> V; false -> <<"_OTHER">> end.

-spec holds([condition()], term(), term()) -> boolean().
holds([], _, _) -> true;
holds([C | Cs], Meas, Meta) -> holds_one(C, Meas, Meta) andalso holds(Cs, Meas, Meta).

holds_one({has, E}, Meas, Meta) -> present(eval(E, Meas, Meta));
holds_one({lacks, E}, Meas, Meta) -> not present(eval(E, Meas, Meta));
holds_one({eq, E, [V]}, Meas, Meta) -> same(V, eval(E, Meas, Meta));
holds_one({ne, E, [V]}, Meas, Meta) -> not same(V, eval(E, Meas, Meta));
holds_one({in, E, Vs}, Meas, Meta) -> same_as_any(Vs, eval(E, Meas, Meta));
holds_one({lt, E, [V]}, Meas, Meta) -> N = eval(E, Meas, Meta), is_number(N) andalso N < V;
holds_one({gt, E, [V]}, Meas, Meta) -> N = eval(E, Meas, Meta), is_number(N) andalso N > V;
holds_one({holds, F}, Meas, Meta) -> try predicate(F, Meas, Meta) =:= true catch _:_ -> false end;
holds_one({holds_not, F}, Meas, Meta) -> try predicate(F, Meas, Meta) =:= false catch _:_ -> false end.

predicate(F, _, Meta) when is_function(F, 1) -> F(Meta);
predicate(F, Meas, Meta) -> F(Meta, Meas).

present(nil) -> false;
present(undefined) -> false;
present(_) -> true.

same_as_any([], _) -> false;
same_as_any([V | Vs], X) -> same(V, X) orelse same_as_any(Vs, X).

%% An atom equals the string of its name, because a plan cannot contain atoms.
same(V, V) -> true;
same(nil, undefined) -> true;
same(V, X) when is_number(V), is_number(X) -> V == X;
same(V, X) when is_binary(V), is_atom(X), X =/= nil, X =/= undefined, not is_boolean(X) -> atom_to_binary(X) =:= V;
same(V, {cut, _, X}) -> V =:= X;
same(_, _) -> false.

%% @doc The term as a label in the key of a series: a scalar, strings cut to `Cap' bytes. Anything else is nil.
-spec label(term(), pos_integer()) -> atom() | binary() | number().
label(V, _) when is_atom(V) -> V;
label(V, Cap) when is_binary(V) ->
    case byte_size(V) =< Cap of
        true -> V;
        false -> dichroic_value:cut(V, Cap)
    end;
label(V, _) when is_integer(V), V =< ?MAX_SMALL, V >= -?MAX_SMALL -> V;
label(V, _) when is_float(V) -> V;
label({cut, _, V}, Cap) -> label(V, Cap);
label([C | _] = V, Cap) when is_integer(C) -> chars(V, Cap, []);
label(V, _) -> big(V).

%% A charlist, up to `Cap' characters. Other lists of integers are not text, so only printable ASCII counts as one.
chars([C | T], N, Acc) when is_integer(C), C >= 32, C =< 126 ->
    case N of
        0 -> list_to_binary(lists:reverse(Acc));
        _ -> chars(T, N - 1, [C | Acc])
    end;
chars([], _, Acc) -> list_to_binary(lists:reverse(Acc));
chars(_, _, _) -> nil.

%% @doc The term as a cell of a row: like label/2, but a cut string keeps its full length.
-spec column(term(), pos_integer()) -> atom() | binary() | number() | {cut, pos_integer(), binary()}.
column(V, Cap) when is_binary(V), byte_size(V) > Cap -> {cut, byte_size(V), own(dichroic_value:cut(V, Cap))};
column(V, _) when is_binary(V) -> own(V);
column({cut, Whole, V}, Cap) when is_integer(Whole), is_binary(V), Whole > byte_size(V), Whole =< 16#ffffffff ->
    {cut, Whole, own(dichroic_value:cut(V, Cap))};
column(V, _) when is_tuple(V) -> nil;
column(V, Cap) -> label(V, Cap).

%% A short part must not keep a long binary alive while the row is queued.
own(B) -> case binary:referenced_byte_size(B) > 256 of true -> binary:copy(B); false -> B end.

big(V) when is_integer(V), V >= -16#8000000000000000, V =< 16#7fffffffffffffff -> V;
big(V) when is_integer(V), abs(V) < 1 bsl 1000 -> float(V);
big(_) -> nil.
