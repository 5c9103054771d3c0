//! All findings about a snapshot, and those about the collector as a whole.

use super::attachments::of_attachment;
use super::drops::of_drops;
use super::finding::{Finding, Level};
use super::inputs::Inputs;
use super::seen::Seen;
use super::targets::of_target;
use dichroic_packs::compile::application_name;
use std::collections::BTreeSet;

impl Seen {
    /// All findings: warnings first, then by check and subject.
    pub fn findings(&self, inputs: &Inputs<'_>) -> Vec<Finding> {
        let mut found = BTreeSet::new();
        for ((name, source), family) in &self.families {
            for (level, check, message) in family.problems(name) {
                found.insert(Finding {
                    level,
                    check,
                    subject: name.clone(),
                    source: source.clone(),
                    message,
                    details: Vec::new(),
                });
            }
        }
        for (page, lists) in &self.lists {
            found.extend(lists.problem().map(|(level, check, message)| Finding {
                level,
                check,
                subject: page.clone(),
                source: String::new(),
                message,
                details: Vec::new(),
            }));
        }
        for (relay, service) in inputs.relays {
            self.of_relay(inputs, relay, service, &mut found);
        }
        for target in inputs.targets {
            found.extend(of_target(target));
        }
        found.extend(inputs.attachments.iter().filter_map(of_attachment));
        found.extend(inputs.drops.iter().filter_map(of_drops));
        totals(inputs, &mut found);
        found.into_iter().collect()
    }
}

/// Findings about the collector as a whole.
fn totals(inputs: &Inputs<'_>, found: &mut BTreeSet<Finding>) {
    let mut add = |level, check, subject: &str, message: String| {
        found.insert(Finding {
            level,
            check,
            subject: subject.to_owned(),
            source: String::new(),
            message,
            details: Vec::new(),
        });
    };
    if inputs.relays.is_empty() {
        return;
    }
    let events: BTreeSet<String> = inputs
        .relays
        .iter()
        .flat_map(|(relay, service)| {
            let app = application_name(service);
            inputs.config.selection.compile(&app, &relay.variables).streams
        })
        .map(|stream| stream.name())
        .collect();
    for pattern in inputs
        .config
        .retain
        .iter()
        .filter(|p| !events.iter().any(|event| p.matches(event)))
    {
        let message = "pattern of exporters.stream.retain that matches no event of a pack or a definition; correct it, or define the event".to_owned();
        add(
            Level::Warning,
            "retain_matches_nothing",
            &pattern.to_string(),
            message,
        );
    }
}
