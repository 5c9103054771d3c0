%% @doc Memory of a series compared with other reporters: a counter and a distribution over many label sets.
%%
%% Every label set is emitted on one scheduler, then on all of them, because some contestants count per scheduler. Bytes are the
%% growth of the whole VM after garbage collection per label set (counter and distribution), including memory that the contestant
%% uses for reading. The last column is after a hundred times as many events without a read.
-module(memory_bench).

-export([main/0]).

-define(SETS, 2000).
-define(KINDS, [{dichroic, buckets}, {dichroic, exponential}, {peep, default}, {peep, striped}, core]).

main() ->
    {ok, _} = application:ensure_all_started(telemetry),
    io:format("~b label sets; bytes for each~n~n  ~-28s ~14s ~15s ~22s~n",
              [?SETS, "", "one scheduler", "all schedulers", "100 events each more"]),
    [report(K) || K <- contestants:present(?KINDS)],
    halt().

report(Kind) ->
    Metrics = [#{type => counter, name => [http, requests]}, #{type => distribution, name => [http, duration]}],
    Contestant = contestants:start(Kind, Metrics),
    emit(1, 1, -1),
    Contestant(read),
    Before = memory(),
    emit(1, 1, ?SETS),
    Contestant(read),
    One = memory(),
    emit(erlang:system_info(schedulers_online), 1, ?SETS),
    Contestant(read),
    All = memory(),
    emit(1, 100, ?SETS),
    More = memory(),
    io:format("  ~-28s ~14b ~15b ~22b~n",
              [contestants:name(Kind) | [(M - Before) div ?SETS || M <- [One, All, More]]]),
    Contestant(stop).

%% Memory freed by another scheduler is returned a little later.
memory() -> memory(none, 50).

memory(Before, Tries) ->
    _ = [garbage_collect(P) || P <- processes()],
    case erlang:memory(total) of
        Total when Tries > 0, (Before =:= none orelse abs(Total - Before) > 4096) ->
            receive after 20 -> memory(Total, Tries - 1) end;
        Total -> Total
    end.

%% Emits each label set several times on each of the first schedulers. A negative number is one set, to warm up.
emit(Schedulers, Times, Sets) ->
    Pids = [spawn_opt(fun() -> [event(N) || _ <- lists:seq(1, Times), N <- lists:seq(min(Sets, 1), Sets)] end,
                      [monitor, {scheduler, S}]) || S <- lists:seq(1, Schedulers)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Pids].

event(N) ->
    #{route := Route} = Metadata = contestants:metadata(small),
    telemetry:execute(contestants:event(), #{duration => 1000000 + N * 1000},
                      Metadata#{route := <<Route/binary, (integer_to_binary(N))/binary>>}).
