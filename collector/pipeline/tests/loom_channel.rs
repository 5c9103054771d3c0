//! Models of the channel: every item is received once or returned, in order; no wake-up is lost; a close is seen after all items
//! sent before it. `sync` states how to run them.
#![cfg(loom)]

use dichroic_pipeline::channel::{TrySendError, channel};
use loom::future::block_on;
use loom::thread;
use std::task::Poll;

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn every_item_is_received_once_or_returned_before_the_close() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            let mut back = Vec::new();
            for item in 0..3 {
                match sender.try_send(item) {
                    Ok(()) => {}
                    Err(TrySendError::Full(item)) => back.push(item),
                    Err(TrySendError::Closed(_)) => unreachable!("the receiver is open"),
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
fn a_waiting_sender_is_woken_when_there_is_room() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            for item in 0..3 {
                let mut item = Some(item);
                block_on(std::future::poll_fn(|cx| {
                    sender.register(cx.waker());
                    match sender.try_send(item.take().unwrap()) {
                        Ok(()) => Poll::Ready(()),
                        Err(TrySendError::Full(back)) => {
                            item = Some(back);
                            Poll::Pending
                        }
                        Err(TrySendError::Closed(_)) => unreachable!("the receiver is open"),
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
fn a_waiting_sender_is_woken_when_the_receiver_is_dropped() {
    model(|| {
        let (sender, receiver) = channel(1);
        assert!(sender.try_send(0).is_ok());
        let receiving = thread::spawn(move || drop(receiver));
        block_on(std::future::poll_fn(|cx| {
            sender.register(cx.waker());
            match sender.try_send(1) {
                Err(TrySendError::Closed(1)) => Poll::Ready(()),
                Err(TrySendError::Full(1)) => Poll::Pending,
                other => unreachable!("{other:?}"),
            }
        }));
        receiving.join().unwrap();
    });
}

#[test]
fn an_item_is_either_replaced_or_received() {
    model(|| {
        let (sender, receiver) = channel(1);
        let sending = thread::spawn(move || {
            let mut replaced = Vec::new();
            for item in 0..3 {
                let mut item = item;
                while let Err(TrySendError::Full(back)) = sender.try_send(item) {
                    item = back;
                    replaced.extend(sender.pop_oldest());
                }
            }
            replaced
        });
        let mut all = Vec::new();
        while let Some(item) = block_on(receiver.recv()) {
            all.push(item);
        }
        assert_eq!(all.last(), Some(&2), "the newest is received");
        all.extend(sending.join().unwrap());
        all.sort();
        assert_eq!(all, [0, 1, 2]);
    });
}
