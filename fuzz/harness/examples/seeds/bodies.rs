//! Seeds of requests and compressed bodies.

use crate::{requests, write};
use std::io::Write;

pub fn write_all() {
    otlp();
    compressed();
}

fn otlp() {
    let (delta, cumulative) = (requests::metrics(1), requests::metrics(2));
    let length = (delta.len() as u16).to_le_bytes();
    write("otlp_protobuf", "delta", &[&[0], &delta]);
    write("otlp_protobuf", "cumulative", &[&[0], &cumulative]);
    write("otlp_protobuf", "limits", &[&[0x80], &delta]);
    write(
        "otlp_protobuf",
        "three-requests",
        &[&[8], &length, &delta, &length, &delta, &delta],
    );
    write("otlp_protobuf", "logs", &[&[2], &requests::logs()]);
    write(
        "otlp_protobuf",
        "spans",
        &[&[3], &[0x0a, 0x04, 0x12, 0x02, 0x12, 0x00]],
    );
    write("grpc_call", "plain", &[&framed(0, 0, &delta)]);
    write("grpc_call", "empty", &[&framed(0, 0, b"")]);
    write("grpc_call", "gzip", &[&framed(0, 1, &gzip(&delta))]);
    write(
        "grpc_call",
        "zstd",
        &[&framed(1, 1, &zstd::encode_all(&*delta, 1).expect("zstd"))],
    );
    write("grpc_call", "deflate", &[&framed(2, 1, &zlib(&delta))]);
    write("grpc_call", "snappy", &[&framed(3, 1, &snappy(&delta))]);
}

fn framed(encoding: u8, flag: u8, message: &[u8]) -> Vec<u8> {
    [
        &[encoding, flag][..],
        &(message.len() as u32).to_be_bytes(),
        message,
    ]
    .concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("memory")
}

fn compressed() {
    let text = b"abcabcabcabcabcabcabcabc 0123456789 abcabcabc".repeat(3);
    write("inflate", "gzip", &[&[0], &gzip(&text)]);
    write(
        "inflate",
        "gzip-of-two-members",
        &[&[0], &gzip(b"abc"), &gzip(b"def")],
    );
    write("inflate", "gzip-limit", &[&[0x82], &gzip(&text)]);
    write("inflate", "zlib", &[&[1], &zlib(&text)]);
    let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    raw.write_all(&text).expect("memory");
    write("inflate", "raw-deflate", &[&[1], &raw.finish().expect("memory")]);
    write("inflate", "snappy-block", &[&[2], &snappy(&text)]);
    let mut frames = snap::write::FrameEncoder::new(Vec::new());
    frames.write_all(&text).expect("memory");
    write(
        "inflate",
        "snappy-frames",
        &[&[2], &frames.into_inner().expect("memory")],
    );
    write(
        "inflate",
        "zstd",
        &[&[3], &zstd::encode_all(&*text, 1).expect("zstd")],
    );
    write("inflate", "identity", &[&[4], b"abc"]);
}
