%% @doc The results of each contestant for 10,000 events with known values.
%%
%% Durations of 1 ms, 2 ms, ... 10 s, so that sum and buckets are known; the same in seconds as a float; and as many events
%% without the measurement. Every question is a separate run, because a handler that raises is detached.
-module(exact_bench).

-export([main/0]).

-define(EVENTS, 10000).
-define(KINDS, [{dichroic, buckets}, {peep, default}, {peep, striped}, core]).

main() ->
    {ok, _} = application:ensure_all_started(telemetry),
    logger:set_primary_config(level, none),
    Kinds = contestants:present(?KINDS),
    _ = [{ok, _} = application:ensure_all_started(elixir) || length(Kinds) > 1],
    Table = [["" , "truth" | [contestants:name(K) || K <- Kinds]]
             | [[Name, Truth | [result(K, Metric, Emit, Read) || K <- Kinds]] || {Name, Truth, Metric, Emit, Read} <- cases()]],
    [io:format("~ts~n", [line(Row)]) || Row <- Table],
    halt().

line([Name | Cells]) -> [io_lib:format("  ~-44ts", [Name]) | [io_lib:format(" ~26ts", [C]) || C <- Cells]].

cases() ->
    Seconds = #{type => distribution, name => [http, duration, seconds], unit => {native, second}, per_unit => 1.0e9,
                options => [{buckets, contestants:bounds_s()}]},
    [{"events counted", "10000", #{type => counter, name => [http, requests]}, fun full/1, fun count/2},
     {"sum of whole numbers (ns)", "50005000000000", #{type => sum, name => [http, total]}, fun full/1, fun sum/2},
     {"sum of floats (s)", "50005.0", #{type => sum, name => [http, total], measurement => seconds}, fun full/1, fun sum/2},
     {"distribution in s: count", "10000", Seconds, fun full/1, fun count/2},
     {"distribution in s: sum", "50005.0", Seconds, fun full/1, fun sum/2},
     {"distribution in s: of them =< 0.1, `buckets:'", "100", Seconds, fun full/1, fun below/2},
     {"the same, with the peer's own bucket module", "100", Seconds#{module => true}, fun full/1, fun below/2},
     {"count, when no event has the measurement", "0", Seconds, fun empty/1, fun count/2},
     {"the same, without a unit", "0", #{type => distribution, name => [http, duration, seconds]}, fun empty/1, fun count/2}].

full(N) -> #{duration => N * 1000000, seconds => N / 1000}.
empty(_) -> #{}.

result({peep, _} = Kind, #{module := true} = M, Emit, Read) ->
    result(Kind, (maps:remove(module, M))#{options => [{peep_bucket_calculator, buckets_module()}]}, Emit, Read);
result(Kind, Metric, Emit, Read) ->
    Contestant = contestants:start(Kind, [Metric]),
    Metadata = contestants:metadata(small),
    [telemetry:execute(contestants:event(), Emit(N), Metadata) || N <- lists:seq(1, ?EVENTS)],
    Attached = telemetry:list_handlers(contestants:event()) =/= [],
    Answer = try Read(Contestant(read), Metric) catch _:_ -> "fails when read" end,
    Contestant(stop),
    case Attached of
        true -> Answer;
        false -> [Answer, ", detached"]
    end.

%% As in the documentation of Peep.
buckets_module() ->
    Name = 'Elixir.BenchBuckets',
    code:is_loaded(Name) =/= false orelse 'Elixir.Code':compile_string(iolist_to_binary(
        io_lib:format("defmodule BenchBuckets do use Peep.Buckets.Custom, buckets: ~w end", [contestants:bounds_s()]))),
    Name.

%%% Reading the results

count(Frames, _) when is_list(Frames) ->
    case row(Frames) of
        {_, I, 0.0} -> integer_to_list(I);
        {_, _, _, Buckets} -> integer_to_list(lists:sum([N || {_, _, N} <- Buckets]));
        none -> "0"
    end;
count(Metrics, _) when is_map(Metrics) ->
    case value(Metrics) of
        none -> "0";
        #{} = H -> integer_to_list(lists:sum([N || {K, N} <- maps:to_list(H), K =/= sum]));
        N -> integer_to_list(N)
    end;
count(Page, #{type := counter}) -> sample(Page, "^http_requests{.*} (.*)$");
count(Page, _) -> sample(Page, "^http_duration_seconds_count{.*} (.*)$").

sum(Frames, M) when is_list(Frames) ->
    case row(Frames) of
        none -> "0";
        Row -> number(element(2, Row), element(3, Row), maps:get(per_unit, M, 1))
    end;
sum(Metrics, _) when is_map(Metrics) ->
    case value(Metrics) of
        none -> "nothing";
        #{sum := Sum} -> io_lib:format("~p", [Sum]);
        N -> io_lib:format("~p", [N])
    end;
sum(Page, #{type := sum}) -> sample(Page, "^http_total{.*} (.*)$");
sum(Page, _) -> sample(Page, "^http_duration_seconds_sum{.*} (.*)$").

%% The relay sends integers and floats separately, and the collector applies the unit.
number(I, 0.0, 1) -> integer_to_list(I);
number(0, F, 1) -> io_lib:format("~p", [F]);
number(I, F, PerUnit) -> io_lib:format("~p", [I / PerUnit + F / PerUnit]).

below(Frames, _) when is_list(Frames) ->
    %% The sixth bound is 0.1.
    {_, _, _, Buckets} = row(Frames),
    integer_to_list(lists:sum([N || {Ix, _, N} <- Buckets, Ix =< 5]));
below(Metrics, _) when is_map(Metrics) ->
    integer_to_list(lists:sum([N || {Bound, N} <- maps:to_list(value(Metrics)), is_binary(Bound), binary_to_float(Bound) =< 0.1]));
below(Page, _) -> sample(Page, "^http_duration_seconds_bucket{.*le=\"0.1\"} (.*)$").

row(Frames) ->
    Ids = [Id || {define, series, Ds} <- Frames, {Id, #{<<"key">> := 100}} <- Ds],
    case [R || {Type, _, Rows} <- Frames, Type =/= define, R <- Rows, lists:member(element(1, R), Ids)] of
        [] -> none;
        [Row | _] -> Row
    end.

value(Metrics) ->
    case [V || Tags <- maps:values(Metrics), V <- maps:values(Tags)] of
        [] -> none;
        [V] -> V
    end.

sample(Page, Pattern) ->
    case re:run(Page, Pattern, [multiline, {capture, all_but_first, list}]) of
        {match, [Value]} -> Value;
        nomatch -> "nothing"
    end.
