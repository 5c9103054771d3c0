//! Every committed seed passes its fuzz target.

use dichroic_fuzz_harness::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: fs::DirEntry| {
        entry
            .path()
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned())
    };
    entries
        .filter_map(|entry| name(entry.expect("an entry")))
        .collect()
}

#[test]
fn every_seed_passes_its_target() {
    for (name, target) in TARGETS {
        let folder = fuzz().join("seeds").join(name);
        let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for seed in seeds {
            let path = seed.expect("an entry").path();
            // Shown only when the target panics.
            println!("{}", path.display());
            target(&fs::read(path).expect("a seed"));
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
        target(b"");
    }
}

#[test]
fn every_target_has_a_program_and_a_folder_of_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz().join("seeds")), targets);
    assert!(names(&fuzz().join("dictionaries")).is_subset(&targets));
}
