%% @doc A node that emits events of 20 names at a fixed rate from a process on each scheduler, for `frames.py`.
-module(names).

-export([main/1]).

-spec main(PerSecond :: pos_integer()) -> no_return().
main(PerSecond) ->
    Events = list_to_tuple(events()),
    20 = tuple_size(Events),
    Schedulers = erlang:system_info(schedulers),
    Each = fun(Scheduler) ->
        %% The relay has a sender for each scheduler.
        fun() -> loop(Events, PerSecond div Schedulers, erlang:monotonic_time(microsecond), 0) end
    end,
    [spawn_opt(Each(S), [link, {scheduler, S}]) || S <- lists:seq(1, Schedulers)],
    receive never -> ok end.

loop(Events, PerSecond, Start, Sent) ->
    Due = (erlang:monotonic_time(microsecond) - Start) * PerSecond div 1_000_000,
    [begin
         {Event, Measurements, Metadata} = element(1 + N rem 20, Events),
         telemetry:execute(Event, Measurements, Metadata)
     end || N <- lists:seq(Sent, Due - 1)],
    timer:sleep(1),
    loop(Events, PerSecond, Start, max(Sent, Due)).

events() ->
    Conn = #{method => <<"GET">>, status => 200},
    Job = #{queue => <<"mailers">>, worker => <<"Shop.ReceiptMailer">>, id => 1, attempt => 2},
    Plugin = #{plugin => 'Elixir.Oban.Plugins.Pruner'},
    Socket = #{channel => 'Elixir.ShopWeb.RoomChannel', transport => websocket},
    Worker = #{pool => default, worker_id => <<"default_worker_1_1771">>},
    Call = Worker#{command => <<"embed">>, operation => execute},
    Time = #{duration => ms(3)},
    [{[phoenix, endpoint, stop], Time, #{conn => Conn}},
     {[phoenix, router_dispatch, stop], Time, #{conn => Conn, route => <<"/search">>}},
     {[phoenix, router_dispatch, exception], Time, #{conn => Conn, route => <<"/search">>, kind => error}},
     {[phoenix, error_rendered], Time, #{conn => Conn, status => 500, kind => error}},
     {[phoenix, socket_connected], Time, #{transport => websocket, result => ok}},
     {[phoenix, channel_joined], Time, #{socket => Socket, result => ok}},
     {[phoenix, channel_handled_in], Time, #{socket => Socket, event => <<"say">>}},
     {[oban, job, stop], Time#{queue_time => ms(5)}, #{job => Job, state => success}},
     {[oban, job, exception], Time#{queue_time => ms(5)}, #{job => Job, state => failure, kind => error}},
     {[oban, plugin, stop], Time, Plugin#{pruned_count => 5}},
     {[oban, plugin, exception], Time, Plugin#{kind => error}},
     {[snakepit, grpc_worker, execute, stop], Time#{executions => 1}, Call#{status => ok}},
     {[snakepit, python, call, stop], Time, #{library => <<"numpy">>, function => <<"mean">>, call_type => <<"function">>}},
     {[snakepit, pool, saturated], #{queue_size => 9, max_queue_size => 9}, Worker#{available_workers => 0, busy_workers => 4}},
     {[snakepit, worker, crash], #{}, Worker#{reason => timeout, exit_code => 137}},
     {[snakepit, pool, worker, terminated], #{lifetime => ms(90_000), total_commands => 7}, Worker#{planned => false, reason => normal}},
     {[snakepit, worker, restarted], #{}, Worker#{reason => timeout, exit_code => 137}},
     {[snakepit, worker, recycled], #{count => 1, memory_mb => 512}, Worker#{reason => ttl_expired}},
     {[snakepit, heartbeat, heartbeat_timeout], #{missed => 1}, Worker},
     {[my_app, repo, query], #{total_time => ms(9), query_time => ms(8), queue_time => ms(1)},
      #{repo => 'Elixir.Shop.Repo', source => <<"orders">>, result => {ok, []}}}].

ms(N) -> erlang:convert_time_unit(N, millisecond, native).
