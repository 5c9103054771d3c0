%% @doc Shared by the tests: short forms of plans, the telemetry library, starting and stopping a relay.
-module(support).

-export([compiled/1, telemetry/0, counter/3, sum/4, plan/1, plan/2, slow_plan/1, meas/1, meta/1, names/1, stream/3, engine/1, emit/4, flush/2, flush/4,
         total/3, socket_path/0, start_relay/1, stop_relay/0, wait/1, wait/2, account/3, seed/0, title/1, handlers/1]).

-include("../../src/dichroic.hrl").

%% @doc Starts the real library if TELEMETRY_EBIN is set, else the stand-in.
telemetry() ->
    %% Counting before the first plan is a matter of dichroic_early_plan_tests.
    _ = application:get_env(dichroic, early) =:= undefined andalso application:set_env(dichroic, early, false, [{persistent, true}]),
    case os:getenv("TELEMETRY_EBIN") of
        Ebin when is_list(Ebin), Ebin =/= "" ->
            true = code:add_patha(Ebin),
            case code:which(telemetry_handler_table) of
                non_existing -> error({no_telemetry_in, Ebin});
                _ -> ok
            end,
            [reload(M, Ebin) || M <- [telemetry, telemetry_app]];
        _ ->
            case application:load(telemetry) of
                ok -> ok;
                {error, {already_loaded, _}} -> ok;
                {error, _} -> {ok, [App]} = file:consult(filename:join(here(), "telemetry.app")), application:load(App)
            end
    end,
    {ok, _} = application:ensure_all_started(telemetry),
    ok.

reload(M, Ebin) ->
    case lists:prefix(filename:absname(Ebin), filename:absname(to_list(code:which(M)))) andalso code:is_loaded(M) of
        {file, File} -> case lists:prefix(Ebin, to_list(File)) of true -> ok; false -> load(M, Ebin) end;
        _ -> load(M, Ebin)
    end.

load(M, Ebin) ->
    code:purge(M), code:delete(M), code:purge(M),
    {module, M} = code:load_abs(filename:join(Ebin, atom_to_list(M))).

to_list(L) when is_list(L) -> L;
to_list(_) -> "".

here() -> filename:join([filename:dirname(?FILE)]).

%%% Plans

names(Event) -> [atom_to_binary(A) || A <- Event].
meas(K) -> [<<"measurements">>, [K]].
meta(Path) when is_list(Path) -> [<<"metadata">>, Path];
meta(K) -> meta([K]).

counter(Key, Event, Labels) ->
    #{<<"key">> => Key, <<"type">> => <<"counter">>, <<"event">> => names(Event), <<"labels">> => Labels}.

sum(Key, Event, Value, Labels) ->
    (counter(Key, Event, Labels))#{<<"type">> := <<"sum">>, <<"value">> => Value}.

stream(Schema, Event, Columns) ->
    #{<<"schema">> => Schema, <<"kind">> => <<"event">>, <<"event">> => names(Event), <<"columns">> => Columns}.

plan(Aggregates) -> plan(Aggregates, #{}).
plan(Aggregates, More) ->
    maps:merge(#{<<"generation">> => 1, <<"flush_ms">> => 20, <<"aggregates">> => Aggregates, <<"streams">> => []}, More).

%% A flush adds at most four intervals to the idle clock: here 240 s.
slow_plan(Aggregates) -> plan(Aggregates, #{<<"flush_ms">> => 60000}).

%%% An engine without a relay; the calling process owns the tables

engine(Plan) ->
    Static = dichroic_tables:make(erlang:system_time(nanosecond)),
    persistent_term:put(?STATIC, Static),
    dichroic_engine:plan(Plan, dichroic_engine:new(Static)).

%% Calls the handler as telemetry does.
emit(Engine, Event, Measurements, Metadata) ->
    true = lists:member(Event, dichroic_engine:events(Engine)),
    ok = dichroic_handler:handle(Event, Measurements, Metadata, none).

%% The state of a collector after the flush: {Frames, Rows by {Key, Labels}, Engine}
flush(N, Engine) -> flush(N, N - 1, 0, Engine).
flush(N, Ponged, Now, Engine) ->
    {Frames, Engine1} = dichroic_engine:flush(N, Ponged, Now, 262144, Engine),
    %% Encodes and decodes, so that every test also tests the codec.
    [{ok, F, <<>>} = dichroic_wire:decode(iolist_to_binary(dichroic_wire:encode(F)), 262144) || F <- Frames],
    {Frames, Engine1}.

%% The last row of a series in frames that define it.
total(Frames, Key, Labels) ->
    Ids = [Id || {define, series, Ds} <- Frames, {Id, #{<<"key">> := K, <<"labels">> := L}} <- Ds, K =:= Key, L =:= Labels],
    case [R || {Type, _, Rows} <- Frames, Type =:= numbers orelse Type =:= histograms, R <- Rows, lists:member(element(1, R), Ids)] of
        [] -> none;
        Rows -> list_to_tuple(tl(tuple_to_list(lists:last(Rows))))
    end.

account(Frames, Key, Labels) -> case total(Frames, Key, Labels) of none -> 0; {N, 0.0} -> N end.

%%% A whole relay

%% The ids of the relay's handlers of an event.
handlers(Event) -> [Id || #{id := {dichroic, _} = Id} <- telemetry:list_handlers(Event)].

%% In the folder that `make' creates for the tests and deletes after them.
socket_path() -> filename:join(os:getenv("TMPDIR", "/tmp"), "dichroic-test-" ++ os:getpid() ++ "-" ++
                               integer_to_list(erlang:unique_integer([positive])) ++ ".sock").

start_relay(Path) ->
    ok = telemetry(),
    case Path of
        {tcp, _, _} -> application:set_env(dichroic, socket, Path);
        _ -> os:putenv("DICHROIC_SOCKET", Path)
    end,
    {ok, _} = application:ensure_all_started(dichroic),
    ok.

stop_relay() ->
    Level = maps:get(level, logger:get_primary_config()),
    ok = logger:set_primary_config(level, critical),
    _ = application:stop(dichroic),
    ok = logger:set_primary_config(level, Level),
    os:unsetenv("DICHROIC_SOCKET"),
    application:unset_env(dichroic, socket),
    ok.

wait(Fun) -> wait(Fun, 10000).
wait(Fun, Ms) when Ms > 0 ->
    case try Fun() catch _:_ -> false end of
        false -> receive after 5 -> wait(Fun, Ms - 5) end;
        Answer -> Answer
    end;
wait(_, _) -> error(wait_timeout).

%% For random input: the seed is printed when a test fails, and can be set.
seed() ->
    Seed = case os:getenv("SEED") of
        S when is_list(S), S =/= "" -> list_to_integer(S);
        _ -> erlang:unique_integer([positive]) + erlang:system_time()
    end,
    _ = rand:seed(exsss, Seed),
    Seed.

%% @doc A term as the name of its test.
title(Term) -> lists:flatten(io_lib:format("~0tp", [Term])).

%% A module from its source, compiled.
compiled(Source) ->
    {ok, Tokens, _} = erl_scan:string(Source),
    {ok, Module, Beam} = compile:forms(forms(Tokens, []), []),
    {Module, Beam}.

forms([], []) -> [];
forms([{dot, _} = Dot | Tokens], Acc) ->
    {ok, Form} = erl_parse:parse_form(lists:reverse([Dot | Acc])),
    [Form | forms(Tokens, [])];
forms([T | Tokens], Acc) -> forms(Tokens, [T | Acc]).
