//! Definitions and packs in YAML: the vocabulary, errors, and printing.

use crate::definition;
use dichroic_packs::{Definition, Pack, PackError, Packs};

#[test]
fn the_vocabulary_of_telemetry_metrics_is_read() {
    let ok = |yaml: &str| definition(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    let d = ok("{name: http.request.stop.duration, type: distribution, unit: [native, millisecond]}");
    assert_eq!(d.event.0, "http.request.stop");
    assert_eq!(d.unit.unwrap().base(), "s");
    let d =
        ok("{name: a.b, type: counter, event: x.y, tags: [plan, result], drop: [{path: result, eq: ping}]}");
    assert_eq!(d.tags.len(), 2);
    assert_eq!(d.keep.len(), 1);
    ok("{name: a.b, type: sum, event: x.y, measurement: bytes, unit: byte, monotonic: false}");
    ok(
        "{name: a.b, type: summary, event: x.y, measurement: {path: messages, from: metadata, transform: [length]}}",
    );
    ok("{name: a.b, type: distribution, event: x.y, measurement: d, buckets: {scale: 2, octaves: [-4, 8]}}");
}

/// The keys that every invalid definition below has.
const BASE: &str = "name: a.b\nevent: x.y\nmeasurement: d\n";

/// Checks that an error starts with its position and contains all parts of a message.
fn reject(yaml: &str, position: &str, message: &[&str]) {
    let error = definition(yaml).expect_err(yaml);
    assert!(error.starts_with(position), "{yaml}\n{error}");
    for part in message {
        assert!(error.contains(part), "{yaml}\n{error}\nlacks {part}");
    }
}

fn reject_rest(rest: &str, position: &str, message: &[&str]) {
    reject(&format!("{BASE}{rest}\n"), position, message);
}

#[test]
fn an_invalid_definition_is_rejected_with_position_and_advice() {
    reject_rest(
        "type: histogram",
        "4:",
        &["histogram", "distribution", "last_value"],
    );
    reject_rest("type: sum\nmesurement: d", "5:", &["mesurement", "measurement"]);
    reject_rest("type: sum\nunit: [ms, By]", "5:", &["does not convert", "native"]);
    reject_rest("type: sum\nkeep: [{path: a}]", "5:", &["eq", "lacks"]);
    reject_rest("type: sum\nexpire_s: 5", "1:", &["300"]);
    reject("name: a.b\nevent: x.**\ntype: counter\n", "2:", &["one event"]);
    let missing = ["measurement is missing", "measurement: KEY"];
    reject("name: a.b\nevent: x.y\ntype: sum\n", "1:", &missing);
    reject("type: sum\n", "1:", &["name"]);
    let both = "{name: a.b, event: x, type: counter, keep: [{path: a, eq: 1}], drop: [{path: b, eq: 1}]}";
    reject(both, "1:", &["exclude"]);
}

#[test]
fn invalid_buckets_are_rejected_with_position_and_advice() {
    reject_rest("type: sum\nbuckets: [1, 2]", "1:", &["a.b", "distribution"]);
    reject_rest("type: distribution\nbuckets: [2, 1]", "5:", &["ascending"]);
    reject_rest("type: distribution\nbuckets: exp", "5:", &["exponential"]);
}

#[test]
fn invalid_labels_are_rejected_with_position_and_advice() {
    let template = "type: sum\nlabels: {of: '${shop_prefix}'}";
    reject_rest(template, "1:", &["a.b", "${shop_prefix}", "${prefix}"]);
    reject_rest("type: sum\ntags: {s: conn..status}", "5:", &["conn.status"]);
    let transform = |text: &str| format!("type: sum\ntags:\n  s: {{path: a, transform: [{text}]}}");
    reject_rest(&transform("upcase"), "6:", &["upcase", "class"]);
    reject_rest(&transform("{before: ''}"), "6:", &["before", "_worker_"]);
}

#[test]
fn an_error_of_a_whole_definition_has_the_position_of_its_start() {
    let yaml = "- {name: a.b, type: counter, event: x}\n- name: c.d\n  event: x.y\n  type: sum\n";
    let error = serde_saphyr::from_str::<Vec<Definition>>(yaml).unwrap_err();
    let at = error.location().expect("a position");
    assert_eq!((at.line(), at.column()), (2, 3));
}

#[test]
fn an_invalid_pack_is_rejected_with_file_line_and_column() {
    let error = Pack::parse(
        "my.yaml",
        "name: my\nevents: []\ndefinitions:\n  - {name: a.b, type: zebra}\n",
    )
    .unwrap_err();
    let PackError::File {
        file, line, column, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((file.as_str(), *line), ("my.yaml", 4));
    assert!(*column > 1 && error.to_string().contains("zebra"), "{error}");
    let error = Pack::parse(
        "my.yaml",
        "name: my\nevents: []\nstreams: [{event: a.b, metadata: {r: {carry: x}}}]\n",
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("carried value \"x\" is not defined")
    );
}

#[test]
fn printed_definitions_parse_to_equal_definitions() {
    let configured = [
        "{name: a.b, type: counter, event: x.y, tags: [plan, result], drop: [{path: result, in: [ping, 1, 2.5, true, 'true', '7']}]}",
        "{name: a.b, type: sum, event: x.y, measurement: bytes, unit: byte, monotonic: false, labels: {a: 'yes', b: '1.5'}}",
        "{name: a.b, type: summary, event: x.y, measurement: {path: messages.0.1, from: metadata, transform: [length, upper, {default: 0}, {cut: 5}, {before: _worker_}, {allow: [a, 1]}]}}",
        "{name: a.b, type: distribution, event: x.y, measurement: d, buckets: {scale: 2, octaves: [-4, 8]}, unit: [native, ms], verbatim: true, unless: [phoenix]}",
        "{name: a.b, type: distribution, event: x.y, measurement: d, buckets: [0.1, 1], unit: ['{call}', '{call}'], series: 7, expire_s: 400}",
        "{name: a.b, type: last_value, event: x.y, measurement: [a, b], measurement_tag: type, help: \"'tis: a # colon\"}",
        "{name: a.b, type: counter, event: x.y, tags: {r: {carry: route}}, carry: {route: {event: x.z, path: {path: '1.2', transform: [name]}, clear: [x.start, x.stop]}}}",
    ];
    let configured = configured
        .iter()
        .map(|yaml| definition(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}")));
    let (builtin, promex) = (Packs::builtin(), Packs::builtin().promex());
    let packed = builtin
        .iter()
        .chain(promex.iter())
        .flat_map(|pack| pack.definitions.clone());
    for one in configured.chain(packed) {
        let printed = serde_saphyr::to_string(&one).expect("prints");
        let read: Definition = serde_saphyr::from_str(&printed).unwrap_or_else(|e| panic!("{printed}\n{e}"));
        assert_eq!(read, one, "{printed}");
    }
}
