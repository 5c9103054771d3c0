%% @doc Carries raw rows from handlers to the socket: one process a shard, frames of at most 256 rows or 5 ms.
%%
%% Handlers send `{row, Account, TimeNs, Cells}' after taking a credit; the relay gives the credits back when the rows are
%% out or dropped. The connection tells it the socket, and takes it away. Every row ends in exactly one count: sent, or
%% dropped with a reason. Nothing in it can fail on a row; if it is killed, its rows go with it and its credit is given back.
%% What is still taken when nothing has come for a second was taken by processes that were killed before they sent. A relay that
%% is idle waits outside of this module, so that new code can be loaded, twice too, and ends nothing.
%% Messages of `logger' have a process of their own, which also renders them: `{log, Account, TimeNs, What}'.
-module(dichroic_event_sender).

-include("dichroic.hrl").

-export([start_link/1, name/1, names/0, log_name/0, socket/1]).
-export([init/2, loop/1, awake/1, system_continue/3, system_terminate/4, system_code_change/4, system_get_state/1]).

-define(BATCH, 256).
-define(LINGER_MS, 5).
-define(QUIET_MS, 20).
-define(IDLE_MS, 1000).

-record(s, {parent, shard, socket = none, max_frame = 262144, n = 0, rows = #{}, timer = none}).

-spec name(pos_integer()) -> atom().
name(I) when I >= 1, I =< ?MAX_SHARDS ->
    element(I, {dichroic_event_sender_1, dichroic_event_sender_2, dichroic_event_sender_3, dichroic_event_sender_4,
                dichroic_event_sender_5, dichroic_event_sender_6, dichroic_event_sender_7, dichroic_event_sender_8,
                dichroic_event_sender_9, dichroic_event_sender_10, dichroic_event_sender_11, dichroic_event_sender_12,
                dichroic_event_sender_13, dichroic_event_sender_14, dichroic_event_sender_15, dichroic_event_sender_16}).

%% @doc The one that carries logs, and renders them.
-spec log_name() -> atom().
log_name() -> dichroic_event_sender_log.

-spec names() -> [atom()].
names() -> [name(I) || I <- lists:seq(1, min(erlang:system_info(schedulers), ?MAX_SHARDS))].

%% @doc Which socket to write to from now on; `none' after the connection is gone.
-spec socket(none | {gen_tcp:socket(), pos_integer()}) -> ok.
socket(S) ->
    _ = [catch Name ! {socket, S} || Name <- [log_name() | names()]],
    ok.

start_link(Shard) -> proc_lib:start_link(?MODULE, init, [self(), Shard]).

init(Parent, Shard) ->
    _ = process_flag(message_queue_data, off_heap),
    true = register(case Shard of log -> log_name(); _ -> name(Shard) end, self()),
    return_all_credit(Shard),
    proc_lib:init_ack(Parent, {ok, self()}),
    _ = dichroic_connection:relay_ready(),
    loop(#s{parent = Parent, shard = Shard}).

return_all_credit(Shard) ->
    case dichroic_tables:static() of
        #static{credit = Credit, shards = Shards} -> dichroic_limiter:return_all(Credit, dichroic_limiter:lane(Shard, Shards));
        none -> ok
    end.

%% @doc Whoever has nothing in hand enters the newest code.
loop(#s{n = 0} = S) ->
    receive M -> message(M, S)
    after ?QUIET_MS -> rest(S)
    end;
loop(#s{n = N} = S) when N >= ?BATCH -> ?MODULE:loop(flush(S));
loop(S) -> loop_until(erlang:monotonic_time(millisecond) + ?LINGER_MS, S).

%% Without a socket nobody wants rows, and no credit is taken.
rest(#s{socket = none} = S) -> proc_lib:hibernate(?MODULE, awake, [S#s{timer = none}]);
rest(S) -> proc_lib:hibernate(?MODULE, awake, [S#s{timer = erlang:start_timer(?IDLE_MS, self(), idle)}]).

%% @doc Something came, or nothing for a second.
awake(#s{timer = Timer} = S) ->
    receive
        {timeout, Timer, idle} -> idle(process_info(self(), message_queue_len), S);
        M ->
            _ = Timer =:= none orelse erlang:cancel_timer(Timer),
            message(M, S)
    end.

idle({_, 0}, S) ->
    return_all_credit(S#s.shard),
    rest(S);
idle(_, S) -> loop(S).

loop_until(_, #s{n = N} = S) when N >= ?BATCH -> ?MODULE:loop(flush(S));
loop_until(At, S) ->
    receive
        {row, Account, Time, Cells} -> loop_until(At, row(Account, Time, Cells, S));
        {log, Account, Time, Log} -> loop_until(At, row(Account, Time, cells(Log), S));
        M -> message(M, flush(S))
    after max(0, At - erlang:monotonic_time(millisecond)) -> ?MODULE:loop(flush(S))
    end.

message({row, Account, Time, Cells}, S) -> loop(row(Account, Time, Cells, S));
message({log, Account, Time, Log}, S) -> loop(row(Account, Time, cells(Log), S));
message({socket, none}, S) -> loop(S#s{socket = none});
message({socket, {Socket, MaxFrame}}, S) -> loop(S#s{socket = Socket, max_frame = MaxFrame});
message({system, From, Request}, S) -> sys:handle_system_msg(Request, From, S#s.parent, ?MODULE, [], S);
message({'EXIT', Parent, Reason}, #s{parent = Parent}) -> exit(Reason);
message(_, S) -> loop(S).

row(Account, Time, Cells, #s{n = N, rows = Rows} = S) ->
    S#s{n = N + 1, rows = Rows#{Account => [{Time, Cells} | maps:get(Account, Rows, [])]}}.

%% Rendering calls other people's code.
cells(Log) ->
    try dichroic_logger:cells(Log)
    catch _:_ -> [element(1, Log), <<"(a message that cannot be shown)">>, nil, nil, {map, #{}}]
    end.

flush(#s{n = 0} = S) -> S;
flush(#s{n = N, rows = Rows} = S) ->
    case dichroic_tables:static() of
        none -> S#s{n = 0, rows = #{}};
        St ->
            S1 = maps:fold(fun(A, R, Acc) -> send(A, lists:reverse(R), St, Acc) end, S, Rows),
            return_credit(N, S),
            S1#s{n = 0, rows = #{}}
    end.

return_credit(N, #s{shard = Shard}) ->
    case dichroic_tables:static() of
        #static{credit = Credit, shards = Shards} -> dichroic_limiter:return(Credit, dichroic_limiter:lane(Shard, Shards), N);
        none -> ok
    end.

send(Account, Rows, St, #s{socket = none} = S) ->
    count(St, Account, ?DROP_BROKEN, length(Rows)),
    S;
send(Account, Rows, St, S) ->
    case ets:lookup(St#static.streams, Account) of
        [{_, Schema}] -> write(encode(Schema, Rows), Account, Schema, Rows, St, S);
        [] -> S
    end.

encode(Schema, Rows) ->
    try iolist_to_binary(dichroic_wire:encode(dichroic_wire:events(Schema, Rows)))
    catch _:_ -> unencodable
    end.

write(Frame, Account, _, Rows, St, #s{max_frame = Max, socket = Socket} = S)
  when is_binary(Frame), byte_size(Frame) - 5 =< Max ->
    count(St, Account, ?ROWS_SENT, length(Rows)),
    case gen_tcp:send(Socket, Frame) of
        ok -> S;
        {error, Reason} ->
            dichroic_connection:broken(Socket, Reason),
            S#s{socket = none}
    end;
write(_, Account, _, [_], St, S) ->
    count(St, Account, ?DROP_TOO_LARGE, 1),
    S;
write(_, Account, Schema, Rows, St, S) ->
    {A, B} = lists:split(length(Rows) div 2, Rows),
    S1 = write(encode(Schema, A), Account, Schema, A, St, S),
    case S1#s.socket of
        none -> count(St, Account, ?DROP_BROKEN, length(B)), S1;
        _ -> write(encode(Schema, B), Account, Schema, B, St, S1)
    end.

count(St, Account, Cell, N) -> atomics:add(St#static.rows, (Account - 1) * ?ROWS_PER_STREAM + Cell, N).

system_continue(_Parent, _Debug, S) -> loop(S).
-spec system_terminate(term(), term(), term(), term()) -> no_return().
system_terminate(Reason, _Parent, _Debug, _S) -> exit(Reason).
system_code_change(S, _, _, _) -> {ok, S}.
system_get_state(S) -> {ok, S}.
