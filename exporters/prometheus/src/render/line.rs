//! The start of a sample line: name and labels.

use dichroic_pipeline::SeriesMeta;
use std::borrow::Cow;

/// `name{labels} `
#[inline]
pub(super) fn open(out: &mut Vec<u8>, name: &[u8], labels: &[u8]) {
    out.reserve(name.len() + labels.len() + 32);
    out.extend_from_slice(name);
    if labels.is_empty() {
        out.push(b' ');
    } else {
        out.push(b'{');
        out.extend_from_slice(labels);
        out.extend_from_slice(b"} ");
    }
}

/// The same for a series, whose labels are stored in two parts.
#[inline]
pub(super) fn open_series(out: &mut Vec<u8>, name: &[u8], meta: &SeriesMeta) {
    let (of_source, own) = (meta.source_labels.as_bytes(), meta.own_labels.as_bytes());
    out.reserve(name.len() + of_source.len() + own.len() + 33);
    out.extend_from_slice(name);
    if of_source.is_empty() && own.is_empty() {
        out.push(b' ');
    } else {
        out.push(b'{');
        out.extend_from_slice(of_source);
        if !of_source.is_empty() && !own.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(own);
        out.extend_from_slice(b"} ");
    }
}

/// Renames a label with the name `reserved`, which the page needs, to `exported_…`. `None` if that name is in use too.
pub(super) fn rename_reserved<'a>(labels: &'a str, reserved: &str) -> Option<Cow<'a, str>> {
    // A quote inside a value is escaped, so `,name="` can only be the start of a label.
    let find = |name: &str| {
        let pattern = format!("{name}=\"");
        if labels.starts_with(&pattern) {
            return Some(0);
        }
        labels.find(&format!(",{pattern}")).map(|at| at + 1)
    };
    if !labels.contains(reserved) {
        return Some(Cow::Borrowed(labels));
    }
    let Some(at) = find(reserved) else {
        return Some(Cow::Borrowed(labels));
    };
    if find(&format!("exported_{reserved}")).is_some() {
        return None;
    }
    let (before, after) = labels.split_at(at);
    Some(Cow::Owned(format!("{before}exported_{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_with_a_reserved_name_is_renamed() {
        let check = |labels, expected: Option<&str>| {
            assert_eq!(rename_reserved(labels, "le").as_deref(), expected, "{labels}");
        };
        check("", Some(""));
        check(r#"a="1""#, Some(r#"a="1""#));
        check(r#"le="1",b="2""#, Some(r#"exported_le="1",b="2""#));
        check(r#"a="1",le="2""#, Some(r#"a="1",exported_le="2""#));
        check(r#"title="2""#, Some(r#"title="2""#));
        check(r#"a=",le=\"5\"""#, Some(r#"a=",le=\"5\"""#));
        check(r#"exported_le="1",le="2""#, None);
    }
}
