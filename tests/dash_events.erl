%% @doc Events of packs that the demo's shop does not emit: failures, sockets, channels, plugins, Snakepit.
%%
%% For the test of the dashboards, so that every panel has data. Runs beside the shop in the same node and emits one of each several
%% times a second, in the form of the libraries.
-module(dash_events).

-export([start/0]).

-define(EVERY_MS, 200).

start() ->
    %% A process that does not read its messages.
    Busy = spawn(fun() -> receive never -> ok end end),
    true = register(dash_busy, Busy),
    _ = [Busy ! N || N <- lists:seq(1, 9)],
    spawn(fun loop/0).

loop() ->
    [telemetry:execute(Event, Measurements, Metadata) || {Event, Measurements, Metadata} <- events()],
    timer:sleep(?EVERY_MS),
    loop().

events() -> oban() ++ phoenix() ++ snakepit() ++ ecto().

oban() ->
    Job = #{queue => <<"mailers">>, worker => <<"Shop.ReceiptMailer">>, id => 1, attempt => 2},
    Plugin = #{plugin => 'Elixir.Oban.Plugins.Pruner'},
    [{[oban, job, exception], #{duration => ms(20), queue_time => ms(5)}, #{job => Job, state => failure, kind => error}},
     {[oban, plugin, stop], #{duration => ms(3)}, Plugin#{pruned_count => 5}},
     {[oban, plugin, stop], #{duration => ms(3)}, Plugin#{pruned_count => 0, error => timeout}},
     {[oban, plugin, exception], #{duration => ms(3)}, Plugin#{kind => error}}].

phoenix() ->
    Socket = #{channel => 'Elixir.ShopWeb.RoomChannel', transport => websocket},
    Conn = #{method => <<"GET">>, status => 500},
    [{[phoenix, router_dispatch, exception], #{duration => ms(2)}, #{conn => Conn, route => <<"/search">>, kind => error}},
     {[phoenix, error_rendered], #{duration => ms(1)}, #{conn => Conn, status => 500, kind => error}},
     {[phoenix, socket_connected], #{duration => ms(1)}, #{transport => websocket, result => ok}},
     {[phoenix, channel_joined], #{duration => ms(2)}, #{socket => Socket, result => ok}},
     {[phoenix, channel_handled_in], #{duration => ms(4)}, #{socket => Socket, event => <<"say">>}}].

snakepit() ->
    Worker = <<"default_worker_1_1771">>,
    Call = #{pool => 'Elixir.Snakepit.Pool', command => <<"embed">>, operation => execute, worker_id => Worker},
    Python = #{library => <<"numpy">>, function => <<"mean">>, call_type => <<"function">>},
    [{[snakepit, grpc_worker, execute, stop], #{duration => ms(15), executions => 1}, Call#{status => ok}},
     {[snakepit, grpc_worker, execute, stop], #{duration => ms(40), executions => 1, errors => 1},
      Call#{status => error, error => timeout}},
     {[snakepit, python, call, stop], #{duration => ms(12)}, Python},
     {[snakepit, python, call, stop], #{duration => 10_000_000}, Python#{timestamp_ns => 1, worker_id => Worker}},
     {[snakepit, pool, saturated], #{queue_size => 9, max_queue_size => 9},
      #{pool => default, available_workers => 0, busy_workers => 4}},
     {[snakepit, worker, crash], #{}, #{pool => default, worker_id => Worker, reason => {grpc_server_exited, 137}, exit_code => 137}},
     {[snakepit, pool, worker, terminated], #{lifetime => ms(90_000), total_commands => 7},
      #{worker_id => Worker, planned => false, reason => {grpc_server_exited, 137}}},
     {[snakepit, worker, restarted], #{}, #{pool => default, worker_id => Worker, reason => {grpc_server_exited, 137}, exit_code => 137}},
     {[snakepit, worker, recycled], #{count => 1, memory_mb => 512},
      #{pool => 'Elixir.Snakepit.Pool', worker_id => Worker, reason => ttl_expired}},
     {[snakepit, heartbeat, heartbeat_timeout], #{missed => 1}, #{worker_id => Worker}}].

%% One duration is not a number, on purpose.
ecto() ->
    [{[my_app, repo, query], #{total_time => ms(9), query_time => ms(8), queue_time => ms(1), idle_time => unknown},
      #{repo => 'Elixir.Shop.Repo', source => <<"orders">>, result => {error, timeout}}}].

ms(N) -> erlang:convert_time_unit(N, millisecond, native).
