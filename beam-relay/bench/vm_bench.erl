%% @doc The time of each reading of the VM with 20,000 processes: `make bench'. The target is 1 ms each.
-module(vm_bench).

-export([main/0]).

-define(TIMES, 101).

main() ->
    _ = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 20000)],
    io:format("one reading, ~b processes, microseconds: median, greatest of ~b~n", [erlang:system_info(process_count), ?TIMES]),
    lists:foreach(fun reading/1, dichroic_vm:events()),
    Self = self(),
    Began = now_us(),
    _ = dichroic_message_queues:survey(fun() -> Self ! {pause, now_us()} end),
    Steps = steps(Began, []),
    print("a step of the scan of message queues", Steps),
    print("the list of all processes, once a round", [us(fun erlang:processes/0) || _ <- lists:seq(1, ?TIMES)]),
    halt().

steps(Before, Acc) ->
    receive {pause, At} -> steps(At, [At - Before | Acc]) after 0 -> Acc end.

reading(Event) ->
    State = dichroic_vm:start(Event),
    print(io_lib:format("~w", [Event]), [us(fun() -> dichroic_vm:sample(Event, State) end) || _ <- lists:seq(1, ?TIMES)]),
    dichroic_vm:stop(Event, State).

print(What, Times) ->
    Sorted = lists:sort(Times),
    io:format("  ~-44ts ~8.1f ~8.1f~n", [What, lists:nth(length(Sorted) div 2 + 1, Sorted), lists:last(Sorted)]).

us(F) -> Began = now_us(), _ = F(), now_us() - Began.
now_us() -> erlang:monotonic_time(nanosecond) / 1000.
