%% @doc Finds the telemetry events that a compiled module names, without loading it and without creating atoms.
%%
%% Called by dichroic_visit, in a process with limited memory. A call of `telemetry:execute' or `telemetry:span' whose first
%% argument is a literal names its event with certainty. To find it the instructions of the module are followed in a straight
%% line: the known content of a register is dropped at a label, a call, and any instruction with that register as an argument. If
%% a module also calls with a computed name, its other lists of atoms may be events or prefixes of events. Formats: the chunks
%% `AtU8', `ImpT', `LitT' and `Code' of a BEAM file, and the external term format. Unknown input makes an event uncertain, never
%% wrong.
-module(dichroic_visit_code).

-export([read/1]).
-export_type([found/0, name/0]).

%% Parts of an event's name, as text.
-type name() :: [binary(), ...].
%% `guessed' are the other lists of atoms, present only if the functions in `calls' are called with a name that is not a literal.
-type found() :: #{certain := [name()], guessed := [name()], calls := [execute | span]}.

-define(MAX_LENGTH, 10).
-define(MAX_DEPTH, 3).
%% The number of arguments of instructions 1, 2, 3, ..., as of OTP 25 to 29. A newer instruction ends the scan of a module.
-define(ARITIES, "13023223245232321100002112444444444443333333222222222222233312123333321101132225554211225552101224444312111263"
        "512235777532256222213408626545454333330117155233400222343224312111630153246243635").

-record(code, {imports :: #{non_neg_integer() => execute | span}, literals :: #{non_neg_integer() => term()}, found = []}).

%% @doc `none' for a module without such a call, `unread' for one that could not be read.
-spec read(file:filename() | binary()) -> found() | none | unread.
read(Beam) ->
    try
        {ok, {_, [{_, Atoms}, {_, Imports}]}} = beam_lib:chunks(Beam, ["AtU8", "ImpT"]),
        case imports(Imports, telemetry(atoms(Atoms))) of
            Calls when map_size(Calls) =:= 0 -> none;
            Calls -> called(Beam, Calls)
        end
    catch _:_ -> unread
    end.

called(Beam, Calls) ->
    {ok, {_, [{_, Literals}, {_, Code}]}} = beam_lib:chunks(Beam, ["LitT", "Code"], [allow_missing_chunks]),
    Table = maps:from_list(lists:enumerate(0, literals(Literals))),
    Made = instructions(Code, #code{imports = Calls, literals = maps:filtermap(fun(_, T) -> name(T) end, Table)}),
    Certain = lists:usort([event(F, Name) || {F, Name} <- Made, Name =/= unknown]),
    Unknown = lists:usort([F || {F, unknown} <- Made]),
    Used = [Name || {_, Name} <- Made],
    #{certain => lists:append(Certain), calls => Unknown,
      guessed => [N || Unknown =/= [], N <- lists:usort(lists:flatmap(fun names/1, maps:values(Table))), not lists:member(N, Used)]}.

event(execute, Name) -> [Name];
event(span, Name) -> [Name ++ [Last] || Last <- [<<"start">>, <<"stop">>, <<"exception">>]].

%%% Atoms and imports

%% Since OTP 28 a negative number of atoms means that their lengths are compact terms.
atoms(<<N:32/signed, Rest/binary>>) when N >= 0 -> [A || <<L, A:L/binary>> <= Rest];
atoms(<<_:32, Rest/binary>>) -> long_atoms(Rest).

long_atoms(<<>>) -> [];
long_atoms(Bin) ->
    {_, L, Rest} = compact(Bin),
    <<A:L/binary, More/binary>> = Rest,
    [A | long_atoms(More)].

telemetry(Atoms) ->
    maps:from_list([{I, A} || {I, A} <- lists:enumerate(Atoms), lists:member(A, [<<"telemetry">>, <<"execute">>, <<"span">>])]).

imports(<<_:32, Table/binary>>, Atoms) ->
    All = [{M, F, A} || <<M:32, F:32, A:32>> <= Table],
    maps:from_list([{I, Call} || {I, {M, F, A}} <- lists:enumerate(0, All), <<"telemetry">> <- [maps:get(M, Atoms, none)],
                                 Call <- call(maps:get(F, Atoms, none), A)]).

call(<<"execute">>, A) when A =:= 2; A =:= 3 -> [execute];
call(<<"span">>, 3) -> [span];
call(_, _) -> [].

%%% Literals: terms in the external format, of which only possible names are decoded

%% Compressed, after the uncompressed size; since OTP 28 uncompressed, after a size of 0.
literals(missing_chunk) -> [];
literals(<<0:32, _:32, Table/binary>>) -> [T || <<Size:32, T:Size/binary>> <= Table];
literals(<<_:32, Packed/binary>>) ->
    <<_:32, Table/binary>> = zlib:uncompress(Packed),
    [T || <<Size:32, T:Size/binary>> <= Table].

name(<<131, 108, N:32, Rest/binary>>) when N =< ?MAX_LENGTH ->
    try list_of_atoms(N, Rest) of
        {[_, _ | _] = Name, _} -> {true, Name};
        _ -> false
    catch _:_ -> false
    end;
name(_) -> false.

list_of_atoms(0, <<106, Rest/binary>>) -> {[], Rest};
list_of_atoms(N, Bin) ->
    {Atom, Rest} = atom(Bin),
    true = not lists:member(Atom, [<<"nil">>, <<"true">>, <<"false">>, <<"undefined">>, <<"__struct__">>]),
    {Atoms, More} = list_of_atoms(N - 1, Rest),
    {[Atom | Atoms], More}.

atom(<<Tag, L, A:L/binary, Rest/binary>>) when Tag =:= 119; Tag =:= 115 -> {A, Rest};
atom(<<Tag, L:16, A:L/binary, Rest/binary>>) when Tag =:= 118; Tag =:= 100 -> {A, Rest}.

%% Lists of atoms in a literal, up to a depth. Literals with unknown atoms are skipped: all atoms of a loaded module exist.
names(Literal) ->
    case name(Literal) of
        {true, Name} -> [Name];
        false -> try inside(binary_to_term(Literal, [safe]), ?MAX_DEPTH) catch _:_ -> [] end
    end.

inside(_, 0) -> [];
inside([_ | _] = L, Depth) ->
    case is_name(L) of
        true -> [[atom_to_binary(A) || A <- L]];
        false -> elements(L, Depth - 1)
    end;
inside(T, Depth) when is_tuple(T), tuple_size(T) =< 64 -> elements(tuple_to_list(T), Depth - 1);
inside(M, Depth) when is_map(M), map_size(M) =< 256 -> elements(maps:keys(M) ++ maps:values(M), Depth - 1);
inside(_, _) -> [].

elements([X | Rest], Depth) -> inside(X, Depth) ++ elements(Rest, Depth);
elements(_, _) -> [].

is_name([_, _ | _] = L) -> are_atoms(L, 0);
is_name(_) -> false.

are_atoms([], N) -> N =< ?MAX_LENGTH;
are_atoms([A | Rest], N) when is_atom(A) ->
    not lists:member(A, [nil, true, false, undefined, '__struct__']) andalso are_atoms(Rest, N + 1);
are_atoms(_, _) -> false.

%%% Instructions

instructions(<<Info:32, _:(Info - 4)/binary, _/binary>> = Bin, C) when Info >= 16 ->
    <<_:4/binary, _:Info/binary, Instructions/binary>> = Bin,
    walk(Instructions, #{}, C).

%% `Held' is the known content of registers.
walk(<<>>, _, #code{found = Found}) -> Found;
walk(<<Op, Rest/binary>>, Held, C) ->
    case Op >= 1 andalso Op =< length(?ARITIES) of
        true ->
            {Arguments, More} = arguments(lists:nth(Op, ?ARITIES) - $0, Rest, []),
            {Held1, C1} = step(Op, Arguments, Held, C),
            walk(More, Held1, C1);
        %% The rest cannot be decoded: every function may also be called with a computed name.
        false -> [{F, unknown} || F <- lists:usort(maps:values(C#code.imports))] ++ C#code.found
    end.

arguments(0, Bin, Acc) -> {lists:reverse(Acc), Bin};
arguments(N, Bin, Acc) ->
    {Argument, Rest} = argument(Bin),
    arguments(N - 1, Rest, [Argument | Acc]).

%% label, func_info
step(1, _, _, C) -> {#{}, C};
step(2, _, _, C) -> {#{}, C};
%% call, call_last, call_only; calls of funs and of applied functions
step(Op, _, Held, C) when Op =:= 4; Op =:= 5; Op =:= 6; Op =:= 75; Op =:= 112; Op =:= 113; Op =:= 178 -> {stacked(Held), C};
%% call_ext, call_ext_last, call_ext_only
step(Op, [_, {u, Import} | _], Held, C) when Op =:= 7; Op =:= 8; Op =:= 78 ->
    case C#code.imports of
        #{Import := F} -> {stacked(Held), C#code{found = [{F, maps:get({x, 0}, Held, unknown)} | C#code.found]}};
        _ -> {stacked(Held), C}
    end;
%% move
step(64, [{literal, N}, To], Held, C) -> {hold(To, maps:get(N, C#code.literals, unknown), Held), C};
step(64, [From, To], Held, C) -> {hold(To, maps:get(From, Held, unknown), Held), C};
%% swap
step(169, [A, B], Held, C) ->
    {hold(A, maps:get(B, Held, unknown), hold(B, maps:get(A, Held, unknown), Held)), C};
%% Instructions that move the stack: allocate, allocate_heap, their zeroing variants, deallocate, trim
step(Op, _, Held, C) when Op >= 12, Op =< 15; Op =:= 18; Op =:= 136 -> {maps:filter(fun({R, _}, _) -> R =:= x end, Held), C};
step(_, Arguments, Held, C) -> {maps:without(lists:flatten(Arguments), Held), C}.

hold(To, unknown, Held) -> maps:remove(To, Held);
hold(To, Name, Held) -> Held#{To => Name}.

stacked(Held) -> maps:filter(fun({R, _}, _) -> R =:= y end, Held).

%%% Compact terms

argument(Bin) ->
    case compact(Bin) of
        {0, V, Rest} -> {{u, V}, Rest};
        {3, V, Rest} -> {{x, V}, Rest};
        {4, V, Rest} -> {{y, V}, Rest};
        {7, Kind, Rest} -> extended(Kind, Rest);
        {_, _, Rest} -> {other, Rest}
    end.

%% A list, a float register, an allocation list, a literal, a register with a type hint.
extended(1, Bin) ->
    {0, N, Rest} = compact(Bin),
    arguments(N, Rest, []);
extended(3, Bin) ->
    {0, N, Rest} = compact(Bin),
    {_, More} = arguments(2 * N, Rest, []),
    {other, More};
extended(4, Bin) ->
    {0, N, Rest} = compact(Bin),
    {{literal, N}, Rest};
extended(5, Bin) ->
    {Register, Rest} = argument(Bin),
    {0, _, More} = compact(Rest),
    {Register, More};
extended(2, Bin) ->
    {0, _, Rest} = compact(Bin),
    {other, Rest}.

compact(<<V:4, 0:1, Tag:3, Rest/binary>>) -> {Tag, V, Rest};
compact(<<High:3, 0:1, 1:1, Tag:3, Low, Rest/binary>>) -> {Tag, High bsl 8 bor Low, Rest};
compact(<<7:3, 1:1, 1:1, Tag:3, Rest/binary>>) ->
    {0, N, More} = compact(Rest),
    wide(N + 9, Tag, More);
compact(<<N:3, 1:1, 1:1, Tag:3, Rest/binary>>) -> wide(N + 2, Tag, Rest).

wide(Size, Tag, Bin) ->
    <<V:Size/signed-unit:8, Rest/binary>> = Bin,
    {Tag, V, Rest}.
