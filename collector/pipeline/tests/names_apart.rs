//! Series whose labels are equal only because different attribute names have one valid form.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Attributes, Expiry, Number, Scope, SourceSpec};
use dichroic_pipeline::{Core, Times};

type Pairs = &'static [(&'static str, &'static str)];

/// One series: attributes of its resource, its scope and its points.
#[derive(Clone, Copy, Default)]
struct Input {
    resource: Pairs,
    scope: Pairs,
    point: Pairs,
}

/// The page of these series, each with its position as value; the same for every order of arrival.
fn page(def: Def<'static>, inputs: &[Input]) -> Vec<String> {
    let arrived = |order: &mut dyn Iterator<Item = usize>| {
        let mut store = store(|_| {});
        for at in order {
            arrive(&mut store, def, inputs[at], at as i64);
        }
        sorted(&mut store)
    };
    let page = arrived(&mut (0..inputs.len()));
    for first in 0..inputs.len() {
        let turned = |at: usize| (at + first) % inputs.len();
        assert_eq!(arrived(&mut (0..inputs.len()).map(turned)), page);
        assert_eq!(arrived(&mut (0..inputs.len()).rev().map(turned)), page);
    }
    page
}

fn arrive(store: &mut Core, def: Def<'_>, input: Input, value: i64) {
    let resource = Attributes::of(input.resource);
    let key = format!("{:?}", input.resource);
    let spec = SourceSpec {
        resource,
        ..spec(&key, Expiry::AfterIdle(300 * dichroic_model::SECOND))
    };
    let source = store.open_source(spec, NOW).unwrap();
    let scope = Scope {
        attributes: Attributes::of(input.scope),
        ..Scope::default()
    };
    let series = define_in_scope_with(store, &source, &scope, def, input.point);
    store
        .set_number(series, Number::int(value), Times::at(NOW))
        .unwrap();
}

fn points(point: Pairs) -> Input {
    Input {
        point,
        ..Input::default()
    }
}

fn scoped(scope: Pairs, point: Pairs) -> Input {
    Input {
        scope,
        point,
        ..Input::default()
    }
}

fn of(resource: Pairs, point: Pairs) -> Input {
    Input {
        resource,
        point,
        ..Input::default()
    }
}

#[test]
fn an_attribute_of_a_point_does_not_look_like_one_of_a_scope() {
    let inputs = [
        scoped(&[("x", "1")], &[]),
        scoped(&[], &[]),
        scoped(&[], &[("otel.scope.x", "1")]),
    ];
    let expected = [
        "m{exported_otel_scope_x=\"1\"} 2",
        "m{otel_scope_x=\"1\"} 0",
        "m{} 1",
    ];
    for def in [COUNTER, GAUGE] {
        assert_eq!(page(def, &inputs), expected);
    }
}

#[test]
fn an_attribute_of_a_point_does_not_look_like_one_of_a_resource() {
    let inputs = [
        of(&[("host.name", "h")], &[]),
        of(&[("os", "linux")], &[]),
        of(&[("os", "linux")], &[("host.name", "h")]),
    ];
    let expected = ["m{exported_host_name=\"h\"} 2", "m{host_name=\"h\"} 0", "m{} 1"];
    for def in [COUNTER, GAUGE] {
        assert_eq!(page(def, &inputs), expected);
    }
}

#[test]
fn attributes_of_scopes_with_one_valid_name_stay_apart() {
    let inputs = [
        scoped(&[("a.b", "1")], &[]),
        scoped(&[("a_b", "1")], &[]),
        scoped(&[("a-b", "1")], &[]),
        scoped(&[("a.b", "2")], &[]),
    ];
    let expected = [
        "m{U__otel__scope__a_2d_b=\"1\"} 2",
        "m{U__otel__scope__a_2e_b=\"1\"} 0",
        "m{U__otel__scope__a_2e_b=\"2\"} 3",
        "m{otel_scope_a_b=\"1\"} 1",
    ];
    for def in [COUNTER, GAUGE] {
        assert_eq!(page(def, &inputs), expected);
    }
}

#[test]
fn attributes_of_resources_with_one_valid_name_stay_apart() {
    let inputs = [
        of(&[("a.b", "1")], &[]),
        of(&[("a_b", "1")], &[]),
        of(&[("a_b", "2")], &[]),
    ];
    let expected = ["m{U__a_2e_b=\"1\"} 0", "m{a_b=\"1\"} 1", "m{a_b=\"2\"} 2"];
    for def in [COUNTER, GAUGE] {
        assert_eq!(page(def, &inputs), expected);
    }
}

#[test]
fn gauges_whose_attributes_have_one_valid_name_stay_apart() {
    let inputs = [
        points(&[("a.b", "1")]),
        points(&[("a_b", "1")]),
        points(&[("a b", "1")]),
    ];
    let expected = ["m{U__a_20_b=\"1\"} 2", "m{U__a_2e_b=\"1\"} 0", "m{a_b=\"1\"} 1"];
    assert_eq!(page(GAUGE, &inputs), expected);
    let joined = [points(&[("a.b", "1"), ("a_b", "2")]), points(&[("a_b", "1;2")])];
    let expected = ["m{U__a_2e_b=\"1\",a_b=\"2\"} 0", "m{a_b=\"1;2\"} 1"];
    assert_eq!(page(GAUGE, &joined), expected);
    let digits = [points(&[("2xx", "1")]), points(&[("_2xx", "1")])];
    let expected = ["m{U___32_xx=\"1\"} 0", "m{_2xx=\"1\"} 1"];
    assert_eq!(page(GAUGE, &digits), expected);
}

#[test]
fn counters_whose_attributes_have_one_valid_name_are_added_up() {
    let inputs = [
        points(&[("c", "1")]),
        points(&[("a.b", "1")]),
        points(&[("a_b", "1")]),
    ];
    assert_eq!(page(COUNTER, &inputs), ["m{a_b=\"1\"} 3", "m{c=\"1\"} 0"]);
}

#[test]
fn a_renamed_attribute_does_not_look_like_another_one() {
    let inputs = [
        of(&[("host.name", "h")], &[("host_name", "1")]),
        of(&[("host.name", "h")], &[("exported_host_name", "1")]),
        of(&[("host.name", "g")], &[("host_name", "1")]),
        of(&[("host.name", "g")], &[]),
        of(&[("host.name", "h")], &[]),
    ];
    let expected = [
        "m{host_name=\"g\",exported_exported_host_name=\"1\"} 2",
        "m{host_name=\"g\"} 3",
        "m{host_name=\"h\",exported_exported_host_name=\"1\"} 0",
        "m{host_name=\"h\",exported_host_name=\"1\"} 1",
        "m{host_name=\"h\"} 4",
    ];
    assert_eq!(page(GAUGE, &inputs), expected);
}
