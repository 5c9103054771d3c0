%% @doc Finds the longest message queues, a few processes at a time, so that the load is the same with a thousand and a million
%% processes.
%%
%% A separate process, started and ended by dichroic_vm_poller while the plan has one of its events. A round checks every
%% registered process and, where the VM can list them cheaply, all others; each step is 256 processes and a pause. At the end of
%% a round the longest ten are emitted, by registered name or initial call; those of the previous round that are no longer among
%% them are emitted as empty. Processes of the relay are left out. A round that fails is counted as a handler failure.
-module(dichroic_message_queues).

-export([events/0, start_link/0, survey/1, awake/1]).

-define(TOP, 10).
-define(STEP, 256).
-define(PAUSE_MS, 50).
-define(ROUND_MS, 5000).
%% Before OTP 28, larger nodes are checked by registered processes only: listing all processes takes too long.
-define(MAX_LISTED, 100000).
-define(MAX_MEMORY, 10485760).

-type top() :: [{Length :: pos_integer(), pid()}].
-type found() :: #{top := top(), processes := non_neg_integer(), messages := non_neg_integer()}.
-type scan() :: #{top := top(), processes := non_neg_integer(), messages := non_neg_integer(), relay := #{pid() => true}}.

-spec events() -> [[atom()]].
events() -> [[dichroic, vm, mailbox], [dichroic, vm, mailboxes]].

-spec start_link() -> pid().
start_link() ->
    Walker = spawn_link(?MODULE, awake, [#{}]),
    Walker ! round,
    Walker.

rounds(Before) ->
    Began = erlang:monotonic_time(millisecond),
    Named = try emit(survey(fun() -> receive after ?PAUSE_MS -> ok end end), Before)
            catch _:_ -> dichroic_handler:failed(), Before
            end,
    _ = erlang:send_after(max(0, Began + ?ROUND_MS - erlang:monotonic_time(millisecond)), self(), round),
    erlang:hibernate(?MODULE, awake, [Named]).

%% @doc Hibernates between rounds, so that no call of this module is on the stack and new code can be loaded any number of times.
-spec awake(#{term() => non_neg_integer()}) -> no_return().
awake(Before) ->
    receive
        round -> rounds(Before);
        _ -> erlang:hibernate(?MODULE, awake, [Before])
    end.

emit(#{top := Top, processes := Processes, messages := Messages}, Before) ->
    Named = lists:foldl(fun({Length, Pid}, Acc) -> longest(name(Pid), Length, Acc) end, #{}, Top),
    Empty = maps:map(fun(_, _) -> 0 end, maps:without(maps:keys(Named), Before)),
    _ = [dichroic_handler:handle([dichroic, vm, mailbox], #{length => L}, #{process => Name}, none)
         || {Name, L} <- maps:to_list(maps:merge(Named, Empty))],
    dichroic_handler:handle([dichroic, vm, mailboxes], #{processes => Processes, messages => Messages}, #{}, none),
    Named.

longest(exited, _, Named) -> Named;
longest(Name, Length, Named) -> maps:update_with(Name, fun(L) -> max(L, Length) end, Length, Named).

%% @doc One round. Calls `Pause' after every step.
-spec survey(fun(() -> term())) -> found().
survey(Pause) ->
    Found = scan(registered_pids(), Pause, #{top => [], processes => 0, messages => 0, relay => relay_processes()}),
    maps:remove(relay, others(Pause, Found)).

relay_processes() ->
    Names = [dichroic_attach, dichroic_sup, dichroic_event_sender_sup, dichroic_tables, dichroic_handler_keeper, dichroic_vm_poller,
             dichroic_connection, dichroic_event_sender:log_name() | dichroic_event_sender:names()],
    maps:from_list([{P, true} || Name <- Names, P <- [whereis(Name)], is_pid(P)]).

registered_pids() -> {list, [P || Name <- registered(), P <- [whereis(Name)], is_pid(P)]}.

%% All processes, including those with names: the longest are identified by pid, so none is listed twice.
others(Pause, Found) ->
    case erlang:function_exported(erlang, processes_iterator, 0) of
        true -> scan({iterator, erlang:apply(erlang, processes_iterator, [])}, Pause, empty(Found));
        false ->
            case erlang:system_info(process_count) =< ?MAX_LISTED of
                true -> scan({list, erlang:processes()}, Pause, empty(Found));
                false -> Found
            end
    end.

empty(Found) -> Found#{processes := 0, messages := 0}.

scan(From, Pause, Found) ->
    case step(?STEP, From, Found) of
        {done, Found1} -> Found1;
        {From1, Found1} ->
            _ = Pause(),
            scan(From1, Pause, Found1)
    end.

step(0, From, Found) -> {From, Found};
step(N, From, Found) ->
    case next(From) of
        none -> {done, Found};
        {Pid, From1} -> step(N - 1, From1, count(Pid, Found))
    end.

next({list, []}) -> none;
next({list, [Pid | Pids]}) -> {Pid, {list, Pids}};
next({iterator, Iterator}) ->
    case erlang:apply(erlang, processes_next, [Iterator]) of
        {Pid, Iterator1} -> {Pid, {iterator, Iterator1}};
        none -> none
    end.

-spec count(pid(), scan()) -> scan().
count(Pid, #{processes := P, relay := Relay} = Found) when is_map_key(Pid, Relay) -> Found#{processes := P + 1};
count(Pid, #{top := Top, processes := P, messages := M} = Found) when Pid =/= self() ->
    case erlang:process_info(Pid, message_queue_len) of
        {_, 0} -> Found#{processes := P + 1};
        {_, N} -> Found#{processes := P + 1, messages := M + N, top := top(N, Pid, Top)};
        undefined -> Found
    end;
count(_, Found) -> Found.

-spec top(pos_integer(), pid(), top()) -> top().
top(N, Pid, Top) -> lists:sublist(lists:reverse(lists:sort([{N, Pid} | lists:keydelete(Pid, 2, Top)])), ?TOP).

%% The initial call is in the process dictionary, which is copied whole: it is not read from large processes.
name(Pid) ->
    case erlang:process_info(Pid, [registered_name, memory, initial_call]) of
        [{_, Name}, _, _] when is_atom(Name) -> Name;
        [_, {_, Memory}, {_, {proc_lib, _, _}}] when Memory =< ?MAX_MEMORY -> call(proc_lib:translate_initial_call(Pid));
        [_, _, {_, Call}] -> call(Call);
        undefined -> exited
    end.

call({M, F, A}) -> iolist_to_binary([atom_to_binary(M), $:, atom_to_binary(F), $/, integer_to_binary(A)]).
