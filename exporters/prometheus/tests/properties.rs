//! For any content of the store, both pages are valid, have unique samples, and agree.

mod common;

use common::arbitrary::{apply, filled, series};
use common::{Def, Kit, NOW, reader};
use dichroic_exporter_prometheus::{Format, Renderer};
use dichroic_model::{MetricKind, Protocol};
use dichroic_pipeline::{Buckets, ExponentialPoint, HistogramPoint, Times};
use proptest::prelude::*;

#[test]
fn counts_near_the_largest_integer_saturate() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "j", "i", &[]);
    let explicit = Def {
        bounds: Some(&[1.0, 2.0]),
        ..Def::otel("explicit", "", MetricKind::Histogram)
    };
    let series = kit.series(&source, &explicit, &[]);
    let counts = &[u64::MAX - 1, 3, 4];
    let point = HistogramPoint {
        counts,
        sum: None,
        min_max: None,
    };
    kit.store.set_histogram(series, &point, Times::at(NOW)).unwrap();
    let exponential = Def::otel("exponential", "s", MetricKind::ExponentialHistogram);
    let series = kit.series(&source, &exponential, &[]);
    // Far below and far above the bounds of the unit, so that whether these values add bounds depends on their sums.
    for offset in [-200, 0, 60] {
        let counts = &[u64::MAX, u64::MAX, 1];
        let point = ExponentialPoint {
            scale: 0,
            zero_count: u64::MAX,
            zero_threshold: 0.0,
            positive: Buckets { offset, counts },
            negative: Buckets { offset, counts },
            sum: None,
            min_max: None,
        };
        kit.store.set_exponential(series, &point, Times::at(NOW)).unwrap();
        for (format, openmetrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
            let page = kit.page(format);
            let samples = reader::read(&page, openmetrics).unwrap_or_else(|error| panic!("{error}\n{page}"));
            let at_infinity = samples
                .iter()
                .filter(|((_, labels), _)| labels.iter().any(|(_, le)| le == "+Inf"));
            let counts: Vec<&str> = at_infinity.map(|(_, count)| count.as_str()).collect();
            assert_eq!(counts, ["18446744073709551615"; 2], "{page}");
        }
    }
}

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
