//! Calls through the handle from other threads return a result, or an error once the core is dropped.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_pipeline::{Busy, Handle, Inbox, SnapshotRequest, inbox, serve};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn run<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

/// Serves a store with `series` series on this thread while `reader` runs on another.
fn with_store<T: Send>(series: usize, reader: impl FnOnce(Handle) -> T + Send) -> T {
    let (handle, inbox): (Handle, Inbox) = inbox();
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    for at in 0..series {
        set(&mut store, &source, GAUGE, &[("at", &at.to_string())], 1);
    }
    let store = Rc::new(RefCell::new(store));
    thread::scope(|scope| {
        let main = thread::current();
        let reader = scope.spawn(move || {
            let result = reader(handle);
            main.unpark();
            result
        });
        let mut serving = pin!(serve(store, inbox));
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while !reader.is_finished() {
            assert!(
                serving
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
        reader.join().unwrap()
    })
}

#[test]
fn calls_run_on_the_ingest_thread() {
    let series = with_store(3, |handle| run(handle.call(|store| store.series())));
    assert_eq!(series, Ok(3));
}

#[test]
fn a_copy_is_complete_even_through_a_small_channel() {
    let rows = with_store(30_000, |handle| {
        run(async {
            let request = SnapshotRequest {
                capacity: 1,
                ..SnapshotRequest::default()
            };
            let chunks = handle.snapshot(request).unwrap();
            let mut rows = 0;
            while let Some(chunk) = chunks.recv().await {
                rows += chunk.len();
            }
            assert!(chunks.is_finished());
            rows
        })
    });
    assert_eq!(rows, 30_000);
}

#[test]
fn a_reader_may_disconnect_during_a_copy() {
    let series = with_store(30_000, |handle| {
        run(async {
            let chunks = handle
                .snapshot(SnapshotRequest {
                    capacity: 1,
                    ..SnapshotRequest::default()
                })
                .unwrap();
            chunks.recv().await.unwrap();
            drop(chunks);
            handle.call(|store| store.series()).await
        })
    });
    assert_eq!(series, Ok(30_000));
}

#[test]
fn a_full_inbox_returns_busy() {
    let (handle, _inbox) = inbox();
    let taken = (0..1_000)
        .take_while(|_| handle.snapshot(SnapshotRequest::default()).is_ok())
        .count();
    assert_eq!(taken, 256);
}

#[test]
fn no_caller_waits_for_a_core_that_was_dropped() {
    let (handle, inbox) = inbox();
    let mut waiting = pin!(handle.call(|store| store.series()));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    drop(inbox);
    assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(Err(Busy)));
    assert_eq!(run(handle.call(|store| store.series())), Err(Busy));
    assert!(handle.snapshot(SnapshotRequest::default()).is_err());
}
