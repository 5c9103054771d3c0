//! The kinds of tasks, and what happens when one ends.

use std::fmt;

/// What follows when a task ends by a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is started again, at increasing intervals while it keeps failing.
    Restart,
    /// Nothing else is affected: a connection is closed and its peer reconnects, or work is reported as failed.
    Contain,
    /// The rest of the process is useless without it: `/healthz` fails, and the process stops with an exit code.
    Essential,
}

impl Rule {
    /// For the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Restart => "restarted",
            Rule::Contain => "contained",
            Rule::Essential => "stops the collector",
        }
    }
}

macro_rules! kinds {
    ($($kind:ident $name:literal $rule:ident $meaning:literal,)*) => {
        /// A kind of task or thread. Its name is the label `task` of the metric, and the name of the thread.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $meaning] $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The name.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// What happens when it panics.
            pub fn rule(self) -> Rule {
                match self { $(Kind::$kind => Rule::$rule,)* }
            }

            /// What it does, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Kind::$kind => $meaning,)* }
            }
        }
    };
}

kinds! {
    Main "main" Essential "signals, listeners and exporters",
    Ingest "ingest" Essential "all receivers and the series",
    Upkeep "upkeep" Essential "expiry and the collector's own metrics",
    CoreJobs "core_jobs" Restart "reads of the series for pages, streams and the API",
    ScrapeLoop "scrape_loop" Restart "the scrapes of one target",
    ScrapeConnection "scrape_connection" Contain "a connection to a target",
    OtlpReceiver "otlp_receiver" Essential "expiry of silent OTLP sources",
    OtlpListener "otlp_listener" Restart "an OTLP port",
    OtlpConnection "otlp_connection" Contain "a connection of an OTLP sender",
    RelayIntake "relay_intake" Restart "relays on their way to the ingest thread",
    RelaySession "relay_session" Contain "a connection of a relay",
    LocalListener "local_listener" Restart "the local socket or `security.local_tcp`",
    LocalConnection "local_connection" Contain "a connection of a subscriber, or a handshake",
    HttpListener "http_listener" Restart "the port of the page or of the admin API",
    HttpConnection "http_connection" Contain "a connection to the page or the admin API",
    PageRendering "page_rendering" Contain "rendering a page for its scrapers",
    StreamSubscriber "stream_subscriber" Contain "a subscriber of `/v1/stream`",
    AttachLoop "attach_loop" Restart "the attachment of one node",
    ConfigReader "config_reader" Contain "reading the configuration file",
    Output "output" Contain "printing the addresses at the start",
    LogWriter "log_writer" Restart "writing the log",
    TelemetryExport "telemetry" Restart "the export of own traces and logs",
    TelemetryConnection "telemetry_connection" Contain "the connection to `telemetry.otlp.endpoint`",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_kind_with_its_rule() {
        let text = include_str!("../../../docs/operations.md");
        let rows: Vec<&str> = (text.lines())
            .skip_while(|line| !line.starts_with("| task |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let row = |kind: &Kind| format!("| `{kind}` | {} | {} |", kind.meaning(), kind.rule().as_str());
        assert_eq!(rows, Kind::ALL.iter().map(row).collect::<Vec<_>>());
    }
}
