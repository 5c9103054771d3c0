//! Published OpenMetrics pages with the verdict of a strict parser.
//!
//! The pages are not in this repository: `DICHROIC_CORPORA` names the folder that holds `openmetrics/NAME/{test.json,
//! metrics}`. Without it the program reads nothing and reports that.

use std::path::{Path, PathBuf};

use dichroic_receiver_prometheus::parse::{ParseError, openmetrics};

fn main() {
    let Some(corpora) = std::env::var_os("DICHROIC_CORPORA") else {
        println!("corpus: DICHROIC_CORPORA is not set, nothing to read");
        return;
    };
    let cases = cases(&PathBuf::from(corpora).join("openmetrics"));
    assert!(!cases.is_empty(), "no cases in DICHROIC_CORPORA/openmetrics");
    let wrong: Vec<String> = cases.iter().filter_map(|case| verdict(case).err()).collect();
    for line in &wrong {
        eprintln!("{line}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong",
        wrong.len(),
        cases.len()
    );
    println!(
        "corpus: all {} OpenMetrics cases are as they should be",
        cases.len()
    );
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    cases.retain(|case| case.join("test.json").exists());
    cases.sort();
    cases
}

fn verdict(case: &Path) -> Result<(), String> {
    let name = case.file_name().unwrap_or_default().to_string_lossy();
    let test = std::fs::read(case.join("test.json")).map_err(|error| format!("{name}: {error}"))?;
    let test: serde_json::Value =
        serde_json::from_slice(&test).map_err(|error| format!("{name}: {error}"))?;
    let expected = test["shouldParse"]
        .as_bool()
        .ok_or_else(|| format!("{name}: no shouldParse"))?;
    let page = std::fs::read(case.join("metrics")).map_err(|error| format!("{name}: {error}"))?;
    let read = read_all(&page);
    if std::env::var_os("DICHROIC_CORPUS_VERBOSE").is_some() {
        println!(
            "{name}: {}",
            read.as_ref().map_or_else(ToString::to_string, |()| "good".into())
        );
    }
    match (read, expected) {
        (Err(error), true) => Err(format!("{name}: refused, {error}")),
        (Ok(()), false) => Err(format!("{name}: taken, but it is bad")),
        _ => Ok(()),
    }
}

fn read_all(page: &[u8]) -> Result<(), ParseError> {
    let mut parser = openmetrics::Parser::new(page);
    while parser.next_item()?.is_some() {}
    Ok(())
}
