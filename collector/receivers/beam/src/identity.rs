//! The source of a relay, from its HELLO: `job`, `instance`, and the resource of `target_info`.

use dichroic_model::attributes::Attributes;
use dichroic_model::{AttributeValue, Expiry, Protocol, Runtime, SECOND, SourceSpec, UnixNanos};
use dichroic_wire::{RelayHello, Value};
use std::borrow::Cow;

/// Time for which series of a node are kept after it disconnected.
const LINGER: UnixNanos = 60 * SECOND;

/// The source of a relay; `key` is the node name, made unique for nodes without one.
pub fn source_spec(key: &str, hello: &RelayHello) -> SourceSpec {
    let text = |name: &str| {
        hello
            .resource
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let service = match text("service.name") {
        "" => hello.node.split('@').next().unwrap_or_default(),
        service => service,
    };
    let instance = match text("service.instance.id") {
        "" => key.replace('#', ":"),
        instance => instance.to_owned(),
    };
    SourceSpec {
        name: key.to_owned(),
        runtime: Runtime::Beam,
        job: match text("service.namespace") {
            "" => service.to_owned(),
            namespace => format!("{namespace}/{service}"),
        },
        instance,
        resource: resource(hello),
        expiry: Expiry::AfterEnd(LINGER),
        ..SourceSpec::new(Protocol::Beam, key.as_bytes())
    }
}

fn resource(hello: &RelayHello) -> Attributes {
    let mut pairs = vec![
        (
            Cow::Borrowed("process.runtime.name"),
            AttributeValue::from("BEAM"),
        ),
        (
            Cow::Borrowed("process.runtime.version"),
            hello.otp.as_str().into(),
        ),
    ];
    for (name, value) in &hello.resource {
        let value = match value {
            Value::Bool(flag) => AttributeValue::Bool(*flag),
            Value::Int(int) => AttributeValue::Int(*int),
            Value::Float(float) => AttributeValue::Float(*float),
            Value::Str(text) | Value::Cut { kept: text, .. } => text.as_str().into(),
            Value::Null | Value::Bytes(_) | Value::List(_) | Value::Map(_) => continue,
        };
        pairs.push((Cow::Borrowed(name.as_str()), value));
    }
    Attributes::pack(&mut pairs)
}
