%% @doc Keeps the handlers attached, whatever happens to them.
%%
%% The connection says which events are wanted; this process attaches and detaches, listens to `[telemetry, handler,
%% failure]', and looks once a second whether everything is still there. What somebody detached it attaches again and
%% counts. Without telemetry it waits for it. If this process dies handlers stay as they are: its successor takes them over
%% and asks the connection. They are known to count in this epoch by the configuration of the one that listens to failures; others
%% are detached, because their slots may mean something else now. The handler of `logger' is kept in the same way.
-module(dichroic_handler_keeper).

-behaviour(gen_server).

-include("dichroic.hrl").

-export([start_link/1, want/1, available/0, epoch/0, detach_all/0, failed/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(LOOK_MS, 1000).
%% While an application boots, telemetry is often a moment behind us.
-define(EARLY_MS, 50).
-define(EARLY_LOOKS, 100).
-define(LOAD_EVERY, 10).

-record(j, {logs = [] :: [{[atom()], pos_integer()}], wanted = #{} :: #{[atom()] => pos_integer()}, attached = #{} :: #{[atom()] => pos_integer()}, ticks = 0,
            early = ?EARLY_LOOKS :: non_neg_integer(), epoch = none :: none | integer()}).

%% @doc Asks the connection after so many milliseconds.
start_link(WaitMs) -> gen_server:start_link({local, ?MODULE}, ?MODULE, WaitMs, []).

%% @doc From now on exactly these events, each with its slot. The answer is how many are attached.
-spec want([{[atom()], pos_integer()}]) -> non_neg_integer().
want(Events) ->
    try gen_server:call(?MODULE, {want, maps:from_list(Events)}, 15000)
    catch exit:_ -> 0
    end.

%% @doc Is telemetry there and running?
-spec available() -> boolean().
available() ->
    erlang:function_exported(telemetry, attach, 4) andalso
        try is_list(telemetry:list_handlers([dichroic])) catch _:_ -> false end.

%% @doc The epoch in which handlers count now, if there is one.
-spec epoch() -> integer() | none.
epoch() ->
    case dichroic_tables:static() of
        #static{epoch = Epoch, series = Table} -> case ets:info(Table, id) of undefined -> none; _ -> Epoch end;
        none -> none
    end.

%% @doc Handler of `[telemetry, handler, failure]'; runs in the process whose handler failed.
-spec failed(term(), term(), term(), term()) -> ok.
failed(_, _, #{handler_id := {dichroic, _}}, _) ->
    try
        atomics:add((persistent_term:get(?STATIC))#static.acct, ?ACCT_FAILURES, 1),
        ?MODULE ! look,
        ok
    catch _:_ -> ok
    end;
failed(_, _, _, _) -> ok.

init(WaitMs) ->
    _ = process_flag(trap_exit, true),
    _ = code:ensure_loaded(telemetry),
    J = taken_over(epoch()),
    _ = tick(J),
    _ = erlang:send_after(WaitMs, self(), ready),
    {ok, J}.

taken_over(Epoch) ->
    Attached = case handlers() of
                   #{failure := Epoch} = All when Epoch =/= none -> maps:remove(failure, All);
                   _ -> detach_events(), #{}
               end,
    Logs = dichroic_logger:wanted(),
    Logs =:= [] andalso dichroic_logger:want([]),
    #j{epoch = Epoch, wanted = Attached, attached = Attached, logs = Logs}.

%% What we, or who was before us, have attached: events with their slots, and `failure' with the epoch.
handlers() ->
    try maps:from_list([{E, Config} || #{id := {dichroic, E}, config := Config} <- telemetry:list_handlers([])])
    catch _:_ -> #{}
    end.

tick(#j{early = Early, attached = Attached}) when Early > 0, map_size(Attached) =:= 0 ->
    erlang:send_after(?EARLY_MS, self(), tick);
tick(_) -> erlang:send_after(?LOOK_MS, self(), tick).

handle_call({want, All}, _From, Before) ->
    {Answer, J} = wanted(All, of_epoch(epoch(), Before)),
    {reply, Answer, J}.

wanted(All, #j{attached = Attached, logs = Before} = J0) ->
    %% Of these the relay itself is the source, and no handler of telemetry.
    Own = maps:with(dichroic_vm_poller:events(), All),
    Logs = maps:with(dichroic_logger:events(), All),
    J = J0#j{logs = maps:to_list(Logs)},
    (J#j.logs =:= [] andalso Before =:= []) orelse dichroic_logger:want(J#j.logs),
    Sampled = [E || E <- maps:keys(Own), hd(E) =:= dichroic],
    Wanted = maps:without(Sampled ++ maps:keys(Logs), All),
    Off = maps:filter(fun(E, Slot) -> maps:get(E, Wanted, none) =/= Slot end, Attached),
    _ = [detach({dichroic, E}) || E <- maps:keys(Off)],
    map_size(Wanted) =:= 0 andalso detach({dichroic, failure}),
    J1 = attach_missing(J#j{wanted = Wanted, attached = maps:without(maps:keys(Off), Attached)}),
    {map_size(J1#j.attached) + length(Sampled) + map_size(Logs), J1}.

%% A connection that began a new epoch while this process was not there could not tell.
of_epoch(Epoch, #j{epoch = Epoch} = J) -> J;
of_epoch(Epoch, #j{attached = Attached, logs = Logs} = J) ->
    map_size(Attached) > 0 andalso detach_events(),
    Logs =:= [] orelse dichroic_logger:want([]),
    J#j{epoch = Epoch, wanted = #{}, attached = #{}, logs = []}.

handle_cast(_, J) -> {noreply, J}.

handle_info(tick, J) -> {noreply, ticked(of_epoch(epoch(), J))};
handle_info(look, J) -> {noreply, look(J)};
handle_info(ready, J) ->
    dichroic_connection:janitor_ready(),
    {noreply, J};
handle_info(_, J) -> {noreply, J}.

ticked(#j{ticks = N, early = Early, logs = Logs} = J) ->
    (Logs =:= [] orelse dichroic_logger:installed()) orelse begin dichroic_logger:want(Logs), count(1) end,
    _ = erlang:function_exported(telemetry, attach, 4) orelse load(N),
    J1 = look(J#j{ticks = N + 1, early = max(0, Early - 1)}),
    _ = tick(J1),
    J1.

%% Where code is loaded when it is first called, nothing may have called telemetry yet. Looking for a module that is not
%% there costs a walk over the code path, so it is done rarely, unless its process is already to be seen.
load(N) ->
    (N rem ?LOAD_EVERY =:= 0 orelse whereis(telemetry_handler_table) =/= undefined) andalso code:ensure_loaded(telemetry).

terminate(_, _) -> detach_all().

look(#j{wanted = Wanted} = J) when map_size(Wanted) =:= 0 -> J;
look(#j{attached = Before} = J) ->
    case ours() of
        unavailable -> told(Before, J#j{attached = #{}});
        Present ->
            Kept = maps:filter(fun(E, _) -> lists:member(E, Present) end, Before),
            J1 = attach_missing(J#j{attached = Kept}),
            Again = maps:size(maps:with(maps:keys(maps:without(maps:keys(Kept), Before)), J1#j.attached)),
            Again > 0 andalso count(Again),
            told(Before, J1)
    end.

told(Before, #j{attached = After} = J) ->
    map_size(Before) =/= map_size(After) andalso dichroic_connection:attached(map_size(After)),
    J.

count(N) ->
    case dichroic_tables:static() of
        #static{acct = Acct} -> atomics:add(Acct, ?ACCT_REATTACHED, N);
        none -> ok
    end.

attach_missing(#j{wanted = Wanted, attached = Attached, epoch = Epoch} = J) ->
    case map_size(Wanted) > 0 andalso available() of
        true ->
            _ = attach({dichroic, failure}, [telemetry, handler, failure], fun ?MODULE:failed/4, Epoch),
            New = maps:filter(
                fun(E, Slot) -> attach({dichroic, E}, E, fun dichroic_handler:handle/4, Slot) =:= ok end,
                maps:without(maps:keys(Attached), Wanted)),
            J#j{attached = maps:merge(Attached, New)};
        false -> J
    end.

%% The events that our handlers are attached to.
ours() ->
    try [E || #{id := {dichroic, E}} <- telemetry:list_handlers([])]
    catch _:_ -> unavailable
    end.

%% A handler under our name that is not in our books is of an earlier life: its slot may mean something else now.
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

%% @doc Nothing of ours stays attached, to telemetry or to logger.
-spec detach_all() -> ok.
detach_all() ->
    dichroic_logger:want([]),
    detach_events().

detach_events() ->
    case ours() of
        unavailable -> ok;
        Events -> lists:foreach(fun(E) -> detach({dichroic, E}) end, lists:usort(Events)), detach({dichroic, failure})
    end.
