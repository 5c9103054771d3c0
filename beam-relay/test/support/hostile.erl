%% @doc Unusual terms, and events built from them, from a seed. Called on the node that emits.
-module(hostile).

-export([measurements/3, metadata/3]).

%% Emits events with one random measurement; returns the expected totals.
measurements(Seed, Event, Times) ->
    _ = rand:seed(exsss, Seed),
    lists:foldl(fun(N, Acc) ->
        V = term(3),
        ok = telemetry:execute(Event, measured(V), #{k => N}),
        count(V, Acc)
    end, #{events => 0, integers => 0, not_numeric => 0, out_of_range => 0, row_range => 0}, lists:seq(1, Times)).

measured(V) ->
    case rand:uniform(3) of
        1 -> #{v => V};
        2 -> #{<<"v">> => V};
        3 -> #{v => V, [improper | list] => self(), 1.5 => V}
    end.

count(V, #{events := N} = Acc) -> counted(V, Acc#{events := N + 1}).

counted(V, #{integers := I} = Acc) when is_integer(V), abs(V) < 1 bsl 59 -> Acc#{integers := I + V};
%% Added to the floats.
counted(V, Acc) when is_integer(V), V >= -(1 bsl 63), V < 1 bsl 63 -> Acc;
counted(V, Acc) when is_integer(V) ->
    Beyond = try float(V) of _ -> 0 catch error:_ -> 1 end,
    #{out_of_range := R, row_range := W} = Acc,
    Acc#{out_of_range := R + 1, row_range := W + Beyond};
counted(V, #{out_of_range := R} = Acc) when is_float(V) ->
    case abs(V) < 1.0e280 of true -> Acc; false -> Acc#{out_of_range := R + 1} end;
counted(V, Acc) when V =:= nil; V =:= undefined -> Acc;
counted(_, #{not_numeric := N} = Acc) -> Acc#{not_numeric := N + 1}.

%% Emits events with random metadata.
metadata(Seed, Event, Times) ->
    _ = rand:seed(exsss, Seed),
    _ = [ok = telemetry:execute(Event, #{v => 1}, about(N)) || N <- lists:seq(1, Times)],
    Times.

about(N) when N rem 500 =:= 0 -> #{k => binary:copy(<<"k">>, 5000000), huge => maps:from_list([{I, {I, I}} || I <- lists:seq(1, 100000)])};
about(N) when N rem 500 =:= 1 -> #{k => shared(60), conn => shared(60)};
about(_) ->
    case rand:uniform(4) of
        1 -> #{k => term(3)};
        2 -> #{k => term(1), conn => #{'__struct__' => 'Elixir.Plug.Conn', status => term(2), owner => cycle(50)}};
        3 -> #{<<"k">> => term(2), conn => term(3)};
        4 -> #{[k] => term(2)}
    end.

term(Depth) ->
    case rand:uniform(case Depth of 0 -> 14; _ -> 20 end) of
        1 -> rand:uniform(3);
        2 -> integer_to_binary(rand:uniform(3));
        3 -> float(rand:uniform(3));
        4 -> list_to_atom(integer_to_list(rand:uniform(3)));
        5 -> lists:nth(rand:uniform(6), [nil, undefined, true, false, <<>>, <<"true">>]);
        6 -> rand:uniform(1 bsl 62) - (1 bsl 61);
        7 -> (rand:uniform(3) - 2) * (1 bsl (60 + rand:uniform(1100)));
        8 -> (rand:uniform() - 0.5) * lists:nth(rand:uniform(4), [1.0, 1.0e-300, 1.0e270, 1.0e308]);
        9 -> rand:bytes(rand:uniform(60));
        10 -> unicode:characters_to_binary([rand:uniform(16#d7ff) || _ <- lists:seq(1, rand:uniform(20))]);
        11 -> lists:nth(rand:uniform(4), [self(), make_ref(), fun() -> ok end, <<5:3>>]);
        12 -> binary:part(binary:copy(<<"0123456789">>, 100000), rand:uniform(1000), 12);
        13 -> {cut, rand:uniform(5), <<"abc">>};
        14 -> [];
        15 -> [term(Depth - 1) | term(Depth - 1)];
        16 -> [term(Depth - 1), term(Depth - 1)];
        17 -> {term(Depth - 1), term(Depth - 1), term(Depth - 1)};
        18 -> #{term(0) => term(Depth - 1), status => term(Depth - 1)};
        19 -> #{'__struct__' => lists:nth(rand:uniform(3), ['Elixir.Decimal', 1, nil]), coef => term(Depth - 1)};
        20 -> #{tag => {error, term(Depth - 1)}}
    end.

%% Small in memory, 2^N words when it is copied.
shared(0) -> leaf;
shared(N) -> T = shared(N - 1), #{left => T, right => T}.

%% Deep nesting, as of a struct that refers to itself.
cycle(0) -> nil;
cycle(N) -> #{'__struct__' => 'Elixir.Node', next => cycle(N - 1)}.
