%% @doc Starts the tables, the event senders, the handler keeper and the VM poller, and last the connection that uses them.
%%
%% If dichroic_tables dies everything restarts in a new epoch; if the connection dies it restarts alone, also in a new epoch; the
%% others restart alone and request their settings from it. The restart intensity is so high that this supervisor never gives
%% up: a permanent application would take the node down with it. Crash loops are slowed down by dichroic_tables, which starts at
%% most two epochs a second, and by start_helper/1, which delays a helper whose predecessor lived only a short time.
-module(dichroic_sup).

-behaviour(supervisor).

-export([start_link/0, start_event_senders/0, start_helper/1, init/1]).

%% A process that lived for less than this may have been killed by its own work.
-define(SHORT_LIFE_MS, 10000).
-define(WAIT_MIN_MS, 100).
-define(WAIT_MAX_MS, 5000).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, top).

-spec start_event_senders() -> {ok, pid()} | {error, term()}.
start_event_senders() -> supervisor:start_link({local, dichroic_event_sender_sup}, ?MODULE, event_senders).

%% @doc Called in the supervisor of the helpers. Its process dictionary holds when each helper started to work, and its delay.
-spec start_helper(module()) -> {ok, pid()} | {error, term()}.
start_helper(Module) ->
    Now = erlang:monotonic_time(millisecond),
    Wait = case get(Module) of
               {Started, Before} when Now - Started < ?SHORT_LIFE_MS -> min(max(2 * Before, ?WAIT_MIN_MS), ?WAIT_MAX_MS);
               _ -> 0
           end,
    _ = put(Module, {Now + Wait, Wait}),
    Module:start_link(Wait).

-spec init(top | helpers | event_senders) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(top) ->
    {ok, {flags(rest_for_one),
          [worker(dichroic_tables, dichroic_tables),
           #{id => event_senders, type => supervisor, start => {?MODULE, start_event_senders, []}, modules => [?MODULE]},
           #{id => helpers, type => supervisor, start => {supervisor, start_link, [?MODULE, helpers]}, modules => [?MODULE]},
           (worker(dichroic_connection, dichroic_connection))#{shutdown => 8000}]}};
%% Restarts of helpers never reach the connection, however often they are killed.
init(helpers) ->
    {ok, {(flags(one_for_one))#{intensity := 1000000}, [helper(dichroic_handler_keeper), helper(dichroic_vm_poller)]}};
init(event_senders) ->
    {ok, {flags(one_for_one),
          [#{id => I, start => {dichroic_event_sender, start_link, [I]}, modules => [dichroic_event_sender]}
           || I <- [log | lists:seq(1, length(dichroic_event_sender:names()))]]}}.

flags(Strategy) -> #{strategy => Strategy, intensity => 1000, period => 1}.

helper(Module) -> #{id => Module, start => {?MODULE, start_helper, [Module]}, modules => [Module]}.

worker(Id, Module) -> #{id => Id, start => {Module, start_link, []}, modules => [Module]}.
