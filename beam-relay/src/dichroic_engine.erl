%% @doc The relay without its socket: a plan in, frames out.
%%
%% State of the connection's process (of any process in tests and benches). plan/2 replaces the programs of all handlers in one
%% write of a persistent term, and writes nothing if they are unchanged, as they are for a new subscription of a known stream.
%% flush/5 gives the frames of one flush. streams_on/1 enables streams only after the first flush of a connection, because the
%% row counts must be read before any row is added to them.
-module(dichroic_engine).

-include("dichroic.hrl").

-export([new/1, plan/2, retry_app_metrics/1, events/1, flush_ms/1, linger_s/1, generation/1, streams_on/1, streams_off/1,
         withdrawn/1, reconnected/1, flush/5, unreported/1, live/1]).
-export_type([engine/0]).

%% Logs have this fraction of the limits of events, in addition: rows in flight, rows per second.
-define(LOG_SHARE, 8).
-define(MAX_KNOWN_CONTENTS, 512).
%% One flush adds at most this many intervals to the idle clock, or IDLE_S seconds if that is more: the time in which a VM was
%% suspended does not count as idle.
-define(IDLE_FLUSHES, 4).
-define(IDLE_S, 10).
%% Ids needed in addition to those of label sets. An entry: its overflow series, its skips by two reasons, and its overflow count.
%% A stream: its account. The relay: its failures and reattachments.
-define(IDS_OF_ENTRY, 4).
-define(IDS_OF_STREAM, 7).
-define(IDS_OF_RELAY, 2).
-define(AUDIT_S, 60).

-record(engine, {
    static :: #static{},
    plan = none :: none | dichroic_plan:plan(),   % as the collector sent it
    app_metrics = none :: dichroic_app_metrics:given(),
    app_metrics_state = ok :: ok | failed,
    entries = #{} :: #{Key :: integer() => #entry{}},
    retired = [] :: [{#entry{}, RetiredAt :: integer()}],
    free = [] :: [pos_integer()],
    next_entry = 1 :: pos_integer(),
    programs = #{} :: #{[atom()] => #program{}},
    tags = #{} :: #{[Slot :: pos_integer()] => pos_integer()},
    next_tag = 1 :: pos_integer(),
    contents = #{} :: #{term() => pos_integer()},
    subscribable = [] :: [{Content :: pos_integer(), Account :: pos_integer()}],
    withdrawn = none :: none | integer(),         % system time in ns at which the latest plan withdrew streams
    accounts = #{} :: #{Schema :: non_neg_integer() => {Account :: pos_integer(), active | {withdrawn, integer()}}},
    ids = {0, [], 10000} :: dichroic_aggregates:ids(),
    totals :: dichroic_aggregates:totals(),
    account :: dichroic_self_account:account(),
    flushed = 0 :: integer(),
    unreported = 0 :: non_neg_integer(),              % series without an id in the last flush
    audit = none :: none | {SinceS :: integer(), Least :: integer(), Most :: integer()},  % drift of the budget seen by flushes
    clock = 0 :: non_neg_integer(),               % seconds between flushes of connections; series expire by it
    at = none :: none | integer()                 % monotonic second of the last flush of this connection
}).
-opaque engine() :: #engine{}.

-spec new(#static{}) -> engine().
new(Static) -> #engine{static = Static, totals = dichroic_aggregates:new(), account = dichroic_self_account:new()}.

-spec flush_ms(engine()) -> pos_integer().
flush_ms(#engine{plan = none}) -> 1000;
flush_ms(#engine{plan = #{flush_ms := Ms}}) -> Ms.

-spec linger_s(engine()) -> non_neg_integer().
linger_s(#engine{plan = none}) -> 0;
linger_s(#engine{plan = #{linger_s := S}}) -> S.

-spec generation(engine()) -> integer().
generation(#engine{plan = none}) -> 0;
generation(#engine{plan = #{generation := G}}) -> G.

-spec live(engine()) -> non_neg_integer().
live(#engine{totals = T}) -> dichroic_aggregates:live(T).

%% @doc The events to attach.
-spec events(engine()) -> [[atom()]].
events(#engine{programs = Programs}) -> lists:sort(maps:keys(Programs)).

%%% A new plan

-spec plan(dichroic_value:value(), engine()) -> {ok, [dichroic_plan:refusal()], engine()} | {error, iodata()}.
plan(Value, E) ->
    case dichroic_plan:compile(Value) of
        {error, _} = No -> No;
        {ok, Plan} -> apply_plan(Plan, dichroic_app_metrics:entries(series(Plan), E#engine.app_metrics), E)
    end.

%% @doc Applies the plan again if the application's `metrics' function failed before and succeeds now.
-spec retry_app_metrics(engine()) -> same | {ok, [dichroic_plan:refusal()], engine()}.
retry_app_metrics(#engine{plan = Plan, app_metrics_state = failed, app_metrics = Given} = E) ->
    case dichroic_app_metrics:entries(series(Plan), Given) of
        {failed, _, _, _} -> same;
        Own -> apply_plan(Plan, Own, E)
    end;
retry_app_metrics(_) -> same.

series(#{limits := #{series := Series}}) -> Series.

apply_plan(#{refused := Refused, aggregates := FromPlan} = Asked, {State, Own, No0, Given}, E) ->
    Keys = [K || {_, _, _, #entry{key = K}} <- FromPlan],
    Plan = Asked#{aggregates := FromPlan ++ [O || {_, _, _, #entry{key = K}} = O <- Own, not lists:member(K, Keys)]},
    {No1, Gone, E1} = entries(Plan, limits(Plan, E#engine{plan = Asked, app_metrics = Given, app_metrics_state = State})),
    {No2, Planned, E2} = streams(Plan, E1),
    {ok, Refused ++ No0 ++ No1 ++ No2, retire(Gone, programs(Plan, Planned, E2))}.

limits(#{limits := #{series := Series, credit := Credit, rows_per_s := Rate}} = Plan, #engine{static = St} = E) ->
    atomics:put(St#static.acct, ?ACCT_SERIES_CAP, Series - reserved(Plan)),
    ok = dichroic_limiter:set_limits(St#static.credit, ?EVENT_POOL, max(1, Credit div St#static.shards), Rate),
    ok = dichroic_limiter:set_limits(St#static.credit, ?LOG_POOL, max(1, Credit div ?LOG_SHARE), max(1, Rate div ?LOG_SHARE)),
    {Next, Freed, _} = E#engine.ids,
    E#engine{ids = {Next, Freed, Series}}.

%% Reserves ids for the account and for overflow series, but at most half of them. Series that then get no id are reported by unreported/1.
reserved(#{limits := #{series := Series}, aggregates := Aggregates, streams := Streams}) ->
    Needed = ?IDS_OF_ENTRY * length(Aggregates) + ?IDS_OF_STREAM * length(Streams) + ?IDS_OF_RELAY,
    min(max(Series div 8, Needed), Series div 2).

%% Entries with an existing key keep their slot and thereby their totals.
entries(#{aggregates := Aggregates}, #engine{entries = Old} = E) ->
    Keys = [K || {_, _, _, #entry{key = K}} <- Aggregates],
    Gone = maps:values(maps:without(Keys, Old)),
    {No, E1} = lists:foldl(fun({_, _, _, Entry}, Acc) -> entry(Entry, Acc) end,
                           {[], E#engine{entries = maps:with(Keys, Old)}}, Aggregates),
    ok = dichroic_tables:purge(E#engine.static, E#engine.free -- E1#engine.free),
    {No, Gone, E1}.

entry(#entry{key = Key} = Entry, {No, #engine{entries = Entries} = E}) ->
    case take_slot(Key, E) of
        {none, E1} -> {[[Key, <<"no free entry slot: slots of removed entries are not free yet; retried with the next plan">>] | No], E1};
        {Slot, E1} -> {No, E1#engine{entries = Entries#{Key => Entry#entry{slot = Slot}}}}
    end.

%% An entry that returns before its slot is free gets the same slot, so that its account does not decrease.
take_slot(Key, #engine{entries = Entries, retired = Retired} = E) ->
    case {Entries, [L || {#entry{key = K}, _} = L <- Retired, K =:= Key]} of
        {#{Key := #entry{slot = Slot}}, _} -> {Slot, E};
        {_, [{#entry{slot = Slot}, _} | _] = Back} -> {Slot, E#engine{retired = Retired -- Back}};
        {_, []} -> take_slot(E)
    end.

%% Called after the swap, so that no handler counts in cells that are not read any more.
retire(Gone, #engine{entries = Entries, retired = Retired, static = St, flushed = Flushed} = E) ->
    Slots = [Slot || #entry{slot = Slot} <- Gone],
    E#engine{totals = dichroic_aggregates:retire(St, by_slot(Gone ++ maps:values(Entries)), Slots, E#engine.totals),
             retired = [{Entry, Flushed} || Entry <- Gone] ++ Retired}.

by_slot(Entries) -> maps:from_list([{Slot, Entry} || #entry{slot = Slot} = Entry <- Entries]).

take_slot(#engine{free = [Slot | Free]} = E) -> {Slot, E#engine{free = Free}};
take_slot(#engine{next_entry = N} = E) when N =< ?MAX_ENTRIES -> {N, E#engine{next_entry = N + 1}};
take_slot(E) -> {none, E}.

%% Handlers identify a stream by its content, the account identifies it by its schema: the same columns under another schema
%% change one `atomics' cell and no program.
streams(#{streams := Streams}, #engine{accounts = Accounts, flushed = Flushed} = E) ->
    Schemas = [Schema || {_, Schema, _} <- Streams],
    Withdrawn = maps:map(fun(_, {A, active}) -> {A, {withdrawn, Flushed}}; (_, Other) -> Other end,
                         maps:without(Schemas, Accounts)),
    Again = maps:map(fun(_, {A, _}) -> {A, active} end, maps:with(Schemas, Accounts)),
    E1 = trim_contents(E#engine{accounts = maps:merge(Withdrawn, Again)}),
    {No, Planned, _, E2} = lists:foldl(fun stream/2, {[], [], #{}, E1}, Streams),
    E3 = E2#engine{subscribable = [{C, A} || {_, #stream{content = C}, A} <- Planned]},
    {No, [{Event, S} || {Event, S, _} <- Planned], switch(E#engine.subscribable, E3)}.

stream({Event, Schema, #stream{keep = Keep, columns = Columns, sample = Sample} = S}, {No, Planned, Seen, E}) ->
    Term0 = {Event, Keep, Columns, Sample},
    Nth = maps:get(Term0, Seen, 0),
    case content({Term0, Nth}, E) of
        {none, E1} -> {[[Schema, <<"more than 1024 different streams">>] | No], Planned, Seen, E1};
        {Content, E1} ->
            case account(Schema, E1) of
                {none, E2} -> {[[Schema, <<"no free stream account: accounts of removed streams are not free yet; retried with the next plan">>] | No], Planned, Seen, E2};
                {Account, E2} ->
                    {No, [{Event, S#stream{content = Content}, Account} | Planned], Seen#{Term0 => Nth + 1}, E2}
            end
    end.

content(Term, #engine{contents = Contents} = E) ->
    case Contents of
        #{Term := C} -> {C, E};
        _ ->
            case lists:seq(1, ?MAX_STREAMS) -- maps:values(Contents) of
                [] -> {none, E};
                [C | _] -> {C, E#engine{contents = Contents#{Term => C}}}
            end
    end.

%% Contents without a subscription are kept up to a limit, so that a new subscription to them changes no program.
trim_contents(#engine{contents = Contents, subscribable = Planned} = E) when map_size(Contents) > ?MAX_KNOWN_CONTENTS ->
    E#engine{contents = maps:filter(fun(_, C) -> lists:keymember(C, 1, Planned) end, Contents)};
trim_contents(E) -> E.

account(Schema, #engine{accounts = Accounts, static = St} = E) ->
    case Accounts of
        #{Schema := {A, _}} -> {A, E};
        _ ->
            case lists:seq(1, ?MAX_STREAMS) -- [A || {A, _} <- maps:values(Accounts)] of
                [] -> {none, E};
                [A | _] ->
                    _ = [atomics:put(St#static.rows, (A - 1) * ?ROWS_PER_STREAM + C, 0)
                         || C <- lists:seq(1, ?ROWS_PER_STREAM)],
                    true = ets:insert(St#static.streams, {A, Schema}),
                    {A, E#engine{accounts = Accounts#{Schema => {A, active}}}}
            end
    end.

%% Removed streams, and those with another schema, are disabled now; new ones wait for streams_on/1.
switch(Before, #engine{subscribable = Planned, static = St} = E) ->
    Withdrawn = Before -- Planned,
    Time = erlang:system_time(nanosecond),
    _ = [atomics:put(St#static.subs, C, 0) || {C, _} <- Withdrawn],
    E#engine{withdrawn = case Withdrawn of [] -> none; _ -> Time end}.

%% @doc When the latest plan withdrew streams, in ns; `none' if it withdrew none.
-spec withdrawn(engine()) -> none | integer().
withdrawn(#engine{withdrawn = Time}) -> Time.

-spec streams_on(engine()) -> ok.
streams_on(#engine{subscribable = Planned, static = St}) ->
    _ = [atomics:put(St#static.subs, C, A) || {C, A} <- Planned],
    ok.

-spec streams_off(engine()) -> ok.
streams_off(#engine{subscribable = Planned, static = St}) ->
    _ = [atomics:put(St#static.subs, C, 0) || {C, _} <- Planned],
    ok.

%%% Programs

programs(#{limits := #{string := Cap}} = Plan, Planned, #engine{programs = Old, static = St} = E) ->
    case tagged(build(Plan, Cap, Planned, E), E) of
        {Old, E1} -> E1;
        {New, E1} ->
            ok = persistent_term:put(?STATIC, St#static{programs = New}),
            E1#engine{programs = New}
    end.

build(#{aggregates := Aggregates, carries := Carries}, Cap, Planned, #engine{entries = Entries} = E) ->
    Empty = #program{string_cap = Cap, label_cap = min(Cap, ?MAX_LABEL_BYTES), groups = [], streams = [], carries = []},
    P1 = lists:foldr(
        fun({Event, Keep, Labels, #entry{key = Key}}, Acc) ->
            case Entries of
                #{Key := Entry} -> upsert(Event, Empty, fun(P) -> add_entry(Keep, Labels, Entry, P) end, Acc);
                _ -> Acc
            end
        end, #{}, Aggregates),
    P2 = lists:foldr(
        fun({Event, Slots}, Acc) ->
            upsert(Event, Empty, fun(#program{carries = C} = P) -> P#program{carries = Slots ++ C} end, Acc)
        end, P1, Carries),
    Active = lists:usort([Event || {Event, _} <- Planned]),
    Known = lists:sort([{C, Event, #stream{content = C, keep = K, columns = Cols, sample = S}}
                        || {{{Event, K, Cols, S}, _}, C} <- maps:to_list(E#engine.contents),
                           lists:member(Event, Active) orelse is_map_key(Event, P2)]),
    lists:foldr(
        fun({_, Event, S}, Acc) ->
            upsert(Event, Empty, fun(#program{streams = Ss} = P) -> P#program{streams = [S | Ss]} end, Acc)
        end, P2, Known).

upsert(Key, Default, Change, Map) -> Map#{Key => Change(maps:get(Key, Map, Default))}.

add_entry(Keep, Labels, Entry, #program{groups = Groups} = P) ->
    case lists:splitwith(fun(#group{keep = K, labels = L}) -> K =/= Keep orelse L =/= Labels end, Groups) of
        {Before, [#group{entries = Es} = G | After]} -> P#program{groups = Before ++ [G#group{entries = [Entry | Es]} | After]};
        {_, []} -> P#program{groups = [#group{keep = Keep, labels = Labels, entries = [Entry]} | Groups]}
    end.

%% Groups of several entries get a tag: the same as in the previous plan, or a new one. A counter goes first in a group, because
%% every event updates it and its row must exist before it can hold a view.
tagged(Programs, #engine{tags = Old, next_tag = Next} = E) ->
    {New, {Tags, Next1}} = lists:mapfoldl(
        fun({Event, #program{groups = Groups} = P}, Acc) ->
            {Groups1, Acc1} = lists:mapfoldl(fun(G, A) -> tag(G, Old, E#engine.static, A) end, Acc, Groups),
            {{Event, P#program{groups = Groups1}}, Acc1}
        end, {#{}, Next}, maps:to_list(Programs)),
    {maps:from_list(New), E#engine{tags = Tags, next_tag = Next1}}.

tag(#group{entries = Entries} = G, Old, St, {Tags, Next}) ->
    {Lasts, Cells} = lists:partition(fun(#entry{type = Type}) -> Type =:= last end, Entries),
    {Counters, Others} = lists:partition(fun(#entry{type = Type}) -> Type =:= counter end, Cells),
    Ordered = Counters ++ Others,
    case [Slot || #entry{slot = Slot} <- Ordered] of
        [Leader, _ | _] = Slots ->
            _ = [atomics:put(St#static.acct, dichroic_tables:acct(S, ?ENTRY_LEADER), Leader) || S <- Slots],
            Tag = maps:get(Slots, Old, Next),
            {G#group{tag = Tag, entries = Ordered ++ Lasts}, {Tags#{Slots => Tag}, max(Next, Tag + 1)}};
        _ -> {G, {Tags, Next}}
    end.

%%% Flushing

-spec reconnected(engine()) -> engine().
reconnected(#engine{ids = {_, _, Limit}} = E) ->
    E#engine{ids = {0, [], Limit}, at = none, totals = dichroic_aggregates:reconnected(E#engine.totals),
             account = dichroic_self_account:reconnected(E#engine.account)}.

%% @doc The frames of flush number `Flush', none larger than `MaxFrame'.
-spec flush(Flush :: integer(), Ponged :: integer(), NowS :: integer(), MaxFrame :: pos_integer(), engine()) ->
    {[dichroic_wire:frame()], engine()}.
flush(Flush, Ponged, Now, Max, #engine{static = St, ids = Ids} = E0) ->
    E = tick(Now, settle(Flush, Ponged, E0)),
    Entries = maps:values(E#engine.entries),
    Accounted = Entries ++ [Entry || {Entry, _} <- E#engine.retired],
    Out0 = #{ids => Ids, freed => [], defines => [], numbers => [], histograms => [], unreported => 0},
    Streams = lists:sort([{A, Schema} || {Schema, {A, _}} <- maps:to_list(E#engine.accounts)]),
    {Out1, Account} = dichroic_self_account:flush(St, Accounted, Streams, {Out0, E#engine.account}),
    {Out2, Totals} = dichroic_aggregates:flush(St, by_slot(Entries), {Flush, Ponged, E#engine.clock, Out1}, E#engine.totals),
    #{ids := {Next, Free, Limit}, freed := Freed, defines := Defines, numbers := Numbers, histograms := Histograms,
      unreported := Unreported} = Out2,
    Time = erlang:system_time(nanosecond),
    Frames = dichroic_wire:packed({define, series}, lists:reverse(Defines), Max)
        ++ dichroic_wire:packed({numbers, Time}, lists:reverse(Numbers), Max)
        ++ dichroic_wire:packed({histograms, Time}, lists:reverse(Histograms), Max)
        ++ dichroic_wire:packed({define, series}, [{Id, null} || Id <- Freed], Max),
    {Frames, audit(Now, E#engine{ids = {Next, Freed ++ Free, Limit}, account = Account, totals = Totals, flushed = Flush,
                                 unreported = Unreported})}.

%% @doc A refusal for the series that have no id because of `limits.series'. They are sent as soon as ids are free.
-spec unreported(engine()) -> [dichroic_plan:refusal()].
unreported(#engine{unreported = 0}) -> [];
unreported(#engine{unreported = N, ids = {_, _, Limit}}) ->
    Message = io_lib:format("~b series are not sent: the plan needs more ids than limits.series allows (~b)", [N, Limit]),
    [[null, unicode:characters_to_binary(Message)]].

%% Without a connection no cells are read, so no series can be found idle.
tick(Now, #engine{at = none} = E) -> E#engine{at = Now};
tick(Now, #engine{at = At, clock = Clock} = E) ->
    Most = max(?IDLE_S, ?IDLE_FLUSHES * flush_ms(E) div 1000),
    E#engine{at = Now, clock = Clock + max(0, min(Now - At, Most))}.

%% An emitter that is killed while its label set is admitted leaves the budget too high. Label sets that are just being admitted
%% look the same for a moment, so only a drift that every flush of a minute has seen is corrected.
audit(Now, #engine{static = St, totals = Totals, audit = Before} = E) ->
    Retired = dichroic_aggregates:expiring(Totals),
    Drift = dichroic_tables:drift(St, Retired),
    case Before of
        none -> E#engine{audit = {Now, Drift, Drift}};
        {Since, Least, Most} when Now - Since < ?AUDIT_S -> E#engine{audit = {Since, min(Least, Drift), max(Most, Drift)}};
        {_, Least, Most} ->
            ok = dichroic_tables:amend(St, Retired, lasting(min(Least, Drift), max(Most, Drift))),
            E#engine{audit = none}
    end.

lasting(Least, _) when Least > 0 -> Least;
lasting(_, Most) when Most < 0 -> Most;
lasting(_, _) -> 0.

%% Frees slots and accounts whose last reading is acknowledged, some flushes later: a handler that started before the swap may
%% still count, and its cells are read once more.
settle(_, Ponged, #engine{retired = Retired, accounts = Accounts, static = St} = E) ->
    {Done, Still} = lists:partition(fun({_, At}) -> Ponged > At + 4 end, Retired),
    Gone = maps:filter(fun(_, {_, {withdrawn, At}}) -> Ponged > At + 3; (_, _) -> false end, Accounts),
    _ = [ets:delete(St#static.streams, A) || {A, _} <- maps:values(Gone)],
    E#engine{retired = Still, free = [Slot || {#entry{slot = Slot}, _} <- Done] ++ E#engine.free,
             accounts = maps:without(maps:keys(Gone), Accounts)}.
