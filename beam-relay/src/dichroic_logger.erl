%% @doc A handler of `logger': messages as rows of a stream and as the events `[dichroic, logger, message | crash]'.
%%
%% Installed by dichroic_handler_keeper only while the plan has one of these events. log/2 runs in the process that logs: it
%% never raises, blocks or logs, and counts like any handler. It makes a row only while the stream is subscribed and the pool of
%% logs has credit, so that a burst of messages takes no credit from events. The event sender of logs renders the messages; large
%% terms are pruned before they are copied to it. Only the message and the metadata named by the plan leave the process.
-module(dichroic_logger).

-include("dichroic.hrl").

-export([events/0, set_events/1, installed_events/0, installed/0, log/2, columns/1, row/5, cells/1]).

-define(HANDLER, dichroic).
-define(MESSAGE, [dichroic, logger, message]).
-define(CRASH, [dichroic, logger, crash]).
%% A term with more parts is pruned before it is copied to the event sender.
-define(SMALL, 500).
-define(MAX_ELEMENTS, 50).
-define(MAX_CHARS, 1000).
-define(VALUE_CHARS, 256).
-define(MAX_NAMES, 32).
-define(MAX_BODY, 16384).
-define(DEFAULT_BODY, 2048).
-define(MAX_LEADERS, 1000).

-type log_columns() :: {log, BodyBytes :: pos_integer(), Names :: [{atom(), binary()}]}.
-export_type([log_columns/0]).

-spec events() -> [[atom()]].
events() -> [?MESSAGE, ?CRASH].

%%% Installing

%% @doc Installs the handler for exactly these events; removes it if there are none.
-spec set_events([[atom()]]) -> ok.
set_events([]) ->
    _ = logger:remove_handler(?HANDLER),
    ok;
set_events(Events) ->
    Config = #{message => lists:member(?MESSAGE, Events), crash => lists:member(?CRASH, Events)},
    case logger:get_handler_config(?HANDLER) of
        {ok, #{config := Config}} -> ok;
        _ ->
            _ = logger:remove_handler(?HANDLER),
            _ = logger:add_handler(?HANDLER, ?MODULE, #{level => all, filter_default => log, filters => [], config => Config}),
            ok
    end.

%% @doc The events of the installed handler.
-spec installed_events() -> [[atom()]].
installed_events() ->
    case logger:get_handler_config(?HANDLER) of
        {ok, #{config := Config}} -> [Event || {Event, Key} <- [{?MESSAGE, message}, {?CRASH, crash}], #{Key := true} <- [Config]];
        _ -> []
    end.

-spec installed() -> boolean().
installed() -> lists:member(?HANDLER, logger:get_handler_ids()).

%%% In the process that logs

-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{level := Level, meta := Meta} = Event, #{config := #{message := Message, crash := Crash}}) ->
    try foreign(Meta) orelse ours() orelse begin
            Application = application(Meta),
            Message andalso dichroic_handler:handle(
                ?MESSAGE, #{severity => severity(Level)},
                #{level => Level, application => Application, domain => domain(Meta), '$log' => Event}, none),
            Crash andalso crash(Event, Application),
            ok
        end of
        _ -> ok
    catch _:_ -> dichroic_handler:failed()
    end;
log(_, _) -> ok.

%% Messages of another node, which arrive through its group leader, are counted on that node.
foreign(#{gl := Leader}) when is_pid(Leader), node(Leader) =/= node() -> true;
foreign(_) -> false.

%% Messages of the relay's own processes would lead to further messages.
ours() ->
    case get('$initial_call') of
        {supervisor, dichroic_sup, _} -> true;
        undefined -> false;
        _ -> case get('$ancestors') of L when is_list(L) -> member(dichroic_sup, L); _ -> false end
    end.

member(X, [X | _]) -> true;
member(X, [_ | L]) -> member(X, L);
member(_, _) -> false.

severity(emergency) -> 21;
severity(alert) -> 19;
severity(critical) -> 18;
severity(error) -> 17;
severity(warning) -> 13;
severity(notice) -> 10;
severity(info) -> 9;
severity(_) -> 5.

domain(#{domain := [A | More]}) when is_atom(A) -> join(More, atom_to_binary(A), 8);
domain(_) -> nil.

join([A | More], Acc, N) when is_atom(A), N > 0 -> join(More, <<Acc/binary, $., (atom_to_binary(A))/binary>>, N - 1);
join(_, Acc, _) -> Acc.

%% Elixir adds the application to the metadata. Otherwise it follows from the group leader; the result is cached, because the
%% lookup would be the largest cost of a message.
application(#{application := A}) when is_atom(A) -> A;
application(#{gl := Leader}) when is_pid(Leader) ->
    #static{streams = Known} = persistent_term:get(?STATIC),
    case ets:lookup(Known, {leader, Leader}) of
        [{_, A}] -> A;
        [] ->
            A = case application:get_application(Leader) of {ok, App} -> App; undefined -> nil end,
            ets:info(Known, size) < ?MAX_LEADERS andalso ets:insert(Known, {{leader, Leader}, A}),
            A
    end;
application(_) -> nil.

%%% Crashes: each is counted once, although several messages may report it

%% The report of every proc_lib process, unless a translator (Elixir's) has turned it into text.
crash(#{msg := {report, #{label := {proc_lib, crash}, report := [Info | _]}}}, Application) when is_list(Info) ->
    Class = case lists:keyfind(error_info, 1, Info) of {_, {C, _, _}} when is_atom(C) -> C; _ -> nil end,
    crashed(initial_call(lists:keyfind(initial_call, 1, Info)), Class, Application);
crash(#{meta := #{crash_reason := Reason, domain := [otp, D | _]}}, _) when Reason =/= nil, D =:= sasl -> ok;
%% Elixir's Logger macros add this domain: the application logs an exception that it has handled.
crash(#{meta := #{crash_reason := Reason, domain := [elixir | _]}}, _) when Reason =/= nil -> ok;
crash(#{meta := #{crash_reason := Reason} = Meta}, Application) when Reason =/= nil ->
    crashed(initial_call({initial_call, maps:get(initial_call, Meta, nil)}), class(Reason), Application);
%% The emulator's report of a process that proc_lib did not start.
crash(#{level := error, meta := #{error_logger := #{emulator := true}}}, Application) ->
    crashed(nil, nil, Application);
crash(_, _) -> ok.

crashed(Call, Class, Application) ->
    dichroic_handler:handle(?CRASH, #{count => 1}, #{initial_call => Call, class => Class, application => Application}, none).

class({#{'__exception__' := true}, _}) -> error;
class({{nocatch, _}, _}) -> throw;
class(_) -> exit.

initial_call({_, {M, F, A}}) when is_atom(M), is_atom(F), is_list(A), length(A) >= 0 -> initial_call({x, {M, F, length(A)}});
initial_call({_, {M, F, A}}) when is_atom(M), is_atom(F), is_integer(A) ->
    <<(module(M))/binary, $:, (atom_to_binary(F))/binary, $/, (integer_to_binary(A))/binary>>;
initial_call(_) -> nil.

module(M) -> case atom_to_binary(M) of <<"Elixir.", Name/binary>> -> Name; Name -> Name end.

%%% Rows

%% @doc Checks the columns of a log stream: the five columns, the limit of the body, the names of attributes.
-spec columns(term()) -> {ok, BodyBytes :: pos_integer(), Names :: [binary()]} | error.
columns([[<<"measurements">>, [<<"severity">>]], [<<"metadata">>, [<<"body">>] | Cut], [<<"metadata">>, [<<"trace_id">>]],
         [<<"metadata">>, [<<"span_id">>]], [<<"metadata">>, [<<"attributes">>] | Allow]]) ->
    case {Cut, Allow} of
        {_, [[<<"allow">> | Names]]} when length(Names) > ?MAX_NAMES -> error;
        {[], _} -> attributes(?DEFAULT_BODY, Allow);
        {[[<<"cut">>, N]], _} when is_integer(N), N >= 1, N =< ?MAX_BODY -> attributes(N, Allow);
        _ -> error
    end;
columns(_) -> error.

attributes(Body, []) -> {ok, Body, []};
attributes(Body, [[<<"allow">> | Names]]) ->
    case lists:all(fun(N) -> is_binary(N) andalso N =/= <<>> andalso byte_size(N) =< 255 end, Names) of true -> {ok, Body, Names}; false -> error end;
attributes(_, _) -> error.

%% @doc Sends a message to the event sender of logs, or counts a drop. Called in the process that logs.
-spec row(#stream{}, pos_integer(), term(), term(), #static{}) -> ok.
row(#stream{columns = {log, Cap, Names}}, Account, #{severity := Severity}, #{'$log' := #{msg := Msg, meta := Meta}}, St) ->
    #static{credit = Credit, rows = Rows, shards = Shards} = St,
    Lane = dichroic_limiter:lane(log, Shards),
    case dichroic_limiter:admit(Credit, ?LOG_POOL, Lane, erlang:monotonic_time(second)) of
        true ->
            Row = {log, Account, time(Meta), {Severity, message(Msg, Cap), callback(Msg, Meta), Cap, id(otel_trace_id, Meta),
                                              id(otel_span_id, Meta), attributes_of(Names, Meta)}},
            case dichroic_limiter:send(dichroic_event_sender:log_name(), Row, Credit, ?LOG_POOL, Lane) of
                true -> ok;
                false -> dropped(Rows, Account, ?DROP_OVERLOAD)
            end;
        Reason -> dropped(Rows, Account, Reason)
    end;
%% An event with our name that logger did not emit.
row(_, _, _, _, _) -> ok.

dropped(Rows, Account, Reason) -> atomics:add(Rows, (Account - 1) * ?ROWS_PER_STREAM + Reason, 1).

time(#{time := Us}) when is_integer(Us), Us > 0, Us < 1 bsl 52 -> Us * 1000;
time(_) -> erlang:system_time(nanosecond).

message(Msg, Cap) ->
    case small(Msg, ?SMALL) > 0 of
        true -> Msg;
        false -> pruned_message(Msg, Cap)
    end.

pruned_message({string, Chars}, Cap) ->
    try {string, take(Chars, max(1, Cap - 3))}
    catch throw:no_text -> {string, pruned(Chars, ?SMALL)}
    end;
pruned_message({report, Report}, _) -> {report, pruned(Report, ?SMALL)};
pruned_message({Format, Args}, _) -> {pruned(Format, ?SMALL), pruned(Args, ?SMALL)};
pruned_message(Msg, _) -> pruned(Msg, ?SMALL).

callback({report, _}, #{report_cb := Callback}) -> pruned(Callback, ?SMALL);
callback(_, _) -> none.

id(Key, Meta) ->
    case Meta of
        #{Key := Id} when is_binary(Id), byte_size(Id) =< 32 -> Id;
        #{Key := [_ | _] = Id} -> case small(Id, 80) > 0 of true -> Id; false -> nil end;
        _ -> nil
    end.

attributes_of([], _) -> [];
attributes_of([{Atom, Name} | Names], Meta) ->
    case Meta of
        #{Atom := V} when V =/= nil, V =/= undefined ->
            [{Name, case small(V, ?SMALL) > 0 of true -> V; false -> pruned(V, ?SMALL div 4) end} | attributes_of(Names, Meta)];
        _ -> attributes_of(Names, Meta)
    end.

%% The rest of the budget after visiting a term; at most 0 if the term is larger. Stops there.
small(_, Left) when Left =< 0 -> 0;
small([H | T], Left) -> small(T, small(H, Left - 1));
small(T, Left) when is_tuple(T) -> small_tuple(tuple_size(T), T, Left - 1);
small(M, Left) when is_map(M) -> case map_size(M) * 2 < Left of true -> small(maps:to_list(M), Left - 1); false -> 0 end;
small(B, Left) when is_bitstring(B) -> Left - 1 - byte_size(B) div 64;
small(F, Left) when is_function(F) -> case erlang:fun_info(F, env) of {env, Env} -> small(Env, Left - 1) end;
small(I, Left) when is_integer(I) -> Left - 1 - big(I);
small(_, Left) -> Left - 1.

small_tuple(N, T, Left) when N < Left -> small(tuple_to_list(T), Left);
small_tuple(_, _, _) -> 0.

big(I) when I < 1 bsl 59, I > -(1 bsl 59) -> 0;
big(I) -> erts_debug:flat_size(I).

%% The term with '...' in place of parts that are too large. The budget is divided among the parts of a term.
pruned(T, Left) when is_tuple(T), tuple_size(T) > 0 ->
    list_to_tuple(shared(tuple_elements(1, T), min(tuple_size(T), ?MAX_ELEMENTS), Left));
pruned([I | _] = L, _) when is_integer(I) -> chars(L, ?MAX_CHARS);
pruned([_ | _] = L, Left) ->
    Some = some(L, ?MAX_ELEMENTS),
    shared(Some, length(Some), Left);
pruned(M, Left) when map_size(M) > 0 ->
    {Keys, Values} = lists:unzip(entries(maps:next(maps:iterator(M)), ?MAX_ELEMENTS)),
    N = length(Keys),
    maps:from_list(lists:zip(shared(Keys, N, Left div 2), shared(Values, N, Left)));
pruned(B, _) when is_binary(B), byte_size(B) > ?MAX_CHARS -> <<(dichroic_value:cut(B, ?MAX_CHARS))/binary, "...">>;
pruned(B, _) when is_bitstring(B), byte_size(B) > ?MAX_CHARS -> '...';
pruned(T, Left) when is_function(T); is_integer(T) -> case small(T, max(Left, 2)) > 0 of true -> T; false -> '...' end;
pruned(T, _) -> T.

shared(Parts, N, Left) when Left < N -> [leaf(P) || P <- Parts];
shared(Parts, N, Left) -> [pruned(P, Left div N - 1) || P <- Parts].

leaf(P) when is_atom(P); is_number(P); is_pid(P); is_binary(P) -> pruned(P, 0);
leaf([]) -> [];
leaf(_) -> '...'.

tuple_elements(I, T) when I > tuple_size(T) -> [];
tuple_elements(I, _) when I > ?MAX_ELEMENTS -> ['...'];
tuple_elements(I, T) -> [element(I, T) | tuple_elements(I + 1, T)].

some([H | T], N) when N > 0 -> [H | some(T, N - 1)];
some([], _) -> [];
some(_, _) -> ['...'].

entries(none, _) -> [];
entries({K, V, Next}, N) when N > 0 -> [{K, V} | entries(maps:next(Next), N - 1)];
entries(_, _) -> [{'...', '...'}].

chars([C | T], N) when N > 0, is_integer(C) -> [pruned(C, 2) | chars(T, N - 1)];
chars([], _) -> [];
chars(_, _) -> "...".

%%% In the event sender

%% @doc The cells of a row: severity, body, trace_id, span_id, attributes.
-spec cells(tuple()) -> [term()].
cells({Severity, Msg, Callback, Cap, Trace, Span, Attributes}) ->
    [Severity, rendered(Msg, Callback, Cap), hex(Trace, 32), hex(Span, 16), {map, maps:from_list([attribute(A) || A <- Attributes])}].

%% Text of at most `Cap' bytes, or a cut text with its full length. Where formatting stopped early the length is unknown and the
%% text ends in dots. Report callbacks are code of the application and may raise.
rendered({string, Chars}, _, Cap) ->
    try capped(take(Chars, Cap), Cap)
    catch _:_ -> formatted(fun() -> io_lib:format("~0tp", [Chars], [{chars_limit, Cap}]) end, Cap)
    end;
rendered(Msg, Callback, Cap) ->
    try formatted(fun() -> chars_of(Msg, Callback, max(1, Cap - 3)) end, Cap)
    catch _:_ -> formatted(fun() -> io_lib:format("~0tp", [Msg], [{chars_limit, max(1, Cap - 3)}]) end, Cap)
    end.

formatted(Format, Cap) ->
    case capped(Format(), Cap) of
        {cut, _, Part} -> <<(dichroic_value:cut(Part, max(0, Cap - 3)))/binary, "...">>;
        Text -> Text
    end.

chars_of({report, Report}, Callback, Cap) when is_function(Callback, 2) ->
    Callback(Report, #{depth => 30, chars_limit => Cap, single_line => false});
chars_of({report, Report}, Callback, Cap) when is_function(Callback, 1) ->
    {Format, Args} = Callback(Report),
    io_lib:format(Format, Args, [{chars_limit, Cap}]);
chars_of({report, Report}, _, Cap) ->
    {Format, Args} = logger:format_report(Report),
    io_lib:format(Format, Args, [{chars_limit, Cap}]);
chars_of({Format, Args}, _, Cap) -> io_lib:format(Format, Args, [{chars_limit, Cap}]).

%% The first bytes of a text that may be very long.
take(B, _) when is_binary(B) -> B;
take(Chars, Cap) ->
    case small(Chars, 4 * ?SMALL) > 0 of
        true -> Chars;
        false ->
            {_, Taken} = take(Chars, Cap, []),
            [lists:reverse(Taken), "..."]
    end.

take(_, Left, Acc) when Left =< 0 -> {0, Acc};
take([], Left, Acc) -> {Left - 1, Acc};
take([H | T], Left, Acc) -> {Left1, Acc1} = take(H, Left, Acc), take(T, Left1, Acc1);
take(B, Left, Acc) when is_binary(B) -> {Left - byte_size(B), [dichroic_value:cut(B, Left) | Acc]};
take(C, Left, Acc) when is_integer(C), C >= 0, C =< 16#10ffff -> {Left - 1, [C | Acc]};
take(_, _, _) -> throw(no_text).

capped(Chars, Cap) ->
    Text = case is_binary(Chars) of true -> Chars; false -> unicode(unicode:characters_to_binary(Chars)) end,
    dichroic_expression:column(Text, Cap).

unicode(B) when is_binary(B) -> B;
unicode({_, Good, _}) -> <<Good/binary, 16#fffd/utf8>>.

%% An id as OpenTelemetry writes it: hexadecimal, as a binary or a list.
hex(nil, _) -> nil;
hex(Id, Size) ->
    try
        Hex = iolist_to_binary(Id),
        Size = byte_size(Hex),
        {bytes, binary:decode_hex(Hex)}
    catch _:_ -> nil
    end.

attribute({<<"mfa">>, {_, _, _} = Call}) -> {<<"code.function.name">>, value(initial_call({x, Call}))};
attribute({<<"file">>, File}) -> {<<"code.file.path">>, value(try iolist_to_binary(take(File, ?VALUE_CHARS)) catch _:_ -> File end)};
attribute({<<"line">>, Line}) -> {<<"code.line.number">>, value(Line)};
attribute({<<"pid">>, Pid}) -> {<<"beam.pid">>, value(Pid)};
attribute({<<"domain">>, Domain}) -> {<<"log.domain">>, value(domain(#{domain => Domain}))};
attribute({<<"initial_call">>, {_, _, _} = Call}) -> {<<"initial_call">>, value(initial_call({x, Call}))};
attribute({Name, Value}) -> {Name, value(Value)}.

value(V) when V =:= nil; V =:= undefined -> null;
value(V) when is_boolean(V); is_integer(V), V >= -16#8000000000000000, V =< 16#7fffffffffffffff; is_float(V) -> V;
value(V) when is_atom(V) -> dichroic_value:cut(atom_to_binary(V), ?VALUE_CHARS);
value(V) when is_binary(V) ->
    case dichroic_value:is_utf8(V) of
        true -> dichroic_expression:column(V, ?VALUE_CHARS);
        false -> {bytes, binary:copy(dichroic_value:cut(V, ?VALUE_CHARS))}
    end;
value(V) -> shown(V).

shown(V) ->
    try formatted(fun() -> io_lib:format("~0tp", [V], [{chars_limit, ?VALUE_CHARS - 3}]) end, ?VALUE_CHARS)
    catch _:_ -> <<"?">>
    end.
