//! Labels of a series on a Prometheus page, rendered once when the series is defined.
//!
//! Order: `job`, `instance`, `runtime`, labels from configuration, then the attributes. Names are sanitized. The values of
//! attributes with the same sanitized name are joined by `;`. A name that the source has taken gets the prefix `exported_`.
//! Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility"; Prometheus `honor_labels`.

use crate::attributes::Attributes;
use crate::names::sanitize;
use crate::source::Source;
use std::borrow::Cow;

/// Name and value.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Label pairs of a series on a page, in page order, and the number of pairs before the attributes.
pub fn page_labels<'a>(
    source: &'a Source,
    mapped: bool,
    attributes: &'a Attributes,
) -> (Vec<Label<'a>>, usize) {
    let spec = &source.spec;
    let honored = |name: &str| spec.honor_labels && attributes.get(name).is_some();
    let mut labels = identity_labels(source, honored);
    if mapped {
        labels.push(("runtime".into(), spec.runtime.as_str().into()));
    }
    for (name, value) in spec.labels.iter().filter(|(name, _)| !honored(name)) {
        labels.push((sanitize(name, false), owned(&value.render())));
    }
    let taken = labels.len();
    for (name, value) in attributes.iter() {
        push_attribute(&mut labels, taken, sanitize(name, false), value.into_rendered());
    }
    (labels, taken)
}

/// Label pairs of `target_info`: the resource without the attributes that form `job` and `instance`.
pub fn target_info_labels(source: &Source) -> Vec<Label<'_>> {
    let mut labels = identity_labels(source, |_| false);
    labels.push(("runtime".into(), source.spec.runtime.as_str().into()));
    let taken = labels.len();
    let identifying = ["service.name", "service.namespace", "service.instance.id"];
    for (name, value) in source
        .spec
        .resource
        .iter()
        .filter(|(name, _)| !identifying.contains(name))
    {
        push_attribute(&mut labels, taken, sanitize(name, false), value.into_rendered());
    }
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

fn push_attribute<'a>(
    labels: &mut Vec<Label<'a>>,
    taken: usize,
    mut name: Cow<'a, str>,
    value: Cow<'a, str>,
) {
    while labels[..taken].iter().any(|(of_source, _)| *of_source == name) {
        name = Cow::Owned(format!("exported_{name}"));
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
    let mut rest = text;
    std::iter::from_fn(move || {
        let (name, value) = rest.split_once("=\"")?;
        let end = closing(value)?;
        rest = value[end + 1..].strip_prefix(',').unwrap_or_default();
        Some((name, unescape(&value[..end])))
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
            ..SourceSpec::new(Protocol::Prometheus, "")
        };
        Source {
            id: SourceId(0),
            spec,
        }
    }

    #[test]
    fn labels_of_the_source_come_first_and_have_precedence() {
        let check = |honor, mapped, attributes: &[(&str, &str)], expected: &str| {
            let attributes = Attributes::of(attributes);
            assert_eq!(
                render(&page_labels(&source(honor), mapped, &attributes).0),
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
}
