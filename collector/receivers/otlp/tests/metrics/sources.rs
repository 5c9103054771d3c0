//! The source of a resource: identity, restart, expiry and limit.

use crate::common::*;
use dichroic_model::{Limits, Runtime};
use dichroic_pipeline::RowValue;
use dichroic_receiver_otlp::Service;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;

#[test]
fn a_resource_becomes_a_source() {
    let check = |pairs: &[(&str, &str)], job: &str, instance: &str, runtime: Runtime| {
        let mut world = World::new();
        let body = request_of(pairs, vec![gauge("g", vec![int(1)])]).encode_to_vec();
        world.take(Service::Metrics, &body).unwrap();
        let rows = world.rows();
        let spec = &rows[0].meta.source.spec;
        assert_eq!(
            (spec.job.as_str(), spec.instance.as_str(), spec.runtime),
            (job, instance, runtime)
        );
    };
    check(&[], "", "", Runtime::Other);
    check(&[("service.name", "a")], "a", "", Runtime::Other);
    check(
        &[
            ("service.name", "a"),
            ("service.namespace", "n"),
            ("service.instance.id", "i"),
        ],
        "n/a",
        "i",
        Runtime::Other,
    );
    check(&[("telemetry.sdk.language", "python")], "", "", Runtime::Python);
    check(&[("telemetry.sdk.language", "erlang")], "", "", Runtime::Beam);
    check(&[("telemetry.sdk.language", "go")], "", "", Runtime::Other);
}

fn send(world: &mut World, pairs: &[(&str, &str)]) -> u32 {
    let point = NumberDataPoint {
        time_unix_nano: world.now,
        ..int(1)
    };
    let body = request_of(pairs, vec![gauge("g", vec![point])]).encode_to_vec();
    world.take(Service::Metrics, &body).unwrap();
    world
        .rows()
        .iter()
        .map(|row| row.meta.source.id.0)
        .max()
        .expect("a row")
}

#[test]
fn the_same_identity_is_the_same_source_in_any_order() {
    let mut world = World::new();
    let first = send(&mut world, &[("service.name", "a"), ("host.name", "h")]);
    let second = send(&mut world, &[("host.name", "h"), ("service.name", "a")]);
    assert_eq!(first, second);
    let other = send(&mut world, &[("host.name", "h2"), ("service.name", "a")]);
    assert_ne!(
        first, other,
        "without an instance id the whole resource is the identity"
    );
}

/// A delta of five, five seconds long, of a program with the given resource.
fn count(world: &mut World, pairs: &[(&str, &str)]) {
    let point = NumberDataPoint {
        start_time_unix_nano: world.now - 5 * SECOND,
        time_unix_nano: world.now,
        ..int(5)
    };
    let body = request_of(pairs, vec![sum("c", DELTA, true, vec![point])]).encode_to_vec();
    world.take(Service::Metrics, &body).unwrap();
}

/// The sum of what pages show.
fn shown(world: &mut World) -> f64 {
    let rows = world.rows();
    let values = rows.iter().filter(|row| row.hidden.is_none());
    values
        .map(|row| match &row.value {
            RowValue::Number(number) => number.to_f64(),
            other => panic!("a number, not {other:?}"),
        })
        .sum()
}

#[test]
fn programs_with_one_instance_id_keep_what_they_counted() {
    let on = |host| {
        [
            ("service.name", "a"),
            ("service.instance.id", "1"),
            ("host.name", host),
        ]
    };
    let mut world = World::new();
    for (at, host) in ["h1", "h2", "h1", "h2"].into_iter().enumerate() {
        count(&mut world, &on(host));
        assert_eq!(shown(&mut world), 5.0 * (at as f64 + 1.0), "{:?}", world.lines());
        world.now += 11 * SECOND;
    }
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn a_log_record_with_another_resource_removes_no_series() {
    let service = [("service.name", "a"), ("service.instance.id", "1")];
    let mut world = World::new();
    send(&mut world, &service);
    count(&mut world, &service);
    let before = world.lines();
    let log = r#"{"resourceLogs":[{"resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"a"}},
        {"key":"service.instance.id","value":{"stringValue":"1"}},
        {"key":"process.pid","value":{"intValue":"7"}}]},
        "scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#;
    world.json(Service::Logs, log).unwrap();
    let span = log.replace("Logs", "Spans").replace("logRecords", "spans");
    world.json(Service::Traces, &span).unwrap();
    assert_eq!(world.lines(), before);
}

#[test]
fn scopes_differ_by_their_attributes_and_schema() {
    let metric = |value: u32| {
        let point = format!(r#"{{"timeUnixNano":"{EPOCH}","asInt":"{value}"}}"#);
        format!(r#""metrics":[{{"name":"m","gauge":{{"dataPoints":[{point}]}}}}]"#)
    };
    let db = |name| format!(r#"[{{"key":"db","value":{{"stringValue":"{name}"}}}}]"#);
    let scopes = [
        format!(
            r#"{{"scope":{{"name":"pool","attributes":{}}},{}}}"#,
            db("a"),
            metric(1)
        ),
        format!(
            r#"{{"scope":{{"name":"pool","attributes":{}}},{}}}"#,
            db("b"),
            metric(2)
        ),
        format!(
            r#"{{"scope":{{"name":"pool","attributes":{}}},"schemaUrl":"http://b",{}}}"#,
            db("b"),
            metric(3)
        ),
    ];
    let mut world = World::new();
    let request = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{}]}}]}}"#,
        scopes.join(",")
    );
    for _ in 0..2 {
        world.json(Service::Metrics, &request).unwrap();
        assert_eq!(
            world.lines(),
            [
                r#"m{otel_scope_db="a"} gauge int 1"#,
                r#"m{otel_scope_db="b"} gauge int 2"#,
                r#"m{otel_scope_schema_url="http://b",otel_scope_db="b"} gauge int 3"#,
            ]
        );
    }
}

#[test]
fn a_restarted_process_with_its_instance_id_takes_its_series_over() {
    let of = |pid| {
        [
            ("service.name", "a"),
            ("service.instance.id", "1"),
            ("process.pid", pid),
        ]
    };
    let visible = |world: &mut World| {
        let rows = world.rows();
        let visible = rows.iter().filter(|row| row.hidden.is_none()).map(line);
        visible.collect::<Vec<_>>()
    };
    let mut world = World::new();
    send(&mut world, &of("1"));
    let usual = visible(&mut world);
    world.now += 20 * SECOND;
    send(&mut world, &of("2"));
    assert_eq!(visible(&mut world), usual);
    // Both are alive.
    send(&mut world, &of("1"));
    assert_eq!(visible(&mut world).len(), 2);
}

#[test]
fn a_silent_source_expires_with_its_series_and_returns_as_a_new_one() {
    let mut world = World::new();
    let first = send(&mut world, &[("service.name", "a")]);
    world.now += 200 * SECOND;
    world.ingest.tick(&mut world.store, world.now);
    assert_eq!(send(&mut world, &[("service.name", "a")]), first);
    world.now += 301 * SECOND;
    world.ingest.tick(&mut world.store, world.now);
    // Series expire in one round, their source in the next.
    world.store.sweep(world.now);
    world.store.sweep(world.now);
    assert_eq!((world.rows().len(), world.store.sources().count()), (0, 0));
    assert_ne!(send(&mut world, &[("service.name", "a")]), first);
}

#[test]
fn a_source_over_the_limit_is_counted_as_unattributed() {
    let mut world = World::with(Limits {
        sources: 1,
        ..Limits::default()
    });
    let body = |name| request_of(&[("service.name", name)], vec![gauge("g", vec![int(1)])]).encode_to_vec();
    world.take(Service::Metrics, &body("a")).unwrap();
    let outcome = world.take(Service::Metrics, &body("b")).unwrap();
    assert_eq!(outcome.rejected, 1);
    assert_eq!(
        world.accounts(),
        [
            "a metrics received=1 applied=1",
            "? metrics received=1 applied=0 source_limit=1"
        ]
    );
}
