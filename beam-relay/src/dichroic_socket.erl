%% @doc Finds the collector and opens a connection to it.
%%
%% Called by dichroic_connection only; every call is bounded in time. Order: `{attached, Destination}', set by dichroic_attach;
%% `$DICHROIC_SOCKET'; the application's `socket' setting (a path, or `{tcp, Host, Port}' with `token'); then the default paths of
%% a collector. An explicit destination is the only one tried. A socket below /tmp is trusted only in a directory that this user
%% owns and no other user can write to, because any user can create a path there. The token of an attached relay is in a fun, so
%% that a printed environment does not show it.
-module(dichroic_socket).

-include_lib("kernel/include/file.hrl").

-export([connect/0, candidates/0, token/0]).
-export_type([destination/0]).

-define(TIMEOUT_MS, 1000).
-define(SEND_TIMEOUT_MS, 5000).

%% A destination set by dichroic_attach.
-type destination() :: string() | {tcp, inet:ip_address(), inet:port_number(), Token :: fun(() -> binary())}.
-type target() :: {local, file:filename_all()} | {tcp, inet:hostname() | binary() | inet:ip_address(), inet:port_number()}.

-spec connect() -> {ok, gen_tcp:socket(), target()} | {error, term()}.
connect() -> try_each(candidates(), no_socket_found).

try_each([], Reason) -> {error, Reason};
try_each([Target | Targets], Before) ->
    case trusted(Target) of
        true -> attempt(Target, Targets, Before);
        absent -> try_each(Targets, Before);
        foreign -> try_each(Targets, {Target, not_our_directory})
    end.

attempt(Target, Targets, Before) ->
    case open(Target) of
        {ok, Socket} -> {ok, Socket, Target};
        {error, enoent} -> try_each(Targets, Before);
        {error, Reason} -> try_each(Targets, {Target, Reason})
    end.

open({local, Path}) -> safely({local, Path}, 0, [local]);
open({tcp, Host, Port}) -> safely(host(Host), Port, [{nodelay, true}]).

%% Accepts Elixir strings. gen_tcp accepts IPv6 addresses only as tuples.
host(Host) when is_binary(Host) -> host(binary_to_list(Host));
host(Host) when is_list(Host) ->
    case lists:member($:, Host) andalso inet:parse_ipv6strict_address(Host) of
        {ok, Address} -> Address;
        _ -> Host
    end;
host(Host) -> Host.

safely(Address, Port, Options) ->
    try gen_tcp:connect(Address, Port, [binary, {packet, raw}, {active, false}, {send_timeout, ?SEND_TIMEOUT_MS},
                                        {send_timeout_close, true}, {buffer, 65536} | Options], ?TIMEOUT_MS)
    catch _:_ -> {error, einval}
    end.

%% @doc Possible destinations, in the order of connection attempts.
-spec candidates() -> [target()].
candidates() ->
    case {os:getenv("DICHROIC_SOCKET"), application:get_env(dichroic, socket)} of
        {_, {ok, {attached, {tcp, Host, Port, _}}}} -> [{tcp, Host, Port}];
        {_, {ok, {attached, Path}}} -> [{local, Path}];
        {Path, _} when is_list(Path), Path =/= "" -> [{local, Path}];
        {_, {ok, {tcp, _, _} = Tcp}} -> [Tcp];
        %% Unset, for example read from an empty variable.
        {_, {ok, None}} when None =:= nil; None =:= undefined; None =:= ""; None =:= <<>> -> usual();
        {_, {ok, Path}} -> [{local, Path}];
        _ -> usual()
    end.

%% @doc The token that is sent to a collector over TCP.
-spec token() -> {ok, binary()} | undefined.
token() ->
    case {application:get_env(dichroic, socket), application:get_env(dichroic, token)} of
        {{ok, {attached, {tcp, _, _, Token}}}, _} -> {ok, Token()};
        {_, {ok, Token}} ->
            %% An error must not contain the token.
            try {ok, iolist_to_binary(Token)} catch error:_ -> undefined end;
        _ -> undefined
    end.

usual() ->
    [{local, "/run/dichroic/dichroic.sock"}]
        ++ [{local, filename:join(Dir, "dichroic.sock")} || Dir <- [os:getenv("XDG_RUNTIME_DIR")], is_list(Dir), Dir =/= ""]
        ++ [{local, "/tmp/dichroic-" ++ integer_to_list(Uid) ++ "/dichroic.sock"} || Uid <- uid()].

uid() ->
    case file:read_file_info("/proc/self") of
        {ok, #file_info{uid = Uid}} when is_integer(Uid) -> [Uid];
        _ -> []
    end.

trusted({local, "/tmp/dichroic-" ++ _ = Path}) ->
    case named(Path) orelse file:read_link_info(filename:dirname(Path)) of
        true -> true;
        {ok, #file_info{type = directory, uid = Uid, mode = Mode}} when Mode band 8#022 =:= 0 ->
            case uid() of [Uid] -> true; _ -> foreign end;
        {ok, _} -> foreign;
        {error, _} -> absent
    end;
trusted(_) -> true.

named(Path) ->
    os:getenv("DICHROIC_SOCKET") =:= Path orelse application:get_env(dichroic, socket) =:= {ok, {attached, Path}}.
