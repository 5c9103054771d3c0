%% @doc Who may still call a handler that is detached already, so that its code does not go before that.
%%
%% Called by dichroic_attach when it leaves. telemetry and logger take the list of their handlers first and call one after the
%% other: a process that was stopped in between (suspended, or in another handler that waits) calls ours later, and must not find
%% it undefined, because telemetry would tell the application. Such a process is known by its stack; and that it is through, by
%% its stack too, or by how much it has done since. Only a few modules are entered from outside; they do no harm without the
%% others. Mostly nobody is late. For whoever stays late a process stays here, registered under this module's name, that looks
%% once a second, without code of ours on its stack in between, and unloads them then. Whoever attaches again ends it.
-module(dichroic_unload_guard).

-export([entries/0, wait/0, stay/2, look/2]).

-define(TRIES, 100).
-define(STEP_MS, 50).
-define(LOOK_MS, 1000).
%% More than any handler does: who emits without a pause is always found in an event, but not in the same.
-define(REDUCTIONS, 200000).

-type late() :: [{pid(), Reductions :: non_neg_integer()}].

%% @doc The modules that telemetry and logger call, and this one.
-spec entries() -> [module()].
entries() -> [dichroic_handler, dichroic_handler_keeper, dichroic_logger, ?MODULE].

%% @doc Waits for whoever is late now, five seconds at most; who still is.
-spec wait() -> late().
wait() -> wait([{P, R} || P <- erlang:processes(), P =/= self(), {late, R} <- [look_at(P)]], ?TRIES).

wait([], _) -> [];
wait(Late, 0) -> Late;
wait(Late, Tries) ->
    timer:sleep(?STEP_MS),
    wait(late(Late), Tries - 1).

late(Late) -> [{P, Before} || {P, Before} <- Late, {late, Now} <- [look_at(P)], Now - Before < ?REDUCTIONS].

%% Between two handlers the list is all that a process has in hand. A stack is seen as deep as the VM shows it, eight calls
%% unless it is told otherwise.
look_at(Pid) ->
    case erlang:process_info(Pid, [status, current_stacktrace, reductions]) of
        [{_, Status}, {_, [{lists, F, _, _} | _]}, {_, R}] when Status =/= waiting, F =:= foreach; Status =/= waiting, F =:= foreach_1 ->
            {late, R};
        [_, {_, Stack}, {_, R}] ->
            case lists:any(fun calls_handlers/1, Stack) of true -> {late, R}; false -> done end;
        undefined -> done
    end.

%% A span is no call of a handler: it lasts as long as the work in it.
calls_handlers({telemetry, F, _, _}) -> binary:match(atom_to_binary(F), <<"span">>) =:= nomatch;
calls_handlers({logger_backend, _, _, _}) -> true;
calls_handlers({M, _, _, _}) -> lists:member(M, entries()).

%% @doc Waits on for these, in a process of its own; then unloads the entries. `Kept' are modules whose old code was in use.
-spec stay(late(), [module()]) -> ok.
stay(Late, Kept) ->
    _ = spawn(fun() ->
        true = register(?MODULE, self()),
        hibernate(Late, Kept)
    end),
    ok.

hibernate(Late, Kept) ->
    _ = erlang:send_after(?LOOK_MS, self(), look),
    erlang:hibernate(?MODULE, look, [Late, Kept]).

%% @doc One look. Whoever attaches again has loaded them anew.
-spec look(late(), [module()]) -> term().
look(Late, Kept) ->
    receive look -> ok after 0 -> ok end,
    case erlang:module_loaded(dichroic_attach) of
        true -> ok;
        false ->
            case {late(Late), [M || M <- Kept, not code:soft_purge(M)]} of
                {[], []} -> unload(entries() -- [?MODULE]);
                {Still, InUse} -> hibernate(Still, InUse)
            end
    end.

unload(Modules) ->
    case [M || M <- Modules, not unloaded(M)] of
        [] ->
            %% From here on nothing of this module runs.
            lists:zipwith(fun erlang:apply/2, [fun code:delete/1, fun code:purge/1], [[?MODULE], [?MODULE]]);
        InUse -> hibernate([], InUse)
    end.

%% As dichroic_attach does, which is gone.
unloaded(M) ->
    code:soft_purge(M) andalso (code:delete(M) orelse not erlang:module_loaded(M)) andalso code:soft_purge(M).
