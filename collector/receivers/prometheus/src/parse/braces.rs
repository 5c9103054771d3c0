//! Labels between braces: read from left to right and checked, so that [`Labels`] can decode them later without errors.

use super::error::{Fault, Placed, fault};
use super::escaped::Escaped;
use super::labels::Labels;
use super::lex;

/// What a format allows between braces.
#[derive(Clone, Copy)]
pub(crate) struct BraceRules {
    /// A comma after the last label.
    pub last_comma: bool,
    /// Names in quotes, the metric's own among them.
    pub quoted_names: bool,
    /// Any label name, also twice: an exemplar for a lenient parser.
    pub any_labels: bool,
    /// There is a metric name before the brace, or none is expected, as in an exemplar.
    pub named: bool,
}

/// A valid pair of braces.
pub struct Braces<'a> {
    /// The metric name, if it is inside.
    pub name: Option<Escaped<'a>>,
    pub labels: Labels<'a>,
    /// The position after the closing brace.
    pub end: usize,
    /// Whether a name is in quotes.
    pub quoted: bool,
    /// Whether a comma follows the last label.
    pub last_comma: bool,
}

/// Reads `{...}` from the brace at `open` and checks everything that [`Labels`] relies on. `seen` is scratch space for label
/// names, owned by the parser so that a sample allocates nothing. `LOOSE`: see [`super::parser::Grammar`].
pub(crate) fn braces<'a, const LOOSE: bool>(
    page: &'a [u8],
    open: usize,
    rules: BraceRules,
    seen: &mut Vec<(usize, usize)>,
) -> Result<Braces<'a>, Placed> {
    let blanks_if_loose = |at| if LOOSE { lex::blanks(page, at) } else { at };
    let (mut name, mut at, mut quoted) = (None, blanks_if_loose(open + 1), false);
    seen.clear();
    while page.get(at) != Some(&b'}') {
        let quoted_here = page.get(at) == Some(&b'"');
        let (key, key_end) = match lex::label_name(page, at) {
            Some(found) if !quoted_here || rules.quoted_names => found,
            _ => return Err((expected_label(page, at, rules), at)),
        };
        quoted |= quoted_here;
        let next = blanks_if_loose(key_end);
        if quoted_here && matches!(page.get(next), Some(b',' | b'}')) {
            if rules.named || name.is_some() {
                return Err((
                    fault("a second metric name", "write a label as name=\"value\""),
                    at,
                ));
            }
            name = Some(checked(page, at + 1, key_end - 1)?);
            at = separator::<LOOSE>(page, next, rules)?;
            continue;
        }
        if (key.is_empty() || key == b"__name__") && !rules.any_labels {
            return Err((
                fault("invalid label name", "write the metric's name before the brace"),
                at,
            ));
        }
        let key_start = at + usize::from(quoted_here);
        seen.push((key_start, key_start + key.len()));
        at = label_value::<LOOSE>(page, next)?;
        at = separator::<LOOSE>(page, blanks_if_loose(at), rules)?;
    }
    if seen.len() > 1 && !rules.any_labels {
        repeated(page, seen)?;
    }
    // One check for all labels: outside quotes there is only ASCII.
    let labels = Labels {
        inner: checked(page, open + 1, at)?.0,
    };
    Ok(Braces {
        name,
        labels,
        end: at + 1,
        quoted,
        last_comma: page[at - 1] == b',',
    })
}

/// Reads `="value"` and returns the position after it.
fn label_value<const LOOSE: bool>(page: &[u8], at: usize) -> Result<usize, Placed> {
    if page.get(at) != Some(&b'=') {
        return Err((
            fault("expected `=` after the label's name", "write name=\"value\""),
            at,
        ));
    }
    let at = if LOOSE { lex::blanks(page, at + 1) } else { at + 1 };
    let (value, end) = match lex::quoted(page, at) {
        Some(found) => found,
        None if page.get(at) == Some(&b'"') => {
            return Err((fault("unterminated label value", "close it with `\"`"), at));
        }
        None => {
            return Err((
                fault("expected a label value in double quotes", "write name=\"value\""),
                at,
            ));
        }
    };
    if !LOOSE && memchr::memchr(b'\n', value).is_some() {
        return Err((
            fault("line feed in a label value", "write a line feed as `\\n`"),
            at,
        ));
    }
    Ok(end)
}

/// Skips the comma between labels; stays at a closing brace.
fn separator<const LOOSE: bool>(page: &[u8], at: usize, rules: BraceRules) -> Result<usize, Placed> {
    match page.get(at) {
        Some(b'}') => Ok(at),
        Some(b',') if LOOSE => Ok(lex::blanks(page, at + 1)),
        Some(b',') if page.get(at + 1) == Some(&b'}') && !rules.last_comma => {
            Err((fault("comma after the last label", "remove the comma"), at))
        }
        Some(b',') => Ok(at + 1),
        _ if LOOSE => Ok(at),
        _ => Err((
            fault(
                "expected `,` or `}` after the label",
                "separate labels with one comma",
            ),
            at,
        )),
    }
}

fn expected_label(page: &[u8], at: usize, rules: BraceRules) -> Fault {
    match page.get(at) {
        Some(b'"') if rules.quoted_names => fault("unterminated quoted name", "close it with `\"`"),
        Some(b'"') => fault(
            "quoted names are not allowed in OpenMetrics 1.0",
            "serve the page with `escaping=allow-utf-8` in its content type, or use names of letters, digits and `_`",
        ),
        None | Some(b'\n') => fault("unclosed brace", "close the labels with `}`"),
        _ => fault(
            "expected a label name",
            "names consist of letters, digits and `_`, and do not begin with a digit",
        ),
    }
}

fn checked(page: &[u8], from: usize, to: usize) -> Result<Escaped<'_>, Placed> {
    match std::str::from_utf8(&page[from..to]) {
        Ok(text) => Ok(Escaped(text)),
        Err(bad) => {
            let fault = fault("invalid UTF-8", "encode names and values as UTF-8");
            Err((fault, from + bad.valid_up_to()))
        }
    }
}

/// Rejects a repeated label name. Few labels are compared pairwise, many are sorted.
fn repeated(page: &[u8], seen: &mut [(usize, usize)]) -> Result<(), Placed> {
    let name = |&(from, to): &(usize, usize)| &page[from..to];
    let again = if seen.len() <= 12 {
        (1..seen.len())
            .find(|&i| seen[..i].iter().any(|other| name(other) == name(&seen[i])))
            .map(|i| seen[i])
    } else {
        seen.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
        seen.windows(2)
            .find(|pair| name(&pair[0]) == name(&pair[1]))
            .map(|pair| pair[1])
    };
    match again {
        Some((at, _)) => Err((fault("duplicate label", "give each label one value"), at)),
        None => Ok(()),
    }
}
