%% @doc The public API of the relay. No call is required: the relay works as soon as its application is started.
-module(dichroic).

-export([info/0, reconnect/0]).

%% @doc State of the connection and of the plan, for use at a shell.
-spec info() -> #{atom() => term()}.
info() -> dichroic_connection:info().

%% @doc Connects now, also after the collector detached this relay.
-spec reconnect() -> ok.
reconnect() -> dichroic_connection:reconnect().
