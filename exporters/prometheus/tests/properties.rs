//! For any content of the store, both pages are valid, have unique samples, and agree.

mod common;

use common::arbitrary::{apply, filled, series};
use common::{Kit, reader};
use dichroic_exporter_prometheus::{Format, Renderer};
use dichroic_model::Protocol;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_any_series_are_valid_and_agree(all in prop::collection::vec(series(), 0..40)) {
        let mut kit = filled(&all);
        let (text, open) = (kit.page(Format::Text), kit.page(Format::OpenMetrics));
        let text = reader::read(&text, false).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        let open = reader::read(&open, true).map_err(|e| TestCaseError::fail(format!("{e}\n{open}")))?;
        for (key, value) in &open {
            match text.get(key) {
                Some(other) => prop_assert_eq!(value, other, "{:?}", key),
                None => prop_assert!(key.0.ends_with("_created"), "only in OpenMetrics: {:?}", key),
            }
        }
    }

    #[test]
    fn the_size_of_chunks_does_not_change_the_page(all in prop::collection::vec(series(), 1..30), size in 1..7usize) {
        let mut kit = Kit::default();
        let source = kit.source(Protocol::Otlp, "j", "i", &[]);
        all.iter().for_each(|series| apply(&mut kit, &source, series));
        let whole = kit.page(Format::OpenMetrics);
        let rows: Vec<_> = kit.chunks().concat();
        let mut renderer = Renderer::new(Format::OpenMetrics, Default::default());
        rows.chunks(size).for_each(|rows| renderer.chunk(rows));
        let chunked = renderer.finish(&kit.sources());
        prop_assert_eq!(std::str::from_utf8(chunked).unwrap(), whole.as_str());
    }
}
