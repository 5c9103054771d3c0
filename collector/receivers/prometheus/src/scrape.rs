//! When to scrape, and what became of it: a task per target on the ingest thread.
//!
//! The daemon owns a [`Scraper`] there and hands it targets, again after every reload; other threads read the [`TargetStatuses`]. A
//! target's scrapes never overlap: one that is slow makes the next ones fall out, not pile up. A scrape that fails in any way
//! takes all series of the target off at once and sets its `up` to 0.

use dichroic_model::clock::now;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dichroic_model::{
    Factor, MetricKind, NameStyle, Number, Runtime, Scope, SeriesDef, Source, Temporality, UnixNanos,
};
use dichroic_pipeline::{Core, Times};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::config::ScrapeTarget;
use crate::fetch::{Client, FetchError};
use crate::ingest::{Exposition, Format, Ingested, Page, PageError, ScrapeTimes};

/// How a target fares, for people and the admin API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStatus {
    pub job: String,
    pub instance: String,
    pub url: String,
    pub health: Health,
    /// Why the last scrape failed.
    pub last_error: Option<String>,
    /// When the last scrape began, in nanoseconds since the epoch; 0 before the first.
    pub last_scrape: UnixNanos,
    pub last_scrape_duration_seconds: f64,
    /// Samples on the last good page.
    pub samples: u64,
    /// Bytes of the last good page, inflated.
    pub body_bytes: usize,
    pub scrapes: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not scraped yet.
    Unknown,
    Up,
    Down,
}

/// The status of every target, readable from any thread. Written once per scrape.
#[derive(Debug, Clone, Default)]
pub struct TargetStatuses(Arc<Mutex<BTreeMap<String, TargetStatus>>>);

impl TargetStatuses {
    /// All targets, by URL.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, TargetStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scrapes a set of targets.
#[derive(Debug)]
pub struct Scraper {
    store: SharedStore,
    statuses: TargetStatuses,
    running: BTreeMap<String, Running>,
}

#[derive(Clone)]
struct SharedStore(Rc<RefCell<Core>>);

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Core")
    }
}

#[derive(Debug)]
struct Running {
    target: Rc<ScrapeTarget>,
    state: Rc<RefCell<State>>,
    task: JoinHandle<()>,
}

/// What a target has in the store.
#[derive(Debug, Default)]
struct State {
    source: Option<Arc<Source>>,
    page: Page,
}

impl Scraper {
    /// A scraper without targets. Lives on the thread that owns the store.
    pub fn new(store: Rc<RefCell<Core>>) -> Self {
        Self {
            store: SharedStore(store),
            statuses: TargetStatuses::default(),
            running: BTreeMap::new(),
        }
    }

    /// Where the targets' status is read.
    pub fn statuses(&self) -> TargetStatuses {
        self.statuses.clone()
    }

    /// Scrapes these targets from now on. Those that were scraped before and did not change go on undisturbed; those that
    /// are not among them any more end, and their series leave. Must run in a `LocalSet`.
    pub fn set_targets(&mut self, targets: Vec<ScrapeTarget>) {
        let wanted: BTreeMap<String, ScrapeTarget> =
            targets.into_iter().map(|target| (key(&target), target)).collect();
        let gone = |key: &String, running: &mut Running| wanted.get(key) != Some(&*running.target);
        let ended: Vec<_> = self.running.extract_if(.., gone).collect();
        ended
            .into_iter()
            .for_each(|(key, running)| self.end(&key, &running));
        for (key, target) in wanted {
            if !self.running.contains_key(&key) {
                let running = self.start(&key, target);
                self.running.insert(key, running);
            }
        }
    }

    /// Stops scraping; the series stay as they are, for exporters to send a last time.
    pub fn stop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.task.abort();
        }
    }

    fn end(&self, key: &str, running: &Running) {
        running.task.abort();
        self.statuses.lock().remove(key);
        if let Some(source) = running.state.borrow_mut().source.take() {
            self.store.0.borrow_mut().end_source(source.id, now());
        }
    }

    fn start(&self, key: &str, target: ScrapeTarget) -> Running {
        let target = Rc::new(target);
        let state = Rc::new(RefCell::new(State::default()));
        let status = TargetStatus {
            job: target.job.clone(),
            instance: target.instance.clone(),
            url: target.url(),
            health: Health::Unknown,
            last_error: None,
            last_scrape: 0,
            last_scrape_duration_seconds: 0.0,
            samples: 0,
            body_bytes: 0,
            scrapes: 0,
            failures: 0,
        };
        self.statuses.lock().insert(key.to_owned(), status);
        let scrapes = Loop {
            key: key.to_owned(),
            target: target.clone(),
            state: state.clone(),
            store: self.store.0.clone(),
            statuses: self.statuses.clone(),
            client: Client::default(),
            body: Vec::new(),
        };
        Running {
            target,
            state,
            task: tokio::task::spawn_local(scrapes.run()),
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn key(target: &ScrapeTarget) -> String {
    format!("{} {} {}", target.url(), target.job, target.instance)
}

/// The scrapes of one target.
struct Loop {
    key: String,
    target: Rc<ScrapeTarget>,
    state: Rc<RefCell<State>>,
    store: Rc<RefCell<Core>>,
    statuses: TargetStatuses,
    client: Client,
    body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("there are too many sources; raise limits.sources")]
    Sources,
}

/// Targets are not all scraped at once, yet the first page is there soon.
const LARGEST_OFFSET: Duration = Duration::from_millis(500);

impl Loop {
    async fn run(mut self) {
        let share = foldhash::fast::FixedState::default().hash_one(&self.key) as f64 / u64::MAX as f64;
        tokio::time::sleep(LARGEST_OFFSET.min(self.target.interval / 10).mul_f64(share)).await;
        let mut ticks = tokio::time::interval(self.target.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.scrape().await;
        }
    }

    async fn scrape(&mut self) {
        let span = tracing::info_span!(
            "scrape",
            otel.kind = "client",
            url.full = %self.target.url(),
            job = self.target.job,
            instance = self.target.instance,
            bytes = Empty,
            samples = Empty,
            result = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        self.scrape_once(&span).instrument(span.clone()).await;
    }

    async fn scrape_once(&mut self, span: &Span) {
        let (began, scraped) = (Instant::now(), now());
        let fetched = self.client.get(&self.target, &mut self.body);
        let result = match fetched.instrument(tracing::info_span!("scrape.fetch")).await {
            Ok(content_type) => {
                let ingested = self.take_page(content_type.as_deref(), scraped);
                ingested.instrument(tracing::info_span!("scrape.ingest")).await
            }
            Err(error) => Err(error.into()),
        };
        // Signed: the bridge to OpenTelemetry makes text of unsigned numbers.
        span.record("bytes", self.body.len() as i64);
        match &result {
            Ok(ingested) => span
                .record("samples", ingested.samples as i64)
                .record("result", "ok"),
            Err(error) => span
                .record("result", "error")
                .record("otel.status_code", "error")
                .record("otel.status_description", tracing::field::display(error)),
        };
        let duration = began.elapsed();
        if result.is_err() {
            let mut page = std::mem::take(&mut self.state.borrow_mut().page);
            page.clear_in_steps(&self.store, tokio::task::yield_now).await;
        }
        let mut state = self.state.borrow_mut();
        let store = &mut self.store.borrow_mut();
        // So that `up` says 0 from the first scrape on, even if no page was ever read.
        let _ = state.open(&self.target, store, None);
        state.report(store, result.as_ref().ok(), duration, scraped);
        drop(state);
        self.post(result, duration, scraped);
        // A page that was once large must not hold its memory for ever.
        self.body.shrink_to(self.body.len() * 2);
    }

    async fn take_page(
        &self,
        content_type: Option<&str>,
        scraped: UnixNanos,
    ) -> Result<Ingested, ScrapeError> {
        let runtime = Some(runtime_of(&self.body));
        let source = self
            .state
            .borrow_mut()
            .open(&self.target, &mut self.store.borrow_mut(), runtime)?;
        let format = Format::of(content_type)?;
        let times = ScrapeTimes {
            scraped,
            now: now(),
            honor_timestamps: self.target.honor_timestamps,
        };
        // Out of the state, which another task may ask for during a pause.
        let mut page = std::mem::take(&mut self.state.borrow_mut().page);
        let exposition = Exposition {
            body: &self.body,
            format,
            limits: self.target.limits,
            times,
        };
        let result = page
            .ingest_in_steps(&self.store, &source, &exposition, tokio::task::yield_now)
            .await;
        self.state.borrow_mut().page = page;
        Ok(result?)
    }

    /// Updates the status, and logs when it turns.
    fn post(&self, result: Result<Ingested, ScrapeError>, duration: Duration, scraped: UnixNanos) {
        let mut statuses = self.statuses.lock();
        let Some(status) = statuses.get_mut(&self.key) else {
            return;
        };
        let before = status.health;
        status.scrapes += 1;
        status.last_scrape = scraped;
        status.last_scrape_duration_seconds = duration.as_secs_f64();
        match result {
            Ok(ingested) => {
                (status.health, status.last_error) = (Health::Up, None);
                (status.samples, status.body_bytes) = (ingested.samples, self.body.len());
                if before != Health::Up {
                    tracing::info!(target = %self.target, samples = ingested.samples, "target is up");
                }
            }
            Err(error) => {
                status.health = Health::Down;
                status.failures += 1;
                status.last_error = Some(error.to_string());
                if before != Health::Down {
                    tracing::warn!(target = %self.target, %error, "target is down");
                }
            }
        }
    }
}

impl State {
    /// The target's source. A target that turns out to be of another runtime is another source.
    fn open(
        &mut self,
        target: &ScrapeTarget,
        store: &mut Core,
        runtime: Option<Runtime>,
    ) -> Result<Arc<Source>, ScrapeError> {
        let known = self.source.as_ref().map(|source| source.spec.runtime);
        let runtime = runtime.or(known).unwrap_or(Runtime::Other);
        if let Some(source) = self.source.as_ref().filter(|_| known == Some(runtime)) {
            return Ok(source.clone());
        }
        self.page.clear(store);
        let source = store
            .open_source(target.source(runtime), now())
            .map_err(|_| ScrapeError::Sources)?;
        Ok(self.source.insert(source).clone())
    }

    /// Writes what Prometheus itself says of a scrape. These are no samples of the target: the ledger does not count them.
    fn report(&self, store: &mut Core, result: Option<&Ingested>, duration: Duration, scraped: UnixNanos) {
        let Some(source) = &self.source else { return };
        let samples = result.map_or(0, |ingested| ingested.samples);
        let added = result.map_or(0, |ingested| ingested.added);
        let whole = |value: u64| Number::int(i64::try_from(value).unwrap_or(i64::MAX));
        let said = [
            (
                "up",
                "Whether the last scrape of the target succeeded.",
                Number::int(i64::from(result.is_some())),
            ),
            (
                "scrape_duration_seconds",
                "How long the last scrape took.",
                Number::float(duration.as_secs_f64()),
            ),
            (
                "scrape_samples_scraped",
                "Samples that the target exposed.",
                whole(samples),
            ),
            (
                "scrape_samples_post_metric_relabeling",
                "Samples that remained after relabeling.",
                whole(samples),
            ),
            (
                "scrape_series_added",
                "Series that the last scrape saw for the first time.",
                whole(added),
            ),
        ];
        for (name, help, value) in said {
            report_one(store, source, name, help, value, scraped);
        }
    }
}

fn report_one(store: &mut Core, source: &Source, name: &str, help: &str, value: Number, scraped: UnixNanos) {
    let fp = store
        .fingerprinter(source.id)
        .with(b"of the scrape")
        .of(name.as_bytes());
    let series = store.find(fp).map(Ok).unwrap_or_else(|| {
        let def = SeriesDef {
            source: source.id,
            scope: &Scope::default(),
            name,
            style: NameStyle::Verbatim,
            unit: "",
            help,
            kind: MetricKind::Gauge,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: Vec::new(),
            bounds: None,
        };
        store.define(fp, def)
    });
    if let Ok(series) = series {
        // A store without room for it has refused the target's own series too, and counted them.
        let _ = store.set_number(
            series,
            value,
            Times {
                start: 0,
                time: scraped,
                now: now(),
            },
        );
    }
}

/// Python's client says what it is.
fn runtime_of(page: &[u8]) -> Runtime {
    let info = b"python_info{";
    let python = page.starts_with(info) || memchr::memmem::find(page, b"\npython_info{").is_some();
    if python { Runtime::Python } else { Runtime::Other }
}
