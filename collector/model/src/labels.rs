//! Labels of a series on a Prometheus page, rendered once when the series is defined.
//!
//! Order: `job`, `instance`, `runtime` (of metrics that a pack maps), labels from configuration, then the attributes. Names are made
//! valid; the values of attributes with the same valid name are joined by `;`. An attribute whose name is reserved or taken by the
//! source gets the prefix `exported_`, once or more often until the name is free; with `honor_labels`, it replaces the source's label instead.
//! Names by which series are told apart are taken even where a series has no value for them, so that an attribute never looks like one.
//! Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility"; Prometheus `honor_labels`.

use crate::attributes::{AttributeValue, Attributes};
use crate::metric::MetricKind;
use crate::names::{ESCAPED, label_name, scraped_label_name};
use crate::series::Scope;
use crate::source::{Protocol, Source};
use std::borrow::Cow;

/// Name and value.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Before the name of an attribute of a scope.
const SCOPE_LABEL: &str = "otel_scope_";

/// The part of a series that decides its labels, apart from its attributes.
pub struct Stream<'a> {
    /// Its source.
    pub source: &'a Source,
    /// Its instrumentation scope.
    pub scope: &'a Scope,
    /// The kind of its metric.
    pub kind: MetricKind,
    /// Whether runtimes share the family.
    pub mapped: bool,
    /// More labels, which tell it apart from others.
    pub qualifiers: &'a Qualifiers,
}

/// Label pairs of a series on a page, in the order they are written, and the number of those before the attributes.
pub fn page_labels<'a>(stream: &Stream<'a>, attributes: &'a Attributes) -> (Vec<Label<'a>>, usize) {
    let spec = &stream.source.spec;
    let honored = |name: &str| spec.honor_labels && attributes.get(name).is_some();
    let mut labels = identity_labels(stream.source, honored);
    if stream.mapped {
        labels.push(("runtime".into(), spec.runtime.as_str().into()));
    }
    let mut reserved = Reserved {
        of_kind: match stream.kind {
            MetricKind::Histogram | MetricKind::ExponentialHistogram | MetricKind::GaugeHistogram => "le",
            MetricKind::Summary => "quantile",
            _ => "",
        },
        ..Reserved::default()
    };
    for (name, value) in spec.labels.iter().filter(|(name, _)| !honored(name)) {
        let name = free_name(&labels, Cow::Owned(label_name(name).into_owned()), &reserved);
        labels.push((name, owned(&value.render())));
    }
    push_qualifiers(&mut labels, stream, &mut reserved);
    let taken = labels.len();
    // With `honor_labels` an empty label only removes that of the target.
    let removes = |value: &str| spec.honor_labels && value.is_empty();
    let rendered = attributes
        .iter()
        .map(|(name, value)| (name, value.into_rendered()));
    let exact = match spec.protocol {
        Protocol::Prometheus => &[][..],
        _ => &stream.qualifiers.exact,
    };
    let attributes = rendered.filter(|(_, value)| !removes(value));
    let attributes = attributes.map(|(name, value)| match spec.protocol {
        Protocol::Prometheus => (scraped_label_name(name), value),
        _ => (shown_name(name, exact), value),
    });
    push_attributes(&mut labels, taken, attributes, &reserved, exact);
    (labels, taken)
}

/// Names that attributes must not have, besides those of labels before them.
#[derive(Default)]
struct Reserved<'a> {
    /// What the metric's type needs for itself.
    of_kind: &'a str,
    /// Labels that other series of the group have.
    of_group: Vec<Cow<'a, str>>,
    /// Whether they have labels for the attributes of their scopes.
    of_scopes: bool,
}

impl Reserved<'_> {
    fn has(&self, name: &str) -> bool {
        name == self.of_kind
            || (self.of_scopes && name.starts_with(SCOPE_LABEL))
            || self.of_group.iter().any(|other| other == name)
    }
}

/// The valid form of a name: with `_` for invalid characters, or for an exact one escaped so that no other name becomes the same.
fn shown_name<'a>(name: &'a str, exact: &[String]) -> Cow<'a, str> {
    if exact.iter().any(|other| other == name) {
        scraped_label_name(name)
    } else {
        label_name(name)
    }
}

/// Labels that tell apart series whose other labels are equal. Source: OpenTelemetry specification, "Prometheus and OpenMetrics
/// compatibility", instrumentation scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qualifiers {
    /// `otel_scope_name` and `otel_scope_version`, where they are not empty.
    pub scope: bool,
    /// `otel_scope_schema_url` and `otel_scope_<attribute>`, where they are not empty.
    pub scope_details: bool,
    /// These attributes of the resource.
    pub resource: Vec<String>,
    /// Names of attributes that are escaped without a collision, because other names have the same valid form. Those of scopes are as
    /// [`scope_label`] has them.
    pub exact: Vec<String>,
}

impl Qualifiers {
    /// What the additional labels show, under the names of OpenTelemetry: `host.name`, `otel.scope.name`.
    pub fn pairs<'a>(&self, source: &'a Source, scope: &'a Scope) -> Vec<(Cow<'a, str>, AttributeValue<'a>)> {
        let named = |name: &'static str, value: &'a str| (Cow::Borrowed(name), AttributeValue::from(value));
        let resource = source.spec.resource.iter();
        let mut pairs: Vec<_> = resource
            .filter(|(name, _)| self.resource.iter().any(|shown| shown == name))
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect();
        if self.scope {
            pairs.push(named("otel.scope.name", &scope.name));
            pairs.push(named("otel.scope.version", &scope.version));
        }
        if self.scope_details {
            pairs.push(named("otel.scope.schema_url", &scope.schema_url));
            let attributes = scope.attributes.iter();
            pairs.extend(attributes.map(|(name, value)| (Cow::Owned(format!("otel.scope.{name}")), value)));
        }
        pairs.retain(|(_, value)| !value.render().is_empty());
        pairs
    }
}

/// Adds labels that tell apart, and reserves their names: another series of the group may have a value where this one has none.
fn push_qualifiers<'a>(labels: &mut Vec<Label<'a>>, stream: &Stream<'a>, reserved: &mut Reserved<'a>) {
    let Stream {
        source,
        scope,
        qualifiers,
        ..
    } = stream;
    let mut names = Vec::new();
    for name in &qualifiers.resource {
        let value = source.spec.resource.get(name).map(AttributeValue::into_rendered);
        let name = shown_name(name, &qualifiers.exact);
        names.push(push_source(labels, name, value.unwrap_or_default(), reserved));
    }
    let of_scope = [
        ("otel_scope_name", &scope.name, qualifiers.scope),
        ("otel_scope_version", &scope.version, qualifiers.scope),
        (
            "otel_scope_schema_url",
            &scope.schema_url,
            qualifiers.scope_details,
        ),
    ];
    for (name, value, _) in of_scope.into_iter().filter(|(_, _, shown)| *shown) {
        names.push(push_source(labels, name.into(), value.as_str().into(), reserved));
    }
    if qualifiers.scope_details {
        for (name, value) in scope.attributes.iter() {
            let name = shown_name(&scope_label(name), &qualifiers.exact).into_owned();
            push_source(labels, name.into(), value.into_rendered(), reserved);
        }
    }
    // A scraped page states such names itself.
    if source.spec.protocol != Protocol::Prometheus {
        reserved.of_group = names;
        reserved.of_scopes = qualifiers.scope_details;
    }
}

/// The label of an attribute of a scope, before it is made valid.
pub fn scope_label(attribute: &str) -> String {
    format!("{SCOPE_LABEL}{attribute}")
}

/// Adds a label of the source after those that it has, unless it is empty. Returns its name.
fn push_source<'a>(
    labels: &mut Vec<Label<'a>>,
    name: Cow<'a, str>,
    value: Cow<'a, str>,
    reserved: &Reserved<'_>,
) -> Cow<'a, str> {
    let name = free_name(labels, name, reserved);
    if !value.is_empty() {
        labels.push((name.clone(), value));
    }
    name
}

/// Label pairs of `target_info`: the resource, without the attributes that `job` and `instance` are made of.
pub fn target_info_labels(source: &Source) -> Vec<Label<'_>> {
    let mut labels = identity_labels(source, |_| false);
    labels.push(("runtime".into(), source.spec.runtime.as_str().into()));
    let taken = labels.len();
    let identifying = ["service.name", "service.namespace", "service.instance.id"];
    let resource = source.spec.resource.iter();
    let rendered = resource
        .filter(|(name, _)| !identifying.contains(name))
        .map(|(name, value)| (label_name(name), value.into_rendered()))
        // An empty label is none, and must not make a second line of one target.
        .filter(|(_, value)| !value.is_empty());
    push_attributes(&mut labels, taken, rendered, &Reserved::default(), &[]);
    labels
}

fn identity_labels(source: &Source, honored: impl Fn(&str) -> bool) -> Vec<Label<'_>> {
    let identity = [("job", &source.spec.job), ("instance", &source.spec.instance)];
    let shown = identity
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && !honored(name));
    shown
        .map(|(name, value)| (name.into(), value.as_str().into()))
        .collect()
}

fn owned<'a>(text: &str) -> Cow<'a, str> {
    Cow::Owned(text.to_owned())
}

/// Adds attributes after the labels of the source, in their order. Names that these have taken, or that are reserved, are renamed last
/// and the shortest first, as Prometheus does, so that a renamed label never meets another attribute.
fn push_attributes<'a>(
    labels: &mut Vec<Label<'a>>,
    taken: usize,
    attributes: impl Iterator<Item = Label<'a>>,
    reserved: &Reserved<'_>,
    exact: &[String],
) {
    let mut renamed = Vec::new();
    for (name, value) in attributes {
        if is_taken(&labels[..taken], &name, reserved) {
            renamed.push(labels.len());
            labels.push((name, value));
            continue;
        }
        match labels[taken..].iter_mut().find(|(other, _)| *other == name) {
            Some((_, joined)) => {
                let joined = joined.to_mut();
                joined.push(';');
                joined.push_str(&value);
            }
            None => labels.push((name, value)),
        }
    }
    renamed.sort_by_key(|at| labels[*at].0.len());
    for at in renamed {
        // It is taken, by a label of the source or by itself.
        let name = labels[at].0.clone();
        let mut free = free_name(labels, name.clone(), reserved);
        if exact.iter().any(|other| *other == name) {
            // Another series of the group has an attribute of this name.
            free = free_name(labels, exported(&free), reserved);
        }
        labels[at].0 = free;
    }
}

/// A free label name. Names that are taken, that Prometheus reserves (those with `__` in front), or that the metric's type or group
/// needs for itself get `exported_` before them, once or more often.
fn free_name<'a>(taken: &[Label<'_>], name: Cow<'a, str>, reserved: &Reserved<'_>) -> Cow<'a, str> {
    let mut name = name;
    while is_taken(taken, &name, reserved) {
        name = exported(&name);
    }
    name
}

fn exported<'a>(name: &str) -> Cow<'a, str> {
    Cow::Owned(match name.strip_prefix(ESCAPED) {
        Some(escaped) => format!("{ESCAPED}exported__{escaped}"),
        None => format!("exported_{name}"),
    })
}

fn is_taken(taken: &[Label<'_>], name: &str, reserved: &Reserved<'_>) -> bool {
    // Escaped, `__` is `____`.
    name.starts_with("__")
        || name.starts_with("U______")
        || reserved.has(name)
        || taken.iter().any(|(other, _)| other == name)
}

/// Writes `a="x",b="y"` with values escaped for both page formats.
pub fn render(labels: &[Label<'_>]) -> String {
    let mut out = String::with_capacity(labels.iter().map(|(k, v)| k.len() + v.len() + 4).sum());
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(value, &mut out);
        out.push('"');
    }
    out
}

/// Parses the output of [`render`] or the labels of a page; values are unescaped.
pub fn read(text: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    read_escaped(text).map(|(name, value)| (name, unescape(value)))
}

/// As [`read`], with the values as they are written.
pub fn read_escaped(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once("=\"")?;
        let end = closing(value)?;
        rest = value[end + 1..].strip_prefix(',').unwrap_or_default();
        Some((name, &value[..end]))
    })
}

/// Position of the quote that ends a value.
fn closing(value: &str) -> Option<usize> {
    let mut escaped = false;
    value.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let (mut out, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => c,
            },
            c => c,
        });
    }
    Cow::Owned(out)
}

/// Escapes a label value: backslash, quote and line feed.
pub fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// A bound or quantile as a label value, as Prometheus writes it.
pub fn canonical_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust's `{:e}` gives the shortest digits and the exponent; the layout is Go's.
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').expect("{:e} has an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} has a decimal exponent");
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Protocol, Runtime, SourceId, SourceSpec};

    fn source(honor_labels: bool) -> Source {
        let spec = SourceSpec {
            name: "t".into(),
            runtime: Runtime::Python,
            job: "workers".into(),
            instance: "127.0.0.1:8000".into(),
            resource: Attributes::of(&[("service.name", "w"), ("host.name", "h"), ("job", "x")]),
            labels: Attributes::of(&[("env", "dev")]),
            honor_labels,
            ..SourceSpec::new(Protocol::Otlp, "")
        };
        Source {
            id: SourceId(0),
            spec,
        }
    }

    fn stream(source: &Source, mapped: bool, kind: MetricKind) -> Stream<'_> {
        Stream {
            source,
            scope: Box::leak(Box::default()),
            kind,
            mapped,
            qualifiers: Box::leak(Box::default()),
        }
    }

    #[test]
    fn a_reserved_label_is_renamed_wherever_it_comes_from() {
        let check = |kind, attributes: &[(&str, &str)], expected: &str| {
            let source = Source {
                id: SourceId(0),
                spec: SourceSpec {
                    labels: Attributes::of(&[("__tmp", "t"), ("", "e")]),
                    ..SourceSpec::new(Protocol::Otlp, "s")
                },
            };
            let attributes = Attributes::of(attributes);
            let (labels, _) = page_labels(&stream(&source, false, kind), &attributes);
            assert_eq!(render(&labels), format!(r#"_="e",exported___tmp="t"{expected}"#));
        };
        let name = r#",exported___name__="x""#;
        check(MetricKind::Gauge, &[("__name__", "x")], name);
        check(
            MetricKind::Gauge,
            &[("__tmp", "x")],
            r#",exported_exported___tmp="x""#,
        );
        check(MetricKind::Gauge, &[("le", "1")], r#",le="1""#);
        check(MetricKind::Histogram, &[("le", "1")], r#",exported_le="1""#);
        check(
            MetricKind::Summary,
            &[("quantile", "1"), ("le", "1")],
            r#",le="1",exported_quantile="1""#,
        );
        check(
            MetricKind::Histogram,
            &[("exported_le", "2"), ("le", "1")],
            r#",exported_le="2",exported_exported_le="1""#,
        );
    }

    /// Prometheus gives the label of the target precedence here too: then no bucket has its bound.
    #[test]
    fn a_label_of_a_target_does_not_take_the_name_of_a_bound() {
        let check = |kind, expected: &str| {
            let mut source = source(false);
            source.spec.protocol = Protocol::Prometheus;
            source.spec.labels = Attributes::of(&[("le", "x"), ("quantile", "q")]);
            let attributes = Attributes::default();
            let (labels, _) = page_labels(&stream(&source, false, kind), &attributes);
            assert_eq!(render(&labels[2..]), expected);
        };
        check(MetricKind::Gauge, r#"le="x",quantile="q""#);
        check(MetricKind::Histogram, r#"exported_le="x",quantile="q""#);
        check(MetricKind::Summary, r#"le="x",exported_quantile="q""#);
    }

    #[test]
    fn scraped_labels_stay_apart_whatever_characters_they_have() {
        let mut source = source(false);
        source.spec.protocol = Protocol::Prometheus;
        let attributes = Attributes::of(&[("a.b", "1"), ("a_b", "2"), ("U__a_2e_b", "3"), ("__x.y", "4")]);
        let (labels, of_source) = page_labels(&stream(&source, false, MetricKind::Gauge), &attributes);
        assert_eq!(
            render(&labels[of_source..]),
            r#"U__U____a__2e__b="3",U__exported______x_2e_y="4",U__a_2e_b="1",a_b="2""#
        );
    }

    #[test]
    fn labels_of_the_source_come_first_and_have_precedence() {
        let check = |honor, mapped, attributes: &[(&str, &str)], expected: &str| {
            let attributes = Attributes::of(attributes);
            assert_eq!(
                render(&page_labels(&stream(&source(honor), mapped, MetricKind::Gauge), &attributes).0),
                expected
            );
        };
        let own = r#"job="workers",instance="127.0.0.1:8000""#;
        check(
            false,
            false,
            &[("a.b", "1")],
            &format!(r#"{own},env="dev",a_b="1""#),
        );
        check(
            false,
            true,
            &[("runtime", "x")],
            &format!(r#"{own},runtime="python",env="dev",exported_runtime="x""#),
        );
        check(
            false,
            false,
            &[("job", "j")],
            &format!(r#"{own},env="dev",exported_job="j""#),
        );
        check(
            true,
            false,
            &[("job", "j")],
            r#"instance="127.0.0.1:8000",env="dev",job="j""#,
        );
        check(
            false,
            false,
            &[("a.b", "1"), ("a_b", "2")],
            &format!(r#"{own},env="dev",a_b="1;2""#),
        );
        check(
            false,
            false,
            &[("q", "a\"b\\c\nd")],
            &format!(r#"{own},env="dev",q="a\"b\\c\nd""#),
        );
        check(
            false,
            false,
            &[("2xx", "1"), ("_2xx", "2"), ("b:c", "3")],
            &format!(r#"{own},env="dev",_2xx="1;2",b_c="3""#),
        );
    }

    #[test]
    fn rendered_labels_are_read_back() {
        let check = |labels: &[(&str, &str)]| {
            let pairs: Vec<_> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            let text = render(&pairs);
            let back: Vec<_> = read(&text).map(|(name, value)| (name.into(), value)).collect();
            assert_eq!(pairs, back, "{text}");
        };
        check(&[]);
        check(&[("a", "")]);
        check(&[("a", "1"), ("b", "x,y=\"z\"")]);
        check(&[("a", "\\"), ("b", "\\n\n\"\\\""), ("c", "ü")]);
    }

    #[test]
    fn target_info_shows_the_resource_without_its_identity() {
        let source = source(false);
        let expected =
            r#"job="workers",instance="127.0.0.1:8000",runtime="python",host_name="h",exported_job="x""#;
        assert_eq!(render(&target_info_labels(&source)), expected);
    }

    #[test]
    fn bounds_are_canonical() {
        let check = |value, expected: &str| assert_eq!(canonical_float(value), expected);
        check(0.0, "0.0");
        check(0.005, "0.005");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1.0, "1.0");
        check(-1.0, "-1.0");
        check(2.5, "2.5");
        check(10.0, "10.0");
        check(65536.0, "65536.0");
        check(100000.0, "100000.0");
        check(1e6, "1e+06");
        check(1234567.0, "1.234567e+06");
        check(1e10, "1e+10");
        check(1e100, "1e+100");
        check(123456.789, "123456.789");
        check(f64::INFINITY, "+Inf");
    }
}
