//! Streams events, logs and points to subscribers.
