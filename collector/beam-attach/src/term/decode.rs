//! Reading a term from bytes of a node, with limits on depth and number.

use crate::term::value::{Pid, Reference, Term};
use std::fmt;

/// Deepest accepted nesting.
pub const MAX_DEPTH: usize = 32;
/// Most terms in one message.
pub const MAX_TERMS: usize = 1 << 20;

/// Why bytes cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside the term.
    Short,
    /// A tag that is unknown, or was not negotiated.
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

/// Decodes one term with its version byte; returns the rest of the bytes.
///
/// # Errors
/// See [`DecodeError`].
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

    /// `n` terms, each of at least one byte.
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

    /// Skips unused types, and reads big integers that fit 64 bits.
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
