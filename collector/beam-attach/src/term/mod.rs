//! The part of Erlang's external term format that control messages need, with limits on depth and number.
//!
//! All data from a node passes through [`decode`]. It checks every length against the available bytes before it allocates; unused types
//! (funs, ports, big integers, bit strings) become [`Term::Opaque`]. Format: "External
//! Term Format" of the ERTS user's guide.

mod decode;
mod value;

pub use decode::{DecodeError, MAX_DEPTH, MAX_TERMS, decode};
pub use value::{Pid, Reference, Term, atom, list, string, text, tuple};

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
        fn terms_survive_encoding_and_decoding(term in any_term()) {
            prop_assert_eq!(round(&term), term);
        }

        #[test]
        fn a_truncated_term_is_an_error(term in any_term(), cut in any::<prop::sample::Index>()) {
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
    fn terms_encoded_by_erlang_are_decoded() {
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
    fn announced_lengths_are_not_trusted() {
        for tag in [105_u8, 108, 109, 111, 116, 77, 112] {
            let bytes = [131, tag, 0xff, 0xff, 0xff, 0xff, 0, 0];
            assert!(decode(&bytes).is_err(), "tag {tag}");
        }
        let deep: Vec<u8> = std::iter::once(131).chain([104, 1].repeat(100_000)).collect();
        assert_eq!(decode(&deep).unwrap_err(), DecodeError::TooMuch);
    }
}
