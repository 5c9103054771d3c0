%% @doc The relay's processes are killed under load: no emitter is disturbed, and later events are counted exactly.
-module(deaths_SUITE).

-compile([export_all, nowarn_export_all]).

-import(support, [counter/3, sum/4, plan/2, meas/1, meta/1, stream/3]).
-import(test_node, [with/2, call/3, call/4, counted/4]).

-define(E, [shop, order]).
-define(LOG, [dichroic, logger, message]).

all() -> [{group, deaths}].

groups() -> [{deaths, [parallel], [connection_and_engine, tables, handler_keeper, vm_poller, event_senders, handler_of_logger, all_at_once,
                                  the_top_supervisor, the_top_supervisor_and_the_handler_keeper, a_killed_handler_keeper_loses_no_counts,
                                  a_handler_keeper_killed_while_the_connection_is_busy_loses_no_counts,
                                  handlers_of_an_earlier_epoch_count_nothing]}].

plan() ->
    plan([counter(100, ?E, [meta(<<"k">>)]), sum(101, ?E, meas(<<"v">>), [meta(<<"k">>)]),
          counter(102, ?LOG, [meta(<<"domain">>)]), counter(103, [dichroic, vm, uptime], [])],
         #{<<"streams">> => [stream(7, ?E, [meas(<<"v">>)])]}).

connection_and_engine(_) -> killed([dichroic_connection]).
tables(_) -> killed([dichroic_tables]).
handler_keeper(_) -> killed([dichroic_handler_keeper]).
vm_poller(_) -> killed([dichroic_vm_poller]).
event_senders(_) -> killed([dichroic_event_sender_1, dichroic_event_sender_log, dichroic_event_sender_sup]).
all_at_once(_) -> killed([[dichroic_event_sender_1, dichroic_handler_keeper, dichroic_vm_poller, dichroic_connection, dichroic_tables]]).

%% Each process is killed three times while others emit.
killed(Names) ->
    with(#{plan => plan()}, fun(#{peer := Peer} = Node) ->
        ok = call(Peer, load, [4, ?E]),
        [ok = case Name of
                  [_ | _] -> call(Peer, kill_together, [Name]);
                  _ -> call(Peer, kill, [Name])
              end || _ <- [1, 2, 3], Name <- Names],
        exact(Node),
        true = call(Peer, unload, []) > 0,
        %% Dead processes leave no terms behind.
        [dichroic_atoms, dichroic_handler] = lists:sort(call(Peer, terms, []))
    end).

%% Once the handlers are attached again, the collector gets every count.
exact(#{peer := Peer, collector := C}) ->
    ok = call(Peer, attached, []),
    ok = call(Peer, emit, [?E, #{k => <<"after">>}, 1000]),
    counted(C, 100, [<<"after">>], {1000, 0.0}),
    counted(C, 101, [<<"after">>], {1000, 0.0}).

handler_of_logger(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, load, [4, ?E]),
        [begin
             ok = call(Peer, logger, remove_handler, [dichroic]),
             true = call(Peer, support, wait, [fun dichroic_logger:installed/0])
         end || _ <- [1, 2]],
        ok = call(Peer, log_notices, [<<"after">>, 200]),
        counted(C, 102, [<<"after">>], {200, 0.0}),
        _ = fake_collector:wait(C, fun(S) -> {N, 0.0} = fake_collector:total(S, 5, []), N >= 2 end),
        true = call(Peer, unload, []) > 0
    end).

%% A temporary application ends with its top supervisor; no handler stays attached.
the_top_supervisor(_) -> all_killed([dichroic_sup]).
the_top_supervisor_and_the_handler_keeper(_) -> all_killed([dichroic_sup, dichroic_handler_keeper]).

all_killed(Names) ->
    with(#{plan => plan()}, fun(#{peer := Peer}) ->
        ok = call(Peer, load, [4, ?E]),
        ok = call(Peer, kill_all, [Names]),
        support:wait(fun() -> [] =:= call(Peer, handlers, []) end),
        support:wait(fun() -> not lists:keymember(dichroic, 1, call(Peer, application, which_applications, [])) end),
        #{processes := [], tables := [], logger := [], terms := [dichroic_atoms]} = call(Peer, left, [[]]),
        true = call(Peer, unload, []) > 0,
        ok = call(Peer, application, start, [dichroic]),
        ok = call(Peer, attached, [])
    end).

a_killed_handler_keeper_loses_no_counts(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, load, [4, ?E]),
        [ok = call(Peer, kill, [dichroic_handler_keeper]) || _ <- [1, 2, 3]],
        ok = call(Peer, log_notices, [<<"meanwhile">>, 100]),
        Events = call(Peer, unload, []),
        all_counted(C, Events),
        counted(C, 102, [<<"meanwhile">>], {100, 0.0}),
        %% No handler had to be attached again.
        none = fake_collector:total(fake_collector:state(C), 5, [])
    end).

a_handler_keeper_killed_while_the_connection_is_busy_loses_no_counts(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, sys, suspend, [dichroic_connection]),
        ok = call(Peer, kill, [dichroic_handler_keeper]),
        ok = call(Peer, emit, [?E, #{k => <<"busy">>}, 1000]),
        [{dichroic, 1}, {dichroic, failure}] = lists:sort(call(Peer, handlers, [])),
        %% A detached handler is attached again as usual.
        ok = call(Peer, telemetry, detach, [{dichroic, 1}]),
        ok = call(Peer, attached_again, [?E]),
        ok = call(Peer, emit, [?E, #{k => <<"busy">>}, 1000]),
        ok = call(Peer, sys, resume, [dichroic_connection]),
        counted(C, 100, [<<"busy">>], {2000, 0.0}),
        counted(C, 5, [], {1, 0.0})
    end).

all_counted(C, Events) ->
    _ = fake_collector:wait(C, fun(#{rows := Rows}) ->
        Events =:= lists:sum([N || {{100, _, _}, {N, 0.0}} <- maps:to_list(Rows)])
    end).

%% Handlers find their programs by the names of events, so that those of an earlier epoch have nothing to count for.
handlers_of_an_earlier_epoch_count_nothing(_) ->
    with(#{plan => plan()}, fun(#{peer := Peer, collector := C}) ->
        ok = call(Peer, sys, suspend, [dichroic_connection]),
        _ = call(Peer, dichroic_tables, reset, []),
        ok = call(Peer, kill, [dichroic_handler_keeper]),
        ok = call(Peer, emit, [?E, #{k => <<"earlier">>}, 1000]),
        ok = call(Peer, log_notices, [<<"earlier">>, 10]),
        ok = call(Peer, sys, resume, [dichroic_connection]),
        ok = call(Peer, attached_again, [?E]),
        _ = fake_collector:wait(C, fun(#{connections := N, replies := R}) -> N >= 2 andalso R =/= [] end),
        ok = call(Peer, emit, [?E, #{k => <<"later">>}, 10]),
        counted(C, 100, [<<"later">>], {10, 0.0}),
        none = fake_collector:total(fake_collector:state(C), 100, [<<"earlier">>]),
        none = fake_collector:total(fake_collector:state(C), 4, [])
    end).
