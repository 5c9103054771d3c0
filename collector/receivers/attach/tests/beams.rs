//! The embedded modules are what their source says: by digest everywhere, and byte for byte where the same compiler is at hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn beams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("beams")
}

/// Lines of the manifest of one kind: name and what stands behind it.
fn manifest(kind: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(beams().join("MANIFEST")).unwrap();
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
    assert_eq!(
        manifest("source"),
        here,
        "the relay's source has changed: run scripts/build-beams.sh (make beams)"
    );
}

#[test]
fn every_module_of_the_relay_is_embedded_but_the_applications_callback() {
    let embedded: Vec<String> = manifest("beam").into_keys().collect();
    let sources: Vec<String> = manifest("source")
        .into_keys()
        .filter_map(|file| file.strip_suffix(".erl").map(str::to_owned))
        .filter(|module| module != "dichroic_app")
        .collect();
    assert_eq!(embedded, sources);
    let named: Vec<&str> = dichroic_receiver_attach::modules::relay()
        .chain(dichroic_receiver_attach::modules::discover())
        .map(|module| module.name)
        .collect();
    assert_eq!(named.len(), embedded.len());
    for module in named {
        assert!(embedded.iter().any(|name| name == module), "{module}");
    }
}

/// Another compiler makes other bytes of the same source; then the digests above have to do.
#[test]
fn the_same_compiler_makes_the_same_bytes_again() {
    let versions = "_ = application:load(compiler), {ok, V} = application:get_key(compiler, vsn), io:format(\"~s ~s\", [erlang:system_info(otp_release), V]), halt().";
    let Ok(erl) = Command::new("erl").args(["-noshell", "-eval", versions]).output() else {
        return;
    };
    let wanted = [manifest("otp"), manifest("compiler")].map(|m| m.into_keys().next().unwrap());
    if String::from_utf8_lossy(&erl.stdout) != wanted.join(" ") {
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
    for name in manifest("beam").keys() {
        let file = format!("{name}.beam");
        assert!(
            fs::read(into.join(&file)).unwrap() == fs::read(beams().join(&file)).unwrap(),
            "{file} is not what its source compiles to: run scripts/build-beams.sh"
        );
    }
    fs::remove_dir_all(into).unwrap();
}
