//! Pages are checked by other projects: both parsers of the official Python client, and Prometheus's `promtool`.
//!
//! `DICHROIC_PYTHON` is a Python with `prometheus_client`, `DICHROIC_PROMETHEUS` the folder that `scripts/fetch-prometheus.sh` prints.
//! If one is not set, its tests report that and pass, unless `DICHROIC_REQUIRE_ORACLES=1`, which the Makefile sets.

mod common;

use common::arbitrary::{filled, series};
use common::{Def, Kit, fixtures::everything};
use dichroic_exporter_prometheus::Format;
use dichroic_model::{MetricKind, Number, Protocol};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn oracle(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    let required = std::env::var("DICHROIC_REQUIRE_ORACLES").is_ok_and(|v| v == "1");
    assert!(
        found.is_some() || !required,
        "{variable} is not set and DICHROIC_REQUIRE_ORACLES=1"
    );
    if found.is_none() {
        eprintln!("{variable} is not set: its checks are skipped");
    }
    found
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// Checks both pages of each kit, with their allowed differences.
fn check_with_python(python: &Path, name: &str, kits: Vec<(Kit, &[&str])>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle.py");
    let mut files = Vec::new();
    for (at, (mut kit, differences)) in kits.into_iter().enumerate() {
        files.push(write(&format!("{name}{at}.txt"), &kit.page(Format::Text)));
        files.push(write(
            &format!("{name}{at}.openmetrics"),
            &kit.page(Format::OpenMetrics),
        ));
        files.push(write(&format!("{name}{at}.allowed"), &differences.join("\n")));
    }
    let output = Command::new(python).arg(script).args(&files).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
}

/// The samples of `everything` that OpenMetrics forbids. The Python client's text parser adds `_total` to every counter that it reads.
const DIFFERENCES: &[&str] = &[
    "text below_zero_celsius_count",
    "text below_zero_celsius_sum",
    "text broken_count_total",
    "text drift",
    "text drift_sum",
    "text queue_gcount",
    "text sumless_bytes_count",
    "text oldcounter_total",
];

#[test]
fn the_python_client_reads_the_same_samples_from_both_pages() {
    if let Some(python) = oracle("DICHROIC_PYTHON") {
        check_with_python(
            &python,
            "fixed",
            vec![(everything(), DIFFERENCES), (hostile(), &[])],
        );
    }
}

#[test]
fn the_python_client_parses_pages_of_any_series() {
    if let Some(python) = oracle("DICHROIC_PYTHON") {
        let mut runner = TestRunner::deterministic();
        let some = prop::collection::vec(series(), 0..40);
        let kits = (0..150).map(|_| {
            let all = some.new_tree(&mut runner).unwrap().current();
            (filled(&all), &["text *"][..])
        });
        check_with_python(&python, "any", kits.collect());
    }
}

/// Texts that look like syntax, in every field that a sender controls.
fn hostile() -> Kit {
    let mut kit = Kit::default();
    let texts = [
        "",
        " ",
        "\n",
        "\\",
        "\"",
        "\\n",
        "\\\"",
        "},{",
        "# EOF",
        "a # {b=\"c\"} 1",
        "=",
        ",",
        "ё",
        "\u{1F600}",
        "\r",
        "\t",
        "\u{85}",
        "\u{2028}",
    ];
    let resource: Vec<(String, &str)> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| (format!("r{at}"), *text))
        .collect();
    let resource: Vec<(&str, &str)> = resource.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let source = kit.source(Protocol::Otlp, "a\"b\\c\nd", "{}", &resource);
    for (at, text) in texts.iter().enumerate() {
        let def = Def::otel("hostile", "", MetricKind::COUNTER).help("one\\ two\n\"three\" \\n");
        kit.number(
            &source,
            &def,
            &[("at", &at.to_string()), ("text", text)],
            Number::int(1),
        );
        let name = format!("9{text}.x");
        kit.number(
            &source,
            &Def::otel("keys", "", MetricKind::Gauge),
            &[("at", &at.to_string()), (&name, "v")],
            Number::int(1),
        );
    }
    kit
}

fn promtool(folder: &Path, page: &str) -> (Option<i32>, String) {
    let mut child = Command::new(folder.join("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn promtool_accepts_the_text_page_and_names_converted_from_dotted_ones() {
    let Some(folder) = oracle("DICHROIC_PROMETHEUS") else {
        return;
    };
    for mut kit in [everything(), hostile()] {
        // 0: no findings; 3: lint findings in names that targets chose. 1 is a page that cannot be parsed.
        let (code, findings) = promtool(&folder, &kit.page(Format::Text));
        assert!(code == Some(0) || code == Some(3), "{code:?} {findings}");
    }
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Beam, "shop", "shop@h", &[("host.name", "h")]);
    let (counter, duration, memory) = (
        Def::otel("oban.job.count", "{job}", MetricKind::COUNTER).help("Jobs."),
        Def::otel("http.server.request.duration", "s", MetricKind::Histogram).help("Durations."),
        Def::otel("vm.memory", "By", MetricKind::Gauge).help("Memory."),
    );
    kit.number(&source, &counter, &[], Number::int(1));
    kit.histogram(
        &source,
        &duration.bounds(&[0.005, 1.0]),
        &[],
        &[1, 2, 3],
        Some(Number::float(9.5)),
    );
    kit.number(&source, &memory, &[], Number::int(1));
    let (code, findings) = promtool(&folder, &kit.page(Format::Text));
    assert_eq!((code, findings.as_str()), (Some(0), ""));
}
