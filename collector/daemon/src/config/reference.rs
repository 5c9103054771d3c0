//! `docs/configuration.md`, written from the schema. The test fails when the file is stale; `UPDATE=1` rewrites it.

use super::schema::{Node, document, yaml};
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

const HEAD: &str = "\
# Configuration

<!-- Written by `UPDATE=1 cargo test -p dichroic configuration_reference`; edit the doc comments of the types instead. -->

`dichroic run --config FILE` reads one YAML file. Every key is optional unless it is marked as required; a file may be empty.
`dichroic check --config FILE` reports the first mistake with its position, `--print` prints the configuration in effect, and
`dichroic check --schema` prints a JSON Schema for editors.

- **Durations** are written with units, such as `500ms`, `5s` or `1h30m`. **Sizes** are written as `64KiB`, `512MiB`, `1GiB`, or as a
  number of bytes; as in Prometheus, `KB`, `MB` and `GB` are the same as `KiB`, `MiB` and `GiB`.
- **Addresses** are `HOST:PORT` with a numeric host; `false` switches a listener off.
- A section without content has all its defaults.
- `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` are replaced in scalar values, never in keys; `$$` is a dollar sign. A value
  is text, a number, or true or false, as its key needs it, never a list or a section. Inside `{ }` and `[ ]` YAML needs quotes around a
  reference: `{ token: \"${env:NAME}\" }`. `PATH` is a regular file of at most 64 KiB with one line; all files are read within 5 s.
- Tokens, values of `params`, and users and queries of URLs are never printed or logged, and errors show the file as it is written.
- SIGHUP reads the file again. `receivers.prometheus`, `receivers.beam`, `metrics` and `exporters.stream` take effect at once; other
  changes need a restart, and a log line names them. A file with a mistake is rejected, and the configuration in effect is kept.
";

fn page() -> String {
    let document = document();
    let mut text = HEAD.to_owned();
    section(&mut text, "", Node::root(&document));
    text
}

/// The table of a section's keys, then the sections in it.
fn section(text: &mut String, path: &str, node: Node<'_>) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    let (sections, keys): (Vec<&str>, Vec<&str>) = node
        .keys()
        .into_iter()
        .partition(|key| node.key(key).is_some_and(|child| nested(child).is_some()));
    if !path.is_empty() {
        let _ = write!(text, "\n## `{path}`\n\n{}\n", sentence(&node.description()));
    }
    if !keys.is_empty() {
        text.push_str("\n| key | value | default | meaning | example |\n|---|---|---|---|---|\n");
    }
    for key in &keys {
        if let Some(child) = node.key(key) {
            row(text, key, child, node.requires(key));
        }
    }
    for key in sections {
        let Some((child, list)) = node.key(key).and_then(nested) else {
            continue;
        };
        section(
            text,
            &format!("{}{}", below(key), if list { "[]" } else { "" }),
            child,
        );
    }
}

/// The section or list of sections of a key. Definitions are described one level deep; they have their own documentation.
fn nested(node: Node<'_>) -> Option<(Node<'_>, bool)> {
    match node.items() {
        Some(item) if !item.keys().is_empty() && !item.keys().contains(&"lacks") => Some((item, true)),
        Some(_) => None,
        None => (!node.keys().is_empty()).then_some((node, false)),
    }
}

fn row(text: &mut String, key: &str, node: Node<'_>, required: bool) {
    let default = match node.default() {
        _ if required => "**required**".to_owned(),
        Some(Value::String(empty)) if empty.is_empty() => "none".to_owned(),
        Some(default) => format!("`{}`", yaml(default)),
        None => "none".to_owned(),
    };
    let example = node
        .example()
        .map(|example| format!("`{key}: {}`", yaml(example)));
    let _ = writeln!(
        text,
        "| `{key}` | {} | {} | {} | {} |",
        cell(&node.expected()),
        cell(&default),
        cell(&sentence(&node.description())),
        cell(&example.unwrap_or_default())
    );
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn sentence(text: &str) -> String {
    match text.ends_with('.') || text.is_empty() {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

#[test]
fn the_configuration_reference_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("docs/ can be created");
        std::fs::write(&path, page()).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is stale; run UPDATE=1 cargo test -p dichroic configuration_reference"
    );
}

/// Every key has a description, and every leaf an example or a default.
#[test]
fn every_key_is_described() {
    fn walk(path: &str, node: Node<'_>, missing: &mut Vec<String>) {
        for key in node.keys() {
            let below = format!("{path}.{key}");
            let Some(child) = node.key(key) else { continue };
            if child.description().is_empty() {
                missing.push(format!("{below}: description"));
            }
            match nested(child) {
                Some((inner, _)) => walk(&below, inner, missing),
                None if child.example().is_none() && child.default().is_none() => {
                    missing.push(format!("{below}: example or default"));
                }
                None => {}
            }
        }
    }
    let (document, mut missing) = (document(), Vec::new());
    walk("", Node::root(&document), &mut missing);
    assert!(missing.is_empty(), "{missing:#?}");
}
