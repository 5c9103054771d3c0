{application, telemetry,
 [{description, "Stand-in for the telemetry library, for tests"},
  {vsn, "0.0.0-stand-in"},
  {registered, [telemetry_handler_table]},
  {mod, {telemetry_app, []}},
  {applications, [kernel, stdlib]},
  {modules, [telemetry, telemetry_app]}]}.
