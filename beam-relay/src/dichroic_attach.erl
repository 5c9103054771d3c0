%% @doc The relay as a guest: starts it in a node that was never prepared, and leaves that node as it was.
%%
%% Loaded and called by a collector that connects over Erlang distribution as a hidden node. start/1 makes one process, the
%% keeper, registered under this module's name. It owns the relay's supervisor and watches its guardian, the node that
%% attached it. It leaves when it is told `{leave, Pid, Tag}', when the relay ends, and when the guardian has been gone for 30 s
%% and no other came in its place. Leaving means: handlers detached and the last totals sent; processes, tables, persistent
%% terms and environment gone; and the code of every module given to start/1, this one last, unloaded. Code that a process of
%% the application still runs is never purged. A second process, the warden, does the leaving for a keeper that was killed.
%%
%% Where the relay finds the collector is told by whoever starts it: a path, or an address with a token. The token is kept in a
%% fun, in the environment alone, until we leave: nothing that prints states, messages or the environment shows it.
-module(dichroic_attach).

-export([start/1, redirect/1, info/0]).
-export_type([options/0]).

-define(LINGER_MS, 30000).
-define(STOP_MS, 15000).
-define(PURGE_TRIES, 100).
-define(PURGE_MS, 50).
-define(ANSWER_MS, 20000).
%% Modules of OTP that the relay calls and that a node in interactive mode may load only because of it.
-define(OTP, [gen_statem, rand, uri_string, string, unicode_util, local_tcp, local_udp, inet_tcp, gen_tcp, sys, calendar,
              timer, ordsets, io_lib_pretty, inet6_tcp, inet_parse]).

%% With the token as it comes.
-type told() :: string() | {tcp, inet:ip_address(), inet:port_number(), binary()}.
-type options() :: #{guardian := node(), socket := told(), modules := [module()], vsn := binary()}.

-record(k, {guardian :: node() | none, socket :: string(), modules :: [module()], loaded :: [module()],
            since :: integer(), relay :: pid(), linger = none :: none | reference()}).

%% @doc Starts the relay, or changes its guardian when it runs already with the same socket and the same modules.
%% Where the application has a relay of its own, running, nothing is changed.
-spec start(options()) -> {ok, started | adopted} | {error, installed | {unloaded, [module()]} | term()}.
start(#{guardian := Guardian, socket := Told} = Options) ->
    Place = hidden(Told),
    case whereis(?MODULE) of
        undefined -> begin_with(Options#{socket := Place});
        Keeper -> ask(Keeper, {adopt, Guardian, Place, maps:get(modules, Options)})
    end.

%% @doc Sends the relay to another place of the same collector, now.
-spec redirect(#{socket := told()}) -> ok | {error, term()}.
redirect(#{socket := Told}) ->
    Place = hidden(Told),
    case whereis(?MODULE) of
        undefined -> {error, not_attached};
        Keeper -> ask(Keeper, {redirect, Place})
    end.

-spec hidden(told()) -> dichroic_socket:place().
hidden({tcp, Address, Port, Token}) -> {tcp, Address, Port, fun() -> Token end};
hidden(Path) -> Path.

name({tcp, Address, Port, _}) when tuple_size(Address) =:= 8 -> "tcp://[" ++ inet:ntoa(Address) ++ "]:" ++ integer_to_list(Port);
name({tcp, Address, Port, _}) -> "tcp://" ++ inet:ntoa(Address) ++ ":" ++ integer_to_list(Port);
name(Path) -> Path.

begin_with(Options) ->
    Self = self(),
    Tag = make_ref(),
    {Keeper, Monitor} = spawn_monitor(fun() -> keep(Self, Tag, Options) end),
    answer(Keeper, Monitor, Tag).

%% @doc What is attached, for whom, and how the relay is.
-spec info() -> #{atom() => term()} | {error, term()}.
info() ->
    case whereis(?MODULE) of
        undefined -> {error, not_attached};
        Keeper ->
            case ask(Keeper, info) of
                #{} = Info -> Info#{relay => dichroic_connection:info()};
                Error -> Error
            end
    end.

ask(Keeper, Question) ->
    Tag = make_ref(),
    Monitor = monitor(process, Keeper),
    Keeper ! {Question, self(), Tag},
    answer(Keeper, Monitor, Tag).

answer(Keeper, Monitor, Tag) ->
    receive
        {Tag, Answer} ->
            _ = demonitor(Monitor, [flush]),
            Answer;
        {'DOWN', Monitor, process, Keeper, Reason} -> {error, Reason}
    after ?ANSWER_MS ->
        _ = demonitor(Monitor, [flush]),
        {error, timeout}
    end.

%%% The keeper

keep(Starter, Tag, #{modules := Modules} = Options) ->
    true = register(?MODULE, self()),
    _ = process_flag(trap_exit, true),
    alone(),
    case [M || M <- Modules, not erlang:module_loaded(M)] of
        [] -> keep_all(Starter, Tag, Options);
        Gone -> Starter ! {Tag, {error, {unloaded, Gone}}}
    end.

%% Whoever waits of an earlier stay, to unload what we need now, ends first; what it unloaded before that is missing.
alone() ->
    case whereis(dichroic_unload_guard) of
        undefined -> ok;
        Pid ->
            Monitor = monitor(process, Pid),
            exit(Pid, kill),
            receive {'DOWN', Monitor, process, _, _} -> ok end
    end.

keep_all(Starter, Tag, #{guardian := Guardian, socket := Place, modules := Modules} = Options) ->
    Loaded = [M || {M, _} <- code:all_loaded()],
    case start_relay(Options) of
        {ok, Relay} ->
            K = #k{guardian = Guardian, socket = name(Place), modules = Modules, loaded = Loaded, relay = Relay,
                   since = erlang:system_time(second)},
            Keeper = self(),
            _ = spawn(fun() -> ward(Keeper, K) end),
            Starter ! {Tag, {ok, started}},
            guarded(Guardian, K);
        {error, Why} ->
            Starter ! {Tag, {error, Why}},
            %% Not in order: the warden of an earlier keeper has its leaving to do.
            exit({not_started, Why})
    end.

start_relay(Options) ->
    case whereis(dichroic_sup) of
        undefined -> start_in(Options, [{Key, application:get_env(dichroic, Key)} || Key <- [mode, socket, vsn]]);
        _ -> {error, there_already()}
    end.

%% The relay reads its environment when it starts. One that does not start, because the application's own was quicker, leaves to that
%% what it had.
start_in(#{socket := Place, vsn := Vsn}, Before) ->
    ok = application:set_env(dichroic, mode, attached),
    place(Place),
    ok = application:set_env(dichroic, vsn, Vsn),
    case dichroic_sup:start_link() of
        {ok, Relay} -> {ok, Relay};
        {error, Why} ->
            _ = [case Value of {ok, V} -> application:set_env(dichroic, Key, V); undefined -> application:unset_env(dichroic, Key) end
                 || {Key, Value} <- Before],
            {error, case Why of {already_started, _} -> there_already(); _ -> Why end}
    end.

%% The application's, or what an earlier guest has not yet taken away.
there_already() ->
    case application:get_env(dichroic, mode) of
        {ok, attached} -> leaving;
        _ -> installed
    end.

%% Takes the name first, so that nobody attaches while it leaves.
ward(Keeper, K) ->
    Monitor = monitor(process, Keeper),
    receive {'DOWN', Monitor, process, _, normal} -> ok;
            {'DOWN', Monitor, process, _, _} ->
                try register(?MODULE, self()) of
                    true -> leave(K, none)
                catch error:badarg ->
                    case whereis(?MODULE) of
                        undefined -> ward(Keeper, K);
                        Next -> ward(Next, K)
                    end
                end
    end.

place(Place) -> ok = application:set_env(dichroic, socket, {attached, Place}).

%% Of a node that is gone already a monitor would try to connect to it.
guarded(Guardian, K) ->
    _ = case lists:member(Guardian, nodes(hidden)) of
            true -> monitor_node(Guardian, true);
            false -> self() ! {nodedown, Guardian}
        end,
    loop(K#k{guardian = Guardian}).

loop(#k{guardian = Guardian, relay = Relay, linger = Linger} = K) ->
    receive
        {nodedown, Guardian} when Guardian =/= none ->
            loop(K#k{guardian = none, linger = erlang:start_timer(?LINGER_MS, self(), linger)});
        {timeout, Linger, linger} -> leave(K, none);
        {{adopt, Next, Place, Modules}, From, Tag} ->
            case Guardian =:= none andalso Modules =:= K#k.modules andalso name(Place) =:= K#k.socket of
                true ->
                    %% The token may be another.
                    place(Place),
                    From ! {Tag, {ok, adopted}},
                    guarded(Next, quiet(K));
                false ->
                    From ! {Tag, {error, {attached, Guardian, K#k.socket}}},
                    loop(K)
            end;
        {{redirect, Place}, From, Tag} ->
            place(Place),
            dichroic_connection:reconnect(),
            From ! {Tag, ok},
            loop(K#k{socket = name(Place)});
        {info, From, Tag} ->
            From ! {Tag, info(K)},
            loop(K);
        {leave, From, Tag} -> leave(K, {From, Tag});
        {'EXIT', Relay, _} -> leave(K, none);
        _ -> loop(K)
    end.

quiet(#k{linger = none} = K) -> K;
quiet(#k{linger = Timer} = K) ->
    _ = erlang:cancel_timer(Timer),
    K#k{linger = none}.

info(#k{guardian = Guardian, socket = Socket, since = Since, modules = Modules}) ->
    #{guardian => Guardian, socket => Socket, since => Since,
      modules => [{M, erlang:get_module_info(M, md5)} || M <- Modules, erlang:module_loaded(M)]}.

%%% Leaving

-spec leave(#k{}, none | {pid(), term()}) -> term().
leave(#k{modules = Modules, loaded = Loaded} = K, Asker) ->
    stop_relay(K#k.relay),
    detach_all(),
    _ = logger:remove_handler(dichroic),
    Late = dichroic_unload_guard:wait(),
    _ = [persistent_term:erase(Key) || Key <- terms()],
    _ = [application:unset_env(dichroic, Key) || Key <- [mode, socket, vsn]],
    Tries = case Late of [] -> ?PURGE_TRIES; _ -> 1 end,
    Kept = entries(Late, unload(Modules -- [?MODULE | dichroic_unload_guard:entries()], Tries)),
    %% What stays of modules of OTP is harmless, so one that anybody might be in stays whole.
    Extra = [M || M <- ?OTP, not lists:member(M, Loaded), erlang:module_loaded(M)],
    _ = unload(unused(Extra), 1),
    %% A guardian that is gone is not connected to again.
    _ = case Asker of
            none -> ok;
            {From, Tag} -> erlang:send(From, {Tag, {left, Kept}}, [noconnect])
        end,
    %% From here on nothing of this module runs, so that it can be unloaded too.
    lists:zipwith(fun erlang:apply/2, [fun code:delete/1, fun code:purge/1], [[?MODULE], [?MODULE]]).

%% What handlers are entered by goes last, when nobody can be on the way to it.
entries([], []) -> unload(dichroic_unload_guard:entries(), ?PURGE_TRIES);
entries(Late, Kept) ->
    ok = dichroic_unload_guard:stay(Late, Kept),
    Kept ++ dichroic_unload_guard:entries().

stop_relay(Relay) ->
    _ = dichroic_connection:drain(),
    Monitor = monitor(process, Relay),
    exit(Relay, shutdown),
    receive {'DOWN', Monitor, process, _, _} -> ok
    after ?STOP_MS ->
        exit(Relay, kill),
        receive {'DOWN', Monitor, process, _, _} -> ok end
    end.

%% The relay has done it, unless it was killed.
detach_all() ->
    try [telemetry:detach(Id) || #{id := {dichroic, _} = Id} <- telemetry:list_handlers([])] of _ -> ok
    catch _:_ -> ok
    end.

terms() ->
    [Key || {Key, _} <- persistent_term:get(), ours(Key)].

ours(dichroic_handler) -> true;
ours({dichroic_program, _}) -> true;
ours(dichroic_atoms) -> true;
%% Of a handler that was removed, logger keeps a term that says so.
ours({logger_config, {'$handler_config$', dichroic}}) -> not lists:member(dichroic, logger:get_handler_ids());
ours(_) -> false.

%% Gives the modules that could not be unloaded, because a process is in their code.
unload(Modules, Tries) ->
    case [M || M <- Modules, not unloaded(M)] of
        [] -> [];
        Busy when Tries > 1 ->
            timer:sleep(?PURGE_MS),
            unload(Busy, Tries - 1);
        Busy -> Busy
    end.

%% Of a module there may be an older version too, and no process runs either.
unloaded(M) ->
    code:soft_purge(M) andalso (code:delete(M) orelse not erlang:module_loaded(M)) andalso code:soft_purge(M).

unused([]) -> [];
unused(Modules) ->
    Used = lists:usort([M || P <- processes(), P =/= self(),
                             {current_stacktrace, Stack} <- [process_info(P, current_stacktrace)],
                             {M, _, _, _} <- Stack]),
    Modules -- Used.
