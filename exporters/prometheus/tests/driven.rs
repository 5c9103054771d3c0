//! Pages through the handle, as the server requests them.

mod common;

use common::{Kit, everything, reader};
use dichroic_exporter_prometheus::{Format, page, page::HOP};
use dichroic_pipeline::{inbox, serve};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Runs `test` beside an ingest thread's loop over `kit`'s store.
fn beside<T>(kit: Kit, test: impl AsyncFnOnce(dichroic_pipeline::Handle) -> T) -> T {
    let (handle, inbox) = inbox();
    let store = Rc::new(RefCell::new(kit.store));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            () = serve(store, inbox) => unreachable!("serves for ever"),
            answer = test(handle) => answer,
        }
    })
}

#[test]
fn a_page_through_the_handle_equals_the_rendered_one_and_its_account_balances() {
    let expected = everything().page(Format::OpenMetrics);
    beside(everything(), async |handle| {
        let got = page(&handle, Format::OpenMetrics, false).await.unwrap();
        assert_eq!(std::str::from_utf8(&got).unwrap(), expected);
        let ledger = handle.ledger().await.unwrap();
        let (_, hop) = ledger.hops().find(|(name, _)| *name == HOP).unwrap();
        let (offered, sent, dropped, queued) = hop.read();
        assert_eq!((offered, queued), (sent + dropped, 0));
        assert_eq!(dropped, 1, "the counter that is not a number");
    });
}

#[test]
fn a_compressed_page_inflates_to_the_same_twice_in_a_row() {
    let expected = everything().page(Format::Text);
    beside(everything(), async |handle| {
        for _ in 0..2 {
            let got = page(&handle, Format::Text, true).await.unwrap();
            assert!(got.len() < expected.len() / 2);
            let mut out = vec![0; expected.len()];
            let size = libdeflater::Decompressor::new()
                .gzip_decompress(&got, &mut out)
                .unwrap();
            assert_eq!(std::str::from_utf8(&out[..size]).unwrap(), expected);
            reader::read(&expected, false).unwrap();
        }
    });
}

#[test]
fn an_abandoned_page_leaves_nothing_queued() {
    beside(everything(), async |handle| {
        let mut page = Box::pin(page(&handle, Format::Text, false));
        // As many polls as it takes to have rows in hand.
        for _ in 0..3 {
            std::future::poll_fn(|cx| {
                let _ = page.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        drop(page);
        let ledger = handle.ledger().await.unwrap();
        let (_, hop) = ledger.hops().find(|(name, _)| *name == HOP).unwrap();
        let (offered, sent, dropped, queued) = hop.read();
        assert_eq!((offered, queued), (sent + dropped, 0));
    });
}
