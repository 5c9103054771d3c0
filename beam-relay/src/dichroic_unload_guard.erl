%% @doc Finds processes that may still call a detached handler, so that its code is unloaded only afterwards.
%%
%% Called by dichroic_attach when it detaches. telemetry and logger first read the list of handlers and then call one after the
%% other: a process that stops in between (suspended, or waiting in another handler) calls ours later. If the handler were
%% undefined then, telemetry would log a failure in the application. Such a process is recognized by its stack; it has passed the
%% handler when its stack shows that, or when it has done enough work since. Only a few modules are called from outside, and they
%% are safe to call without the others. If a process may still call the handler, a monitor unloads the code later: a process
%% registered under this module's name checks once a second, and hibernates in between so that none of our code is on its stack.
%% Attaching again ends it.
-module(dichroic_unload_guard).

-export([entry_modules/0, wait_for_callers/0, unload_later/2, check/3]).

-define(TRIES, 100).
-define(STEP_MS, 50).
-define(CHECK_MS, 1000).
%% More than any handler uses. A process that emits without a pause is always found inside an event, but not inside the same one.
-define(REDUCTIONS, 200000).

-type callers() :: [{pid(), Reductions :: non_neg_integer()}].

%% @doc The modules that telemetry and logger call, and this module.
-spec entry_modules() -> [module()].
entry_modules() -> [dichroic_handler, dichroic_handler_keeper, dichroic_logger, ?MODULE].

%% @doc Waits up to five seconds for present callers; returns those that remain.
-spec wait_for_callers() -> callers().
wait_for_callers() -> wait_for_callers([{P, R} || P <- erlang:processes(), P =/= self(), {caller, R} <- [inspect(P)]], ?TRIES).

wait_for_callers([], _) -> [];
wait_for_callers(Callers, 0) -> Callers;
wait_for_callers(Callers, Tries) ->
    timer:sleep(?STEP_MS),
    wait_for_callers(still_callers(Callers), Tries - 1).

still_callers(Callers) -> [{P, Before} || {P, Before} <- Callers, {caller, Now} <- [inspect(P)], Now - Before < ?REDUCTIONS].

%% Between two handlers only the loop over the list is on the stack. The VM shows eight calls of a stack unless it is configured
%% otherwise.
inspect(Pid) ->
    case erlang:process_info(Pid, [status, current_stacktrace, reductions]) of
        [{_, Status}, {_, [{lists, F, _, _} | _]}, {_, R}] when Status =/= waiting, F =:= foreach; Status =/= waiting, F =:= foreach_1 ->
            {caller, R};
        [_, {_, Stack}, {_, R}] ->
            case lists:any(fun calls_handlers/1, Stack) of true -> {caller, R}; false -> done end;
        undefined -> done
    end.

%% telemetry:span/3 is on the stack during the work that it measures, so it does not count.
calls_handlers({telemetry, F, _, _}) -> binary:match(atom_to_binary(F), <<"span">>) =:= nomatch;
calls_handlers({logger_backend, _, _, _}) -> true;
calls_handlers({M, _, _, _}) -> lists:member(M, entry_modules()).

%% @doc Starts a process that waits for these callers and then unloads the entry modules. `Kept' are modules whose old code was in
%% use.
-spec unload_later(callers(), [module()]) -> ok.
unload_later(Callers, Kept) ->
    Keeper = self(),
    _ = spawn(fun() ->
        true = register(?MODULE, self()),
        hibernate(Keeper, Callers, Kept)
    end),
    ok.

hibernate(Keeper, Callers, Kept) ->
    _ = erlang:send_after(?CHECK_MS, self(), check),
    erlang:hibernate(?MODULE, check, [Keeper, Callers, Kept]).

%% @doc One check. Waits while the keeper still detaches. After that a loaded dichroic_attach means that the relay is attached
%% again, so its modules must stay.
-spec check(pid(), callers(), [module()]) -> term().
check(Keeper, Callers, Kept) ->
    receive check -> ok after 0 -> ok end,
    case is_process_alive(Keeper) of
        true -> hibernate(Keeper, Callers, Kept);
        false ->
            case erlang:module_loaded(dichroic_attach) of
                true -> ok;
                false -> unload(Keeper, Callers, Kept)
            end
    end.

unload(Keeper, Callers, Kept) ->
    case {still_callers(Callers), [M || M <- Kept, not code:soft_purge(M)]} of
        {[], []} -> unload(Keeper, entry_modules() -- [?MODULE]);
        {Still, InUse} -> hibernate(Keeper, Still, InUse)
    end.

unload(Keeper, Modules) ->
    case [M || M <- Modules, not unloaded(M)] of
        [] ->
            %% No code of this module runs after this call.
            lists:zipwith(fun erlang:apply/2, [fun code:purge/1, fun code:delete/1, fun code:purge/1],
                          [[?MODULE], [?MODULE], [?MODULE]]);
        InUse -> hibernate(Keeper, [], InUse)
    end.

%% As in dichroic_attach, which is already unloaded.
unloaded(M) ->
    code:soft_purge(M) andalso (code:delete(M) orelse not erlang:module_loaded(M)) andalso code:soft_purge(M).
