//! Invalid rows, definitions and plans: each is rejected with its error and its offset.

mod common;

use common::{body, golden};
use dichroic_wire::define::RelaySeries;
use dichroic_wire::*;

fn events_error(bytes: &[u8]) -> Error {
    Events::decode(bytes, &mut EventsScratch::default())
        .map(drop)
        .expect_err("rejected")
}

/// Changes the body of the golden EVENTS, and expects the error.
fn check_events(change: impl FnOnce(&mut Vec<u8>), offset: usize, kind: ErrorKind) {
    let mut bytes = body(&golden("events")).to_vec();
    change(&mut bytes);
    assert_eq!(
        events_error(&bytes),
        Error::new(Some(FrameType::Events), offset, kind)
    );
}

#[test]
fn inconsistent_events_are_rejected() {
    use ErrorKind::*;
    let range = |what, got, min, max| OutOfRange { what, got, min, max };
    let truncated = |needed, left| Truncated { needed, left };
    let unknown = |what, code| UnknownCode { what, code };
    let outside = |reference| Reference {
        reference,
        strings: 3,
        values: 1,
    };
    check_events(|bytes| bytes[16] = 0, 16, range("rows", 0, 1, 4096));
    check_events(|bytes| bytes[17] = 0x20, 16, range("rows", 0x2003, 1, 4096));
    check_events(|bytes| bytes[18] = 0, 18, range("columns", 0, 1, 64));
    check_events(|bytes| bytes[18] = 65, 18, range("columns", 65, 1, 64));
    check_events(|bytes| bytes[20] = 0x80, 19, range("strings", 0x8003, 0, 32_767));
    check_events(|bytes| bytes[22] = 0x80, 21, range("values", 0x8001, 0, 32_767));
    check_events(|bytes| bytes[23] = 2, 23, TimeColumn(2));
    check_events(|bytes| bytes[24] = 4, 24, unknown("column kind", 4));
    // Columns start at 28, the methods at 76, the routes at 106, the lengths at 112, the strings at 118.
    check_events(|bytes| bytes[76] = 3, 76, outside(3));
    check_events(|bytes| bytes[110] = 0xfe, 110, outside(-2));
    check_events(
        |bytes| bytes[78..80].copy_from_slice(&[0, 0x80]),
        78,
        outside(i16::MIN),
    );
    check_events(|bytes| bytes[112..114].fill(0xff), 118, truncated(65_549, 47));
    check_events(|bytes| bytes[118] = 0xff, 118, NotUtf8);
    check_events(|bytes| bytes[135] = 11, 135, unknown("tag", 11));
    check_events(|bytes| bytes.push(0), 165, Trailing(1));
    check_events(|bytes| bytes.truncate(22), 21, truncated(2, 1));
    check_events(|bytes| bytes[16] = 0xff, 28, truncated(255 * 8, 137));
}

#[test]
fn a_code_point_split_between_two_strings_is_rejected() {
    // Only the concatenation of both strings is valid UTF-8.
    check_events(
        |bytes| bytes[120..122].copy_from_slice("é".as_bytes()),
        121,
        ErrorKind::NotUtf8,
    );
}

fn check_histograms(change: impl FnOnce(&mut Vec<u8>), offset: usize, kind: ErrorKind) {
    let mut bytes = body(&golden("histograms")).to_vec();
    change(&mut bytes);
    let error = Histograms::decode(&bytes).map(drop).expect_err("rejected");
    assert_eq!(error, Error::new(Some(FrameType::Histograms), offset, kind));
}

#[test]
fn inconsistent_histograms_are_rejected() {
    use ErrorKind::*;
    let buckets = |got| OutOfRange {
        what: "buckets",
        got,
        min: 0,
        max: 1024,
    };
    check_histograms(|bytes| bytes[12..14].fill(0xff), 12, buckets(65_535));
    check_histograms(
        |bytes| bytes[12] = 9,
        30,
        Truncated {
            needed: 9 * 11,
            left: 88,
        },
    );
    check_histograms(
        |bytes| bytes[32] = 3,
        30,
        UnknownCode {
            what: "bucket side",
            code: 3,
        },
    );
    check_histograms(|bytes| bytes[33] = 0, 30, EmptyBucket);
    check_histograms(|bytes| bytes[41] = 0xb1, 41, BucketOrder); // equal to the previous one
    check_histograms(|bytes| bytes[41] = 0xb0, 41, BucketOrder);
    check_histograms(
        |bytes| bytes[85] = 1,
        85,
        OutOfRange {
            what: "index of the zero bucket",
            got: 1,
            min: 0,
            max: 0,
        },
    );
    check_histograms(
        |bytes| bytes.truncate(117),
        85,
        Truncated { needed: 33, left: 32 },
    );
}

#[test]
fn control_frames_of_the_wrong_size_are_rejected() {
    let cases: [(Result<()>, usize, ErrorKind); 8] = [
        (
            Ping::decode(&[0; 7]).map(drop),
            0,
            ErrorKind::Truncated { needed: 8, left: 7 },
        ),
        (Ping::decode(&[0; 9]).map(drop), 8, ErrorKind::Trailing(1)),
        (Gap::decode(&[0; 14]).map(drop), 13, ErrorKind::Trailing(1)),
        (
            Gap::decode(&[8; 13]).map(drop),
            13,
            ErrorKind::Truncated { needed: 8, left: 0 },
        ),
        (Gap::decode(&[8; 30]).map(drop), 29, ErrorKind::Trailing(1)),
        (
            Numbers::decode(&[0; 29]).map(drop),
            28,
            ErrorKind::Truncated { needed: 20, left: 1 },
        ),
        (
            Goodbye::decode(&[0; 5]).map(drop),
            2,
            ErrorKind::Truncated { needed: 4, left: 3 },
        ),
        (
            Goodbye::decode(&[0, 0, 0, 0, 0, 0, 0xff]).map(drop),
            6,
            ErrorKind::NotUtf8,
        ),
    ];
    for (result, offset, kind) in cases {
        let error = result.expect_err("rejected");
        assert_eq!((error.offset, error.kind), (offset, kind));
    }
    assert!(Goodbye::decode(&[b'w'; 6 + 1024]).is_ok());
    assert!(Goodbye::decode(&[b'w'; 6 + 1025]).is_err());
}

#[test]
fn frames_without_rows_are_valid() {
    assert!(Numbers::decode(&[0; 8]).expect("numbers").is_empty());
    assert_eq!(Histograms::decode(&[0; 8]).expect("histograms").rows().count(), 0);
    assert_eq!(Define::decode(&[1]).expect("define").entries().count(), 0);
}

#[test]
fn a_definition_is_a_map_or_null() {
    let kind = ErrorKind::BadValue {
        map: MapKind::Series,
        key: String::new(),
        expected: "a map or null",
    };
    let error = Define::decode(&[1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0])
        .map(drop)
        .expect_err("rejected");
    assert_eq!(error, Error::new(Some(FrameType::Define), 5, kind));
    let error = Define::decode(&[4]).map(drop).expect_err("rejected");
    assert_eq!(
        error.kind,
        ErrorKind::UnknownCode {
            what: "DEFINE kind",
            code: 4
        }
    );
}

#[test]
fn a_dictionary_rejects_duplicate_ids_and_ids_beyond_its_limit() {
    let mut series = Dictionary::new(DefineKind::Series, 10);
    let what = "series";
    series.define(9, "nine").expect("free");
    let kind = |error: Error| error.kind;
    assert_eq!(
        series.define(9, "again").map_err(kind),
        Err(ErrorKind::AlreadyDefined { what, id: 9 })
    );
    let error = series.define(10, "ten").expect_err("beyond");
    assert_eq!(error.goodbye_code(), Some(GoodbyeCode::Limit));
    assert_eq!(
        series.release(3).map_err(kind),
        Err(ErrorKind::Undefined { what, id: 3 })
    );
    assert_eq!(
        series.get(FrameType::Numbers, u32::MAX).map_err(kind),
        Err(ErrorKind::Undefined { what, id: u32::MAX })
    );
    assert_eq!(series.iter().collect::<Vec<_>>(), [(9, &"nine")]);
    assert_eq!((series.release(9), series.len()), (Ok("nine"), 0));
    assert!(series.define(9, "free again").is_ok());
}

#[test]
fn a_series_with_too_many_labels_is_rejected() {
    let map = |labels| dichroic_wire::define::relay_series_map(77, vec![Value::Null; labels], 1, true);
    let read = |labels| {
        let mut out = Vec::new();
        dichroic_wire::define::write_one(&mut out, DefineKind::Series, 0, &map(labels)).expect("written");
        let define = Define::decode(body(&out)).expect("a definition");
        let map = define.entries().next().expect("one").1.expect("a map");
        RelaySeries::read(map)
            .map(|series| (series.labels.len(), series.overflow))
            .map_err(|error| error.kind)
    };
    assert_eq!(read(32), Ok((32, true)));
    assert!(matches!(read(33), Err(ErrorKind::BadValue { key, .. }) if key == "labels"));
}

#[test]
fn an_unknown_item_in_a_plan_entry_is_rejected_by_name() {
    let plan = Value::decode(body(&golden("plan"))).expect("a plan");
    let message = |list: &str, key: &str, value: Value| {
        let Value::Map(mut plan) = plan.clone() else {
            panic!("no map")
        };
        let Some(Value::List(entries)) = plan.get_mut(list) else {
            panic!("no list")
        };
        let Value::Map(entry) = &mut entries[0] else {
            panic!("no entry")
        };
        entry.insert(key.to_owned(), value);
        let mut bytes = Vec::new();
        Value::Map(plan).encode(&mut bytes).expect("written");
        Plan::decode(&bytes).expect_err(key).to_string()
    };
    let expression = |root: &str, transform: &str| {
        let path = Value::List(vec!["conn".into()]);
        Value::List(vec![root.into(), path, Value::List(vec![transform.into()])])
    };
    assert!(message("aggregates", "window", Value::Int(1)).contains("window"));
    assert!(message("aggregates", "type", "summary".into()).contains("summary"));
    assert!(message("aggregates", "bounds", Value::List(vec![])).contains("bounds"));
    assert!(message("aggregates", "scale", Value::Int(5)).contains("scale"));
    assert!(message("aggregates", "expire_s", Value::Int(299)).contains("expire_s"));
    assert!(message("aggregates", "key", Value::Int(15)).contains("key"));
    assert!(message("aggregates", "value", expression("metadata", "upcase")).contains("upcase"));
    assert!(message("aggregates", "value", expression("process", "name")).contains("process"));
    let like = Value::List(vec![Value::List(vec![
        "like".into(),
        expression("metadata", "name"),
    ])]);
    assert!(message("streams", "keep", like).contains("like"));
    assert!(message("streams", "sample", Value::Float(0.0)).contains("sample"));
}

#[test]
fn inconsistent_mixed_rows_are_rejected_at_their_byte() {
    let golden = body(&golden("mixed")).to_vec();
    let check = |change: &dyn Fn(&mut Vec<u8>), offset: usize, what: &str| {
        let mut bytes = golden.clone();
        change(&mut bytes);
        let error = Mixed::decode(&bytes, &mut MixedScratch::default())
            .map(drop)
            .expect_err(what);
        assert_eq!(
            (error.offset, error.frame),
            (offset, Some(FrameType::Mixed)),
            "{error}"
        );
        assert!(error.to_string().contains(what), "{error}");
    };
    // 20 bytes of counts, 3 contexts, 4 rows, 18 references.
    let (contexts, rows, references) = (20, 20 + 27, 20 + 27 + 8);
    check(&|bytes| bytes[8] = 0, 8, "rows is 0, must be 1 to 4096");
    check(&|bytes| bytes[9] = 0x20, 8, "rows is 8196");
    check(&|bytes| bytes[10] = 0, 10, "contexts is 0");
    check(&|bytes| bytes[12..16].fill(0xff), 12, "pool entries is");
    check(&|bytes| bytes[17] = 0x80, 16, "strings is");
    check(
        &|bytes| bytes[contexts + 8] = 0,
        contexts + 8,
        "columns is 0, must be 1 to 64",
    );
    check(&|bytes| bytes[contexts + 17] = 65, contexts + 17, "columns is 65");
    check(
        &|bytes| bytes[rows + 2] = 3,
        rows + 2,
        "context is 3, must be 0 to 2",
    );
    check(
        &|bytes| bytes[references + 2] = 16,
        references + 2,
        "reference is 16, must be 0 to 15",
    );
    check(
        &|bytes| bytes[references] = 0,
        references,
        "reference of the time is 0, must be 1 to 8",
    );
    check(
        &|bytes| bytes[references + 10] = 9,
        references + 10,
        "reference of the time is 9",
    );
    check(
        &|bytes| bytes.push(0),
        golden.len(),
        "1 bytes after the last field",
    );
    check(&|bytes| bytes[12] = 0xff, references + 36, "body ends early");
    let text = references + 36 + 80 + 6;
    check(&|bytes| bytes[text] = 0xff, text, "UTF-8");
    assert!(mixed::forward(&mut Vec::new(), &golden[..40], &[(1, 1), (2, 2), (3, 3)]).is_err());
}

#[test]
fn a_mixed_builder_reports_when_it_is_full_and_rejects_rows_that_no_frame_can_hold() {
    let batch = |text: &str| {
        let mut builder = EventsBuilder::new(0, 0, 1, 1 << 18).expect("a builder");
        builder.push(1, &[Cell::Str(text)]).expect("a row");
        let mut out = Vec::new();
        builder.finish(0, &mut out).expect("a frame");
        out
    };
    let (short, long) = (batch("0123456789"), batch(&"x".repeat(80)));
    let mut scratches = [EventsScratch::default(), EventsScratch::default()];
    let [first, second] = &mut scratches;
    let short = Events::decode(body(&short), first).expect("readable");
    let long = Events::decode(body(&long), second).expect("readable");
    let mut builder = MixedBuilder::new(100);
    assert_eq!(builder.append(1, 1, &short, [0]), Ok(1));
    assert_eq!(builder.append(2, 1, &long, [0]), Ok(0), "full");
    assert_eq!(builder.contexts().len(), 1, "that of the rejected row is removed");
    let mut out = Vec::new();
    assert_eq!(builder.finish(0, &mut out), Ok(1));
    let error = builder
        .append(2, 1, &long, [0])
        .expect_err("larger than any frame");
    assert!(
        matches!(error.kind, ErrorKind::Unwritable { what: "row", .. }),
        "{error:?}"
    );
    // Nothing of the rejected row remains.
    let mut again = Vec::new();
    assert_eq!(builder.append(1, 1, &short, [0]), Ok(1));
    assert_eq!(builder.finish(0, &mut again), Ok(1));
    assert_eq!(again, out);
    assert_eq!(builder.finish(0, &mut again), Ok(0));

    let mut builder = MixedBuilder::new(1 << 20);
    assert_eq!(
        builder.append(1, 1, &short, std::iter::repeat_n(0, 5_000)),
        Ok(4_096)
    );
}

#[test]
fn a_builder_reports_when_it_is_full_and_rejects_rows_that_no_frame_can_hold() {
    let mut builder = EventsBuilder::new(1, 0, 1, 100).expect("a builder");
    assert_eq!(builder.push(1, &[Cell::Str("0123456789")]), Ok(Pushed::Added));
    let error = builder.push(2, &[]).expect_err("another width");
    assert_eq!(error.fault(), Fault::Caller);
    let wide = "x".repeat(80);
    assert_eq!(builder.push(3, &[Cell::Str(&wide)]), Ok(Pushed::Full));
    let mut out = Vec::new();
    assert_eq!(builder.finish(0, &mut out), Ok(1));
    let error = builder
        .push(3, &[Cell::Str(&wide)])
        .expect_err("larger than any frame");
    assert!(
        matches!(error.kind, ErrorKind::Unwritable { what: "row", .. }),
        "{error:?}"
    );
    assert_eq!(
        builder.push(4, &[Cell::Null]),
        Ok(Pushed::Added),
        "the builder is usable after an error"
    );
    assert_eq!(builder.finish(0, &mut Vec::new()), Ok(1));
    assert_eq!(builder.finish(0, &mut Vec::new()), Ok(0));

    // Table entries of rejected rows do not count for the next row.
    let (mut builder, unwritable) = (
        EventsBuilder::new(1, 0, 2, 100).expect("a builder"),
        "x".repeat(65_536),
    );
    for row in 0..9 {
        let name = format!("rejected row {row}");
        assert!(
            builder
                .push(row, &[Cell::Str(&name), Cell::Str(&unwritable)])
                .is_err()
        );
    }
    assert_eq!(builder.push(9, &[Cell::Str("ok"), Cell::Null]), Ok(Pushed::Added));

    let mut builder = EventsBuilder::new(1, 0, 0, 1 << 20).expect("a builder");
    for row in 0..4096 {
        assert_eq!(builder.push(row, &[]), Ok(Pushed::Added));
    }
    assert_eq!(builder.push(4096, &[]), Ok(Pushed::Full));
    assert!(EventsBuilder::new(1, 0, 64, 1 << 20).is_err());
}

#[test]
fn integers_are_promoted_to_floats_only_without_loss() {
    let column = |cells: &[Cell<'static>]| {
        let mut builder = EventsBuilder::new(1, 0, 1, 1 << 18).expect("a builder");
        for cell in cells {
            builder.push(0, &[*cell]).expect("a row");
        }
        let mut out = Vec::new();
        builder.finish(0, &mut out).expect("a frame");
        let mut scratch = EventsScratch::default();
        let events = Events::decode(body(&out), &mut scratch).expect("readable");
        events.cells(1).map(|cell| cell.to_value()).collect::<Vec<_>>()
    };
    let odd = (1 << 53) + 1;
    assert_eq!(
        column(&[Cell::Int(1), Cell::Float(0.5)]),
        [Value::Float(1.0), Value::Float(0.5)]
    );
    assert_eq!(
        column(&[Cell::Int(odd), Cell::Float(0.5)]),
        [Value::Int(odd), Value::Float(0.5)]
    );
    assert_eq!(column(&[Cell::Int(1), Cell::Null]), [Value::Int(1), Value::Null]);
    assert_eq!(column(&[Cell::Null, Cell::Null]), [Value::Null, Value::Null]);
}

#[test]
fn forwarding_events_replaces_schema_source_and_position_and_nothing_else() {
    let events = golden("events");
    let header = EventsHeader {
        schema: 0x0102_0304,
        source: 7,
        position: u64::MAX - 1,
    };
    let mut bytes = Vec::new();
    events::forward(&mut bytes, body(&events), header).expect("an EVENTS body");
    let mut scratch = EventsScratch::default();
    assert_eq!(
        Events::decode(body(&bytes), &mut scratch)
            .expect("readable")
            .header(),
        header
    );
    assert_eq!(bytes[..5], events[..5]);
    assert_eq!(bytes[21..], events[21..]);
    let mut patched = body(&events).to_vec();
    events::patch_body(&mut patched, header).expect("an EVENTS body");
    assert_eq!(patched, body(&bytes));
    let before = bytes.clone();
    assert!(events::forward(&mut bytes, &body(&events)[..22], header).is_err());
    assert_eq!(bytes, before);
    assert!(events::patch_body(&mut patched[..22], header).is_err());
}
