//! Reload on SIGHUP: unchanged parts keep running; after an error the previous configuration stays in effect.
//!
//! Scraped targets, packs, definitions, plans of relays and attached nodes change at once. Listeners, limits and the local socket
//! require a restart; a change to them is logged.

use crate::config::loaded::{Loaded, targets};
use crate::config::{Config, load};
use dichroic_receiver_prometheus::config::ScrapeTarget;
use dichroic_tasks::Kind;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::Span;
use tracing::field::Empty;

/// Sections that take effect at once.
const AT_ONCE: &[&str] = &[
    "/receivers/prometheus",
    "/receivers/beam",
    "/metrics",
    "/exporters/stream",
];

/// Reloads the configuration file.
pub struct Reloader {
    path: Option<PathBuf>,
    scrape: Vec<ScrapeTarget>,
    /// The configuration at the start: still in effect for sections that need a restart, which are compared with it.
    started: Config,
    current: Config,
    loaded: watch::Sender<Option<Arc<Loaded>>>,
}

impl Reloader {
    /// A reloader for the file and the `--scrape` targets of the command line.
    pub fn new(
        path: Option<PathBuf>,
        scrape: Vec<ScrapeTarget>,
        current: Config,
    ) -> (Self, watch::Receiver<Option<Arc<Loaded>>>) {
        let (sender, receiver) = watch::channel(None);
        (
            Reloader {
                path,
                scrape,
                started: current.clone(),
                current,
                loaded: sender,
            },
            receiver,
        )
    }

    /// The configuration that was loaded last.
    pub fn current(&self) -> &Config {
        &self.current
    }

    /// What to read; `None` without a file.
    pub fn begin(&self) -> Option<Reading> {
        let Some(path) = &self.path else {
            tracing::warn!("SIGHUP ignored: the collector was started without --config");
            return None;
        };
        let span = tracing::info_span!(
            "reload",
            file = %path.display(),
            targets = Empty,
            result = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        Some(Reading {
            path: path.clone(),
            scrape: self.scrape.clone(),
            span,
        })
    }

    /// Publishes the configuration, and logs the result.
    pub fn apply(&mut self, reread: Reread) {
        let Reread { path, loaded, span } = reread;
        let span = span.entered();
        match loaded {
            Ok(loaded) => {
                span.record("targets", loaded.targets.len() as i64)
                    .record("result", "ok");
                for section in needs_restart(&self.started, &loaded.config) {
                    tracing::warn!(section, "changed section takes effect after a restart");
                }
                tracing::info!(file = %path.display(), targets = loaded.targets.len(), "configuration reloaded");
                self.current = loaded.config.clone();
                self.loaded.send_replace(Some(Arc::new(loaded)));
            }
            Err((error, help)) => {
                span.record("result", "invalid")
                    .record("otel.status_code", "error")
                    .record("otel.status_description", &error);
                tracing::error!(
                    error,
                    help,
                    "invalid configuration; the previous one stays in effect"
                );
            }
        }
    }
}

/// The file to read.
pub struct Reading {
    path: PathBuf,
    scrape: Vec<ScrapeTarget>,
    span: Span,
}

/// The file after it was read and checked; or the error, and its help.
pub struct Reread {
    path: PathBuf,
    loaded: Result<Loaded, (String, Option<String>)>,
    span: Span,
}

impl Reading {
    fn read(&self) -> Result<Loaded, (String, Option<String>)> {
        let config =
            load(&self.path).map_err(|error| (error.to_string(), error.help().map(str::to_owned)))?;
        let targets = targets(&config, &self.scrape).map_err(|error| (error.to_string(), None))?;
        Ok(Loaded { config, targets })
    }
}

/// Reads on a thread.
pub async fn read(reading: Reading) -> Reread {
    let (path, span) = (reading.path.clone(), reading.span.clone());
    let loaded = match dichroic_tasks::blocking(Kind::ConfigReader, move || reading.read()).await {
        Ok(Ok(loaded)) => loaded,
        Ok(Err(panicked)) => Err((panicked.to_string(), None)),
        Err(error) => Err((error.to_string(), None)),
    };
    Reread { path, loaded, span }
}

/// Sections that differ and need a restart, such as `receivers.otlp`.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let document = |config: &Config| {
        let mut document = serde_json::to_value(config).unwrap_or_default();
        for section in AT_ONCE {
            if let Some(value) = document.pointer_mut(section) {
                *value = Value::Null;
            }
        }
        document
    };
    let mut changed = Vec::new();
    differences("", &document(old), &document(new), 2, &mut changed);
    // Documents contain redacted secrets, so secrets are compared here.
    let tcp = |config: &Config| config.security.local_tcp.as_ref().map(|tcp| tcp.token.clone());
    if old.admin.token != new.admin.token && !changed.iter().any(|key| key == "admin.token") {
        changed.push("admin.token".to_owned());
    }
    if tcp(old) != tcp(new) && !changed.iter().any(|key| key == "security.local_tcp") {
        changed.push("security.local_tcp".to_owned());
    }
    changed
}

fn differences(path: &str, old: &Value, new: &Value, depth: usize, changed: &mut Vec<String>) {
    match (old.as_object(), new.as_object()) {
        (Some(a), Some(b)) if depth > 0 => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let null = Value::Null;
                differences(
                    &below,
                    a.get(key).unwrap_or(&null),
                    b.get(key).unwrap_or(&null),
                    depth - 1,
                    changed,
                );
            }
        }
        _ if old != new => changed.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    /// Reloads a file with this text and returns the sections that the log names.
    fn restarts(reloader: &mut Reloader, path: &Path, text: &str) -> Vec<String> {
        std::fs::write(path, text).unwrap();
        let log = path.with_extension("log");
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(Arc::new(std::fs::File::create(&log).unwrap()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let reading = reloader.begin().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            reloader.apply(runtime.block_on(read(reading)));
        });
        let log = std::fs::read_to_string(log).unwrap();
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let sections = lines.filter_map(|line| Some(line["fields"]["section"].as_str()?.to_owned()));
        sections.collect()
    }

    #[test]
    fn a_section_that_needs_a_restart_is_named_at_every_reload_until_it_is_as_at_the_start() {
        let dir = std::env::temp_dir().join(format!("dichroic-reload-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("dichroic.yaml");
        let started = parse("limits: { series: 5 }", "f").unwrap();
        let (mut reloader, _loaded) = Reloader::new(Some(path.clone()), Vec::new(), started);
        let mut check = |text: &str, expected: &[&str]| {
            assert_eq!(restarts(&mut reloader, &path, text), expected, "{text}");
        };
        check("limits: { series: 6 }", &["limits.series"]);
        check(
            "limits: { series: 6 }\nmetrics: { packs: [vm] }",
            &["limits.series"],
        );
        check("limits: { series: 5 }", &[]);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn sections_that_need_a_restart_are_named() {
        let check = |text: &str, expected: &[&str]| {
            let changed = needs_restart(&Config::default(), &parse(text, "f").unwrap());
            assert_eq!(changed, expected, "{text}");
        };
        check("", &[]);
        check("metrics: { packs: [vm] }", &[]);
        check("receivers: { prometheus: { scrape_configs: [] } }", &[]);
        check("receivers: { otlp: { http: false } }", &["receivers.otlp"]);
        check(
            "limits: { series: 5 }\nadmin: { listen: 127.0.0.1:1 }",
            &["admin.listen", "limits.series"],
        );
        check("admin: { token: 0123456789abcdef }", &["admin.token"]);
        let tcp = |token: &str| format!("security: {{ local_tcp: {{ token: {} }} }}", token.repeat(16));
        check(&tcp("ab"), &["security.local_tcp"]);
        let of = |text: &str| parse(text, "f").unwrap();
        assert_eq!(needs_restart(&of(&tcp("ab")), &of(&tcp("ab"))), [""; 0]);
        assert_eq!(
            needs_restart(&of(&tcp("ab")), &of(&tcp("cd"))),
            ["security.local_tcp"]
        );
    }
}
