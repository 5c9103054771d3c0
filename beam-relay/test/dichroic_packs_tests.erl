%% @doc The packs of the collector through the real handler: packs.terms has a plan for each, recorded events, and what every
%% series comes to as the collector's tests read the same definitions. Written there; see the collector's crate of relays.
-module(dichroic_packs_tests).

-include_lib("eunit/include/eunit.hrl").

every_pack_gives_the_results_of_the_collectors_tests_test_() ->
    {ok, Packs} = file:consult(filename:join(filename:dirname(?FILE), "packs.terms")),
    [{Title, fun() -> play(Plan, Events, Totals) end} || {Title, Plan, Events, Totals} <- Packs].

play(Hex, Events, Totals) ->
    Frame = binary:decode_hex(Hex),
    {ok, {plan, Plan}, <<>>} = dichroic_wire:decode(Frame, 1048576),
    {ok, [], Engine} = support:engine(Plan),
    Known = [Event || {Event, _} <- dichroic_engine:events(Engine)],
    [support:emit(Engine, Event, alive(Measurements), alive(Metadata))
     || {Event, Measurements, Metadata} <- Events, lists:member(Event, Known)],
    {Frames, _} = support:flush(1, Engine),
    ?assertEqual(0, support:account(Frames, 4, [])),
    Found = [{Key, Labels, shown(support:total(Frames, Key, Labels))}
             || {define, series, Ds} <- Frames, {_, #{<<"key">> := Key, <<"labels">> := Labels}} <- Ds, Key < 0 orelse Key > 15],
    ?assertEqual(lists:sort([{Key, Labels, shown(Value)} || {Key, Labels, Value} <- Totals]), lists:sort(Found)).

%% Of a distribution: its sum and how many values there were. Floats are compared as they would be shown.
shown({Int, Float, Buckets}) when is_list(Buckets) -> shown({Int, Float, lists:sum([N || {_, _, N} <- Buckets])});
shown({Int, Float}) -> {Int, round(Float * 1.0e9)};
shown({Int, Float, Count}) -> {Int, round(Float * 1.0e9), Count}.

alive('$opaque') -> self();
alive(M) when is_map(M) -> maps:map(fun(_, V) -> alive(V) end, M);
alive(L) when is_list(L) -> [alive(V) || V <- L];
alive(T) when is_tuple(T) -> list_to_tuple(alive(tuple_to_list(T)));
alive(V) -> V.
