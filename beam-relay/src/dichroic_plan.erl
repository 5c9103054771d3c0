%% @doc Compiles a PLAN frame into entries, streams and carries for the handler.
%%
%% Called by dichroic_engine for every PLAN. An entry that this relay cannot carry out exactly is refused by its key or schema,
%% with a reason, and the others are used: an approximation would give wrong numbers. Atoms are created only here, from event names
%% and path steps, fewer than 8,192 in the life of a VM.
-module(dichroic_plan).

-include("dichroic.hrl").

-export([compile/1, fitting/2, atom_budget_left/0]).
-export_type([plan/0, refusal/0]).

-type event() :: [atom(), ...].
-type refusal() :: [integer() | binary() | null, ...].
-type plan() :: #{generation := integer(), flush_ms := pos_integer(), linger_s := non_neg_integer(),
                  limits := #{atom() => pos_integer()},
                  aggregates := [{event(), [dichroic_expression:condition()], dichroic_expression:labels(), #entry{}}],
                  streams := [{event(), Schema :: non_neg_integer(), #stream{}}],
                  carries := [{event(), [{tuple(), clear | dichroic_expression:expr()}]}],
                  refused := [refusal()]}.

-define(MAX_ATOMS, 8192).
-define(MAX_PLANNED, 2000).
-define(MAX_LABELS, 32).
-define(MAX_COLUMNS, 63).
-define(MAX_BOUNDS, 160).
-define(MAX_BUCKETS, 768).
-define(MAX_CARRIED, 64).
-define(MAX_CREDIT, 1000000).

-spec compile(dichroic_value:value()) -> {ok, plan()} | {error, iodata()}.
compile(#{<<"generation">> := G} = Plan) when is_integer(G) ->
    try
        Limits = limits(maps:get(<<"limits">>, Plan, #{})),
        {Carries, No1} = each(fun carry/1, list(<<"carries">>, Plan)),
        Carried = lists:usort([Name || {_, Slots} <- Carries, {{_, Name}, _} <- Slots]),
        {Aggregates, No2} = each(fun(E) -> aggregate(E, Limits, Carried) end, list(<<"aggregates">>, Plan)),
        {Streams, No3} = each(fun(E) -> stream(E, Carried) end, list(<<"streams">>, Plan)),
        {Unique, No4} = unique(Aggregates),
        {ok, #{generation => G,
               flush_ms => clamp(int(<<"flush_ms">>, Plan, 1000), 10, 60000),
               linger_s => clamp(int(<<"linger_s">>, Plan, 0), 0, 1 bsl 31),
               limits => Limits, aggregates => Unique, streams => Streams, carries => Carries,
               refused => No1 ++ No2 ++ No3 ++ No4}}
    catch
        throw:Message -> {error, ["PLAN: ", Message]}
    end;
compile(_) -> {error, "PLAN: generation is missing"}.

limits(M) when is_map(M) ->
    #{series => clamp(int(<<"series">>, M, 10000), 8, 1000000),
      string => clamp(int(<<"string">>, M, 128), 1, 4096),
      credit => clamp(int(<<"credit">>, M, 20000), 1, ?MAX_CREDIT),
      rows_per_s => clamp(int(<<"rows_per_s">>, M, 100000), 1, 100000000)};
limits(_) -> throw("limits must be a map").

list(Key, Map) ->
    case maps:get(Key, Map, []) of
        L when is_list(L) -> L;
        _ -> throw([Key, " must be a list"])
    end.

int(Key, Map, Default) ->
    case maps:get(Key, Map, Default) of
        I when is_integer(I) -> I;
        _ -> throw([Key, " must be an integer"])
    end.

clamp(V, Lo, Hi) -> max(Lo, min(Hi, V)).

each(Compile, Entries) ->
    {Done, No, _} = lists:foldl(
        fun(_, {Done, No, N}) when N >= ?MAX_PLANNED, length(No) >= 64 -> {Done, No, N};
           (E, {Done, No, N}) when N >= ?MAX_PLANNED ->
                {Done, [[name_of(E), <<"more than 2000 entries">>] | No], N};
           (E, {Done, No, N}) ->
                try {[Compile(E) | Done], No, N + 1}
                catch throw:Message -> {Done, [[name_of(E), message([carry_of(E), Message])] | No], N + 1}
                end
        end, {[], [], 0}, Entries),
    {lists:reverse(Done), lists:reverse(No)}.

name_of(#{<<"key">> := K}) when is_integer(K) -> K;
name_of(#{<<"schema">> := S}) when is_integer(S) -> S;
name_of(_) -> null.

%% Carries have no number that the collector could translate into a name.
carry_of(#{<<"slots">> := _, <<"event">> := [_ | _] = Event}) ->
    case lists:all(fun is_binary/1, Event) of
        true -> ["carry of ", lists:join($., Event), ": "];
        false -> "carry: "
    end;
carry_of(#{<<"slots">> := _}) -> "carry: ";
carry_of(_) -> "".

message(Message) -> dichroic_value:cut(unicode:characters_to_binary(Message), 256).

%% @doc The refusals with their messages cut so that all fit into `Max' bytes; if that is not enough, only the first ones.
-spec fitting([refusal()], pos_integer()) -> [refusal()].
fitting(Refused, Max) -> fitting(Refused, Max, [256, 64, 24]).

fitting(Refused, Max, [Bytes | Shorter]) ->
    Cut = [[What, dichroic_value:cut(Message, Bytes)] || [What, Message] <- Refused],
    case iolist_size(dichroic_value:encode(Cut)) =< Max of
        true -> Cut;
        false when Shorter =/= [] -> fitting(Refused, Max, Shorter);
        false -> lists:sublist(Cut, Max div (Bytes + 16))
    end.

unique(Aggregates) ->
    {Kept, No, _} = lists:foldl(
        fun({_, _, _, #entry{key = K}} = A, {Kept, No, Seen}) ->
            case Seen of
                #{K := _} -> {Kept, [[K, <<"duplicate key">>] | No], Seen};
                _ -> {[A | Kept], No, Seen#{K => true}}
            end
        end, {[], [], #{}}, Aggregates),
    {lists:reverse(Kept), lists:reverse(No)}.

%%% Aggregates

aggregate(#{<<"key">> := Key, <<"type">> := Type, <<"event">> := Event} = E, Limits, Carried) when is_integer(Key) ->
    (Key >= 0 andalso Key =< 15) andalso throw("keys 0 to 15 are reserved"),
    known(E, [<<"key">>, <<"type">>, <<"event">>, <<"value">>, <<"labels">>, <<"keep">>, <<"factor">>, <<"scale">>,
              <<"octaves">>, <<"bounds">>, <<"series">>, <<"expire_s">>]),
    Keep = keep(E),
    Labels = exprs(<<"labels">>, E, ?MAX_LABELS),
    {Early, Late} = lists:unzip([late(L) || L <- Labels]),
    Entry = type(Type, E, #entry{key = Key, type = counter, value = value(E), late = Late,
                                 cap = clamp(int(<<"series">>, E, maps:get(series, Limits)), 1, 1000000),
                                 expire_s = expire(E)}),
    carried(Carried, [Entry#entry.value | Labels ++ Keep]),
    {event(Event), Keep, Early, Entry};
aggregate(_, _, _) -> throw("an aggregate needs key, type and event").

known(E, Keys) ->
    case maps:keys(E) -- Keys of
        [] -> ok;
        [K | _] -> throw(["unknown key ", K])
    end.

value(#{<<"value">> := V}) -> expr(V);
value(_) -> undefined.

expire(E) ->
    case int(<<"expire_s">>, E, 0) of
        0 -> 0;
        S when S >= 300, S < 1 bsl 31 -> S;
        _ -> throw("expire_s must be 0 or at least 300")
    end.

%% The transform of a module to its name is deferred until the series is defined: the key of the series holds the atom.
late({then, Fetch, [name]}) -> {Fetch, name};
late(E) -> {E, none}.

type(<<"counter">>, _, #entry{value = undefined} = R) -> R#entry{type = counter, size = 1};
type(<<"counter">>, _, _) -> throw("a counter has no value: use a sum");
type(_, _, #entry{value = undefined}) -> throw("value is missing");
type(<<"sum">>, _, R) -> R#entry{type = sum, size = 2};
type(<<"last">>, _, R) -> R#entry{type = last, size = 1};
type(<<"exponential">>, #{<<"scale">> := S, <<"octaves">> := [Lo, Hi]} = E, R)
  when is_integer(S), S >= -4, S =< 4, is_integer(Lo), is_integer(Hi), Lo >= -1022, Hi =< 1023, Lo < Hi ->
    Grid = dichroic_bucket:grid(S, Lo, Hi),
    N = dichroic_bucket:size(Grid),
    N =< ?MAX_BUCKETS orelse throw("octaves and scale give more than 768 buckets"),
    R#entry{type = exponential, grid = Grid, factor = factor(E), size = 4 + N};
type(<<"exponential">>, _, _) -> throw("exponential needs scale -4 to 4 and octaves [lo, hi]");
type(<<"buckets">>, #{<<"bounds">> := Bounds}, R) when is_list(Bounds), Bounds =/= [] ->
    length(Bounds) =< ?MAX_BOUNDS orelse throw("more than 160 bounds"),
    lists:all(fun is_number/1, Bounds) orelse throw("bounds must be numbers"),
    ascending(Bounds) orelse throw("bounds must be ascending"),
    R#entry{type = buckets, grid = dichroic_bucket:bounds(Bounds), size = 4 + length(Bounds)};
type(<<"buckets">>, _, _) -> throw("buckets needs bounds");
type(Type, _, _) -> throw(io_lib:format("unknown type ~tp", [Type])).

factor(E) ->
    case maps:get(<<"factor">>, E, 1.0) of
        F when is_number(F), F >= 1.0e-18, F =< 1.0e18 -> float(F);
        _ -> throw("factor must be between 1e-18 and 1e18")
    end.

ascending([A, B | R]) -> A < B andalso ascending([B | R]);
ascending(_) -> true.

keep(E) ->
    [case dichroic_expression:condition(C, fun atom/1) of
         {ok, Compiled} -> Compiled;
         {error, Message} -> throw(Message)
     end || C <- list(<<"keep">>, E)].

exprs(Key, E, Max) ->
    L = list(Key, E),
    length(L) =< Max orelse throw([Key, ": more than ", integer_to_list(Max)]),
    [expr(V) || V <- L].

expr(V) ->
    case dichroic_expression:compile(V, fun atom/1) of
        {ok, E} -> E;
        {error, Message} -> throw(Message)
    end.

carried(Known, Parts) ->
    case lists:usort(lists:flatmap(fun dichroic_expression:carry_names/1, Parts)) -- Known of
        [] -> ok;
        [Name | _] -> throw(["no carry of the plan writes ", Name])
    end.

%%% Streams and carries

stream(#{<<"schema">> := Schema, <<"event">> := Event} = E, Carried)
  when is_integer(Schema), Schema >= 0, Schema =< 16#ffffffff ->
    known(E, [<<"schema">>, <<"kind">>, <<"event">>, <<"columns">>, <<"keep">>, <<"sample">>, <<"numbers">>]),
    Sample = maps:get(<<"sample">>, E, 1.0),
    (is_number(Sample) andalso Sample > 0 andalso Sample =< 1) orelse throw("sample must be above 0 and at most 1"),
    Keep = keep(E),
    Columns = columns(maps:get(<<"kind">>, E, <<"event">>), Event, E),
    carried(Carried, case Columns of {log, _, _} -> Keep; _ -> Columns ++ Keep end),
    {event(Event), Schema, #stream{keep = Keep, columns = numbers(int(<<"numbers">>, E, 0), Columns), sample = float(Sample)}};
stream(_, _) -> throw("a stream needs schema and event").

%% The first `numbers' columns are measurements.
numbers(0, Columns) -> Columns;
numbers(N, Columns) when is_list(Columns), N > 0, N =< length(Columns) ->
    {Measurements, Metadata} = lists:split(N, Columns),
    [{number, M} || M <- Measurements] ++ Metadata;
numbers(_, _) -> throw("numbers must be between 0 and the number of columns").

columns(<<"event">>, _, E) -> exprs(<<"columns">>, E, ?MAX_COLUMNS);
columns(<<"log">>, [<<"dichroic">>, <<"logger">>, <<"message">>], E) ->
    case dichroic_logger:columns(list(<<"columns">>, E)) of
        {ok, Body, Names} -> {log, Body, [{existing(Name), Name} || Name <- Names]};
        error -> throw("a log stream needs the columns severity, body, trace_id, span_id and attributes")
    end;
columns(<<"log">>, _, _) -> throw("a log stream needs the event dichroic.logger.message");
columns(Kind, _, _) -> throw(io_lib:format("unsupported stream kind ~tp", [Kind])).

existing(Name) ->
    case atom(Name) of
        {ok, A} -> A;
        {error, Message} -> throw(Message)
    end.

carry(#{<<"event">> := Event, <<"slots">> := Slots} = E) when is_map(Slots) ->
    known(E, [<<"event">>, <<"slots">>]),
    map_size(Slots) =< ?MAX_CARRIED orelse throw("more than 64 carried names"),
    {event(Event), [{dichroic_expression:carry_key(Name), carry_value(V)} || {Name, V} <- maps:to_list(Slots)]};
carry(_) -> throw("a carry needs event and slots").

carry_value(null) -> clear;
carry_value(V) -> expr(V).

event(Names) when is_list(Names), Names =/= [], length(Names) =< 32 ->
    [case is_binary(N) andalso N =/= <<>> andalso atom(N) of
         {ok, A} -> A;
         {error, Message} -> throw(Message);
         false -> throw("an event must be a list of names")
     end || N <- Names];
event(_) -> throw("an event must be a list of names").

%%% Atoms

-spec atom(binary()) -> {ok, atom()} | {error, iodata()}.
atom(Name) ->
    try {ok, binary_to_existing_atom(Name)}
    catch error:_ -> new_atom(Name)
    end.

new_atom(Name) ->
    Used = atom_counter(),
    case counters:get(Used, 1) < ?MAX_ATOMS - 1 of
        false -> {error, "limit of 8192 new atoms in this VM is reached"};
        true ->
            try binary_to_atom(Name) of
                A -> counters:add(Used, 1, 1), {ok, A}
            catch error:_ -> {error, "name is too long for an atom"}
            end
    end.

-spec atom_budget_left() -> non_neg_integer().
atom_budget_left() -> ?MAX_ATOMS - 1 - counters:get(atom_counter(), 1).

%% Kept over restarts of the relay, because atoms are never freed.
atom_counter() ->
    case persistent_term:get(dichroic_atoms, none) of
        none ->
            New = counters:new(1, []),
            persistent_term:put(dichroic_atoms, New),
            New;
        Ref -> Ref
    end.
