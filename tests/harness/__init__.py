"""The actors of a system test, one module per subject: processes, the collector, Erlang, the demo's programs, Prometheus."""
