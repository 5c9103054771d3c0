//! Writes the fixtures of the packs as Erlang terms for the relay's tests, which replay them through the real handler: the plan for each
//! pack, recorded events, and the totals that the interpreter computes. A difference between Rust and Erlang fails one of the tests.
//!
//! After a change of a pack, a fixture or the plan, regenerate the file with
//! `DICHROIC_BLESS=1 cargo test -p dichroic-receiver-beam --test packs`.

mod common;
#[allow(dead_code)]
#[path = "../../../packs/tests/interpreter/mod.rs"]
mod interpreter;

use dichroic_packs::{Aggregation, Packs, Selection, Variables};
use dichroic_receiver_beam::Config;
use dichroic_receiver_beam::early::early_plan;
use dichroic_receiver_beam::plan::Blueprint;
use dichroic_wire::limits::PLAN_ENTRIES;
use dichroic_wire::plan::{Plan, PlanLimits};
use interpreter::{Recorded, Term, Total};
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(serde::Deserialize)]
struct Fixture {
    #[serde(default)]
    variables: Variables,
    events: Vec<Recorded>,
}

fn folder(under: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(under)
}

fn plan(blueprint: &Blueprint) -> Plan {
    Plan {
        generation: 1,
        flush_ms: 1_000,
        linger_s: 0,
        limits: PlanLimits {
            series: 10_000,
            string: 128,
            credit: 1_000,
            rows_per_s: 1_000,
        },
        aggregates: blueprint.aggregates.clone(),
        streams: Vec::new(),
        carries: blueprint.carries.clone(),
    }
}

fn config(selection: Selection) -> Config {
    Config {
        selection,
        ..Config::default()
    }
}

/// A quoted Erlang string or atom.
fn text(out: &mut String, quote: char, text: &str) {
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn binary(out: &mut String, value: &str) {
    out.push_str("<<");
    text(out, '"', value);
    out.push_str("/utf8>>");
}

fn list<T>(
    out: &mut String,
    ends: [char; 2],
    items: impl IntoIterator<Item = T>,
    each: impl Fn(&mut String, T),
) {
    out.push(ends[0]);
    for (n, item) in items.into_iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        each(out, item);
    }
    out.push(ends[1]);
}

/// A recorded term; the replay replaces `'$opaque'` by a process.
fn term(out: &mut String, value: &Term) {
    match value {
        Term::Nil => out.push_str("nil"),
        Term::Bool(flag) => write!(out, "{flag}").unwrap(),
        Term::Int(int) => write!(out, "{int}").unwrap(),
        Term::Float(float) => write!(out, "{float:?}").unwrap(),
        Term::Atom(name) => text(out, '\'', name),
        Term::Text(value) => binary(out, value),
        Term::List(items) => list(out, ['[', ']'], items, term),
        Term::Tuple(items) => list(out, ['{', '}'], items, term),
        Term::Opaque => out.push_str("'$opaque'"),
        Term::Map(map) => {
            out.push('#');
            list(out, ['{', '}'], map, |out, (key, value)| {
                text(out, '\'', key);
                out.push_str(" => ");
                term(out, value);
            });
        }
    }
}

/// The wire form of a label.
fn label(out: &mut String, value: &Term) {
    match value {
        Term::Bool(_) | Term::Int(_) | Term::Float(_) => term(out, value),
        Term::Atom(value) | Term::Text(value) => binary(out, value),
        _ => out.push_str("null"),
    }
}

fn event(out: &mut String, recorded: &Recorded) {
    out.push('{');
    list(out, ['[', ']'], recorded.event.split('.'), |out, part| {
        text(out, '\'', part)
    });
    for map in [&recorded.measurements, &recorded.metadata] {
        out.push(',');
        match map {
            Term::Nil => out.push_str("#{}"),
            map => term(out, map),
        }
    }
    out.push('}');
}

fn total(out: &mut String, key: u64, total: &Total<'_>) {
    // Keys are signed integers on the wire.
    write!(out, "{{{},", key as i64).unwrap();
    list(out, ['[', ']'], &total.labels, label);
    match total.metric.aggregation {
        Aggregation::Counter => write!(out, ",{{{},0.0}}}}", total.count),
        Aggregation::Sum { .. } | Aggregation::LastValue => {
            write!(out, ",{{{},{:?}}}}}", total.int, total.float)
        }
        _ => write!(out, ",{{{},{:?},{}}}}}", total.int, total.float, total.count),
    }
    .unwrap();
}

fn terms(title: &str, packs: &Packs, pack: &str, yaml: &str) -> String {
    let fixture: Fixture = serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{title}: {e}"));
    let selection = Selection {
        packs: packs.choose(&[pack.to_owned()]).unwrap(),
        variables: fixture.variables,
        ..Selection::default()
    };
    let compiled = selection.compile("shop", &Variables::new());
    let blueprint = Blueprint::new(&config(selection), &common::hello("shop@host", 1, 1, 1));
    assert_eq!(blueprint.left_out, [], "{title}");
    assert_eq!(
        blueprint.aggregates.len(),
        compiled.metrics.len(),
        "{title}: entries of one key"
    );
    let mut bytes = Vec::new();
    plan(&blueprint).write(&mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let mut out = String::from("{");
    text(&mut out, '"', title);
    write!(out, ",<<\"{hex}\">>").unwrap();
    out.push_str(",\n ");
    list(&mut out, ['[', ']'], &fixture.events, |out, recorded| {
        event(out, recorded);
        out.push('\n');
    });
    out.push_str(",\n ");
    let (totals, _) = interpreter::totals(&compiled, &fixture.events);
    list(&mut out, ['[', ']'], &totals, |out, each| {
        let index = compiled.metrics.iter().position(|m| std::ptr::eq(m, each.metric));
        total(out, blueprint.aggregates[index.unwrap()].key, each);
        out.push('\n');
    });
    out.push_str("}.\n");
    out
}

#[test]
fn the_fixtures_of_the_relays_tests_are_up_to_date() {
    let mut written = String::from(
        "%% -*- coding: utf-8 -*-\n%% Written by a test of the collector: {Title, PLAN, Events, Totals}. See dichroic_packs_tests.erl.\n",
    );
    for (under, packs) in [("", Packs::builtin()), ("promex", Packs::builtin().promex())] {
        let mut files: Vec<_> = std::fs::read_dir(folder("collector/packs/tests/fixtures").join(under))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
            .collect();
        files.sort();
        assert!(files.len() >= 8, "{files:?}");
        for file in files {
            let pack = file.file_stem().unwrap().to_str().unwrap();
            let yaml = std::fs::read_to_string(&file).unwrap();
            written.push_str(&terms(format!("{under} {pack}").trim(), &packs, pack, &yaml));
        }
    }
    held("beam-relay/test/packs.terms", written.as_bytes());
}

#[test]
fn the_relay_has_the_plan_of_the_packs_built_in() {
    let mut written = Vec::new();
    early_plan(&Packs::builtin()).encode(&mut written).unwrap();
    held("beam-relay/priv/plan.bin", &written);
    // What the relay makes of it is the plan that a collector sends, apart from metrics that another pack provides.
    let mut keys = String::from(
        "%% Written by a test of the collector: {App, Variables, Keys of the plan}. See dichroic_early_plan_tests.erl.\n",
    );
    let prefixes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (app, variables) in [
        ("shop", Variables::new()),
        ("", Variables::new()),
        (
            "my_shop",
            Variables::from([
                (
                    "ecto_prefix".to_owned(),
                    prefixes(&["my_shop.repo", "my_shop.read.repo"]),
                ),
                ("ash_domain".to_owned(), prefixes(&["orders", "accounts"])),
                ("nebulex_prefix".to_owned(), prefixes(&["my_shop.cache"])),
            ]),
        ),
    ] {
        let mut hello = common::hello("shop@host", 1, 1, 1);
        hello.variables = variables.clone();
        hello.resource.insert("service.name".to_owned(), app.into());
        let selection = Selection {
            packs: Packs::builtin(),
            ..Selection::default()
        };
        let mut found: Vec<i64> = Blueprint::new(&config(selection), &hello)
            .aggregates
            .iter()
            .map(|entry| entry.key as i64)
            .collect();
        found.sort_unstable();
        keys.push('{');
        binary(&mut keys, app);
        keys.push_str(",#");
        list(&mut keys, ['{', '}'], &variables, |out, (name, values)| {
            binary(out, name);
            out.push_str(" => ");
            list(out, ['[', ']'], values, |out, value| binary(out, value));
        });
        keys.push_str(",\n ");
        list(&mut keys, ['[', ']'], found, |out, key| {
            write!(out, "{key}").unwrap()
        });
        keys.push_str("}.\n");
    }
    held("beam-relay/test/plan_keys.terms", keys.as_bytes());
}

/// Compares a file that this test writes with DICHROIC_BLESS.
fn held(path: &str, written: &[u8]) {
    let golden = folder(path);
    if std::env::var_os("DICHROIC_BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, written).unwrap();
    }
    assert!(
        std::fs::read(&golden).unwrap_or_default() == written,
        "{} is out of date; run again with DICHROIC_BLESS=1",
        golden.display()
    );
}

#[test]
fn all_packs_together_fit_into_one_plan_and_one_frame() {
    for packs in [Packs::builtin(), Packs::builtin().promex()] {
        let selection = Selection {
            packs,
            ..Selection::default()
        };
        let hello = common::hello("shop@host", 1, 1, 1);
        let blueprint = Blueprint::new(&config(selection), &hello);
        assert_eq!(blueprint.left_out, []);
        assert!(
            blueprint.aggregates.len() < PLAN_ENTRIES / 2,
            "{}",
            blueprint.aggregates.len()
        );
        let mut bytes = Vec::new();
        plan(&blueprint).write(&mut bytes).unwrap();
        assert!(
            bytes.len() < hello.max_frame as usize / 4,
            "{} bytes",
            bytes.len()
        );
        println!("{} metrics, {} bytes", blueprint.aggregates.len(), bytes.len());
    }
}
