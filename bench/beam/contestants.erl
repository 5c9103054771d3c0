%% @doc The contestants of the benches in this folder, each configured to count the same metrics.
%%
%% start/2 sets up a contestant and returns a function to read and to stop it; all of them receive the same events through
%% `telemetry'. Dichroic's plan is that of the collector for a counter and a distribution with three labels. Other reporters are
%% used as in their documentation, in their cheapest form: no unit conversion, and a `tag_values' function that reads only the
%% three values. Their code is not part of this repository; the caller adds it to the code path.
-module(contestants).

-include("../../beam-relay/src/dichroic.hrl").

-export([present/1, name/1, start/2, noop/4, event/0, metadata/1, bounds_s/0]).

-define(EVENT, [phoenix, endpoint, stop]).

event() -> ?EVENT.

%% The bounds of OpenTelemetry's semantic conventions for durations in seconds.
bounds_s() -> [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0].
bounds_ns() -> [B * 1.0e9 || B <- bounds_s()].

%% @doc Those of these kinds whose code can be loaded.
present(Kinds) -> [K || K <- Kinds, loadable(K)].

loadable({peep, _}) -> code:ensure_loaded('Elixir.Peep') =:= {module, 'Elixir.Peep'};
loadable(core) -> code:ensure_loaded('Elixir.TelemetryMetricsPrometheus.Core') =:= {module, 'Elixir.TelemetryMetricsPrometheus.Core'};
loadable(_) -> true.

name(none) -> "no handler";
name(noop) -> "no-op handler";
name({dichroic, stream}) -> "dichroic, a stream, off";
name({dichroic, stream_on}) -> "dichroic, a stream, all rows";
name({dichroic, stream_flood}) -> "dichroic, a stream, its limits";
name({dichroic, phoenix}) -> "dichroic, pack of Phoenix";
name({dichroic, What}) -> io_lib:format("dichroic, ~p", [What]);
name({peep, Storage}) -> io_lib:format("Peep, ~p", [Storage]);
name(core) -> "TelemetryMetricsPrometheus".

%% @doc Starts a contestant that counts `Metrics'. The returned function accepts `read', which returns its counts in its own form,
%% and `stop'.
-spec start(term(), [map()]) -> fun((read | stop) -> term()).
start(none, _) -> fun(_) -> ok end;
start(noop, _) ->
    ok = telemetry:attach(bench, ?EVENT, fun ?MODULE:noop/4, 1),
    fun(read) -> ok; (stop) -> telemetry:detach(bench) end;
start({dichroic, Which}, Metrics) ->
    Static = dichroic_tables:make(1),
    persistent_term:put(dichroic_handler, Static),
    {ok, [], Engine} = dichroic_engine:plan(plan(Which, Metrics), dichroic_engine:new(Static)),
    true = lists:member(?EVENT, dichroic_engine:events(Engine)),
    Relays = relays(Which, Static, Engine),
    ok = telemetry:attach(bench, ?EVENT, fun dichroic_handler:handle/4, none),
    put(?MODULE, Engine),
    fun(read) ->
            {Frames, After} = dichroic_engine:flush(1, 0, 0, 262144, get(?MODULE)),
            put(?MODULE, After),
            Frames;
       (stop) ->
            ok = telemetry:detach(bench),
            _ = erase(?MODULE),
            persistent_term:erase(dichroic_handler),
            _ = [stop(P) || P <- Relays],
            dichroic_tables:drop(Static)
    end;
start({peep, Storage}, Metrics) ->
    {ok, Pid} = 'Elixir.Peep':start_link([{name, bench_peep}, {metrics, [struct(M) || M <- Metrics]}, {storage, Storage}]),
    fun(read) -> 'Elixir.Peep':get_all_metrics(bench_peep); (stop) -> stop(Pid) end;
start(core, Metrics) ->
    {ok, Pid} = 'Elixir.TelemetryMetricsPrometheus.Core':start_link(
        [{name, bench_core}, {start_async, false}, {metrics, [struct(M) || M <- Metrics]}]),
    fun(read) -> iolist_to_binary('Elixir.TelemetryMetricsPrometheus.Core':scrape(bench_core)); (stop) -> stop(Pid) end.

%% A subscribed stream. The receivers of the rows only return the credit.
relays(Which, #static{shards = Shards} = Static, Engine) when Which =:= stream_on; Which =:= stream_flood ->
    ok = dichroic_engine:streams_on(Engine),
    [begin
         Pid = spawn_link(fun() -> take(Static#static.credit, dichroic_limiter:lane(I, Shards)) end),
         true = register(dichroic_event_sender:name(I), Pid),
         Pid
     end || I <- lists:seq(1, Shards)];
relays(_, _, _) -> [].

take(Credit, Lane) ->
    receive {row, _, _, _} -> dichroic_limiter:return(Credit, Lane, 1) end,
    take(Credit, Lane).

stop(Pid) ->
    true = unlink(Pid),
    Ref = monitor(process, Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Ref, _, _, _} -> ok end,
    %% Handlers of a reporter that was killed must not count in the next run.
    _ = [telemetry:detach(Id) || #{id := Id} <- telemetry:list_handlers([])],
    ok.

noop(_, _, _, _) -> ok.

%%% Metrics: #{type := counter | sum | distribution, name := [atom()], measurement, unit, options, bounds}

struct(#{type := Type, name := Name} = M) ->
    'Elixir.Telemetry.Metrics':Type(Name, [
        {event_name, ?EVENT}, {measurement, maps:get(measurement, M, duration)}, {tags, [method, status, route]},
        {tag_values, fun conn_tags/1}, {reporter_options, maps:get(options, M, [{buckets, bounds_ns()}])}
        | [{unit, Unit} || #{unit := Unit} <- [M]]]).

conn_tags(#{conn := #{method := Method, status := Status}, route := Route}) ->
    #{method => Method, status => Status, route => Route}.

%% @doc The plan for these metrics; `Which' selects the type of a distribution.
plan(phoenix, _) ->
    %% As in the pack of Phoenix: one distribution, the method from a list, the route carried.
    Allowed = [<<"GET">>, <<"POST">>, <<"PUT">>, <<"PATCH">>, <<"DELETE">>, <<"HEAD">>, <<"OPTIONS">>, <<"CONNECT">>, <<"TRACE">>],
    [Method, Status, _] = labels(),
    Labels = [Method ++ [[<<"allow">> | Allowed]], Status, [<<"carry">>, [<<"route">>]]],
    #{<<"generation">> => 1, <<"streams">> => [],
      <<"carries">> => [#{<<"event">> => [<<"phoenix">>, <<"router_dispatch">>, <<"start">>],
                          <<"slots">> => #{<<"route">> => [<<"metadata">>, [<<"route">>]]}}],
      <<"aggregates">> => [(aggregate(100, buckets, #{}))#{<<"labels">> := Labels}]};
plan(Which, Metrics) ->
    Streams = [#{<<"schema">> => 1, <<"event">> => names(), <<"columns">> => labels()} || lists:member(Which, [stream, stream_on, stream_flood])],
    %% All rows, or the collector's default limits.
    Limits = case Which of
                 stream_on -> #{<<"rows_per_s">> => 100000000, <<"credit">> => 100000000};
                 _ -> #{<<"rows_per_s">> => 50000, <<"credit">> => 20000}
             end,
    #{<<"generation">> => 1, <<"limits">> => Limits, <<"streams">> => Streams,
      <<"aggregates">> => [aggregate(I, Which, M) || {I, M} <- lists:zip(lists:seq(100, 99 + length(Metrics)), Metrics)]}.

aggregate(Key, _, #{type := counter}) -> entry(Key, <<"counter">>, #{});
aggregate(Key, _, #{type := sum} = M) -> entry(Key, <<"sum">>, #{<<"value">> => value(M)});
aggregate(Key, exponential, M) ->
    entry(Key, <<"exponential">>, #{<<"value">> => value(M), <<"scale">> => 3, <<"octaves">> => [-20, 12], <<"factor">> => 1.0e-9});
aggregate(Key, _, M) ->
    entry(Key, <<"buckets">>, #{<<"value">> => value(M), <<"bounds">> => bounds_ns()}).

entry(Key, Type, More) ->
    maps:merge(#{<<"key">> => Key, <<"type">> => Type, <<"event">> => names(), <<"labels">> => labels()}, More).

names() -> [atom_to_binary(A) || A <- ?EVENT].
value(M) -> [<<"measurements">>, [atom_to_binary(maps:get(measurement, M, duration))]].
labels() ->
    [[<<"metadata">>, [<<"conn">>, <<"method">>]], [<<"metadata">>, [<<"conn">>, <<"status">>]], [<<"metadata">>, [<<"route">>]]].

%%% Emitted events

%% @doc Metadata of an event: only the three labels, or ten keys with a connection as in Phoenix.
metadata(small) -> #{conn => #{method => <<"GET">>, status => 200}, route => <<"/users/:id">>};
metadata(conn) ->
    Headers = [{<<"header-", (integer_to_binary(I))/binary>>, binary:copy(<<"v">>, 30)} || I <- lists:seq(1, 16)],
    Private = maps:from_list([{binary_to_atom(<<"p", (integer_to_binary(I))/binary>>), copy(Headers)} || I <- lists:seq(1, 4)]),
    Conn = #{'__struct__' => 'Elixir.Plug.Conn', method => <<"GET">>, status => 200, host => <<"www.example.com">>,
             request_path => <<"/users/42">>, path_info => [<<"users">>, <<"42">>], req_headers => Headers,
             resp_headers => copy(Headers), params => #{<<"id">> => <<"42">>}, assigns => #{user => #{name => <<"x">>}},
             private => Private, remote_ip => {127, 0, 0, 1}, scheme => http, port => 4000, query_string => <<>>,
             state => sent, halted => false},
    #{conn => Conn, route => <<"/users/:id">>, plug => 'Elixir.UserController', plug_opts => show, options => [],
      log => info, telemetry_span_context => make_ref(), path_params => #{}, pipe_through => [browser], extra => 1}.

copy(Headers) -> [{binary:copy(K), binary:copy(V)} || {K, V} <- Headers].
