%% @doc Certain and guessed event names of compiled modules.
-module(dichroic_visit_code_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MUTATIONS, 3000).

names_test_() ->
    [{Sentence, fun() -> ?assertEqual(Expected, read(Source)) end} || {Sentence, Source, Expected} <- [
        {"a literal argument is an event",
         "f() -> telemetry:execute([shop, sale], #{n => 1}, #{}).", certain(["shop.sale"])},
        {"also with two arguments", "f() -> telemetry:execute([shop, sale], #{n => 1}).", certain(["shop.sale"])},
        {"a literal of a span is the prefix of three events",
         "f(F) -> telemetry:span([shop, sale], #{}, F).", certain(["shop.sale.exception", "shop.sale.start", "shop.sale.stop"])},
        {"other lists of atoms are not events if every call has a literal",
         "f() -> telemetry:execute([shop, sale], #{}, #{keys => [a, b, c]}).", certain(["shop.sale"])},
        {"each branch may have its own literal", "f(X) -> case X of 1 -> telemetry:execute([one, a], #{}); _ -> telemetry:execute([two, b], #{}) end.",
         certain(["one.a", "two.b"])},
        {"a name chosen by a branch is not certain",
         "f(X) -> telemetry:execute(case X of 1 -> [one, a]; _ -> [two, b] end, #{}).", guessed(["one.a", "two.b"], [execute])},
        {"a name kept over a call is followed",
         "f() -> E = [shop, held], X = ext:call(E), telemetry:execute(E, #{x => X}), ext:call(E), ok.", certain(["shop.held"])},
        {"the result of a call is not certain", "f() -> E = ext:call([shop, list]), telemetry:execute(E, #{}).",
         guessed(["shop.list"], [execute])},
        {"lists of a module that extends a prefix are guesses",
         "f(P) -> telemetry:span(P ++ [x], #{}, fun() -> {ext:call([shop, deep], {t, [in, tuple]}), #{}} end).",
         guessed(["in.tuple", "shop.deep"], [span])},
        {"an argument of the caller is not certain", "f(E) -> telemetry:execute(E, #{}, #{}).", guessed([], [execute])},
        {"a module that calls only other functions of telemetry emits nothing", "f() -> telemetry:attach(a, [a, b], fun ext:f/4, none).", none},
        {"lists with nil, or of one atom, are not names", "f(E) -> ext:call([a, nil]), ext:call([a]), telemetry:execute(E, #{}).",
         guessed([], [execute])},
        {"many other literals do not hide it", many(), certain(["deep.in.it"])}
    ]].

many() ->
    Uses = [io_lib:format("    ext:call(~b, ~w, \"text ~b\"),~n", [N * 12345678901, [list_to_atom("a" ++ integer_to_list(N)), b], N])
            || N <- lists:seq(1, 3000)],
    lists:flatten(["f() ->\n", Uses, "    telemetry:execute([deep, in, it], #{})."]).

a_file_that_is_not_a_module_is_unread_test() ->
    [?assertEqual(unread, dichroic_visit_code:read(B)) || B <- [<<>>, <<"FOR1">>, "/nowhere/x.beam", binary:copy(<<7>>, 500)]].

damaged_modules_never_raise_test_() ->
    {timeout, 60, fun() ->
        Beam = compiled("f(X) -> telemetry:execute(case X of 1 -> [one, a]; _ -> [two, b] end, #{}), telemetry:execute([shop, sale], #{})."),
        Seed = rand:seed(exsss),
        [begin
             Result = dichroic_visit_code:read(damaged(Beam)),
             ?assert(Result =:= unread orelse Result =:= none orelse is_map(Result), rand:export_seed_s(Seed))
         end || _ <- lists:seq(1, ?MUTATIONS)]
    end}.

damaged(Beam) ->
    At = rand:uniform(byte_size(Beam)) - 1,
    <<Before:At/binary, _, After/binary>> = Beam,
    case rand:uniform(3) of
        1 -> <<Before/binary, (rand:uniform(256) - 1), After/binary>>;
        2 -> Before;
        3 -> <<Before/binary, After/binary>>
    end.

%%% Helpers

certain(Names) -> #{certain => Names, guessed => [], calls => []}.
guessed(Names, Calls) -> #{certain => [], guessed => Names, calls => Calls}.

read(Source) ->
    case dichroic_visit_code:read(compiled(Source)) of
        #{certain := C, guessed := M} = Found -> Found#{certain := dotted(C), guessed := dotted(M)};
        Other -> Other
    end.

dotted(Names) -> lists:sort([lists:flatten(lists:join(".", [binary_to_list(Part) || Part <- Name])) || Name <- Names]).

compiled(Source) ->
    {sample, Beam} = support:compiled("-module(sample). -compile(export_all). " ++ Source),
    Beam.
