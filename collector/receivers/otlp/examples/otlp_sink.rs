//! Listens for OTLP on free ports and prints the content of the store every second and when stopped. To test a sender, run
//! `cargo run -p dichroic-receiver-otlp --example otlp_sink` and configure the sender with the printed addresses.

use dichroic_model::clock::now;
use dichroic_model::{EventKind, Identity, Limits, Pattern};
use dichroic_pipeline::{Handle, StreamItem, StreamRequest, inbox};
use dichroic_receiver_otlp::{Config, bind, serve};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_local};

async fn print_events(handle: &Handle) -> Result<(), Box<dyn std::error::Error>> {
    for kind in [EventKind::Event, EventKind::Log] {
        let wanted = StreamRequest {
            kind,
            patterns: vec![Pattern::new("**")?],
            replay_from: None,
            resume_from: None,
        };
        let subscription = handle
            .subscribe(wanted)
            .await?
            .ok_or("no room for a subscriber")?;
        spawn_local(async move {
            while let Some(item) = subscription.items.recv().await {
                if let StreamItem::Batch(batch) = item {
                    println!("{} {} rows of {:?}", kind.as_str(), batch.rows, batch.schema.name);
                }
            }
        });
    }
    Ok(())
}

async fn print_series(handle: Handle) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(chunks) = handle.snapshot(Default::default()) else {
            continue;
        };
        while let Some(chunk) = chunks.recv().await {
            for row in chunk {
                println!(
                    "{}{{{}}} {:?}",
                    row.meta.metric.name,
                    row.meta.labels(),
                    row.value
                );
            }
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let any = Some(([127, 0, 0, 1], 0).into());
    let config = Config {
        grpc: any,
        http: any,
        ..Config::default()
    };
    let bound = bind(config).await?;
    for (name, address) in [("grpc", bound.grpc), ("http", bound.http)] {
        println!("{name} {}", address.ok_or("not listening")?);
    }
    let counters = bound.counters.clone();
    let store = Rc::new(RefCell::new(dichroic_pipeline::Core::new(
        Limits::default(),
        Arc::new(Identity),
        now(),
    )));
    let (handle, jobs) = inbox();
    spawn_local(dichroic_pipeline::serve(store.clone(), jobs));
    print_events(&handle).await?;
    spawn_local(print_series(handle));
    let (stopping, stop) = tokio::sync::watch::channel(false);
    spawn_local(async move {
        let _ = tokio::signal::ctrl_c().await;
        let _ = stopping.send(true);
    });
    serve(bound, store.clone(), stop).await;
    println!(
        "requests {:?}, cut off {}",
        store.borrow().ledger().requests,
        counters.aborted_connections()
    );
    for (source, signal, account) in store.borrow().ledger().accounts() {
        let drops: Vec<_> = account.drops().collect();
        let (received, applied) = (account.received, account.applied);
        println!("{source:?} {signal:?} received {received} applied {applied} dropped {drops:?}");
    }
    println!("balances {}", store.borrow().ledger().balances());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, run())
}
