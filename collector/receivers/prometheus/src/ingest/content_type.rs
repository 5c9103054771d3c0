//! The `Content-Type` of a page, as Go's `mime.ParseMediaType` reads it.

/// A media type with its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContentType {
    /// `type/subtype`, in lower case.
    pub media_type: String,
    /// Names are in lower case.
    parameters: Vec<(String, String)>,
}

impl ContentType {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// `None` if the text is empty or invalid.
pub(super) fn parse(text: &str) -> Option<ContentType> {
    let end = text.find(';').unwrap_or(text.len());
    let media_type = text[..end].trim().to_ascii_lowercase();
    let (kind, subtype) = media_type.split_once('/').unwrap_or((&media_type, "x"));
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let (mut parameters, mut rest) = (Vec::<(String, String)>::new(), text[end..].trim_start());
    while !rest.is_empty() && rest.trim() != ";" {
        let (name, after) = rest.strip_prefix(';')?.split_once('=')?;
        let name = name.trim_start().to_ascii_lowercase();
        let (value, after) = value(after)?;
        if !is_token(&name) || parameters.iter().any(|(known, _)| *known == name) {
            return None;
        }
        parameters.push((name, value));
        rest = after.trim_start();
    }
    Some(ContentType {
        media_type,
        parameters,
    })
}

/// A token or a quoted string, and the text after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| !is_token_char(c)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => return Some((value, &quoted[at + 1..])),
            '\\' if !escaped => escaped = true,
            '\r' | '\n' => return None,
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_as_go_reads_it() {
        let check = |text: &str, expected: Option<(&str, &[(&str, &str)])>| {
            let expected = expected.map(|(media_type, parameters)| ContentType {
                media_type: media_type.into(),
                parameters: parameters
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            });
            assert_eq!(parse(text), expected, "{text:?}");
        };
        check("text/plain", Some(("text/plain", &[])));
        check(" Text/Plain ;", Some(("text/plain", &[])));
        check(
            "text/plain; Version=0.0.4;charset=\"utf\\-8\"",
            Some(("text/plain", &[("version", "0.0.4"), ("charset", "utf-8")])),
        );
        for invalid in [
            "",
            ";",
            "text/",
            "text plain",
            "text/plain; version",
            "text/plain; a=1; a=2",
            "text/plain; a=\"1",
            "text/plain; a=;",
            "text/plain, text/html",
        ] {
            check(invalid, None);
        }
    }
}
