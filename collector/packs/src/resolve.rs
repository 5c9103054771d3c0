//! Resolves series to the metrics that runtimes share, by canonical and older names in the packs.
//!
//! Called by the store once per new series, on the ingest thread. Scraped series keep name, unit and values unchanged; they are
//! recognized as shared by their name in the exposition.

use crate::compile::{Selection, Stream, Variables};
use crate::pack::{Mapped, Pack, Packs};
use dichroic_model::names::page_name;
use dichroic_model::{
    KnownEvent, KnownNames, MetricKind, NameStyle, Pattern, Query, Resolution, Resolver, units,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Resolves series by the mapped metrics of packs; any other series is [`Resolution::plain`].
pub struct PackResolver {
    generation: u64,
    mapped: HashMap<String, Mapped>,
    /// Older name → (canonical name, attributes to rename).
    older: HashMap<String, (String, Vec<(String, String)>)>,
    /// Names of mapped histograms in the exposition.
    pages: HashMap<String, String>,
    known: Arc<KnownNames>,
}

impl PackResolver {
    /// A resolver for these packs. Each resolver has a unique generation, so that the store detects a replaced resolver.
    pub fn new(packs: &Packs) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let mut resolver = PackResolver {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            mapped: HashMap::new(),
            older: HashMap::new(),
            pages: HashMap::new(),
            known: Arc::default(),
        };
        for mapped in packs.iter().flat_map(|pack| &pack.mapped) {
            let page = page_name(
                &mapped.name,
                &mapped.unit,
                MetricKind::Histogram,
                NameStyle::OpenTelemetry,
            );
            resolver.pages.insert(page.base, mapped.name.clone());
            for older in &mapped.from {
                let renames = older.rename.clone().into_iter().collect();
                resolver
                    .older
                    .insert(older.name.clone(), (mapped.name.clone(), renames));
            }
            resolver.mapped.insert(mapped.name.clone(), mapped.clone());
        }
        resolver
    }

    /// The same with the names that a selection defines.
    #[must_use]
    pub fn with_names(mut self, selection: &Selection) -> Self {
        let any = |pack: &Pack| {
            pack.variables
                .keys()
                .map(|name| (name.clone(), vec!["**".to_owned()]))
                .collect::<Variables>()
        };
        let templates = selection.packs.iter().flat_map(any).collect();
        let compiled = selection.compile("", &templates);
        let event = |stream: &Stream| {
            Some(KnownEvent {
                pattern: Pattern::new(&stream.name()).ok()?,
                columns: (stream.measurements.iter().map(|(name, ..)| name))
                    .chain(stream.metadata.iter().map(|(name, _)| name))
                    .cloned()
                    .collect(),
            })
        };
        let older = self.older.keys().chain(self.mapped.keys()).cloned();
        self.known = Arc::new(KnownNames {
            events: compiled.streams.iter().filter_map(event).collect(),
            metrics: older
                .chain(compiled.metrics.iter().map(|metric| metric.name.clone()))
                .collect(),
        });
        self
    }

    /// A resolver for the built-in packs.
    pub fn builtin() -> Self {
        PackResolver::new(&Packs::builtin())
    }

    fn shared(&self, query: &Query<'_>) -> Option<Resolution> {
        let def = query.def;
        let plain = Resolution::plain(query);
        if def.style != NameStyle::OpenTelemetry {
            return self.pages.contains_key(def.name).then_some(Resolution {
                mapped: true,
                ..plain
            });
        }
        let (name, rename) = match self.older.get(def.name) {
            Some((name, rename)) => (name.as_str(), rename.clone()),
            None => (def.name, Vec::new()),
        };
        let mapped = self.mapped.get(name)?;
        // A unit that does not convert belongs to another metric of the same name.
        let factor = units::conversion(def.unit, &mapped.unit)?;
        let help = if def.help.is_empty() {
            &mapped.help
        } else {
            def.help
        };
        Some(Resolution {
            name: mapped.name.clone(),
            unit: mapped.unit.clone(),
            factor,
            help: help.to_owned(),
            mapped: true,
            rename,
        })
    }
}

impl Resolver for PackResolver {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn known(&self) -> Arc<KnownNames> {
        self.known.clone()
    }

    fn resolve(&self, query: &Query<'_>) -> Resolution {
        let histogram = matches!(
            query.def.kind,
            MetricKind::Histogram | MetricKind::ExponentialHistogram | MetricKind::Summary
        );
        match self.shared(query).filter(|_| histogram) {
            Some(resolution) => resolution,
            None => Resolution::plain(query),
        }
    }
}
