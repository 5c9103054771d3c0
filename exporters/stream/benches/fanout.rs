//! The cost of a subscriber: rows from the store through a session to a sink, in one process and on one thread, so that the figure
//! includes channel, ring, encoding and copy, and no system call.
//!
//! Prints ns per row and subscriber with its budget, and batches per second. `cargo bench -p dichroic-exporter-stream`.

use dichroic_exporter_stream::{Config, Exporter};
use dichroic_model::{
    Batch, EventKind, EventSchema, Expiry, Identity, Limits, Protocol, Runtime, Source, SourceSpec,
};
use dichroic_pipeline::{Core, Handle, inbox, serve};
use dichroic_wire::hello::SubscribeKind;
use dichroic_wire::{Cell, EventsBuilder, Subscribe, SubscriberHello, limits};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{LocalSet, spawn_local, yield_now};

const BUDGET_NS: f64 = 5.0;

/// Accepts all bytes and never sends any.
struct Sink;

impl AsyncRead for Sink {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(std::hint::black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct World {
    store: Rc<RefCell<Core>>,
    exporter: Exporter,
    _handle: Handle,
    schema: Arc<EventSchema>,
    source: Arc<Source>,
}

fn world() -> World {
    let limits = Limits {
        replay_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut store = Core::new(limits, Arc::new(Identity), 1);
    let spec = SourceSpec {
        name: "shop@127.0.0.1".to_owned(),
        runtime: Runtime::Beam,
        job: "shop".to_owned(),
        instance: "shop".to_owned(),
        expiry: Expiry::AfterEnd(60),
        ..SourceSpec::new(Protocol::Beam, "shop")
    };
    let source = store.open_source(spec, 1).expect("a new store has room");
    let metadata = ["method", "status", "route"].map(str::to_owned).to_vec();
    let measurements = vec![("duration".to_owned(), "s".to_owned())];
    let schema = store.schema(EventKind::Event, "phoenix.endpoint.stop", measurements, metadata);
    let schema = schema.expect("a new store has room");
    let store = Rc::new(RefCell::new(store));
    let (handle, inbox) = inbox();
    spawn_local(serve(store.clone(), inbox));
    World {
        store,
        exporter: Exporter::new(handle.clone(), Config::default()),
        _handle: handle,
        schema,
        source,
    }
}

/// Five columns including the time, as for a Phoenix request: about 29 bytes a row.
fn body(world: &World, rows: usize) -> Box<[u8]> {
    let mut builder = EventsBuilder::new(world.schema.id, world.source.id.0, 4, limits::BODY_BYTES_MAX)
        .expect("four columns fit");
    for row in 0..rows as i64 {
        let method = if row % 3 == 0 { "POST" } else { "GET" };
        let status = if row % 10 == 0 { 503 } else { 200 };
        let cells = [
            Cell::Int(1_200_345 + row),
            Cell::Str(method),
            Cell::Int(status),
            Cell::Str("/users/:id"),
        ];
        builder.push(row, &cells).expect("a small row fits");
    }
    let mut frame = Vec::new();
    builder.finish(0, &mut frame).expect("a small frame fits");
    dichroic_wire::frame::body(&frame).into()
}

async fn run(name: &str, subscribers: usize, rows: usize, change: impl Fn(&mut Subscribe), matching: usize) {
    let world = world();
    for _ in 0..subscribers {
        let mut subscribe = Subscribe::new(SubscribeKind::Event, vec!["phoenix.**".to_owned()]);
        subscribe.buffer = Some(1 << 20);
        change(&mut subscribe);
        let hello = SubscriberHello {
            agent: "bench".to_owned(),
            max_frame: limits::BODY_BYTES_DEFAULT,
            token: None,
            subscribe: Some(subscribe),
        };
        let exporter = world.exporter.clone();
        spawn_local(async move { exporter.serve_subscriber(Sink, &hello.to_hello(), &[]).await });
    }
    while world.store.borrow().subscribers() < subscribers {
        yield_now().await;
    }
    let body = body(&world, rows);
    let hop = world.store.borrow_mut().ledger_mut().hop("stream");
    let total = 4_000_000 / subscribers.min(16);
    let (mut published, mut copying) = (0, 0.0);
    let start = Instant::now();
    while published < total {
        // Sixteen batches at a time, as from several relays between two polls of the sessions.
        for _ in 0..16 {
            let mut store = world.store.borrow_mut();
            let position = store.next_position(EventKind::Event);
            let copied = Instant::now();
            let body = body.clone();
            copying += copied.elapsed().as_secs_f64();
            store.publish(Batch {
                schema: world.schema.clone(),
                source: world.source.clone(),
                position,
                rows: rows as u32,
                received: 1,
                body,
            });
            published += rows;
        }
        let offered = (published / rows * matching * subscribers) as u64;
        while hop.read().0 < offered {
            yield_now().await;
        }
    }
    while hop.read().3 > 0 {
        yield_now().await;
    }
    let took = start.elapsed().as_secs_f64() - copying;
    let (_, sent, dropped, _) = hop.read();
    assert_eq!(
        (sent as usize, dropped),
        (published / rows * matching * subscribers, 0)
    );
    let each = took * 1e9 / (published * subscribers) as f64;
    let batches = (published / rows * subscribers) as f64 / took;
    let verdict = if matching == rows && rows == 256 {
        format!("budget {BUDGET_NS} ns, ratio {:.2}", each / BUDGET_NS)
    } else {
        format!("{matching} of {rows} rows match")
    };
    println!(
        "{name:<34} {subscribers:>3} subscribers {each:>8.2} ns/row/subscriber {batches:>12.0} batches/s  {verdict}"
    );
    world.exporter.shutdown(std::time::Duration::from_secs(5)).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let all = |_: &mut Subscribe| {};
        for subscribers in [1, 16, 64] {
            run("batches of 256, forwarded", subscribers, 256, all, 256).await;
        }
        run("batches of 16, merged", 16, 16, all, 16).await;
        let errors = |subscribe: &mut Subscribe| {
            subscribe
                .where_
                .insert("status".to_owned(), vec!["5*".to_owned()]);
        };
        run("batches of 256, where status=5*", 16, 256, errors, 26).await;
        let posts = |subscribe: &mut Subscribe| {
            subscribe
                .where_
                .insert("method".to_owned(), vec!["POST".to_owned()]);
        };
        run("batches of 256, where method=POST", 16, 256, posts, 86).await;
    });
}
