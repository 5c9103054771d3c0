//! Attributes of a series, a resource or a scope: sorted by key, packed into one allocation, with their types.
//!
//! Every series has one [`Attributes`], so their size matters. The receiver renders complex OTLP values (lists, maps, bytes) to strings,
//! because labels are text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// One attribute value. Strings borrow from the received bytes until the attributes are packed.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue<'a> {
    /// Present without a value. Rendered as the empty string.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A finite or non-finite float.
    Float(f64),
    /// UTF-8 text.
    Str(Cow<'a, str>),
}

impl AttributeValue<'_> {
    /// The value as label text: strings unchanged, numbers in decimal, `true` or `false`, empty for null.
    pub fn render(&self) -> Cow<'_, str> {
        match self {
            AttributeValue::Null => Cow::Borrowed(""),
            AttributeValue::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            AttributeValue::Int(i) => Cow::Owned(i.to_string()),
            AttributeValue::Float(f) => Cow::Owned(f.to_string()),
            AttributeValue::Str(s) => Cow::Borrowed(s),
        }
    }
}

impl<'a> AttributeValue<'a> {
    /// The same as [`AttributeValue::render`], with the lifetime of the text.
    pub fn into_rendered(self) -> Cow<'a, str> {
        match self {
            AttributeValue::Str(text) => text,
            other => Cow::Owned(other.render().into_owned()),
        }
    }
}

impl<'a> From<&'a str> for AttributeValue<'a> {
    fn from(text: &'a str) -> Self {
        AttributeValue::Str(Cow::Borrowed(text))
    }
}

impl From<i64> for AttributeValue<'_> {
    fn from(value: i64) -> Self {
        AttributeValue::Int(value)
    }
}

/// Key-value pairs in one allocation, sorted by key. Keys are unique: of equal keys the last wins.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Attributes(Box<[u8]>);

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const STR: u8 = 5;

impl Attributes {
    /// Longest key and longest string value, in bytes; longer ones are cut on a character boundary.
    pub const MAX_TEXT_BYTES: usize = u16::MAX as usize;

    /// Packs pairs in any order.
    pub fn pack(pairs: &mut Vec<(Cow<'_, str>, AttributeValue<'_>)>) -> Self {
        // A stable sort keeps equal keys in order, so that the last can win below.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut bytes = Vec::with_capacity(pairs.iter().map(|(k, v)| k.len() + 5 + text_len(v)).sum());
        for (at, (key, value)) in pairs.iter().enumerate() {
            if pairs.get(at + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            push_text(&mut bytes, key);
            match value {
                AttributeValue::Null => bytes.push(NULL),
                AttributeValue::Bool(b) => bytes.push(if *b { TRUE } else { FALSE }),
                AttributeValue::Int(i) => push_word(&mut bytes, INT, i.to_le_bytes()),
                AttributeValue::Float(f) => push_word(&mut bytes, FLOAT, f.to_bits().to_le_bytes()),
                AttributeValue::Str(s) => {
                    bytes.push(STR);
                    push_text(&mut bytes, s);
                }
            }
        }
        Attributes(bytes.into_boxed_slice())
    }

    /// Packs string pairs, for fixed sets and tests.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self::pack(
            &mut pairs
                .iter()
                .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)))
                .collect(),
        )
    }

    /// Pairs in key order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The value of `key`, if present. Linear: attributes are few.
    pub fn get(&self, key: &str) -> Option<AttributeValue<'_>> {
        self.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// Names whose values differ as text; a missing value is an empty one. Sorted.
    ///
    /// ```
    /// use dichroic_model::Attributes;
    /// let (a, b) = (Attributes::of(&[("a", "1"), ("b", "")]), Attributes::of(&[("a", "2")]));
    /// assert_eq!(a.differing(&b).collect::<Vec<_>>(), ["a"]);
    /// ```
    pub fn differing<'a>(&'a self, other: &'a Attributes) -> impl Iterator<Item = &'a str> {
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let order = match (left.peek(), right.peek()) {
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => return None,
                };
                let a = if order.is_le() { left.next() } else { None };
                let b = if order.is_ge() { right.next() } else { None };
                let text = |pair: &Option<(&'a str, AttributeValue<'a>)>| {
                    pair.clone()
                        .map_or(Cow::Borrowed(""), |(_, value)| value.into_rendered())
                };
                let differ = text(&a) != text(&b);
                let name = a.or(b).map(|(name, _)| name);
                if differ {
                    return name;
                }
            }
        })
    }

    /// Whether it has no pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The canonical bytes: equal attributes have equal bytes, so these may be hashed and compared.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Iterator of [`Attributes::iter`].
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, AttributeValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let key = self.text();
        let (tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        let value = match *tag {
            FALSE => AttributeValue::Bool(false),
            TRUE => AttributeValue::Bool(true),
            INT => AttributeValue::Int(i64::from_le_bytes(self.word())),
            FLOAT => AttributeValue::Float(f64::from_bits(u64::from_le_bytes(self.word()))),
            STR => AttributeValue::Str(Cow::Borrowed(self.text())),
            _ => AttributeValue::Null,
        };
        Some((key, value))
    }
}

impl<'a> Iter<'a> {
    fn text(&mut self) -> &'a str {
        let (len, rest) = self.rest.split_at(2);
        let (text, rest) = rest.split_at(usize::from(u16::from_le_bytes([len[0], len[1]])));
        self.rest = rest;
        std::str::from_utf8(text).expect("packed from a str")
    }

    fn word(&mut self) -> [u8; 8] {
        let (word, rest) = self.rest.split_at(8);
        self.rest = rest;
        word.try_into().expect("eight bytes")
    }
}

fn text_len(value: &AttributeValue<'_>) -> usize {
    match value {
        AttributeValue::Str(s) => s.len(),
        _ => 8,
    }
}

fn push_word(bytes: &mut Vec<u8>, tag: u8, word: [u8; 8]) {
    bytes.push(tag);
    bytes.extend_from_slice(&word);
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let text = cut(text, Attributes::MAX_TEXT_BYTES);
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// The longest prefix of `text` of at most `max` bytes that ends on a character boundary.
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_the_last_of_equal_keys_wins() {
        let a = Attributes::of(&[("b", "2"), ("a", "1"), ("b", "3")]);
        let b = Attributes::of(&[("a", "1"), ("b", "3")]);
        assert_eq!(a, b);
        assert_eq!(a.get("b"), Some("3".into()));
        assert_eq!(a.get("c"), None);
    }

    #[test]
    fn packed_values_keep_their_types() {
        let mut pairs = vec![
            (Cow::Borrowed("n"), AttributeValue::Null),
            (Cow::Borrowed("t"), AttributeValue::Bool(true)),
            (Cow::Borrowed("f"), AttributeValue::Bool(false)),
            (Cow::Borrowed("i"), AttributeValue::Int(-5)),
            (Cow::Borrowed("x"), AttributeValue::Float(0.5)),
            (Cow::Borrowed(""), AttributeValue::Str("ключ".into())),
        ];
        let packed = Attributes::pack(&mut pairs);
        assert_eq!(
            packed
                .iter()
                .map(|(k, v)| (Cow::Borrowed(k), v))
                .collect::<Vec<_>>(),
            pairs
        );
    }

    #[test]
    fn a_number_and_its_text_are_different_attributes() {
        let mut number = vec![(Cow::Borrowed("a"), AttributeValue::Int(1))];
        assert_ne!(Attributes::pack(&mut number), Attributes::of(&[("a", "1")]));
    }

    /// A relay aggregates by rendered text, so it must render values as this crate does: the same table is in `dichroic_value_tests`.
    #[test]
    fn values_are_rendered_as_in_the_relay() {
        let check = |value: AttributeValue<'_>, text: &str| assert_eq!(value.render(), text);
        check(AttributeValue::Null, "");
        check(AttributeValue::Bool(true), "true");
        check(AttributeValue::Bool(false), "false");
        check(AttributeValue::Int(-7), "-7");
        check(AttributeValue::Int(i64::MAX), "9223372036854775807");
        check("ключ".into(), "ключ");
        for (float, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-7, "0.0000001"),
            (1.25e-5, "0.0000125"),
            (123_456.789, "123456.789"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (1e21, "1000000000000000000000"),
            (1.5e22, "15000000000000000000000"),
            (-1.7e-3, "-0.0017"),
        ] {
            check(AttributeValue::Float(float), text);
        }
        let largest = format!("17976931348623157{}", "0".repeat(292));
        check(AttributeValue::Float(f64::MAX), &largest);
        let least = format!("0.{}5", "0".repeat(323));
        check(AttributeValue::Float(5e-324), &least);
    }

    #[test]
    fn text_is_cut_on_a_character_boundary() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }
}
