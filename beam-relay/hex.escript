#!/usr/bin/env escript
%% Builds the Hex package: `escript hex.escript OUT.tar`. Needs only OTP, so that tests can build the package offline.
%%
%% Format: Hex package tarball, version 3. An uncompressed tar of VERSION, metadata.config (Erlang terms), contents.tar.gz, and
%% CHECKSUM: the SHA-256 of the other three in that order, in upper-case hexadecimal. Source: the Hex specifications, "package
%% tarball".
-mode(compile).

main([Out]) ->
    {ok, [{application, dichroic, Keys}]} = file:consult("src/dichroic.app.src"),
    Files = files(),
    Metadata = metadata(Keys, Files),
    Contents = contents(Files),
    Version = <<"3">>,
    Checksum = hex(crypto:hash(sha256, [Version, Metadata, Contents])),
    Parts = [{"VERSION", Version}, {"CHECKSUM", Checksum}, {"metadata.config", Metadata}, {"contents.tar.gz", Contents}],
    ok = erl_tar:create(Out, Parts),
    io:format("~s ~s~n", [Checksum, Out]);
main(_) ->
    io:format(standard_error, "usage: escript hex.escript OUT.tar~n", []),
    halt(2).

%% The files of the package: sources, the built-in plan, build file, documents.
files() ->
    Sources = filelib:wildcard("src/*.{erl,hrl,app.src}"),
    Resources = filelib:wildcard("priv/*.bin"),
    Documents = [F || F <- ["rebar.config", "rebar.lock", "README.md", "LICENSE", "CARRY.md"], filelib:is_regular(F)],
    lists:sort(Sources ++ Resources ++ Documents).

%% Times and owners are zero, so that the same sources give the same bytes.
contents(Files) ->
    Tar = "contents.tmp.tar",
    {ok, Handle} = erl_tar:open(Tar, [write]),
    Zero = [{mtime, 0}, {atime, 0}, {ctime, 0}, {uid, 0}, {gid, 0}],
    [ok = erl_tar:add(Handle, read(File), File, Zero) || File <- Files],
    ok = erl_tar:close(Handle),
    Bytes = zlib:gzip(read(Tar)),
    ok = file:delete(Tar),
    Bytes.

metadata(Keys, Files) ->
    Text = fun(Key) -> unicode:characters_to_binary(proplists:get_value(Key, Keys)) end,
    Binary = fun(List) -> [unicode:characters_to_binary(L) || L <- List] end,
    Links = [{unicode:characters_to_binary(N), unicode:characters_to_binary(L)} || {N, L} <- proplists:get_value(links, Keys)],
    Terms =
        [{<<"name">>, <<"dichroic">>},
         {<<"version">>, Text(vsn)},
         {<<"app">>, <<"dichroic">>},
         {<<"description">>, Text(description)},
         {<<"licenses">>, Binary(proplists:get_value(licenses, Keys))},
         {<<"links">>, Links},
         {<<"build_tools">>, [<<"rebar3">>]},
         {<<"requirements">>, []},
         {<<"files">>, Binary(Files)}],
    unicode:characters_to_binary([io_lib:format("~tp.~n", [Term]) || Term <- Terms]).

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

hex(Bytes) -> iolist_to_binary([io_lib:format("~2.16.0B", [B]) || <<B>> <= Bytes]).
