//! A small strict parser of pages: it accepts only valid output of the renderer, and shares no code with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

/// (name, sorted labels)
pub type Key = (String, Vec<(String, String)>);

/// Samples with the text of their values.
pub type Samples = BTreeMap<Key, String>;

/// Parses a page; `Err` names the line and the violated rule.
pub fn read(page: &str, openmetrics: bool) -> Result<Samples, String> {
    let mut samples = Samples::new();
    let mut families = HashSet::new();
    let mut family: Option<(String, String)> = None;
    let mut histograms = HashSet::new();
    let mut ended = false;
    if !page.is_empty() && !page.ends_with('\n') {
        return Err("the last line has no line feed".into());
    }
    for line in page.lines() {
        let fail = |problem: &str| Err(format!("{problem}: {line}"));
        if ended {
            return fail("line after # EOF");
        }
        if line == "# EOF" && openmetrics {
            ended = true;
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').ok_or("HELP without a text")?;
            unescape(text, openmetrics).ok_or(format!("invalid escape: {line}"))?;
            if families.contains(name) {
                return fail("HELP after the start of its family");
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without a type")?;
            if !families.insert(name.to_owned()) {
                return fail("duplicate family");
            }
            if kind.ends_with("histogram") {
                histograms.insert(name.to_owned());
            }
            family = Some((name.to_owned(), kind.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').ok_or("UNIT without a unit")?;
            if !openmetrics || !name.ends_with(&format!("_{unit}")) {
                return fail("the name does not end with the unit");
            }
        } else if line.starts_with('#') || line.is_empty() {
            return fail("unexpected comment or empty line");
        } else {
            let (name, labels, value) = sample(line, openmetrics)?;
            let Some((base, kind)) = &family else {
                return fail("sample without a family");
            };
            let suffix = name
                .strip_prefix(base.as_str())
                .ok_or(format!("sample outside the family {base}: {line}"))?;
            if !suffixes(kind, openmetrics).contains(&suffix) {
                return fail("invalid suffix for the type");
            }
            if samples.insert((name, labels), value).is_some() {
                return fail("duplicate sample");
            }
        }
    }
    if openmetrics && !ended {
        return Err("no # EOF".into());
    }
    cumulative(&samples, &histograms)?;
    Ok(samples)
}

fn suffixes(kind: &str, openmetrics: bool) -> &'static [&'static str] {
    match (kind, openmetrics) {
        ("counter", true) => &["_total", "_created"],
        ("histogram", true) => &["_bucket", "_sum", "_count", "_created"],
        ("histogram", false) => &["_bucket", "_sum", "_count"],
        ("gaugehistogram", true) => &["_bucket", "_gsum", "_gcount"],
        ("summary", true) => &["", "_sum", "_count", "_created"],
        ("summary", false) => &["", "_sum", "_count"],
        ("info", true) => &["_info"],
        ("stateset" | "gauge" | "unknown", true) => &[""],
        ("counter" | "gauge" | "untyped", false) => &[""],
        _ => &[],
    }
}

fn unescape(text: &str, quotes: bool) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => out.push('\\'),
                'n' => out.push('\n'),
                '"' if quotes => out.push('"'),
                _ => return None,
            },
            '"' if quotes => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

fn valid(name: &str, colons: bool) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    !name.is_empty() && name.chars().all(ok) && !name.starts_with(|c: char| c.is_ascii_digit())
}

type Sample = (String, Vec<(String, String)>, String);

fn sample(line: &str, openmetrics: bool) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or(format!("no value: {line}"))?;
    let name = &line[..end];
    if !valid(name, true) {
        return Err(format!("invalid name: {line}"));
    }
    let mut labels = Vec::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        (labels, rest) = label_pairs(inside).ok_or(format!("invalid labels: {line}"))?;
    }
    let rest = rest
        .strip_prefix(' ')
        .ok_or(format!("no space before the value: {line}"))?;
    let value = match rest.split_once(" # {") {
        Some((value, exemplar)) if openmetrics => {
            let (_, tail) = label_pairs(exemplar).ok_or(format!("invalid exemplar: {line}"))?;
            let numbers: Vec<_> = tail.trim_start().split(' ').collect();
            if numbers.len() > 2 || numbers.iter().any(|n| n.parse::<f64>().is_err()) {
                return Err(format!("invalid exemplar value: {line}"));
            }
            value
        }
        _ => rest,
    };
    value
        .parse::<f64>()
        .map_err(|_| format!("not a number: {line}"))?;
    labels.sort();
    let names: BTreeSet<_> = labels.iter().map(|(k, _)| k).collect();
    if names.len() != labels.len() || labels.iter().any(|(k, _)| !valid(k, false)) {
        return Err(format!("duplicate or invalid label: {line}"));
    }
    Ok((name.to_owned(), labels, value.to_owned()))
}

fn label_pairs(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = after.char_indices().find(|(_, c)| {
            let closes = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        })?;
        labels.push((name.to_owned(), unescape(&after[..end.0], true)?));
        rest = &after[end.0 + 1..];
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.starts_with('}') => more,
            Some(_) => return None,
            None => rest,
        };
    }
}

/// Checks that buckets are cumulative, end with +Inf, and agree with the count.
fn cumulative(samples: &Samples, histograms: &HashSet<String>) -> Result<(), String> {
    let mut sets: BTreeMap<Key, Vec<(f64, u64)>> = BTreeMap::new();
    for ((name, labels), value) in samples {
        let Some(base) = name
            .strip_suffix("_bucket")
            .filter(|base| histograms.contains(*base))
        else {
            continue;
        };
        let Some(le) = labels.iter().find(|(k, _)| k == "le") else {
            continue;
        };
        let rest = labels.iter().filter(|(k, _)| k != "le").cloned().collect();
        let bound = le.1.parse().map_err(|_| format!("le {}", le.1))?;
        let count = value.parse().map_err(|_| format!("count {value}"))?;
        sets.entry((base.to_owned(), rest))
            .or_default()
            .push((bound, count));
    }
    for ((base, labels), mut buckets) in sets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let grows = buckets.windows(2).all(|w| w[0].1 <= w[1].1 && w[0].0 < w[1].0);
        let last = buckets.last().copied().unwrap_or((0.0, 0));
        let count = samples.get(&(format!("{base}_count"), labels));
        if !grows || last.0 != f64::INFINITY || count.is_some_and(|c| *c != last.1.to_string()) {
            return Err(format!("buckets of {base}: {buckets:?}, count {count:?}"));
        }
    }
    Ok(())
}
