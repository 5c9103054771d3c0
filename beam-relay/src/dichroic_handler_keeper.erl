%% @doc Keeps the relay's handlers attached.
%%
%% dichroic_connection sets the events; this process attaches and detaches handlers, handles `[telemetry, handler, failure]',
%% and checks once a second that every handler is still attached. A detached handler is attached again and counted. Without
%% telemetry it waits. The handler of `logger' is kept in the same way.
%%
%% All events of a plan are attached as one handler, and detached as one: after `telemetry:persist()' every change makes the VM
%% visit all its processes. Events that a later plan adds are another handler. An event that is no longer in the plan has no
%% program, and stays attached without effect until its whole handler is unused. A handler finds its program by the name of the
%% event, so the handlers of a killed process remain valid: its successor adopts them and requests the events from the connection.
-module(dichroic_handler_keeper).

-behaviour(gen_server).

-include("dichroic.hrl").

-export([start_link/1, set_events/1, available/0, detach_all/0, failed/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(CHECK_MS, 1000).
%% During boot, telemetry often starts shortly after the relay.
-define(EARLY_MS, 50).
-define(EARLY_CHECKS, 100).
-define(LOAD_EVERY, 10).

%% The id of a handler is {dichroic, Number}.
-record(state, {
    logs = []     :: [[atom()]],                           % events of the handler of logger
    wanted = #{}  :: #{[atom()] => true},
    attached = #{} :: #{[atom()] => Number :: pos_integer()},
    ticks = 0     :: non_neg_integer(),
    early = ?EARLY_CHECKS :: non_neg_integer()
}).

%% @doc Requests the events from the connection after this time.
-spec start_link(WaitMs :: non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_link(WaitMs) -> gen_server:start_link({local, ?MODULE}, ?MODULE, WaitMs, []).

%% @doc Replaces the events. Returns how many are attached.
-spec set_events([[atom()]]) -> non_neg_integer().
set_events(Events) ->
    try gen_server:call(?MODULE, {set_events, Events}, 15000)
    catch exit:_ -> 0
    end.

%% @doc Whether telemetry is running.
-spec available() -> boolean().
available() ->
    erlang:function_exported(telemetry, attach_many, 4) andalso
        try is_list(telemetry:list_handlers([dichroic])) catch _:_ -> false end.

%% @doc Handler of `[telemetry, handler, failure]', called in the process whose handler failed.
-spec failed(term(), term(), term(), term()) -> ok.
failed(_, _, #{handler_id := {dichroic, _}}, _) ->
    try
        atomics:add((persistent_term:get(?STATIC))#static.acct, ?ACCT_FAILURES, 1),
        ?MODULE ! check,
        ok
    catch _:_ -> ok
    end;
failed(_, _, _, _) -> ok.

-spec init(non_neg_integer()) -> {ok, #state{}}.
init(WaitMs) ->
    _ = process_flag(trap_exit, true),
    _ = code:ensure_loaded(telemetry),
    S = adopted(),
    _ = tick(S),
    _ = erlang:send_after(WaitMs, self(), ready),
    {ok, S}.

adopted() ->
    Attached = case ours() of unavailable -> #{}; Ours -> Ours end,
    Logs = dichroic_logger:installed_events(),
    #state{wanted = maps:map(fun(_, _) -> true end, Attached), attached = Attached, logs = Logs}.

tick(#state{early = Early, attached = Attached}) when Early > 0, map_size(Attached) =:= 0 ->
    erlang:send_after(?EARLY_MS, self(), tick);
tick(_) -> erlang:send_after(?CHECK_MS, self(), tick).

-spec handle_call({set_events, [[atom()]]}, gen_server:from(), #state{}) -> {reply, non_neg_integer(), #state{}}.
handle_call({set_events, All}, _From, #state{logs = Before} = S0) ->
    %% Events that the relay emits itself need no handler of telemetry.
    Logs = [E || E <- All, lists:member(E, dichroic_logger:events())],
    Sampled = [E || E <- All, lists:member(E, dichroic_vm_poller:events()), hd(E) =:= dichroic],
    (Logs =:= [] andalso Before =:= []) orelse dichroic_logger:set_events(Logs),
    S = attach_missing(detach_unused(S0#state{logs = Logs, wanted = maps:from_keys((All -- Logs) -- Sampled, true)})),
    {reply, count_attached(S) + length(Sampled) + length(Logs), S}.

%% Attached events that are still in the plan.
count_attached(#state{wanted = Wanted, attached = Attached}) -> map_size(maps:with(maps:keys(Wanted), Attached)).

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, S) -> {noreply, S}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(tick, S) -> {noreply, ticked(S)};
handle_info(check, S) -> {noreply, check(S)};
handle_info(ready, S) ->
    dichroic_connection:handler_keeper_ready(),
    {noreply, S};
handle_info(_, S) -> {noreply, S}.

ticked(#state{ticks = N, early = Early, logs = Logs} = S) ->
    (Logs =:= [] orelse dichroic_logger:installed()) orelse begin dichroic_logger:set_events(Logs), count(1) end,
    _ = erlang:function_exported(telemetry, attach_many, 4) orelse load(N),
    S1 = check(S#state{ticks = N + 1, early = max(0, Early - 1)}),
    _ = tick(S1),
    S1.

%% In interactive mode telemetry may not be loaded yet. Looking up a missing module searches the whole code path, so it is done
%% rarely, unless the process of telemetry already exists.
load(N) ->
    (N rem ?LOAD_EVERY =:= 0 orelse whereis(telemetry_handler_table) =/= undefined) andalso code:ensure_loaded(telemetry).

-spec terminate(term(), #state{}) -> ok.
terminate(_, _) -> detach_all().

check(#state{wanted = Wanted} = S) when map_size(Wanted) =:= 0 -> S;
check(#state{attached = Before, wanted = Wanted} = S) ->
    case ours() of
        unavailable -> report_count(S, S#state{attached = #{}});
        Present ->
            S1 = attach_missing(S#state{attached = Present}),
            Lost = maps:without(maps:keys(Present), maps:with(maps:keys(Wanted), Before)),
            Reattached = map_size(maps:with(maps:keys(Lost), S1#state.attached)),
            Reattached > 0 andalso count(Reattached),
            report_count(S, S1)
    end.

report_count(Before, After) ->
    N = count_attached(After),
    N =/= count_attached(Before) andalso dichroic_connection:attached(N),
    After.

count(N) ->
    case dichroic_tables:static() of
        #static{acct = Acct} -> atomics:add(Acct, ?ACCT_REATTACHED, N);
        none -> ok
    end.

attach_missing(#state{wanted = Wanted, attached = Attached} = S) ->
    case map_size(Wanted) > 0 andalso available() of
        true ->
            _ = call(attach, [{dichroic, failure}, [telemetry, handler, failure], fun ?MODULE:failed/4, none]),
            S#state{attached = attach(maps:keys(maps:without(maps:keys(Attached), Wanted)), Attached)};
        false -> S
    end.

attach([], Attached) -> Attached;
attach(Events, Attached) ->
    Number = lists:max([0 | maps:values(Attached)]) + 1,
    case call(attach_many, [{dichroic, Number}, Events, fun dichroic_handler:handle/4, none]) of
        ok -> maps:merge(Attached, maps:from_keys(Events, Number));
        _ -> Attached
    end.

%% Handlers without an event of the plan.
detach_unused(#state{wanted = Wanted, attached = Attached} = S) ->
    Used = maps:values(maps:with(maps:keys(Wanted), Attached)),
    Unused = lists:usort(maps:values(Attached)) -- Used,
    lists:foreach(fun(Number) -> detach({dichroic, Number}) end, Unused),
    map_size(Wanted) =:= 0 andalso map_size(Attached) > 0 andalso detach({dichroic, failure}),
    S#state{attached = maps:filter(fun(_, Number) -> not lists:member(Number, Unused) end, Attached)}.

%% The events with a handler of the relay.
ours() ->
    try maps:from_list([{E, Number} || #{id := {dichroic, Number}, event_name := E} <- telemetry:list_handlers([]), is_integer(Number)])
    catch _:_ -> unavailable
    end.

detach(Id) -> _ = call(detach, [Id]), ok.

call(Function, Args) ->
    try apply(telemetry, Function, Args) catch _:_ -> {error, unavailable} end.

%% @doc Removes all handlers of the relay from telemetry and logger.
-spec detach_all() -> ok.
detach_all() ->
    dichroic_logger:set_events([]),
    Handlers = try telemetry:list_handlers([]) catch _:_ -> [] end,
    lists:foreach(fun detach/1, lists:usort([Id || #{id := {dichroic, _} = Id} <- Handlers])).
