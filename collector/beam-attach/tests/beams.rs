//! The embedded modules are what their source says: by digest everywhere, and byte for byte where the same compiler is at hand.

use dichroic_beam_attach::modules::ModuleSet;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn beams(set: ModuleSet) -> PathBuf {
    let folder = format!("beams/otp{}", set.otp);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Lines of the manifest of one kind: name and what stands behind it.
fn manifest(set: ModuleSet, kind: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(beams(set).join("MANIFEST")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
        .map(|rest| {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_embedded_modules_are_made_from_the_source_that_is_here() {
    let source = root().join("beam-relay/src");
    let here: BTreeMap<String, String> = fs::read_dir(&source)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "erl" || e == "hrl"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, md5(&fs::read(&path).unwrap()))
        })
        .collect();
    for set in ModuleSet::all() {
        assert_eq!(
            manifest(set, "source"),
            here,
            "the relay's source has changed: run scripts/build-beams.sh (make beams)"
        );
    }
}

#[test]
fn every_module_of_the_relay_is_embedded_but_the_applications_callback() {
    for set in ModuleSet::all() {
        let embedded: Vec<String> = manifest(set, "beam").into_keys().collect();
        let sources: Vec<String> = manifest(set, "source")
            .into_keys()
            .filter_map(|file| file.strip_suffix(".erl").map(str::to_owned))
            .filter(|module| module != "dichroic_app")
            .collect();
        assert_eq!(embedded, sources);
        let named: Vec<&str> = set
            .relay()
            .chain(set.discover())
            .map(|module| module.name)
            .collect();
        assert_eq!(named.len(), embedded.len());
        for module in named {
            assert!(embedded.iter().any(|name| name == module), "{module}");
        }
    }
}

/// The version of the compiler of this OTP, if it is at hand: the installed one, or one that scripts/fetch-otp.sh has unpacked.
fn compiler(otp: &str) -> Option<String> {
    let versions = "_ = application:load(compiler), {ok, V} = application:get_key(compiler, vsn), io:format(\"~s ~s\", [erlang:system_info(otp_release), V]), halt().";
    let fetched = fs::read_dir(root().join("build/otp")).into_iter().flatten();
    let fetched = fetched.flatten().map(|entry| entry.path().join("programs/erl"));
    std::iter::once(PathBuf::from("erl"))
        .chain(fetched)
        .find_map(|erl| {
            let said = Command::new(erl)
                .args(["-noshell", "-eval", versions])
                .output()
                .ok()?;
            let said = String::from_utf8(said.stdout).ok()?;
            let (release, compiler) = said.split_once(' ')?;
            (release == otp).then(|| compiler.to_owned())
        })
}

/// Another compiler makes other bytes of the same source; then the digests above have to do.
#[test]
fn the_same_compilers_make_the_same_bytes_again() {
    let at_hand = |set: &ModuleSet| {
        let wanted = manifest(*set, "compiler").into_keys().next().unwrap();
        compiler(&set.otp.to_string()) == Some(wanted)
    };
    // The script makes all sets: without one of the compilers it would fetch it.
    let sets: Vec<ModuleSet> = ModuleSet::all().collect();
    if !sets.iter().any(at_hand) {
        return;
    }
    let into = std::env::temp_dir().join(format!("dichroic-beams-{}", std::process::id()));
    let built = Command::new(root().join("scripts/build-beams.sh"))
        .arg(&into)
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    for set in sets.into_iter().filter(at_hand) {
        let folder = format!("otp{}", set.otp);
        for name in manifest(set, "beam").keys() {
            let file = format!("{name}.beam");
            assert!(
                fs::read(into.join(&folder).join(&file)).unwrap()
                    == fs::read(beams(set).join(&file)).unwrap(),
                "{folder}/{file} is not what its source compiles to: run scripts/build-beams.sh"
            );
        }
    }
    fs::remove_dir_all(into).unwrap();
}
