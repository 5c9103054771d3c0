//! Series with equal labels: told apart or added up.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{AttributeValue, Attributes, Expiry, Number, Runtime, Scope, Source, SourceSpec};
use dichroic_pipeline::{Core, HiddenReason, Times, Written};
use std::sync::Arc;

#[test]
fn two_scopes_of_one_program_get_scope_labels_whichever_arrives_first() {
    let run = |scopes: [&str; 2]| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for scope in scopes {
            let value = if scope == "a" { 5 } else { 7 };
            let def = Def { scope, ..COUNTER };
            set(&mut store, &source, def, &[("x", "1")], value);
        }
        // A series of one scope alone belongs to the same group.
        set(
            &mut store,
            &source,
            Def {
                scope: "a",
                ..COUNTER
            },
            &[("x", "2")],
            1,
        );
        sorted(&mut store)
    };
    let expected = [
        "m{otel_scope_name=\"a\",x=\"1\"} 5",
        "m{otel_scope_name=\"a\",x=\"2\"} 1",
        "m{otel_scope_name=\"b\",x=\"1\"} 7",
    ];
    assert_eq!(run(["a", "b"]), expected);
    assert_eq!(run(["b", "a"]), expected);
}

#[test]
fn two_hosts_of_one_service_get_the_label_that_differs() {
    let run = |hosts: [&str; 3]| {
        let mut store = store(|_| {});
        for host in hosts {
            let source = on_host(&mut store, host, &[("os.type", "linux")]);
            let value = i64::from(host.as_bytes()[0]);
            set(&mut store, &source, GAUGE, &[], value);
            set(
                &mut store,
                &source,
                Def { name: "c", ..COUNTER },
                &[("x", "1")],
                value,
            );
        }
        sorted(&mut store)
    };
    let expected = [
        "c{host_name=\"a\",x=\"1\"} 97",
        "c{host_name=\"b\",x=\"1\"} 98",
        "c{host_name=\"c\",x=\"1\"} 99",
        "m{host_name=\"a\"} 97",
        "m{host_name=\"b\"} 98",
        "m{host_name=\"c\"} 99",
    ];
    assert_eq!(run(["a", "b", "c"]), expected);
    assert_eq!(run(["c", "a", "b"]), expected);
}

#[test]
fn labels_that_tell_apart_stay_while_the_group_has_series() {
    let mut store = store(|_| {});
    let (a, b) = (on_host(&mut store, "a", &[]), on_host(&mut store, "b", &[]));
    set(&mut store, &a, GAUGE, &[], 1);
    let series = set(&mut store, &b, GAUGE, &[], 2);
    store.expire(series);
    assert_eq!(sorted(&mut store), ["m{host_name=\"a\"} 1"]);
    set(&mut store, &a, GAUGE, &[], 3);
    set(&mut store, &b, GAUGE, &[], 4);
    assert_eq!(
        sorted(&mut store),
        ["m{host_name=\"a\"} 3", "m{host_name=\"b\"} 4"]
    );
    store.end_source(a.id, NOW);
    store.end_source(b.id, NOW);
    store.sweep(NOW + 400 * dichroic_model::SECOND);
    let a = on_host(&mut store, "a", &[]);
    set(&mut store, &a, GAUGE, &[], 5);
    assert_eq!(sorted(&mut store), ["m{} 5"]);
}

#[test]
fn attributes_of_one_text_are_one_total_that_never_falls() {
    for order in [["text", "number"], ["number", "text"]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let define = |store: &mut Core, kind: &str| {
            let value = if kind == "text" {
                AttributeValue::Str("1".into())
            } else {
                AttributeValue::Int(1)
            };
            define_typed(store, &source, kind, DELTA, vec![("a".into(), value)])
        };
        let series = order.map(|kind| define(&mut store, kind));
        for (series, value) in series.iter().zip([1, 2]) {
            assert_eq!(
                store.add_number(*series, Number::int(value), Times::at(NOW)),
                Ok(Written::Applied)
            );
        }
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store.expire(series[0]);
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store
            .add_number(series[1], Number::int(4), Times::at(NOW))
            .unwrap();
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 7"], "{order:?}");
        store.expire(series[1]);
        assert_eq!((lines(&mut store).len(), store.series()), (0, 0));
    }
}

#[test]
fn scopes_are_always_shown_on_request() {
    let mut store = store(|_| {});
    store.always_show_scopes();
    let source = source(&mut store, "s");
    set(&mut store, &source, Def { scope: "a", ..GAUGE }, &[], 1);
    set(&mut store, &source, Def { name: "n", ..GAUGE }, &[], 2);
    assert_eq!(lines(&mut store), ["m{otel_scope_name=\"a\"} 1", "n{} 2"]);
}

/// A program of the service, with this resource.
fn program(store: &mut Core, key: &str, runtime: Runtime, resource: Attributes) -> Arc<Source> {
    let spec = SourceSpec {
        runtime,
        resource,
        ..spec(key, Expiry::AfterIdle(300 * dichroic_model::SECOND))
    };
    store.open_source(spec, NOW).unwrap()
}

#[test]
fn programs_in_two_languages_are_told_apart() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut store = store(|_| {});
        for host in order {
            let runtime = if host == "a" {
                Runtime::Python
            } else {
                Runtime::Other
            };
            let resource = Attributes::of(&[("host.name", host), ("telemetry.sdk.language", host)]);
            let source = program(&mut store, host, runtime, resource);
            set(&mut store, &source, GAUGE, &[], 1);
            set(&mut store, &source, Def { name: "c", ..COUNTER }, &[], 2);
        }
        let expected = [
            "c{host_name=\"a\"} 2",
            "c{host_name=\"b\"} 2",
            "m{host_name=\"a\"} 1",
            "m{host_name=\"b\"} 1",
        ];
        assert_eq!(sorted(&mut store), expected);
    }
}

#[test]
fn resources_of_one_text_are_one_total() {
    let pack = |pairs: &[(&'static str, AttributeValue<'static>)]| {
        Attributes::pack(&mut pairs.iter().map(|(k, v)| ((*k).into(), v.clone())).collect())
    };
    let service = ("service.name", AttributeValue::from("a"));
    let cases = [
        [("x", AttributeValue::Int(1)), ("x", "1".into())],
        [("x", AttributeValue::Bool(true)), ("x", "true".into())],
        [("x", "".into()), ("y", AttributeValue::Null)],
    ];
    for pairs in cases {
        for order in [[0, 1], [1, 0]] {
            let mut store = store(|_| {});
            let mut hidden = Vec::new();
            for at in order {
                let resource = pack(&[service.clone(), pairs[at].clone()]);
                let source = program(&mut store, &format!("{at}"), Runtime::Other, resource);
                set(&mut store, &source, COUNTER, &[], 3);
                let gauge = define_series(&mut store, &source, Def { name: "g", ..GAUGE }, &[]).unwrap();
                hidden.push(store.set_number(gauge, Number::int(1), Times::at(NOW)));
            }
            let visible: Vec<_> = sorted(&mut store)
                .into_iter()
                .filter(|l| !l.starts_with('-'))
                .collect();
            assert_eq!(visible, ["g{} 1", "m{} 6"], "{pairs:?}");
            assert_eq!(
                rows(&mut store)
                    .iter()
                    .filter_map(|row| row.hidden)
                    .collect::<Vec<_>>(),
                [HiddenReason::LabelText]
            );
        }
    }
}

#[test]
fn scopes_that_differ_in_attributes_or_schema_are_told_apart() {
    let scope = |version: &str, url: &str, db: &str| Scope {
        name: "pool".into(),
        version: version.into(),
        schema_url: url.into(),
        attributes: Attributes::of(&[("db.name", db)]),
    };
    let run = |scopes: &[Scope]| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for (at, scope) in scopes.iter().enumerate() {
            let series = define_in_scope(&mut store, &source, scope, GAUGE);
            store
                .set_number(series, Number::int(at as i64), Times::at(NOW))
                .unwrap();
        }
        sorted(&mut store)
    };
    assert_eq!(
        run(&[scope("", "", "one"), scope("", "", "two")]),
        [
            "m{otel_scope_db_name=\"one\"} 0",
            "m{otel_scope_db_name=\"two\"} 1"
        ]
    );
    assert_eq!(
        run(&[scope("", "http://a", ""), scope("", "http://b", "")]),
        [
            "m{otel_scope_schema_url=\"http://a\"} 0",
            "m{otel_scope_schema_url=\"http://b\"} 1"
        ]
    );
    assert_eq!(
        run(&[
            scope("1", "", "one"),
            scope("2", "", "one"),
            scope("2", "", "two")
        ]),
        [
            "m{otel_scope_name=\"pool\",otel_scope_version=\"1\",otel_scope_db_name=\"one\"} 0",
            "m{otel_scope_name=\"pool\",otel_scope_version=\"2\",otel_scope_db_name=\"one\"} 1",
            "m{otel_scope_name=\"pool\",otel_scope_version=\"2\",otel_scope_db_name=\"two\"} 2"
        ]
    );
}
