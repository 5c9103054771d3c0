//! UTF-8 names: a page for a scraper that accepts them has escaped names as they were.
//!
//! Pages are rendered with escaped names, which every scraper reads; few pages have any. Source: Prometheus "UTF-8 in Prometheus",
//! quoted names in both text formats.

use dichroic_model::labels::{escape, read_escaped};
use dichroic_model::names::{ESCAPED, unescape};
use memchr::memmem;

/// Replaces escaped names in a page, if it has any.
pub(super) fn unescape_names(page: &mut Vec<u8>) {
    if memmem::find(page, ESCAPED.as_bytes()).is_none() {
        return;
    }
    let Ok(text) = std::str::from_utf8(page) else {
        return;
    };
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.contains(ESCAPED) {
            push_line(&mut out, line);
        } else {
            out.push_str(line);
        }
    }
    *page = out.into_bytes();
}

fn push_line(out: &mut String, line: &str) {
    if let Some(comment) = line.strip_prefix("# ") {
        let mut parts = comment.splitn(3, ' ');
        let (word, name, rest) = (parts.next(), parts.next(), parts.next());
        if let (Some(word), Some(name), Some(rest)) = (word, name, rest) {
            out.extend(["# ", word, " "]);
            push_name(out, name);
            out.extend([" ", rest]);
        }
        return;
    }
    let Some(end) = line.find(['{', ' ']) else {
        return out.push_str(line);
    };
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_at(labels_end(rest)),
        None => ("", rest),
    };
    let quoted = readable(name);
    match &quoted {
        Some(name) => {
            out.push('{');
            push_quoted(out, name);
        }
        None => out.extend([name, if labels.is_empty() { "" } else { "{" }]),
    }
    let mut comma = if quoted.is_some() { "," } else { "" };
    for (name, value) in read_escaped(labels) {
        out.push_str(comma);
        push_name(out, name);
        out.extend(["=\"", value, "\""]);
        comma = ",";
    }
    if quoted.is_some() && labels.is_empty() {
        out.push('}');
    }
    out.push_str(rest);
}

/// What a type adds to the name of its family. It is added to the escaped name, as client libraries do.
const SUFFIXES: &[&str] = &[
    "_bucket", "_count", "_created", "_gcount", "_gsum", "_info", "_sum", "_total",
];

/// The name as it was, if it is an escaped one.
fn readable(name: &str) -> Option<String> {
    unescape(name).or_else(|| {
        let suffix = SUFFIXES.iter().find(|suffix| name.ends_with(**suffix))?;
        Some(unescape(name.strip_suffix(suffix)?)? + suffix)
    })
}

/// A name, in quotes if it was escaped.
fn push_name(out: &mut String, name: &str) {
    match readable(name) {
        Some(name) => push_quoted(out, &name),
        None => out.push_str(name),
    }
}

fn push_quoted(out: &mut String, name: &str) {
    out.push('"');
    escape(name, out);
    out.push('"');
}

/// Where the brace is that ends a list of labels.
fn labels_end(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.bytes().position(|byte| {
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        byte == b'}' && !quoted
    });
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_written_in_quotes_and_nothing_else_changes() {
        let page = "# HELP U__gr_f6__df_e U__x_ in help\n# TYPE U__gr_f6__df_e gauge\nU__gr_f6__df_e_total 1\n\
                    U__gr_f6__df_e{a=\"U__gr_f6_\",U___e9_=\"}\\\",\"} 2 # {U___e9_=\"x\"} 3\nplain{U___e9_=\"1\"} 4\nplain 5\n";
        let expected = "# HELP \"größe\" U__x_ in help\n# TYPE \"größe\" gauge\n{\"größe_total\"} 1\n\
                        {\"größe\",a=\"U__gr_f6_\",\"é\"=\"}\\\",\"} 2 # {U___e9_=\"x\"} 3\nplain{\"é\"=\"1\"} 4\nplain 5\n";
        let mut bytes = page.as_bytes().to_vec();
        unescape_names(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn names_with_quotes_and_line_feeds_are_escaped_in_quotes() {
        let mut bytes = b"U__a_22__a_b{U___5c_=\"\"} 1\n".to_vec();
        unescape_names(&mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"a\\\"\\nb\",\"\\\\\"=\"\"} 1\n"
        );
    }
}
