//! The exporter: opens subscriptions in the store and serves them. The daemon creates one, on its main thread.

use crate::account::Account;
use crate::client::ClientInfo;
use crate::config::Config;
use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::events::EventSource;
use crate::known::Known;
use crate::memory::Memory;
use crate::outgoing::Outgoing;
use crate::points::PointSource;
use crate::registry::{Admission, Format, Registry, SubscriberInfo};
use crate::request::{BadRequest, Request};
use crate::ring::Gap;
use crate::series_table::SeriesTable;
use crate::session::{ClientFrames, Session};
use crate::source::RowSource;
use dichroic_model::clock::{now, steady};
use dichroic_model::{EventKind, GapReason, UnixNanos};
use dichroic_pipeline::budget::Budget;
use dichroic_pipeline::{Busy, Handle, Hop, ResumePoint, StreamRequest, Subscription};
use dichroic_wire::hello::{Cursor, MINOR_OF_MIXED, SubscribeKind};
use dichroic_wire::{CollectorHello, GoodbyeCode, Hello, SubscriberHello};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};

/// Retry time after a refusal for lack of capacity.
const RETRY_MS: u32 = 1_000;

/// Serves subscribers. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Exporter(Arc<SharedState>);

pub(crate) struct SharedState {
    pub handle: Handle,
    pub config: Config,
    pub registry: Arc<Registry>,
    pub series: Arc<SeriesTable>,
}

/// An open subscription and the HELLO that answers it.
pub(crate) struct OpenSubscription {
    pub source: RowSource,
    pub hello: CollectorHello,
    /// Rows that its ring holds.
    pub buffer: usize,
    pub admission: Admission,
}

impl Exporter {
    /// An exporter over the store behind `handle`.
    pub fn new(handle: Handle, config: Config) -> Self {
        let registry = Arc::new(Registry::new(config.subscribers));
        Exporter(Arc::new(SharedState {
            handle,
            config,
            registry,
            series: Arc::default(),
        }))
    }

    /// Serves a connection after its HELLO and the check of its credentials or token.
    /// `read_ahead`: bytes read after the HELLO. Returns when the connection has ended; an error is sent as GOODBYE.
    pub async fn serve_subscriber<IO>(&self, mut io: IO, hello: &Hello, read_ahead: &[u8])
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = &*self.0;
        let mixes = hello.minor >= MINOR_OF_MIXED;
        let opened = match SubscriberHello::read(hello) {
            Ok(hello) => self
                .open_socket(&hello, mixes)
                .await
                .map(|opened| (opened, hello)),
            Err(error) => {
                let code = error.goodbye_code().unwrap_or(GoodbyeCode::Malformed);
                Err(SubscribeError::new(code, 0, error.to_string()))
            }
        };
        let (opened, hello) = match opened {
            Ok(opened) => opened,
            Err(SubscribeError(goodbye)) => {
                tracing::info!(code = ?goodbye.code, reason = goodbye.message, "subscription refused");
                let mut out = Vec::new();
                crate::encode::written(goodbye.write(&mut out));
                let close = async {
                    io.write_all(&out).await?;
                    io.shutdown().await
                };
                let _ = tokio::time::timeout(shared.config.close_timeout, close).await;
                return;
            }
        };
        let (reader, writer) = split(io);
        let session = Session {
            reader,
            writer,
            peer: Some(ClientFrames::new(read_ahead)),
            source: opened.source,
            encoder: Encoder::frames(hello.max_frame, mixes),
            out: Outgoing::new(opened.buffer),
            config: &shared.config,
            stop: shared.registry.stopping(),
            share: opened.admission.share.clone(),
        };
        let end = session.run(&opened.hello).await;
        tracing::debug!(agent = hello.agent, ?end, "subscriber disconnected");
        drop(opened.admission);
    }

    async fn open_socket(
        &self,
        hello: &SubscriberHello,
        mixes: bool,
    ) -> Result<OpenSubscription, SubscribeError> {
        let client = ClientInfo {
            agent: hello.agent.clone(),
            format: Format::Socket,
            max_frame: hello.max_frame,
            mixes,
        };
        let request = hello
            .subscribe
            .as_ref()
            .map(|subscribe| Request::check(subscribe, &self.0.config));
        match request.transpose() {
            Ok(request) => self.0.open(client, request).await,
            Err(error) => Err(SubscribeError::new(GoodbyeCode::BadRequest, 0, error.to_string())),
        }
    }

    /// Current subscribers with their counts, oldest first.
    pub fn subscribers(&self) -> Vec<SubscriberInfo> {
        self.0.registry.list()
    }

    /// Ends all subscriptions: sends queued rows, then GOODBYE 7. Returns `true` when all have ended, `false` at the deadline.
    /// New subscribers are refused from now on.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.0.registry.stop())
            .await
            .is_ok()
    }

    pub(crate) fn shared(&self) -> &Arc<SharedState> {
        &self.0
    }
}

impl SharedState {
    /// Opens a subscription; without a request it only answers the HELLO.
    pub async fn open(
        &self,
        client: ClientInfo,
        request: Option<Request>,
    ) -> Result<OpenSubscription, SubscribeError> {
        if *self.registry.stopping().borrow() {
            return Err(SubscribeError::shutting_down());
        }
        let admission = self
            .registry
            .admit(info(&client, request.as_ref()))
            .ok_or_else(too_many)?;
        match request {
            None => self.hello_only(admission).await,
            Some(request) if request.kind == SubscribeKind::Metric => {
                self.open_points(&client, request, admission).await
            }
            Some(request) => self.open_rows(&client, request, admission).await,
        }
    }

    async fn hello_only(&self, admission: Admission) -> Result<OpenSubscription, SubscribeError> {
        let reply = self
            .handle
            .call(|store| (store.epoch(), store.next_position(EventKind::Event)));
        let (epoch, position) = reply.await.map_err(busy)?;
        Ok(OpenSubscription {
            source: RowSource::None,
            hello: self.hello(epoch, Some(position), false),
            buffer: 0,
            admission,
        })
    }

    async fn open_rows(
        &self,
        client: &ClientInfo,
        request: Request,
        admission: Admission,
    ) -> Result<OpenSubscription, SubscribeError> {
        let now = steady(now());
        let replay = |replay: Duration| now.saturating_sub(replay.as_nanos() as u64);
        let stream = StreamRequest {
            kind: match request.kind {
                SubscribeKind::Log => EventKind::Log,
                _ => EventKind::Event,
            },
            patterns: request.patterns.clone(),
            replay_from: request.replay.map(replay),
            resume_from: None,
        };
        let cursor = request.cursor;
        let reply = self
            .handle
            .call(move |store| subscribe(store, stream, cursor))
            .await;
        let SubscribeReply {
            epoch,
            hop,
            restarted,
            subscription,
            known,
            budget,
        } = reply.map_err(busy)?;
        let subscription = subscription.ok_or_else(too_many)?;
        let resumed = cursor.is_some() && !restarted && subscription.resumed;
        let mut hello = self.hello(epoch, Some(subscription.position), resumed);
        if let Some(known) = known {
            answer_typos(&mut hello, &known, &request)?;
        }
        let account = Account::new(admission.hop.clone(), hop);
        let memory = Memory::new(&budget, &admission)?;
        let mut source = EventSource::new(
            subscription,
            &request,
            resumed,
            account,
            memory,
            client,
            &self.config,
        );
        if cursor.is_some() && !resumed {
            source.gap(Gap {
                schema: None,
                reason: if restarted {
                    GapReason::CollectorRestarted
                } else {
                    GapReason::BeyondReplay
                },
                lost: None,
                time: None,
            });
        }
        Ok(OpenSubscription {
            source: RowSource::Events(Box::new(source)),
            hello,
            buffer: request.buffer,
            admission,
        })
    }

    async fn open_points(
        &self,
        client: &ClientInfo,
        request: Request,
        admission: Admission,
    ) -> Result<OpenSubscription, SubscribeError> {
        let of_labels = request.filter.labels().next().is_some();
        let patterns = request.patterns.clone();
        let reply = self.handle.call(move |store| {
            let mut known = Known::of(store, SubscribeKind::Metric);
            if of_labels {
                known.note_labels(store, &patterns);
            }
            let hop = store.ledger_mut().hop("stream.points");
            (store.epoch(), hop, known, store.budget().clone())
        });
        let (epoch, hop, known, budget) = reply.await.map_err(busy)?;
        let mut hello = self.hello(epoch, None, false);
        answer_typos(&mut hello, &known, &request)?;
        let account = Account::new(admission.hop.clone(), hop);
        let buffer = request.buffer;
        let source = PointSource::new(
            self.handle.clone(),
            request,
            account,
            client.max_frame,
            self.config.series,
            Memory::new(&budget, &admission)?,
            self.series.join(budget),
        );
        Ok(OpenSubscription {
            source: RowSource::Points(Box::new(source)),
            hello,
            buffer,
            admission,
        })
    }

    fn hello(&self, epoch: UnixNanos, position: Option<u64>, resumed: bool) -> CollectorHello {
        CollectorHello {
            agent: self.config.agent.clone(),
            epoch: epoch as i64,
            max_frame: self.config.max_frame,
            position,
            resumed: Some(resumed),
            unmatched: BTreeMap::new(),
            without_sender: Vec::new(),
        }
    }
}

struct SubscribeReply {
    epoch: UnixNanos,
    hop: Arc<Hop>,
    restarted: bool,
    subscription: Option<Subscription>,
    /// Of a new subscription: one that resumes has had its answer.
    known: Option<Known>,
    budget: Budget,
}

fn answer_typos(hello: &mut CollectorHello, known: &Known, request: &Request) -> Result<(), SubscribeError> {
    let bad_request = |bad: BadRequest| SubscribeError::new(GoodbyeCode::BadRequest, 0, bad.to_string());
    known.check_where(request).map_err(bad_request)?;
    hello.unmatched = known.unmatched(request);
    hello.without_sender = known.without_sender(request);
    Ok(())
}

/// Runs on the ingest thread. A cursor of another epoch is from an earlier collector process, so the whole replay is new to the
/// subscriber.
fn subscribe(
    store: &mut dichroic_pipeline::Core,
    mut request: StreamRequest,
    cursor: Option<Cursor>,
) -> SubscribeReply {
    let epoch = store.epoch();
    let restarted = cursor.is_some_and(|cursor| cursor.epoch != epoch as i64);
    request.resume_from = cursor.map(|cursor| ResumePoint {
        position: if restarted { 0 } else { cursor.position },
        received: !restarted && cursor.rows > 0,
        restarted,
    });
    let kind = match request.kind {
        EventKind::Log => SubscribeKind::Log,
        EventKind::Event => SubscribeKind::Event,
    };
    SubscribeReply {
        epoch,
        hop: store.ledger_mut().hop("stream"),
        restarted,
        known: cursor.is_none().then(|| Known::of(store, kind)),
        subscription: store.subscribe(request, now()),
        budget: store.budget().clone(),
    }
}

fn info(client: &ClientInfo, request: Option<&Request>) -> SubscriberInfo {
    let kind = match request.map(|request| request.kind) {
        None => "",
        Some(SubscribeKind::Event) => "event",
        Some(SubscribeKind::Log) => "log",
        Some(SubscribeKind::Metric) => "metric",
    };
    let patterns = request.map_or(Vec::new(), |request| {
        request.patterns.iter().map(ToString::to_string).collect()
    });
    SubscriberInfo {
        id: 0,
        agent: dichroic_model::attributes::cut(&client.agent, 128).to_owned(),
        format: client.format,
        kind,
        patterns,
        since: now(),
        offered: 0,
        sent: 0,
        dropped: 0,
        queued: 0,
    }
}

fn too_many() -> SubscribeError {
    SubscribeError::new(
        GoodbyeCode::Limit,
        5 * RETRY_MS,
        "too many subscribers: limits.subscribers is reached",
    )
}

fn busy(busy: Busy) -> SubscribeError {
    SubscribeError::new(GoodbyeCode::Limit, RETRY_MS, busy.to_string())
}
