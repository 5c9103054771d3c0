//! Schedules scrapes: one task per target on the ingest thread.
//!
//! The daemon owns the [`Scraper`] and sets its targets, again after every reload; other threads read the [`TargetStatuses`].
//! Scrapes of one target never overlap: a slow scrape skips the next ones. Any failure of a scrape expires all series of the
//! target at once and sets its `up` to 0.

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
use dichroic_tasks::{Kind, Stopped};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::config::ScrapeTarget;
use crate::fetch::{Client, FetchError};
use crate::ingest::{Exposition, Format, Ingested, Page, PageError, PageViolation, ScrapeTimes};

/// Status of a target, for the admin API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetStatus {
    /// Value of the label `job`.
    pub job: String,
    /// Value of the label `instance`.
    pub instance: String,
    /// The URL that is scraped.
    pub url: String,
    /// Result of the last scrape.
    pub health: Health,
    /// Error of the last scrape; `None` after a success.
    pub last_error: Option<String>,
    /// Start of the last scrape, in nanoseconds since the epoch; 0 before the first.
    pub last_scrape: UnixNanos,
    /// Duration of the last scrape, in seconds.
    pub last_scrape_duration_seconds: f64,
    /// Samples on the last valid page.
    pub samples: u64,
    /// Bytes of the last valid page, decompressed.
    pub body_bytes: usize,
    /// Scrapes so far.
    pub scrapes: u64,
    /// Failed scrapes so far.
    pub failures: u64,
    /// Violations of OpenMetrics on the last valid page, which is kept all the same.
    pub violations: Vec<PageViolation>,
}

/// Whether the last scrape of a target succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not scraped yet.
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
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
    running: BTreeMap<String, RunningTarget>,
}

#[derive(Clone)]
struct SharedStore(Rc<RefCell<Core>>);

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Core")
    }
}

#[derive(Debug)]
struct RunningTarget {
    target: Rc<ScrapeTarget>,
    state: Rc<RefCell<TargetState>>,
    task: JoinHandle<()>,
}

/// The source and the page of a target in the store.
#[derive(Debug, Default)]
struct TargetState {
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

    /// A handle to the status of all targets, for other threads.
    pub fn statuses(&self) -> TargetStatuses {
        self.statuses.clone()
    }

    /// Scrapes exactly these targets from now on. Unchanged targets continue without interruption; removed ones stop, and their
    /// series expire. Must run in a `LocalSet`.
    pub fn set_targets(&mut self, targets: Vec<ScrapeTarget>) {
        let wanted: BTreeMap<String, ScrapeTarget> =
            targets.into_iter().map(|target| (key(&target), target)).collect();
        let changed = |key: &String, running: &mut RunningTarget| wanted.get(key) != Some(&*running.target);
        let ended: Vec<_> = self.running.extract_if(.., changed).collect();
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

    /// Stops scraping; the series stay, so that exporters can send them a last time.
    pub fn stop(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.task.abort();
        }
    }

    fn end(&self, key: &str, running: &RunningTarget) {
        running.task.abort();
        self.statuses.lock().remove(key);
        if let Some(source) = running.state.borrow_mut().source.take() {
            self.store.0.borrow_mut().end_source(source.id, now());
        }
    }

    fn start(&self, key: &str, target: ScrapeTarget) -> RunningTarget {
        let target = Rc::new(target);
        let state = Rc::new(RefCell::new(TargetState::default()));
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
            violations: Vec::new(),
        };
        self.statuses.lock().insert(key.to_owned(), status);
        let mut scrapes = TargetLoop {
            key: key.to_owned(),
            target: target.clone(),
            state: state.clone(),
            store: self.store.0.clone(),
            statuses: self.statuses.clone(),
            client: Client::new(self.store.0.borrow().budget()),
            body: Vec::new(),
            scraped: 0,
            scraping: false,
        };
        let url = target.url();
        RunningTarget {
            target,
            state,
            task: dichroic_tasks::restart(Kind::ScrapeLoop, url, async move || scrapes.run().await),
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn key(target: &ScrapeTarget) -> String {
    format!("{} {} {}", target.identity(), target.job, target.instance)
}

/// The scrapes of one target.
struct TargetLoop {
    key: String,
    target: Rc<ScrapeTarget>,
    state: Rc<RefCell<TargetState>>,
    store: Rc<RefCell<Core>>,
    statuses: TargetStatuses,
    client: Client,
    body: Vec<u8>,
    /// Start of the last scrape.
    scraped: UnixNanos,
    /// During a scrape; after a panic, that it interrupted one.
    scraping: bool,
}

#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("too many sources; raise limits.sources")]
    Sources,
    #[error("the scrape panicked; this is a bug, please report it with the log")]
    Panicked,
}

/// Spreads the scrapes of different targets, yet keeps the first page soon.
const LARGEST_OFFSET: Duration = Duration::from_millis(500);

impl TargetLoop {
    async fn run(&mut self) -> Stopped {
        if std::mem::take(&mut self.scraping) {
            self.recover();
        }
        let share = foldhash::fast::FixedState::default().hash_one(&self.key) as f64 / u64::MAX as f64;
        tokio::time::sleep(LARGEST_OFFSET.min(self.target.interval / 10).mul_f64(share)).await;
        let mut ticks = tokio::time::interval(self.target.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.scraping = true;
            self.scrape().await;
            self.scraping = false;
        }
    }

    /// After a panic: the page that was being read is lost, so the series of the target are unknown. They expire, and `up` is 0.
    fn recover(&mut self) {
        self.client = Client::new(self.store.borrow().budget());
        let scraped = now();
        let mut state = self.state.borrow_mut();
        let store = &mut self.store.borrow_mut();
        state.page = Page::default();
        if let Some(source) = state.source.take() {
            store.remove_source(source.id);
        }
        let _ = state.open(&self.target, store, None);
        state.report(store, None, Duration::ZERO);
        drop(state);
        self.post(Err(ScrapeError::Panicked), Duration::ZERO, scraped);
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
        let (start, scraped) = (Instant::now(), now());
        // The clock was set back: points of this scrape are not older than those before.
        let set_back = scraped < std::mem::replace(&mut self.scraped, scraped);
        let fetched = self.client.get(&self.target, &mut self.body);
        let result = match fetched.instrument(tracing::info_span!("scrape.fetch")).await {
            Ok(content_type) => {
                let ingested = self.ingest_page(content_type.as_deref(), scraped, set_back);
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
        let duration = start.elapsed();
        if result.is_err() {
            let mut page = std::mem::take(&mut self.state.borrow_mut().page);
            page.clear_in_steps(&self.store, tokio::task::yield_now).await;
        }
        let mut state = self.state.borrow_mut();
        let store = &mut self.store.borrow_mut();
        // So that `up` is 0 from the first scrape on, even if no page was ever read.
        let _ = state.open(&self.target, store, None);
        state.report(store, result.as_ref().ok(), duration);
        drop(state);
        self.post(result, duration, scraped);
        // A body is not kept: between scrapes it would be memory of no use.
        self.body = Vec::new();
        self.client.released();
    }

    async fn ingest_page(
        &self,
        content_type: Option<&str>,
        scraped: UnixNanos,
        set_back: bool,
    ) -> Result<Ingested, ScrapeError> {
        let runtime = Some(runtime_of(&self.body));
        let source = self
            .state
            .borrow_mut()
            .open(&self.target, &mut self.store.borrow_mut(), runtime)?;
        // For Prometheus an empty page is valid, whatever its type is.
        let format = if self.body.is_empty() {
            Format::Text
        } else {
            Format::of(content_type, self.target.fallback, self.target.strict)?
        };
        let now = now();
        let times = ScrapeTimes {
            scraped: if set_back { now } else { scraped },
            now,
            honor_timestamps: self.target.honor_timestamps,
        };
        // Moved out of the state, which another task may borrow during a pause.
        let mut page = std::mem::take(&mut self.state.borrow_mut().page);
        dichroic_tasks::fault::point("scrape_page");
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

    /// Updates the status, and logs when it changes.
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
                let page = &self.state.borrow().page;
                if status.violations != page.violations() {
                    status.violations = page.violations().to_vec();
                }
                if before != Health::Up {
                    tracing::info!(
                        scrape_target = %self.target,
                        samples = ingested.samples,
                        violations = ingested.violations,
                        "target up"
                    );
                }
            }
            Err(error) => {
                status.health = Health::Down;
                status.failures += 1;
                status.last_error = Some(error.to_string());
                if before != Health::Down {
                    tracing::warn!(scrape_target = %self.target, %error, "scrape failed; target is down");
                }
            }
        }
    }
}

impl TargetState {
    /// The target's source. A target whose runtime changes becomes another source.
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

    /// Writes the series that Prometheus adds to every scrape. They are not samples of the target, so the ledger does not count them.
    fn report(&self, store: &mut Core, result: Option<&Ingested>, duration: Duration) {
        let Some(source) = &self.source else { return };
        let samples = result.map_or(0, |ingested| ingested.samples);
        let added = result.map_or(0, |ingested| ingested.added);
        let whole = |value: u64| Number::int(i64::try_from(value).unwrap_or(i64::MAX));
        let reported = [
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
        for (name, help, value) in reported {
            report_one(store, source, name, help, value);
        }
    }
}

fn report_one(store: &mut Core, source: &Source, name: &str, help: &str, value: Number) {
    let fp = store
        .fingerprinter(source.id)
        .with(b"of the scrape")
        .of(name.as_bytes());
    let series = store.find(fp).map(Ok).unwrap_or_else(|| {
        let def = SeriesDef {
            source: source.id,
            scope: &Scope::default(),
            name,
            style: NameStyle::Scraped,
            unit: "",
            help,
            kind: MetricKind::Gauge,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: Vec::new(),
            start: 0,
            bounds: None,
        };
        store.define_report(fp, def)
    });
    if let Ok(series) = series {
        let _ = store.set_number(series, value, Times::at(now()));
    }
}

/// The runtime of a target, recognized by the `python_info` of the Python client.
fn runtime_of(page: &[u8]) -> Runtime {
    let info = b"python_info{";
    let python = page.starts_with(info) || memchr::memmem::find(page, b"\npython_info{").is_some();
    if python { Runtime::Python } else { Runtime::Other }
}
