//! Invalid input: each case is rejected with its error, its offset and the code of GOODBYE.

mod common;

use common::{body, golden, reader_after_hello};
use dichroic_wire::limits::{BODY_BYTES_BEFORE_HELLO, BODY_BYTES_MAX};
use dichroic_wire::{
    Cell, Error, ErrorKind, Fault, FrameReader, FrameType, GoodbyeCode, Hello, Map, MapKind, RelayHello,
    Role, SubscriberHello, Value,
};

fn check_value(bytes: &[u8], offset: usize, kind: ErrorKind) {
    assert_eq!(
        Value::decode(bytes),
        Err(Error::new(None, offset, kind)),
        "{bytes:02x?}"
    );
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = [8, 1, 0].repeat(depth);
    bytes.push(0);
    bytes
}

#[test]
fn a_value_in_a_non_canonical_encoding_is_rejected() {
    use ErrorKind::*;
    check_value(&[], 0, Truncated { needed: 1, left: 0 });
    check_value(
        &[10],
        0,
        UnknownCode {
            what: "tag",
            code: 10,
        },
    );
    check_value(&[0, 0], 1, Trailing(1));
    check_value(&[3, 1, 2], 1, Truncated { needed: 8, left: 2 });
    check_value(&[4, 1, 0, 0, 0, 0, 0, 0xf8, 0x7f], 1, NotCanonicalNan);
    check_value(&[4, 0, 0, 0, 0, 0, 0, 0xf8, 0xff], 1, NotCanonicalNan);
    check_value(&[5, 1, 0, 0xff], 3, NotUtf8);
    check_value(&[5, 3, 0, 0xed, 0xa0, 0x80], 3, NotUtf8); // a surrogate
    check_value(&[5, 9, 0, b'a'], 3, Truncated { needed: 9, left: 1 });
    check_value(&[6, 1, 0, 0, 0, 1, 0, b'a'], 0, NotCut { whole: 1, kept: 1 });
    check_value(&[6, 9, 0, 0, 0, 1, 0, 0xc3], 7, NotUtf8); // cut inside a code point
    check_value(
        &[8, 0xff, 0xff, 0],
        3,
        Truncated {
            needed: 65_535,
            left: 1,
        },
    );
    check_value(
        &[9, 0xff, 0xff, 0],
        3,
        Truncated {
            needed: 196_605,
            left: 1,
        },
    );
    check_value(&[9, 1, 0, 0, 0, 0], 3, KeysNotAscending); // an empty key
    check_value(&[9, 2, 0, 1, b'b', 0, 1, b'a', 0], 6, KeysNotAscending);
    check_value(&[9, 2, 0, 1, b'a', 0, 1, b'a', 0], 6, KeysNotAscending);
    check_value(&nested(9), 24, TooDeep);
    assert!(Value::decode(&nested(8)).is_ok());
}

#[test]
fn too_many_values_are_rejected() {
    // Two lists of 40,000 nulls: only one fits.
    let mut list = vec![8, 0x40, 0x9c];
    list.resize(list.len() + 40_000, 0);
    let mut bytes = vec![8, 2, 0];
    bytes.extend_from_slice(&list);
    bytes.extend_from_slice(&list);
    check_value(&bytes, 3 + 3 + 40_000 + 3, ErrorKind::TooManyValues);
}

#[test]
fn values_beyond_the_limits_are_not_encoded() {
    let long = "x".repeat(65_536);
    let deep = (0..9).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let key = |key: &str| Value::Map(Map::from([(key.to_owned(), Value::Null)]));
    let cut = Value::Cut {
        whole_len: 3,
        kept: "abc".into(),
    };
    let cases = [
        Value::from(long.as_str()),
        deep,
        key(""),
        key(&long[..256]),
        cut,
        Value::Bytes(vec![0; 65_536]),
    ];
    for value in cases {
        let mut out = vec![7];
        let error = value.encode(&mut out).expect_err("too large");
        assert_eq!(
            (error.fault(), error.goodbye_code()),
            (Fault::Caller, Some(GoodbyeCode::Internal))
        );
        assert_eq!(out, [7], "the output is unchanged");
    }
}

#[test]
fn strings_are_cut_on_a_code_point() {
    assert_eq!(
        Value::cut("aé", 2),
        Value::Cut {
            whole_len: 3,
            kept: "a".into()
        }
    );
    assert_eq!(Value::cut("aé", 3), Value::from("aé"));
    assert_eq!(
        Cell::cut("日本", 0),
        Cell::CutStr {
            whole_len: 6,
            kept: ""
        }
    );
}

fn check_reader(mut reader: FrameReader, bytes: &[u8], kind: ErrorKind, code: Option<GoodbyeCode>) {
    reader.push(bytes);
    let error = reader.next().expect_err("rejected");
    assert_eq!(error.kind, kind, "{bytes:02x?}");
    assert_eq!(error.goodbye_code(), code, "{bytes:02x?}");
    assert_eq!(reader.pending(), bytes.len(), "only received bytes are buffered");
}

#[test]
fn another_protocol_is_rejected_at_its_first_bytes() {
    let malformed = Some(GoodbyeCode::Malformed);
    for method in ["GET ", "POST", "PRI "] {
        check_reader(FrameReader::new(), method.as_bytes(), ErrorKind::Http, None);
    }
    check_reader(
        FrameReader::new(),
        &[8, 0, 0, 0, 3],
        ErrorKind::HelloExpected,
        malformed,
    );
    check_reader(
        FrameReader::new(),
        &[0, 0, 0, 0, 0],
        ErrorKind::UnknownCode {
            what: "frame type",
            code: 0,
        },
        malformed,
    );
    check_reader(
        FrameReader::new(),
        &[0, 0, 0, 0, 77],
        ErrorKind::HelloExpected,
        malformed,
    );
}

#[test]
fn an_announced_length_beyond_the_limit_is_rejected_before_the_body() {
    let announce = |length: u32| [&length.to_le_bytes()[..], &[1]].concat();
    let check = |reader, length, limit| {
        let kind = ErrorKind::FrameTooLong { length, limit };
        check_reader(reader, &announce(length), kind, Some(GoodbyeCode::Limit));
    };
    check(
        FrameReader::new(),
        BODY_BYTES_BEFORE_HELLO + 1,
        BODY_BYTES_BEFORE_HELLO,
    );
    check(reader_after_hello(), BODY_BYTES_MAX + 1, BODY_BYTES_MAX);
    check(reader_after_hello(), u32::MAX, BODY_BYTES_MAX);
    let mut reader = FrameReader::new();
    reader.hello_accepted(u32::MAX);
    check(reader, BODY_BYTES_MAX + 1, BODY_BYTES_MAX);

    let mut reader = FrameReader::new();
    reader.push(&announce(BODY_BYTES_BEFORE_HELLO));
    assert_eq!(reader.next(), Ok(None));
}

#[test]
fn frames_of_unknown_types_are_returned_so_that_callers_skip_them() {
    let mut reader = reader_after_hello();
    reader.push(&[2, 0, 0, 0, 200, 1, 2, 0, 0, 0, 0, 12]);
    let frame = reader.next().expect("a frame").expect("whole");
    assert_eq!(
        (frame.frame_type, frame.body),
        (FrameType::Unknown(200), &[1u8, 2][..])
    );
    assert_eq!(
        reader.next().expect("a frame").expect("whole").frame_type,
        FrameType::Unknown(12)
    );
    assert_eq!(reader.next(), Ok(None));
}

fn check_hello(change: impl FnOnce(&mut Vec<u8>), offset: usize, kind: ErrorKind, code: GoodbyeCode) {
    let mut bytes = body(&golden("hello-relay")).to_vec();
    change(&mut bytes);
    let error = Hello::decode(&bytes).expect_err("rejected");
    assert_eq!(error, Error::new(Some(FrameType::Hello), offset, kind));
    assert_eq!(error.goodbye_code(), Some(code));
}

#[test]
fn an_invalid_hello_is_rejected() {
    use ErrorKind::*;
    use GoodbyeCode::*;
    check_hello(|bytes| bytes[0] = b'X', 0, Magic, Malformed);
    check_hello(
        |bytes| bytes[4] = 2,
        4,
        ErrorKind::Version { major: 2, minor: 0 },
        GoodbyeCode::Version,
    );
    check_hello(
        |bytes| bytes[6] = 4,
        6,
        UnknownCode {
            what: "role",
            code: 4,
        },
        Malformed,
    );
    check_hello(|bytes| bytes.push(0), 226, Trailing(1), Malformed);
    let not_a_map = BadValue {
        map: MapKind::Body,
        key: String::new(),
        expected: "a map",
    };
    check_hello(
        |bytes| bytes.splice(7.., [0]).for_each(drop),
        7,
        not_a_map,
        Malformed,
    );
}

#[test]
fn for_another_major_version_only_the_version_is_read() {
    let error = Hello::decode(&[b'D', b'I', b'C', b'H', 9, 3, 1, 0xff, 0xff]).expect_err("rejected");
    assert_eq!(error.kind, ErrorKind::Version { major: 9, minor: 3 });
    assert!(error.to_string().contains("9.3"), "{error}");
}

#[test]
fn a_hello_without_a_required_key_is_rejected_and_unknown_keys_are_preserved() {
    let hello = Hello::decode(body(&golden("hello-relay"))).expect("hello");
    for key in [
        "agent",
        "node",
        "os_pid",
        "otp",
        "telemetry",
        "native_per_s",
        "time_offset",
        "epoch",
        "attempt",
        "mode",
    ] {
        let mut without = hello.clone();
        without.fields.remove(key);
        let kind = RelayHello::read(&without).expect_err(key).kind;
        assert!(
            matches!(kind, ErrorKind::MissingKey { key: missing, .. } if missing == key),
            "{key}: {kind:?}"
        );
        let mut wrong = hello.clone();
        wrong.fields.insert(key.to_owned(), Value::Null);
        let kind = RelayHello::read(&wrong).expect_err(key).kind;
        assert!(
            matches!(kind, ErrorKind::BadValue { key: bad, .. } if bad == key),
            "{key}"
        );
    }
    let mut newer = hello.clone();
    newer.minor = 9;
    newer.fields.insert("zeal".into(), Value::Int(1));
    assert!(RelayHello::read(&newer).is_ok());
    let mut out = Vec::new();
    newer.write(&mut out).expect("written");
    assert_eq!(Hello::decode(body(&out)), Ok(newer));
}

fn check_subscribe(key: &str, value: Value, expected: ErrorKind) {
    let mut hello = Hello::decode(body(&golden("hello-subscriber"))).expect("hello");
    let Some(Value::Map(subscribe)) = hello.fields.get_mut("subscribe") else {
        panic!("no subscription")
    };
    subscribe.insert(key.to_owned(), value);
    let error = SubscriberHello::read(&hello).expect_err(key);
    assert_eq!(
        (error.goodbye_code(), &error.kind),
        (Some(GoodbyeCode::BadRequest), &expected)
    );
    assert!(error.to_string().contains(key), "{error}");
}

#[test]
fn an_invalid_subscription_is_rejected_with_the_key() {
    let bad = |key: &str, expected| ErrorKind::BadValue {
        map: MapKind::Subscribe,
        key: key.to_owned(),
        expected,
    };
    let unknown = ErrorKind::UnknownKey {
        map: MapKind::Subscribe,
        key: "until_ms".into(),
    };
    check_subscribe("until_ms", Value::Int(1), unknown);
    check_subscribe(
        "kind",
        "span".into(),
        bad("kind", "\"event\", \"metric\" or \"log\""),
    );
    check_subscribe(
        "match",
        Value::List(vec![]),
        bad("match", "1 to 64 patterns of 1 to 256 bytes"),
    );
    check_subscribe(
        "match",
        vec![Value::Int(1)].into(),
        bad("match", "a list of strings"),
    );
    let many = vec![Value::from("a"); 65];
    check_subscribe(
        "match",
        many.into(),
        bad("match", "1 to 64 patterns of 1 to 256 bytes"),
    );
    check_subscribe("where", Value::Int(1), bad("where", "a map"));
    check_subscribe("buffer", Value::Int(63), bad("buffer", "64 to 1048576 rows"));
    check_subscribe(
        "sample",
        Value::Float(f64::NAN),
        bad("sample", "above 0.0 and at most 1.0"),
    );
    check_subscribe(
        "cursor",
        vec![Value::Int(1)].into(),
        bad("cursor", "[epoch, position, rows]"),
    );
    check_subscribe(
        "replay_ms",
        Value::Int(-1),
        bad("replay_ms", "an integer from 0 to 2^32-1"),
    );
}

#[test]
fn a_max_frame_outside_its_range_is_rejected() {
    for max_frame in [0, 16_383, 1_048_577, -1] {
        let fields = Map::from([("max_frame".to_owned(), Value::Int(max_frame))]);
        assert!(
            Hello::new(Role::Relay, fields).max_frame().is_err(),
            "{max_frame}"
        );
    }
    assert_eq!(Hello::new(Role::Relay, Map::new()).max_frame(), Ok(262_144));
}
