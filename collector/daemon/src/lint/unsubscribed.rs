//! Finds events that a node emits without a subscriber. Used by `dichroic lint NODE`, with the result of a discovery.

use super::{Finding, Level};
use dichroic_beam_attach::discover::Discovery;
use dichroic_model::Pattern;
use dichroic_model::text::plural_of;
use std::collections::BTreeSet;

/// Name of a pack, and the patterns of its events.
pub type PackPatterns = (String, Vec<Pattern>);

/// A finding for each emitted event without a handler of a relay, or one finding for the node if no relay has a handler.
pub fn findings(found: &Discovery, packs: &[PackPatterns]) -> Vec<Finding> {
    let Some(live) = &found.live else {
        return Vec::new();
    };
    let finding = |level, subject: &str, message: String| Finding {
        level,
        check: "unsubscribed",
        subject: subject.to_owned(),
        source: found.node.clone(),
        message,
        details: Vec::new(),
    };
    let subscribed: BTreeSet<&str> = found.subscribed.iter().map(String::as_str).collect();
    let fired: u64 = live.counts.iter().map(|(_, count)| count).sum();
    if subscribed.is_empty() {
        let message = format!(
            "{} emitted in {:.0} s, and no relay subscribes to any; run `dichroic attach {}`, or add dichroic to the dependencies of the application",
            plural_of(fired, "event was", "events were"),
            live.time.as_secs_f64(),
            found.node
        );
        return Vec::from_iter((fired > 0).then(|| finding(Level::Warning, &found.node, message)));
    }
    let pack_of = |event: &str| {
        let covers = |(_, patterns): &&PackPatterns| patterns.iter().any(|pattern| pattern.matches(event));
        packs.iter().find(covers).map(|(name, _)| name.as_str())
    };
    let in_use: BTreeSet<&str> = subscribed.iter().filter_map(|event| pack_of(event)).collect();
    let counted = live.counts.iter().map(|(event, count)| (event, Some(*count)));
    let others = live.others.iter().flatten().map(|event| (event, None));
    let mut emitted: Vec<_> = counted.chain(others).collect();
    emitted.sort();
    let ends: BTreeSet<&str> = emitted
        .iter()
        .map(|(event, _)| event.as_str())
        .chain(subscribed.iter().copied())
        .collect();
    emitted
        .iter()
        .filter(|(event, _)| !event.starts_with("dichroic."))
        .filter(|(event, _)| !subscribed.contains(event.as_str()) && !is_start_of_span(event, &ends))
        .map(|&(event, count)| {
            let seconds = live.counted(event).as_secs_f64();
            let often = match count {
                Some(1) => format!("emitted once in {seconds:.0} s"),
                Some(count) => format!("emitted {count} times in {seconds:.0} s"),
                None => "emitted".to_owned(),
            };
            match pack_of(event) {
                Some(pack) if !in_use.contains(pack) => finding(
                    Level::Warning,
                    event,
                    format!("{often} without a subscriber: pack {pack} covers it but is not in use; add the pack to metrics.packs"),
                ),
                Some(pack) => finding(
                    Level::Note,
                    event,
                    format!("{often} without a subscriber: pack {pack} has no metric for it; add one to metrics.definitions if needed"),
                ),
                None => finding(
                    Level::Note,
                    event,
                    format!("{often} without a subscriber: no pack covers it; add a metric to metrics.definitions if needed"),
                ),
            }
        })
        .collect()
}

/// Whether the event starts a span whose end is among `ends`; then a finding about it would add nothing.
fn is_start_of_span(event: &str, ends: &BTreeSet<&str>) -> bool {
    event
        .strip_suffix(".start")
        .is_some_and(|span| ends.contains(format!("{span}.stop").as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_beam_attach::discover::Live;
    use std::time::Duration;

    fn found(
        subscribed: &[&str],
        counts: &[(&str, u64)],
        others: Option<&[&str]>,
    ) -> Vec<(Level, String, String)> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let discovery = Discovery {
            node: "shop@host".to_owned(),
            subscribed: owned(subscribed),
            live: Some(Live {
                time: Duration::from_secs(10),
                counts: counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
                others: others.map(owned),
                late: Vec::new(),
                limited: false,
            }),
            ..Discovery::default()
        };
        let packs = [("oban", "oban.**"), ("phoenix", "phoenix.**")]
            .map(|(name, pattern)| (name.to_owned(), vec![Pattern::new(pattern).unwrap()]));
        findings(&discovery, &packs)
            .into_iter()
            .map(|finding| (finding.level, finding.subject, finding.message))
            .collect()
    }

    fn check(found: &[(Level, String, String)], expected: &[(Level, &str, &str)]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((level, subject, message), (expected_level, expected_subject, part)) in
            found.iter().zip(expected)
        {
            assert_eq!((level, subject.as_str()), (expected_level, *expected_subject));
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn an_event_with_a_subscriber_is_not_reported() {
        check(&found(&["phoenix.a.stop"], &[("phoenix.a.stop", 5)], None), &[]);
    }

    #[test]
    fn the_start_of_a_span_is_reported_only_without_its_end() {
        let subscribed = ["phoenix.a.stop"];
        check(&found(&subscribed, &[("phoenix.a.start", 5)], None), &[]);
        let both = found(
            &subscribed,
            &[("phoenix.b.start", 5), ("phoenix.b.stop", 5)],
            None,
        );
        check(
            &both,
            &[(Level::Note, "phoenix.b.stop", "pack phoenix has no metric for it")],
        );
        let without_end = found(&subscribed, &[("phoenix.b.start", 5)], None);
        check(
            &without_end,
            &[(
                Level::Note,
                "phoenix.b.start",
                "pack phoenix has no metric for it",
            )],
        );
    }

    #[test]
    fn an_event_of_a_pack_that_is_not_in_use_is_a_warning() {
        let found = found(&["phoenix.a.stop"], &[("oban.job.stop", 7)], None);
        check(
            &found,
            &[(
                Level::Warning,
                "oban.job.stop",
                "emitted 7 times in 10 s without a subscriber: pack oban covers it",
            )],
        );
    }

    #[test]
    fn events_of_the_relay_itself_are_not_reported() {
        let own = [("dichroic.vm.work", 2), ("dichroic.logger.message", 9)];
        check(&found(&["phoenix.a.stop"], &own, Some(&["dichroic.other"])), &[]);
    }

    #[test]
    fn an_event_without_a_pack_is_a_note() {
        let found = found(&["phoenix.a.stop"], &[("shop.sale", 1)], Some(&["made.up"]));
        check(
            &found,
            &[
                (Level::Note, "made.up", "emitted without a subscriber"),
                (Level::Note, "shop.sale", "emitted once in 10 s"),
            ],
        );
    }

    #[test]
    fn a_node_without_a_relay_gives_one_finding() {
        check(&found(&[], &[], None), &[]);
        let found = found(&[], &[("a.b", 2), ("c.d", 3)], None);
        check(
            &found,
            &[(
                Level::Warning,
                "shop@host",
                "5 events were emitted in 10 s, and no relay subscribes to any; run `dichroic attach shop@host`",
            )],
        );
    }
}
