//! Output of the commands on the terminal or into a pipe. Text from other programs never reaches it with control characters.

use dichroic_model::text::{escape_control, escape_where};
use std::borrow::Cow;
use std::io::{self, Write};

/// Widest padded column. Longer cells move the rest of their own row only.
const MAX_PADDING: usize = 60;

/// A write to standard output that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[source] io::Error);

impl OutputError {
    /// Whether the reader closed the pipe, as `| head` does. This is not reported.
    pub fn is_broken_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        OutputError(error)
    }
}

/// Text of several lines, with all control characters but line ends escaped.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    escape_where(
        text,
        |c| c.is_control() && c != '\n',
        |c| c.escape_default().to_string(),
    )
}

/// Prints a line with control characters escaped.
pub fn line(text: &str) -> Result<(), OutputError> {
    print(&escape_control(text))
}

/// Prints a JSON document as a line. Also escapes the control characters that JSON permits unescaped, such as U+007F.
pub fn json(document: &str) -> Result<(), OutputError> {
    print(&escape_where(document, char::is_control, |c| {
        format!("\\u{:04x}", u32::from(c))
    }))
}

/// Prints text unchanged, and a line end. Standard output is flushed at each line end, so an error is not lost.
pub fn print(text: &str) -> Result<(), OutputError> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Prints a message on standard error. Without a reader it is lost: the exit code still states the result.
pub fn message(text: &str) {
    let _ = writeln!(io::stderr(), "dichroic: {}", plain_lines(text));
}

/// Prints a warning on standard error, with control characters escaped.
pub fn warning(text: &str) {
    message(&format!("warning: {}", escape_control(text)));
}

/// Prints a table with aligned columns; the last column is not padded.
pub fn table(rows: &[Vec<String>]) -> Result<(), OutputError> {
    columns(rows).iter().try_for_each(|row| print(row))
}

/// The lines of a table. Control characters are escaped.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let plain = |row: &Vec<String>| row.iter().map(|cell| escape_control(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain).collect();
    let most = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..most)
        .map(|c| {
            rows.iter()
                .filter_map(|row| row.get(c))
                .map(|cell| cell.chars().count())
                .filter(|width| *width <= MAX_PADDING)
                .max()
                .unwrap_or(0)
        })
        .collect();
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_cell_does_not_pad_the_other_rows() {
        let long = "x".repeat(MAX_PADDING + 1);
        let rows = [["a", "b"], ["long", "c"], [&long, "d"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            columns(&rows),
            ["a     b".to_owned(), "long  c".to_owned(), format!("{long}  d")]
        );
    }

    #[test]
    fn control_characters_from_other_programs_are_escaped() {
        assert_eq!(escape_control("shop@a"), "shop@a");
        assert_eq!(
            escape_control("a\u{1b}[31m\n\u{9b}é\u{7f}"),
            "a\\u{1b}[31m\\n\\u{9b}é\\u{7f}"
        );
        assert_eq!(plain_lines("a\u{1b}\nb"), "a\\u{1b}\nb");
        let rows = [
            vec!["\u{1b}]0;t\u{7}".to_owned(), "b".to_owned()],
            vec!["c".to_owned(), "d\n".to_owned()],
        ];
        assert_eq!(columns(&rows), ["\\u{1b}]0;t\\u{7}  b", "c                d\\n"]);
    }
}
