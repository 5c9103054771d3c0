%% @doc A minimal collector for tests, on a real socket: it stores the values of rows.
%%
%% One process; the test sets its plan, reads its state, cuts its connection or kills it. A protocol violation by the relay is
%% kept in `errors', which every test expects to be empty.
-module(fake_collector).

-export([start/1, start/2, stop/1, kill/1, cut/1, plan/2, goodbye/3, state/1, wait/2, wait/3, total/3, send/2, mute/2, silent/2]).

-record(c, {listen, socket = none, buffer = <<>>, limit = infinity, plan, sent = none, hello = none, replies = [],
            ids = #{}, rows = #{}, events = [], pings = 0, last_ping = none, goodbye = none, connections = 0, errors = [],
            order = [], mute = false, silent = false, backlog = <<>>, gone = []}).

%% Options: plan, limit (bytes to read before closing), tcp, rows (of an earlier collector)
start(Path) -> start(Path, #{}).

start(Path, Options) ->
    Parent = self(),
    Pid = spawn(fun() ->
        {Address, Port} = case Path of
            tcp -> {[{ip, {127, 0, 0, 1}}], 0};
            _ -> _ = file:delete(Path), {[{ifaddr, {local, Path}}], 0}
        end,
        {ok, L} = gen_tcp:listen(Port, [binary, {active, false}, {packet, raw} | Address]),
        Parent ! {self(), listening, case Path of tcp -> {ok, P} = inet:port(L), P; _ -> Path end},
        Self = self(),
        spawn_link(fun() -> accept(L, Self) end),
        loop(#c{listen = L, plan = maps:get(plan, Options, none), limit = maps:get(limit, Options, infinity)})
    end),
    receive {Pid, listening, Where} -> {Pid, Where} after 5000 -> error(no_collector) end.

stop(Pid) -> kill(Pid).

kill(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Ref, _, _, _} -> ok after 5000 -> error(not_killed) end.

cut(Pid) -> call(Pid, cut).
plan(Pid, Plan) -> call(Pid, {plan, Plan}).
goodbye(Pid, Code, Retry) -> call(Pid, {goodbye, Code, Retry}).
send(Pid, Bytes) -> call(Pid, {send, Bytes}).
%% Mute: does not read. Silent: reads but does not answer PING.
mute(Pid, Bool) -> call(Pid, {mute, Bool}).
silent(Pid, Bool) -> call(Pid, {silent, Bool}).
state(Pid) -> call(Pid, state).

call(Pid, What) ->
    Ref = monitor(process, Pid),
    Pid ! {call, self(), Ref, What},
    receive
        {Ref, Answer} -> demonitor(Ref, [flush]), Answer;
        {'DOWN', Ref, _, _, Reason} -> error({collector_died, Reason})
    after 10000 -> error(collector_silent) end.

%% Until Fun(State) is neither false nor an exception.
wait(Pid, Fun) -> wait(Pid, Fun, 10000).
wait(Pid, Fun, Ms) -> wait_until(Pid, Fun, erlang:monotonic_time(millisecond) + Ms).

wait_until(Pid, Fun, End) ->
    State = state(Pid),
    case try Fun(State) catch _:_ -> false end of
        false ->
            erlang:monotonic_time(millisecond) < End orelse error({wait_timeout, maps:without([events, order], State)}),
            receive after 5 -> wait_until(Pid, Fun, End) end;
        Answer -> Answer
    end.

%% The total of a series, summed over its removals and returns.
total(#{rows := Rows}, Key, Labels) ->
    case [V || {{K, L, _}, V} <- maps:to_list(Rows), K =:= Key, L =:= Labels] of
        [] -> none;
        Values -> lists:foldl(fun add/2, hd(Values), tl(Values))
    end.

add({I, F}, {J, G}) -> {I + J, F + G};
add({I, F, A}, {J, G, B}) ->
    {I + J, F + G, maps:to_list(lists:foldl(fun({K, N}, M) -> maps:update_with(K, fun(X) -> X + N end, N, M) end,
                                            maps:from_list(A), B))}.

accept(L, Owner) ->
    case gen_tcp:accept(L) of
        {ok, S} ->
            ok = gen_tcp:controlling_process(S, Owner),
            Owner ! {accepted, S},
            accept(L, Owner);
        {error, _} -> ok
    end.

loop(C) ->
    receive
        {accepted, S} ->
            C#c.socket =/= none andalso gen_tcp:close(C#c.socket),
            ok = inet:setopts(S, [{active, once}]),
            loop(C#c{socket = S, buffer = <<>>, backlog = <<>>, sent = none, ids = #{}, goodbye = none, order = [],
                     connections = C#c.connections + 1});
        %% Bytes that arrived before mute was set; the socket is not activated again.
        {tcp, S, Bytes} when S =:= C#c.socket, C#c.mute -> loop(C#c{backlog = <<(C#c.backlog)/binary, Bytes/binary>>});
        {tcp, S, Bytes} when S =:= C#c.socket ->
            C1 = got(Bytes, C),
            C1#c.socket =/= none andalso inet:setopts(S, [{active, once}]),
            loop(C1);
        {tcp, _, _} -> loop(C);
        {tcp_closed, S} when S =:= C#c.socket -> loop(C#c{socket = none});
        {tcp_closed, _} -> loop(C);
        {call, From, Ref, What} ->
            {Answer, C1} = answer(What, C),
            From ! {Ref, Answer},
            loop(C1)
    end.

answer(cut, #c{socket = S} = C) -> S =/= none andalso gen_tcp:close(S), {ok, C#c{socket = none}};
answer({plan, Plan}, C) -> {ok, send_plan(C#c{plan = Plan})};
answer({goodbye, Code, Retry}, C) -> {put_frame({goodbye, Code, Retry, <<"test">>}, C), C};
answer({send, Bytes}, C) -> {gen_tcp:send(C#c.socket, Bytes), C};
answer({silent, Bool}, C) -> {ok, C#c{silent = Bool}};
answer({mute, true}, C) -> {ok, C#c{mute = true}};
answer({mute, false}, #c{socket = S} = C) ->
    C1 = got(C#c.backlog, C#c{mute = false, backlog = <<>>}),
    S =/= none andalso inet:setopts(S, [{active, once}]),
    {ok, C1};
answer(state, C) ->
    {#{hello => C#c.hello, replies => C#c.replies, rows => C#c.rows, ids => C#c.ids, events => C#c.events, pings => C#c.pings,
       goodbye => C#c.goodbye, connected => C#c.socket =/= none, connections => C#c.connections, errors => C#c.errors,
       order => lists:reverse(C#c.order), gone => C#c.gone}, C}.

%% The limit closes the connection at any byte.
got(Bytes, #c{limit = Limit} = C) when is_integer(Limit), byte_size(Bytes) > Limit ->
    <<Part:Limit/binary, _/binary>> = Bytes,
    C1 = frames(C#c{buffer = <<(C#c.buffer)/binary, Part/binary>>, limit = infinity}),
    gen_tcp:close(C1#c.socket),
    C1#c{socket = none};
got(Bytes, #c{limit = Limit} = C) ->
    Left = case Limit of infinity -> infinity; _ -> Limit - byte_size(Bytes) end,
    frames(C#c{buffer = <<(C#c.buffer)/binary, Bytes/binary>>, limit = Left}).

frames(#c{buffer = B} = C) ->
    case dichroic_wire:decode(B, 262144) of
        more -> C;
        {ok, Frame, Rest} -> frames(frame(Frame, (note(Frame, C))#c{buffer = Rest}));
        {error, Why} -> fault({undecodable, Why}, C#c{buffer = <<>>})
    end.

note(Frame, #c{order = Order} = C) -> C#c{order = [element(1, Frame) | lists:sublist(Order, 500)]}.

frame({hello, 1, 0, 1, Fields}, C) ->
    put_frame({hello, 1, 0, 0, #{<<"agent">> => <<"fake/1">>, <<"epoch">> => 1, <<"max_frame">> => 262144}}, C),
    send_plan(C#c{hello = Fields});
frame({plan, Reply}, C) -> C#c{replies = [Reply | C#c.replies]};
frame({define, series, Items}, C) -> lists:foldl(fun define/2, C, Items);
frame({numbers, _, Rows}, C) -> lists:foldl(fun({Id, I, F}, Acc) -> row(Id, {I, F}, Acc) end, C, Rows);
frame({histograms, _, Rows}, C) ->
    lists:foldl(fun({Id, I, F, B}, Acc) -> row(Id, {I, F, [{{Side, Ix}, N} || {Ix, Side, N} <- B]}, Acc) end, C, Rows);
frame({events, Schema, 0, 0, Columns, Strings, Values}, C) ->
    C#c{events = [{Schema, rows(Columns, Strings, Values)} | C#c.events]};
frame({ping, N}, C) ->
    C#c.silent orelse put_frame({pong, N}, C),
    C#c{pings = N};
frame({goodbye, _, _, _} = G, C) -> C#c{goodbye = G};
frame(F, C) -> fault({unexpected, element(1, F)}, C).

define({Id, null}, #c{ids = Ids} = C) ->
    case Ids of
        #{Id := Series} -> C#c{ids = maps:remove(Id, Ids), gone = [Series | C#c.gone]};
        _ -> fault({removes_unknown, Id}, C)
    end;
define({Id, #{<<"key">> := K, <<"labels">> := L, <<"start">> := Start}}, #c{ids = Ids} = C) ->
    case Ids of
        #{Id := _} -> fault({defined_twice, Id}, C);
        _ -> C#c{ids = Ids#{Id => {K, L, Start}}}
    end.

row(Id, Value, #c{ids = Ids, rows = Rows} = C) ->
    case Ids of
        #{Id := Series} -> C#c{rows = Rows#{Series => Value}};
        _ -> fault({row_of_undefined, Id}, C)
    end.

rows(Columns, Strings, Values) ->
    S = list_to_tuple(Strings),
    V = list_to_tuple(Values),
    {i64, Times} = hd(Columns),
    Cells = [case Column of
                 absent -> [null || _ <- Times];
                 {ref, Refs} -> [case R >= 0 of true -> element(R + 1, S); false -> element(-R, V) end || R <- Refs];
                 {_, L} -> L
             end || Column <- Columns],
    zip(Cells).

zip([[] | _]) -> [];
zip(Lists) -> [[hd(L) || L <- Lists] | zip([tl(L) || L <- Lists])].

send_plan(#c{plan = none} = C) -> C;
send_plan(#c{socket = none} = C) -> C;
send_plan(#c{hello = none} = C) -> C;
send_plan(#c{plan = Plan} = C) -> put_frame({plan, Plan}, C), C.

put_frame(_, #c{socket = none}) -> ok;
put_frame(Frame, #c{socket = S}) -> gen_tcp:send(S, dichroic_wire:encode(Frame)).

fault(Why, C) -> C#c{errors = [Why | C#c.errors]}.
