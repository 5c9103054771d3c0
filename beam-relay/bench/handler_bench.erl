%% @doc The cost of the handler in the process that emits: ns per event over a no-op handler.
%%
%% Run by `make bench'. Prints medians over rounds with one and two processes, with three labels (method, status, route) and
%% metadata of the size of Phoenix's. Rounds of the kinds alternate, so that changes in machine speed affect all alike. `cpu' is
%% processor time of the whole VM, the better figure on a shared machine.
-module(handler_bench).

-include("../src/dichroic.hrl").

-export([main/0, noop/4]).

-define(ROUNDS, 9).
-define(EVENTS, 200000).
-define(EVENT, [phoenix, endpoint, stop]).

main() ->
    {ok, _} = application:ensure_all_started(telemetry),
    Kinds = [none, noop, counter, buckets, exponential, both, stream_off, stream_on],
    io:format("telemetry ~ts, OTP ~ts, ~b schedulers, ~b rounds of ~b events~n",
              [case application:get_key(telemetry, vsn) of {ok, V} -> V; _ -> "?" end,
               erlang:system_info(otp_release), erlang:system_info(schedulers_online), ?ROUNDS, ?EVENTS]),
    [report(P, Kinds) || P <- [1, 2]],
    halt().

report(Processes, Kinds) ->
    Rounds = [[{K, round_of(K, Processes)} || K <- Kinds] || _ <- lists:seq(1, ?ROUNDS)],
    Sorted = fun(K, Ix) -> lists:sort([element(Ix, T) || R <- Rounds, {K1, T} <- R, K1 =:= K]) end,
    Median = fun(K, Ix) -> lists:nth(?ROUNDS div 2 + 1, Sorted(K, Ix)) end,
    io:format("~n~b process(es)    median    least   over no-op       cpu   over no-op~n", [Processes]),
    [io:format("  ~-14s ~7b  ~7b  ~10b  ~9b  ~10b~n",
               [K, Median(K, 1), hd(Sorted(K, 1)), Median(K, 1) - Median(noop, 1), Median(K, 2), Median(K, 2) - Median(noop, 2)])
     || K <- Kinds].

round_of(Kind, Processes) ->
    Clean = setup(Kind),
    Parent = self(),
    Each = ?EVENTS div Processes,
    Pids = [spawn_opt(fun() -> emitter(Parent, Each) end, [{min_heap_size, 20000}]) || _ <- lists:seq(1, Processes)],
    [receive {P, ready} -> ok end || P <- Pids],
    {Cpu0, _} = erlang:statistics(runtime),
    [P ! go || P <- Pids],
    %% Wall time of one process's share: two processes on two cores run at the same time.
    Ns = lists:max([receive {P, T} -> T end || P <- Pids]),
    {Cpu1, _} = erlang:statistics(runtime),
    Clean(),
    {Ns div Each, (Cpu1 - Cpu0) * 1000000 div (Each * Processes)}.

emitter(Parent, N) ->
    Metadata = metadata(),
    run(2000, Metadata),
    garbage_collect(),
    Parent ! {self(), ready},
    receive go -> ok end,
    T0 = erlang:monotonic_time(nanosecond),
    run(N, Metadata),
    Parent ! {self(), erlang:monotonic_time(nanosecond) - T0}.

run(0, _) -> ok;
run(N, Metadata) ->
    telemetry:execute(?EVENT, #{duration => 1000000 + N band 16#fffff}, Metadata),
    run(N - 1, Metadata).

metadata() ->
    Headers = [{<<"header-", (integer_to_binary(I))/binary>>, binary:copy(<<"v">>, 30)} || I <- lists:seq(1, 30)],
    Conn = #{'__struct__' => 'Elixir.Plug.Conn', method => <<"GET">>, status => 200, host => <<"www.example.com">>,
             request_path => <<"/users/42">>, path_info => [<<"users">>, <<"42">>], req_headers => Headers,
             resp_headers => Headers, params => #{<<"id">> => <<"42">>}, assigns => #{user => #{name => <<"x">>}},
             private => maps:from_list([{binary_to_atom(<<"p", (integer_to_binary(I))/binary>>), Headers} || I <- lists:seq(1, 8)]),
             remote_ip => {127, 0, 0, 1}, scheme => http, port => 4000, query_string => <<>>, state => sent, halted => false},
    #{conn => Conn, route => <<"/users/:id">>, plug => 'Elixir.UserController', plug_opts => show, options => [],
      log => info, telemetry_span_context => make_ref(), path_params => #{}, pipe_through => [browser], extra => 1}.

noop(_, _, _, _) -> ok.

setup(none) -> fun() -> ok end;
setup(noop) ->
    ok = telemetry:attach(bench, ?EVENT, fun ?MODULE:noop/4, 1),
    fun() -> ok = telemetry:detach(bench) end;
setup(Kind) ->
    Static = dichroic_tables:make(1),
    persistent_term:put(dichroic_handler, Static),
    {ok, [], Engine} = dichroic_engine:plan(plan(Kind), dichroic_engine:new(Static)),
    [?EVENT] = dichroic_engine:events(Engine),
    Senders = senders(Kind, Static, Engine),
    ok = telemetry:attach(bench, ?EVENT, fun dichroic_handler:handle/4, none),
    fun() ->
        ok = telemetry:detach(bench),
        [begin unlink(P), exit(P, kill), receive {'DOWN', Ref, process, _, _} -> ok end end || {P, Ref} <- Senders],
        %% Guards against a run that counts nothing.
        {Frames, _} = dichroic_engine:flush(1, 0, 0, 262144, Engine),
        true = lists:any(fun(F) -> lists:member(element(1, F), [numbers, histograms]) end, Frames),
        persistent_term:erase(dichroic_handler),
        dichroic_tables:drop(Static)
    end.

%% Receivers of a subscribed stream, which discard the rows; rows beyond the credit are dropped by the handler.
senders(stream_on, #static{shards = Shards, credit = Credit}, Engine) ->
    ok = dichroic_engine:streams_on(Engine),
    [begin
         P = spawn_link(fun() -> returning(Credit, dichroic_limiter:lane(I, Shards)) end),
         true = register(dichroic_event_sender:name(I), P),
         {P, monitor(process, P)}
     end || I <- lists:seq(1, Shards)];
senders(_, _, _) -> [].

returning(Credit, Lane) ->
    receive {row, _, _, _} -> dichroic_limiter:return(Credit, Lane, 1) end,
    returning(Credit, Lane).

plan(Kind) ->
    Aggregates = case Kind of
        counter -> [counter()];
        buckets -> [buckets()];
        exponential -> [exponential()];
        both -> [counter(), exponential()];
        _ -> [counter()]
    end,
    Streams = case Kind of
        _ when Kind =:= stream_off; Kind =:= stream_on -> [#{<<"schema">> => 1, <<"event">> => names(), <<"columns">> => labels()}];
        _ -> []
    end,
    Limits = #{<<"credit">> => 1000000, <<"rows_per_s">> => 100000000},
    #{<<"generation">> => 1, <<"aggregates">> => Aggregates, <<"streams">> => Streams, <<"limits">> => Limits}.

counter() -> entry(100, <<"counter">>, #{}).
buckets() ->
    entry(101, <<"buckets">>, #{<<"value">> => duration(), <<"bounds">> =>
        [B * 1.0e9 || B <- [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]]}).
exponential() ->
    entry(102, <<"exponential">>, #{<<"value">> => duration(), <<"scale">> => 3, <<"octaves">> => [-20, 12],
                                    <<"factor">> => 1.0e-9}).

entry(Key, Type, More) ->
    maps:merge(#{<<"key">> => Key, <<"type">> => Type, <<"event">> => names(), <<"labels">> => labels()}, More).

names() -> [atom_to_binary(A) || A <- ?EVENT].
duration() -> [<<"measurements">>, [<<"duration">>]].
labels() ->
    [[<<"metadata">>, [<<"conn">>, <<"method">>]], [<<"metadata">>, [<<"conn">>, <<"status">>]], [<<"metadata">>, [<<"route">>]]].
