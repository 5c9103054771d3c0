//! What a node emits and nothing subscribes to. Called by `dichroic lint NODE`, with what `discover` heard on the node.

use super::{Finding, Level};
use dichroic_beam_attach::discover::Discovery;
use dichroic_model::Pattern;
use std::collections::BTreeSet;

/// A pack's name, and patterns of the events that it knows.
pub type Known = (String, Vec<Pattern>);

/// One finding for each event that fired without a handler of a relay; or one for all, when no relay is there.
pub fn findings(found: &Discovery, packs: &[Known]) -> Vec<Finding> {
    let Some(live) = &found.live else {
        return Vec::new();
    };
    let finding = |level, subject: &str, message: String| Finding {
        level,
        check: "unsubscribed",
        subject: subject.to_owned(),
        source: found.node.clone(),
        message,
    };
    let subscribed: BTreeSet<&str> = found.subscribed.iter().map(String::as_str).collect();
    let fired: u64 = live.counts.iter().map(|(_, count)| count).sum();
    if subscribed.is_empty() {
        let message = format!(
            "no relay subscribes to anything, and {fired} events fired in {:.0} s: attach to it with dichroic attach {}, or make dichroic a dependency",
            live.time.as_secs_f64(),
            found.node
        );
        return Vec::from_iter((fired > 0).then(|| finding(Level::Warning, &found.node, message)));
    }
    let pack_of = |event: &str| {
        let knows = |(_, patterns): &&Known| patterns.iter().any(|pattern| pattern.matches(event));
        packs.iter().find(knows).map(|(name, _)| name.as_str())
    };
    let in_use: BTreeSet<&str> = subscribed.iter().filter_map(|event| pack_of(event)).collect();
    let counted = live.counts.iter().map(|(event, count)| (event, Some(*count)));
    let others = live.others.iter().flatten().map(|event| (event, None));
    let mut heard: Vec<_> = counted.chain(others).collect();
    heard.sort();
    let ends: BTreeSet<&str> = heard
        .iter()
        .map(|(event, _)| event.as_str())
        .chain(subscribed.iter().copied())
        .collect();
    heard
        .iter()
        .filter(|(event, _)| !subscribed.contains(event.as_str()) && !is_begun(event, &ends))
        .map(|&(event, count)| {
            let often = match count {
                Some(1) => format!("fired once in {:.0} s", live.time.as_secs_f64()),
                Some(count) => format!("fired {count} times in {:.0} s", live.time.as_secs_f64()),
                None => "fires".to_owned(),
            };
            match pack_of(event) {
                Some(pack) if !in_use.contains(pack) => finding(
                    Level::Warning,
                    event,
                    format!("{often} and nothing subscribes to it: pack {pack} knows it and is not in use; add it to metrics.packs"),
                ),
                Some(pack) => finding(
                    Level::Note,
                    event,
                    format!("{often} and nothing subscribes to it: pack {pack} makes no metric of it; metrics.definitions can"),
                ),
                None => finding(
                    Level::Note,
                    event,
                    format!("{often} and nothing subscribes to it: no pack knows it; metrics.definitions can make a metric of it"),
                ),
            }
        })
        .collect()
}

/// The start of a span whose end is subscribed to, or found, says nothing more.
fn is_begun(event: &str, ends: &BTreeSet<&str>) -> bool {
    event
        .strip_suffix(".start")
        .is_some_and(|span| ends.contains(format!("{span}.stop").as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_beam_attach::discover::Live;
    use std::time::Duration;

    fn heard(
        subscribed: &[&str],
        counts: &[(&str, u64)],
        others: Option<&[&str]>,
    ) -> Vec<(Level, String, String)> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let found = Discovery {
            node: "shop@host".to_owned(),
            subscribed: owned(subscribed),
            live: Some(Live {
                time: Duration::from_secs(10),
                counts: counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
                others: others.map(owned),
                late: Vec::new(),
            }),
            ..Discovery::default()
        };
        let packs = [("oban", "oban.**"), ("phoenix", "phoenix.**")]
            .map(|(name, pattern)| (name.to_owned(), vec![Pattern::new(pattern).unwrap()]));
        findings(&found, &packs)
            .into_iter()
            .map(|finding| (finding.level, finding.subject, finding.message))
            .collect()
    }

    fn check(heard: &[(Level, String, String)], expected: &[(Level, &str, &str)]) {
        assert_eq!(heard.len(), expected.len(), "{heard:?}");
        for ((level, subject, message), (level_, subject_, words_)) in heard.iter().zip(expected) {
            assert_eq!((level, subject.as_str()), (level_, *subject_));
            assert!(message.contains(words_), "{message}");
        }
    }

    #[test]
    fn what_fires_and_is_subscribed_to_is_no_finding() {
        check(&heard(&["phoenix.a.stop"], &[("phoenix.a.stop", 5)], None), &[]);
    }

    #[test]
    fn the_start_of_a_span_whose_end_is_subscribed_to_is_no_finding() {
        let subscribed = ["phoenix.a.stop"];
        check(&heard(&subscribed, &[("phoenix.a.start", 5)], None), &[]);
        let both = heard(
            &subscribed,
            &[("phoenix.b.start", 5), ("phoenix.b.stop", 5)],
            None,
        );
        check(
            &both,
            &[(Level::Note, "phoenix.b.stop", "pack phoenix makes no metric")],
        );
        let lonely = heard(&subscribed, &[("phoenix.b.start", 5)], None);
        check(
            &lonely,
            &[(Level::Note, "phoenix.b.start", "pack phoenix makes no metric")],
        );
    }

    #[test]
    fn a_library_whose_pack_is_not_in_use_is_a_warning() {
        let found = heard(&["phoenix.a.stop"], &[("oban.job.stop", 7)], None);
        check(
            &found,
            &[(
                Level::Warning,
                "oban.job.stop",
                "7 times in 10 s and nothing subscribes to it: pack oban knows it",
            )],
        );
    }

    #[test]
    fn what_no_pack_knows_is_a_note() {
        let found = heard(&["phoenix.a.stop"], &[("shop.sale", 1)], Some(&["made.up"]));
        check(
            &found,
            &[
                (Level::Note, "made.up", "fires and nothing subscribes to it"),
                (Level::Note, "shop.sale", "fired once in 10 s"),
            ],
        );
    }

    #[test]
    fn a_node_without_a_relay_is_one_finding() {
        check(&heard(&[], &[], None), &[]);
        let found = heard(&[], &[("a.b", 2), ("c.d", 3)], None);
        check(
            &found,
            &[(
                Level::Warning,
                "shop@host",
                "5 events fired in 10 s: attach to it",
            )],
        );
    }
}
