//! Receives OTLP metrics and logs over gRPC and HTTP.
