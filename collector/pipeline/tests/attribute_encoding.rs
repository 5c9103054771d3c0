//! Attributes of a series are decoded without loss, whether they are encoded by its labels or packed.

use dichroic_model::{
    AttributeValue, Attributes, Factor, Identity, Limits, MetricKind, NameStyle, Protocol, Scope, SeriesDef,
    SourceSpec, Temporality,
};
use dichroic_pipeline::Core;
use proptest::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;

fn value() -> impl Strategy<Value = AttributeValue<'static>> {
    prop_oneof![
        Just(AttributeValue::Null),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<i64>().prop_map(AttributeValue::Int),
        any::<f64>().prop_map(AttributeValue::Float),
        Just(AttributeValue::Float(f64::NAN)),
        Just(AttributeValue::Float(-0.0)),
        "[a\"\\\\\n,=ü]{0,6}".prop_map(|text| AttributeValue::Str(text.into())),
    ]
}

fn spec(honor_labels: bool) -> SourceSpec {
    SourceSpec {
        name: "t".into(),
        job: "a\"b,
c=\\"
            .into(),
        instance: "i".into(),
        labels: Attributes::of(&[("env", "dev")]),
        honor_labels,
        ..SourceSpec::new(Protocol::Prometheus, "")
    }
}

proptest! {
    #[test]
    fn attributes_are_decoded_without_loss(
        honor_labels in any::<bool>(),
        sets in proptest::collection::vec(
            proptest::collection::vec(
                (proptest::sample::select(vec!["a.b", "a_b", "a", "job", "env", "1", "ü", "zone"]), value()),
                0..6,
            ),
            1..6,
        ),
    ) {
        let mut store = Core::new(Limits::default(), Arc::new(Identity), 1);
        let source = store.open_source(spec(honor_labels), 1).unwrap();
        let fingerprinter = store.fingerprinter(source.id);
        for (at, set) in sets.iter().enumerate() {
            let pairs = || -> Vec<(Cow<'_, str>, AttributeValue<'_>)> {
                set.iter().map(|(name, value)| (Cow::Borrowed(*name), value.clone())).collect()
            };
            let series = store.define(fingerprinter.of(&at.to_le_bytes()), SeriesDef {
                source: source.id,
                scope: &Scope::default(),
                name: "m",
                style: NameStyle::OpenTelemetry,
                unit: "",
                help: "",
                kind: MetricKind::Gauge,
                temporality: Temporality::Cumulative,
                factor: Factor::ONE,
                attributes: pairs(),
                start: 0,
                bounds: None,
            }).unwrap();
            let given = Attributes::pack(&mut pairs());
            let meta = store.meta(series).unwrap();
            prop_assert_eq!(&*meta.attributes(), &given, "{}", meta.labels());
            let shown = |pairs: Vec<(&str, AttributeValue<'_>)>| format!("{pairs:?}");
            prop_assert_eq!(shown(meta.pairs().collect()), shown(given.iter().collect()));
        }
    }
}
