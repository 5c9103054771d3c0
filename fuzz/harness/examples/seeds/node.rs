//! Seeds of `distribution`: what a node sends.

use crate::write;
use dichroic_beam_attach::term::{Pid, Reference, Term, atom, list, text, tuple};

/// Integers of any size, strings, funs, bit strings and references.
const RARE_TAGS: &[u8] = &[
    131, 104, 5, 110, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 107, 0, 2, 104, 105, 113, 119, 1, 97, 119, 1, 98, 97,
    2, 77, 0, 0, 0, 1, 4, 255, 90, 0, 1, 119, 1, 110, 0, 0, 0, 1, 0, 0, 0, 2,
];

pub fn write_all() {
    terms();
    handshakes();
    messages();
}

fn seed(name: &str, parts: &[&[u8]]) {
    write("distribution", name, parts);
}

fn terms() {
    let nested = list([
        tuple([atom("a"), text("b"), Term::Float(0.5)]),
        Term::Map(vec![(atom("k"), Term::Int(1 << 40))]),
        list([]),
    ]);
    let mut term = Vec::new();
    nested.encode(&mut term);
    seed("term", &[&[0], &term]);
    seed("term-of-rare-tags", &[&[0], RARE_TAGS]);
}

fn handshakes() {
    let named = b"snamed:\x00\x08own@host\x00\x00\x00\x01";
    let challenge = b"N\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x2a\x00\x00\x00\x01\x00\x09peer@host";
    let short = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let long = |message: &[u8]| [&(message.len() as u32).to_be_bytes()[..], message].concat();
    let digest = [&b"a"[..], &[7; 16]].concat();
    seed(
        "handshake",
        &[&[1], &short(named), &short(challenge), &short(&digest)],
    );
    seed(
        "handshake-over-tls",
        &[&[2], &long(named), &long(challenge), &long(&digest)],
    );
    seed("handshake-refused", &[&[1], &short(b"snot_allowed")]);
}

/// A control message of the node, and the term that is sent with it.
fn message(control: &Term, sent: Option<&Term>) -> Vec<u8> {
    let mut message = vec![112];
    control.encode(&mut message);
    if let Some(sent) = sent {
        sent.encode(&mut message);
    }
    [&(message.len() as u32).to_be_bytes()[..], &message].concat()
}

fn answer(tag: i64, term: Term) -> Vec<u8> {
    message(
        &tuple([Term::Int(2), atom(""), atom("to")]),
        Some(&tuple([Term::Int(tag), term])),
    )
}

fn messages() {
    let failed = tuple([atom("badrpc"), atom("nodedown")]);
    seed(
        "answers",
        &[&[3], &answer(1, Term::Int(60)), &[0; 4], &answer(2, failed)],
    );
    let monitor = Term::Reference(Reference {
        node: "own@host".to_owned(),
        creation: 1,
        words: vec![1, 0, 0],
    });
    let down = tuple([Term::Int(21), atom("name"), atom("own"), monitor, atom("normal")]);
    seed("down", &[&[4], &[0; 4], &message(&down, None)]);
    let keeper = Term::Pid(Pid {
        node: "peer@host".to_owned(),
        id: 1,
        serial: 0,
        creation: 1,
    });
    let relay = Term::Map(vec![
        (atom("state"), atom("steady")),
        (atom("attached"), Term::Int(3)),
        (
            atom("last_error"),
            tuple([atom("goodbye"), Term::Int(2), text("no")]),
        ),
    ]);
    let info = Term::Map(vec![
        (atom("guardian"), atom("other@host")),
        (atom("socket"), text("/run/x")),
        (atom("relay"), relay),
        (
            atom("modules"),
            list([tuple([atom("dichroic"), Term::Binary(vec![1; 16])])]),
        ),
    ]);
    seed(
        "presence",
        &[
            &[6],
            &answer(1, keeper),
            &answer(2, info.clone()),
            &answer(3, info),
        ],
    );
}
