%% @doc Stand-in for the telemetry library, so that the tests need no dependency.
%%
%% Implements the documented contract of the functions that the relay and its tests use: unique handler ids, handlers called in
%% the process that executes, a failing handler detached from all its events and reported as `[telemetry, handler,
%% failure]', no effect while the application is not running. telemetry_contract_tests checks both this module and the real
%% library. Writes go through one process; callers read the table.
-module(telemetry).

-behaviour(gen_server).

-export([attach/4, attach_many/4, persist/0, detach/1, execute/2, execute/3, span/3, list_handlers/1]).
-export([init/1, handle_call/3, handle_cast/2]).

-define(TABLE, telemetry_handler_table).

attach(Id, Event, Fun, Config) -> attach_many(Id, [Event], Fun, Config).

attach_many(Id, Events, Fun, Config) when is_function(Fun, 4) ->
    lists:foreach(fun([_ | _] = E) -> true = lists:all(fun is_atom/1, E) end, Events),
    gen_server:call(?TABLE, {attach, Id, Events, Fun, Config}).

%% The library keeps its handlers in a persistent term from then on.
persist() -> ok.

detach(Id) -> gen_server:call(?TABLE, {detach, Id}).

list_handlers(Prefix) ->
    [#{id => Id, event_name => Event, function => Fun, config => Config}
     || {Event, Id, Fun, Config} <- ets:tab2list(?TABLE), lists:prefix(Prefix, Event)].

execute(Event, Measurements) -> execute(Event, Measurements, #{}).

execute(Event, Value, Metadata) when is_number(Value) -> execute(Event, #{value => Value}, Metadata);
execute([_ | _] = Event, Measurements, Metadata) when is_map(Measurements), is_map(Metadata) ->
    lists:foreach(fun(H) -> call(H, Event, Measurements, Metadata) end, handlers(Event)).

handlers(Event) -> try ets:lookup(?TABLE, Event) catch error:badarg -> [] end.

call({_, Id, Fun, Config}, Event, Measurements, Metadata) ->
    try Fun(Event, Measurements, Metadata, Config)
    catch Kind:Reason:Stack ->
        detach(Id),
        execute([telemetry, handler, failure],
                #{monotonic_time => erlang:monotonic_time(), system_time => erlang:system_time()},
                #{event_name => Event, handler_id => Id, handler_config => Config, kind => Kind, reason => Reason,
                  stacktrace => Stack})
    end.

span(Prefix, StartMetadata, Fun) ->
    Start = erlang:monotonic_time(),
    Context = make_ref(),
    execute(Prefix ++ [start], #{monotonic_time => Start, system_time => erlang:system_time()},
            context(StartMetadata, Context)),
    try Fun() of
        {Result, Metadata} -> stop(Prefix, Start, #{}, context(Metadata, Context)), Result;
        {Result, Extra, Metadata} -> stop(Prefix, Start, Extra, context(Metadata, Context)), Result
    catch Kind:Reason:Stack ->
        Now = erlang:monotonic_time(),
        execute(Prefix ++ [exception], #{duration => Now - Start, monotonic_time => Now},
                context(StartMetadata#{kind => Kind, reason => Reason, stacktrace => Stack}, Context)),
        erlang:raise(Kind, Reason, Stack)
    end.

stop(Prefix, Start, Extra, Metadata) ->
    Now = erlang:monotonic_time(),
    execute(Prefix ++ [stop], maps:merge(Extra, #{duration => Now - Start, monotonic_time => Now}), Metadata).

context(Metadata, Context) -> maps:merge(#{telemetry_span_context => Context}, Metadata).

init([]) ->
    ?TABLE = ets:new(?TABLE, [named_table, duplicate_bag, protected, {read_concurrency, true}]),
    {ok, none}.

handle_call({attach, Id, Events, Fun, Config}, _, S) ->
    case ets:match(?TABLE, {'_', Id, '_', '_'}, 1) of
        '$end_of_table' -> ets:insert(?TABLE, [{E, Id, Fun, Config} || E <- Events]), {reply, ok, S};
        _ -> {reply, {error, already_exists}, S}
    end;
handle_call({detach, Id}, _, S) ->
    case ets:select_delete(?TABLE, [{{'_', Id, '_', '_'}, [], [true]}]) of
        0 -> {reply, {error, not_found}, S};
        _ -> {reply, ok, S}
    end.

handle_cast(_, S) -> {noreply, S}.
