%% @doc A node whose application misuses telemetry, by commands on standard input; each reply is one line. For tests of its relay:
%% no command may raise in the emitter, grow the memory of the VM, or lead to wrong counts.
-module(hostile_node).

-export([main/0]).

-define(EVENT, [hostile, stop]).

main() ->
    wait_attached(),
    io:format("hostile ready~n"),
    loop().

wait_attached() ->
    case telemetry:list_handlers(?EVENT) of
        [] -> receive after 20 -> wait_attached() end;
        _ -> ok
    end.

loop() ->
    case io:get_line("") of
        eof -> finish();
        Line ->
            case string:lexemes(Line, " \n") of
                ["stop"] -> finish();
                [Name | Args] ->
                    Before = erlang:monotonic_time(millisecond),
                    Answer = do(list_to_existing_atom(Name), [list_to_integer(A) || A <- Args]),
                    io:format("~s: ~p in ~b ms~n", [Name, Answer, erlang:monotonic_time(millisecond) - Before]),
                    loop()
            end
    end.

finish() ->
    _ = application:stop(dichroic),
    init:stop().

%% Each returns the number of events that it emitted without an exception.
do(users, [From, To]) ->
    [emit(#{duration => 1, bytes => 2}, #{user => integer_to_binary(N)}) || N <- lists:seq(From, To)],
    To - From + 1;
do(garbage, [Times]) ->
    _ = [emit(#{duration => V, bytes => V, level => V}, #{user => <<"garbage">>}) || _ <- lists:seq(1, Times), V <- values()],
    _ = [emit(M, #{user => <<"garbage">>}) || _ <- lists:seq(1, Times), M <- measurements()],
    Times * (length(values()) + length(measurements()));
do(spellings, [Times]) ->
    All = [1, <<"1">>, '1', 1.0, true, <<"true">>, ok, <<"ok">>, 0.5, <<"0.5">>, <<>>, nil, <<255>>, <<254>>],
    _ = [emit(#{duration => 1, bytes => 2, level => 3}, #{user => V}) || _ <- lists:seq(1, Times), V <- All],
    Times * length(All);
do(metadata, [Times]) ->
    All = metadata(),
    _ = [emit(#{duration => 1, bytes => 1, level => 1}, M) || _ <- lists:seq(1, Times), M <- All],
    Times * length(All);
do(burst, [Processes, Each]) ->
    Pids = [spawn_monitor(fun() -> burst(P, Each) end) || P <- lists:seq(1, Processes)],
    lists:sum([receive {'DOWN', Ref, process, Pid, normal} -> Each end || {Pid, Ref} <- Pids]);
%% Memory of the VM after garbage collection; memory freed by another scheduler is returned a little later.
do(memory, []) -> memory(none, 50);
do(handlers, []) -> length(telemetry:list_handlers([]));
do(tables, []) ->
    lists:sum([ets:info(T, memory) || T <- ets:all(), lists:prefix("dichroic", atom_to_list(ets:info(T, name)))])
        * erlang:system_info(wordsize).

memory(Before, Tries) ->
    _ = [garbage_collect(P) || P <- processes()],
    case erlang:memory(total) of
        Total when Tries > 0, (Before =:= none orelse abs(Total - Before) > 16384) ->
            receive after 20 -> memory(Total, Tries - 1) end;
        Total -> Total
    end.

emit(Measurements, Metadata) -> ok = telemetry:execute(?EVENT, Measurements, Metadata).

burst(_, 0) -> ok;
burst(P, N) ->
    emit(#{duration => N, bytes => 3}, #{user => element(N rem 4 + 1, {<<"a">>, <<"b">>, <<"c">>, <<"d">>}), n => N, p => P}),
    burst(P, N - 1).

%% Only the first two are valid numbers.
values() ->
    [4, 2.5,
     nil, undefined, true, <<"1">>, "1", <<1:3>>, [1 | 2], {1, 2}, #{}, #{a => 1}, self(), make_ref(), fun() -> 1 end,
     1 bsl 64, -(1 bsl 64), 1 bsl 100000, 1.0e300, -1.0e300, deep_list(100000), shared(64), lists:duplicate(100000, $x)].

measurements() ->
    [#{}, #{<<"duration">> => none}, #{other => 1}, maps:from_list([{I, I} || I <- lists:seq(1, 100000)]), #{[1 | 2] => shared(64)}].

metadata() ->
    Struct = #{'__struct__' => 'Elixir.Hostile.Node', parent => nil},
    [#{user => V} || V <- values()] ++
    [#{},
     #{user => binary:copy(<<"u">>, 10000000)},
     #{user => <<255, 254, 0>>},
     #{user => binary:part(binary:copy(<<"u">>, 10000000), 5, 10)},
     #{user => list_to_atom(lists:duplicate(255, $a))},
     #{user => #{'__struct__' => 'Elixir.Hostile.Cycle', self => ring(1000, Struct)}},
     #{user => shared(64), shared(20) => [1 | 2]},
     #{user => [1, 2 | 3]},
     maps:from_list([{I, {I, I}} || I <- lists:seq(1, 200000)]),
     #{user => <<"x">>, huge => lists:seq(1, 1000000)},
     #{user => maps:from_list([{list_to_binary([I]), I} || I <- lists:seq(1, 255)])}].

deep_list(0) -> [];
deep_list(N) -> [deep_list(N - 1)].

%% Small in memory, 2^N words when it is copied.
shared(0) -> leaf;
shared(N) -> T = shared(N - 1), #{left => T, right => T}.

ring(0, Struct) -> Struct;
ring(N, Struct) -> Struct#{parent := ring(N - 1, Struct), n => N}.
