%% @doc The plan that counts before the first collector: its keys are those of the collector's plan; counting by it; the cache.
-module(dichroic_early_plan_tests).

-include_lib("eunit/include/eunit.hrl").

-import(support, [plan/1, counter/3, meta/1, wait/1]).

%% The collector decides which of the packs that share a metric provides it, so that it leaves some entries out.
the_collectors_plan_has_the_same_keys_test_() ->
    {ok, Cases} = file:consult(filename:join(filename:dirname(?FILE), "plan_keys.terms")),
    [{support:title({App, Variables}), fun() ->
        Sampled = dichroic_vm_poller:events(),
        #{<<"aggregates">> := Entries} = Plan = dichroic_early_plan:fill(templates(), App, Variables),
        Filled = [K || #{<<"key">> := K} <- Entries],
        ?assertEqual(length(Filled), length(lists:usort(Filled))),
        {ok, #{refused := [], aggregates := Compiled}} = dichroic_plan:compile(Plan),
        ?assertEqual([], [E || {E, _, _, _} <- Compiled, lists:member(E, Sampled)]),
        Missing = Keys -- Filled,
        %% Those that the relay reads itself.
        #{<<"aggregates">> := All} = element(2, templates()),
        Read = [K || #{<<"key">> := K, <<"event">> := E} <- All, lists:member([binary_to_atom(P) || P <- E], Sampled)],
        ?assertEqual([], Missing -- Read),
        ?assert(length(Filled) > 300),
        ?assert(length(Filled -- Keys) < 12)
    end} || {App, Variables, Keys} <- Cases].

templates() ->
    with([{early, true}], fun dichroic_early_plan:read/0).

an_application_is_named_as_otp_names_it_test_() ->
    Events = fun(Service) ->
        #{<<"aggregates">> := As} = dichroic_early_plan:fill(templates(), Service, #{}),
        lists:usort([hd(E) || #{<<"event">> := E} <- As, lists:last(E) =:= <<"query">>])
    end,
    [?_assertEqual(lists:sort([App, <<"my_app">>]), Events(Service))
     || {Service, App} <- [{<<"My-Shop">>, <<"my_shop">>}, {<<"shop">>, <<"shop">>}, {<<"--a..b--"/utf8>>, <<"a_b">>}]].

%% Without a setting the tests of the relay count nothing before their collector's plan.
with(Settings, Test) ->
    Before = application:get_env(dichroic, early),
    _ = [application:set_env(dichroic, K, V) || {K, V} <- Settings],
    try Test()
    after
        _ = [application:unset_env(dichroic, K) || {K, _} <- Settings],
        case Before of {ok, V} -> application:set_env(dichroic, early, V); undefined -> ok end
    end.

events_before_the_first_collector_are_counted_test_() ->
    {timeout, 60, fun() -> with([{early, true}], fun() ->
        Path = support:socket_path(),
        ok = support:start_relay(Path),
        try
            Stop = [phoenix, endpoint, stop],
            wait(fun() -> support:handlers(Stop) =/= [] end),
            [telemetry:execute(Stop, #{duration => 1000000}, #{conn => #{method => <<"GET">>, status => 200}, options => []})
             || _ <- lists:seq(1, 1000)],
            %% The plan of a collector: the entry of the pack, and nothing else.
            #{<<"aggregates">> := All} = dichroic_early_plan:fill(templates(), <<>>, #{}),
            [#{<<"key">> := Key} = Entry | _] = [E || #{<<"event">> := [<<"phoenix">>, <<"endpoint">>, <<"stop">>], <<"bounds">> := _} = E <- All],
            {C, _} = fake_collector:start(Path, #{plan => plan([Entry])}),
            dichroic:reconnect(),
            #{rows := Rows} = fake_collector:wait(C, fun(#{rows := Rows} = S) -> map_size(Rows) > 0 andalso S end),
            ?assertEqual([1000], [lists:sum([N || {_, N} <- Buckets]) || {{K, _, _}, {_, _, Buckets}} <- maps:to_list(Rows), K =:= Key]),
            fake_collector:stop(C)
        after support:stop_relay(), file:delete(Path)
        end
    end) end}.

metrics_of_the_application_need_no_plan_test_() ->
    {timeout, 60, fun() -> with([{early, true}, {metrics, [{counter, "shop.order.count"}]}], fun() ->
        Path = support:socket_path(),
        ok = support:start_relay(Path),
        try
            wait(fun() -> support:handlers([shop, order]) =/= [] end),
            [telemetry:execute([shop, order], #{}, #{}) || _ <- lists:seq(1, 100)],
            {C, _} = fake_collector:start(Path, #{plan => plan([])}),
            dichroic:reconnect(),
            fake_collector:wait(C, fun(#{rows := Rows}) -> lists:member({100, 0.0}, maps:values(Rows)) end),
            fake_collector:stop(C)
        after support:stop_relay(), file:delete(Path)
        end
    end) end}.

the_last_plan_is_kept_where_a_folder_is_set_test_() ->
    {timeout, 60, fun() ->
        Dir = filename:join(os:getenv("TMPDIR", "/tmp"), "dichroic-cache-" ++ os:getpid()),
        with([{early, true}, {cache_dir, Dir}], fun() ->
            Path = support:socket_path(),
            {C, _} = fake_collector:start(Path, #{plan => plan([counter(100, [shop, order], [meta(<<"k">>)])])}),
            ok = support:start_relay(Path),
            wait(fun() -> #{state := steady} = dichroic:info() end),
            support:stop_relay(),
            fake_collector:stop(C),
            ok = support:start_relay(Path),
            try
                wait(fun() -> support:handlers([shop, order]) =/= [] end),
                ?assertEqual([], support:handlers([phoenix, endpoint, stop])),
                telemetry:execute([shop, order], #{}, #{k => <<"a">>}),
                {C2, _} = fake_collector:start(Path, #{plan => plan([counter(100, [shop, order], [meta(<<"k">>)])])}),
                dichroic:reconnect(),
                fake_collector:wait(C2, fun(S) -> {1, 0.0} =:= fake_collector:total(S, 100, [<<"a">>]) end),
                fake_collector:stop(C2),
                %% A damaged file is not used.
                [File] = filelib:wildcard(filename:join(Dir, "*.plan")),
                ok = file:write_file(File, <<9, 255>>),
                ?assertMatch({templates, _}, dichroic_early_plan:read())
            after support:stop_relay(), file:delete(Path), file:del_dir_r(Dir)
            end
        end)
    end}.

an_attached_relay_has_none_test() ->
    application:set_env(dichroic, mode, attached),
    try ?assertEqual(none, dichroic_early_plan:read())
    after application:unset_env(dichroic, mode)
    end.
