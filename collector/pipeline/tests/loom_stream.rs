//! A model of a slow subscriber: what it received and what it was told to be lost is what was published. Run as `sync` says.
#![cfg(loom)]

mod common;

use common::{NOW, source, store};
use dichroic_model::{Batch, EventKind, Pattern};
use dichroic_pipeline::{StreamItem, StreamRequest};
use loom::future::block_on;
use loom::thread;

#[test]
fn delivered_and_lost_are_what_was_published() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let mut store = store(|limits| limits.subscriber_batches = 1);
        let source = source(&mut store, "s");
        let schema = store
            .schema(EventKind::Event, "a", Vec::new(), Vec::new())
            .unwrap();
        let wanted = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new("a").unwrap()],
            replay_from: None,
            resume_from: None,
        };
        let subscription = store.subscribe(wanted).unwrap();
        let reading = thread::spawn(move || {
            let (mut delivered, mut next) = (0, 0);
            while let Some(item) = block_on(subscription.items.recv()) {
                let StreamItem::Batch(batch) = item else { continue };
                assert!(batch.position >= next, "in order");
                let missing = batch.position - next;
                next = batch.position + u64::from(batch.rows);
                delivered += u64::from(batch.rows) + subscription.take_lost();
                assert!(delivered >= next, "{missing} rows before this were not told");
            }
            delivered + subscription.take_lost()
        });
        for rows in 1..4 {
            let position = store.next_position(EventKind::Event);
            let (schema, source) = (schema.clone(), source.clone());
            let body = Vec::new().into();
            store.publish(Batch {
                schema,
                source,
                position,
                rows,
                received: NOW,
                body,
            });
        }
        drop(store);
        assert_eq!(reading.join().unwrap(), 1 + 2 + 3);
    });
}
