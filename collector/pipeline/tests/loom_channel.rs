//! Models of the lane: every item is received once or given back, in order; nobody sleeps through what it waits for; a close is seen after
//! what was sent before it. Run as `sync` says.
#![cfg(loom)]

use dichroic_pipeline::channel::{TrySend, channel};
use loom::future::block_on;
use loom::thread;
use std::task::Poll;

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn every_item_is_received_once_or_returned_and_the_close_comes_last() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            let mut back = Vec::new();
            for item in 0..3 {
                match sender.try_send(item) {
                    Ok(()) => {}
                    Err(TrySend::Full(item)) => back.push(item),
                    Err(TrySend::Closed(_)) => unreachable!("the receiver lives"),
                }
            }
            sender.finish();
            back
        });
        let mut all = Vec::new();
        while let Some(item) = block_on(receiver.recv()) {
            assert!(all.last().is_none_or(|last| *last < item), "in order");
            all.push(item);
        }
        assert!(receiver.is_finished());
        all.extend(sending.join().unwrap());
        all.sort();
        assert_eq!(all, [0, 1, 2]);
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_it() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            for item in 0..3 {
                let mut item = Some(item);
                block_on(std::future::poll_fn(|cx| {
                    sender.register(cx.waker());
                    match sender.try_send(item.take().unwrap()) {
                        Ok(()) => Poll::Ready(()),
                        Err(TrySend::Full(back)) => {
                            item = Some(back);
                            Poll::Pending
                        }
                        Err(TrySend::Closed(_)) => unreachable!("the receiver lives"),
                    }
                }));
            }
        });
        let mut all = Vec::new();
        while let Some(item) = block_on(receiver.recv()) {
            all.push(item);
        }
        sending.join().unwrap();
        assert_eq!(all, [0, 1, 2]);
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_when_the_receiver_is_dropped() {
    model(|| {
        let (sender, receiver) = channel(1);
        assert!(sender.try_send(0).is_ok());
        let receiving = thread::spawn(move || drop(receiver));
        block_on(std::future::poll_fn(|cx| {
            sender.register(cx.waker());
            match sender.try_send(1) {
                Err(TrySend::Closed(1)) => Poll::Ready(()),
                Err(TrySend::Full(1)) => Poll::Pending,
                other => unreachable!("{other:?}"),
            }
        }));
        receiving.join().unwrap();
    });
}

#[test]
fn the_oldest_is_displaced_or_received_never_both() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            let mut displaced = Vec::new();
            for item in 0..3 {
                let mut item = item;
                while let Err(TrySend::Full(back)) = sender.try_send(item) {
                    item = back;
                    displaced.extend(sender.pop_oldest());
                }
            }
            displaced
        });
        let mut all = Vec::new();
        while let Some(item) = block_on(receiver.recv()) {
            all.push(item);
        }
        assert_eq!(all.last(), Some(&2), "the newest stays");
        all.extend(sending.join().unwrap());
        all.sort();
        assert_eq!(all, [0, 1, 2]);
    });
}
