%% @doc Keeps the relay's handlers attached.
%%
%% dichroic_connection sets the events; this process attaches and detaches handlers, handles `[telemetry, handler, failure]',
%% and checks once a second that every handler is still attached. A detached handler is attached again and counted. Without
%% telemetry it waits. If this process is killed its handlers stay attached: its successor adopts them and requests the events
%% from the connection. The configuration of the failure handler holds the epoch in which the handlers were attached; handlers
%% of another epoch are detached, because their slots may have another meaning. The handler of `logger' is kept in the same way.
-module(dichroic_handler_keeper).

-behaviour(gen_server).

-include("dichroic.hrl").

-export([start_link/1, set_events/1, available/0, epoch/0, detach_all/0, failed/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(CHECK_MS, 1000).
%% During boot, telemetry often starts shortly after the relay.
-define(EARLY_MS, 50).
-define(EARLY_CHECKS, 100).
-define(LOAD_EVERY, 10).

-record(state, {
    logs = []     :: [{[atom()], pos_integer()}],          % events of the handler of logger
    wanted = #{}  :: #{[atom()] => pos_integer()},
    attached = #{} :: #{[atom()] => pos_integer()},
    ticks = 0     :: non_neg_integer(),
    early = ?EARLY_CHECKS :: non_neg_integer(),
    epoch = none  :: none | integer()
}).

%% @doc Requests the events from the connection after this time.
-spec start_link(WaitMs :: non_neg_integer()) -> {ok, pid()} | {error, term()}.
start_link(WaitMs) -> gen_server:start_link({local, ?MODULE}, ?MODULE, WaitMs, []).

%% @doc Replaces the events, each with its slot. Returns how many are attached.
-spec set_events([{[atom()], pos_integer()}]) -> non_neg_integer().
set_events(Events) ->
    try gen_server:call(?MODULE, {set_events, maps:from_list(Events)}, 15000)
    catch exit:_ -> 0
    end.

%% @doc Whether telemetry is running.
-spec available() -> boolean().
available() ->
    erlang:function_exported(telemetry, attach, 4) andalso
        try is_list(telemetry:list_handlers([dichroic])) catch _:_ -> false end.

%% @doc The current epoch, if its tables exist.
-spec epoch() -> integer() | none.
epoch() ->
    case dichroic_tables:static() of
        #static{epoch = Epoch, series = Table} -> case ets:info(Table, id) of undefined -> none; _ -> Epoch end;
        none -> none
    end.

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
    S = adopted(epoch()),
    _ = tick(S),
    _ = erlang:send_after(WaitMs, self(), ready),
    {ok, S}.

adopted(Epoch) ->
    Attached = case handlers() of
                   #{failure := Epoch} = All when Epoch =/= none -> maps:remove(failure, All);
                   _ -> detach_events(), #{}
               end,
    Logs = dichroic_logger:installed_events(),
    Logs =:= [] andalso dichroic_logger:set_events([]),
    #state{epoch = Epoch, wanted = Attached, attached = Attached, logs = Logs}.

%% Handlers attached by this process or its predecessor: events with their slots, and `failure' with the epoch.
handlers() ->
    try maps:from_list([{E, Config} || #{id := {dichroic, E}, config := Config} <- telemetry:list_handlers([])])
    catch _:_ -> #{}
    end.

tick(#state{early = Early, attached = Attached}) when Early > 0, map_size(Attached) =:= 0 ->
    erlang:send_after(?EARLY_MS, self(), tick);
tick(_) -> erlang:send_after(?CHECK_MS, self(), tick).

-spec handle_call({set_events, #{[atom()] => pos_integer()}}, gen_server:from(), #state{}) -> {reply, non_neg_integer(), #state{}}.
handle_call({set_events, All}, _From, Before) ->
    {Answer, S} = replace_events(All, in_epoch(epoch(), Before)),
    {reply, Answer, S}.

replace_events(All, #state{attached = Attached, logs = Before} = S0) ->
    %% Events that the relay emits itself need no handler of telemetry.
    Own = maps:with(dichroic_vm_poller:events(), All),
    Logs = maps:with(dichroic_logger:events(), All),
    S = S0#state{logs = maps:to_list(Logs)},
    (S#state.logs =:= [] andalso Before =:= []) orelse dichroic_logger:set_events(S#state.logs),
    Sampled = [E || E <- maps:keys(Own), hd(E) =:= dichroic],
    Wanted = maps:without(Sampled ++ maps:keys(Logs), All),
    Off = maps:filter(fun(E, Slot) -> maps:get(E, Wanted, none) =/= Slot end, Attached),
    _ = [detach({dichroic, E}) || E <- maps:keys(Off)],
    map_size(Wanted) =:= 0 andalso detach({dichroic, failure}),
    S1 = attach_missing(S#state{wanted = Wanted, attached = maps:without(maps:keys(Off), Attached)}),
    {map_size(S1#state.attached) + length(Sampled) + map_size(Logs), S1}.

%% The connection may have started a new epoch while this process was not running.
in_epoch(Epoch, #state{epoch = Epoch} = S) -> S;
in_epoch(Epoch, #state{attached = Attached, logs = Logs} = S) ->
    map_size(Attached) > 0 andalso detach_events(),
    Logs =:= [] orelse dichroic_logger:set_events([]),
    S#state{epoch = Epoch, wanted = #{}, attached = #{}, logs = []}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_, S) -> {noreply, S}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(tick, S) -> {noreply, ticked(in_epoch(epoch(), S))};
handle_info(check, S) -> {noreply, check(S)};
handle_info(ready, S) ->
    dichroic_connection:handler_keeper_ready(),
    {noreply, S};
handle_info(_, S) -> {noreply, S}.

ticked(#state{ticks = N, early = Early, logs = Logs} = S) ->
    (Logs =:= [] orelse dichroic_logger:installed()) orelse begin dichroic_logger:set_events(Logs), count(1) end,
    _ = erlang:function_exported(telemetry, attach, 4) orelse load(N),
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
check(#state{attached = Before} = S) ->
    case ours() of
        unavailable -> report_count(Before, S#state{attached = #{}});
        Present ->
            Kept = maps:filter(fun(E, _) -> lists:member(E, Present) end, Before),
            S1 = attach_missing(S#state{attached = Kept}),
            Reattached = maps:size(maps:with(maps:keys(maps:without(maps:keys(Kept), Before)), S1#state.attached)),
            Reattached > 0 andalso count(Reattached),
            report_count(Before, S1)
    end.

report_count(Before, #state{attached = After} = S) ->
    map_size(Before) =/= map_size(After) andalso dichroic_connection:attached(map_size(After)),
    S.

count(N) ->
    case dichroic_tables:static() of
        #static{acct = Acct} -> atomics:add(Acct, ?ACCT_REATTACHED, N);
        none -> ok
    end.

attach_missing(#state{wanted = Wanted, attached = Attached, epoch = Epoch} = S) ->
    case map_size(Wanted) > 0 andalso available() of
        true ->
            _ = attach({dichroic, failure}, [telemetry, handler, failure], fun ?MODULE:failed/4, Epoch),
            New = maps:filter(
                fun(E, Slot) -> attach({dichroic, E}, E, fun dichroic_handler:handle/4, Slot) =:= ok end,
                maps:without(maps:keys(Attached), Wanted)),
            S#state{attached = maps:merge(Attached, New)};
        false -> S
    end.

%% The events with a handler of the relay.
ours() ->
    try [E || #{id := {dichroic, E}} <- telemetry:list_handlers([])]
    catch _:_ -> unavailable
    end.

%% A handler with our id that this process did not attach is from an earlier epoch: its slot may have another meaning.
attach({dichroic, failure} = Id, Event, Fun, Config) -> call(attach, [Id, Event, Fun, Config]);
attach(Id, Event, Fun, Config) ->
    case call(attach, [Id, Event, Fun, Config]) of
        {error, already_exists} ->
            detach(Id),
            call(attach, [Id, Event, Fun, Config]);
        Answer -> Answer
    end.

detach(Id) -> _ = call(detach, [Id]), ok.

call(Function, Args) ->
    try apply(telemetry, Function, Args) catch _:_ -> {error, unavailable} end.

%% @doc Removes all handlers of the relay from telemetry and logger.
-spec detach_all() -> ok.
detach_all() ->
    dichroic_logger:set_events([]),
    detach_events().

detach_events() ->
    case ours() of
        unavailable -> ok;
        Events -> lists:foreach(fun(E) -> detach({dichroic, E}) end, lists:usort(Events)), detach({dichroic, failure})
    end.
