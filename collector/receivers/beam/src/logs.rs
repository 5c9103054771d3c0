//! Log records of nodes: the only stream of kind `log` in a plan, with the same columns as OTLP's log records.

use crate::config::Logs;
use crate::stream_spec::StreamSpec;
use dichroic_model::EventKind;
use dichroic_wire::Value;
use dichroic_wire::plan::{Condition, Expression, Operation, Root, Transform};

/// The event of `logger`'s messages in a relay.
const EVENT: [&str; 3] = ["dichroic", "logger", "message"];
/// Name of the stream, the same as for OTLP's records without an event name.
const NAME: &str = "log";
/// Columns after the time.
const COLUMNS: [&str; 5] = ["severity", "body", "trace_id", "span_id", "attributes"];

/// Whether an event is a message of `logger`.
pub(crate) fn is_logger(event: &[String]) -> bool {
    event.len() > 2 && event[..2] == EVENT[..2]
}

/// The stream of log records; `hash` makes its schema id from its names.
pub(crate) fn spec(logs: &Logs, hash: impl Fn(&[u8]) -> u32) -> StreamSpec {
    let field = |root, name: &str| Expression::path(root, &[name]);
    let names: Vec<Value> = logs.attributes.iter().map(|name| name.as_str().into()).collect();
    let attributes = match names.is_empty() {
        true => field(Root::Metadata, "attributes"),
        false => field(Root::Metadata, "attributes").then(Transform::Allow(names)),
    };
    let condition = |operation, expression, operand| Condition {
        operation,
        expression,
        operands: vec![operand],
    };
    let severity = field(Root::Measurements, "severity");
    let level = condition(Operation::Gt, severity.clone(), Value::Int(logs.severity - 1));
    let excluded = logs.exclude_domains.iter().map(|domain| {
        condition(
            Operation::Ne,
            field(Root::Metadata, "domain"),
            Value::from(domain.as_str()),
        )
    });
    StreamSpec {
        kind: EventKind::Log,
        schema: hash(format!("{NAME}\0{}", COLUMNS.join("\0")).as_bytes()),
        name: NAME.to_owned(),
        measurements: Vec::new(),
        metadata: COLUMNS.map(str::to_owned).to_vec(),
        event: EVENT.map(str::to_owned).to_vec(),
        columns: vec![
            severity,
            field(Root::Metadata, "body").then(Transform::Cut(logs.max_body)),
            field(Root::Metadata, "trace_id"),
            field(Root::Metadata, "span_id"),
            attributes,
        ],
        keep: std::iter::once(level).chain(excluded).collect(),
    }
}
