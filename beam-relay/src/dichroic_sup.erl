%% @doc Starts the store, the relays, the janitor and the sampler, and last the connection that uses them.
%%
%% If the store dies everything starts again, in a new epoch; if the connection dies it does so alone, also in a new epoch;
%% the others come back alone and ask for what they need. The permitted rate of restarts is so high that this supervisor
%% never gives up: an application that was started as permanent would take the node with it. What keeps a crash loop slow
%% is the store, which makes epochs at most twice a second, and that a helper whose predecessor died young waits before it works.
-module(dichroic_sup).

-behaviour(supervisor).

-export([start_link/0, start_relays/0, start_helper/1, init/1]).

%% Who dies younger than this was perhaps killed by its work.
-define(YOUNG_MS, 10000).
-define(WAIT_MIN_MS, 100).
-define(WAIT_MAX_MS, 5000).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, top).

start_relays() -> supervisor:start_link({local, dichroic_event_sender_sup}, ?MODULE, relays).

%% @doc Runs in the supervisor of the helpers, which remembers when each began to work, and after what wait.
start_helper(Module) ->
    Now = erlang:monotonic_time(millisecond),
    Wait = case get(Module) of
               {Began, Before} when Now - Began < ?YOUNG_MS -> min(max(2 * Before, ?WAIT_MIN_MS), ?WAIT_MAX_MS);
               _ -> 0
           end,
    _ = put(Module, {Now + Wait, Wait}),
    Module:start_link(Wait).

init(top) ->
    {ok, {flags(rest_for_one),
          [worker(dichroic_tables, dichroic_tables),
           #{id => relays, type => supervisor, start => {?MODULE, start_relays, []}, modules => [?MODULE]},
           #{id => helpers, type => supervisor, start => {supervisor, start_link, [?MODULE, helpers]}, modules => [?MODULE]},
           (worker(dichroic_connection, dichroic_connection))#{shutdown => 8000}]}};
%% However often they are killed, the connection and its epoch are no part of it.
init(helpers) ->
    {ok, {(flags(one_for_one))#{intensity := 1000000}, [helper(dichroic_handler_keeper), helper(dichroic_vm_poller)]}};
init(relays) ->
    {ok, {flags(one_for_one),
          [#{id => I, start => {dichroic_event_sender, start_link, [I]}, modules => [dichroic_event_sender]}
           || I <- [log | lists:seq(1, length(dichroic_event_sender:names()))]]}}.

flags(Strategy) -> #{strategy => Strategy, intensity => 1000, period => 1}.

helper(Module) -> #{id => Module, start => {?MODULE, start_helper, [Module]}, modules => [Module]}.

worker(Id, Module) -> #{id => Id, start => {Module, start_link, []}, modules => [Module]}.
