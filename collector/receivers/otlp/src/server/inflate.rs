//! Bounded decompression of request bodies.
//!
//! The output is bounded before it is written: decompression stops with an error as soon as the body states or reaches a larger
//! size. gzip is decompressed in one call of libdeflate when its trailer states the size (RFC 1952, section 2.3.1), as all known
//! senders write it; other gzip (several members, a wrong trailer) is streamed. zstd likewise: a frame that states its size needs no
//! window beside its output; others are streamed, with a bounded window.
//!
//! Two names have two formats each, and the body shows which: `deflate` is a zlib stream (RFC 9110, section 8.4.1.2), which some
//! senders write without its header; `snappy` is one block or the framing format, by the version of the OpenTelemetry Collector.

use flate2::{Decompress, FlushDecompress, Status};
use std::io::Read;
use zstd::zstd_safe;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;

/// Log2 of the largest zstd window: 8 MiB, which RFC 9659 forbids a content encoding to exceed.
pub(super) const WINDOW_LOG_MAX: u32 = 23;
/// The largest zstd window, for error messages.
pub(super) const WINDOW_MIB: u32 = (1 << WINDOW_LOG_MAX) >> 20;
/// Largest ratio of any deflate stream.
const DEFLATE_RATIO: usize = 1_032;
/// Largest ratio of a snappy block: a copy of 64 bytes takes 3 bytes.
const SNAPPY_RATIO: usize = 22;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// The stream identifier that begins snappy's framing format.
const SNAPPY_MAGIC: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// Compression of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// None.
    Identity,
    /// One or more members.
    Gzip,
    /// One or more frames.
    Zstd,
    /// zlib, or raw deflate.
    Deflate,
    /// One block, or the framing format.
    Snappy,
}

/// The supported encodings, for error messages.
pub(super) const SUPPORTED: &str = "gzip, zstd, deflate, snappy or identity";
/// The supported encodings, as the value of `Accept-Encoding` and `grpc-accept-encoding`.
pub(super) const ACCEPTED: &str = "identity,gzip,zstd,deflate,snappy";

/// Why a body could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// Larger than allowed after decompression.
    TooLarge,
    /// Not valid in the stated encoding.
    Corrupt,
    /// A zstd frame of unknown size, with a window that is too large.
    Window,
}

impl Encoding {
    /// By the value of `Content-Encoding` or `grpc-encoding`.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("zstd", Encoding::Zstd),
            ("deflate", Encoding::Deflate),
            ("zlib", Encoding::Deflate),
            ("snappy", Encoding::Snappy),
            ("x-snappy-framed", Encoding::Snappy),
        ]
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, encoding)| encoding)
    }
}

/// Decompresses to at most `max` bytes.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(encoding: Encoding, body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > max => Err(InflateError::TooLarge),
        Encoding::Identity => Ok(body.to_vec()),
        Encoding::Gzip => gunzip(body, max),
        Encoding::Deflate => inflate_deflate(body, max),
        Encoding::Snappy => inflate_snappy(body, max),
        Encoding::Zstd => inflate_zstd(body, max),
    }
}

fn inflate_zstd(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    if let Ok(Some(size)) = zstd_safe::get_frame_content_size(body) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > max {
            return Err(InflateError::TooLarge);
        }
        // Fails if more frames follow.
        if let Ok(out) = zstd::bulk::decompress(body, size) {
            return Ok(out);
        }
    }
    let decoder = zstd::stream::read::Decoder::with_buffer(body);
    let mut decoder = decoder.map_err(|_| InflateError::Corrupt)?;
    decoder
        .window_log_max(WINDOW_LOG_MAX)
        .map_err(|_| InflateError::Corrupt)?;
    bounded(decoder, max)
}

/// Whether decompression failed because of the window. The crate passes only the name of the error on.
fn is_window(error: &std::io::Error) -> bool {
    let code = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize;
    error.to_string() == zstd_safe::get_error_name(code.wrapping_neg())
}

fn gunzip(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    // Header and trailer of one member take 18 bytes.
    if body.len() < 18 || body[..3] != GZIP_MAGIC {
        return Err(InflateError::Corrupt);
    }
    // RFC 1952, section 2.3.1: the checksum of the content, and its size.
    let (rest, size) = body.split_last_chunk().ok_or(InflateError::Corrupt)?;
    let (_, checksum) = rest.split_last_chunk().ok_or(InflateError::Corrupt)?;
    let (size, checksum) = (u32::from_le_bytes(*size) as usize, u32::from_le_bytes(*checksum));
    if memchr::memmem::find(&body[3..], &GZIP_MAGIC).is_none() && size <= body.len() * DEFLATE_RATIO {
        if size > max {
            return Err(InflateError::TooLarge);
        }
        let mut out = vec![0; size];
        let written = libdeflater::Decompressor::new().gzip_decompress(body, &mut out);
        // The trailer may be that of another member, whose header is corrupt: libdeflate ignores what follows the first.
        if written == Ok(size) && libdeflater::crc32(&out) == checksum {
            return Ok(out);
        }
    }
    bounded(flate2::read::MultiGzDecoder::new(body), max)
}

fn inflate_deflate(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    // RFC 1950, section 2.2. No raw stream has such a header: as raw, it is a stored block with padding that is not zero.
    let zlib =
        matches!(body, [cmf, flags, ..] if cmf & 15 == 8 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0);
    let mut decoder = Decompress::new(zlib);
    let mut out = Vec::new();
    loop {
        let (read, written) = (decoder.total_in() as usize, out.len());
        out.reserve((max + 1 - written).min(body.len().max(written).max(512)));
        let status = decoder
            .decompress_vec(&body[read..], &mut out, FlushDecompress::None)
            .map_err(|_| InflateError::Corrupt)?;
        if out.len() > max {
            return Err(InflateError::TooLarge);
        }
        let progress = out.len() > written || decoder.total_in() as usize > read;
        match status {
            Status::StreamEnd if decoder.total_in() as usize == body.len() => return Ok(out),
            Status::Ok | Status::BufError if progress => {}
            // The body ends before its stream, or after it.
            _ => return Err(InflateError::Corrupt),
        }
    }
}

fn inflate_snappy(body: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    // Framing an empty body gives an empty one. No block with content begins like the identifier.
    if body.is_empty() || body.starts_with(SNAPPY_MAGIC) {
        return bounded(snap::read::FrameDecoder::new(body), max);
    }
    let size = snap::raw::decompress_len(body).map_err(|_| InflateError::Corrupt)?;
    if size > body.len() * SNAPPY_RATIO {
        return Err(InflateError::Corrupt);
    }
    if size > max {
        return Err(InflateError::TooLarge);
    }
    snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|_| InflateError::Corrupt)
}

fn bounded(decoder: impl Read, max: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    let read = decoder.take(max as u64 + 1).read_to_end(&mut out);
    match read {
        _ if out.len() > max => Err(InflateError::TooLarge),
        Ok(_) => Ok(out),
        Err(error) if is_window(&error) => Err(InflateError::Window),
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

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn snappy_block(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn snappy_framed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.into_inner().unwrap()
    }

    #[test]
    fn gzip_with_a_corrupt_second_member_is_rejected() {
        // The last member has as many bytes as the first, so that its trailer states the size of the first.
        let second = gzip(b"def");
        for at in 0..3 {
            let mut corrupt = second.clone();
            corrupt[at] ^= 0x1b;
            let body = [gzip(b"abc"), corrupt].concat();
            assert_eq!(
                inflate(Encoding::Gzip, &body, 64),
                Err(InflateError::Corrupt),
                "byte {at}"
            );
        }
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
        check(Encoding::Deflate, &zlib(b"abc"), Ok(b"abc"));
        check(Encoding::Deflate, &zlib(b""), Ok(b""));
        check(Encoding::Deflate, &zlib(&[7; 64]), Ok(&[7; 64]));
        check(Encoding::Deflate, &zlib(&[7; 65]), Err(InflateError::TooLarge));
        check(Encoding::Deflate, &raw_deflate(b"abc", 6), Ok(b"abc"));
        check(Encoding::Deflate, &raw_deflate(b"abc", 0), Ok(b"abc"));
        check(Encoding::Deflate, b"", Err(InflateError::Corrupt));
        check(
            Encoding::Deflate,
            b"not deflate at all",
            Err(InflateError::Corrupt),
        );
        let trailing = [&zlib(b"abc")[..], b"def"].concat();
        check(Encoding::Deflate, &trailing, Err(InflateError::Corrupt));
        check(Encoding::Snappy, &snappy_block(b"abc"), Ok(b"abc"));
        check(Encoding::Snappy, &snappy_block(b""), Ok(b""));
        check(
            Encoding::Snappy,
            &snappy_block(&[7; 65]),
            Err(InflateError::TooLarge),
        );
        check(Encoding::Snappy, &snappy_framed(b"abc"), Ok(b"abc"));
        check(Encoding::Snappy, b"", Ok(b""));
        check(Encoding::Snappy, &snappy_framed(&[7; 64]), Ok(&[7; 64]));
        check(
            Encoding::Snappy,
            &snappy_framed(&[7; 65]),
            Err(InflateError::TooLarge),
        );
        let twice = snappy_framed(b"abc").repeat(2);
        check(Encoding::Snappy, &twice, Ok(b"abcabc"));
        check(
            Encoding::Snappy,
            b"\x10not snappy at all",
            Err(InflateError::Corrupt),
        );
        // A block that states 4 GiB.
        check(
            Encoding::Snappy,
            b"\xff\xff\xff\xff\x0f\x00a",
            Err(InflateError::Corrupt),
        );
        check(Encoding::Gzip, b"", Err(InflateError::Corrupt));
        check(Encoding::Gzip, b"not gzip at all, no", Err(InflateError::Corrupt));
        check(Encoding::Zstd, b"not zstd at all, no", Err(InflateError::Corrupt));
        check(Encoding::Gzip, &zstd(b"abc"), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_large_zstd_window_is_allowed_only_where_it_takes_no_memory() {
        let text: Vec<u8> = (0..9_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let check = |size: Option<usize>, log: u32, expected: Result<(), InflateError>| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder
                .set_pledged_src_size(size.map(|size| size as u64))
                .unwrap();
            encoder.write_all(&text).unwrap();
            let body = encoder.finish().unwrap();
            let restored = inflate(Encoding::Zstd, &body, text.len());
            assert!(restored.as_ref().is_ok_and(|restored| *restored == text) == expected.is_ok());
            assert_eq!(restored.map(drop), expected, "{size:?} {log}");
            let twice = [body, zstd(b"abc")].concat();
            let restored = inflate(Encoding::Zstd, &twice, text.len() + 3);
            let expected = if log > WINDOW_LOG_MAX {
                Err(InflateError::Window)
            } else {
                Ok(())
            };
            assert_eq!(restored.map(drop), expected, "{size:?} {log}");
        };
        check(None, 23, Ok(()));
        check(None, 24, Err(InflateError::Window));
        check(Some(text.len()), 24, Ok(()));
        let second = [zstd(b"abc"), {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(27).unwrap();
            encoder.write_all(b"def").unwrap();
            encoder.finish().unwrap()
        }];
        assert_eq!(
            inflate(Encoding::Zstd, &second.concat(), 64),
            Err(InflateError::Window)
        );
        // One call of zstd states the size and takes no less of a window.
        let body = zstd::bulk::compress(&text, 1).unwrap();
        assert_eq!(inflate(Encoding::Zstd, &body, text.len()), Ok(text.clone()));
        assert_eq!(
            inflate(Encoding::Zstd, &body, text.len() - 1),
            Err(InflateError::TooLarge)
        );
    }

    #[test]
    fn a_decompression_bomb_is_rejected_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for (encoding, bomb) in [
            (Encoding::Gzip, gzip(&zeros)),
            (Encoding::Gzip, [gzip(b"small"), gzip(&zeros)].concat()),
            (Encoding::Zstd, zstd(&zeros)),
            (Encoding::Deflate, zlib(&zeros)),
            (Encoding::Deflate, raw_deflate(&zeros, 6)),
            (Encoding::Snappy, snappy_block(&zeros)),
            (Encoding::Snappy, snappy_framed(&zeros)),
        ] {
            assert_eq!(inflate(encoding, &bomb, 1 << 20), Err(InflateError::TooLarge));
            assert!(bomb.len() < 512 << 10);
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
        for (encoding, whole) in [
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Zstd, zstd(&text)),
            (Encoding::Deflate, zlib(&text)),
            (Encoding::Deflate, raw_deflate(&text, 6)),
            (Encoding::Snappy, snappy_block(&text)),
            (Encoding::Snappy, snappy_framed(&text)),
        ] {
            for end in 0..whole.len() {
                // Empty streams of these are valid and have no content; the framing format also ends after its identifier.
                let empty = match encoding {
                    Encoding::Zstd => end == 0,
                    Encoding::Snappy => end == 0 || whole[..end] == *SNAPPY_MAGIC,
                    _ => false,
                };
                if empty {
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
