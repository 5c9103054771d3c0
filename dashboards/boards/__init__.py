"""The dashboards, one module each, and how Grafana wants them written."""
