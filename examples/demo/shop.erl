%% @doc A simulated shop: an Erlang node that serves simulated requests and emits the :telemetry events of Phoenix, Ecto, Oban and
%% telemetry_poller in their form.
%%
%% The code does not depend on Dichroic: the relay is a separate application. Each request is a process, as in Cowboy or Bandit:
%% endpoint start, route found, one or two queries, endpoint stop; some requests enqueue a job, some fail. The shop counts all
%% events that it emits and prints the counts as one line of JSON when it stops, so that other counts can be compared with them.
-module(shop).

-export([main/1]).

-define(SECOND, 1000).
-define(TRUTH, shop_truth).
-define(COUNTS, [requests, errors, queries, jobs, failed_jobs, active]).

%% Arguments: requests per second (as text or atom).
main([Rate]) ->
    Truth = counters:new(length(?COUNTS), [write_concurrency]),
    persistent_term:put(?TRUTH, Truth),
    PerSecond = list_to_integer(atom_to_list(Rate)),
    _ = spawn_link(fun poller/0),
    wait_for_a_handler(5 * ?SECOND),
    Clients = spawn(fun() -> clients(PerSecond) end),
    io:format("serving ~b requests a second on ~s~n", [PerSecond, node()]),
    wait(Clients).

%% Waits for a handler: events before that would not be counted, and the comparison would fail.
wait_for_a_handler(Left) ->
    case telemetry:list_handlers([phoenix, endpoint, stop]) of
        [] when Left > 0 ->
            timer:sleep(10),
            wait_for_a_handler(Left - 10);
        _ ->
            ok
    end.

%% Ends at the line "stop", or at the end of standard input.
wait(Clients) ->
    case io:get_line("") of
        "stop" ++ _ -> stop(Clients);
        eof -> stop(Clients);
        {error, _} -> stop(Clients);
        _ -> wait(Clients)
    end.

%% No new requests; running requests and their jobs complete.
stop(Clients) ->
    exit(Clients, kill),
    settle(),
    Pairs = [io_lib:format("\"~s\":~b", [Name, counted(Name)]) || Name <- ?COUNTS],
    io:format("truth {~s}~n", [lists:join(",", Pairs)]),
    %% Stops the relay first, so that it sends its last counts.
    _ = application:stop(dichroic),
    init:stop().

settle() ->
    case counted(active) of
        0 -> ok;
        _ -> timer:sleep(10), settle()
    end.

counted(Name) -> counters:get(persistent_term:get(?TRUTH), place(Name)).

place(Name) -> length(lists:takewhile(fun(N) -> N =/= Name end, ?COUNTS)) + 1.

count(Name) -> counters:add(persistent_term:get(?TRUTH), place(Name), 1).

%% Runs a request or a job in its own process.
start(Work) ->
    count(active),
    spawn(fun() -> Work(), counters:sub(persistent_term:get(?TRUTH), place(active), 1) end).

%% Open loop: requests start whether or not earlier ones are done, in small groups to keep timers cheap.
clients(PerSecond) ->
    Every = max(1, ?SECOND div max(1, PerSecond)),
    Group = max(1, PerSecond * Every div ?SECOND),
    clients(Group, Every).

clients(Group, Every) ->
    [start(fun request/0) || _ <- lists:seq(1, Group)],
    timer:sleep(Every),
    clients(Group, Every).

%% ---- a request with Phoenix's events -------------------------------------------------------------------------------------

request() ->
    {Method, Route, Action, Weight} = route(),
    Started = erlang:monotonic_time(),
    Conn = conn(Method, Route),
    emit([phoenix, endpoint, start], #{system_time => erlang:system_time()}, #{conn => Conn, options => []}),
    Dispatch = #{conn => Conn, route => Route, plug => 'Elixir.ShopWeb.PageController', plug_opts => Action,
                 path_params => #{}, pipe_through => [browser], log => debug},
    emit([phoenix, router_dispatch, start], #{system_time => erlang:system_time()}, Dispatch),
    query(<<"products">>, select, Weight),
    Method =:= <<"POST">> andalso query(<<"orders">>, insert, Weight * 2),
    work(Weight),
    Status = status(),
    Done = Conn#{status := Status, state := sent},
    emit([phoenix, router_dispatch, stop], #{duration => since(Started)}, Dispatch#{conn := Done}),
    emit([phoenix, endpoint, stop], #{duration => since(Started)}, #{conn => Done, options => []}),
    count(requests),
    Status >= 500 andalso count(errors),
    Method =:= <<"POST">> andalso job().

route() ->
    element(rand:uniform(4), {{<<"GET">>, <<"/">>, home, 2}, {<<"GET">>, <<"/products/:id">>, show, 6},
                              {<<"GET">>, <<"/search">>, search, 18}, {<<"POST">>, <<"/orders">>, create, 12}}).

status() ->
    case rand:uniform(100) of
        N when N =< 2 -> 500;
        N when N =< 5 -> 404;
        _ -> 200
    end.

conn(Method, Route) ->
    #{'__struct__' => 'Elixir.Plug.Conn', method => Method, request_path => Route, status => nil, host => <<"shop.example">>,
      port => 4000, scheme => http, state => unset, params => #{<<"id">> => <<"42">>}, remote_ip => {127, 0, 0, 1},
      req_headers => [{<<"accept">>, <<"text/html">>}, {<<"user-agent">>, <<"demo">>}], assigns => #{}, private => #{}}.

%% ---- Ecto ----------------------------------------------------------------------------------------------------------------

query(Source, Command, Weight) ->
    Began = erlang:monotonic_time(),
    work(Weight div 3),
    Total = since(Began),
    Queue = Total div 10,
    emit([my_app, repo, query],
         #{total_time => Total, query_time => Total - Queue, queue_time => Queue, decode_time => Total div 50,
           idle_time => erlang:convert_time_unit(rand:uniform(20), millisecond, native)},
         #{type => ecto_sql_query, repo => 'Elixir.Shop.Repo', source => Source,
           query => <<"SELECT p0.id FROM products AS p0">>, params => [],
           result => {ok, #{'__struct__' => 'Elixir.Postgrex.Result', command => Command, num_rows => 1}}, options => []}),
    count(queries).

%% ---- Oban ----------------------------------------------------------------------------------------------------------------

job() ->
    start(fun() ->
        Began = erlang:monotonic_time(),
        Meta = #{conf => #{name => 'Elixir.Oban'}, prefix => <<"public">>, state => success,
                 job => #{'__struct__' => 'Elixir.Oban.Job', id => erlang:unique_integer([positive]), queue => <<"mailers">>,
                          worker => <<"Shop.ReceiptMailer">>, attempt => 1, args => #{<<"order">> => 7}}},
        emit([oban, job, start], #{system_time => erlang:system_time()}, Meta),
        work(10),
        Measurements = #{duration => since(Began), memory => 24_000, reductions => 9_000,
                         queue_time => erlang:convert_time_unit(rand:uniform(30), millisecond, native)},
        case rand:uniform(20) of
            1 ->
                Failure = #{kind => error, reason => timeout, stacktrace => [], state => failure},
                emit([oban, job, exception], Measurements, maps:merge(Meta, Failure)),
                count(failed_jobs);
            _ ->
                emit([oban, job, stop], Measurements, Meta#{result => ok})
        end,
        count(jobs)
    end).

%% ---- telemetry_poller ----------------------------------------------------------------------------------------------------

%% Under the name of the real poller, so that the relay does not emit these events.
poller() ->
    register(telemetry_poller_default, self()),
    poll().

poll() ->
    emit([vm, memory], maps:from_list(erlang:memory()), #{}),
    Total = erlang:statistics(total_run_queue_lengths_all),
    Cpu = erlang:statistics(total_run_queue_lengths),
    emit([vm, total_run_queue_lengths], #{total => Total, cpu => Cpu, io => Total - Cpu}, #{}),
    Info = fun(Key) -> erlang:system_info(Key) end,
    emit([vm, system_counts],
         #{process_count => Info(process_count), process_limit => Info(process_limit), atom_count => Info(atom_count),
           atom_limit => Info(atom_limit), port_count => Info(port_count), port_limit => Info(port_limit)}, #{}),
    timer:sleep(2 * ?SECOND),
    poll().

%% ---- shared --------------------------------------------------------------------------------------------------------------

emit(Event, Measurements, Metadata) -> telemetry:execute(Event, Measurements, Metadata).

since(Began) -> erlang:monotonic_time() - Began.

%% Usually about Milliseconds, sometimes ten times as long, to give latencies a tail.
work(Milliseconds) ->
    Spread = 1 + rand:uniform(),
    Tail = case rand:uniform(50) of 1 -> 10; _ -> 1 end,
    timer:sleep(round(Milliseconds * Spread * Tail)).
