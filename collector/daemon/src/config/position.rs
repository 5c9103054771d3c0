//! Positions of the keys and values of a YAML text by key path, so that errors can point at them.

use dichroic_model::text::escape_control;
use serde_saphyr::granit_parser::{Event, Parser, Span};
use std::collections::BTreeMap;
use std::fmt;

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

/// All values of a YAML text by their paths. Invalid YAML is indexed up to the error.
#[derive(Debug, Default)]
pub struct Index(BTreeMap<KeyPath, Node>);

impl Index {
    /// Reads the text. Values of aliases and merge keys have only the paths of their definitions.
    pub fn new(text: &str) -> Self {
        let mut index = Index::default();
        let mut parser = Parser::new_from_str(text);
        let mut open: Vec<Open> = Vec::new();
        while let Some(Ok((event, span))) = parser.next_event() {
            match event {
                Event::Scalar(text, ..) => {
                    index.value(&mut open, &span, Content::Scalar(text.into_owned()), None)
                }
                Event::Alias(_) => index.value(&mut open, &span, Content::Alias, None),
                Event::MappingStart(..) => {
                    index.value(&mut open, &span, Content::Section, Some(Kind::Mapping(None)))
                }
                Event::SequenceStart(..) => index.value(&mut open, &span, Content::List, Some(Kind::List(0))),
                Event::MappingEnd | Event::SequenceEnd => {
                    open.pop();
                    if let Some(outer) = open.last_mut() {
                        outer.advance();
                    }
                }
                _ => {}
            }
        }
        index
    }

    /// The value at a path.
    pub fn get(&self, path: &KeyPath) -> Option<&Node> {
        self.0.get(path)
    }

    /// Values of keys of this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.0
            .iter()
            .filter(move |(path, _)| path.last_key() == Some(name))
            .map(|(_, node)| node)
    }

    fn value(&mut self, open: &mut Vec<Open>, span: &Span, content: Content, opens: Option<Kind>) {
        let (path, key) = match open.last_mut() {
            None => (KeyPath::default(), None),
            Some(Open {
                path,
                kind: Kind::List(at),
            }) => (path.clone().item(*at), None),
            Some(Open {
                path,
                kind: Kind::Mapping(Some((key, position))),
            }) => (path.clone().key(key), Some(*position)),
            Some(Open {
                kind: Kind::Mapping(key @ None),
                ..
            }) => {
                // A key that is not a scalar gets an empty name.
                let name = match content {
                    Content::Scalar(name) => name,
                    _ => String::new(),
                };
                *key = Some((name, position(span)));
                return;
            }
        };
        self.0.entry(path.clone()).or_insert(Node {
            key,
            value: position(span),
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
