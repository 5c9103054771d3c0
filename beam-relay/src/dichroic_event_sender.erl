%% @doc Sends raw rows from handlers to the socket: one process per shard, in frames of at most 256 rows or 5 ms.
%%
%% Handlers send `{row, Account, TimeNs, Cells}' after taking a credit (dichroic_limiter); this process returns the credit when
%% the rows are sent or dropped. dichroic_connection sets and removes the socket. Every row ends in exactly one count: sent, or
%% dropped with a reason. No row can make the process fail. If it is killed, its rows are lost and its successor returns the
%% credit. Credit that is still taken after a second without rows belongs to emitters that were killed before they sent, and is
%% returned too. An idle sender hibernates, so no call of this module is on its stack and new code can be loaded any number of
%% times. Messages of `logger', `{log, Account, TimeNs, Log}', have a sender of their own, which also renders them.
-module(dichroic_event_sender).

-include("dichroic.hrl").

-export([start_link/1, name/1, names/0, log_name/0, socket/1, sync/1]).
-export([init/2, loop/1, awake/1, system_continue/3, system_terminate/4, system_code_change/4, system_get_state/1]).

-define(BATCH, 256).
-define(LINGER_MS, 5).
-define(QUIET_MS, 20).
-define(IDLE_MS, 1000).

-record(state, {
    parent              :: pid(),
    shard               :: pos_integer() | log,
    socket = none       :: none | gen_tcp:socket(),
    max_frame = 262144  :: pos_integer(),
    n = 0               :: non_neg_integer(),                  % buffered rows
    rows = #{}          :: #{Account :: pos_integer() => [dichroic_wire:row()]},
    timer = none        :: none | reference()
}).

-spec name(pos_integer()) -> atom().
name(I) when I >= 1, I =< ?MAX_SHARDS ->
    element(I, {dichroic_event_sender_1, dichroic_event_sender_2, dichroic_event_sender_3, dichroic_event_sender_4,
                dichroic_event_sender_5, dichroic_event_sender_6, dichroic_event_sender_7, dichroic_event_sender_8,
                dichroic_event_sender_9, dichroic_event_sender_10, dichroic_event_sender_11, dichroic_event_sender_12,
                dichroic_event_sender_13, dichroic_event_sender_14, dichroic_event_sender_15, dichroic_event_sender_16}).

%% @doc The sender that renders and sends logs.
-spec log_name() -> atom().
log_name() -> dichroic_event_sender_log.

-spec names() -> [atom()].
names() -> [name(I) || I <- lists:seq(1, min(erlang:system_info(schedulers), ?MAX_SHARDS))].

%% @doc Sets the socket and its frame limit; `none' when the connection is closed.
-spec socket(none | {gen_tcp:socket(), pos_integer()}) -> ok.
socket(S) ->
    _ = [catch Name ! {socket, S} || Name <- [log_name() | names()]],
    ok.

%% @doc Waits until the rows that the senders have are sent, at most the given time.
-spec sync(Ms :: non_neg_integer()) -> ok.
sync(Ms) ->
    Until = erlang:monotonic_time(millisecond) + Ms,
    Monitors = [{Name, erlang:monitor(process, Name)} || Name <- [log_name() | names()]],
    _ = [catch Name ! {flush, self(), Ref} || {Name, Ref} <- Monitors],
    lists:foreach(
        fun({_, Ref}) ->
            receive {flushed, Ref} -> ok; {'DOWN', Ref, process, _, _} -> ok
            after max(0, Until - erlang:monotonic_time(millisecond)) -> ok
            end,
            erlang:demonitor(Ref, [flush])
        end, Monitors).

-spec start_link(pos_integer() | log) -> {ok, pid()} | {error, term()}.
start_link(Shard) -> proc_lib:start_link(?MODULE, init, [self(), Shard]).

-spec init(pid(), pos_integer() | log) -> no_return().
init(Parent, Shard) ->
    _ = process_flag(message_queue_data, off_heap),
    true = register(case Shard of log -> log_name(); _ -> name(Shard) end, self()),
    return_all_credit(Shard),
    proc_lib:init_ack(Parent, {ok, self()}),
    _ = dichroic_connection:event_sender_ready(),
    loop(#state{parent = Parent, shard = Shard}).

return_all_credit(Shard) ->
    case dichroic_tables:static() of
        #static{credit = Credit, shards = Shards} -> dichroic_limiter:return_all(Credit, dichroic_limiter:lane(Shard, Shards));
        none -> ok
    end.

%% @doc Exported so that a sender without buffered rows enters the newest code.
-spec loop(#state{}) -> no_return().
loop(#state{n = 0} = S) ->
    receive M -> message(M, S)
    after ?QUIET_MS -> rest(S)
    end;
loop(#state{n = N} = S) when N >= ?BATCH -> ?MODULE:loop(flush(S));
loop(S) -> loop_until(erlang:monotonic_time(millisecond) + ?LINGER_MS, S).

%% Without a socket no stream is subscribed, so no credit is taken.
rest(#state{socket = none} = S) -> proc_lib:hibernate(?MODULE, awake, [S#state{timer = none}]);
rest(S) -> proc_lib:hibernate(?MODULE, awake, [S#state{timer = erlang:start_timer(?IDLE_MS, self(), idle)}]).

%% @doc A message, or a second without one.
-spec awake(#state{}) -> no_return().
awake(#state{timer = Timer} = S) ->
    receive
        {timeout, Timer, idle} -> idle(process_info(self(), message_queue_len), S);
        M ->
            _ = Timer =:= none orelse erlang:cancel_timer(Timer),
            message(M, S)
    end.

idle({_, 0}, S) ->
    return_all_credit(S#state.shard),
    rest(S);
idle(_, S) -> loop(S).

loop_until(_, #state{n = N} = S) when N >= ?BATCH -> ?MODULE:loop(flush(S));
loop_until(At, S) ->
    receive
        {row, Account, Time, Cells} -> loop_until(At, row(Account, Time, Cells, S));
        {log, Account, Time, Log} -> loop_until(At, row(Account, Time, cells(Log), S));
        M -> message(M, flush(S))
    after max(0, At - erlang:monotonic_time(millisecond)) -> ?MODULE:loop(flush(S))
    end.

message({row, Account, Time, Cells}, S) -> loop(row(Account, Time, Cells, S));
message({log, Account, Time, Log}, S) -> loop(row(Account, Time, cells(Log), S));
message({socket, none}, S) -> loop(S#state{socket = none});
message({socket, {Socket, MaxFrame}}, S) -> loop(S#state{socket = Socket, max_frame = MaxFrame});
message({flush, From, Ref}, S0) ->
    S = flush(S0),
    From ! {flushed, Ref},
    loop(S);
message({system, From, Request}, S) -> sys:handle_system_msg(Request, From, S#state.parent, ?MODULE, [], S);
message({'EXIT', Parent, Reason}, #state{parent = Parent}) -> exit(Reason);
message(_, S) -> loop(S).

row(Account, Time, Cells, #state{n = N, rows = Rows} = S) ->
    S#state{n = N + 1, rows = Rows#{Account => [{Time, Cells} | maps:get(Account, Rows, [])]}}.

%% Rendering calls report callbacks of the application.
cells(Log) ->
    try dichroic_logger:cells(Log)
    catch _:_ -> [element(1, Log), <<"(message could not be rendered)">>, nil, nil, {map, #{}}]
    end.

flush(#state{n = 0} = S) -> S;
flush(#state{n = N, rows = Rows} = S) ->
    case dichroic_tables:static() of
        none -> S#state{n = 0, rows = #{}};
        St ->
            S1 = maps:fold(fun(A, R, Acc) -> send(A, lists:reverse(R), St, Acc) end, S, Rows),
            return_credit(N, S),
            S1#state{n = 0, rows = #{}}
    end.

return_credit(N, #state{shard = Shard}) ->
    case dichroic_tables:static() of
        #static{credit = Credit, shards = Shards} -> dichroic_limiter:return(Credit, dichroic_limiter:lane(Shard, Shards), N);
        none -> ok
    end.

send(Account, Rows, St, #state{socket = none} = S) ->
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

write(Frame, Account, Schema, Rows, St, #state{max_frame = Max, socket = Socket} = S) ->
    case is_binary(Frame) andalso dichroic_wire:body_size(Frame) =< Max of
        true ->
            count(St, Account, ?ROWS_SENT, length(Rows)),
            case gen_tcp:send(Socket, Frame) of
                ok -> S;
                {error, Reason} ->
                    dichroic_connection:broken(Socket, Reason),
                    S#state{socket = none}
            end;
        false -> write_halves(Account, Schema, Rows, St, S)
    end.

write_halves(Account, _, [_], St, S) ->
    count(St, Account, ?DROP_TOO_LARGE, 1),
    S;
write_halves(Account, Schema, Rows, St, S) ->
    {A, B} = lists:split(length(Rows) div 2, Rows),
    S1 = write(encode(Schema, A), Account, Schema, A, St, S),
    case S1#state.socket of
        none -> count(St, Account, ?DROP_BROKEN, length(B)), S1;
        _ -> write(encode(Schema, B), Account, Schema, B, St, S1)
    end.

count(St, Account, Cell, N) -> atomics:add(St#static.rows, (Account - 1) * ?ROWS_PER_STREAM + Cell, N).

-spec system_continue(pid(), [sys:dbg_opt()], #state{}) -> no_return().
system_continue(_Parent, _Debug, S) -> loop(S).

-spec system_terminate(term(), term(), term(), term()) -> no_return().
system_terminate(Reason, _Parent, _Debug, _S) -> exit(Reason).

-spec system_code_change(#state{}, module(), term(), term()) -> {ok, #state{}}.
system_code_change(S, _, _, _) -> {ok, S}.

-spec system_get_state(#state{}) -> {ok, #state{}}.
system_get_state(S) -> {ok, S}.
