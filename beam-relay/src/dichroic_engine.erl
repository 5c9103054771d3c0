%% @doc The relay without its socket: takes a plan, gives frames.
%%
%% Lives in the connection's process (and, in tests and benches, in any). plan/2 swaps what handlers do, event by event,
%% by writing one `atomics' slot each; a program that did not change is not touched, and no persistent term is ever
%% rewritten. flush/5 gives the frames of one flush. Streams are switched on only by streams_on/1, after the first flush
%% of a connection, because the account of rows must be read before any row is written to it.
-module(dichroic_engine).

-include("dichroic.hrl").

-export([new/1, plan/2, again/1, events/1, flush_ms/1, linger_s/1, generation/1, streams_on/1, streams_off/1,
         reconnected/1, flush/5, untold/1, discard/1, sweep/0, live/1]).
-export_type([engine/0]).

-define(KEEP_STALE, 64).
%% Logs may use so much beside what events may: rows in flight, rows a second.
-define(LOG_SHARE, 8).
-define(MAX_KNOWN_CONTENTS, 512).
-define(NUMBER_BYTES, 20).
%% A frame may hold 65,536 values; the smallest definition has 12 bytes for each of its own.
-define(DEFINE_BYTES, 262144).
%% Idle time that one flush may add: so many intervals, at least so many seconds. What a VM that was suspended slept is no idle time.
-define(IDLE_FLUSHES, 4).
-define(IDLE_S, 10).
%% Ids that an entry may need beside those of its label sets: its overflow series, what it skipped by two reasons, and how much it
%% folded; a stream for its account; and two for the relay's own.
-define(IDS_OF_ENTRY, 4).
-define(IDS_OF_STREAM, 7).
-define(IDS_OF_RELAY, 2).
-define(AUDIT_S, 60).

-record(engine, {
    static :: #static{},
    plan = none :: none | dichroic_plan:plan(),   % as the collector sent it
    own = none :: dichroic_app_metrics:given(),
    own_state = ok :: ok | failed,
    entries = #{} :: #{Key :: integer() => #entry{}},
    leaving = [] :: [{#entry{}, RetiredAt :: integer()}],
    free = [] :: [pos_integer()],
    next_entry = 1 :: pos_integer(),
    events = #{} :: #{[atom()] => pos_integer()},
    programs = #{} :: #{[atom()] => {pos_integer(), #program{}}},
    stale = [] :: [pos_integer()],
    tags = #{} :: #{[Slot :: pos_integer()] => pos_integer()},
    next_tag = 1 :: pos_integer(),
    contents = #{} :: #{term() => pos_integer()},
    wanted = [] :: [{Content :: pos_integer(), Account :: pos_integer()}],
    accounts = #{} :: #{Schema :: non_neg_integer() => {Account :: pos_integer(), active | {withdrawn, integer()}}},
    ids = {0, [], 10000} :: dichroic_aggregates:ids(),
    totals :: dichroic_aggregates:totals(),
    account :: dichroic_self_account:account(),
    flushed = 0 :: integer(),
    untold = 0 :: non_neg_integer(),              % series that the last flush had no id for
    audit = none :: none | {SinceS :: integer(), Least :: integer(), Most :: integer()},  % drift of the budget that flushes saw
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

%% @doc The events to be attached, each with the slot that is its handler's configuration.
-spec events(engine()) -> [{[atom()], pos_integer()}].
events(#engine{programs = Programs, events = Events}) -> [{E, maps:get(E, Events)} || E <- lists:sort(maps:keys(Programs))].

%%% A new plan

-spec plan(dichroic_value:value(), engine()) -> {ok, [dichroic_plan:refusal()], engine()} | {error, iodata()}.
plan(Value, E) ->
    case dichroic_plan:compile(Value) of
        {error, _} = No -> No;
        {ok, Plan} -> take_up(Plan, dichroic_app_metrics:entries(series(Plan), E#engine.own), E)
    end.

%% @doc The plan once more, if the application's function for metrics failed when it came and now does not.
-spec again(engine()) -> same | {ok, [dichroic_plan:refusal()], engine()}.
again(#engine{plan = Plan, own_state = failed, own = Given} = E) ->
    case dichroic_app_metrics:entries(series(Plan), Given) of
        {failed, _, _, _} -> same;
        Own -> take_up(Plan, Own, E)
    end;
again(_) -> same.

series(#{limits := #{series := Series}}) -> Series.

take_up(#{refused := Refused, aggregates := Planned} = Asked, {State, Own, No0, Given}, E) ->
    Keys = [K || {_, _, _, #entry{key = K}} <- Planned],
    Plan = Asked#{aggregates := Planned ++ [O || {_, _, _, #entry{key = K}} = O <- Own, not lists:member(K, Keys)]},
    {No1, Gone, E1} = entries(Plan, limits(Plan, E#engine{plan = Asked, own = Given, own_state = State})),
    {No2, Wanted, E2} = streams(Plan, E1),
    {No3, E3} = programs(Plan, Wanted, E2),
    {ok, Refused ++ No0 ++ No1 ++ No2 ++ No3, retire(Gone, E3)}.

limits(#{limits := #{series := Series, credit := Credit, rows_per_s := Rate}} = Plan, #engine{static = St} = E) ->
    atomics:put(St#static.acct, ?ACCT_SERIES_CAP, Series - reserved(Plan)),
    ok = dichroic_limiter:set_limits(St#static.credit, ?EVENT_POOL, max(1, Credit div St#static.shards), Rate),
    ok = dichroic_limiter:set_limits(St#static.credit, ?LOG_POOL, max(1, Credit div ?LOG_SHARE), max(1, Rate div ?LOG_SHARE)),
    {Next, Freed, _} = E#engine.ids,
    E#engine{ids = {Next, Freed, Series}}.

%% Part of the ids is for the account and for overflow series, but never more than half of them: what then finds none is told in words.
reserved(#{limits := #{series := Series}, aggregates := Aggregates, streams := Streams}) ->
    Needed = ?IDS_OF_ENTRY * length(Aggregates) + ?IDS_OF_STREAM * length(Streams) + ?IDS_OF_RELAY,
    min(max(Series div 8, Needed), Series div 2).

%% Entries of a known key keep their slot, and with it their totals.
entries(#{aggregates := Aggregates}, #engine{entries = Old} = E) ->
    Keys = [K || {_, _, _, #entry{key = K}} <- Aggregates],
    Gone = maps:values(maps:without(Keys, Old)),
    {No, E1} = lists:foldl(fun({_, _, _, Entry}, Acc) -> entry(Entry, Acc) end,
                           {[], E#engine{entries = maps:with(Keys, Old)}}, Aggregates),
    ok = dichroic_tables:purge(E#engine.static, E#engine.free -- E1#engine.free),
    {No, Gone, E1}.

entry(#entry{key = Key} = Entry, {No, #engine{entries = Entries} = E}) ->
    case take_slot(Key, E) of
        {none, E1} -> {[[Key, <<"no room for more entries, older ones are still leaving">>] | No], E1};
        {Slot, E1} -> {No, E1#engine{entries = Entries#{Key => Entry#entry{slot = Slot}}}}
    end.

%% What comes back before it is quite gone gets its slot again, so that its account does not run backwards.
take_slot(Key, #engine{entries = Entries, leaving = Leaving} = E) ->
    case {Entries, [L || {#entry{key = K}, _} = L <- Leaving, K =:= Key]} of
        {#{Key := #entry{slot = Slot}}, _} -> {Slot, E};
        {_, [{#entry{slot = Slot}, _} | _] = Back} -> {Slot, E#engine{leaving = Leaving -- Back}};
        {_, []} -> take_slot(E)
    end.

%% After the swap, so that nothing new is counted where nobody will read.
retire(Gone, #engine{entries = Entries, leaving = Leaving, static = St, flushed = Flushed} = E) ->
    Slots = [Slot || #entry{slot = Slot} <- Gone],
    E#engine{totals = dichroic_aggregates:retire(St, by_slot(Gone ++ maps:values(Entries)), Slots, E#engine.totals),
             leaving = [{Entry, Flushed} || Entry <- Gone] ++ Leaving}.

by_slot(Entries) -> maps:from_list([{Slot, Entry} || #entry{slot = Slot} = Entry <- Entries]).

take_slot(#engine{free = [Slot | Free]} = E) -> {Slot, E#engine{free = Free}};
take_slot(#engine{next_entry = N} = E) when N =< ?MAX_ENTRIES -> {N, E#engine{next_entry = N + 1}};
take_slot(E) -> {none, E}.

%% The handler knows a stream by its content, the account by its schema: wanting the same columns again, under another
%% schema, changes one `atomics' cell and no program.
streams(#{streams := Streams}, #engine{accounts = Accounts, flushed = Flushed} = E) ->
    Schemas = [Schema || {_, Schema, _} <- Streams],
    Withdrawn = maps:map(fun(_, {A, active}) -> {A, {withdrawn, Flushed}}; (_, Other) -> Other end,
                         maps:without(Schemas, Accounts)),
    Again = maps:map(fun(_, {A, _}) -> {A, active} end, maps:with(Schemas, Accounts)),
    E1 = trim_contents(E#engine{accounts = maps:merge(Withdrawn, Again)}),
    {No, Wanted, _, E2} = lists:foldl(fun stream/2, {[], [], #{}, E1}, Streams),
    E3 = E2#engine{wanted = [{C, A} || {_, #stream{content = C}, A} <- Wanted]},
    {No, [{Event, S} || {Event, S, _} <- Wanted], switch(E#engine.wanted, E3)}.

stream({Event, Schema, #stream{keep = Keep, columns = Columns, sample = Sample} = S}, {No, Wanted, Seen, E}) ->
    Term0 = {Event, Keep, Columns, Sample},
    Nth = maps:get(Term0, Seen, 0),
    case content({Term0, Nth}, E) of
        {none, E1} -> {[[Schema, <<"more than 1024 different streams">>] | No], Wanted, Seen, E1};
        {Content, E1} ->
            case account(Schema, E1) of
                {none, E2} -> {[[Schema, <<"no room for more streams, older ones are still leaving">>] | No], Wanted, Seen, E2};
                {Account, E2} ->
                    {No, [{Event, S#stream{content = Content}, Account} | Wanted], Seen#{Term0 => Nth + 1}, E2}
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

%% Contents that nobody wants now stay known, so that wanting them again is cheap, until there are many.
trim_contents(#engine{contents = Contents, wanted = Wanted} = E) when map_size(Contents) > ?MAX_KNOWN_CONTENTS ->
    E#engine{contents = maps:filter(fun(_, C) -> lists:keymember(C, 1, Wanted) end, Contents)};
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

%% Streams that were on and go, or change their schema, are switched now; new ones wait for streams_on/1.
switch(Before, #engine{wanted = Wanted, static = St} = E) ->
    _ = [atomics:put(St#static.subs, C, 0) || {C, _} = CA <- Before, not lists:member(CA, Wanted)],
    E.

-spec streams_on(engine()) -> ok.
streams_on(#engine{wanted = Wanted, static = St}) ->
    _ = [atomics:put(St#static.subs, C, A) || {C, A} <- Wanted],
    ok.

-spec streams_off(engine()) -> ok.
streams_off(#engine{wanted = Wanted, static = St}) ->
    _ = [atomics:put(St#static.subs, C, 0) || {C, _} <- Wanted],
    ok.

%%% Programs

programs(#{limits := #{string := Cap}} = Plan, Wanted, #engine{programs = Old} = E) ->
    {New, E0} = tagged(build(Plan, Cap, Wanted, E), E),
    {No, E1} = maps:fold(fun swap/3, {[], E0}, New),
    Gone = maps:without(maps:keys(New), Old),
    _ = [atomics:put((E#engine.static)#static.slots, maps:get(Event, E#engine.events), 0) || Event <- maps:keys(Gone)],
    {No, erase_stale(E1#engine{programs = maps:without(maps:keys(Gone), E1#engine.programs),
                               stale = [Id || {Id, _} <- maps:values(Gone)] ++ E1#engine.stale})}.

build(#{aggregates := Aggregates, carries := Carries}, Cap, Wanted, #engine{entries = Entries} = E) ->
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
    Active = lists:usort([Event || {Event, _} <- Wanted]),
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

%% Groups of several entries get a tag: the one they had in the plan before, else a new one. The first entry of a group is
%% one that every event counts, if there is one, because its row must be there before it can hold a view.
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

swap(Event, Program, {No, #engine{programs = Programs} = E}) ->
    case Programs of
        #{Event := {_, Program}} -> {No, E};
        _ ->
            case slot(Event, E) of
                none -> {[[null, <<"more than 8192 events in the life of this relay">>] | No], E};
                {Slot, E1} ->
                    Id = erlang:unique_integer([positive]),
                    St = E1#engine.static,
                    ok = persistent_term:put({dichroic_program, Id}, Program),
                    ok = atomics:put(St#static.slots, Slot, Id),
                    Stale = case Programs of #{Event := {Old, _}} -> [Old | E1#engine.stale]; _ -> E1#engine.stale end,
                    {No, E1#engine{programs = Programs#{Event => {Id, Program}}, stale = Stale}}
            end
    end.

slot(Event, #engine{events = Events} = E) ->
    case Events of
        #{Event := Slot} -> {Slot, E};
        _ when map_size(Events) >= ?MAX_EVENTS -> none;
        _ ->
            Slot = map_size(Events) + 1,
            {Slot, E#engine{events = Events#{Event => Slot}}}
    end.

%% Erasing makes the VM look at every process, so it is done rarely, many at once.
erase_stale(#engine{stale = Stale} = E) when length(Stale) > ?KEEP_STALE ->
    {Keep, Erase} = lists:split(?KEEP_STALE div 4, Stale),
    _ = [persistent_term:erase({dichroic_program, Id}) || Id <- Erase],
    E#engine{stale = Keep};
erase_stale(E) -> E.

%% @doc What an engine that was killed has left in persistent_term.
-spec sweep() -> ok.
sweep() ->
    _ = [persistent_term:erase(K) || {{dichroic_program, _} = K, _} <- persistent_term:get()],
    ok.

%% @doc The end of an epoch: nothing of it stays in persistent_term.
-spec discard(engine()) -> ok.
discard(#engine{stale = Stale, programs = Programs, static = St}) ->
    _ = [atomics:put(St#static.slots, I, 0) || I <- lists:seq(1, ?MAX_EVENTS)],
    _ = [persistent_term:erase({dichroic_program, Id}) || Id <- [I || {I, _} <- maps:values(Programs)] ++ Stale],
    ok.

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
    Accounted = Entries ++ [Entry || {Entry, _} <- E#engine.leaving],
    Out0 = #{ids => Ids, freed => [], defines => [], numbers => [], histograms => [], untold => 0},
    Streams = lists:sort([{A, Schema} || {Schema, {A, _}} <- maps:to_list(E#engine.accounts)]),
    {Out1, Account} = dichroic_self_account:flush(St, Accounted, Streams, {Out0, E#engine.account}),
    {Out2, Totals} = dichroic_aggregates:flush(St, by_slot(Entries), {Flush, Ponged, E#engine.clock, Out1}, E#engine.totals),
    #{ids := {Next, Free, Limit}, freed := Freed, defines := Defines, numbers := Numbers, histograms := Histograms,
      untold := Untold} = Out2,
    Time = erlang:system_time(nanosecond),
    Frames = [{define, series, D} || D <- chunks(lists:reverse(Defines), min(Max, ?DEFINE_BYTES) - 16, fun define_bytes/1)]
        ++ [{numbers, Time, N} || N <- chunks(lists:reverse(Numbers), Max - 16, fun(_) -> ?NUMBER_BYTES end)]
        ++ [{histograms, Time, H} || H <- chunks(lists:reverse(Histograms), Max - 16, fun histogram_bytes/1)]
        ++ [{define, series, D} || D <- chunks([{Id, null} || Id <- Freed], Max - 16, fun define_bytes/1)],
    {Frames, audit(Now, E#engine{ids = {Next, Freed ++ Free, Limit}, account = Account, totals = Totals, flushed = Flush,
                                 untold = Untold})}.

%% @doc What the limit of series keeps from the collector, in words. It is told when an id is free.
-spec untold(engine()) -> [dichroic_plan:refusal()].
untold(#engine{untold = 0}) -> [];
untold(#engine{untold = N, ids = {_, _, Limit}}) ->
    Words = io_lib:format("~b series have no id and are not told: limits.series, ~b, is too small for this plan", [N, Limit]),
    [[null, unicode:characters_to_binary(Words)]].

%% Without a collector nothing is read, and so nothing is known to be idle.
tick(Now, #engine{at = none} = E) -> E#engine{at = Now};
tick(Now, #engine{at = At, clock = Clock} = E) ->
    Most = max(?IDLE_S, ?IDLE_FLUSHES * flush_ms(E) div 1000),
    E#engine{at = Now, clock = Clock + max(0, min(Now - At, Most))}.

%% Emitters that are killed while a label set is admitted leave the budget too high. Others that are being admitted come and go:
%% what every flush of a minute has seen is there to stay.
audit(Now, #engine{static = St, totals = Totals, audit = Before} = E) ->
    Leaving = dichroic_aggregates:leaving(Totals),
    Drift = dichroic_tables:drift(St, Leaving),
    case Before of
        none -> E#engine{audit = {Now, Drift, Drift}};
        {Since, Least, Most} when Now - Since < ?AUDIT_S -> E#engine{audit = {Since, min(Least, Drift), max(Most, Drift)}};
        {_, Least, Most} ->
            ok = dichroic_tables:amend(St, Leaving, lasting(min(Least, Drift), max(Most, Drift))),
            E#engine{audit = none}
    end.

lasting(Least, _) when Least > 0 -> Least;
lasting(_, Most) when Most < 0 -> Most;
lasting(_, _) -> 0.

%% Slots and accounts whose last reading is acknowledged are free again. Three flushes, because a handler that began before
%% the swap may still be counting, and its cells are read once more.
settle(_, Ponged, #engine{leaving = Leaving, accounts = Accounts, static = St} = E) ->
    {Done, Still} = lists:partition(fun({_, At}) -> Ponged > At + 4 end, Leaving),
    Gone = maps:filter(fun(_, {_, {withdrawn, At}}) -> Ponged > At + 3; (_, _) -> false end, Accounts),
    _ = [ets:delete(St#static.streams, A) || {A, _} <- maps:values(Gone)],
    E#engine{leaving = Still, free = [Slot || {#entry{slot = Slot}, _} <- Done] ++ E#engine.free,
             accounts = maps:without(maps:keys(Gone), Accounts)}.

define_bytes({_, V}) -> 4 + iolist_size(dichroic_value:encode(V)).
histogram_bytes({_, _, _, Buckets}) -> 22 + 11 * length(Buckets).

chunks([], _, _) -> [];
chunks(Items, Max, Size) -> chunks(Items, Max, Size, 0, []).

chunks([], _, _, _, Acc) -> [lists:reverse(Acc)];
chunks([I | Items], Max, Size, Used, Acc) ->
    Bytes = Size(I),
    case Used + Bytes > Max andalso Acc =/= [] of
        true -> [lists:reverse(Acc) | chunks([I | Items], Max, Size, 0, [])];
        false -> chunks(Items, Max, Size, Used + Bytes, [I | Acc])
    end.
