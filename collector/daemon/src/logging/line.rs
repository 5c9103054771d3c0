//! Lines that the log itself writes, in the format of the others.

use serde_json::{Map, Value};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The format of all lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An object on each line.
    Json,
    /// For terminals.
    Text,
}

/// A line, with its line end.
pub fn own_line(
    format: Format,
    level: Level,
    target: &str,
    message: &str,
    fields: &[(&str, Value)],
) -> String {
    let mut time = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    match format {
        Format::Json => {
            let own = [
                ("timestamp", Value::from(time)),
                ("level", level.as_str().into()),
                ("message", message.into()),
            ];
            let fields = fields.iter().cloned();
            let all = own.into_iter().chain(fields).chain([("target", target.into())]);
            let line: Map<String, Value> = all.map(|(key, value)| (key.to_owned(), value)).collect();
            format!("{}\n", Value::Object(line))
        }
        Format::Text => {
            let fields: String = (fields.iter())
                .map(|(key, value)| format!(" {key}={value}"))
                .collect();
            format!("{time} {level:>5} {target}: {message}{fields}\n")
        }
    }
}
