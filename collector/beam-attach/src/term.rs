//! Erlang's external term format, as much of it as control messages need: small, bounded in depth and in number.
//!
//! Everything that a node says passes through [`decode`]. It never allocates by a length that it has not checked against the bytes
//! at hand, and what it does not need to understand (funs, ports, big integers, bit strings) becomes [`Term::Opaque`]. Format: "External
//! Term Format" of the ERTS user's guide.

use std::fmt;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;
/// Terms in one message, at most.
pub const MAX_TERMS: usize = 1 << 20;

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
    /// What is of no use here: the tag that it had.
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

/// Why bytes are no term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the term does.
    Short,
    /// A tag that is not of the format, or not sent without being negotiated.
    Tag(u8),
    /// More than [`MAX_DEPTH`] levels, or more than [`MAX_TERMS`] terms.
    TooMuch,
    /// An atom that is not UTF-8.
    Atom,
    /// An improper list.
    Improper,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short => f.write_str("a term that ends early"),
            DecodeError::Tag(tag) => write!(f, "the unknown tag {tag} in a term"),
            DecodeError::TooMuch => write!(f, "a term of more than {MAX_DEPTH} levels or {MAX_TERMS} parts"),
            DecodeError::Atom => f.write_str("an atom that is not UTF-8"),
            DecodeError::Improper => f.write_str("an improper list"),
        }
    }
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
            // Nothing of ours makes one; the empty list keeps what surrounds it well formed.
            Term::Opaque(_) => out.push(106),
        }
    }
}

/// Longest text that a term is shown as.
const MAX_SHOWN: usize = 400;

impl fmt::Display for Term {
    /// As Erlang writes it, in few words.
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

/// Longer names than an atom can have are cut; a node's atoms have 255 characters at most.
fn write_atom(name: &str, out: &mut Vec<u8>) {
    let end = name.char_indices().nth(255).map_or(name.len(), |(at, _)| at);
    let bytes = &name.as_bytes()[..end];
    out.push(118);
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads one term with its version byte; gives what follows it.
pub fn decode(bytes: &[u8]) -> Result<(Term, &[u8]), DecodeError> {
    let mut reader = Reader {
        rest: bytes,
        left: MAX_TERMS,
    };
    match reader.u8()? {
        131 => {}
        tag => return Err(DecodeError::Tag(tag)),
    }
    let term = reader.term(MAX_DEPTH)?;
    Ok((term, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<usize, DecodeError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn len(&mut self) -> Result<usize, DecodeError> {
        Ok(self.u32()? as usize)
    }

    fn term(&mut self, depth: usize) -> Result<Term, DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::TooMuch)?;
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooMuch)?;
        Ok(match self.u8()? {
            97 => Term::Int(i64::from(self.u8()?)),
            98 => Term::Int(i64::from(i32::from_be_bytes(self.array()?))),
            70 => Term::Float(f64::from_be_bytes(self.array()?)),
            tag @ (100 | 115 | 118 | 119) => Term::Atom(self.atom_of(tag)?),
            104 => {
                let n = usize::from(self.u8()?);
                Term::Tuple(self.terms(n, depth)?)
            }
            105 => {
                let n = self.len()?;
                Term::Tuple(self.terms(n, depth)?)
            }
            106 => Term::List(Vec::new()),
            107 => {
                let n = self.u16()?;
                self.left = self.left.checked_sub(n).ok_or(DecodeError::TooMuch)?;
                Term::List(self.take(n)?.iter().map(|c| Term::Int(i64::from(*c))).collect())
            }
            108 => {
                let n = self.len()?;
                let terms = self.terms(n, depth)?;
                match self.term(depth)? {
                    Term::List(tail) if tail.is_empty() => Term::List(terms),
                    _ => return Err(DecodeError::Improper),
                }
            }
            109 => {
                let n = self.len()?;
                Term::Binary(self.take(n)?.to_vec())
            }
            116 => {
                let n = self.len()?;
                let flat = self.terms(n.checked_mul(2).ok_or(DecodeError::TooMuch)?, depth)?;
                let mut pairs = Vec::with_capacity(flat.len() / 2);
                let mut flat = flat.into_iter();
                while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
                    pairs.push((key, value));
                }
                Term::Map(pairs)
            }
            88 => Term::Pid(Pid {
                node: self.atom()?,
                id: self.u32()?,
                serial: self.u32()?,
                creation: self.u32()?,
            }),
            90 => self.reference()?,
            113 => {
                let (module, function) = (self.atom()?, self.atom()?);
                match self.term(depth)? {
                    Term::Int(arity @ 0..=255) => Term::Export(module, function, arity as u8),
                    _ => return Err(DecodeError::Tag(113)),
                }
            }
            tag => self.opaque(tag)?,
        })
    }

    /// As many terms, of which each needs a byte at least.
    fn terms(&mut self, n: usize, depth: usize) -> Result<Vec<Term>, DecodeError> {
        if n > self.left {
            return Err(DecodeError::TooMuch);
        }
        if n > self.rest.len() {
            return Err(DecodeError::Short);
        }
        let mut terms = Vec::with_capacity(n.min(4096));
        for _ in 0..n {
            terms.push(self.term(depth)?);
        }
        Ok(terms)
    }

    fn atom(&mut self) -> Result<String, DecodeError> {
        let tag = self.u8()?;
        self.atom_of(tag)
    }

    fn atom_of(&mut self, tag: u8) -> Result<String, DecodeError> {
        let n = match tag {
            100 | 118 => self.u16()?,
            115 | 119 => usize::from(self.u8()?),
            tag => return Err(DecodeError::Tag(tag)),
        };
        let bytes = self.take(n)?;
        match tag {
            100 | 115 => Ok(bytes.iter().map(|c| char::from(*c)).collect()),
            _ => String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Atom),
        }
    }

    fn reference(&mut self) -> Result<Term, DecodeError> {
        let n = self.u16()?;
        let node = self.atom()?;
        let creation = self.u32()?;
        if n > 5 {
            return Err(DecodeError::TooMuch);
        }
        let words = (0..n).map(|_| self.u32()).collect::<Result<_, _>>()?;
        Ok(Term::Reference(Reference {
            node,
            creation,
            words,
        }))
    }

    /// Skips what is of no use, and reads a big integer that fits.
    fn opaque(&mut self, tag: u8) -> Result<Term, DecodeError> {
        match tag {
            110 | 111 => {
                let n = if tag == 110 {
                    usize::from(self.u8()?)
                } else {
                    self.len()?
                };
                let negative = self.u8()? != 0;
                let bytes = self.take(n)?;
                return Ok(big(negative, bytes).map_or(Term::Opaque(tag), Term::Int));
            }
            // A bit string: its length, and how many bits of the last byte count.
            77 => {
                let n = self.len()?;
                self.take(n.checked_add(1).ok_or(DecodeError::Short)?)?;
            }
            // A fun: its size includes the four bytes of the size.
            112 => {
                let n = self.len()?;
                self.take(n.checked_sub(4).ok_or(DecodeError::Short)?)?;
            }
            // Ports.
            89 => {
                self.atom()?;
                self.take(8)?;
            }
            120 => {
                self.atom()?;
                self.take(12)?;
            }
            tag => return Err(DecodeError::Tag(tag)),
        }
        Ok(Term::Opaque(tag))
    }
}

fn big(negative: bool, little_endian: &[u8]) -> Option<i64> {
    let magnitude = little_endian.iter().rev().try_fold(0_i128, |n, byte| {
        n.checked_mul(256)?.checked_add(i128::from(*byte))
    })?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(term: &Term) -> Term {
        let mut bytes = Vec::new();
        term.encode(&mut bytes);
        let (read, rest) = decode(&bytes).unwrap();
        assert_eq!(rest, b"");
        read
    }

    fn any_term() -> impl Strategy<Value = Term> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Term::Int),
            (-1e300..1e300).prop_map(Term::Float),
            "[a-zäöü@.]{0,20}".prop_map(Term::Atom),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Term::Binary),
            any::<(u32, u32, u32)>().prop_map(|(id, serial, creation)| Term::Pid(Pid {
                node: "a@b".to_owned(),
                id,
                serial,
                creation
            })),
            Just(Term::Export("code".into(), "purge".into(), 1)),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Term::Tuple),
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Term::List),
                proptest::collection::vec((inner.clone(), inner), 0..4).prop_map(Term::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(term in any_term()) {
            prop_assert_eq!(round(&term), term);
        }

        #[test]
        fn a_term_cut_anywhere_is_an_error_and_no_panic(term in any_term(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            term.encode(&mut bytes);
            bytes.truncate(cut.index(bytes.len()));
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            bytes.insert(0, 131);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_erlang_writes_is_read() {
        let check = |bytes: &[u8], expected: Result<Term, DecodeError>| {
            assert_eq!(decode(bytes).map(|(term, _)| term), expected, "{bytes:?}");
        };
        check(b"\x83\x61\x2a", Ok(Term::Int(42)));
        check(
            b"\x83\x6b\x00\x02hi",
            Ok(Term::List(vec![Term::Int(104), Term::Int(105)])),
        );
        check(b"\x83\x77\x02ok", Ok(atom("ok")));
        check(b"\x83\x64\x00\x02\xe4b", Ok(atom("äb")));
        check(b"\x83\x6e\x01\x01\x05", Ok(Term::Int(-5)));
        check(
            b"\x83\x6e\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
            Ok(Term::Opaque(110)),
        );
        check(b"\x83\x4d\x00\x00\x00\x01\x03\xa0", Ok(Term::Opaque(77)));
        check(b"\x83\x70\x00\x00\x00\x06ab", Ok(Term::Opaque(112)));
        check(
            b"\x83\x6c\x00\x00\x00\x01\x61\x01\x61\x02",
            Err(DecodeError::Improper),
        );
        check(b"\x82", Err(DecodeError::Tag(0x82)));
        check(b"\x83\xff", Err(DecodeError::Tag(0xff)));
        check(b"", Err(DecodeError::Short));
    }

    #[test]
    fn promised_lengths_are_not_believed() {
        for tag in [105_u8, 108, 109, 111, 116, 77, 112] {
            let bytes = [131, tag, 0xff, 0xff, 0xff, 0xff, 0, 0];
            assert!(decode(&bytes).is_err(), "tag {tag}");
        }
        let deep: Vec<u8> = std::iter::once(131).chain([104, 1].repeat(100_000)).collect();
        assert_eq!(decode(&deep).unwrap_err(), DecodeError::TooMuch);
    }
}
