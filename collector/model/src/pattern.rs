//! Name patterns of subscriptions, `tap` and packs, and the globs of `where`.
//!
//! A pattern is a dotted name in which `*` matches any text within one segment and `**` any number of segments, including none:
//! `phoenix.**` matches `phoenix` and `phoenix.endpoint.stop`. In a glob only `*` is special: it matches any text.

use std::fmt;

/// A compiled name pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
}

/// An invalid pattern: the fault and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid pattern {pattern:?}: {message}")]
pub struct BadPattern {
    pattern: String,
    message: &'static str,
}

impl Pattern {
    /// Longest pattern, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// Checks a pattern.
    ///
    /// ```
    /// use dichroic_model::Pattern;
    /// let pattern = Pattern::new("phoenix.*.stop").unwrap();
    /// assert!(pattern.matches("phoenix.endpoint.stop"));
    /// assert!(!pattern.matches("phoenix.endpoint.start"));
    /// ```
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let bad = |message| BadPattern {
            pattern: crate::attributes::cut(text, 80).to_owned(),
            message,
        };
        if text.is_empty() {
            return Err(bad("empty; use ** to match all names"));
        }
        if text.len() > Self::MAX_BYTES {
            return Err(bad("longer than 256 bytes"));
        }
        if text.split('.').any(str::is_empty) {
            return Err(bad("empty segment; use ** for any number of segments"));
        }
        if text
            .split('.')
            .any(|segment| segment != "**" && segment.contains("**"))
        {
            return Err(bad("** must be a whole segment; use * within a segment"));
        }
        Ok(Pattern {
            text: text.to_owned(),
        })
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        segments_match(&self.text, name)
    }

    /// Whether a name may match both patterns. Segments that both have a `*` count as overlapping.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let theirs: Vec<&str> = other.text.split('.').collect();
        // reach[j]: whether the segments so far and the first j of theirs can match the same text.
        let mut reach = vec![true];
        for their in &theirs {
            reach.push(*their == "**" && reach[reach.len() - 1]);
        }
        for mine in self.text.split('.') {
            let mut diagonal = reach[0];
            reach[0] &= mine == "**";
            for (j, their) in theirs.iter().enumerate() {
                let above = reach[j + 1];
                reach[j + 1] = if mine == "**" || *their == "**" {
                    above || reach[j]
                } else {
                    diagonal && segments_overlap(mine, their)
                };
                diagonal = above;
            }
        }
        reach[theirs.len()]
    }

    /// The name, if the pattern has no wildcards.
    pub fn literal(&self) -> Option<&str> {
        (!self.text.contains('*')).then_some(&*self.text)
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn segments_overlap(a: &str, b: &str) -> bool {
    match (a.contains('*'), b.contains('*')) {
        (true, true) => true,
        (true, false) => glob(a, b),
        (false, true) => glob(b, a),
        (false, false) => a == b,
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (text, None),
    }
}

/// Iterative, with one backtracking point (the last `**`): the cost is at most pattern × name, also for a hostile pattern.
fn segments_match(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (Some(pattern), Some(name));
    let mut retry: Option<(Option<&str>, &str)> = None;
    loop {
        match (pattern.map(split), name.map(split)) {
            (None, None) => return true,
            (Some(("**", rest)), _) => {
                pattern = rest;
                match name {
                    Some(n) => retry = Some((rest, n)),
                    None => continue,
                }
                continue;
            }
            (Some((p, p_rest)), Some((n, n_rest))) if glob(p, n) => {
                pattern = p_rest;
                name = n_rest;
                continue;
            }
            _ => {}
        }
        let Some((after, tried)) = retry else { return false };
        let shorter = split(tried).1;
        pattern = after;
        name = shorter;
        match shorter {
            Some(n) => retry = Some((after, n)),
            None => retry = None,
        }
    }
}

/// Whether `text` matches a glob in which `*` matches any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut i, mut j) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        if i < p.len() && p[i] == b'*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && p[i] == t[j] {
            i += 1;
            j += 1;
        } else if let Some((si, sj)) = star {
            star = Some((si, sj + 1));
            i = si + 1;
            j = sj + 1;
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_a_name_may_match_both() {
        let check = |a: &str, b: &str, expected: bool| {
            let (a, b) = (Pattern::new(a).unwrap(), Pattern::new(b).unwrap());
            assert_eq!(a.overlaps(&b), expected, "{a} {b}");
            assert_eq!(b.overlaps(&a), expected, "{b} {a}");
        };
        check("a.b", "a.b", true);
        check("a.b", "a.c", false);
        check("a.*", "a.b", true);
        check("a.*", "a", false);
        check("a.**", "a", true);
        check("shop.**", "**.query", true);
        check("shop.repo.query", "**.query", true);
        check("shop.repo.stop", "**.query", false);
        check("a.**.z", "**.b.*", true);
        check("a.b*", "a.*c", true);
        check("*", "a.b", false);
        check("**", "**.x.**", true);
    }

    #[test]
    fn patterns_match_by_segments() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(name),
                expected,
                "{pattern} on {name}"
            );
        };
        check("**", "a", true);
        check("**", "a.b.c", true);
        check("phoenix.**", "phoenix", true);
        check("phoenix.**", "phoenix.endpoint.stop", true);
        check("phoenix.**", "phoenixes.endpoint", false);
        check("phoenix.*", "phoenix.endpoint", true);
        check("phoenix.*", "phoenix.endpoint.stop", false);
        check("*.query", "repo.query", true);
        check("**.query", "my_app.repo.query", true);
        check("**.query", "my_app.repo.query.x", false);
        check("a.**.z", "a.z", true);
        check("a.**.z", "a.b.c.z", true);
        check("a.**.z.**.q", "a.z.b.z.q", true);
        check("a.**.b.c", "a.b.b.c", true);
        check("http_*_total", "http_requests_total", true);
        check("oban.job.exception", "oban.job.exception", true);
        check("oban.job.exception", "oban.job.stop", false);
        check("**.**", "a", true);
    }

    #[test]
    fn an_invalid_pattern_gives_advice() {
        let check = |pattern: &str, message: &str| {
            let error = Pattern::new(pattern).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        };
        check("", "use **");
        check("a..b", "empty segment");
        check("a.b**", "whole segment");
        check(&"x".repeat(257), "256 bytes");
    }

    #[test]
    fn globs_match_rendered_values() {
        let check =
            |pattern, text, expected| assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
        check("5*", "503", true);
        check("5*", "403", false);
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
        check("*/users/*", "/api/users/7", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-b-b", false);
    }

    #[test]
    fn a_hostile_pattern_is_cheap() {
        let pattern =
            Pattern::new(&["**"; 60].join(".a.")).unwrap_or_else(|_| Pattern::new("**.a.**.b").unwrap());
        assert!(
            !Pattern::new("**.a.**.b")
                .unwrap()
                .matches(&"a.".repeat(5_000)[..9_999])
        );
        let _ = pattern.matches(&"b.".repeat(5_000)[..9_999]);
    }
}
