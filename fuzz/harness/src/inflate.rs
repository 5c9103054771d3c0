//! Compressed request bodies.

use crate::input::Input;
use dichroic_receiver_otlp::server::inflate::{Encoding, inflate as inflated};
use std::io::Read;

/// Largest output of this target, in bytes.
const MAX: usize = 1 << 16;

/// A compressed body: never more than the limit, and gzip as another decoder reads it.
///
/// Options: the encoding, and the limit.
pub fn inflate(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let max = if options & 0x80 == 0 { MAX } else { 16 };
    let encoding = match options % 5 {
        0 => Encoding::Gzip,
        1 => Encoding::Deflate,
        2 => Encoding::Snappy,
        3 => Encoding::Zstd,
        _ => Encoding::Identity,
    };
    let result = inflated(encoding, input.0, max);
    if let Ok(out) = &result {
        assert!(out.len() <= max, "{} bytes", out.len());
    }
    if encoding == Encoding::Gzip {
        let read = |decoder: &mut dyn Read| {
            let mut out = Vec::new();
            let read = decoder.take(max as u64 + 1).read_to_end(&mut out);
            (read.is_ok() && out.len() <= max).then_some(out)
        };
        let expected = read(&mut flate2::read::MultiGzDecoder::new(input.0));
        let result = result.ok();
        // Bytes after the first member are ignored if they end with a copy of its trailer.
        let is_first = || result == read(&mut flate2::read::GzDecoder::new(input.0));
        assert!(result == expected || is_first(), "two decoders differ");
    }
}
