//! The bodies of the fuzz targets: one function for each decoder of bytes from outside.
//!
//! A function takes any input and panics when a property is violated. `fuzz/fuzz_targets` passes it to libFuzzer; `tests/seeds.rs` calls it with
//! every committed seed. Most targets use the first bytes of the input as options, so that one target reaches every variant.
#![forbid(unsafe_code)]

mod configuration;
mod distribution;
mod exposition;
mod grpc_call;
mod inflate;
mod input;
mod otlp;
mod relay;
mod stream_query;
mod wire;
mod world;

pub use configuration::configuration;
pub use distribution::distribution;
pub use exposition::exposition;
pub use grpc_call::grpc_call;
pub use inflate::inflate;
pub use otlp::{otlp_json, otlp_protobuf};
pub use relay::{first_plan, relay_session};
pub use stream_query::stream_query;
pub use wire::wire_frames;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its folder of seeds.
pub const TARGETS: [(&str, Target); 10] = [
    ("configuration", configuration),
    ("distribution", distribution),
    ("exposition", exposition),
    ("grpc_call", grpc_call),
    ("inflate", inflate),
    ("otlp_json", otlp_json),
    ("otlp_protobuf", otlp_protobuf),
    ("relay_session", relay_session),
    ("stream_query", stream_query),
    ("wire_frames", wire_frames),
];
