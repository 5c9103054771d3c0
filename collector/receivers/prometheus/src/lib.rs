//! Scrapes Prometheus targets and parses their exposition.
