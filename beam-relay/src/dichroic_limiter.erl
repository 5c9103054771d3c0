%% @doc Bounds what handlers send: rows in flight by credit, rows per second by a rate.
%%
%% Written by handlers, in the process that emits, through admit/4 and send/5; by dichroic_event_sender, which returns credit;
%% and by dichroic_engine, which sets the limits of a plan. Events and logs have a pool each, so that a burst of log messages
%% takes no credit from events. All state is one `atomics' array: no call blocks, and if the array belongs to an epoch that is
%% over, its counts are ignored. A process that is killed before send/5 holds no credit; one that is killed inside it leaves
%% a credit taken, which the sender returns when it is idle.
-module(dichroic_limiter).

-export([new/1, set_limits/4, lane/2, admit/4, send/5, return/3, return_all/2]).
-export_type([pool/0, lane/0]).

-include("dichroic.hrl").

-type pool() :: ?EVENT_POOL | ?LOG_POOL.
%% The cell of a sender's rows in flight.
-type lane() :: pos_integer().

%% Cells of a pool, after its number.
-define(MAX_IN_FLIGHT, 1).
-define(SECOND, 2).
-define(COUNT, 3).
-define(MAX_PER_SECOND, 4).
%% Cells of a cache line: the lanes begin after the two pools, one cache line apart.
-define(CACHE_LINE, 8).

-spec new(Shards :: pos_integer()) -> atomics:atomics_ref().
new(Shards) -> atomics:new(lane(log, Shards), [{signed, true}]).

%% @doc Sets how many rows may be in flight in a lane of the pool, and how many the whole pool may send per second.
-spec set_limits(atomics:atomics_ref(), pool(), InFlight :: pos_integer(), PerSecond :: non_neg_integer()) -> ok.
set_limits(Credit, Pool, InFlight, PerSecond) ->
    atomics:put(Credit, Pool + ?MAX_IN_FLIGHT, InFlight),
    atomics:put(Credit, Pool + ?MAX_PER_SECOND, PerSecond).

%% @doc The lane of an event shard, or of the sender of logs, which follows that of the last shard.
-spec lane(pos_integer() | log, Shards :: pos_integer()) -> lane().
lane(log, Shards) -> ?CACHE_LINE * (Shards + 1) + 1;
lane(Shard, _) -> ?CACHE_LINE * Shard + 1.

%% @doc Checks both limits and counts the row against the rate; otherwise gives the reason for the drop, as a cell of `rows'.
%% Takes no credit: a process that is killed while it makes the row would never return it.
-spec admit(atomics:atomics_ref(), pool(), lane(), Second :: integer()) -> true | pos_integer().
admit(Credit, Pool, Lane, Second) ->
    case atomics:get(Credit, Lane) < atomics:get(Credit, Pool + ?MAX_IN_FLIGHT) of
        false -> ?DROP_OVERLOAD;
        true -> within_rate(Credit, Pool, Second) orelse ?DROP_RATE
    end.

within_rate(Credit, Pool, Second) ->
    case atomics:get(Credit, Pool + ?SECOND) of
        Second -> ok;
        Before ->
            case atomics:compare_exchange(Credit, Pool + ?SECOND, Before, Second) of
                ok -> atomics:put(Credit, Pool + ?COUNT, 0);
                _ -> ok
            end
    end,
    atomics:add_get(Credit, Pool + ?COUNT, 1) =< atomics:get(Credit, Pool + ?MAX_PER_SECOND).

%% @doc Takes one credit and sends the row; false if there is no credit or no such process. Nothing is called between taking
%% and sending.
-spec send(atom(), tuple(), atomics:atomics_ref(), pool(), lane()) -> boolean().
send(Name, Row, Credit, Pool, Lane) ->
    Sender = whereis(Name),
    case Sender =/= undefined andalso take(Credit, Lane, atomics:get(Credit, Pool + ?MAX_IN_FLIGHT), atomics:get(Credit, Lane)) of
        true ->
            Sender ! Row,
            true;
        false -> false
    end.

take(_, _, Max, InFlight) when InFlight >= Max -> false;
take(Credit, Lane, Max, InFlight) ->
    case atomics:compare_exchange(Credit, Lane, InFlight, InFlight + 1) of
        ok -> true;
        Other -> take(Credit, Lane, Max, Other)
    end.

%% @doc Returns the credit of `N' rows. Never below zero: a process that took its credit before return_all/2 and sends
%% afterwards is no longer counted.
-spec return(atomics:atomics_ref(), lane(), N :: non_neg_integer()) -> ok.
return(Credit, Lane, N) -> return(Credit, Lane, N, atomics:get(Credit, Lane)).

return(_, _, _, 0) -> ok;
return(Credit, Lane, N, InFlight) ->
    case atomics:compare_exchange(Credit, Lane, InFlight, max(0, InFlight - N)) of
        ok -> ok;
        Other -> return(Credit, Lane, N, Other)
    end.

%% @doc Returns all credit of a lane: for a sender with an empty queue, or the successor of one that was killed.
-spec return_all(atomics:atomics_ref(), lane()) -> ok.
return_all(Credit, Lane) -> atomics:put(Credit, Lane, 0).
