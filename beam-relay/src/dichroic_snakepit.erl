%% @doc Readings of Snakepit's pools, for which it has no events: queues, their timeouts, and workers by state.
%%
%% Called by dichroic_vm_poller, in its process. A reading is one call for each pool, as Snakepit.Pool.get_stats/2 makes it, to the
%% process that dispatches requests; if it is slow, the round ends. Totals are given as the increase since the previous reading.
-module(dichroic_snakepit).

-export([events/0, sample/1]).
-export_type([state/0]).

-type totals() :: #{atom() => number()}.
-type state() :: none | #{Pool :: atom() => totals()}.

-define(POOL, 'Elixir.Snakepit.Pool').
-define(CALL_MS, 100).
-define(MAX_POOLS, 16).

-spec events() -> [[atom()]].
events() -> [[dichroic, snakepit, pool]].

-spec sample(state()) -> {[{#{atom() => number()}, #{pool := atom()}}], state()}.
sample(Before) ->
    Read = case whereis(?POOL) of
               undefined -> [];
               Pid -> readings(Pid, pools())
           end,
    Totals = maps:from_list([{Pool, maps:with([queue_timeouts], Stats)} || {Pool, Stats} <- Read]),
    Rows = [{maps:merge(maps:with([workers, available, busy, queued], Stats), rise(Pool, maps:get(Pool, Totals), Before)), #{pool => Pool}}
            || {Pool, Stats} <- Read],
    {Rows, maps:merge(case Before of none -> #{}; _ -> Before end, Totals)}.

%% Snakepit's own configuration; without a list of pools there is one with this name.
pools() ->
    Names = case application:get_env(snakepit, pools) of
                {ok, Pools} when is_list(Pools) -> [Name || Pool <- Pools, Name <- [name(Pool)], is_atom(Name), Name =/= undefined];
                _ -> []
            end,
    case lists:sublist(Names, ?MAX_POOLS) of
        [] -> [default];
        Some -> Some
    end.

name(#{name := Name}) -> Name;
name([_ | _] = Pool) -> proplists:get_value(name, Pool);
name(_) -> undefined.

readings(_, []) -> [];
readings(Pid, [Pool | Pools]) ->
    try gen_server:call(Pid, {get_stats, Pool}, ?CALL_MS) of
        #{} = Stats -> [{Pool, maps:filter(fun(_, V) -> is_number(V) end, Stats)} | readings(Pid, Pools)];
        _ -> readings(Pid, Pools)
    catch exit:_ -> []
    end.

%% A pool that is there at the first reading may have counted before the relay; one that counts less than before was restarted.
rise(_, Now, none) -> maps:map(fun(_, _) -> 0 end, Now);
rise(Pool, Now, Before) ->
    Old = maps:get(Pool, Before, #{}),
    maps:map(fun(K, V) ->
                 case maps:get(K, Old, 0) of
                     B when B =< V -> V - B;
                     _ -> V
                 end
             end, Now).
