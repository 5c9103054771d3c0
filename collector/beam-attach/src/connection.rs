//! A hidden connection to a node: control messages, calls through its `rex` server, ticks. No telemetry crosses it.
//!
//! One task owns and drives a [`Connection`]: [`Connection::call`] answers ticks while it waits, [`Connection::idle`] between calls. The
//! node drops a connection that is not driven after its net_ticktime. The size of every message is checked before memory is allocated;
//! unexpected messages are ignored.

use crate::address::{NodeName, PortLookup, resolve};
use crate::cookie::Cookie;
use crate::epmd;
use crate::error::Error;
use crate::handshake::{self, Introduced, Length, shake};
use crate::term::{Pid, Reference, Term, atom, decode, tuple};
use crate::tls::Tls;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Longest accepted message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Time for epmd, the connection and the handshake together.
const CONNECT: Duration = Duration::from_secs(7);
/// The default of a node's net_ticktime.
const NET_TICKTIME: Duration = Duration::from_secs(60);
/// Time limit of a write.
const WRITE: Duration = Duration::from_secs(15);
/// Shortest time between two ticks sent.
const TICK: Duration = Duration::from_secs(1);

const PASS_THROUGH: u8 = 112;
const SEND: i64 = 2;
const REG_SEND: i64 = 6;
const MONITOR_P: i64 = 19;
const MONITOR_P_EXIT: i64 = 21;
const SEND_SENDER: i64 = 22;

/// TCP, or TLS over it. Dynamic dispatch: the path carries control only.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Wire for T {}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Box<dyn Wire>,
    local: bool,
    introduced: Introduced,
    ticktime: Duration,
    buffer: Vec<u8>,
    sent: Instant,
    heard: Instant,
    calls: i64,
    monitors: u32,
    /// Exit reason of the monitored process.
    down: Option<Term>,
}

/// A message from the node.
#[derive(Debug, Clone, PartialEq)]
enum Incoming {
    Message(Term),
    Down { monitor: u32, reason: Term },
    Other,
}

/// Why [`Connection::idle`] returned.
#[derive(Debug, Clone, PartialEq)]
pub enum Idle {
    /// The monitored process ended.
    Down(Term),
    /// The time has elapsed.
    Over,
}

impl Connection {
    /// Resolves the node, connects and performs the handshake. Without TLS the node must be on this machine.
    pub async fn open(
        node: &NodeName,
        lookup: &PortLookup,
        cookie: &Cookie,
        tls: Option<&Tls>,
    ) -> Result<Self, Error> {
        let opening = async {
            let Reached {
                mut stream,
                length,
                at,
                local,
            } = reach(node, lookup, tls).await?;
            let introduced = shake(&mut stream, length, &node.host, cookie).await?;
            if introduced.peer_name != node.to_string() {
                return Err(Error::Handshake(format!(
                    "the node at {at} is {}, not {node}",
                    introduced.peer_name
                )));
            }
            Ok((stream, local, introduced))
        };
        let (stream, local, introduced) = in_time(node, opening).await?;
        let mut connection = Connection::established(stream, local, introduced);
        connection.read_ticktime().await?;
        Ok(connection)
    }

    /// A connection after the handshake, with the default net_ticktime.
    pub fn established(stream: Box<dyn Wire>, local: bool, introduced: Introduced) -> Self {
        Connection {
            stream,
            local,
            introduced,
            ticktime: NET_TICKTIME,
            buffer: Vec::new(),
            sent: Instant::now(),
            heard: Instant::now(),
            calls: 0,
            monitors: 0,
            down: None,
        }
    }

    /// Whether the node is on this machine.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// The name that the node assigned.
    pub fn own_name(&self) -> &str {
        &self.introduced.own_name
    }

    /// Asks for the net_ticktime of the node, after which a silent node is lost.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn read_ticktime(&mut self) -> Result<(), Error> {
        let answer = self
            .call("net_kernel", "get_net_ticktime", Vec::new(), CONNECT)
            .await?;
        let seconds = match &answer {
            Term::Int(seconds) => Some(*seconds),
            // A change is in progress.
            Term::Tuple(parts) => parts.get(1).and_then(Term::as_int),
            _ => None,
        };
        if let Some(seconds) = seconds.and_then(|s| u64::try_from(s).ok()) {
            self.ticktime = Duration::from_secs(seconds.clamp(4, 3600));
        }
        Ok(())
    }

    fn own_pid(&self) -> Term {
        Term::Pid(Pid {
            node: self.introduced.own_name.clone(),
            id: 1,
            serial: 0,
            creation: self.introduced.own_creation,
        })
    }

    /// Calls a function on the node, through the server that answers `rpc:call/4`.
    pub async fn call(
        &mut self,
        module: &str,
        function: &str,
        arguments: Vec<Term>,
        limit: Duration,
    ) -> Result<Term, Error> {
        let (own, tag) = self.address();
        let request = tuple([
            atom("call"),
            atom(module),
            atom(function),
            Term::List(arguments),
            atom("user"),
        ]);
        let message = tuple([atom("$gen_call"), tuple([own, tag.clone()]), request]);
        self.send_to("rex", message).await?;
        let answer = self
            .answer(&tag, limit)
            .await?
            .ok_or_else(|| Error::timeout(format!("{module}:{function} on the node"), limit))?;
        check_badrpc(module, function, answer)
    }

    /// Sends `{Request, Pid, Tag}` to a registered process and waits for `{Tag, Answer}`.
    pub async fn request(&mut self, name: &str, request: Term, limit: Duration) -> Result<Term, Error> {
        let (own, tag) = self.address();
        self.send_to(name, tuple([request, own, tag.clone()])).await?;
        self.answer(&tag, limit)
            .await?
            .ok_or_else(|| Error::timeout(format!("{name} on the node"), limit))
    }

    /// The pid to which `{Tag, Answer}` is sent, and a unique tag.
    pub(crate) fn address(&mut self) -> (Term, Term) {
        self.calls += 1;
        (self.own_pid(), Term::Int(self.calls))
    }

    /// The answer with this tag; `None` when the time has elapsed.
    pub(crate) async fn answer(&mut self, tag: &Term, limit: Duration) -> Result<Option<Term>, Error> {
        let until = Instant::now() + limit;
        while let Some(incoming) = self.next(until).await? {
            if let Incoming::Message(Term::Tuple(mut parts)) = incoming
                && parts.len() == 2
                && parts[0] == *tag
            {
                return Ok(Some(parts.remove(1)));
            }
        }
        Ok(None)
    }

    /// Sends a message to a registered process of the node.
    pub async fn send_to(&mut self, name: &str, message: Term) -> Result<(), Error> {
        let control = tuple([Term::Int(REG_SEND), self.own_pid(), atom(""), atom(name)]);
        self.write(&control, Some(&message)).await
    }

    /// Monitors a registered process of the node. One at a time.
    pub async fn monitor(&mut self, name: &str) -> Result<(), Error> {
        self.monitors += 1;
        self.down = None;
        let control = tuple([Term::Int(MONITOR_P), self.own_pid(), atom(name), self.reference()]);
        self.write(&control, None).await
    }

    fn reference(&self) -> Term {
        Term::Reference(Reference {
            node: self.introduced.own_name.clone(),
            creation: self.introduced.own_creation,
            words: vec![self.monitors, 0, 0],
        })
    }

    /// Keeps the connection alive until `until`, or until the monitored process ends.
    ///
    /// Cancellation safe: bytes already read are kept for the next call.
    pub async fn idle(&mut self, until: Instant) -> Result<Idle, Error> {
        loop {
            if let Some(reason) = self.down.take() {
                return Ok(Idle::Down(reason));
            }
            if self.next(until).await?.is_none() && self.down.is_none() {
                return Ok(Idle::Over);
            }
        }
    }

    /// The next message; `None` when the time has elapsed. Sends ticks while it waits.
    async fn next(&mut self, until: Instant) -> Result<Option<Incoming>, Error> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                self.heard = Instant::now();
                match incoming(&frame)? {
                    Some(Incoming::Down { monitor, reason }) => {
                        if monitor == self.monitors {
                            self.down = Some(reason);
                        }
                        return Ok(Some(Incoming::Other));
                    }
                    Some(message) => return Ok(Some(message)),
                    // Answer ticks, so that a changed net_ticktime is followed; at a limited rate, so that a flood is not mirrored.
                    None if self.sent.elapsed() >= TICK => self.tick().await?,
                    None => {}
                }
                // The time limit holds even when there are always more messages.
                if Instant::now() >= until {
                    return Ok(None);
                }
                continue;
            }
            let silent = self.heard + self.ticktime + self.ticktime / 4;
            let due = self.sent + (self.ticktime / 4).min(Duration::from_secs(15));
            let wake = until.min(silent).min(due);
            tokio::select! {
                biased;
                read = read_more(&mut self.stream, &mut self.buffer) => {
                    if read.map_err(|e| Error::io("connection to the node lost", &e))? == 0 {
                        return Err(Error::Connection("the node closed the connection".to_owned()));
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= until {
                        return Ok(None);
                    }
                    if now >= silent {
                        return Err(Error::timeout("the node", self.ticktime));
                    }
                    self.tick().await?;
                }
            }
        }
    }

    async fn tick(&mut self) -> Result<(), Error> {
        self.write_all(&[0; 4]).await
    }

    async fn write(&mut self, control: &Term, message: Option<&Term>) -> Result<(), Error> {
        let mut frame = vec![0, 0, 0, 0, PASS_THROUGH];
        control.encode(&mut frame);
        if let Some(message) = message {
            message.encode(&mut frame);
        }
        let len = u32::try_from(frame.len() - 4)
            .map_err(|_| Error::Protocol("a message of more than 4 GiB".to_owned()))?;
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.write_all(&frame).await
    }

    async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITE, writing)
            .await
            .map_err(|_| Error::timeout("writing to the node", WRITE))?
            .map_err(|e| Error::io("connection to the node lost", &e))?;
        self.sent = Instant::now();
        Ok(())
    }
}

/// A stream to a node, before the handshake.
struct Reached {
    stream: Box<dyn Wire>,
    length: Length,
    at: SocketAddr,
    local: bool,
}

async fn reach(node: &NodeName, lookup: &PortLookup, tls: Option<&Tls>) -> Result<Reached, Error> {
    let machine = resolve(&node.host, tls.is_some()).await?;
    let port = epmd::port(lookup, node, machine, tls.is_some()).await?;
    let at = SocketAddr::new(machine.ip, port);
    let stream = TcpStream::connect(at)
        .await
        .map_err(|e| Error::io(&format!("{node} at {at}"), &e))?;
    let _ = stream.set_nodelay(true);
    let (stream, length): (Box<dyn Wire>, _) = match tls {
        Some(tls) => (Box::new(tls.connect(&node.host, stream).await?), Length::Four),
        None => (Box::new(stream), Length::Two),
    };
    Ok(Reached {
        stream,
        length,
        at,
        local: machine.local,
    })
}

async fn in_time<T>(node: &NodeName, opening: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(CONNECT, opening)
        .await
        .map_err(|_| Error::timeout(format!("connecting to {node}"), CONNECT))?
}

/// The creation of a running node, which changes when it restarts. Works without the cookie, and leaves no line in the node's log.
///
/// # Errors
/// As [`Connection::open`].
pub async fn creation(node: &NodeName, lookup: &PortLookup, tls: Option<&Tls>) -> Result<u32, Error> {
    in_time(node, async {
        let mut reached = reach(node, lookup, tls).await?;
        handshake::creation(&mut reached.stream, reached.length, &node.host).await
    })
    .await
}

fn check_badrpc(module: &str, function: &str, answer: Term) -> Result<Term, Error> {
    match answer.as_tuple() {
        Some([Term::Atom(tag), reason]) if tag == "badrpc" => Err(Error::Call(format!(
            "{module}:{function} failed on the node: {reason}"
        ))),
        _ => Ok(answer),
    }
}

async fn read_more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    buffer.reserve(16 << 10);
    stream.read_buf(buffer).await
}

/// The first complete frame of the buffer.
fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    let Some(head) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*head) as usize;
    if len > MAX_MESSAGE {
        return Err(Error::Protocol(format!(
            "the node announces a message of {len} bytes; the limit is {MAX_MESSAGE}"
        )));
    }
    if buffer.len() < 4 + len {
        return Ok(None);
    }
    let rest = buffer.split_off(4 + len);
    let mut frame = std::mem::replace(buffer, rest);
    frame.drain(..4);
    Ok(Some(frame))
}

/// Decodes a frame; `None` for a tick.
fn incoming(frame: &[u8]) -> Result<Option<Incoming>, Error> {
    let wrong = |what: String| Error::Protocol(format!("the node sent {what}"));
    let Some((kind, rest)) = frame.split_first() else {
        return Ok(None);
    };
    if *kind != PASS_THROUGH {
        return Err(wrong(format!(
            "a message of kind {kind}, which was not negotiated"
        )));
    }
    let (control, rest) = decode(rest).map_err(|e| wrong(e.to_string()))?;
    let parts = control.as_tuple().unwrap_or_default();
    let operation = parts.first().and_then(Term::as_int);
    Ok(Some(match (operation, parts) {
        (Some(SEND | SEND_SENDER | REG_SEND), _) => {
            let (message, _) = decode(rest).map_err(|e| wrong(e.to_string()))?;
            Incoming::Message(message)
        }
        (Some(MONITOR_P_EXIT), [_, _, _, Term::Reference(monitor), reason]) => Incoming::Down {
            monitor: monitor.words.first().copied().unwrap_or_default(),
            reason: reason.clone(),
        },
        _ => Incoming::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_taken_whole_and_oversized_ones_are_rejected_by_their_length() {
        let mut buffer = vec![0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 0, 0];
        assert_eq!(take_frame(&mut buffer).unwrap(), Some(vec![1, 2]));
        assert_eq!(take_frame(&mut buffer).unwrap(), Some(vec![]));
        assert_eq!(take_frame(&mut buffer).unwrap(), None);
        let message = take_frame(&mut vec![0xff; 5]).unwrap_err().to_string();
        assert!(message.contains("limit"), "{message}");
    }

    #[test]
    fn relevant_messages_are_recognized_and_others_ignored() {
        let frame = |control: Term, message: Option<Term>| {
            let mut frame = vec![PASS_THROUGH];
            control.encode(&mut frame);
            if let Some(message) = message {
                message.encode(&mut frame);
            }
            incoming(&frame).unwrap()
        };
        assert_eq!(incoming(b"").unwrap(), None);
        let send = tuple([Term::Int(2), atom(""), atom("to")]);
        assert_eq!(
            frame(send, Some(Term::Int(1))),
            Some(Incoming::Message(Term::Int(1)))
        );
        let link = tuple([Term::Int(1), atom("a"), atom("b")]);
        assert_eq!(frame(link, None), Some(Incoming::Other));
        assert!(incoming(&[131, 68]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = incoming(&bytes);
            bytes.insert(0, PASS_THROUGH);
            bytes.insert(1, 131);
            let _ = incoming(&bytes);
            let _ = take_frame(&mut bytes);
        }
    }
}
