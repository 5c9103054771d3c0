%% @doc The connection of this node to its collector: the state machine of the protocol.
%%
%% Owns the socket and the engine; sends aggregates, replies to plans, and gives the socket to the event senders. Handlers never
%% wait for it, and count in every state after the first plan. Every failure leads to another attempt with backoff; totals are
%% kept meanwhile and all sent again after a reconnect, so nothing is lost. If this process dies its successor starts a new epoch.
%% An installed relay counts from its start by the plan of dichroic_early_plan; the first collector's plan replaces it;
%% totals of entries in both plans continue.
-module(dichroic_connection).

-behaviour(gen_statem).

-include("dichroic.hrl").

-export([start_link/0, drain/0, info/0, reconnect/0]).
-export([broken/2, attached/1, event_sender_ready/0, handler_keeper_ready/0, vm_poller_ready/0]).
-export([callback_mode/0, init/1, handle_event/4, terminate/3]).

-define(HELLO_MS, 5000).
-define(PONG_MS, 10000).
-define(DRAIN_MS, 2000).
-define(SENDERS_MS, 200).
-define(STEADY_MS, 10000).
-define(BACKOFF_MIN_MS, 100).
-define(BACKOFF_MAX_MS, 5000).
-define(MALFORMED_MS, 60000).
-define(VERSION_MS, 60000).
-define(BEFORE_HELLO, 16384).
-define(MAX_FRAME, 1048576).
-define(NEVER, 16#ffffffff).
-define(PEER_MAX_FRAME, 262144).
%% An application may start its repositories after the relay.
-define(LOOKUP_MIN_MS, 500).
-define(LOOKUP_MAX_MS, 60000).

-define(BAD_VERSION, 1).
-define(MALFORMED, 3).
-define(LIMIT, 4).
-define(TIMEOUT, 5).
-define(SHUTDOWN, 7).
-define(SLOW, 8).
-define(DETACH, 9).

-type state() :: connect | backoff | hello | plan | steady | drain | detached.

-record(data, {
    engine              :: dichroic_engine:engine(),
    epoch               :: integer(),
    node = node()       :: node(),                    % as in the last HELLO
    socket = none       :: none | gen_tcp:socket(),
    buffer = <<>>       :: binary(),
    max_frame = ?PEER_MAX_FRAME :: pos_integer(),
    attempt = 0         :: non_neg_integer(),         % connections in this epoch
    flush = 0           :: non_neg_integer(),
    ponged = 0          :: non_neg_integer(),
    waiting = none      :: none | {non_neg_integer(), integer()},  % oldest PING without its PONG
    failures = 0        :: non_neg_integer(),         % exponent of the backoff
    malformed = 0       :: non_neg_integer(),         % consecutive GOODBYEs with code 3
    steady_since = none :: none | integer(),
    retry = default         :: default | never | pos_integer(),
    rows_from = none    :: none | integer(),          % since when the streams of the plan are on; none while they are off
    rows_until = none   :: none | integer(),          % when streams went off: those that the plan withdrew, or all
    attached = 0        :: non_neg_integer(),
    refused = []        :: list(),
    last_error = none   :: term(),
    variables = #{}     :: dichroic_variables:variables(),  % only grows, so that a template's totals are never dropped
    left_out = []       :: [dichroic_plan:refusal()],       % of the last lookup
    lookup_ms = ?LOOKUP_MIN_MS :: non_neg_integer(),
    early = none        :: dichroic_early_plan:early(),     % none after the plan of a collector
    after_drain = none  :: none | backoff | detached | {stop, gen_statem:from()}
}).

%%% API

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> gen_statem:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Detaches handlers, sends the last totals and GOODBYE, and does not reconnect. Waits at most six seconds.
-spec drain() -> ok.
drain() -> try gen_statem:call(?MODULE, drain, 6000) catch exit:_ -> ok end.

-spec info() -> #{atom() => term()}.
info() -> try gen_statem:call(?MODULE, info, 6000) catch exit:_ -> #{state => unavailable} end.

-spec reconnect() -> ok.
reconnect() -> gen_statem:cast(?MODULE, reconnect).

%% @doc An event sender could not write to the socket.
-spec broken(gen_tcp:socket(), term()) -> ok.
broken(Socket, Reason) -> gen_statem:cast(?MODULE, {broken, Socket, Reason}).

%% @doc The number of attached handlers has changed.
-spec attached(non_neg_integer()) -> ok.
attached(N) -> gen_statem:cast(?MODULE, {attached, N}).

%% @doc The process has restarted and needs its settings.
-spec event_sender_ready() -> ok.
event_sender_ready() -> gen_statem:cast(?MODULE, event_sender_ready).

-spec handler_keeper_ready() -> ok.
handler_keeper_ready() -> gen_statem:cast(?MODULE, handler_keeper_ready).

-spec vm_poller_ready() -> ok.
vm_poller_ready() -> gen_statem:cast(?MODULE, vm_poller_ready).

%%% States

-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() -> handle_event_function.

-spec init([]) -> gen_statem:init_result(state()).
init([]) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    0 = dichroic_handler_keeper:set_events([]),
    Static = dichroic_tables:reset(),
    {Variables, _} = dichroic_variables:merge(dichroic_variables:loaded(), #{}),
    D = #data{engine = dichroic_engine:new(Static), epoch = Static#static.epoch, variables = Variables,
              early = dichroic_early_plan:read()},
    {ok, connect, count_early(D), [{state_timeout, 0, connect} | [lookup_timer(0) || D#data.early =/= none]]}.

%% Counts by the early plan, with the variables known so far.
count_early(#data{early = none} = D) -> D;
count_early(#data{early = Early, engine = Engine, variables = Variables} = D) ->
    Plan = try dichroic_early_plan:fill(Early, maps:get(<<"service.name">>, dichroic_identity:resource(), <<>>), Variables)
           catch _:_ -> none
           end,
    case Plan =/= none andalso dichroic_engine:plan(Plan, Engine) of
        {ok, Refused, Engine1} -> attach(Refused, Engine1, D);
        _ -> D#data{early = none}
    end.

-spec handle_event(gen_statem:event_type(), term(), state(), #data{}) -> gen_statem:event_handler_result(state()).

%% CONNECT
handle_event(state_timeout, connect, _, D) ->
    case dichroic_socket:connect() of
        {ok, Socket, Target} -> send_hello(Socket, Target, D#data{attempt = D#data.attempt + 1});
        {error, Reason} -> lost({cannot_connect, Reason}, D)
    end;

%% Timers
handle_event(state_timeout, hello, _, D) -> send_goodbye(?TIMEOUT, "no HELLO and PLAN within 5 s of connecting", D);
handle_event(state_timeout, drained, drain, D) -> drained(D);
handle_event({timeout, flush}, flush, steady, D) -> flush_again(D);
handle_event({timeout, flush}, flush, _, _) -> keep_state_and_data;
handle_event({timeout, linger}, linger, State, D) when State =:= backoff; State =:= connect; State =:= hello; State =:= plan ->
    {next_state, State, new_epoch(D)};
handle_event({timeout, linger}, linger, _, _) -> keep_state_and_data;
handle_event({timeout, lookup}, lookup, detached, _) -> keep_state_and_data;
handle_event({timeout, lookup}, lookup, State, #data{lookup_ms = Ms} = D) ->
    _ = dichroic_variables:start_lookup(self()),
    retry_app_metrics(State, D#data{lookup_ms = min(2 * Ms, ?LOOKUP_MAX_MS)}, lookup_timer(Ms));

%% The socket
handle_event(info, {tcp, Socket, Bytes}, State, #data{socket = Socket, buffer = Buffer} = D) ->
    received(State, D#data{buffer = join(Buffer, Bytes)});
handle_event(info, {tcp_closed, Socket}, State, #data{socket = Socket} = D) -> closed(State, closed, D);
handle_event(info, {tcp_error, Socket, Reason}, State, #data{socket = Socket} = D) -> closed(State, Reason, D);
handle_event(cast, {broken, Socket, Reason}, State, #data{socket = Socket} = D) -> closed(State, Reason, D);
handle_event(internal, parse, State, D) -> received(State, D);

%% Other processes of the relay
handle_event(cast, {attached, N}, steady, D) -> report(D#data{attached = N});
handle_event(cast, {attached, N}, _, D) -> {keep_state, D#data{attached = N}};
handle_event(cast, {variables, Found}, State, #data{variables = Known, left_out = Before} = D) ->
    case {dichroic_variables:merge(Found, Known), State} of
        {{Known, Before}, _} -> keep_state_and_data;
        {{Variables, LeftOut}, steady} -> report(D#data{variables = Variables, left_out = LeftOut});
        {{Known, LeftOut}, _} -> {keep_state, D#data{left_out = LeftOut}};
        {{Variables, LeftOut}, _} when State =:= drain; State =:= detached ->
            {keep_state, D#data{variables = Variables, left_out = LeftOut}};
        {{Variables, LeftOut}, _} -> {keep_state, count_early(D#data{variables = Variables, left_out = LeftOut})}
    end;
handle_event(cast, event_sender_ready, steady, D) -> dichroic_event_sender:socket({D#data.socket, D#data.max_frame}), keep_state_and_data;
handle_event(cast, handler_keeper_ready, State, D) when State =/= detached, State =/= drain ->
    {keep_state, D#data{attached = dichroic_handler_keeper:set_events(dichroic_engine:events(D#data.engine))}};
handle_event(cast, vm_poller_ready, _, D) -> dichroic_vm_poller:set_events(dichroic_engine:events(D#data.engine)), keep_state_and_data;
handle_event(cast, reconnect, State, D) when State =:= backoff; State =:= detached ->
    {next_state, connect, D#data{retry = default, failures = 0}, [{state_timeout, 0, connect}]};
handle_event({call, From}, drain, State, D) when State =:= steady ->
    drain({stop, From}, detach(D));
handle_event({call, From}, drain, _, D) ->
    {next_state, detached, (close(detach(D)))#data{retry = never}, [{reply, From, ok}]};
handle_event({call, From}, info, State, D) -> {keep_state_and_data, [{reply, From, information(State, D)}]};
handle_event({call, From}, _, _, _) -> {keep_state_and_data, [{reply, From, {error, unknown}}]};
handle_event(_, _, _, _) -> keep_state_and_data.

%% Sends the reply to the current plan again.
report(D) ->
    case transmit([reply(D)], D) of
        {ok, D1} -> {keep_state, D1};
        {error, Reason} -> lost(Reason, D)
    end.

lookup_timer(Ms) -> {{timeout, lookup}, Ms, lookup}.

%% The application's `metrics' function may succeed only after its application has started.
retry_app_metrics(steady, D, Timer) ->
    case dichroic_engine:retry_app_metrics(D#data.engine) of
        same -> {keep_state, D, [Timer]};
        {ok, Refused, Engine} ->
            case report(streaming(attach(Refused, Engine, D))) of
                {keep_state, D1} -> {keep_state, D1, [Timer]};
                Lost -> Lost
            end
    end;
retry_app_metrics(drain, D, Timer) -> {keep_state, D, [Timer]};
retry_app_metrics(_, D, Timer) ->
    case dichroic_engine:retry_app_metrics(D#data.engine) of
        same -> {keep_state, D, [Timer]};
        {ok, Refused, Engine} -> {keep_state, attach(Refused, Engine, D), [Timer]}
    end.

%% An orderly shutdown without drain/0: the last totals are sent without waiting for the acknowledgement.
-spec terminate(term(), state(), #data{}) -> ok.
terminate(shutdown, steady, D) ->
    D1 = detach(D),
    ok = dichroic_event_sender:sync(?SENDERS_MS),
    _ = case flush(D1) of
            {ok, D2} -> transmit([{goodbye, ?SHUTDOWN, 0, <<"relay is shutting down">>}], D2);
            {error, _, _} -> ok
        end,
    _ = close(D1),
    ok;
terminate(_, _, D) ->
    _ = close(detach(D)),
    ok.

information(State, #data{engine = Engine} = D) ->
    #{state => State, epoch => D#data.epoch, attempt => D#data.attempt, attached => D#data.attached, refused => refused(D),
      generation => dichroic_engine:generation(Engine), series => dichroic_engine:live(Engine),
      flush => D#data.flush, acknowledged => D#data.ponged, last_error => D#data.last_error}.

%%% HELLO

send_hello(Socket, Target, #data{epoch = Epoch, attempt = Attempt} = D) ->
    More = maps:merge(token(Target), maps:merge(variables(D), rows_times(D))),
    Fields = maps:merge((dichroic_identity:hello())#{<<"epoch">> => Epoch, <<"attempt">> => Attempt}, More),
    D1 = D#data{node = node(), lookup_ms = ?LOOKUP_MIN_MS, socket = Socket, buffer = <<>>, max_frame = ?PEER_MAX_FRAME, waiting = none},
    case transmit([{hello, 1, 0, 1, Fields}], D1) of
        {ok, D2} ->
            _ = inet:setopts(Socket, [{active, once}]),
            {next_state, hello, D2, [{state_timeout, ?HELLO_MS, hello}, lookup_timer(0)]};
        {error, Reason} -> lost(Reason, D1)
    end.

variables(#data{variables = Variables}) when map_size(Variables) =:= 0 -> #{};
variables(#data{variables = Variables}) -> #{<<"variables">> => Variables}.

token({local, _}) -> #{};
token(_) ->
    case dichroic_socket:token() of
        {ok, Token} -> #{<<"token">> => Token};
        undefined -> #{}
    end.

%%% Reading

join(<<>>, Bytes) -> Bytes;
join(Buffer, Bytes) -> <<Buffer/binary, Bytes/binary>>.

received(State, #data{buffer = Buffer} = D) ->
    case dichroic_wire:decode(Buffer, case State of hello -> ?BEFORE_HELLO; _ -> ?MAX_FRAME end) of
        more ->
            _ = inet:setopts(D#data.socket, [{active, once}]),
            {keep_state, D};
        {ok, Frame, Rest} -> next_frame(frame(Frame, State, D#data{buffer = Rest}));
        {error, {limit, Message}} -> violation(State, ?LIMIT, Message, D);
        {error, {malformed, Message}} -> violation(State, ?MALFORMED, Message, D);
        {error, {version, Message}} -> violation(State, ?BAD_VERSION, Message, D)
    end.

%% The next frame of the buffer is handled in the state that this frame led to.
next_frame({next_state, S, #data{socket = Socket} = D, Actions}) when Socket =/= none ->
    {next_state, S, D, Actions ++ [{next_event, internal, parse}]};
next_frame({keep_state, #data{socket = Socket} = D}) when Socket =/= none -> {keep_state, D, [{next_event, internal, parse}]};
next_frame(Other) -> Other.

violation(drain, _, _, D) -> drained(D);
violation(_, Code, Message, D) -> send_goodbye(Code, Message, D).

frame({hello, _, _, 0, Fields}, hello, D) ->
    Max = case Fields of #{<<"max_frame">> := M} when is_integer(M), M >= ?BEFORE_HELLO -> min(M, ?MAX_FRAME); _ -> ?PEER_MAX_FRAME end,
    {next_state, plan, D#data{max_frame = Max}, [{state_timeout, ?HELLO_MS, hello}]};
frame({plan, Plan}, State, D) when State =:= plan; State =:= steady -> planned(Plan, State, D);
frame({ping, T}, State, D) ->
    case transmit([{pong, T}], D) of
        {ok, D1} -> {keep_state, D1};
        {error, Reason} -> closed(State, Reason, D)
    end;
frame({pong, N}, State, #data{flush = Flush} = D) when State =:= steady, N =< Flush; State =:= drain, N =< Flush ->
    acknowledged(State, D#data{ponged = max(N, D#data.ponged), waiting = waiting(N, D#data.waiting)});
frame({goodbye, Code, Retry, Message}, State, D) -> goodbye_received(Code, Retry, Message, State, D);
frame({unknown, _, _}, _, D) -> {keep_state, D};
frame(_, drain, D) -> {keep_state, D};
frame(Frame, State, D) ->
    send_goodbye(?MALFORMED, io_lib:format("unexpected ~ts frame in state ~ts", [element(1, Frame), State]), D).

waiting(N, {Oldest, _}) when N >= Oldest -> none;
waiting(_, W) -> W.

acknowledged(drain, #data{ponged = N, flush = N} = D) -> drained(D);
acknowledged(_, D) -> {keep_state, D}.

%%% PLAN

planned(Plan, State, D) ->
    case dichroic_engine:plan(Plan, D#data.engine) of
        {error, Message} -> send_goodbye(?MALFORMED, Message, D);
        {ok, Refused, Engine} ->
            ok = dichroic_early_plan:save(Plan),
            D1 = attach(Refused, Engine, D#data{early = none}),
            case State of
                plan -> steady(D1);
                steady -> report(withdrawn(streaming(D1)))
            end
    end.

attach(Refused, Engine, D) ->
    Events = dichroic_engine:events(Engine),
    Attached = dichroic_handler_keeper:set_events(Events),
    dichroic_vm_poller:set_events(Events),
    D#data{engine = Engine, attached = Attached, refused = Refused}.

streaming(#data{engine = Engine} = D) ->
    ok = dichroic_engine:streams_on(Engine),
    D#data{rows_from = erlang:system_time(nanosecond)}.

%% The rows of withdrawn streams are sent before the reply: the collector ends the streams with it.
withdrawn(#data{engine = Engine} = D) ->
    case dichroic_engine:withdrawn(Engine) of
        none -> D;
        Until ->
            ok = dichroic_event_sender:sync(?SENDERS_MS),
            D#data{rows_until = Until}
    end.

%% Events from this time on become no rows.
stop_streaming(#data{engine = Engine, rows_from = From} = D) ->
    Until = erlang:system_time(nanosecond),
    ok = dichroic_engine:streams_off(Engine),
    case From of
        none -> D;
        _ -> D#data{rows_from = none, rows_until = Until}
    end.

%% Sent for every plan when its streams are on: for the collector, they begin with it. And again when its content changes: telemetry
%% started or stopped, a repository started, or ids ran out.
reply(#data{engine = Engine, attached = Attached, max_frame = Max} = D) ->
    {plan, (maps:merge(variables(D), rows_times(D)))#{<<"generation">> => dichroic_engine:generation(Engine), <<"attached">> => Attached,
                           <<"refused">> => dichroic_plan:fitting(refused(D), Max div 2)}}.

rows_times(#data{rows_from = From, rows_until = Until}) ->
    maps:from_list([{K, T} || {K, T} <- [{<<"rows_from">>, From}, {<<"rows_until">>, Until}], T =/= none]).

refused(#data{engine = Engine, refused = Refused, left_out = LeftOut}) -> dichroic_engine:unreported(Engine) ++ LeftOut ++ Refused.

%%% STEADY

%% The first flush defines and sends everything, beginning with the row counts; only then may rows be sent.
steady(#data{engine = Engine} = D) ->
    case flush(D#data{engine = dichroic_engine:reconnected(Engine), steady_since = now_ms(), retry = default}) of
        {ok, D1} ->
            dichroic_event_sender:socket({D1#data.socket, D1#data.max_frame}),
            case report(streaming(D1)) of
                {keep_state, D2} -> {next_state, steady, D2, [{{timeout, linger}, cancel}, flush_timer(D2)]};
                Lost -> Lost
            end;
        {error, Reason, D1} -> lost(Reason, D1)
    end.

flush_timer(#data{engine = Engine}) -> {{timeout, flush}, dichroic_engine:flush_ms(Engine), flush}.

%% A node that got its name after the HELLO, as by net_kernel:start/2, introduces itself again; totals continue.
flush_again(#data{node = Before} = D) when Before =/= node() -> drain(backoff, D#data{retry = 1});
flush_again(#data{waiting = {_, At}} = D) ->
    case now_ms() - At > ?PONG_MS of
        true -> lost(no_pong, D);
        false -> flush_now(D)
    end;
flush_again(D) -> flush_now(D).

flush_now(D) ->
    case flush(D) of
        {ok, D1} -> {keep_state, settled(D1), [flush_timer(D1)]};
        {error, Reason, D1} -> lost(Reason, D1)
    end.

settled(#data{steady_since = Since} = D) ->
    case now_ms() - Since > ?STEADY_MS of
        true -> D#data{failures = 0, malformed = 0};
        false -> D
    end.

flush(#data{flush = Before, ponged = Ponged, engine = Engine, waiting = Waiting} = D) ->
    N = Before + 1,
    {Frames, Engine1} = dichroic_engine:flush(N, Ponged, erlang:monotonic_time(second), D#data.max_frame, Engine),
    D1 = D#data{flush = N, engine = Engine1,
             waiting = case Waiting of none -> {N, now_ms()}; _ -> Waiting end},
    %% Reports once that ids ran out, and once that they are free again.
    Replies = [reply(D1) || (dichroic_engine:unreported(Engine) =:= []) =/= (dichroic_engine:unreported(Engine1) =:= [])],
    case transmit(Frames ++ Replies ++ [{ping, N}], D1) of
        {ok, D2} -> {ok, D2};
        {error, Reason} -> {error, Reason, D1}
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%% Whole frames only, because event senders write to the same socket.
transmit([], D) -> {ok, D};
transmit([Frame | Frames], #data{socket = Socket} = D) ->
    case gen_tcp:send(Socket, dichroic_wire:encode(Frame)) of
        ok -> transmit(Frames, D);
        {error, Reason} -> {error, Reason}
    end.

%%% Closing

goodbye_received(Code, Retry, Message, State, D0) ->
    D = D0#data{retry = retry(Code, Retry, D0), last_error = {goodbye, Code, Message},
             malformed = case Code of ?MALFORMED -> D0#data.malformed + 1; _ -> 0 end},
    After = case Code =:= ?DETACH of true -> detached; false -> backoff end,
    %% After these codes the collector still reads for 2 s.
    case {State, Code} of
        {steady, C} when C =:= ?SHUTDOWN; C =:= ?SLOW -> drain(After, D);
        {steady, ?DETACH} -> drain(After, detach(D));
        {drain, _} -> {keep_state, D};
        {_, ?DETACH} -> to_detached(close(detach(D)));
        _ -> to_backoff(D)
    end.

retry(_, ?NEVER, _) -> never;
retry(?MALFORMED, _, #data{malformed = N}) when N >= 1 -> ?MALFORMED_MS;
retry(?BAD_VERSION, 0, _) -> ?VERSION_MS;
retry(_, 0, _) -> default;
retry(_, Ms, _) -> Ms.

drain(After, D0) ->
    D = stop_streaming(D0),
    ok = dichroic_event_sender:sync(?SENDERS_MS),
    case flush(D#data{after_drain = After}) of
        {ok, D1} -> {next_state, drain, D1, [{state_timeout, ?DRAIN_MS, drained}]};
        {error, Reason, D1} -> drained(D1#data{last_error = Reason})
    end.

drained(#data{after_drain = After} = D) ->
    _ = transmit([{goodbye, ?SHUTDOWN, 0, <<"relay is shutting down">>}], D),
    D1 = (close(D))#data{after_drain = none},
    case After of
        {stop, From} -> {next_state, detached, D1#data{retry = never}, [{reply, From, ok}]};
        detached -> to_detached(D1);
        _ -> to_backoff(D1)
    end.

closed(drain, Reason, D) -> drained(D#data{last_error = Reason});
closed(_, Reason, D) -> lost(Reason, D).

send_goodbye(Code, Message, D) ->
    Text = dichroic_value:cut(unicode:characters_to_binary(Message), 1024),
    _ = transmit([{goodbye, Code, 0, Text}], D),
    %% Two malformed frames in a row: a quick retry would most likely fail again.
    D1 = case Code of
             ?MALFORMED when D#data.malformed >= 1 -> D#data{retry = ?MALFORMED_MS};
             ?MALFORMED -> D#data{malformed = 1};
             ?BAD_VERSION -> D#data{retry = ?VERSION_MS};
             _ -> D
         end,
    lost({goodbye_sent, Code, Text}, D1).

lost(Reason, D) -> to_backoff(D#data{last_error = Reason}).

to_backoff(#data{retry = Retry, failures = N, engine = Engine} = D) ->
    D1 = (close(D))#data{failures = min(N + 1, 16), retry = default, steady_since = none},
    Linger = case dichroic_engine:linger_s(Engine) of
                 S when S > 0, D#data.steady_since =/= none -> [{{timeout, linger}, S * 1000, linger}];
                 _ -> []
             end,
    case delay(Retry, N) of
        never -> {next_state, backoff, D1, Linger};
        Ms -> {next_state, backoff, D1, [{state_timeout, Ms, connect} | Linger]}
    end.

delay(default, N) -> rand:uniform(min(?BACKOFF_MAX_MS, ?BACKOFF_MIN_MS bsl min(N + 1, 10)));
delay(never, _) -> never;
delay(Ms, _) -> Ms.

%% DETACHED: no handler is attached until the next connection, which starts a new epoch.
to_detached(#data{retry = Retry} = D) ->
    D1 = new_epoch(D#data{retry = default, steady_since = none}),
    case delay(Retry, 5) of
        never -> {next_state, detached, D1};
        Ms -> {next_state, detached, D1, [{state_timeout, Ms, connect}]}
    end.

%% A new epoch starts all totals from zero.
new_epoch(D0) ->
    D = detach(D0),
    Static = dichroic_tables:reset(),
    D#data{engine = dichroic_engine:new(Static), epoch = Static#static.epoch, attempt = 0, flush = 0, ponged = 0, rows_until = none}.

detach(D0) ->
    D = stop_streaming(D0),
    0 = dichroic_handler_keeper:set_events([]),
    dichroic_vm_poller:set_events([]),
    D#data{attached = 0}.

close(#data{socket = none} = D) -> D;
close(#data{socket = Socket} = D0) ->
    D = stop_streaming(D0),
    dichroic_event_sender:socket(none),
    _ = gen_tcp:close(Socket),
    D#data{socket = none, buffer = <<>>, waiting = none}.
