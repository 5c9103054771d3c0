%% @doc The OTP application: starts the supervisor, and says goodbye to the collector before it stops.
-module(dichroic_app).

-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

start(_Type, _Args) -> dichroic_sup:start_link().

%% While the node still runs: detach, last flush, GOODBYE.
prep_stop(State) ->
    _ = dichroic_connection:drain(),
    State.

stop(_State) -> ok.
