%% @doc Starts the store, the relays, the janitor and the sampler, and last the connection that uses them.
%%
%% If the store dies everything starts again, in a new epoch; if the connection dies it does so alone, also in a new epoch;
%% the others come back alone and ask for what they need. The permitted rate of restarts is so high that this supervisor
%% never gives up: an application that was started as permanent would take the node with it. What keeps a crash loop slow
%% is the store, which makes epochs at most twice a second.
-module(dichroic_sup).

-behaviour(supervisor).

-export([start_link/0, start_relays/0, init/1]).

start_link() -> supervisor:start_link({local, ?MODULE}, ?MODULE, top).

start_relays() -> supervisor:start_link({local, dichroic_relay_sup}, ?MODULE, relays).

init(top) ->
    {ok, {flags(rest_for_one),
          [worker(dichroic_store, dichroic_store),
           #{id => relays, type => supervisor, start => {?MODULE, start_relays, []}, modules => [?MODULE]},
           #{id => helpers, type => supervisor, start => {supervisor, start_link, [?MODULE, helpers]}, modules => [?MODULE]},
           (worker(dichroic_connection, dichroic_connection))#{shutdown => 8000}]}};
init(helpers) ->
    {ok, {flags(one_for_one), [worker(dichroic_janitor, dichroic_janitor), worker(dichroic_sampler, dichroic_sampler)]}};
init(relays) ->
    {ok, {flags(one_for_one),
          [#{id => I, start => {dichroic_relay, start_link, [I]}, modules => [dichroic_relay]}
           || I <- [log | lists:seq(1, length(dichroic_relay:names()))]]}}.

flags(Strategy) -> #{strategy => Strategy, intensity => 1000, period => 1}.

worker(Id, Module) -> #{id => Id, start => {Module, start_link, []}, modules => [Module]}.
