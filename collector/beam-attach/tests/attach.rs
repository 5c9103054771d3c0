//! Attaching to nodes whose application contains the relay: nothing is changed, and the error states the reason.

#[allow(dead_code, reason = "shared with tests/hostile.rs")]
mod fake;

use dichroic_beam_attach::attach::{AttachResult, attach};
use dichroic_beam_attach::destination::Destinations;
use dichroic_beam_attach::term::{Term, atom, decode, list, string, tuple};
use dichroic_beam_attach::{Error, address, connection, cookie};
use fake::{COOKIE, NAME, shake};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers calls until the connection is closed.
async fn serve(mut stream: TcpStream, mut answer: impl FnMut(&str, &[Term]) -> Term) -> std::io::Result<()> {
    shake(&mut stream, NAME, COOKIE).await?;
    loop {
        let mut frame = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut frame).await?;
        if frame.is_empty() {
            continue;
        }
        let (_, rest) = decode(&frame[1..]).unwrap();
        let (message, _) = decode(rest).unwrap();
        let [_, from, request] = message.as_tuple().unwrap() else {
            panic!("{message}");
        };
        let [_, module, function, arguments, _] = request.as_tuple().unwrap() else {
            panic!("{request}");
        };
        let name = format!("{}:{}", module.as_atom().unwrap(), function.as_atom().unwrap());
        let [to, tag] = from.as_tuple().unwrap() else {
            panic!("{from}");
        };
        let answered = answer(&name, arguments.as_list().unwrap());
        let mut bytes = vec![0, 0, 0, 0, 112];
        tuple([Term::Int(2), atom(""), to.clone()]).encode(&mut bytes);
        tuple([tag.clone(), answered]).encode(&mut bytes);
        let len = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        stream.write_all(&bytes).await?;
    }
}

/// Attaches to a node with these answers; returns the result and the called functions.
async fn attached(
    answer: impl Fn(&str, &[Term]) -> Option<Term>,
) -> (Result<AttachResult, Error>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lookup = address::PortLookup::Port(listener.local_addr().unwrap().port());
    let name = address::NodeName::parse("fake@127.0.0.1").unwrap();
    let cookie = cookie::Cookie::new(COOKIE).unwrap();
    let mut called = Vec::new();
    let attaching = async {
        let mut node = connection::Connection::open(&name, &lookup, &cookie, None).await?;
        attach(&mut node, &Destinations::from(Path::new("/run/dichroic.sock"))).await
    };
    let node = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, |function, arguments| {
            called.push(function.to_owned());
            answer(function, arguments).unwrap_or_else(|| default_answer(function, arguments))
        })
        .await
    };
    let outcome = tokio::select! {
        outcome = attaching => outcome,
        end = node => panic!("{end:?}"),
    };
    (outcome, called)
}

/// The answers of a node without the relay.
fn default_answer(function: &str, arguments: &[Term]) -> Term {
    let each = |answer: Term| Term::List(vec![answer; arguments[1].as_list().unwrap().len()]);
    match function {
        "net_kernel:get_net_ticktime" => Term::Int(60),
        "erlang:whereis" => atom("undefined"),
        "erlang:system_info" => string("25"),
        "code:where_is_file" => atom("non_existing"),
        "lists:map" => match &arguments[0] {
            Term::Export(_, function, _) if function == "soft_purge" => each(atom("true")),
            _ => each(atom("false")),
        },
        other => panic!("{other} was called"),
    }
}

#[tokio::test]
async fn a_node_with_the_relay_on_its_code_path_is_not_changed() {
    let (outcome, called) = attached(|function, arguments| {
        (function == "code:where_is_file").then(|| {
            assert_eq!(arguments, [string("dichroic.app")]);
            string("/app/lib/dichroic/ebin/dichroic.app")
        })
    })
    .await;
    let message = outcome.unwrap_err().to_string();
    assert!(
        message.contains("/app/lib/dichroic/ebin/dichroic.app"),
        "{message}"
    );
    assert!(
        message.contains("the relay is part of its application; start that"),
        "{message}"
    );
    assert!(!called.iter().any(|f| f.starts_with("lists:")), "{called:?}");
}

#[tokio::test]
async fn a_relay_that_the_application_starts_during_loading_is_not_changed() {
    let (outcome, _) = attached(|function, _| {
        (function == "lists:zipwith").then(|| list([atom("ok"), tuple([atom("error"), atom("installed")])]))
    })
    .await;
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("started the relay during loading"), "{message}");
}
