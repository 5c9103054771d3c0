//! Models of the inbox: no wake-up is lost, and no caller waits for a dropped core. `sync` states how to run them.
#![cfg(loom)]

mod common;

use common::store;
use dichroic_pipeline::{inbox, serve};
use loom::future::block_on;
use loom::thread;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

#[test]
fn every_call_is_answered_in_every_interleaving() {
    model(2, || {
        let (handle, inbox) = inbox();
        let answered = Arc::new(AtomicUsize::new(0));
        let calling: Vec<_> = (0..2)
            .map(|_| {
                let (handle, answered) = (handle.clone(), answered.clone());
                thread::spawn(move || {
                    // Not loom's type: it only ends the loop below, which runs on the same thread.
                    let result = block_on(handle.call(move |_| answered.fetch_add(1, Ordering::Relaxed)));
                    assert!(result.is_ok());
                })
            })
            .collect();
        let mut serving = pin!(serve(Rc::new(RefCell::new(store(|_| {}))), inbox));
        block_on(std::future::poll_fn(|cx| {
            assert!(serving.as_mut().poll(cx).is_pending());
            if answered.load(Ordering::Relaxed) == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        calling.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_call_to_a_core_being_dropped_is_answered_or_refused() {
    model(3, || {
        let (handle, inbox) = inbox();
        let calling = thread::spawn(move || block_on(handle.call(|_| ())));
        let mut serving = Box::pin(serve(Rc::new(RefCell::new(store(|_| {}))), inbox));
        let polled = Cell::new(false);
        block_on(std::future::poll_fn(|cx| {
            if !polled.replace(true) {
                assert!(serving.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(())
        }));
        drop(serving);
        // The thread ends in either case: a call without a result would be a deadlock of the model.
        let _ = calling.join().unwrap();
    });
}
