%% @doc Emits measurements of the VM to this relay's handlers.
%%
%% dichroic_connection sets the events of the plan. Events of telemetry_poller are emitted only while its default poller does not
%% run. dichroic_vm reads the measurements, dichroic_ecto and dichroic_snakepit those of pools; dichroic_message_queues scans message queues in a separate process. A reading that
%% fails is counted and skipped; a restarted poller requests its events again.
-module(dichroic_vm_poller).

-behaviour(gen_server).

-export([start_link/1, set_events/1, events/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(PERIOD_MS, 5000).

-record(state, {events = [] :: [[atom()]], states = #{} :: #{[atom()] => dichroic_vm:state()},
            queues = [] :: [[atom()]], scanner = none :: none | pid(), timer = none :: none | reference()}).

%% @doc Requests the events from the connection after this time.
-spec start_link(WaitMs :: non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_link(WaitMs) -> gen_server:start_link({local, ?MODULE}, ?MODULE, WaitMs, []).

-spec events() -> [[atom()]].
events() -> dichroic_vm:events() ++ dichroic_ecto:events() ++ dichroic_snakepit:events() ++ dichroic_message_queues:events().

%% @doc The events of the plan. Events that are not of the VM are ignored.
-spec set_events([[atom()]]) -> ok.
set_events(Events) -> gen_server:cast(?MODULE, {set_events, [E || E <- Events, lists:member(E, events())]}).

-spec init(non_neg_integer()) -> {ok, #state{}}.
init(WaitMs) ->
    _ = erlang:send_after(WaitMs, self(), ready),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok, #state{}}.
handle_call(_, _, S) -> {reply, ok, S}.

-spec handle_cast({set_events, [[atom()]]}, #state{}) -> {noreply, #state{}}.
handle_cast({set_events, All}, S) ->
    {Queues, Events} = lists:partition(fun(E) -> lists:member(E, dichroic_message_queues:events()) end, All),
    {noreply, scan_queues(Queues, set_sampled(Events, S))}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({timeout, Timer, sample}, #state{timer = Timer} = S) -> {noreply, run(S)};
handle_info(ready, S) ->
    dichroic_connection:vm_poller_ready(),
    {noreply, S};
handle_info(_, S) -> {noreply, S}.

set_sampled(Same, #state{events = Same} = S) -> S;
set_sampled(Events, #state{states = Before, timer = Timer} = S) ->
    _ = Timer =:= none orelse erlang:cancel_timer(Timer),
    maps:foreach(fun dichroic_vm:stop/2, maps:without(Events, Before)),
    States = maps:from_list([{Name, case Before of #{Name := State} -> State; _ -> dichroic_vm:start(Name) end}
                             || Name <- Events]),
    S1 = S#state{events = Events, states = States, timer = none},
    case Events of
        [] -> S1;
        _ -> run(S1)
    end.

run(#state{events = Events, states = States} = S) ->
    Poller = poller_runs(),
    States1 = lists:foldl(fun(E, Acc) -> emit(E, Poller, Acc) end, States, Events),
    S#state{states = States1, timer = erlang:start_timer(?PERIOD_MS, self(), sample)}.

emit(Event, Poller, States) ->
    case Poller andalso dichroic_vm:polled(Event) of
        true -> States;
        false -> read(Event, States)
    end.

%% An exception (erlang:memory/0 raises if allocators are disabled) affects only this reading.
read(Event, States) ->
    try sample(Event, maps:get(Event, States)) of
        {Rows, State} ->
            lists:foreach(fun({Meas, Meta}) -> dichroic_handler:handle(Event, Meas, Meta, none) end, Rows),
            States#{Event := State}
    catch _:_ ->
        dichroic_handler:failed(),
        States
    end.

sample([dichroic, ecto, pool], State) -> {dichroic_ecto:sample(), State};
sample([dichroic, snakepit, pool], State) -> dichroic_snakepit:sample(State);
sample(Event, State) -> dichroic_vm:sample(Event, State).

scan_queues(Same, #state{queues = Same} = S) -> S;
scan_queues(Queues, #state{scanner = Scanner} = S) ->
    is_pid(Scanner) andalso begin true = unlink(Scanner), exit(Scanner, kill) end,
    S#state{queues = Queues, scanner = case Queues of [] -> none; _ -> dichroic_message_queues:start_link() end}.

%% Looked up by name: asking the application controller would block while it starts an application. The supervisor of telemetry_poller
%% also runs without a default poller. A poller with another name emits the same values, and the last one is kept.
poller_runs() -> whereis(telemetry_poller_default) =/= undefined.
