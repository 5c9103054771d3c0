%% @doc The OTP application: starts the supervisor, and sends GOODBYE to the collector before it stops.
%% After it has stopped, only the count of created atoms remains on the node, because atoms are never freed.
-module(dichroic_app).

-behaviour(application).

-include("dichroic.hrl").

-export([start/2, prep_stop/1, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) -> dichroic_sup:start_link().

%% While the processes still run: detach, last flush, GOODBYE.
-spec prep_stop(State) -> State.
prep_stop(State) ->
    _ = dichroic_connection:drain(),
    State.

%% Removes what killed processes have left. A handler that is still called finds no tables and does nothing.
-spec stop(term()) -> ok.
stop(_State) ->
    dichroic_handler_keeper:detach_all(),
    _ = persistent_term:erase(?STATIC),
    ok.
