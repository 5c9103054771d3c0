//! The embedded modules match their source: by digest, and byte for byte if the same compiler is installed.

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

/// Lines of one kind in the manifest: name and the rest of the line.
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

fn sha256(path: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(path).unwrap());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn the_manifest_has_the_digests_of_the_current_source() {
    let current: BTreeMap<String, String> = ["src", "visit"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(root().join("beam-relay").join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "erl" || e == "hrl"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, sha256(&path))
        })
        .collect();
    for set in ModuleSet::all() {
        assert_eq!(
            manifest(set, "source"),
            current,
            "the relay's source has changed: run scripts/build-beams.sh (make beams)"
        );
    }
}

#[test]
fn the_manifest_has_the_digests_of_the_embedded_modules() {
    for set in ModuleSet::all() {
        for (name, digests) in manifest(set, "beam") {
            let (md5, file) = digests.split_once(' ').unwrap();
            let embedded = set
                .relay()
                .chain(set.discover())
                .find(|module| module.name == name);
            assert_eq!(embedded.unwrap().md5, md5, "{name}");
            assert_eq!(sha256(&beams(set).join(format!("{name}.beam"))), file, "{name}");
        }
    }
}

#[test]
fn every_module_of_the_relay_except_the_application_callback_is_embedded() {
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

/// The version of an OTP release's compiler, if it is installed or was fetched by scripts/fetch-otp.sh.
fn compiler(otp: &str) -> Option<String> {
    let versions = "_ = application:load(compiler), {ok, V} = application:get_key(compiler, vsn), io:format(\"~s ~s\", [erlang:system_info(otp_release), V]), halt().";
    let fetched = fs::read_dir(root().join("build/otp")).into_iter().flatten();
    let fetched = fetched.flatten().map(|entry| entry.path().join("programs/erl"));
    std::iter::once(PathBuf::from("erl"))
        .chain(fetched)
        .find_map(|erl| {
            let output = Command::new(erl)
                .args(["-noshell", "-eval", versions])
                .output()
                .ok()?;
            let versions = String::from_utf8(output.stdout).ok()?;
            let (release, compiler) = versions.split_once(' ')?;
            (release == otp).then(|| compiler.to_owned())
        })
}

/// Other compilers produce other bytes from the same source; with them only the digests above are checked.
#[test]
fn the_same_compilers_produce_the_same_bytes() {
    let installed = |set: &ModuleSet| {
        let wanted = manifest(*set, "compiler").into_keys().next().unwrap();
        compiler(&set.otp.to_string()) == Some(wanted)
    };
    // The script builds all sets, and fetches a compiler that is not installed.
    let sets: Vec<ModuleSet> = ModuleSet::all().collect();
    if !sets.iter().any(installed) {
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
    for set in sets.into_iter().filter(installed) {
        let folder = format!("otp{}", set.otp);
        for name in manifest(set, "beam").keys() {
            let file = format!("{name}.beam");
            assert!(
                fs::read(into.join(&folder).join(&file)).unwrap()
                    == fs::read(beams(set).join(&file)).unwrap(),
                "{folder}/{file} differs from its compiled source: run scripts/build-beams.sh (make beams)"
            );
        }
    }
    fs::remove_dir_all(into).unwrap();
}
