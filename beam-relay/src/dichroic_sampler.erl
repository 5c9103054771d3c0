%% @doc The VM's own numbers, as the events that telemetry_poller would emit, for nodes that have no telemetry_poller.
%%
%% Runs only while a plan asks for one of its events and telemetry_poller does not; gives them straight to our own handler,
%% so that no other handler of the node sees an event twice. A new sampler is one line in samplers/0: an event, and a
%% function that returns its measurements quickly and without messages to other processes.
-module(dichroic_sampler).

-behaviour(gen_server).

-export([start_link/0, want/1, events/0, sample/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(PERIOD_MS, 5000).

samplers() ->
    [{[vm, memory], fun memory/0},
     {[vm, total_run_queue_lengths], fun run_queues/0},
     {[vm, system_counts], fun counts/0}].

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec events() -> [[atom()]].
events() -> [E || {E, _} <- samplers()].

%% @doc The events that the plan asks for, each with its slot. Others than ours are ignored.
-spec want([{[atom()], pos_integer()}]) -> ok.
want(Events) -> gen_server:cast(?MODULE, {want, [E || {Name, _} = E <- Events, lists:member(Name, events())]}).

-spec sample([atom()]) -> #{atom() => integer()}.
sample(Event) ->
    {_, Read} = lists:keyfind(Event, 1, samplers()),
    Read().

init([]) ->
    dichroic_connection:sampler_ready(),
    {ok, {[], none}}.

handle_call(_, _, S) -> {reply, ok, S}.

handle_cast({want, Same}, {Same, _} = S) -> {noreply, S};
handle_cast({want, []}, {_, Timer}) ->
    stop(Timer),
    {noreply, {[], none}};
handle_cast({want, Events}, {_, Timer}) ->
    stop(Timer),
    {noreply, {Events, run(Events)}}.

handle_info(sample, {Events, _}) when Events =/= [] -> {noreply, {Events, run(Events)}};
handle_info(_, S) -> {noreply, S}.

stop(none) -> ok;
stop(Timer) -> _ = erlang:cancel_timer(Timer), ok.

run(Events) ->
    poller_runs() orelse lists:foreach(
        fun({Event, Slot}) -> dichroic_handler:handle(Event, sample(Event), #{}, Slot) end, Events),
    erlang:send_after(?PERIOD_MS, self(), sample).

%% By name, because asking the application controller would wait for whatever it is starting.
poller_runs() -> whereis(telemetry_poller_sup) =/= undefined orelse whereis(telemetry_poller_default) =/= undefined.

memory() -> maps:from_list(erlang:memory()).

run_queues() ->
    Total = erlang:statistics(total_run_queue_lengths_all),
    Cpu = erlang:statistics(total_run_queue_lengths),
    #{total => Total, cpu => Cpu, io => max(0, Total - Cpu)}.

counts() ->
    maps:from_list([{C, erlang:system_info(C)} || C <- [process_count, process_limit, atom_count, atom_limit,
                                                        port_count, port_limit]]).
