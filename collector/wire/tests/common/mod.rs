//! Shared by the tests: the golden frames, and re-encoding of decoded frames.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

mod rewrite;

use std::path::PathBuf;

pub use rewrite::{body, events_body, mixed_body, reader_after_hello, rewrite};

/// The golden frames: name and bytes.
pub fn goldens() -> Vec<(String, Vec<u8>)> {
    let mut goldens: Vec<_> = std::fs::read_dir(folder())
        .expect("the golden folder")
        .map(|entry| entry.expect("a golden file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("golden bytes"))
        })
        .collect();
    goldens.sort();
    assert_eq!(goldens.len(), 24, "golden frames in {}", folder().display());
    goldens
}

pub fn golden(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name).with_extension("bin")).expect("golden bytes")
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}
