%% @doc Runs the relay in a node that does not have it, and removes it completely.
%%
%% Loaded and called by a collector that connects over Erlang distribution as a hidden node. start/1 spawns one process, the
%% keeper, registered under this module's name. It owns the relay's supervisor and monitors its guardian, the node that attached
%% it. It detaches on `{detach, Pid, Tag}', when the relay exits, and when the guardian has been disconnected for 30 s and no
%% other node has taken over. Detaching sends the last totals, removes handlers, processes, tables, persistent terms and
%% environment, and unloads every module given to start/1, this one last. Code that a process of the application still runs is
%% never purged. If the keeper is killed, a second process, the warden, detaches in its place.
%%
%% The caller of start/1 gives the collector's destination: a path, or an address with a token. The token is kept in a fun, only
%% in the environment and only until the relay detaches, so that no printed state, message or environment shows it.
-module(dichroic_attach).

-export([start/1, redirect/1, info/0]).
-export_type([options/0]).

-define(LINGER_MS, 30000).
-define(STOP_MS, 15000).
-define(PURGE_TRIES, 100).
-define(PURGE_MS, 50).
-define(REPLY_MS, 20000).
%% Modules of OTP that the relay calls. A node in interactive mode may have loaded them only for the relay.
-define(OTP, [gen_statem, rand, uri_string, string, unicode_util, local_tcp, local_udp, inet_tcp, gen_tcp, sys, calendar,
              timer, ordsets, io_lib_pretty, inet6_tcp, inet_parse]).

%% The token is still in plain text here.
-type destination() :: string() | {tcp, inet:ip_address(), inet:port_number(), binary()}.
-type options() :: #{guardian := node(), socket := destination(), modules := [module()], vsn := binary()}.

-record(state, {guardian :: node() | none, socket :: string(), modules :: [module()], loaded :: [module()],
            since :: integer(), relay :: pid(), linger = none :: none | reference()}).

%% @doc Starts the relay, or replaces its guardian if it already runs with the same socket and modules. Changes nothing if the
%% application itself runs the relay.
-spec start(options()) -> {ok, started | adopted} | {error, installed | {unloaded, [module()]} | term()}.
start(#{guardian := Guardian, socket := Option} = Options) ->
    Destination = hide_token(Option),
    case whereis(?MODULE) of
        undefined -> start_keeper(Options#{socket := Destination});
        Keeper -> request(Keeper, {adopt, Guardian, Destination, maps:get(modules, Options)})
    end.

%% @doc Makes the relay connect to another listener of the same collector.
-spec redirect(#{socket := destination()}) -> ok | {error, term()}.
redirect(#{socket := Option}) ->
    Destination = hide_token(Option),
    case whereis(?MODULE) of
        undefined -> {error, not_attached};
        Keeper -> request(Keeper, {redirect, Destination})
    end.

-spec hide_token(destination()) -> dichroic_socket:destination().
hide_token({tcp, Address, Port, Token}) -> {tcp, Address, Port, fun() -> Token end};
hide_token(Path) -> Path.

name({tcp, Address, Port, _}) when tuple_size(Address) =:= 8 -> "tcp://[" ++ inet:ntoa(Address) ++ "]:" ++ integer_to_list(Port);
name({tcp, Address, Port, _}) -> "tcp://" ++ inet:ntoa(Address) ++ ":" ++ integer_to_list(Port);
name(Path) -> Path.

start_keeper(Options) ->
    Self = self(),
    Tag = make_ref(),
    {Keeper, Monitor} = spawn_monitor(fun() -> keep(Self, Tag, Options) end),
    await_reply(Keeper, Monitor, Tag).

%% @doc Guardian, socket and modules of the attached relay, and its state.
-spec info() -> #{atom() => term()} | {error, term()}.
info() ->
    case whereis(?MODULE) of
        undefined -> {error, not_attached};
        Keeper ->
            case request(Keeper, info) of
                #{} = Info -> Info#{relay => dichroic_connection:info()};
                Error -> Error
            end
    end.

request(Keeper, Request) ->
    Tag = make_ref(),
    Monitor = monitor(process, Keeper),
    Keeper ! {Request, self(), Tag},
    await_reply(Keeper, Monitor, Tag).

await_reply(Keeper, Monitor, Tag) ->
    receive
        {Tag, Reply} ->
            _ = demonitor(Monitor, [flush]),
            Reply;
        {'DOWN', Monitor, process, Keeper, Reason} -> {error, Reason}
    after ?REPLY_MS ->
        _ = demonitor(Monitor, [flush]),
        {error, timeout}
    end.

%%% The keeper

keep(Starter, Tag, #{modules := Modules} = Options) ->
    true = register(?MODULE, self()),
    _ = process_flag(trap_exit, true),
    end_unload_guard(),
    case [M || M <- Modules, not erlang:module_loaded(M)] of
        [] -> keep_loaded(Starter, Tag, Options);
        Gone -> Starter ! {Tag, {error, {unloaded, Gone}}}
    end.

%% Ends the unload guard of an earlier relay first, because it would unload the modules that are needed now. Modules that it has
%% already unloaded are reported as `unloaded'.
end_unload_guard() ->
    case whereis(dichroic_unload_guard) of
        undefined -> ok;
        Pid ->
            Monitor = monitor(process, Pid),
            exit(Pid, kill),
            receive {'DOWN', Monitor, process, _, _} -> ok end
    end.

keep_loaded(Starter, Tag, #{guardian := Guardian, socket := Destination, modules := Modules} = Options) ->
    Loaded = [M || {M, _} <- code:all_loaded()],
    case start_relay(Options) of
        {ok, Relay} ->
            S = #state{guardian = Guardian, socket = name(Destination), modules = Modules, loaded = Loaded, relay = Relay,
                   since = erlang:system_time(second)},
            Keeper = self(),
            _ = spawn(fun() -> watch_keeper(Keeper, S) end),
            Starter ! {Tag, {ok, started}},
            guarded(Guardian, S);
        {error, Why} ->
            Starter ! {Tag, {error, Why}},
            %% An abnormal exit, because the warden of an earlier keeper must still detach.
            exit({not_started, Why})
    end.

start_relay(Options) ->
    case whereis(dichroic_sup) of
        undefined -> start_in(Options, [{Key, application:get_env(dichroic, Key)} || Key <- [mode, socket, vsn]]);
        _ -> {error, already_started()}
    end.

%% The relay reads its environment when it starts. If the application's own relay started first, its environment is restored.
start_in(#{socket := Destination, vsn := Vsn}, Before) ->
    ok = application:set_env(dichroic, mode, attached),
    set_destination(Destination),
    ok = application:set_env(dichroic, vsn, Vsn),
    case dichroic_sup:start_link() of
        {ok, Relay} -> {ok, Relay};
        {error, Why} ->
            _ = [case Value of {ok, V} -> application:set_env(dichroic, Key, V); undefined -> application:unset_env(dichroic, Key) end
                 || {Key, Value} <- Before],
            {error, case Why of {already_started, _} -> already_started(); _ -> Why end}
    end.

%% A running relay is either the one of the application, or an attached one that still detaches.
already_started() ->
    case application:get_env(dichroic, mode) of
        {ok, attached} -> detaching;
        _ -> installed
    end.

%% Registers the keeper's name first, so that no relay can be attached while this one detaches.
watch_keeper(Keeper, S) ->
    Monitor = monitor(process, Keeper),
    receive {'DOWN', Monitor, process, _, normal} -> ok;
            {'DOWN', Monitor, process, _, _} ->
                try register(?MODULE, self()) of
                    true -> detach(S, none)
                catch error:badarg ->
                    case whereis(?MODULE) of
                        undefined -> watch_keeper(Keeper, S);
                        Next -> watch_keeper(Next, S)
                    end
                end
    end.

set_destination(Destination) -> ok = application:set_env(dichroic, socket, {attached, Destination}).

%% A monitor of a disconnected node would try to connect to it.
guarded(Guardian, S) ->
    _ = case lists:member(Guardian, nodes(hidden)) of
            true -> monitor_node(Guardian, true);
            false -> self() ! {nodedown, Guardian}
        end,
    loop(S#state{guardian = Guardian}).

loop(#state{guardian = Guardian, relay = Relay, linger = Linger} = S) ->
    receive
        {nodedown, Guardian} when Guardian =/= none ->
            loop(S#state{guardian = none, linger = erlang:start_timer(?LINGER_MS, self(), linger)});
        {timeout, Linger, linger} -> detach(S, none);
        {{adopt, Next, Destination, Modules}, From, Tag} ->
            case Guardian =:= none andalso Modules =:= S#state.modules andalso name(Destination) =:= S#state.socket of
                true ->
                    %% The token may have changed.
                    set_destination(Destination),
                    From ! {Tag, {ok, adopted}},
                    guarded(Next, stop_timer(S));
                false ->
                    From ! {Tag, {error, {attached, Guardian, S#state.socket}}},
                    loop(S)
            end;
        {{redirect, Destination}, From, Tag} ->
            set_destination(Destination),
            dichroic_connection:reconnect(),
            From ! {Tag, ok},
            loop(S#state{socket = name(Destination)});
        {info, From, Tag} ->
            From ! {Tag, info(S)},
            loop(S);
        {detach, From, Tag} -> detach(S, {From, Tag});
        {'EXIT', Relay, _} -> detach(S, none);
        _ -> loop(S)
    end.

stop_timer(#state{linger = none} = S) -> S;
stop_timer(#state{linger = Timer} = S) ->
    _ = erlang:cancel_timer(Timer),
    S#state{linger = none}.

info(#state{guardian = Guardian, socket = Socket, since = Since, modules = Modules}) ->
    #{guardian => Guardian, socket => Socket, since => Since,
      modules => [{M, erlang:get_module_info(M, md5)} || M <- Modules, erlang:module_loaded(M)]}.

%%% Detaching

-spec detach(#state{}, none | {pid(), term()}) -> term().
detach(#state{modules = Modules, loaded = Loaded} = S, Caller) ->
    stop_relay(S#state.relay),
    detach_all(),
    _ = logger:remove_handler(dichroic),
    Callers = dichroic_unload_guard:wait_for_callers(),
    _ = [persistent_term:erase(Key) || Key <- terms()],
    _ = [application:unset_env(dichroic, Key) || Key <- [mode, socket, vsn]],
    Tries = case Callers of [] -> ?PURGE_TRIES; _ -> 1 end,
    Kept = unload_entry_modules(Callers, unload(Modules -- [?MODULE | dichroic_unload_guard:entry_modules()], Tries)),
    %% Modules of OTP are harmless, so those that a process may be running are kept.
    Extra = [M || M <- ?OTP, not lists:member(M, Loaded), erlang:module_loaded(M)],
    _ = unload(unused(Extra), 1),
    %% Does not reconnect to a disconnected guardian.
    _ = case Caller of
            none -> ok;
            {From, Tag} -> erlang:send(From, {Tag, {detached, Kept}}, [noconnect])
        end,
    ok = refuse_requests(?PURGE_TRIES),
    %% No code of this module runs after this call, so that it can be unloaded too. The VM deletes a module only without old code.
    lists:zipwith(fun erlang:apply/2, [fun code:purge/1, fun code:delete/1, fun code:purge/1], [[?MODULE], [?MODULE], [?MODULE]]).

%% Purging this module kills processes that run it. That ends wardens, but processes that wait for the keeper's reply are not the
%% relay's, and get one first.
refuse_requests(0) -> ok;
refuse_requests(Tries) ->
    receive
        {Request, From, Tag} when is_pid(From), Request =/= 'EXIT' ->
            _ = erlang:send(From, {Tag, {error, detaching}}, [noconnect]),
            refuse_requests(Tries)
    after 0 ->
        case [P || P <- processes(), P =/= self(), {_, Stack} <- [process_info(P, current_stacktrace)],
                   {?MODULE, F, _, _} <- Stack, lists:member(F, [start, redirect, info, request, await_reply])] of
            [] -> ok;
            _ ->
                %% Not timer:sleep/1: unloaded modules of OTP must stay unloaded.
                receive after ?PURGE_MS -> refuse_requests(Tries - 1) end
        end
    end.

%% The modules that telemetry and logger call are unloaded last, when no process can call them any more.
unload_entry_modules([], []) -> unload(dichroic_unload_guard:entry_modules(), ?PURGE_TRIES);
unload_entry_modules(Callers, Kept) ->
    ok = dichroic_unload_guard:unload_later(Callers, Kept),
    Kept ++ dichroic_unload_guard:entry_modules().

stop_relay(Relay) ->
    _ = dichroic_connection:drain(),
    Monitor = monitor(process, Relay),
    exit(Relay, shutdown),
    receive {'DOWN', Monitor, process, _, _} -> ok
    after ?STOP_MS ->
        exit(Relay, kill),
        receive {'DOWN', Monitor, process, _, _} -> ok end
    end.

%% The relay has detached its handlers itself, unless it was killed.
detach_all() ->
    try [telemetry:detach(Id) || Id <- lists:usort([Id || #{id := {dichroic, _} = Id} <- telemetry:list_handlers([])])] of _ -> ok
    catch _:_ -> ok
    end.

terms() ->
    [Key || {Key, _} <- persistent_term:get(), ours(Key)].

ours(dichroic_handler) -> true;
ours(dichroic_atoms) -> true;
%% logger keeps a term for a removed handler.
ours({logger_config, {'$handler_config$', dichroic}}) -> not lists:member(dichroic, logger:get_handler_ids());
ours(_) -> false.

%% Returns the modules that could not be unloaded because a process runs their code.
unload(Modules, Tries) ->
    case [M || M <- Modules, not unloaded(M)] of
        [] -> [];
        Busy when Tries > 1 ->
            timer:sleep(?PURGE_MS),
            unload(Busy, Tries - 1);
        Busy -> Busy
    end.

%% Old and current code must both be unused.
unloaded(M) ->
    code:soft_purge(M) andalso (code:delete(M) orelse not erlang:module_loaded(M)) andalso code:soft_purge(M).

unused([]) -> [];
unused(Modules) ->
    Used = lists:usort([M || P <- processes(), P =/= self(),
                             {current_stacktrace, Stack} <- [process_info(P, current_stacktrace)],
                             {M, _, _, _} <- Stack]),
    Modules -- Used.
