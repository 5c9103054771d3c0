//! A model of a slow subscriber: received and lost rows are the published ones. `sync` states how to run it.
#![cfg(loom)]

mod common;

use common::{NOW, source, store};
use dichroic_model::{Batch, EventKind, Pattern};
use dichroic_pipeline::{StreamItem, StreamRequest};
use loom::future::block_on;
use loom::thread;

#[test]
fn received_and_lost_rows_are_the_published_ones() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let mut store = store(|limits| limits.subscriber_batches = 1);
        let source = source(&mut store, "s");
        let schema = store
            .schema(EventKind::Event, "a", Vec::new(), Vec::new())
            .unwrap();
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new("a").unwrap()],
            replay_from: None,
            resume_from: None,
        };
        let subscription = store.subscribe(request, NOW).unwrap();
        let reading = thread::spawn(move || {
            let (mut accounted, mut next) = (0, 0);
            while let Some(item) = block_on(subscription.items.recv()) {
                let StreamItem::Batch(batch) = item else { continue };
                assert!(batch.position >= next, "in order");
                let missing = batch.position - next;
                next = batch.position + u64::from(batch.rows);
                accounted += u64::from(batch.rows) + subscription.take_lost();
                assert!(accounted >= next, "{missing} lost rows were not reported");
            }
            accounted + subscription.take_lost()
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
