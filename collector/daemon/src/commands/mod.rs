//! The commands that read: each asks a running collector and prints what it says, for people or for pipes.

pub mod attach;
pub mod catalog;
pub mod check;
pub mod completions;
pub mod destination;
pub mod discover;
pub mod ledger;
pub mod lint;
pub mod tap;

use dichroic_model::text::{escape_control, escape_where};
use std::borrow::Cow;
use std::process::ExitCode;

/// Runs a command's future to its exit code; an error is printed in its words.
pub fn finish(future: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(future) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("dichroic: {}", plain_lines(message));
    ExitCode::FAILURE
}

/// Text of several lines as a terminal may show it.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    escape_where(
        text,
        |c| c.is_control() && c != '\n',
        |c| c.escape_default().to_string(),
    )
}

/// Prints a line, without control characters of others in it.
pub fn line(text: &str) {
    print(&escape_control(text));
}

/// Prints a document of JSON as a line. JSON lets some control characters stand as they are; here none does.
pub fn json(document: &str) {
    print(&escape_where(document, char::is_control, |c| {
        format!("\\u{:04x}", u32::from(c))
    }));
}

/// Prints a line as it is; a reader that went away (`| head`) ends the command without noise.
pub fn print(text: &str) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a table with aligned columns; the last column is not padded.
pub fn table(rows: &[Vec<String>]) {
    aligned(rows).iter().for_each(|row| print(row));
}

fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let plain = |row: &Vec<String>| row.iter().map(|cell| escape_control(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(plain).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| {
            rows.iter()
                .filter_map(|row| row.get(c))
                .map(|cell| cell.chars().count())
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
    fn control_characters_of_others_do_nothing_to_the_terminal() {
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
        assert_eq!(aligned(&rows), ["\\u{1b}]0;t\\u{7}  b", "c                d\\n"]);
    }
}
