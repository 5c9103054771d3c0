%% @doc What an installed relay counts before it has a collector.
%%
%% Used by dichroic_connection when it starts. The plan of all packs is in `priv/plan.bin', which a test of the collector writes and
%% keeps equal to the packs. Entries of it may have templates, `{ecto_prefix}': they are filled in here, with the values that
%% dichroic_variables finds, and their keys are computed as by the collector. So the plan of the first collector has the same keys
%% for what it has in common with this one, and their totals continue. If the setting `cache_dir' is given, the last plan of a
%% collector is kept there and used instead, because the collector may be configured in another way.
-module(dichroic_early_plan).

-export([read/0, fill/3, save/1]).
-export_type([early/0]).

-type early() :: none | {plan, map()} | {templates, map()}.

-define(MAX_BYTES, 4194304).
-define(FNV_BASE, 16#cbf29ce484222325).
-define(FNV_PRIME, 16#100000001b3).
-define(RESERVED_KEYS, 16).
%% A template is filled with the cross product of its values; packs use one template in a name.
-define(MAX_FILLED, 2000).

%% @doc The plan of this node: cached, built in, or none if the setting `early' is `false' or the relay is attached.
-spec read() -> early().
read() ->
    case {application:get_env(dichroic, mode), application:get_env(dichroic, early, true)} of
        {{ok, attached}, _} -> none;
        {_, false} -> none;
        _ ->
            case file(cached()) of
                none -> built_in();
                Plan -> {plan, Plan}
            end
    end.

%% Bounds and factors of the file are for nanoseconds.
built_in() ->
    case erlang:convert_time_unit(1, second, native) of
        1000000000 ->
            case code:priv_dir(dichroic) of
                {error, _} -> {plan, empty()};
                Dir -> case file(filename:join(Dir, "plan.bin")) of none -> {plan, empty()}; Plan -> {templates, Plan} end
            end;
        _ -> {plan, empty()}
    end.

%% Metrics that the application defines need no plan.
empty() -> #{<<"generation">> => 0}.

file(none) -> none;
file(Path) ->
    case file:read_file(Path) of
        {ok, Bytes} when byte_size(Bytes) =< ?MAX_BYTES ->
            case dichroic_value:decode(Bytes) of
                {ok, #{<<"generation">> := _} = Plan} -> Plan;
                _ -> none
            end;
        _ -> none
    end.

cached() ->
    case application:get_env(dichroic, cache_dir) of
        {ok, Dir} when is_list(Dir); is_binary(Dir) ->
            filename:join(Dir, "dichroic-" ++ [case C of $/ -> $_; _ -> C end || C <- atom_to_list(node())] ++ ".plan");
        _ -> none
    end.

%% @doc Keeps the plan of a collector, without its streams, if there is a folder for it. Called for every plan.
-spec save(map()) -> ok.
save(Plan) ->
    case cached() of
        none -> ok;
        Path ->
            Bytes = iolist_to_binary(dichroic_value:encode(Plan#{<<"streams">> => []})),
            case file:read_file(Path) of
                {ok, Bytes} -> ok;
                _ ->
                    _ = filelib:ensure_dir(Path),
                    New = [Path, ".new"],
                    _ = file:write_file(New, Bytes) =:= ok andalso file:rename(New, Path),
                    ok
            end
    end.

%% @doc The plan for an application (its name, may be empty) with these values of templates.
-spec fill(early(), binary(), dichroic_variables:variables()) -> none | map().
fill(none, _, _) -> none;
fill({plan, Plan}, _, _) -> Plan;
fill({templates, #{<<"variables">> := Defaults, <<"aggregates">> := Aggregates, <<"carries">> := Carries} = Plan}, Service, Found) ->
    App = app(Service),
    Values = maps:map(fun(Name, Texts) -> lists:usort(defaults(Texts, App) ++ maps:get(Name, Found, [])) end, Defaults),
    Plan#{<<"aggregates">> => lists:append([aggregate(A, Values) || A <- Aggregates, not sampled(A)]),
          <<"carries">> => lists:append([carry(C, Values) || C <- Carries])};
fill({templates, _}, _, _) -> empty().

%% Values that the relay reads itself are read for a collector only.
sampled(#{<<"event">> := Event}) -> lists:member(Event, [[atom_to_binary(P) || P <- E] || E <- dichroic_vm_poller:events()]).

defaults(Texts, App) ->
    [binary:replace(T, <<"{app}">>, App, [global]) || T <- Texts, App =/= <<>> orelse binary:match(T, <<"{app}">>) =:= nomatch].

aggregate(#{<<"names">> := Names, <<"event">> := Event} = Entry, Values) ->
    [begin
         Filled = (maps:remove(<<"names">>, Entry))#{<<"event">> => event(Event, With)},
         Filled#{<<"key">> => key(Filled, [text(N, With) || N <- Names])}
     end || With <- combinations(Event ++ Names, Values)];
aggregate(Entry, _) -> [Entry].

carry(#{<<"event">> := Event} = Entry, Values) -> [Entry#{<<"event">> => event(Event, With)} || With <- combinations(Event, Values)].

%% The templates of these texts, each with one of its values.
combinations(Texts, Values) ->
    Used = [{[<<"{">>, Name, <<"}">>], Vs} || {Name, Vs} <- lists:sort(maps:to_list(Values)),
                                              lists:any(fun(T) -> binary:match(T, <<"{", Name/binary, "}">>) =/= nomatch end, Texts)],
    lists:sublist(lists:foldl(fun({Place, Vs}, Acc) -> [[{iolist_to_binary(Place), V} | With] || With <- Acc, V <- Vs] end, [[]], Used),
                  ?MAX_FILLED).

event(Event, With) -> lists:append([binary:split(text(Part, With), <<".">>, [global]) || Part <- Event]).

text(Text, With) -> lists:foldl(fun({Place, V}, T) -> binary:replace(T, Place, V, [global]) end, Text, With).

%% `My-App' as OTP applications are named: `my_app'.
app(Service) ->
    Parts = re:split(string:lowercase(ascii(Service)), "[^a-z0-9]+", [{return, binary}]),
    iolist_to_binary(lists:join($_, [P || P <- Parts, P =/= <<>>])).

%% Only ASCII letters have another case in the names of applications.
ascii(Text) -> << <<(case C < 128 of true -> C; false -> $_ end)>> || <<C>> <= Text >>.

%% FNV-1a, 64 bits, over the entry as it is sent and its names; keys below 16 are reserved.
key(Entry, Names) ->
    Bytes = iolist_to_binary([dichroic_value:encode(Entry) | [[0, N] || N <- Names]]),
    <<Key:64/signed>> = <<(fnv(Bytes, ?FNV_BASE)):64>>,
    case Key of
        K when K >= 0, K < ?RESERVED_KEYS -> K + ?RESERVED_KEYS;
        K -> K
    end.

fnv(<<>>, Hash) -> Hash;
fnv(<<Byte, Rest/binary>>, Hash) -> fnv(Rest, ((Hash bxor Byte) * ?FNV_PRIME) band 16#ffffffffffffffff).
