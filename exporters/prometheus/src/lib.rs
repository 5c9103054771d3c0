//! Renders the Prometheus page.
