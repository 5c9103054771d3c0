//! Models of the budget: its limit is never exceeded, a refusal changes nothing, and everything is returned. `sync` states how to run
//! them.
#![cfg(loom)]

use dichroic_pipeline::budget::{Budget, Part};
use loom::thread;

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn the_limit_holds_in_every_interleaving() {
    model(|| {
        let budget = Budget::new(8);
        let threads: Vec<_> = [(Part::OtlpBodies, 3), (Part::OtlpBodies, 2), (Part::Pages, 6)]
            .map(|(part, bytes)| {
                let budget = budget.clone();
                thread::spawn(move || {
                    let reservation = budget.try_reserve(part, bytes);
                    assert!(budget.used() <= 8);
                    drop(reservation);
                })
            })
            .into();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.used(), 0);
        for part in Part::ALL {
            assert_eq!(budget.usage(part).used, 0);
        }
    });
}

#[test]
fn two_that_do_not_fit_together_are_never_both_admitted() {
    model(|| {
        let budget = Budget::new(8);
        let other = budget.clone();
        let first = thread::spawn(move || other.try_reserve(Part::Subscribers, 3));
        let second = budget.try_reserve(Part::Subscribers, 2);
        let first = first.join().unwrap();
        assert!(first.is_none() || second.is_none());
        assert!(first.is_some() || second.is_some());
        let bytes = [&first, &second].map(|held| held.as_ref().map_or(0, |held| held.bytes()));
        assert_eq!(budget.usage(Part::Subscribers).used, bytes[0] + bytes[1]);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    });
}
