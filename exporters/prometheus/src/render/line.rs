//! The start of a sample line: name and labels.

use dichroic_pipeline::SeriesMeta;

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
#[inline(always)]
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
