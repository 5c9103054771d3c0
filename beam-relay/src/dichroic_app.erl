%% @doc The OTP application: starts the supervisor, and says goodbye to the collector before it stops.
%% After it nothing of the relay is left on the node but the count of atoms, which are never freed either.
-module(dichroic_app).

-behaviour(application).

-include("dichroic.hrl").

-export([start/2, prep_stop/1, stop/1]).

start(_Type, _Args) -> dichroic_sup:start_link().

%% While the node still runs: detach, last flush, GOODBYE.
prep_stop(State) ->
    _ = dichroic_connection:drain(),
    State.

%% What processes that were killed could not take away. Whoever still calls a handler finds nothing, and does nothing.
stop(_State) ->
    dichroic_handler_keeper:detach_all(),
    dichroic_engine:sweep(),
    _ = persistent_term:erase(?STATIC),
    ok.
