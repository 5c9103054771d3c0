//! The body of a gRPC call: framing, inflating and protobuf together.

use crate::input::Input;
use crate::otlp::take;
use crate::world;
use bytes::Bytes;
use dichroic_receiver_otlp::server::framing::unframe;
use dichroic_receiver_otlp::server::inflate::{Encoding, inflate};
use dichroic_receiver_otlp::{Ingest, Service};

/// Largest message, in bytes.
const MAX: usize = 1 << 16;
const ENCODINGS: [&str; 6] = ["gzip", "zstd", "deflate", "snappy", "identity", "br"];

/// The body of a call to the metrics service.
///
/// Options: the encoding that the headers name.
pub fn grpc_call(data: &[u8]) {
    let mut input = Input(data);
    let named = ENCODINGS[usize::from(input.byte()) % ENCODINGS.len()];
    let Ok((message, is_compressed)) = unframe(Bytes::copy_from_slice(input.0)) else {
        return;
    };
    let message = match (is_compressed, Encoding::named(named)) {
        (false, _) => message,
        (true, None) => return,
        (true, Some(encoding)) => match inflate(encoding, &message, MAX) {
            Ok(inflated) => inflated.into(),
            Err(_) => return,
        },
    };
    let mut store = world::store(false);
    let _ = take(
        &mut store,
        &mut Ingest::default(),
        Service::Metrics,
        &message,
        world::NOW,
    );
    world::check(&mut store);
}
