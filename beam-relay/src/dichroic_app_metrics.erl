%% @doc Metrics that the application defines itself, in the terms of `Telemetry.Metrics'. Optional.
%%
%% Read by dichroic_engine at every plan from the application's setting `metrics': a list, or `{Module, Function, Args}' that
%% returns one. Its members are structs of Telemetry.Metrics, maps with the same keys and a `type', or `{Type, Name}' and `{Type,
%% Name, Options}'. They become entries like those of a plan and are counted in the same cells; name, labels and unit are sent in
%% the definition of their series. Functions of a metric run in the process that emits, inside a `try': if one raises, its value
%% is treated as absent. While the function that returns the list fails, the last list stays in use.
-module(dichroic_app_metrics).

-include("dichroic.hrl").

-export([entries/2, compile/2]).
-export_type([given/0]).

-define(MAX_METRICS, 500).
-define(MAX_TAGS, 32).
-define(SERIES, 1000).
%% Without an event for this time a series is removed, in seconds: a last value is stale then, a total remains in the collector.
-define(EXPIRE_S, 86400).
-define(EXPIRE_LAST_S, 3600).
-define(MAX_NAME, 255).

-type aggregate() :: {[atom()], [dichroic_expression:condition()], dichroic_expression:labels(), #entry{}}.

%% The last valid list, with the setting that returned it.
-type given() :: none | {Setting :: term(), [aggregate()]}.

%% @doc The entries of the application's setting; `Series' is the limit of the plan. `failed' means that a later
%% attempt may succeed.
-spec entries(pos_integer(), given()) -> {ok | failed, [aggregate()], [dichroic_plan:refusal()], given()}.
entries(Series, Given) ->
    case application:get_env(dichroic, metrics) of
        undefined -> {ok, [], [], none};
        {ok, Setting} -> of_setting(Setting, list(Setting), Series, Given)
    end.

of_setting(Setting, {ok, List}, Series, _) ->
    {Entries, No} = compile(List, Series),
    {ok, Entries, No, {Setting, Entries}};
of_setting(Setting, {error, No}, _, {Setting, Entries} = Given) -> {failed, Entries, [No], Given};
of_setting(_, {error, No}, _, Given) -> {failed, [], [No], Given}.

list({M, F, A}) when is_atom(M), is_atom(F), is_list(A) ->
    try apply(M, F, A) of
        List when length(List) >= 0 -> {ok, List};
        _ -> {error, refusal("metrics: the function must return a list")}
    catch _:_ -> {error, refusal(io_lib:format("metrics: ~tp:~tp/~b raised an exception", [M, F, length(A)]))}
    end;
list(Setting) -> {ok, Setting}.

-spec compile(term(), pos_integer()) -> {[aggregate()], [dichroic_plan:refusal()]}.
compile(List, Series) when is_list(List), length(List) > ?MAX_METRICS ->
    {Some, No} = compile(lists:sublist(List, ?MAX_METRICS), Series),
    {Some, No ++ [refusal("metrics: more than 500 metrics; the others are ignored")]};
compile(List, Series) when is_list(List), length(List) >= 0 ->
    {Entries, No, _} = lists:foldl(
        fun(Metric, {Entries, No, Keys}) ->
            try metric(options(Metric), Series) of
                {_, _, _, #entry{key = Key}} = Entry when not is_map_key(Key, Keys) -> {[Entry | Entries], No, Keys#{Key => true}};
                _ -> {Entries, [refusal(["metrics: duplicate: ", shown(Metric)]) | No], Keys}
            catch
                throw:Message -> {Entries, [refusal(["metrics: ", Message, ": ", shown(Metric)]) | No], Keys};
                _:_ -> {Entries, [refusal(["metrics: invalid definition: ", shown(Metric)]) | No], Keys}
            end
        end, {[], [], #{}}, List),
    {lists:reverse(Entries), lists:reverse(No)};
compile(_, _) -> {[], [refusal("metrics: expected a list or {Module, Function, Args}")]}.

refusal(Message) -> [null, dichroic_value:cut(unicode:characters_to_binary(Message), 256)].
shown(Metric) -> io_lib:format("~0tp", [maybe_name(Metric)], [{chars_limit, 120}]).

maybe_name(#{name := Name}) -> Name;
maybe_name(Metric) -> Metric.

%%% One metric as a map

options(#{'__struct__' := Struct} = Metric) ->
    Type = case Struct of
               'Elixir.Telemetry.Metrics.Counter' -> counter;
               'Elixir.Telemetry.Metrics.Sum' -> sum;
               'Elixir.Telemetry.Metrics.LastValue' -> last_value;
               'Elixir.Telemetry.Metrics.Distribution' -> distribution;
               'Elixir.Telemetry.Metrics.Summary' -> summary;
               _ -> throw("expected a struct of Telemetry.Metrics")
           end,
    options(maps:remove('__struct__', Metric#{type => Type}));
options(#{type := _} = Metric) -> maps:filter(fun(_, V) -> V =/= nil andalso V =/= undefined end, Metric);
options({Type, Name}) -> options({Type, Name, []});
options({Type, Name, Options}) when is_list(Options) -> options({Type, Name, maps:from_list(Options)});
options({Type, Name, Options}) when is_map(Options) -> options(Options#{type => Type, name => Name});
options(_) -> throw("expected a struct, a map with a type, or {Type, Name, Options}").

metric(#{type := Type, name := Name} = M, Series) ->
    Parts = parts(Name),
    length(Parts) >= 2 orelse throw("the name must be EVENT.MEASUREMENT"),
    Event = case M of #{event_name := E} -> parts(E); _ -> lists:droplast(Parts) end,
    Reporter = maps:from_list(maps:get(reporter_options, M, [])),
    {Labels, Names} = tags(M),
    {Measurement, From, To} = source(maps:get(measurement, M, lists:last(Parts)), maps:get(unit, M, unit)),
    Unit = unit(From),
    {Entry, Shape} = shape(Type, in_unit(From, To, Reporter), Unit, #entry{key = 0, type = counter, cap = min(?SERIES, Series), expire_s = expire(Type, Reporter),
                                                         late = [none || _ <- Names]}),
    Value = case Type of
                counter -> undefined;
                _ -> measurement(Measurement)
            end,
    Own = Shape#{<<"name">> => text(lists:join(".", [atom_to_binary(P) || P <- Parts])), <<"labels">> => Names,
                 <<"unit">> => case Type of counter -> <<>>; _ -> Unit end, <<"help">> => help(M)},
    Key = key({Event, Own, maps:get(measurement, M, none) =:= none, is_map_key(keep, M) orelse is_map_key(drop, M)}),
    {Event, keep(M), Labels, Entry#entry{key = Key, value = Value, own = Own}}.

parts(Name) when is_list(Name), is_atom(hd(Name)) ->
    lists:all(fun is_atom/1, Name) orelse throw("a name must be a list of atoms or dotted text"),
    Name;
parts(Name) -> [binary_to_atom(P) || P <- binary:split(unicode:characters_to_binary(Name), <<".">>, [global])].

text(Chars) ->
    Text = unicode:characters_to_binary(Chars),
    byte_size(Text) =< ?MAX_NAME orelse throw("a name has more than 255 bytes"),
    Text.

help(#{description := D}) when is_binary(D); is_list(D) -> dichroic_value:cut(unicode:characters_to_binary(D), ?MAX_NAME);
help(_) -> <<>>.

unit(unit) -> <<>>;
unit(Unit) when is_atom(Unit) -> text([atom_to_binary(Unit)]);
unit(Unit) -> text(Unit).

%% The measurement, its unit, and the unit of the definition's buckets. For a definition with a conversion, Telemetry.Metrics
%% wraps the measurement in a function that multiplies by a float. We unwrap it, so integers stay exact.
source(Measurement, {From, To}) -> {Measurement, From, To};
source(F, To) when is_function(F, 1); is_function(F, 2) ->
    case {erlang:fun_info(F, module), erlang:fun_info(F, env)} of
        {{module, 'Elixir.Telemetry.Metrics'}, {env, [A, B]}} -> unwrapped(A, B, F, To);
        _ -> {F, To, To}
    end;
source(Measurement, Unit) -> {Measurement, Unit, Unit}.

unwrapped(Ratio, Inner, F, To) when is_number(Ratio), not is_number(Inner) -> unwrapped(Inner, Ratio, F, To);
unwrapped(Inner, Ratio, F, To) when is_number(Ratio) ->
    case [From || From <- units(To), From =/= To, ratio(From, To) == Ratio] of
        [From | _] -> {Inner, From, To};
        [] -> {F, To, To}
    end;
unwrapped(_, _, F, To) -> {F, To, To}.

%% The units that convert to this one.
units(Unit) ->
    lists:append([Group || Group <- [[nanosecond, microsecond, millisecond, second, native], [byte, kilobyte, megabyte]],
                           lists:member(Unit, Group)]).

%% As Telemetry.Metrics computes it.
ratio(From, To) ->
    {N, D} = exact(From, To),
    case N div D of
        0 -> 1 / (D div N);
        Whole -> Whole
    end.

%% The exact ratio of two units.
exact(Unit, Unit) -> {1, 1};
exact(From, To) ->
    {N1, D1} = unit_size(From),
    {N2, D2} = unit_size(To),
    {N1 * D2, D1 * N2}.

unit_size(native) -> {1, erlang:convert_time_unit(1, second, native)};
unit_size(second) -> {1, 1};
unit_size(millisecond) -> {1, 1000};
unit_size(microsecond) -> {1, 1000000};
unit_size(nanosecond) -> {1, 1000000000};
unit_size(byte) -> {1, 1};
unit_size(kilobyte) -> {1000, 1};
unit_size(megabyte) -> {1000000, 1};
unit_size(Unit) -> throw(io_lib:format("~0tp cannot be converted", [Unit])).

%% Buckets are in the unit that the definition converts to; cells count in that of the measurement.
in_unit(Unit, Unit, Reporter) -> Reporter;
in_unit(From, To, #{buckets := [_ | _] = Bounds} = Reporter) ->
    {N, D} = exact(To, From),
    Reporter#{buckets := [case is_number(B) of true -> whole(B * N / D); false -> B end || B <- Bounds]};
in_unit(From, To, Reporter) ->
    _ = exact(From, To),
    Reporter.

%% 0.3 ms is exactly 300,000 ns.
whole(B) ->
    case round(B) of
        Whole when abs(B - Whole) =< abs(Whole) * 1.0e-12 -> Whole;
        _ -> B
    end.

measurement(F) when is_function(F, 1); is_function(F, 2) -> {call, F};
measurement(Key) when is_atom(Key) -> {meas, Key, atom_to_binary(Key)};
measurement(Key) when is_binary(Key) -> {meas, binary_to_atom(Key), Key};
measurement(_) -> throw("a measurement must be a key or a function").

keep(M) ->
    [condition(holds, F) || F <- [maps:get(keep, M, none)], F =/= none]
    ++ [condition(holds_not, F) || F <- [maps:get(drop, M, none)], F =/= none].

condition(How, F) when is_function(F, 1); is_function(F, 2) -> {How, F};
condition(_, _) -> throw("keep and drop must be functions").

tags(#{tags := F}) when is_function(F) -> throw("tags must be a list of names, not a function");
tags(M) ->
    Tags = maps:get(tags, M, []),
    (length(Tags) =< ?MAX_TAGS andalso lists:all(fun(T) -> is_atom(T) orelse is_binary(T) end, Tags))
        orelse throw("tags must be a list of at most 32 names"),
    Pairs = [case T of _ when is_atom(T) -> {T, text([atom_to_binary(T)])}; _ -> {binary_to_atom(T), text([T])} end || T <- Tags],
    Names = [Name || {_, Name} <- Pairs],
    case M of
        #{tag_values := F} when is_function(F, 1), Pairs =/= [] -> {{tagged, F, Pairs}, Names};
        _ -> {[{meta, A, Name} || {A, Name} <- Pairs], Names}
    end.

expire(_, #{expire_s := S}) when is_integer(S), S >= 300, S < 1 bsl 31 -> S;
expire(_, #{expire_s := _}) -> throw("expire_s must be a number of seconds, at least 300");
expire(last_value, _) -> ?EXPIRE_LAST_S;
expire(_, _) -> ?EXPIRE_S.

%%% Entry and definition

shape(counter, _, _, E) -> {E#entry{type = counter, size = 1}, #{<<"type">> => <<"counter">>}};
shape(sum, Reporter, _, E) ->
    {E#entry{type = sum, size = 2}, #{<<"type">> => <<"sum">>, <<"monotonic">> => maps:get(prometheus_type, Reporter, counter) =/= gauge}};
shape(last_value, _, _, E) -> {E#entry{type = last, size = 1}, #{<<"type">> => <<"last">>}};
shape(distribution, #{buckets := [_ | _] = Bounds}, _, E) ->
    (length(Bounds) =< 160 andalso lists:all(fun is_number/1, Bounds) andalso lists:usort(Bounds) =:= Bounds)
        orelse throw("buckets must be at most 160 ascending numbers"),
    {E#entry{type = buckets, grid = dichroic_bucket:bounds(Bounds), size = 4 + length(Bounds)},
     #{<<"type">> => <<"buckets">>, <<"bounds">> => [float(B) || B <- Bounds]}};
shape(Type, _, Unit, E) when Type =:= distribution; Type =:= summary ->
    {Factor, Scale, {Lo, Hi}} = grid(Unit),
    Grid = dichroic_bucket:grid(Scale, Lo, Hi),
    {E#entry{type = exponential, grid = Grid, factor = Factor, size = 4 + dichroic_bucket:size(Grid)},
     #{<<"type">> => <<"exponential">>, <<"scale">> => Scale, <<"octaves">> => [Lo, Hi]}};
shape(_, _, _, _) -> throw("a type must be counter, sum, last_value, distribution or summary").

%% The same fixed memory as for metrics of packs. Times use buckets in seconds, sizes in bytes.
grid(<<"native">>) -> {1 / erlang:convert_time_unit(1, second, native), 3, {-20, 14}};
grid(<<"second">>) -> {1.0, 3, {-20, 14}};
grid(<<"millisecond">>) -> {1.0e-3, 3, {-20, 14}};
grid(<<"microsecond">>) -> {1.0e-6, 3, {-20, 14}};
grid(<<"nanosecond">>) -> {1.0e-9, 3, {-20, 14}};
grid(<<"byte">>) -> {1.0, 2, {0, 40}};
grid(<<"kilobyte">>) -> {1.0e3, 2, {0, 40}};
grid(<<"megabyte">>) -> {1.0e6, 2, {0, 40}};
grid(_) -> {1.0, 2, {-20, 40}}.

%% The same definition has the same key after a restart; functions are not part of it. Keys below 16 are reserved.
key(Term) ->
    <<Key:64/signed, _/binary>> = erlang:md5(term_to_binary(Term, [{minor_version, 2}])),
    case Key of K when K >= 0, K < 16 -> K + 16; K -> K end.
