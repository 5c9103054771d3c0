%% @doc Readings of the connection pools of Ecto's repositories: idle connections, callers that wait for one, and the size.
%%
%% Called by dichroic_vm_poller, in its process. A reading is one call for each repository, as DBConnection.get_connection_metrics/1
%% makes it, to the pool that hands out connections; if one is slow, the round ends. Pools of other kinds, such as that of the
%% sandbox, and repositories with several pools are left out.
-module(dichroic_ecto).

-export([events/0, sample/0]).

-define(POOL, 'Elixir.DBConnection.ConnectionPool').
-define(CALL_MS, 100).
-define(MAX_POOLS, 16).

-spec events() -> [[atom()]].
events() -> [[dichroic, ecto, pool]].

-spec sample() -> [{#{atom() => number()}, #{repo := atom()}}].
sample() ->
    case erlang:function_exported('Elixir.Ecto.Repo', all_running, 0) andalso erlang:function_exported(?POOL, get_connection_metrics, 1) of
        true -> readings(lists:sublist([R || R <- apply('Elixir.Ecto.Repo', all_running, []), is_atom(R)], ?MAX_POOLS));
        false -> []
    end.

readings([]) -> [];
readings([Repo | Repos]) ->
    try apply('Elixir.Ecto.Adapter', lookup_meta, [Repo]) of
        #{pid := Pid} = Meta when is_pid(Pid) ->
            case proc_lib:translate_initial_call(Pid) of
                {?POOL, init, _} -> reading(Repo, Pid, Meta, Repos);
                _ -> readings(Repos)
            end;
        _ -> readings(Repos)
    catch error:_ -> readings(Repos) % stopped meanwhile
    end.

reading(Repo, Pid, Meta, Repos) ->
    try gen_server:call(Pid, get_connection_metrics, ?CALL_MS) of
        [#{ready_conn_count := Idle, checkout_queue_length := Waiting}] when is_integer(Idle), is_integer(Waiting) ->
            [{maps:merge(#{idle => Idle, waiting => Waiting}, pool_size(Meta)), #{repo => Repo}} | readings(Repos)];
        _ -> readings(Repos)
    catch exit:_ -> []
    end.

pool_size(#{opts := Opts}) when is_list(Opts) ->
    case lists:keyfind(pool_size, 1, Opts) of
        {_, Size} when is_integer(Size) -> #{size => Size};
        _ -> #{}
    end;
pool_size(_) -> #{}.
