//! `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in a configuration file; `$$` is a dollar.
//!
//! The text is expanded before it is read as YAML, so that a reference works in every value. An expanded value has one line, so
//! line numbers are those of the file; [`Expanded::source`] maps columns back.

use super::position::Position;
use std::io::Read;

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
    /// The value would change line numbers.
    #[error("the value of ${{{0}}} has more than one line")]
    Lines(String),
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
            ExpandError::File { .. } => format!("name a readable file of at most {MAX_FILE} bytes"),
            ExpandError::Unknown(_) => "write ${env:NAME}, ${env:NAME:-default} or ${file:PATH}".to_owned(),
            ExpandError::Lines(_) => "use a value of one line".to_owned(),
        }
    }
}

/// A text with every reference replaced by its value.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    replaced: Vec<Replaced>,
}

/// A reference and its value, in columns from 1 on a line; both ends are exclusive.
#[derive(Debug, PartialEq, Eq)]
struct Replaced {
    line: usize,
    source: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl Expanded {
    /// Whether a position in the expanded text holds the value of a reference.
    pub fn is_reference(&self, at: Position) -> bool {
        let overlaps = |r: &Replaced| r.value.start < at.column + at.length && at.column < r.value.end;
        self.replaced.iter().any(|r| r.line == at.line && overlaps(r))
    }

    /// The position in the file of a position in the expanded text.
    pub fn source(&self, at: Position) -> Position {
        let (start, end) = (at.column, at.column + at.length);
        let source = |column: usize, of_range: fn(&std::ops::Range<usize>) -> usize| {
            let before = self
                .replaced
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
}

/// Resolves references; replaced in tests.
pub trait Lookup {
    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<String>;
    /// The text of a file.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// The environment and the files of the process.
pub struct System;

/// Largest file that may be expanded, in bytes.
const MAX_FILE: u64 = 64 << 10;

impl Lookup for System {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        // A pipe or a device could block or never end.
        if !std::fs::metadata(path).map_err(|e| e.to_string())?.is_file() {
            return Err("not a regular file".to_owned());
        }
        let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
        let mut text = String::new();
        let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
        match read.map_err(|e| e.to_string())? as u64 {
            0..=MAX_FILE => Ok(text),
            _ => Err(format!("more than {MAX_FILE} bytes")),
        }
    }
}

/// Expands every reference. Comment lines are kept as they are: an example in a comment needs no environment.
pub fn expand(text: &str, lookup: &dyn Lookup) -> Result<Expanded, (Position, ExpandError)> {
    let mut out = Expanded::default();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_start().starts_with('#') {
            out.text.push_str(line);
        } else {
            expand_line(number + 1, line, lookup, &mut out)?;
        }
    }
    Ok(out)
}

fn expand_line(
    number: usize,
    line: &str,
    lookup: &dyn Lookup,
    out: &mut Expanded,
) -> Result<(), (Position, ExpandError)> {
    let column = |text: &str| text.chars().count() + 1;
    let line_start = out.text.len();
    let mut at = 0;
    while let Some(dollar) = line[at..].find('$').map(|i| at + i) {
        out.text.push_str(&line[at..dollar]);
        let rest = &line[dollar + 1..];
        let (value, length) = if rest.starts_with('$') {
            ("$".to_owned(), 2)
        } else if let Some(inner) = rest.strip_prefix('{') {
            let failed = |length: usize, error| {
                let position = Position {
                    line: number,
                    column: column(&line[..dollar]),
                    length,
                };
                (position, error)
            };
            let end = inner.find('}').ok_or_else(|| failed(2, ExpandError::Unclosed))?;
            let reference = &inner[..end];
            let length = reference.chars().count() + 3;
            let value = value(reference, lookup).map_err(|error| failed(length, error))?;
            (value, end + 3)
        } else {
            ("$".to_owned(), 1)
        };
        let start = column(&out.text[line_start..]);
        out.text.push_str(&value);
        out.replaced.push(Replaced {
            line: number,
            source: column(&line[..dollar])..column(&line[..dollar + length]),
            value: start..column(&out.text[line_start..]),
        });
        at = dollar + length;
    }
    out.text.push_str(&line[at..]);
    Ok(())
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
    use super::*;

    struct Fixed;

    impl Lookup for Fixed {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "PORT" => Some("9464".into()),
                "LINES" => Some("a\nb".into()),
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

    #[test]
    fn references_are_replaced_by_their_values() {
        let check = |text: &str, expected: &str| {
            let expanded = expand(text, &Fixed).map(|expanded| expanded.text);
            assert_eq!(expanded.as_deref(), Ok(expected));
        };
        check("listen: 127.0.0.1:${env:PORT}", "listen: 127.0.0.1:9464");
        check("a: ${env:NOPE:-x}\nb: ${env:NOPE:-}", "a: x\nb: ");
        check("token: ${file:/secret}\n", "token: s3cret\n");
        check("price: $$5 and $5", "price: $5 and $5");
        check("# ${env:NOPE} is kept\na: 1", "# ${env:NOPE} is kept\na: 1");
    }

    #[test]
    fn a_reference_without_a_value_is_reported_with_its_position() {
        let check = |text: &str, place: (usize, usize, usize), expected: &str| {
            let (at, error) = expand(text, &Fixed).unwrap_err();
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
    }

    #[test]
    fn positions_in_the_expanded_text_are_mapped_to_the_file() {
        let expanded = expand("é: { a: ${env:PORT}, b: ${file:/secret}x, c: 1 }\n", &Fixed).unwrap();
        assert_eq!(expanded.text, "é: { a: 9464, b: s3cretx, c: 1 }\n");
        let check = |column, length, source: (usize, usize)| {
            let at = expanded.source(Position {
                line: 1,
                column,
                length,
            });
            assert_eq!((at.column, at.length), source, "{column}");
        };
        check(6, 1, (6, 1));
        check(9, 4, (9, 11));
        check(18, 7, (25, 16));
        check(30, 1, (46, 1));
    }
}
