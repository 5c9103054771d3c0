%% @doc The relay's account of itself, sent as totals under reserved keys, so that the collector's ledger is exact.
%%
%% Owned by the engine. flush/4 reads every counter of the account and returns those that changed; on a new connection all of
%% them, rows_sent first, so that the collector can compute how many rows were lost. The account of a removed stream is kept
%% until its last reading is acknowledged.
-module(dichroic_self_account).

-include("dichroic.hrl").

-export([new/0, reconnected/1, flush/4]).
-export_type([account/0]).

-define(KEY_SENT, 1).
-define(KEY_DROPPED, 2).
-define(KEY_SKIPPED, 3).
-define(KEY_FAILURES, 4).
-define(KEY_REATTACHED, 5).
-define(KEY_OVERFLOWED, 6).
-define(KEY_ROW_SKIPPED, 7).

%% Last sent: {Key, Labels} => {Id, Value}
-opaque account() :: #{{1..7, list()} => {non_neg_integer(), integer()}}.

-spec new() -> account().
new() -> #{}.

-spec reconnected(account()) -> account().
reconnected(_) -> #{}.

%% @doc Adds changed rows so that they are sent before other numbers. `Streams' are stream accounts with their schema.
-spec flush(#static{}, [#entry{}], [{pos_integer(), non_neg_integer()}], {dichroic_aggregates:out(), account()}) ->
    {dichroic_aggregates:out(), account()}.
flush(St, Entries, Streams, {Out, Account}) ->
    Readings = readings(St, Entries, Streams),
    Gone = maps:without([K || {K, _} <- Readings], Account),
    #{freed := Freed, ids := Ids} = Out,
    Out1 = Out#{freed := [Id || {Id, _} <- maps:values(Gone)] ++ Freed},
    {Rows, Defines, Ids1, Kept} = lists:foldl(
        fun(R, Acc) -> reading(St, R, Acc) end,
        {[], [], Ids, maps:without(maps:keys(Gone), Account)}, Readings),
    #{numbers := Numbers, defines := Before, unreported := Unreported} = Out1,
    {Out1#{ids := Ids1, numbers := Numbers ++ Rows, defines := Defines ++ Before,
           unreported := Unreported + length(Readings) - map_size(Kept)}, Kept}.

reading(St, {{Key, Labels} = K, V}, {Rows, Defines, Ids, Account} = Acc) ->
    case Account of
        #{K := {_, V}} -> Acc;
        #{K := {Id, _}} -> {[{Id, V, 0.0} | Rows], Defines, Ids, Account#{K := {Id, V}}};
        _ ->
            case take_id(Ids) of
                none -> Acc;
                {Id, Ids1} ->
                    Define = {Id, #{<<"key">> => Key, <<"labels">> => Labels, <<"start">> => St#static.epoch}},
                    {[{Id, V, 0.0} | Rows], [Define | Defines], Ids1, Account#{K => {Id, V}}}
            end
    end.

take_id({Next, [Id | Freed], Limit}) -> {Id, {Next, Freed, Limit}};
take_id({Next, [], Limit}) when Next < Limit -> {Next, {Next + 1, [], Limit}};
take_id(_) -> none.

readings(St, Entries, Streams) ->
    [{{?KEY_SENT, [Schema]}, rows(St, A, ?ROWS_SENT)} || {A, Schema} <- Streams]
    ++ [{{?KEY_DROPPED, [Schema, Reason]}, N} || {A, Schema} <- Streams,
                                                 Reason <- [?DROP_OVERLOAD, ?DROP_RATE, ?DROP_BROKEN, ?DROP_TOO_LARGE],
                                                 N <- [rows(St, A, Reason)], N > 0]
    ++ [{{?KEY_SKIPPED, [Key, Why]}, N} || #entry{key = Key, slot = Slot} <- Entries,
                                           {Cell, Why} <- [{?SKIP_NOT_NUMERIC, <<"not_numeric">>},
                                                           {?SKIP_RANGE, <<"out_of_range">>}],
                                           N <- [acct(St, dichroic_tables:acct(Slot, Cell))], N > 0]
    ++ [{{?KEY_ROW_SKIPPED, [Schema, Why]}, N} || {A, Schema} <- Streams,
                                                  {Cell, Why} <- [{?ROWS_NOT_NUMERIC, <<"not_numeric">>},
                                                                  {?ROWS_RANGE, <<"out_of_range">>}],
                                                  N <- [rows(St, A, Cell)], N > 0]
    ++ [{{?KEY_FAILURES, []}, N} || N <- [acct(St, ?ACCT_FAILURES)], N > 0]
    ++ [{{?KEY_REATTACHED, []}, N} || N <- [acct(St, ?ACCT_REATTACHED)], N > 0]
    ++ [{{?KEY_OVERFLOWED, [Key]}, N} || #entry{key = Key, slot = Slot} <- Entries,
                                         N <- [acct(St, dichroic_tables:acct(Slot, ?OVERFLOWED))], N > 0].

rows(#static{rows = Rows}, Account, Cell) -> atomics:get(Rows, (Account - 1) * ?ROWS_PER_STREAM + Cell).
acct(#static{acct = Acct}, Cell) -> atomics:get(Acct, Cell).
