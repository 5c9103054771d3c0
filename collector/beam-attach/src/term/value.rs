//! Terms: constructors, accessors, their encoding, and their text in messages.

use std::fmt;

/// A term.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// An integer that fits 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// An atom.
    Atom(String),
    /// A binary.
    Binary(Vec<u8>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list; a string of small integers is one too.
    List(Vec<Term>),
    /// A map, in the order of the message.
    Map(Vec<(Term, Term)>),
    /// A process.
    Pid(Pid),
    /// A reference.
    Reference(Reference),
    /// `fun Module:Function/Arity`
    Export(String, String, u8),
    /// A term of a type that is not used here, by its tag.
    Opaque(u8),
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pid {
    /// Its node.
    pub node: String,
    /// Its number.
    pub id: u32,
    /// Its serial number.
    pub serial: u32,
    /// Incarnation of its node.
    pub creation: u32,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its node.
    pub node: String,
    /// Incarnation of its node.
    pub creation: u32,
    /// Its words, at most 5.
    pub words: Vec<u32>,
}

/// An atom.
pub fn atom(name: &str) -> Term {
    Term::Atom(name.to_owned())
}

/// A binary of text.
pub fn text(text: &str) -> Term {
    Term::Binary(text.as_bytes().to_vec())
}

/// A string: a list of its characters.
pub fn string(text: &str) -> Term {
    Term::List(text.chars().map(|c| Term::Int(i64::from(u32::from(c)))).collect())
}

/// A tuple.
pub fn tuple<const N: usize>(parts: [Term; N]) -> Term {
    Term::Tuple(parts.into())
}

/// A list.
pub fn list<const N: usize>(parts: [Term; N]) -> Term {
    Term::List(parts.into())
}

impl Term {
    /// Its name, if it is an atom.
    pub fn as_atom(&self) -> Option<&str> {
        match self {
            Term::Atom(name) => Some(name),
            _ => None,
        }
    }

    /// Its value, if it is an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Term::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// Its elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Term]> {
        match self {
            Term::List(terms) => Some(terms),
            _ => None,
        }
    }

    /// Its elements, if it is a tuple.
    pub fn as_tuple(&self) -> Option<&[Term]> {
        match self {
            Term::Tuple(terms) => Some(terms),
            _ => None,
        }
    }

    /// The text of a binary, an atom, or a list of characters.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Term::Binary(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Term::Atom(name) => Some(name.clone()),
            Term::List(terms) => terms
                .iter()
                .map(|t| {
                    t.as_int()
                        .and_then(|c| u32::try_from(c).ok())
                        .and_then(char::from_u32)
                })
                .collect(),
            _ => None,
        }
    }

    /// The value of an atom key of a map.
    pub fn get(&self, key: &str) -> Option<&Term> {
        match self {
            Term::Map(pairs) => pairs
                .iter()
                .find(|(k, _)| k.as_atom() == Some(key))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The version byte and the term.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.push(131);
        self.write(into);
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Term::Int(n) => write_int(*n, out),
            Term::Float(x) => {
                out.push(70);
                out.extend_from_slice(&x.to_be_bytes());
            }
            Term::Atom(name) => write_atom(name, out),
            Term::Binary(bytes) => {
                out.push(109);
                write_len(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
            Term::Tuple(parts) => {
                out.push(105);
                write_len(parts.len(), out);
                parts.iter().for_each(|part| part.write(out));
            }
            Term::List(parts) => {
                if !parts.is_empty() {
                    out.push(108);
                    write_len(parts.len(), out);
                    parts.iter().for_each(|part| part.write(out));
                }
                out.push(106);
            }
            Term::Map(pairs) => {
                out.push(116);
                write_len(pairs.len(), out);
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
            Term::Pid(pid) => {
                out.push(88);
                write_atom(&pid.node, out);
                for word in [pid.id, pid.serial, pid.creation] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
            Term::Reference(reference) => {
                out.push(90);
                out.extend_from_slice(&(reference.words.len() as u16).to_be_bytes());
                write_atom(&reference.node, out);
                out.extend_from_slice(&reference.creation.to_be_bytes());
                for word in &reference.words {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
            Term::Export(module, function, arity) => {
                out.push(113);
                write_atom(module, out);
                write_atom(function, out);
                out.extend_from_slice(&[97, *arity]);
            }
            // Never sent; the empty list keeps the surrounding term well formed.
            Term::Opaque(_) => out.push(106),
        }
    }
}

/// Longest text of a term, in characters.
const MAX_SHOWN: usize = 400;

impl fmt::Display for Term {
    /// In Erlang syntax, abbreviated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.show(&mut text);
        match text.char_indices().nth(MAX_SHOWN) {
            Some((at, _)) => write!(f, "{}…", &text[..at]),
            None => f.write_str(&text),
        }
    }
}

impl Term {
    fn show(&self, out: &mut String) {
        if out.len() > 4 * MAX_SHOWN {
            return;
        }
        match self {
            Term::Int(n) => out.push_str(&n.to_string()),
            Term::Float(x) => out.push_str(&format!("{x:?}")),
            Term::Atom(name) => out.push_str(name),
            Term::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if bytes.len() <= MAX_SHOWN && !text.contains(char::is_control) => {
                    out.push_str(&format!("<<{text:?}>>"));
                }
                _ => out.push_str(&format!("<<{} bytes>>", bytes.len())),
            },
            Term::Tuple(parts) => show_all('{', parts, '}', out),
            Term::List(parts) => match self.to_text() {
                Some(text) if !text.is_empty() && !text.contains(char::is_control) => {
                    out.push_str(&format!("{text:?}"));
                }
                _ => show_all('[', parts, ']', out),
            },
            Term::Map(pairs) => out.push_str(&format!("#{{{} keys}}", pairs.len())),
            Term::Pid(pid) => out.push_str(&format!("<{}.{}>", pid.id, pid.serial)),
            Term::Reference(_) => out.push_str("#Ref"),
            Term::Export(module, function, arity) => {
                out.push_str(&format!("fun {module}:{function}/{arity}"));
            }
            Term::Opaque(_) => out.push('…'),
        }
    }
}

fn show_all(open: char, parts: &[Term], close: char, out: &mut String) {
    out.push(open);
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        part.show(out);
    }
    out.push(close);
}

fn write_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

fn write_int(n: i64, out: &mut Vec<u8>) {
    if let Ok(small) = i32::try_from(n) {
        out.push(98);
        out.extend_from_slice(&small.to_be_bytes());
    } else {
        out.extend_from_slice(&[110, 8, u8::from(n < 0)]);
        out.extend_from_slice(&n.unsigned_abs().to_le_bytes());
    }
}

/// Names over 255 characters, the limit of atoms, are cut.
fn write_atom(name: &str, out: &mut Vec<u8>) {
    let end = name.char_indices().nth(255).map_or(name.len(), |(at, _)| at);
    let bytes = &name.as_bytes()[..end];
    out.push(118);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
