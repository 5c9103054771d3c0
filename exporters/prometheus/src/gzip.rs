//! Compression of a page piece by piece, into one gzip member.
//!
//! One member, because many clients ignore what follows the first one.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

/// The fastest level that compresses: 2 ns per byte, a tenth of the size.
const LEVEL: u32 = 1;
/// Memory of the encoder, in bytes, with its output of one piece.
pub(crate) const GZIP_BYTES: usize = 512 << 10;

/// Compresses the text of a page, or leaves it as it is.
pub(crate) enum Encoder {
    Identity,
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Encoder {
    pub(crate) fn new(gzip: bool) -> Self {
        match gzip {
            true => Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(LEVEL)))),
            false => Encoder::Identity,
        }
    }

    /// Encodes text. What is to be sent may come later.
    pub(crate) fn encode<'a>(&'a mut self, text: &'a [u8], least: usize) -> &'a [u8] {
        match self {
            Encoder::Identity => text,
            Encoder::Gzip(encoder) => {
                encoder.write_all(text).expect("writing to memory does not fail");
                let out = encoder.get_ref();
                if out.len() < least { &[] } else { out }
            }
        }
    }

    /// What [`Encoder::encode`] returned was sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Encoder::Gzip(encoder) = self {
            encoder.get_mut().drain(..bytes);
        }
    }

    /// Ends the page. Returns the rest of what is to be sent.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Encoder::Identity => Vec::new(),
            Encoder::Gzip(encoder) => encoder.finish().expect("writing to memory does not fail"),
        }
    }
}
