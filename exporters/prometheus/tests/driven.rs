//! Pages requested through the handle, as by the server.

mod common;

use common::{Kit, fixtures::everything, reader};
use dichroic_exporter_prometheus::{Format, page, page::HOP};
use dichroic_pipeline::{inbox, serve};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Runs `test` concurrently with an ingest loop over `kit`'s store.
fn with_store<T>(kit: Kit, test: impl AsyncFnOnce(dichroic_pipeline::Handle) -> T) -> T {
    let (handle, inbox) = inbox();
    let store = Rc::new(RefCell::new(kit.store));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            () = serve(store, inbox) => unreachable!("serve does not return"),
            result = test(handle) => result,
        }
    })
}

#[test]
fn a_page_from_the_handle_equals_the_rendered_one_and_its_account_balances() {
    let expected = everything().page(Format::OpenMetrics);
    with_store(everything(), async |handle| {
        let got = page(&handle, Format::OpenMetrics, false).await.unwrap();
        assert_eq!(std::str::from_utf8(&got).unwrap(), expected);
        let ledger = handle.ledger().await.unwrap();
        let (_, hop) = ledger.hops().find(|(name, _)| *name == HOP).unwrap();
        let (offered, sent, dropped, queued) = hop.read();
        assert_eq!((offered, queued), (sent + dropped, 0));
        assert_eq!(dropped, 0, "the counter that is not a number is of unknown type");
    });
}

#[test]
fn compressed_pages_inflate_to_the_page() {
    let expected = everything().page(Format::Text);
    with_store(everything(), async |handle| {
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
    with_store(everything(), async |handle| {
        let mut page = Box::pin(page(&handle, Format::Text, false));
        // Enough polls to have received rows.
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
