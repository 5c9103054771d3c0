%% Records and layouts shared by the handler and the modules that build its state. Internal to this application.

-define(STATIC, dichroic_handler).            % persistent_term key of #static{}
-define(MAX_ENTRIES, 4096).                   % entry slots: 2,000 of a plan, and those of removed entries that are not free yet
-define(MAX_STREAMS, 1024).                   % stream contents (subs) and stream accounts (rows)
-define(MAX_SHARDS, 16).
-define(MAX_LABEL_BYTES, 256).

%% Cells of `acct`: the fixed ones, then eight for each entry slot.
-define(ACCT_FAILURES, 1).
-define(ACCT_REATTACHED, 2).
-define(ACCT_SERIES, 3).                      % series alive, all entries
-define(ACCT_SERIES_CAP, 4).
-define(ACCT_FIXED, 8).
-define(ACCT_PER_ENTRY, 8).
-define(SKIP_NOT_NUMERIC, 2).
-define(SKIP_RANGE, 3).
-define(OVERFLOWED, 4).
-define(ENTRY_SERIES, 5).                     % series alive of this entry
-define(ENTRY_LEADER, 6).                     % slot whose rows hold the views of this entry, 0 = none

%% Cells of `rows`, eight for each stream account. Drop cells are numbered by the reason of a GAP.
-define(ROWS_PER_STREAM, 8).
-define(ROWS_SENT, 1).
-define(ROWS_SAMPLED, 2).                     % running number whose hash decides sampling
-define(ROWS_NOT_NUMERIC, 3).                 % measurements left out of rows
-define(DROP_OVERLOAD, 4).
-define(DROP_RATE, 5).
-define(DROP_BROKEN, 6).
-define(DROP_TOO_LARGE, 7).
-define(ROWS_RANGE, 8).

%% Pools of dichroic_limiter: where the cells of each begin.
-define(EVENT_POOL, 0).
-define(LOG_POOL, 4).

%% Cells of one series. A counter has one; a sum two; a histogram its count (written last, read first), both parts of
%% the sum, the zero bucket (exponential) or the first bucket (bounds), and the others.
-define(CELL_SUM_INT, 1).
-define(CELL_SUM_FLOAT, 2).
%% An integer cell that passes this moves as much to the float cell of its sum: it stays a small integer, and cannot overflow.
-define(CARRY, 16#800000000000000).           % 2^59
-define(CELL_COUNT, 1).
-define(CELL_INT, 2).
-define(CELL_FLOAT, 3).
-define(CELL_ZERO, 4).
-define(CELL_BUCKETS, 5).

-type programs() :: #{[atom(), ...] => tuple()}.    % event -> #program{}

%% Read first by every handler call: the only persistent term of an epoch, so that tables and programs always belong together.
%% Every write makes the VM visit all processes, so it is written once for an epoch and once for a plan that changes programs.
-record(static, {
    epoch       :: integer(),
    shards      :: pos_integer(),
    tables      :: tuple(),                   % one ETS table a shard: {{EntrySlot, Labels}, View | AtomicsRef, AtomicsRef}
    relays      :: tuple(),                   % registered names, one a shard
    programs = #{} :: programs(),             % only in the persistent term
    acct        :: atomics:atomics_ref(),
    subs        :: atomics:atomics_ref(),     % stream content -> stream account, 0 = not subscribed
    rows        :: atomics:atomics_ref(),
    credit      :: atomics:atomics_ref(),
    series      :: ets:tid(),                 % {{EntrySlot, Labels}, StartNs}
    lasts       :: ets:tid(),                 % {{EntrySlot, Labels}, Value, Writes}
    fresh       :: ets:tid(),                 % {Unique, {EntrySlot, Labels}, AtomicsRef | last}
    streams     :: ets:tid()                  % {Account, Schema}, {{leader, Pid}, Application}
}).

%% One compiled aggregate of a plan, with everything that the handler needs.
-record(entry, {
    slot = 0    :: non_neg_integer(),
    key         :: integer(),
    type        :: counter | sum | last | exponential | buckets,
    value       :: undefined | dichroic_expression:expr(),
    factor = 1.0 :: float(),
    grid        :: undefined | tuple(),       % dichroic_bucket:grid() or dichroic_bucket:bounds()
    size = 1    :: pos_integer(),             % atomics cells of one series in one shard
    cap         :: pos_integer(),
    expire_s = 0 :: non_neg_integer(),        % 0 = never
    late = []   :: [none | name],             % transform of each label that is deferred until its series is defined
    own = none  :: none | map()               % definition of an app metric, which no plan contains
}).

%% Entries with the same condition and labels, which are computed once for all of them. With a tag, their cells also need only one
%% table lookup: the row of the first entry has a view, {Tag, Tries, AtomicsRef | none, ...}, with one element for each entry. A
%% tag is never used for other entries, nor for the same entries after a plan without them.
-record(group, {
    keep        :: [dichroic_expression:condition()],
    labels      :: dichroic_expression:labels(),
    tag = 0     :: non_neg_integer(),         % 0 = no views
    entries     :: [#entry{}]
}).

-record(stream, {
    content = 0 :: non_neg_integer(),
    keep        :: [dichroic_expression:condition()],
    columns     :: [{number, dichroic_expression:expr()} | dichroic_expression:expr()] | dichroic_logger:log_columns(),
    sample      :: float()
}).

%% What the handler does for one event.
-record(program, {
    string_cap  :: pos_integer(),             % bytes of a string in a row or a slot
    label_cap   :: pos_integer(),             % bytes of a string in a label
    groups      :: [#group{}],
    streams     :: [#stream{}],
    carries     :: [{CarryKey :: tuple(), clear | dichroic_expression:expr()}]
}).
