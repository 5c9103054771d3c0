%% @doc The one connection of this node to its collector: the state machine of the wire.
%%
%% Owns the socket and the engine; writes aggregates, answers plans, tells the relays which socket to use. Handlers never
%% wait for it, and count in every state after the first plan. Whatever the collector does, the answer is another try with
%% backoff; totals are kept meanwhile, so a reconnect sends them all again and nothing is lost. If this process dies its
%% successor begins a new epoch.
-module(dichroic_connection).

-behaviour(gen_statem).

-include("dichroic.hrl").

-export([start_link/0, drain/0, info/0, reconnect/0]).
-export([broken/2, attached/1, relay_ready/0, janitor_ready/0, sampler_ready/0]).
-export([callback_mode/0, init/1, handle_event/4, terminate/3]).

-define(HELLO_MS, 5000).
-define(PONG_MS, 10000).
-define(DRAIN_MS, 2000).
-define(STEADY_MS, 10000).
-define(BACKOFF_MIN_MS, 100).
-define(BACKOFF_MAX_MS, 5000).
-define(MALFORMED_MS, 60000).
-define(VERSION_MS, 60000).
-define(BEFORE_HELLO, 16384).
-define(MAX_FRAME, 1048576).
-define(NEVER, 16#ffffffff).
-define(PEER_MAX_FRAME, 262144).
%% Repositories start after us, when we are part of their application.
-define(LOOK_MIN_MS, 500).
-define(LOOK_MAX_MS, 60000).

-define(BAD_VERSION, 1).
-define(MALFORMED, 3).
-define(LIMIT, 4).
-define(TIMEOUT, 5).
-define(SHUTDOWN, 7).
-define(SLOW, 8).
-define(DETACH, 9).

-type state() :: connect | backoff | hello | plan | steady | drain | detached.

-record(d, {
    engine              :: dichroic_engine:engine(),
    epoch               :: integer(),
    socket = none       :: none | gen_tcp:socket(),
    buffer = <<>>       :: binary(),
    max_frame = ?PEER_MAX_FRAME :: pos_integer(),
    attempt = 0         :: non_neg_integer(),         % connections in this epoch
    flush = 0           :: non_neg_integer(),
    ponged = 0          :: non_neg_integer(),
    waiting = none      :: none | {non_neg_integer(), integer()},  % oldest PING without its PONG
    failures = 0        :: non_neg_integer(),         % exponent of the backoff
    malformed = 0       :: non_neg_integer(),         % GOODBYE 3 in a row
    steady_since = none :: none | integer(),
    retry = own         :: own | never | pos_integer(),
    attached = 0        :: non_neg_integer(),
    refused = []        :: list(),
    last_error = none   :: term(),
    variables = #{}     :: dichroic_variables:variables(),  % what was ever said: what is measured stays measured
    left_out = []       :: [dichroic_plan:refusal()],       % of what was found last
    look_ms = 0         :: non_neg_integer(),
    after_drain = none  :: none | backoff | detached | {stop, gen_statem:from()}
}).

%%% For the other processes of the relay, and for people

start_link() -> gen_statem:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Detach, flush, say goodbye, and stay away. Waits four seconds at most.
-spec drain() -> ok.
drain() -> try gen_statem:call(?MODULE, drain, 6000) catch exit:_ -> ok end.

-spec info() -> #{atom() => term()}.
info() -> try gen_statem:call(?MODULE, info, 6000) catch exit:_ -> #{state => unavailable} end.

-spec reconnect() -> ok.
reconnect() -> gen_statem:cast(?MODULE, reconnect).

broken(Socket, Reason) -> gen_statem:cast(?MODULE, {broken, Socket, Reason}).
attached(N) -> gen_statem:cast(?MODULE, {attached, N}).
relay_ready() -> gen_statem:cast(?MODULE, relay_ready).
janitor_ready() -> gen_statem:cast(?MODULE, janitor_ready).
sampler_ready() -> gen_statem:cast(?MODULE, sampler_ready).

%%% States

callback_mode() -> handle_event_function.

init([]) ->
    _ = process_flag(trap_exit, true),
    _ = process_flag(message_queue_data, off_heap),
    0 = dichroic_handler_keeper:want([]),
    dichroic_engine:sweep(),
    Static = dichroic_tables:reset(),
    {ok, connect, #d{engine = dichroic_engine:new(Static), epoch = Static#static.epoch}, [{state_timeout, 0, connect}]}.

-spec handle_event(gen_statem:event_type(), term(), state(), #d{}) -> gen_statem:event_handler_result(state()).

%% CONNECT
handle_event(state_timeout, connect, _, D) ->
    case dichroic_socket:connect() of
        {ok, Socket, Target} -> greet(Socket, Target, D#d{attempt = D#d.attempt + 1});
        {error, Reason} -> lost({cannot_connect, Reason}, D)
    end;

%% Timers
handle_event(state_timeout, hello, _, D) -> goodbye(?TIMEOUT, "no HELLO and PLAN within 5 s", D);
handle_event(state_timeout, drained, drain, D) -> drained(D);
handle_event({timeout, flush}, flush, steady, D) -> flush_again(D);
handle_event({timeout, flush}, flush, _, _) -> keep_state_and_data;
handle_event({timeout, linger}, linger, State, D) when State =:= backoff; State =:= connect; State =:= hello; State =:= plan ->
    {next_state, State, forget(D)};
handle_event({timeout, linger}, linger, _, _) -> keep_state_and_data;
handle_event({timeout, look}, look, detached, _) -> keep_state_and_data;
handle_event({timeout, look}, look, State, #d{look_ms = Ms} = D) ->
    _ = dichroic_variables:look(self()),
    look(State, D#d{look_ms = min(2 * Ms, ?LOOK_MAX_MS)}, look_timer(Ms));

%% The socket
handle_event(info, {tcp, Socket, Bytes}, State, #d{socket = Socket, buffer = Buffer} = D) ->
    received(State, D#d{buffer = join(Buffer, Bytes)});
handle_event(info, {tcp_closed, Socket}, State, #d{socket = Socket} = D) -> closed(State, closed, D);
handle_event(info, {tcp_error, Socket, Reason}, State, #d{socket = Socket} = D) -> closed(State, Reason, D);
handle_event(cast, {broken, Socket, Reason}, State, #d{socket = Socket} = D) -> closed(State, Reason, D);
handle_event(internal, parse, State, D) -> received(State, D);

%% Own people
handle_event(cast, {attached, N}, steady, D) -> say(D#d{attached = N});
handle_event(cast, {attached, N}, _, D) -> {keep_state, D#d{attached = N}};
handle_event(cast, {variables, Found}, State, #d{variables = Known, left_out = Before} = D) ->
    case {dichroic_variables:remember(Found, Known), State} of
        {{Known, Before}, _} -> keep_state_and_data;
        {{Variables, LeftOut}, steady} -> say(D#d{variables = Variables, left_out = LeftOut});
        {{Variables, LeftOut}, _} -> {keep_state, D#d{variables = Variables, left_out = LeftOut}}
    end;
handle_event(cast, relay_ready, steady, D) -> dichroic_event_sender:socket({D#d.socket, D#d.max_frame}), keep_state_and_data;
handle_event(cast, janitor_ready, State, D) when State =/= detached, State =/= drain ->
    {keep_state, D#d{attached = dichroic_handler_keeper:want(dichroic_engine:events(D#d.engine))}};
handle_event(cast, sampler_ready, _, D) -> dichroic_vm_poller:want(dichroic_engine:events(D#d.engine)), keep_state_and_data;
handle_event(cast, reconnect, State, D) when State =:= backoff; State =:= detached ->
    {next_state, connect, D#d{retry = own, failures = 0}, [{state_timeout, 0, connect}]};
handle_event({call, From}, drain, State, D) when State =:= steady ->
    drain({stop, From}, detach(D));
handle_event({call, From}, drain, _, D) ->
    {next_state, detached, (close(detach(D)))#d{retry = never}, [{reply, From, ok}]};
handle_event({call, From}, info, State, D) -> {keep_state_and_data, [{reply, From, information(State, D)}]};
handle_event({call, From}, _, _, _) -> {keep_state_and_data, [{reply, From, {error, unknown}}]};
handle_event(_, _, _, _) -> keep_state_and_data.

%% The answer to a plan, once more.
say(D) ->
    case transmit([reply(D)], D) of
        {ok, D1} -> {keep_state, D1};
        {error, Reason} -> lost(Reason, D)
    end.

look_timer(Ms) -> {{timeout, look}, Ms, look}.

%% What the application's own metrics are may be known only now.
look(steady, D, Timer) ->
    case dichroic_engine:again(D#d.engine) of
        same -> {keep_state, D, [Timer]};
        {ok, Refused, Engine} ->
            case taken_up(Refused, Engine, D) of
                {ok, D1} -> {keep_state, streaming(D1), [Timer]};
                {error, Reason, D1} -> lost(Reason, D1)
            end
    end;
look(_, D, Timer) -> {keep_state, D, [Timer]}.

%% In order, but not told before: nobody drained us. The last totals are said, and no answer is waited for.
terminate(shutdown, steady, D) ->
    D1 = detach(D),
    _ = case flush(D1) of
            {ok, D2} -> transmit([{goodbye, ?SHUTDOWN, 0, <<"the relay leaves">>}], D2);
            {error, _, _} -> ok
        end,
    _ = close(D1),
    dichroic_engine:discard(D#d.engine);
terminate(_, _, D) ->
    _ = close(detach(D)),
    dichroic_engine:discard(D#d.engine).

information(State, #d{engine = Engine} = D) ->
    #{state => State, epoch => D#d.epoch, attempt => D#d.attempt, attached => D#d.attached, refused => refused(D),
      generation => dichroic_engine:generation(Engine), series => dichroic_engine:live(Engine),
      flush => D#d.flush, acknowledged => D#d.ponged, last_error => D#d.last_error}.

%%% HELLO

greet(Socket, Target, #d{epoch = Epoch, attempt = Attempt} = D) ->
    Own = maps:merge(token(Target), variables(D)),
    Fields = maps:merge((dichroic_identity:hello())#{<<"epoch">> => Epoch, <<"attempt">> => Attempt}, Own),
    D1 = D#d{look_ms = ?LOOK_MIN_MS, socket = Socket, buffer = <<>>, max_frame = ?PEER_MAX_FRAME, waiting = none},
    case transmit([{hello, 1, 0, 1, Fields}], D1) of
        {ok, D2} ->
            _ = inet:setopts(Socket, [{active, once}]),
            {next_state, hello, D2, [{state_timeout, ?HELLO_MS, hello}, look_timer(0)]};
        {error, Reason} -> lost(Reason, D1)
    end.

variables(#d{variables = Variables}) when map_size(Variables) =:= 0 -> #{};
variables(#d{variables = Variables}) -> #{<<"variables">> => Variables}.

token({local, _}) -> #{};
token(_) ->
    case dichroic_socket:token() of
        {ok, Token} -> #{<<"token">> => Token};
        undefined -> #{}
    end.

%%% Reading

join(<<>>, Bytes) -> Bytes;
join(Buffer, Bytes) -> <<Buffer/binary, Bytes/binary>>.

received(State, #d{buffer = Buffer} = D) ->
    case dichroic_wire:decode(Buffer, case State of hello -> ?BEFORE_HELLO; _ -> ?MAX_FRAME end) of
        more ->
            _ = inet:setopts(D#d.socket, [{active, once}]),
            {keep_state, D};
        {ok, Frame, Rest} -> again(frame(Frame, State, D#d{buffer = Rest}));
        {error, {limit, Words}} -> violated(State, ?LIMIT, Words, D);
        {error, {malformed, Words}} -> violated(State, ?MALFORMED, Words, D);
        {error, {version, Words}} -> violated(State, ?BAD_VERSION, Words, D)
    end.

%% The next frame of the buffer is read in the state that this one led to.
again({next_state, S, #d{socket = Socket} = D, Actions}) when Socket =/= none ->
    {next_state, S, D, Actions ++ [{next_event, internal, parse}]};
again({keep_state, #d{socket = Socket} = D}) when Socket =/= none -> {keep_state, D, [{next_event, internal, parse}]};
again(Other) -> Other.

violated(drain, _, _, D) -> drained(D);
violated(_, Code, Words, D) -> goodbye(Code, Words, D).

frame({hello, _, _, 0, Fields}, hello, D) ->
    Max = case Fields of #{<<"max_frame">> := M} when is_integer(M), M >= ?BEFORE_HELLO -> min(M, ?MAX_FRAME); _ -> ?PEER_MAX_FRAME end,
    {next_state, plan, D#d{max_frame = Max}, [{state_timeout, ?HELLO_MS, hello}]};
frame({plan, Plan}, State, D) when State =:= plan; State =:= steady -> planned(Plan, State, D);
frame({ping, T}, State, D) ->
    case transmit([{pong, T}], D) of
        {ok, D1} -> {keep_state, D1};
        {error, Reason} -> closed(State, Reason, D)
    end;
frame({pong, N}, State, #d{flush = Flush} = D) when State =:= steady, N =< Flush; State =:= drain, N =< Flush ->
    acknowledged(State, D#d{ponged = max(N, D#d.ponged), waiting = waiting(N, D#d.waiting)});
frame({goodbye, Code, Retry, Words}, State, D) -> dismissed(Code, Retry, Words, State, D);
frame({unknown, _, _}, _, D) -> {keep_state, D};
frame(_, drain, D) -> {keep_state, D};
frame(Frame, State, D) ->
    goodbye(?MALFORMED, io_lib:format("~ts is not expected in state ~ts", [element(1, Frame), State]), D).

waiting(N, {Oldest, _}) when N >= Oldest -> none;
waiting(_, W) -> W.

acknowledged(drain, #d{ponged = N, flush = N} = D) -> drained(D);
acknowledged(_, D) -> {keep_state, D}.

%%% PLAN

planned(Plan, State, D) ->
    case dichroic_engine:plan(Plan, D#d.engine) of
        {error, Words} -> goodbye(?MALFORMED, Words, D);
        {ok, Refused, Engine} ->
            case {taken_up(Refused, Engine, D), State} of
                {{ok, D1}, plan} -> steady(D1);
                {{ok, D1}, steady} -> {keep_state, streaming(D1)};
                {{error, Reason, D1}, _} -> lost(Reason, D1)
            end
    end.

taken_up(Refused, Engine, D) ->
    Events = dichroic_engine:events(Engine),
    Attached = dichroic_handler_keeper:want(Events),
    dichroic_vm_poller:want(Events),
    D1 = D#d{engine = Engine, attached = Attached, refused = Refused},
    case transmit([reply(D1)], D1) of
        {ok, D2} -> {ok, D2};
        {error, Reason} -> {error, Reason, D1}
    end.

streaming(#d{engine = Engine} = D) ->
    ok = dichroic_engine:streams_on(Engine),
    D.

%% Sent for every plan, and again when what it says changes by itself: telemetry came, or went, a repository started, or ids ran out.
reply(#d{engine = Engine, attached = Attached, max_frame = Max} = D) ->
    {plan, (variables(D))#{<<"generation">> => dichroic_engine:generation(Engine), <<"attached">> => Attached,
                           <<"refused">> => dichroic_plan:fitting(refused(D), Max div 2)}}.

refused(#d{engine = Engine, refused = Refused, left_out = LeftOut}) -> dichroic_engine:untold(Engine) ++ LeftOut ++ Refused.

%%% STEADY

%% The first flush defines and sends everything, the account of rows first; only then may rows be written.
steady(#d{engine = Engine} = D) ->
    case flush(D#d{engine = dichroic_engine:reconnected(Engine), steady_since = now_ms(), retry = own}) of
        {ok, D1} ->
            dichroic_event_sender:socket({D1#d.socket, D1#d.max_frame}),
            dichroic_engine:streams_on(D1#d.engine),
            {next_state, steady, D1, [{{timeout, linger}, cancel}, flush_timer(D1)]};
        {error, Reason, D1} -> lost(Reason, D1)
    end.

flush_timer(#d{engine = Engine}) -> {{timeout, flush}, dichroic_engine:flush_ms(Engine), flush}.

flush_again(#d{waiting = {_, At}} = D) ->
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

settled(#d{steady_since = Since} = D) ->
    case now_ms() - Since > ?STEADY_MS of
        true -> D#d{failures = 0, malformed = 0};
        false -> D
    end.

flush(#d{flush = Before, ponged = Ponged, engine = Engine, waiting = Waiting} = D) ->
    N = Before + 1,
    {Frames, Engine1} = dichroic_engine:flush(N, Ponged, erlang:monotonic_time(second), D#d.max_frame, Engine),
    D1 = D#d{flush = N, engine = Engine1,
             waiting = case Waiting of none -> {N, now_ms()}; _ -> Waiting end},
    %% That ids ran out, or are there again, is said once.
    Said = [reply(D1) || (dichroic_engine:untold(Engine) =:= []) =/= (dichroic_engine:untold(Engine1) =:= [])],
    case transmit(Frames ++ Said ++ [{ping, N}], D1) of
        {ok, D2} -> {ok, D2};
        {error, Reason} -> {error, Reason, D1}
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%% Whole frames only: relays write to the same socket in between.
transmit([], D) -> {ok, D};
transmit([Frame | Frames], #d{socket = Socket} = D) ->
    case gen_tcp:send(Socket, dichroic_wire:encode(Frame)) of
        ok -> transmit(Frames, D);
        {error, Reason} -> {error, Reason}
    end.

%%% Leaving

dismissed(Code, Retry, Words, State, D0) ->
    D = D0#d{retry = retry(Code, Retry, D0), last_error = {goodbye, Code, Words},
             malformed = case Code of ?MALFORMED -> D0#d.malformed + 1; _ -> 0 end},
    After = case Code =:= ?DETACH of true -> detached; false -> backoff end,
    %% A collector that goes, or finds us slow, still reads for 2 s.
    case {State, Code} of
        {steady, C} when C =:= ?SHUTDOWN; C =:= ?SLOW -> drain(After, D);
        {steady, ?DETACH} -> drain(After, detach(D));
        {drain, _} -> {keep_state, D};
        {_, ?DETACH} -> to_detached(close(detach(D)));
        _ -> to_backoff(D)
    end.

retry(_, ?NEVER, _) -> never;
retry(?MALFORMED, _, #d{malformed = N}) when N >= 1 -> ?MALFORMED_MS;
retry(?BAD_VERSION, 0, _) -> ?VERSION_MS;
retry(_, 0, _) -> own;
retry(_, Ms, _) -> Ms.

drain(After, D) ->
    dichroic_engine:streams_off(D#d.engine),
    case flush(D#d{after_drain = After}) of
        {ok, D1} -> {next_state, drain, D1, [{state_timeout, ?DRAIN_MS, drained}]};
        {error, Reason, D1} -> drained(D1#d{last_error = Reason})
    end.

drained(#d{after_drain = After} = D) ->
    _ = transmit([{goodbye, ?SHUTDOWN, 0, <<"the relay leaves">>}], D),
    D1 = (close(D))#d{after_drain = none},
    case After of
        {stop, From} -> {next_state, detached, D1#d{retry = never}, [{reply, From, ok}]};
        detached -> to_detached(D1);
        _ -> to_backoff(D1)
    end.

closed(drain, Reason, D) -> drained(D#d{last_error = Reason});
closed(_, Reason, D) -> lost(Reason, D).

goodbye(Code, Words, D) ->
    Text = dichroic_value:cut(unicode:characters_to_binary(Words), 1024),
    _ = transmit([{goodbye, Code, 0, Text}], D),
    %% What we could not read twice running will not be better the third time.
    D1 = case Code of
             ?MALFORMED when D#d.malformed >= 1 -> D#d{retry = ?MALFORMED_MS};
             ?MALFORMED -> D#d{malformed = 1};
             ?BAD_VERSION -> D#d{retry = ?VERSION_MS};
             _ -> D
         end,
    lost({said_goodbye, Code, Text}, D1).

lost(Reason, D) -> to_backoff(D#d{last_error = Reason}).

to_backoff(#d{retry = Retry, failures = N, engine = Engine} = D) ->
    D1 = (close(D))#d{failures = min(N + 1, 16), retry = own, steady_since = none},
    Linger = case dichroic_engine:linger_s(Engine) of
                 S when S > 0, D#d.steady_since =/= none -> [{{timeout, linger}, S * 1000, linger}];
                 _ -> []
             end,
    case delay(Retry, N) of
        never -> {next_state, backoff, D1, Linger};
        Ms -> {next_state, backoff, D1, [{state_timeout, Ms, connect} | Linger]}
    end.

delay(own, N) -> rand:uniform(min(?BACKOFF_MAX_MS, ?BACKOFF_MIN_MS bsl min(N + 1, 10)));
delay(never, _) -> never;
delay(Ms, _) -> Ms.

%% DETACHED: nothing of us works in this node until we connect again, with a new epoch.
to_detached(#d{retry = Retry} = D) ->
    D1 = forget(D#d{retry = own, steady_since = none}),
    case delay(Retry, 5) of
        never -> {next_state, detached, D1};
        Ms -> {next_state, detached, D1, [{state_timeout, Ms, connect}]}
    end.

%% A new epoch: whoever sees this node again sees it begin from zero.
forget(D0) ->
    D = detach(D0),
    dichroic_engine:discard(D#d.engine),
    Static = dichroic_tables:reset(),
    D#d{engine = dichroic_engine:new(Static), epoch = Static#static.epoch, attempt = 0, flush = 0, ponged = 0}.

detach(D) ->
    0 = dichroic_handler_keeper:want([]),
    dichroic_vm_poller:want([]),
    dichroic_engine:streams_off(D#d.engine),
    D#d{attached = 0}.

close(#d{socket = none} = D) -> D;
close(#d{socket = Socket, engine = Engine} = D) ->
    dichroic_engine:streams_off(Engine),
    dichroic_event_sender:socket(none),
    _ = gen_tcp:close(Socket),
    D#d{socket = none, buffer = <<>>, waiting = none}.
