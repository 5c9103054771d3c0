//! Writes the seeds that are made by code: `cargo run -p dichroic-fuzz-harness --example seeds`. The others, and inputs that once failed, are
//! files without a writer.

mod bodies;
mod node;
mod relay;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};

const TIME: u64 = 1_700_000_000_000_000_000;

fn main() {
    wire_frames();
    relay::write_all();
    bodies::write_all();
    node::write_all();
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn write(target: &str, name: &str, parts: &[&[u8]]) {
    let folder = root().join("fuzz/seeds").join(target);
    fs::create_dir_all(&folder).expect("a folder for seeds");
    fs::write(folder.join(name), parts.concat()).expect("a seed");
}

/// The golden frames, one by one and as a stream.
fn wire_frames() {
    let mut all = Vec::new();
    let golden = root().join("collector/wire/golden");
    let mut paths: Vec<_> = fs::read_dir(golden)
        .expect("the golden frames")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
    {
        let frame = fs::read(path).expect("a frame");
        let name = path.file_stem().expect("a name").to_string_lossy();
        write("wire_frames", &name, &[&[0x7f], &frame]);
        all.extend_from_slice(&frame);
    }
    write("wire_frames", "all", &[&[3], &all]);
}
