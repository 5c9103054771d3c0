//! Errors of the configuration file: position, key, problem and remedy, each stated once.

use super::expand::{ExpandError, Expanded};
use super::input::InputError;
use super::position::{Content, Index, KeyPath, Position};
use super::schema::{self, Node};
use super::violation::Violation;
use dichroic_model::text::redact_url;
use serde_saphyr::{DefaultMessageFormatter, Error as YamlError, MessageFormatter};
use std::fmt;

/// A configuration that cannot be used. `Display` is one line; [`ConfigError::report`] adds the line of the file and the advice.
#[derive(Debug)]
pub struct ConfigError {
    file: String,
    position: Option<Position>,
    key: KeyPath,
    /// What is wrong.
    pub problem: Problem,
    help: Option<String>,
    /// The line of the file, with secrets masked.
    line: Option<String>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(InputError),
    /// A `${…}` reference has no value.
    #[error("{0}")]
    Expand(ExpandError),
    /// The text is not YAML.
    #[error("invalid YAML: {0}")]
    Syntax(String),
    /// The section has no key with this name.
    #[error("unknown key")]
    UnknownKey,
    /// A key that is planned.
    #[error("not supported in this version")]
    Unsupported,
    /// A required key is missing.
    #[error("missing key")]
    MissingKey,
    /// A key is written twice.
    #[error("duplicate key")]
    DuplicateKey,
    /// A value of the wrong type, or outside its range.
    #[error("invalid value {found}: expected {expected}{}", default_of(.default))]
    Value {
        /// As it is written, shortened.
        found: String,
        /// What may be written.
        expected: String,
        /// The value without the key.
        default: Option<String>,
    },
    /// A rule about several keys, or about a value beyond its type.
    #[error("{0}")]
    Rule(String),
}

fn default_of(default: &Option<String>) -> String {
    default
        .as_ref()
        .map(|default| format!(" (default {default})"))
        .unwrap_or_default()
}

impl ConfigError {
    /// A file that cannot be read.
    pub fn unreadable(file: String, error: InputError) -> Self {
        ConfigError {
            file,
            position: None,
            key: KeyPath::default(),
            problem: Problem::Unreadable(error),
            help: Some("name another file with --config".to_owned()),
            line: None,
        }
    }

    /// The remedy.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The error with the line of the file, a marker below it, and the advice.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        if let (Some(at), Some(line)) = (self.position, &self.line) {
            let number = at.line.to_string();
            let pad = " ".repeat(number.len());
            let marker = "^".repeat(
                at.length
                    .min(line.chars().count().saturating_sub(at.column - 1))
                    .max(1),
            );
            text.push_str(&format!("\n  {number} | {line}"));
            text.push_str(&format!("\n  {pad} | {}{marker}", " ".repeat(at.column - 1)));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("\n  help: {help}"));
        }
        text
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(at) = self.position {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        if !self.key.0.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// The configuration text and what is needed to locate errors in it.
pub struct Source<'a> {
    /// The name of the file.
    pub file: &'a str,
    /// The file's text.
    pub text: &'a str,
    /// The values of the text.
    pub index: &'a Index,
}

/// Keys of Prometheus and of other collectors that this version does not support, with the alternative.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("remote_write", "let Prometheus scrape exporters.prometheus"),
    ("remote_read", "query Prometheus itself"),
    ("scrape_configs", "write it under receivers.prometheus"),
    ("global", "write scrape_interval and the other keys into each job"),
    ("rule_files", "evaluate rules in Prometheus"),
    ("alerting", "evaluate rules in Prometheus"),
    ("relabel_configs", LIST_TARGETS),
    (
        "metric_relabel_configs",
        "use metric_relabel_configs of the Prometheus that scrapes this page",
    ),
    ("basic_auth", NO_AUTH),
    ("authorization", NO_AUTH),
    ("oauth2", NO_AUTH),
    ("bearer_token", NO_AUTH),
    ("bearer_token_file", NO_AUTH),
    ("http_headers", NO_AUTH),
    ("tls_config", NO_TLS),
    ("proxy_url", NO_PROXY),
    ("proxy_from_environment", NO_PROXY),
    ("proxy_connect_header", NO_PROXY),
    ("no_proxy", "remove the key: no proxy is used"),
    (
        "follow_redirects",
        "remove the key, and write the final path as metrics_path: redirects are not followed",
    ),
    (
        "enable_http2",
        "remove the key: targets are scraped over HTTP/1.1",
    ),
    (
        "target_limit",
        "remove the key: the targets are those of static_configs",
    ),
    ("keep_dropped_targets", "remove the key: no target is dropped"),
    (
        "track_timestamps_staleness",
        "remove the key: a series expires when a scrape no longer contains it",
    ),
    ("metric_name_validation_scheme", ALL_NAMES),
    ("metric_name_escaping_scheme", ALL_NAMES),
    ("scrape_native_histograms", NO_NATIVE),
    ("scrape_classic_histograms", NO_NATIVE),
    ("always_scrape_classic_histograms", NO_NATIVE),
    ("convert_classic_histograms_to_nhcb", NO_NATIVE),
    ("native_histogram_bucket_limit", NO_NATIVE),
    ("native_histogram_min_bucket_factor", NO_NATIVE),
    (
        "scrape_failure_log_file",
        "remove the key: failed scrapes are in the log, and up is 0",
    ),
];

const LIST_TARGETS: &str = "list the targets, and set their labels, in static_configs";
const NO_AUTH: &str = "let the target's page need no authentication, for example on a loopback address";
const NO_TLS: &str = "scrape over plain HTTP, for example on a loopback address";
const NO_PROXY: &str = "scrape the target directly";
const ALL_NAMES: &str = "remove the key: all UTF-8 names are accepted";
const NO_NATIVE: &str = "remove the key: classic histograms are scraped";

/// Service discovery of Prometheus, whatever its kind.
const DISCOVERY: &str = "_sd_configs";

/// Least similarity of a key that is suggested.
const SIMILAR: f64 = 0.85;

/// Largest number of characters of a value in a message.
const SHOWN: usize = 60;

/// Largest number of keys that are listed with a suggestion.
const LISTED: usize = 16;

/// A line that contains this word is shown only with a masked value.
const SECRET: &str = "token";
/// A line that contains one of these is not shown: a mistyped or unknown key may have a secret as its value.
const SUSPICIOUS: [&str; 5] = ["password", "passwd", "secret", "credential", "authorization"];
/// Largest number of characters of a line that is shown.
const LONGEST_LINE: usize = 200;

/// Advice for text that is not YAML and has a reference on the line.
const QUOTE: &str = "inside { } and [ ] quotes are needed around a reference: \"${env:NAME}\"";
/// Advice for a reference where a list or a section is expected.
const ONE_SCALAR: &str = "the value of a reference is one text, number, true or false";

/// The context of an error of the reader.
struct At<'a> {
    expanded: &'a Expanded,
    schema: Node<'a>,
    /// The reader's own position.
    given: Option<Position>,
}

impl Source<'_> {
    /// An error in a `${…}` reference.
    pub fn unexpanded(&self, (at, error): (Position, ExpandError)) -> ConfigError {
        let help = Some(error.help());
        self.error(KeyPath::default(), Some(at), Problem::Expand(error), help)
    }

    /// Text that is not YAML from a position on.
    pub fn not_yaml(&self, at: Position, reason: String) -> ConfigError {
        let line = self.text.lines().nth(at.line - 1).unwrap_or_default();
        ConfigError {
            file: self.file.to_owned(),
            position: Some(at),
            key: KeyPath::default(),
            problem: Problem::Syntax(reason),
            help: line.contains("${").then(|| QUOTE.to_owned()),
            line: self.masked(at.line, |line| mask_words(line)),
        }
    }

    /// The error of a rule.
    pub fn violated(&self, expanded: &Expanded, violation: Violation) -> ConfigError {
        let position = nearest(self.index, &violation.key);
        let problem = Problem::Rule(expanded.as_written(&violation.message));
        let help = expanded.as_written(&violation.help);
        self.error(violation.key, position, problem, Some(help))
    }

    /// The error of the YAML reader at a path.
    pub fn unread(&self, expanded: &Expanded, path: KeyPath, error: &YamlError) -> ConfigError {
        let mut error = error;
        while let YamlError::WithSnippet { error: inner, .. } | YamlError::AliasError { error: inner, .. } =
            error
        {
            error = inner;
        }
        let document = schema::document();
        let given = error.location().map(|at| Position {
            line: usize::try_from(at.line()).unwrap_or_default().max(1),
            column: usize::try_from(at.column()).unwrap_or_default().max(1),
            length: 1,
        });
        let at = At {
            expanded,
            schema: Node::root(&document),
            given: given.map(|at| expanded.source(at)),
        };
        match error {
            YamlError::SerdeUnknownField { field, expected, .. } => {
                self.unknown_key(&at, path, field, expected)
            }
            YamlError::SerdeMissingField { field, .. } => self.missing_key(&at, path, field),
            YamlError::DuplicateMappingKey { key, .. } => {
                self.duplicate_key(&at, path, key.as_deref().unwrap_or_default())
            }
            YamlError::UnsupportedTag { tag, .. } => {
                let position = at.given.or_else(|| nearest(self.index, &path));
                let problem = Problem::Rule(format!("unsupported tag {tag:?}"));
                self.error(path, position, problem, Some("remove the tag".to_owned()))
            }
            YamlError::Message { msg, .. }
                if !path.0.is_empty() && !is_described(self.index, &path, at.schema) =>
            {
                let position = nearest(self.index, &path).or(at.given);
                let message = match at.schema.get(&path).is_some_and(Node::is_secret) {
                    true => "invalid value".to_owned(),
                    false => expanded.as_written(msg),
                };
                self.error(path, position, Problem::Rule(message), None)
            }
            _ => self.invalid_value(&at, path, error),
        }
    }

    fn unknown_key(&self, at: &At<'_>, path: KeyPath, field: &str, expected: &[&'static str]) -> ConfigError {
        let section = match path.last_key() == Some(field) {
            true => path.parent(),
            false => path,
        };
        let keys = match at.schema.get(&section) {
            Some(node) if !node.keys().is_empty() => node.keys(),
            _ => expected.to_vec(),
        };
        let key = section.key(field);
        let position = self.index.get(&key).and_then(|node| node.key).or(at.given);
        let (problem, help) = unknown(field, &keys);
        self.error(key, position, problem, Some(help))
    }

    fn missing_key(&self, at: &At<'_>, path: KeyPath, field: &str) -> ConfigError {
        let position = nearest(self.index, &path).or(at.given);
        let key = at.schema.get(&path).and_then(|section| section.key(field));
        let help = key.map(|node| usage(field, node));
        self.error(path.key(field), position, Problem::MissingKey, help)
    }

    fn duplicate_key(&self, at: &At<'_>, path: KeyPath, key: &str) -> ConfigError {
        let path = match path.last_key() == Some(key) {
            true => path,
            false => path.key(key),
        };
        let position = at.given.map(|given| Position {
            length: key.chars().count().max(1),
            ..given
        });
        let first = self.index.get(&path).and_then(|node| node.key);
        let help = first.map(|first| format!("remove one of the two; the first is on line {}", first.line));
        self.error(path, position, Problem::DuplicateKey, help)
    }

    fn invalid_value(&self, at: &At<'_>, path: KeyPath, error: &YamlError) -> ConfigError {
        match (self.index.get(&path), at.schema.get(&path)) {
            (Some(found), Some(node)) if !is_syntax(error) => {
                let default = node.default().filter(|value| !value.is_object());
                let secret = node.is_secret() && matches!(found.content, Content::Scalar(_));
                let problem = Problem::Value {
                    found: match secret {
                        true => "(not shown)".to_owned(),
                        false => found_value(&found.content),
                    },
                    expected: node.expected(),
                    default: default.map(schema::yaml),
                };
                let help = match &found.content {
                    Content::Scalar(text) if text.contains("${") && !node.is_scalar() => {
                        Some(ONE_SCALAR.to_owned())
                    }
                    _ => path.last_key().map(|key| usage(key, node)),
                };
                self.error(path, Some(found.value), problem, help)
            }
            _ => {
                let reason = DefaultMessageFormatter.format_message(error);
                let at_start = Position {
                    line: 1,
                    column: 1,
                    length: 1,
                };
                self.not_yaml(at.given.unwrap_or(at_start), at.expanded.as_written(&reason))
            }
        }
    }

    fn error(
        &self,
        key: KeyPath,
        position: Option<Position>,
        problem: Problem,
        help: Option<String>,
    ) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            position,
            key,
            problem,
            help,
            line: position.and_then(|at| {
                let mask = |line: &mut Vec<char>| self.mask_secrets(at.line, line);
                self.masked(at.line, mask)
            }),
        }
    }

    /// A line of the file, masked; none when it may still hold a secret or is long.
    fn masked(&self, number: usize, mask: impl FnOnce(&mut Vec<char>) -> bool) -> Option<String> {
        let line = self.text.lines().nth(number - 1)?;
        let mut shown: Vec<char> = line.chars().collect();
        if shown.len() > LONGEST_LINE {
            return None;
        }
        if let Some(comment) = self.index.comments.iter().find(|at| at.line == number) {
            shown.truncate(comment.column - 1);
        }
        let has_secret = mask(&mut shown);
        let text: String = shown.into_iter().collect();
        let text = text.trim_end();
        let words = text.to_ascii_lowercase();
        let suspicious = SUSPICIOUS.iter().any(|word| words.contains(word)) || has_userinfo(text);
        (!suspicious && (has_secret || !text.contains(SECRET))).then(|| text.to_owned())
    }

    /// Masks the values of keys that are secret or unknown: a mistyped key may have a secret as its value. Returns whether there is one.
    fn mask_secrets(&self, number: usize, line: &mut [char]) -> bool {
        let document = schema::document();
        let root = Node::root(&document);
        let hidden = |path: &KeyPath| {
            let nodes = (0..=path.0.len()).map(|length| root.get(&KeyPath(path.0[..length].to_vec())));
            !nodes
                .into_iter()
                .all(|node| node.is_some_and(|node| !node.is_secret()))
        };
        let mut has_secret = false;
        for (_, node) in self
            .index
            .on_line(number)
            .filter(|(path, node)| hidden(path) || is_secret_url(&node.content))
        {
            has_secret = true;
            if matches!(&node.content, Content::Scalar(text) if is_reference(text)) {
                continue;
            }
            let start = match node.value.line == number {
                true => node.value.column - 1,
                false => 0,
            };
            let end = match node.end.0 == number {
                true => node.end.1 - 1,
                false => line.len(),
            };
            let end = end.min(line.len());
            line[start.min(end)..end].fill('*');
        }
        has_secret
    }
}

/// Whether the text is one reference without a default, which is not a secret.
fn is_reference(text: &str) -> bool {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['$', '{', '}']) && !inner.contains(":-"))
}

/// Masks every word that is not a key of the schema: in text that is not YAML any of them may be a value.
fn mask_words(line: &mut [char]) -> bool {
    let document = schema::document();
    let is_word = |c: &char| c.is_alphanumeric() || "_-.$%&@/+=~".contains(*c);
    let mut at = 0;
    while at < line.len() {
        let length = line[at..].iter().take_while(|c| is_word(c)).count();
        let word: String = line[at..at + length].iter().collect();
        if !word.chars().all(|c| c == '-') && !Node::root(&document).names(&word) {
            line[at..at + length].fill('*');
        }
        at += length + 1;
    }
    true
}

/// Whether a URL in the text may have a user and a password, or a query, which may hold a key.
fn has_userinfo(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.contains(['@', '?']))
}

/// Whether a value is a URL, or a part of one, with a user or a query.
fn is_secret_url(content: &Content) -> bool {
    matches!(content, Content::Scalar(text) if redact_url(text) != text.as_str())
}

/// Errors of the reader that are not about one value.
fn is_syntax(error: &YamlError) -> bool {
    matches!(
        error,
        YamlError::ExternalMessage { .. }
            | YamlError::Eof { .. }
            | YamlError::MultipleDocuments { .. }
            | YamlError::UnknownAnchor { .. }
            | YamlError::Budget { .. }
            | YamlError::IOError { .. }
            | YamlError::ContainerEndMismatch { .. }
            | YamlError::IndentationError { .. }
    )
}

/// The position of a path, or of the nearest section around it in the file.
fn nearest(index: &Index, path: &KeyPath) -> Option<Position> {
    if let Some(node) = index.get(path) {
        return Some(if matches!(node.content, Content::Scalar(_)) {
            node.value
        } else {
            node.key.unwrap_or(node.value)
        });
    }
    match path.0.is_empty() {
        true => None,
        false => nearest(index, &path.parent()),
    }
}

fn unknown(field: &str, keys: &[&str]) -> (Problem, String) {
    if let Some((_, instead)) = UNSUPPORTED.iter().find(|(key, _)| *key == field) {
        return (Problem::Unsupported, (*instead).to_owned());
    }
    if field.ends_with(DISCOVERY) {
        let instead = format!("{LIST_TARGETS}; SIGHUP reads the file again");
        return (Problem::Unsupported, instead);
    }
    let similarity = |key: &str| strsim::jaro_winkler(field, key);
    let best = keys.iter().map(|key| similarity(key)).fold(SIMILAR, f64::max);
    let close: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| similarity(key) >= best - 0.03)
        .collect();
    let all = format!("the keys here are {}", keys.join(", "));
    let help = match close.is_empty() {
        true => all,
        false if keys.len() > LISTED => format!("did you mean {}?", close.join(" or ")),
        false => format!(
            "did you mean {}? {}",
            close.join(" or "),
            all.replacen('t', "T", 1)
        ),
    };
    (Problem::UnknownKey, help)
}

fn found_value(content: &Content) -> String {
    match content {
        Content::List => "(a list)".to_owned(),
        Content::Section => "(a section)".to_owned(),
        Content::Alias => "(an alias)".to_owned(),
        Content::Scalar(text) if text.is_empty() => "(empty)".to_owned(),
        // A password or a key may be in it.
        content if is_secret_url(content) => "(a URL with a user or a query)".to_owned(),
        Content::Scalar(text) if text.parse::<f64>().is_ok() => text.to_owned(),
        Content::Scalar(text) if text.chars().count() > SHOWN => {
            format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
        }
        Content::Scalar(text) => format!("{text:?}"),
    }
}

/// Whether the schema has a more precise expectation than the scalar's type; if so it replaces the reader's message.
fn is_described(index: &Index, path: &KeyPath, schema: Node<'_>) -> bool {
    let scalar = index
        .get(path)
        .is_some_and(|node| matches!(node.content, Content::Scalar(_)));
    scalar && schema.get(path).is_some_and(Node::states_expectation)
}

/// The description of a key, with an example.
fn usage(key: &str, node: Node<'_>) -> String {
    let description = node.description();
    let description = description
        .split_once(". ")
        .map_or(description.as_str(), |(first, _)| first);
    let description = lower_first(description.trim_end_matches('.'));
    match node
        .example()
        .or(node.default())
        .filter(|value| !value.is_object())
    {
        Some(example) => format!("{description}; for example `{key}: {}`", schema::yaml(example)),
        None => description,
    }
}

/// The text with a lower-case first letter, unless the first word is an abbreviation.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}
