%% @doc What an application may ask of the relay. Nothing has to be called: the relay works by being started.
-module(dichroic).

-export([info/0, reconnect/0]).

%% @doc State of the connection and what is counted now, for a person at a shell.
-spec info() -> #{atom() => term()}.
info() -> dichroic_connection:info().

%% @doc Connect now, also after a collector said not to come back unasked.
-spec reconnect() -> ok.
reconnect() -> dichroic_connection:reconnect().
