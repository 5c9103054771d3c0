%% @doc Emits the VM's own numbers where nothing else does, to this relay's handlers only.
%%
%% The connection says which events the plan has; what telemetry_poller emits is emitted only while it does not run.
%% dichroic_vm says what is read, dichroic_message_queues looks at queues of messages in a process of its own.
-module(dichroic_vm_poller).

-behaviour(gen_server).

-export([start_link/1, want/1, events/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(PERIOD_MS, 5000).

-record(s, {events = [] :: [{[atom()], pos_integer()}], states = #{} :: #{[atom()] => dichroic_vm:state()},
            boxes = [] :: [{[atom()], pos_integer()}], walker = none :: none | pid(), timer = none :: none | reference()}).

%% @doc Asks for its work after so many milliseconds.
start_link(WaitMs) -> gen_server:start_link({local, ?MODULE}, ?MODULE, WaitMs, []).

-spec events() -> [[atom()]].
events() -> dichroic_vm:events() ++ dichroic_message_queues:events().

%% @doc The events that the plan asks for, each with its slot. Others than ours are ignored.
-spec want([{[atom()], pos_integer()}]) -> ok.
want(Events) -> gen_server:cast(?MODULE, {want, [E || {Name, _} = E <- Events, lists:member(Name, events())]}).

init(WaitMs) ->
    _ = erlang:send_after(WaitMs, self(), ready),
    {ok, #s{}}.

handle_call(_, _, S) -> {reply, ok, S}.

handle_cast({want, All}, S) ->
    {Boxes, Events} = lists:partition(fun({Name, _}) -> lists:member(Name, dichroic_message_queues:events()) end, All),
    {noreply, walk(Boxes, sampled(Events, S))}.

handle_info({timeout, Timer, sample}, #s{timer = Timer} = S) -> {noreply, run(S)};
handle_info(ready, S) ->
    dichroic_connection:sampler_ready(),
    {noreply, S};
handle_info(_, S) -> {noreply, S}.

sampled(Same, #s{events = Same} = S) -> S;
sampled(Events, #s{states = Before, timer = Timer} = S) ->
    _ = Timer =:= none orelse erlang:cancel_timer(Timer),
    Names = [Name || {Name, _} <- Events],
    maps:foreach(fun dichroic_vm:end_with/2, maps:without(Names, Before)),
    States = maps:from_list([{Name, case Before of #{Name := State} -> State; _ -> dichroic_vm:begin_with(Name) end}
                             || Name <- Names]),
    S1 = S#s{events = Events, states = States, timer = none},
    case Events of
        [] -> S1;
        _ -> run(S1)
    end.

run(#s{events = Events, states = States} = S) ->
    Poller = poller_runs(),
    States1 = lists:foldl(fun(E, Acc) -> emit(E, Poller, Acc) end, States, Events),
    S#s{states = States1, timer = erlang:start_timer(?PERIOD_MS, self(), sample)}.

emit({Event, Slot}, Poller, States) ->
    case Poller andalso dichroic_vm:polled(Event) of
        true -> States;
        false -> read(Event, Slot, States)
    end.

%% What one reading raises (a VM without allocators has no memory to tell) costs that reading alone.
read(Event, Slot, States) ->
    try dichroic_vm:sample(Event, maps:get(Event, States)) of
        {Rows, State} ->
            lists:foreach(fun({Meas, Meta}) -> dichroic_handler:handle(Event, Meas, Meta, Slot) end, Rows),
            States#{Event := State}
    catch _:_ ->
        dichroic_handler:failed(),
        States
    end.

walk(Same, #s{boxes = Same} = S) -> S;
walk(Boxes, #s{walker = Walker} = S) ->
    is_pid(Walker) andalso begin true = unlink(Walker), exit(Walker, kill) end,
    S#s{boxes = Boxes, walker = case Boxes of [] -> none; _ -> dichroic_message_queues:start_link(Boxes) end}.

%% By name, because asking the application controller would wait for whatever it is starting. Its supervisor is there without a
%% default poller too. One that was given another name tells the same numbers beside us, and the last one holds.
poller_runs() -> whereis(telemetry_poller_default) =/= undefined.
