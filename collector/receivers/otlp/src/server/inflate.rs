//! Bounded decompression of request bodies.
//!
//! The output is bounded before it is written: decompression stops with an error as soon as the body states or reaches a larger
//! size. gzip is decompressed in one call of libdeflate when its trailer states the size (RFC 1952, section 2.3.1), as all known
//! senders write it; other gzip (several members, a wrong trailer) is streamed. zstd is streamed, with a bounded window.

use std::io::Read;

/// Log2 of the largest zstd window: 8 MiB, which RFC 8878, section 3.1.1.1.2, recommends decoders to support.
const WINDOW_LOG_MAX: u32 = 23;
/// Largest ratio of any deflate stream.
const DEFLATE_RATIO: usize = 1_032;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Compression of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InflateError {
    /// Larger than allowed after decompression.
    TooLarge,
    /// Not valid in the stated encoding.
    Corrupt,
}

impl Encoding {
    /// By the value of `Content-Encoding` or `grpc-encoding`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("zstd", Encoding::Zstd),
        ]
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, encoding)| encoding)
    }
}

/// Decompresses to at most `max` bytes.
pub(super) fn inflate(encoding: Encoding, body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > max => Err(InflateError::TooLarge),
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Gzip => gunzip(body, max),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(body).map_err(|_| InflateError::Corrupt)?;
            decoder
                .window_log_max(WINDOW_LOG_MAX)
                .map_err(|_| InflateError::Corrupt)?;
            bounded(decoder, max)
        }
    }
}

fn gunzip(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    // Header and trailer of one member take 18 bytes.
    if body.len() < 18 || body[..3] != MAGIC {
        return Err(InflateError::Corrupt);
    }
    let (_, trailer) = body.split_last_chunk().ok_or(InflateError::Corrupt)?;
    let size = u32::from_le_bytes(*trailer) as usize;
    if memchr::memmem::find(&body[3..], &MAGIC).is_none() && size <= body.len() * DEFLATE_RATIO {
        if size > max {
            return Err(InflateError::TooLarge);
        }
        let mut out = vec![0; size];
        if libdeflater::Decompressor::new().gzip_decompress(body, &mut out) == Ok(size) {
            return Ok(out);
        }
    }
    bounded(flate2::read::MultiGzDecoder::new(body), max)
}

fn bounded(decoder: impl Read, max: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    let read = decoder.take(max as u64 + 1).read_to_end(&mut out);
    match read {
        _ if out.len() > max => Err(InflateError::TooLarge),
        Ok(_) => Ok(out),
        Err(_) => Err(InflateError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    #[test]
    fn compressed_bodies_are_restored() {
        let check = |encoding, body: &[u8], expected: Result<&[u8], InflateError>| {
            assert_eq!(inflate(encoding, body, 64), expected.map(<[u8]>::to_vec));
        };
        check(Encoding::Identity, b"abc", Ok(b"abc"));
        check(Encoding::Gzip, &gzip(b"abc"), Ok(b"abc"));
        check(Encoding::Gzip, &gzip(b""), Ok(b""));
        check(Encoding::Zstd, &zstd(b"abc"), Ok(b"abc"));
        check(
            Encoding::Gzip,
            &[gzip(b"abc"), gzip(b"def")].concat(),
            Ok(b"abcdef"),
        );
        check(
            Encoding::Gzip,
            &[gzip(b"abc"), gzip(b"abc")].concat(),
            Ok(b"abcabc"),
        );
        check(Encoding::Gzip, b"", Err(InflateError::Corrupt));
        check(Encoding::Gzip, b"not gzip at all, no", Err(InflateError::Corrupt));
        check(Encoding::Zstd, b"not zstd at all, no", Err(InflateError::Corrupt));
        check(Encoding::Gzip, &zstd(b"abc"), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_decompression_bomb_is_rejected_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for (encoding, bomb) in [
            (Encoding::Gzip, gzip(&zeros)),
            (Encoding::Gzip, [gzip(b"small"), gzip(&zeros)].concat()),
            (Encoding::Zstd, zstd(&zeros)),
        ] {
            assert_eq!(inflate(encoding, &bomb, 1 << 20), Err(InflateError::TooLarge));
            assert!(bomb.len() < 64 << 10);
        }
    }

    #[test]
    fn a_bomb_with_a_false_size_is_rejected_too() {
        let mut bomb = gzip(&vec![0; 8 << 20]);
        let end = bomb.len();
        bomb[end - 4..].copy_from_slice(&100u32.to_le_bytes());
        assert_eq!(
            inflate(Encoding::Gzip, &bomb, 1 << 20),
            Err(InflateError::TooLarge)
        );
    }

    #[test]
    fn a_truncated_body_is_corrupt() {
        let text: Vec<u8> = (0..200u8).collect();
        for (encoding, whole) in [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd(&text))] {
            for end in 0..whole.len() {
                // An empty zstd stream is valid and has no content.
                if encoding == Encoding::Zstd && end == 0 {
                    continue;
                }
                assert_eq!(
                    inflate(encoding, &whole[..end], 1 << 20),
                    Err(InflateError::Corrupt),
                    "{encoding:?} {end}"
                );
            }
        }
    }
}
