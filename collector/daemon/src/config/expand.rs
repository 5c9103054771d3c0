//! `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in the values of a configuration file; `$$` is a dollar.
//!
//! References are expanded in scalars that the YAML parser has found, never in keys or comments. Each expanded scalar is written back
//! as one quoted or harmless scalar, so that a value cannot become a key, a list, a section or a comment. Lines stay as they are;
//! [`Expanded::source`] maps columns back, and [`Expanded::as_written`] replaces values in messages by their references.

use super::input::{READ_TIME, read_regular};
use super::position::{Position, Scalar, ScalarStyle};
use std::path::Path;
use std::time::Instant;

/// A reference that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// No closing brace on the line.
    #[error("`${{` without `}}`")]
    Unclosed,
    /// The environment variable has no value and the reference no default.
    #[error("environment variable {0} is not set")]
    Unset(String),
    /// The file cannot be used.
    #[error("cannot read file {path}: {reason}")]
    File {
        /// As it is written.
        path: String,
        /// Why.
        reason: String,
    },
    /// A reference to neither `env` nor `file`.
    #[error("unknown reference ${{{0}}}")]
    Unknown(String),
    /// A file of more than one line is probably not the intended one.
    #[error("the value of ${{{0}}} has more than one line")]
    Lines(String),
    /// In a scalar that begins with `|` or `>`.
    #[error("a reference in a text block")]
    Block,
    /// The references together are too long.
    #[error("the values of all references have more than {MAX_TOTAL} bytes")]
    Total,
}

impl ExpandError {
    /// What to write or do instead.
    pub fn help(&self) -> String {
        match self {
            ExpandError::Unclosed => {
                "write ${env:NAME} or ${file:PATH}; a dollar sign is written $$".to_owned()
            }
            ExpandError::Unset(name) => {
                format!("set the variable, or write a default: ${{env:{name}:-default}}")
            }
            ExpandError::File { .. } => {
                format!("name a readable regular file of at most {MAX_FILE} bytes")
            }
            ExpandError::Unknown(_) => "write ${env:NAME}, ${env:NAME:-default} or ${file:PATH}".to_owned(),
            ExpandError::Lines(_) => "use a value of one line".to_owned(),
            ExpandError::Block => "write the value on one line, in quotes".to_owned(),
            ExpandError::Total => "refer to shorter values, or write them into the file".to_owned(),
        }
    }
}

/// A text with every reference in a value replaced.
#[derive(Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    scalars: Vec<Replaced>,
    values: Vec<Value>,
}

/// A scalar with references, in columns from 1 on a line; both ends are exclusive.
struct Replaced {
    line: usize,
    source: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// A reference and its value.
struct Value {
    text: String,
    reference: String,
}

/// Shortest value that is replaced where it is not quoted. Shorter ones are too likely to be a part of another word.
const LEAST_UNQUOTED: usize = 4;

impl Expanded {
    /// The position in the file of a position in the expanded text.
    pub fn source(&self, at: Position) -> Position {
        let (start, end) = (at.column, at.column + at.length);
        let source = |column: usize, of_range: fn(&std::ops::Range<usize>) -> usize| {
            let before = self
                .scalars
                .iter()
                .rfind(|r| r.line == at.line && r.value.start <= column);
            match before {
                Some(r) if column < r.value.end => of_range(&r.source),
                Some(r) => column - r.value.end + r.source.end,
                None => column,
            }
        };
        let column = source(start, |range| range.start);
        let end = source(end.saturating_sub(1), |range| range.end - 1) + 1;
        Position {
            line: at.line,
            column,
            length: end.saturating_sub(column).max(1),
        }
    }

    /// A message in which values of references are replaced by the references.
    pub fn as_written(&self, message: &str) -> String {
        let mut values: Vec<&Value> = self
            .values
            .iter()
            .filter(|value| !value.text.is_empty())
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.text.len()));
        let mut message = message.to_owned();
        for value in values {
            let (quoted, reference) = (format!("{:?}", value.text), &value.reference);
            if message.contains(&quoted) {
                message = message.replace(&quoted, &format!("{reference:?}"));
            }
            let escaped = &quoted[1..quoted.len() - 1];
            for text in [value.text.as_str(), escaped] {
                if text.len() >= LEAST_UNQUOTED && message.contains(text) {
                    message = message.replace(text, reference);
                }
            }
        }
        message
    }
}

/// Resolves references; replaced in tests.
pub trait Lookup {
    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// The environment and the files of the process.
pub struct System {
    /// When all files must have been read.
    deadline: Instant,
}

/// Largest file that may be expanded, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Largest size of the values of all references, in bytes.
const MAX_TOTAL: usize = 4 << 20;

impl System {
    /// With the time limit for files beginning now.
    pub fn new() -> Self {
        System {
            deadline: Instant::now() + READ_TIME,
        }
    }
}

impl Lookup for System {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        read_regular(Path::new(path), MAX_FILE, self.deadline).map_err(|error| error.to_string())
    }
}

/// Expands the references in `scalars`, the values of the YAML `text`.
pub fn expand(
    text: &str,
    scalars: &[Scalar],
    lookup: &dyn Lookup,
) -> Result<Expanded, (Position, ExpandError)> {
    let (mut out, mut copied, mut total) = (Expanded::default(), 0, 0);
    for scalar in scalars {
        if !scalar.text.contains("${") && !scalar.text.contains("$$") {
            continue;
        }
        if matches!(scalar.style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return Err((scalar.position, ExpandError::Block));
        }
        let written = text.get(scalar.bytes.clone()).unwrap_or_default();
        let value = scalar_value(scalar, written, lookup, &mut out.values)?;
        total += value.len();
        if total > MAX_TOTAL {
            return Err((scalar.position, ExpandError::Total));
        }
        out.text
            .push_str(text.get(copied..scalar.bytes.start).unwrap_or_default());
        out.push_scalar(scalar, written, &value);
        copied = scalar.bytes.end;
    }
    out.text.push_str(text.get(copied..).unwrap_or_default());
    Ok(out)
}

impl Expanded {
    fn push_scalar(&mut self, scalar: &Scalar, written: &str, value: &str) {
        let yaml = match scalar.style == ScalarStyle::Plain && is_plain(value) {
            true => value.to_owned(),
            false => quoted(value),
        };
        let line_start = self.text.rfind('\n').map_or(0, |at| at + 1);
        let column = self.text[line_start..].chars().count() + 1;
        self.text.push_str(&yaml);
        match written.rsplit_once('\n') {
            None => self.scalars.push(Replaced {
                line: scalar.position.line,
                source: scalar.position.column..scalar.position.column + written.chars().count(),
                value: column..column + yaml.chars().count(),
            }),
            // What follows keeps its line and column.
            Some((_, last)) => {
                self.text.push_str(&"\n".repeat(written.matches('\n').count()));
                self.text.push_str(&" ".repeat(last.chars().count()));
            }
        }
    }
}

/// Whether text without quotes is one scalar, and neither null nor the beginning of something else.
fn is_plain(text: &str) -> bool {
    let starts = text
        .trim_start_matches(['+', '-'])
        .starts_with(|c: char| c.is_ascii_alphanumeric());
    let only = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    starts && text.chars().all(only) && !text.starts_with("--") && !text.eq_ignore_ascii_case("null")
}

/// A YAML scalar in double quotes on one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            other => out.push_str(&format!("\\U{:08X}", u32::from(other))),
        }
    }
    out.push('"');
    out
}

fn scalar_value(
    scalar: &Scalar,
    written: &str,
    lookup: &dyn Lookup,
    values: &mut Vec<Value>,
) -> Result<String, (Position, ExpandError)> {
    let (mut out, mut rest, mut searched) = (String::new(), scalar.text.as_str(), 0);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            out.push('$');
            rest = after;
            continue;
        };
        let mut at = |reference: &str| {
            let found = written[searched..].find(reference).map(|at| at + searched);
            searched = found.map_or(searched, |at| at + reference.len());
            found.map_or(scalar.position, |at| {
                within(scalar.position, &written[..at], reference)
            })
        };
        let Some((inner, after)) = inner.split_once('}') else {
            return Err((at("${"), ExpandError::Unclosed));
        };
        let reference = format!("${{{inner}}}");
        let position = at(&reference);
        let text = value(inner, lookup).map_err(|error| (position, error))?;
        out.push_str(&text);
        values.push(Value { text, reference });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The position of a part of a scalar, after `before`.
fn within(scalar: Position, before: &str, part: &str) -> Position {
    let (line, column) = match before.rsplit_once('\n') {
        None => (scalar.line, scalar.column + before.chars().count()),
        Some((lines, last)) => (
            scalar.line + 1 + lines.matches('\n').count(),
            last.chars().count() + 1,
        ),
    };
    Position {
        line,
        column,
        length: part.chars().count(),
    }
}

fn value(reference: &str, lookup: &dyn Lookup) -> Result<String, ExpandError> {
    let value = match reference.split_once(':') {
        Some(("env", rest)) => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            };
            lookup
                .env(name)
                .or(default.map(str::to_owned))
                .ok_or_else(|| ExpandError::Unset(name.to_owned()))?
        }
        Some(("file", path)) => lookup
            .file(path)
            .map_err(|reason| ExpandError::File {
                path: path.to_owned(),
                reason,
            })?
            .trim_end_matches(['\n', '\r'])
            .to_owned(),
        _ => return Err(ExpandError::Unknown(reference.to_owned())),
    };
    match value.contains(['\n', '\r']) {
        true => Err(ExpandError::Lines(reference.to_owned())),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::position::Index;
    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "PORT" => Some("9464".into()),
                "LINES" => Some("a\nb".into()),
                "INJECT" => Some("x\", admin: {listen: \"0.0.0.0:1".into()),
                "LIST" => Some("[a, b]".into()),
                "ODD" => Some("é\t\\ #: ~".into()),
                _ => None,
            }
        }

        fn file(&self, path: &str) -> Result<String, String> {
            if path == "/secret" {
                Ok("s3cret\n".into())
            } else {
                Err("no such file".into())
            }
        }
    }

    fn expanded(text: &str) -> Result<Expanded, (Position, ExpandError)> {
        expand(text, &Index::new(text).scalars, &Fixed)
    }

    #[test]
    fn references_are_replaced_by_their_values() {
        let check = |text: &str, expected: &str| {
            let expanded = expanded(text).map(|expanded| expanded.text);
            assert_eq!(expanded.as_deref(), Ok(expected));
        };
        check("port: ${env:PORT}", "port: 9464");
        check("port: '${env:PORT}'", "port: \"9464\"");
        check("listen: 127.0.0.1:${env:PORT}", "listen: \"127.0.0.1:9464\"");
        check("a: ${env:NOPE:-x}\nb: ${env:NOPE:-}", "a: x\nb: \"\"");
        check("token: ${file:/secret}\n", "token: s3cret\n");
        check("price: $$5 and $5", "price: \"$5 and $5\"");
        check("price: $5", "price: $5");
        check(
            "# ${env:NOPE} is kept\na: 1 # ${env:NOPE}",
            "# ${env:NOPE} is kept\na: 1 # ${env:NOPE}",
        );
        check("&a ${env:NOPE}: !!str ${env:PORT}", "&a ${env:NOPE}: !!str 9464");
        check(
            "? { a: '${env:NOPE}' }\n: ${env:PORT}",
            "? { a: '${env:NOPE}' }\n: 9464",
        );
        check("a: ${env:NOPE:-null}\nb: ${env:NOPE:-~}", "a: \"null\"\nb: \"~\"");
    }

    #[test]
    fn a_value_stays_one_scalar() {
        for (text, name) in [
            ("a: ${env:INJECT}", "INJECT"),
            ("a: \"${env:INJECT}\"", "INJECT"),
            ("{ a: \"${env:LIST}\" }", "LIST"),
            ("a: ${env:ODD}", "ODD"),
        ] {
            let expanded = expanded(text).unwrap();
            let index = Index::new(&expanded.text);
            let value = Fixed.env(name).unwrap();
            let scalars: Vec<&str> = index.scalars.iter().map(|scalar| scalar.text.as_str()).collect();
            assert_eq!(scalars, [value.as_str()], "{}", expanded.text);
        }
    }

    #[test]
    fn lines_and_columns_after_a_scalar_of_several_lines_are_kept() {
        let check = |text: &str| {
            let expanded = expanded(text).unwrap();
            let place = |text: &str| {
                let index = Index::new(text);
                let last = index.scalars.last().unwrap();
                (last.text.clone(), last.position)
            };
            assert_eq!(place(&expanded.text), place(text), "{text}{}", expanded.text);
        };
        check("a: ${env:PORT}\n  b\nc: d\n");
        check("{ a: \"${env:PORT}\n  b\", c: d }\n");
    }

    #[test]
    fn a_reference_without_a_value_is_reported_with_its_position() {
        let check = |text: &str, place: (usize, usize, usize), expected: &str| {
            let Err((at, error)) = expanded(text) else {
                panic!("{text}")
            };
            assert_eq!((at.line, at.column, at.length), place, "{error}");
            assert_eq!(error.to_string(), expected);
        };
        check(
            "a: 1\nb: ${env:NOPE}",
            (2, 4, 11),
            "environment variable NOPE is not set",
        );
        check("a: ${env:PORT", (1, 4, 2), "`${` without `}`");
        check("a: ${vault:x}", (1, 4, 10), "unknown reference ${vault:x}");
        check(
            "a: ${file:/nope}",
            (1, 4, 13),
            "cannot read file /nope: no such file",
        );
        check(
            "é: ${env:LINES}",
            (1, 4, 12),
            "the value of ${env:LINES} has more than one line",
        );
        check(
            "a:\n  b\n  ${env:NOPE}\n",
            (3, 3, 11),
            "environment variable NOPE is not set",
        );
        check("a: |\n  ${env:NOPE}\n", (2, 3, 1), "a reference in a text block");
    }

    #[test]
    fn positions_in_the_expanded_text_are_mapped_to_the_file() {
        let expanded = expanded("é: { a: '${env:PORT}', b: '${file:/secret}x', c: 1 }\n").unwrap();
        assert_eq!(expanded.text, "é: { a: \"9464\", b: \"s3cretx\", c: 1 }\n");
        let check = |column, length, source: (usize, usize)| {
            let at = expanded.source(Position {
                line: 1,
                column,
                length,
            });
            assert_eq!((at.column, at.length), source, "{column}");
        };
        check(6, 1, (6, 1));
        check(9, 6, (9, 13));
        check(20, 9, (27, 18));
        check(34, 1, (50, 1));
    }

    #[test]
    fn messages_show_references_instead_of_their_values() {
        let expanded = expanded("a: ${file:/secret}\nb: ${env:NOPE:-x}\nc: ${env:ODD}\n").unwrap();
        let check = |message: &str, expected: &str| assert_eq!(expanded.as_written(message), expected);
        check(
            "invalid path \"s3cret\", s3cret/x",
            "invalid path \"${file:/secret}\", ${file:/secret}/x",
        );
        check(
            "expected \"x\" or y, not xy",
            "expected \"${env:NOPE:-x}\" or y, not xy",
        );
        check(&format!("bad {:?}", "é\t\\ #: ~"), "bad \"${env:ODD}\"");
    }
}
