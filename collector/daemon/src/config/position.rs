//! Positions of the keys and values of a YAML text by key path, so that errors can point at them.

use dichroic_model::text::escape_control;
pub use serde_saphyr::granit_parser::ScalarStyle;
use serde_saphyr::granit_parser::{Event, Parser, ScanError, Span};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// One step from a section to a value in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a mapping.
    Key(String),
    /// An item of a list, from 0.
    Item(usize),
}

/// The path of a value, shown as `receivers.beam.attach[0].node`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub Vec<Segment>);

impl KeyPath {
    /// A path of keys, written with dots.
    pub fn of(dotted: &str) -> Self {
        KeyPath(
            dotted
                .split('.')
                .map(|key| Segment::Key(key.to_owned()))
                .collect(),
        )
    }

    /// The path of a key below this one.
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Segment::Key(key.to_owned()));
        self
    }

    /// The path of a list item below this one.
    pub fn item(mut self, index: usize) -> Self {
        self.0.push(Segment::Item(index));
        self
    }

    /// The path of the section or list that this one is in.
    pub fn parent(&self) -> Self {
        KeyPath(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The last key, unless the path ends with an item or is empty.
    pub fn last_key(&self) -> Option<&str> {
        match self.0.last()? {
            Segment::Key(key) => Some(key),
            Segment::Item(_) => None,
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if at == 0 => f.write_str(&shown(key))?,
                Segment::Key(key) => write!(f, ".{}", shown(key))?,
                Segment::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Largest number of characters of a key that is shown in full.
const LONGEST_KEY: usize = 80;

/// A key on one line, cut when it is long.
fn shown(key: &str) -> String {
    let mut cut: String = key.chars().take(LONGEST_KEY).collect();
    if cut.len() < key.len() {
        cut.push('…');
    }
    escape_control(&cut).into_owned()
}

/// A range of characters on one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Characters; at least 1.
    pub length: usize,
}

/// A value of a YAML text.
#[derive(Debug, Clone)]
pub struct Node {
    /// Position of its key, if it has one.
    pub key: Option<Position>,
    /// Position of the value, or of its start if it has several lines.
    pub value: Position,
    /// Its last line, and the column after its last character.
    pub end: (usize, usize),
    /// What the value is.
    pub content: Content,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The text of a scalar.
    Scalar(String),
    /// A list.
    List,
    /// A mapping.
    Section,
    /// A reference to another value.
    Alias,
}

/// A scalar that is a value, not a key.
#[derive(Debug)]
pub struct Scalar {
    /// Its text, without quotes and escapes.
    pub text: String,
    /// Where it is written, with its quotes.
    pub bytes: Range<usize>,
    /// The same in characters.
    pub position: Position,
    /// How it is written.
    pub style: ScalarStyle,
}

/// Where a text stops to be YAML, and why.
#[derive(Debug)]
pub struct Broken {
    /// The position that the parser reports.
    pub at: Position,
    /// Why.
    pub reason: String,
}

/// All values of a YAML text by their paths. Invalid YAML is indexed up to the error.
#[derive(Debug, Default)]
pub struct Index {
    nodes: BTreeMap<KeyPath, Node>,
    /// Values in the order of the text.
    pub scalars: Vec<Scalar>,
    /// Where comments begin.
    pub comments: Vec<Position>,
    /// The error that ended the text early.
    pub broken: Option<Broken>,
    /// Containers that are open in a key which is not a scalar.
    in_key: usize,
}

impl Index {
    /// Reads the text. Values of aliases and merge keys have only the paths of their definitions.
    pub fn new(text: &str) -> Self {
        let mut index = Index::default();
        let mut parser = Parser::new_from_str(text);
        let mut open: Vec<Open> = Vec::new();
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, span)) => index.event(&mut open, event, &span),
                Err(error) => {
                    index.broken = Some(broken(&error));
                    break;
                }
            }
        }
        index
    }

    fn event(&mut self, open: &mut Vec<Open>, event: Event<'_>, span: &Span) {
        let ends = matches!(event, Event::MappingEnd | Event::SequenceEnd);
        match event {
            Event::Comment(..) => self.comments.push(position(span)),
            // Keys that are lists or mappings have no path.
            Event::MappingStart(..) | Event::SequenceStart(..) if self.in_key > 0 => self.in_key += 1,
            _ if self.in_key > 0 => {
                self.in_key -= usize::from(ends);
                if self.in_key == 0
                    && let Some(outer) = open.last_mut()
                {
                    outer.name(String::new(), position(span));
                }
            }
            Event::MappingStart(..) | Event::SequenceStart(..)
                if open.last().is_some_and(Open::expects_key) =>
            {
                self.in_key = 1;
            }
            Event::Scalar(name, ..) if open.last().is_some_and(Open::expects_key) => {
                if let Some(outer) = open.last_mut() {
                    outer.name(name.into_owned(), position(span));
                }
            }
            Event::Scalar(text, style, ..) => {
                let text = text.into_owned();
                self.scalars.extend(span.byte_range().map(|bytes| Scalar {
                    text: text.clone(),
                    bytes,
                    position: position(span),
                    style,
                }));
                self.value(open, span, Content::Scalar(text), None);
            }
            Event::Alias(_) if open.last().is_some_and(Open::expects_key) => {
                if let Some(outer) = open.last_mut() {
                    outer.name(String::new(), position(span));
                }
            }
            Event::Alias(_) => self.value(open, span, Content::Alias, None),
            Event::MappingStart(..) => self.value(open, span, Content::Section, Some(Kind::Mapping(None))),
            Event::SequenceStart(..) => self.value(open, span, Content::List, Some(Kind::List(0))),
            _ if ends => {
                open.pop();
                if let Some(outer) = open.last_mut() {
                    outer.advance();
                }
            }
            _ => {}
        }
    }

    /// The value at a path.
    pub fn get(&self, path: &KeyPath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Scalars and aliases that are wholly or partly on a line, with their paths.
    pub fn on_line(&self, line: usize) -> impl Iterator<Item = (&KeyPath, &Node)> {
        self.nodes.iter().filter(move |(_, node)| {
            matches!(node.content, Content::Scalar(_) | Content::Alias)
                && (node.value.line..=node.end.0).contains(&line)
        })
    }

    fn value(&mut self, open: &mut Vec<Open>, span: &Span, content: Content, opens: Option<Kind>) {
        let (path, key) = match open.last() {
            None => (KeyPath::default(), None),
            Some(Open {
                path,
                kind: Kind::List(at),
            }) => (path.clone().item(*at), None),
            Some(Open {
                path,
                kind: Kind::Mapping(key),
            }) => match key {
                Some((key, position)) => (path.clone().key(key), Some(*position)),
                None => (path.clone().key(""), None),
            },
        };
        self.nodes.entry(path.clone()).or_insert(Node {
            key,
            value: position(span),
            end: (span.end.line(), span.end.col() + 1),
            content,
        });
        match opens {
            Some(kind) => open.push(Open { path, kind }),
            None => {
                if let Some(outer) = open.last_mut() {
                    outer.advance();
                }
            }
        }
    }
}

fn broken(error: &ScanError) -> Broken {
    Broken {
        at: Position {
            line: error.marker().line().max(1),
            column: error.marker().col() + 1,
            length: 1,
        },
        reason: error.kind().to_string(),
    }
}

/// A mapping or list whose end has not been read.
struct Open {
    path: KeyPath,
    kind: Kind,
}

enum Kind {
    /// With the key whose value is next.
    Mapping(Option<(String, Position)>),
    /// With the number of the next item.
    List(usize),
}

impl Open {
    /// Whether the next scalar is a key.
    fn expects_key(&self) -> bool {
        matches!(self.kind, Kind::Mapping(None))
    }

    /// A key has been read.
    fn name(&mut self, name: String, at: Position) {
        if let Kind::Mapping(key) = &mut self.kind {
            *key = Some((name, at));
        }
    }

    /// A value has been read.
    fn advance(&mut self) {
        match &mut self.kind {
            Kind::Mapping(key) => *key = None,
            Kind::List(at) => *at += 1,
        }
    }
}

fn position(span: &Span) -> Position {
    let length = match span.start.line() == span.end.line() {
        true => span.end.col().saturating_sub(span.start.col()),
        false => 1,
    };
    Position {
        line: span.start.line(),
        column: span.start.col() + 1,
        length: length.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_path() {
        let text = "limits:\n  series: -1\nlist: [{ a: x }, { a: yy }]\nnested:\n  - - 1\n    - { b: { c: é, d: 2 } }\n";
        let index = Index::new(text);
        let check = |path: KeyPath, key: Option<(usize, usize)>, value: (usize, usize, usize)| {
            let node = index.get(&path).unwrap_or_else(|| panic!("{path} in {index:?}"));
            assert_eq!(node.key.map(|at| (at.line, at.column)), key, "{path}");
            let at = node.value;
            assert_eq!((at.line, at.column, at.length), value, "{path}");
        };
        check(KeyPath::of("limits.series"), Some((2, 3)), (2, 11, 2));
        check(KeyPath::of("list").item(1).key("a"), Some((3, 20)), (3, 23, 2));
        let inner = KeyPath::of("nested").item(0).item(1).key("b").key("d");
        check(inner, Some((6, 20)), (6, 23, 1));
        assert_eq!(KeyPath::of("a.b").item(2).key("c").to_string(), "a.b[2].c");
    }
}
