//! `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` in a configuration file; `$$` is a dollar.
//!
//! Expansion is on the text, before YAML is read, so it works in every value; an expanded value cannot add lines, so that line
//! numbers of later errors stay those of the file.

/// What went wrong, at which line.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What, and what to write instead.
    pub what: String,
}

/// Where expansions are looked up; replaced in tests.
pub trait Lookup {
    fn env(&self, name: &str) -> Option<String>;
    fn file(&self, path: &str) -> Result<String, String>;
}

/// The process's environment and files.
pub struct System;

/// Longest file that may be expanded, in bytes.
const MAX_FILE: u64 = 64 << 10;

impl Lookup for System {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> Result<String, String> {
        let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if size > MAX_FILE {
            return Err(format!("is {size} bytes; at most {MAX_FILE} are read"));
        }
        std::fs::read_to_string(path).map_err(|e| e.to_string())
    }
}

/// Expands everything.
pub fn expand(text: &str, lookup: &dyn Lookup) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let problem = |at: usize, what: String| Problem {
            line: number + 1,
            column: line[..at].chars().count() + 1,
            what,
        };
        // Comments are left alone: an example in a comment needs no environment.
        let code = if line.trim_start().starts_with('#') {
            0
        } else {
            line.len()
        };
        let mut at = 0;
        while let Some(dollar) = line[at..code.max(at)].find('$').map(|i| at + i) {
            out.push_str(&line[at..dollar]);
            let rest = &line[dollar + 1..];
            if rest.starts_with('$') {
                out.push('$');
                at = dollar + 2;
            } else if let Some(inner) = rest.strip_prefix('{') {
                let end = inner
                    .find('}')
                    .ok_or_else(|| problem(dollar, "${ without }".to_owned()))?;
                out.push_str(&value(&inner[..end], lookup).map_err(|what| problem(dollar, what))?);
                at = dollar + 2 + end + 1;
            } else {
                out.push('$');
                at = dollar + 1;
            }
        }
        out.push_str(&line[at..]);
    }
    Ok(out)
}

fn value(reference: &str, lookup: &dyn Lookup) -> Result<String, String> {
    let value = match reference.split_once(':') {
        Some(("env", rest)) => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (rest, None),
            };
            lookup.env(name).or(default.map(str::to_owned)).ok_or_else(|| {
                format!("environment variable {name} is not set; set it or write ${{env:{name}:-default}}")
            })?
        }
        Some(("file", path)) => lookup
            .file(path)
            .map_err(|e| format!("file {path}: {e}"))?
            .trim_end_matches(['\n', '\r'])
            .to_owned(),
        _ => {
            return Err(format!(
                "${{{reference}}} is not known; write ${{env:NAME}} or ${{file:PATH}}"
            ));
        }
    };
    if value.contains(['\n', '\r']) {
        return Err(format!("${{{reference}}} has more than one line"));
    }
    Ok(value)
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
                Err("not there".into())
            }
        }
    }

    #[test]
    fn references_become_their_values() {
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &Fixed).as_deref(), Ok(expected));
        check("listen: 127.0.0.1:${env:PORT}", "listen: 127.0.0.1:9464");
        check("a: ${env:NOPE:-x}\nb: ${env:NOPE:-}", "a: x\nb: ");
        check("token: ${file:/secret}\n", "token: s3cret\n");
        check("price: $$5 and $5", "price: $5 and $5");
        check(
            "# ${env:NOPE} is left alone\na: 1",
            "# ${env:NOPE} is left alone\na: 1",
        );
    }

    #[test]
    fn what_cannot_be_expanded_says_where_and_why() {
        let check = |text: &str, line, column, message: &str| {
            let problem = expand(text, &Fixed).unwrap_err();
            assert_eq!((problem.line, problem.column), (line, column), "{problem:?}");
            assert!(problem.what.contains(message), "{problem:?}");
        };
        check("a: 1\nb: ${env:NOPE}", 2, 4, "is not set");
        check("a: ${env:PORT", 1, 4, "without }");
        check("a: ${vault:x}", 1, 4, "is not known");
        check("a: ${file:/nope}", 1, 4, "not there");
        check("é: ${env:LINES}", 1, 4, "more than one line");
    }
}
