//! Reload on SIGHUP: what did not change keeps running, a bad file is refused and the old configuration stays.
//!
//! Scraped targets, packs, definitions, what relays are asked for and the nodes that are attached to change at once. What is bound or sized at the start (listeners,
//! limits, the local socket) needs a restart; a change there is named in the log.

use crate::config::loaded::{Loaded, targets};
use crate::config::{Config, load};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tracing::field::Empty;

/// Sections that take effect at once.
const AT_ONCE: &[&str] = &[
    "/receivers/prometheus",
    "/receivers/beam",
    "/metrics",
    "/exporters/stream",
];

/// Reads the file again when asked.
pub struct Reloader {
    path: Option<PathBuf>,
    urls: Vec<String>,
    current: Config,
    tell: watch::Sender<Option<Arc<Loaded>>>,
}

impl Reloader {
    /// Of the file and the `--scrape` URLs that the process was started with.
    pub fn new(
        path: Option<PathBuf>,
        urls: Vec<String>,
        current: Config,
    ) -> (Self, watch::Receiver<Option<Arc<Loaded>>>) {
        let (tell, told) = watch::channel(None);
        (
            Reloader {
                path,
                urls,
                current,
                tell,
            },
            told,
        )
    }

    /// The configuration in force.
    pub fn current(&self) -> &Config {
        &self.current
    }

    /// Reads, checks and hands over; says in the log what came of it.
    pub fn reload(&mut self) {
        let Some(path) = &self.path else {
            tracing::warn!("SIGHUP: there is no configuration file to read again; start with --config");
            return;
        };
        let span = tracing::info_span!(
            "reload",
            file = %path.display(),
            targets = Empty,
            result = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        )
        .entered();
        let loaded = load(path)
            .map_err(|error| (error.to_string(), error.help().map(str::to_owned)))
            .and_then(|config| match targets(&config, &self.urls) {
                Ok(targets) => Ok(Loaded { config, targets }),
                Err(error) => Err((error.to_string(), None)),
            });
        match loaded {
            Ok(loaded) => {
                span.record("targets", loaded.targets.len() as i64)
                    .record("result", "ok");
                for section in needs_restart(&self.current, &loaded.config) {
                    tracing::warn!(section, "the change of this section needs a restart");
                }
                tracing::info!(file = %path.display(), targets = loaded.targets.len(), "configuration read again");
                self.current = loaded.config.clone();
                self.tell.send_replace(Some(Arc::new(loaded)));
            }
            Err((error, help)) => {
                span.record("result", "refused")
                    .record("otel.status_code", "error")
                    .record("otel.status_description", &error);
                tracing::error!(error, help, "configuration rejected; the one in effect is kept");
            }
        }
    }
}

/// Sections that differ and do not take effect at once, as `receivers.otlp`.
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
    // Secrets look alike in a document.
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
