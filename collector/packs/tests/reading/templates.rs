//! Templates in event names and labels.

use crate::definition;
use dichroic_packs::{Packs, Selection, Variables};

#[test]
fn a_label_can_contain_the_value_of_a_template_of_its_event() {
    let definition = |yaml: &str| definition(yaml).unwrap();
    let selection = Selection {
        definitions: vec![definition(
            "{name: a.b, type: counter, event: '${of}.request.${kind}.stop', labels: {of: '${of}', both: '${kind} of ${of}', prefix: '${prefix}'}}",
        )],
        variables: [
            (
                "of".to_owned(),
                vec!["${app}.hedging".to_owned(), "other".to_owned()],
            ),
            ("kind".to_owned(), vec!["get".to_owned()]),
        ]
        .into(),
        ..Selection::default()
    };
    let metrics = selection.compile("shop", &Variables::new()).metrics;
    let fixed: Vec<Vec<&str>> = metrics
        .iter()
        .map(|m| m.fixed.iter().map(|(_, value)| value.as_str()).collect())
        .collect();
    assert_eq!(
        fixed,
        [
            ["get of other", "other", "other.request.get"],
            ["get of shop.hedging", "shop.hedging", "shop.hedging.request.get"]
        ]
    );
}

#[test]
fn cyclic_templates_have_no_value() {
    let check = |values: &[(&str, &str)], events: &[&str]| {
        let several = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        let selection = Selection {
            definitions: vec![definition("{name: a.b, type: counter, event: '${a}.stop}'}").unwrap()],
            variables: several.collect(),
            ..Selection::default()
        };
        let metrics = selection.compile("shop", &Variables::new()).metrics;
        let found: Vec<_> = metrics.iter().map(|metric| metric.event.join(".")).collect();
        assert_eq!(found, events, "{values:?}");
    };
    check(&[("a", "${b}.x"), ("b", "${app}.y")], &["shop.y.x.stop}"]);
    check(&[("a", "${b}"), ("b", "${a}")], &[]);
    check(&[("a", "${a}")], &[]);
    check(&[("a", "${")], &[]);
    check(&[("a", "${a")], &[]);
}

#[test]
fn events_that_a_node_finds_get_the_declared_stream_unchanged() {
    let selection = Selection {
        packs: Packs::builtin().choose(&["ecto".to_owned()]).unwrap(),
        ..Selection::default()
    };
    let node = Variables::from([("ecto_prefix".to_owned(), vec!["other.repo".to_owned()])]);
    let streams = selection.compile("shop", &node).streams;
    let columns = |name: &str| {
        let stream = streams.iter().find(|stream| stream.name() == name).unwrap();
        (stream.measurements.clone(), stream.metadata.clone())
    };
    // One prefix is from the pack, the other from the node.
    assert_eq!(columns("other.repo.query"), columns("shop.repo.query"));
}
