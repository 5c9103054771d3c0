%% @doc A node of a cluster, controlled by commands on standard input, one per line. Replies with `done' and a result.
-module(nodes).

-export([main/0, metrics/0]).

main() ->
    io:format("ready~n"),
    commands().

commands() ->
    Answer = case string:lexemes(io:get_line(""), " \n") of
        ["emit", N] -> emit(list_to_integer(N));
        ["bandit", N] -> requests(list_to_integer(N), fun bandit/0), list_to_integer(N);
        ["name", Node] ->
            {ok, _} = net_kernel:start(list_to_atom(Node), #{name_domain => longnames, dist_listen => false}),
            node();
        ["join", Node] -> net_kernel:connect_node(list_to_atom(Node));
        ["talk", Node] -> length([{unregistered, list_to_atom(Node)} ! lists:seq(1, 100) || _ <- lists:seq(1, 100)]);
        ["checkout", N, Plan] -> checkout(list_to_integer(N), list_to_atom(Plan));
        ["cut"] -> cut();
        ["upgrade", Times] -> upgrade(list_to_integer(Times));
        ["stop"] ->
            _ = application:stop(dichroic),
            init:stop()
    end,
    io:format("done ~0tp~n", [Answer]),
    commands().

%% A Telemetry.Metrics struct with functions, as compiled by Elixir.
metrics() ->
    [{counter, "shop.checkout.stop.count", [{tags, [plan]}]},
     {sum, "shop.checkout.stop.size", [{unit, byte}]},
     #{'__struct__' => 'Elixir.Telemetry.Metrics.Distribution', name => [shop, checkout, stop, duration],
       event_name => [shop, checkout, stop], measurement => fun(#{duration := Native}) -> Native / 1000000 end, tags => [plan],
       tag_values => fun(Metadata) -> maps:update_with(plan, fun erlang:atom_to_binary/1, Metadata) end,
       keep => fun(#{plan := P}) -> P =/= trial end, description => <<"Time of a checkout.">>, unit => millisecond,
       reporter_options => [{buckets, [10, 100]}]}].

checkout(N, Plan) ->
    [telemetry:execute([shop, checkout, stop], #{duration => 50000000, size => 3}, #{plan => Plan}) || _ <- lists:seq(1, N)],
    N.

emit(N) ->
    Pids = [spawn_monitor(fun() -> requests(N div 4, fun request/0) end) || _ <- lists:seq(1, 4)],
    [receive {'DOWN', Ref, _, _, Reason} -> normal = Reason end || {_, Ref} <- Pids],
    4 * (N div 4).

requests(0, _) -> ok;
requests(N, Request) -> Request(), requests(N - 1, Request).

request() -> telemetry:execute([phoenix, endpoint, stop], #{duration => 1000000}, #{conn => #{method => <<"GET">>, status => 200}}).

bandit() ->
    telemetry:execute([bandit, request, stop], #{duration => 1000000, conn => #{}},
                      #{conn => #{method => <<"GET">>, status => 200, private => #{plug_route => {<<"/x">>, none}}}}).

%% Closes the socket of the relay's connection, once it exists, at any point.
cut() ->
    Connection = whereis(dichroic_connection),
    case [P || P <- erlang:ports(), erlang:port_info(P, connected) =:= {connected, Connection}] of
        [] -> timer:sleep(5), cut();
        Ports -> length([exit(P, kill) || P <- Ports])
    end.

%% Replaces a module of the application repeatedly while processes run it. Returns how often it emitted.
upgrade(Times) ->
    load(0),
    Self = self(),
    Pids = [spawn_link(fun() -> work(Self, 0) end) || _ <- lists:seq(1, 3)],
    [begin load(V), timer:sleep(20) end || V <- lists:seq(1, Times)],
    [P ! stop || P <- Pids],
    lists:sum([receive {P, N} -> N end || P <- Pids]).

work(Parent, N) ->
    receive stop -> Parent ! {self(), N}
    after 0 ->
        V = hot_module:emit(),
        true = is_integer(V),
        N rem 50 =:= 0 andalso timer:sleep(1),
        work(Parent, N + 1)
    end.

load(V) ->
    Forms = [{attribute, 1, module, hot_module}, {attribute, 1, export, [{emit, 0}]},
             {function, 1, emit, 0, [{clause, 1, [], [],
                 [{call, 1, {remote, 1, {atom, 1, telemetry}, {atom, 1, execute}},
                   [erl_parse:abstract([phoenix, endpoint, stop]), erl_parse:abstract(#{duration => 1000000}),
                    erl_parse:abstract(#{conn => #{method => <<"GET">>, status => 200}})]},
                  {integer, 1, V}]}]}],
    {ok, hot_module, Beam} = compile:forms(Forms, []),
    _ = code:soft_purge(hot_module),
    {module, hot_module} = code:load_binary(hot_module, "hot_module.erl", Beam),
    ok.
