//! The source of a resource: identity, restart, expiry and limit.

use crate::common::*;
use dichroic_model::{Limits, Runtime};
use dichroic_receiver_otlp::Service;

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
    let body = request_of(pairs, vec![gauge("g", vec![int(1)])]).encode_to_vec();
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

#[test]
fn two_programs_with_one_instance_id_do_not_replace_each_other_constantly() {
    let identity = [("service.name", "a"), ("service.instance.id", "i")];
    let with_pid = |pid| [identity[0], identity[1], ("process.pid", pid)];
    let mut world = World::new();
    let first = send(&mut world, &with_pid("1"));
    let restarted = send(&mut world, &with_pid("2"));
    assert_ne!(first, restarted, "a restart is detected at once");
    assert_eq!(send(&mut world, &with_pid("1")), restarted);
    world.now += 11 * SECOND;
    assert_ne!(send(&mut world, &with_pid("1")), restarted);
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
