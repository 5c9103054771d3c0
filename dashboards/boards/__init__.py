"""The dashboards, one module each, and helpers that build Grafana's JSON."""
