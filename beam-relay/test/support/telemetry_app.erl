%% @doc Application callback of the stand-in: owns the table while it runs, as a supervisor without children would.
-module(telemetry_app).

-behaviour(application).
-behaviour(supervisor).

-export([start/2, stop/1, init/1]).

start(_, _) -> supervisor:start_link({local, telemetry_sup}, ?MODULE, []).

stop(_) -> ok.

init([]) ->
    Table = #{id => table, start => {gen_server, start_link, [{local, telemetry_handler_table}, telemetry, [], []]}},
    {ok, {#{}, [Table]}}.
