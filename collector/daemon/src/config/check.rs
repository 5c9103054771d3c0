//! Rules of the configuration that involve several keys, or more than the type of one.

use super::attach;
use super::local_tcp::TokenError;
use super::own_endpoint;
use super::position::KeyPath;
use super::selection::selection;
use super::types::{Admin, Config, LocalSocket, Logs};
use super::values::{Listen, Secret, show_size};
use super::violation::Violation;
use dichroic_pipeline::budget::Part;
use std::net::SocketAddr;
use std::time::Duration;

const MIN_TOKEN: usize = 16;
/// Longest path of a Unix socket, in bytes: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = 107;
const ALLOW: &str = "if that is intended, set security.allow_non_loopback: true";

/// Checks every rule; the first violation is returned.
pub fn check(config: &Config) -> Result<(), Violation> {
    selection(config)?;
    admin(&config.admin)?;
    listeners(config)?;
    local_socket(&config.security.local_socket)?;
    whole_seconds("limits.replay_time", config.limits.replay_time.0)?;
    whole_seconds("limits.lease_time", config.limits.lease_time.0)?;
    in_flight(config)?;
    scrape_configs(config)?;
    own_endpoint::check(config)?;
    let tcp = config.security.tcp().map_err(TokenError::violation)?;
    attach::check(&config.receivers.beam.attach, tcp.is_some())?;
    logs(&config.receivers.beam.logs)?;
    for (at, pattern) in config.exporters.stream.retain.iter().enumerate() {
        if let Err(error) = dichroic_model::Pattern::new(pattern) {
            return Err(Violation::new(
                KeyPath::of("exporters.stream.retain").item(at),
                error.to_string(),
                "write a dotted name, in which * is any text within a segment and ** any number of segments",
            ));
        }
    }
    Ok(())
}

fn whole_seconds(key: &str, time: Duration) -> Result<(), Violation> {
    if time.subsec_nanos() == 0 {
        return Ok(());
    }
    Err(Violation::new(
        KeyPath::of(key),
        format!("{time:?} is not a whole number of seconds"),
        "write whole seconds, such as 60s",
    ))
}

/// What is reserved as a whole, or may be one request, must fit into the share of its part.
fn in_flight(config: &Config) -> Result<(), Violation> {
    let limit = config.limits.in_flight.0;
    let check = |key: &str, part: Part, bytes: usize, what: &str| {
        if bytes <= part.largest(limit) {
            return Ok(());
        }
        let half = show_size(part.largest(limit) as u64);
        let enough = show_size(bytes.saturating_mul(2) as u64);
        Err(Violation::new(
            KeyPath::of(key),
            format!("{what} exceeds {half}, half of limits.in_flight"),
            format!("write a smaller size, or set limits.in_flight to at least {enough}"),
        ))
    };
    let replay = config.limits.replay_bytes;
    let both = replay.0.saturating_mul(2);
    check(
        "limits.replay_bytes",
        Part::Replay,
        both,
        "the replay of events and logs together",
    )?;
    let request = config.receivers.otlp.max_request.0;
    check(
        "receivers.otlp.max_request",
        Part::OtlpBodies,
        request,
        "a request of this size",
    )
}

fn exposed(listen: &Listen) -> bool {
    listen
        .address()
        .is_some_and(|address| !address.ip().is_loopback())
}

fn local_socket(socket: &LocalSocket) -> Result<(), Violation> {
    let section = KeyPath::of("security.local_socket");
    let mode = &socket.mode;
    let octal = mode.bytes().all(|byte| byte.is_ascii_digit());
    if !octal || !u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777) {
        return Err(Violation::new(
            section.key("mode"),
            format!("invalid file mode {mode:?}"),
            "write an octal file mode from \"0000\" to \"0777\" in quotes, such as \"0660\"",
        ));
    }
    let Some(path) = &socket.path else {
        return Ok(());
    };
    let message = match path.as_os_str().len() {
        0 => "the path is empty".to_owned(),
        length if length > MAX_SOCKET_PATH => {
            format!("the path has {length} bytes, more than the maximum of {MAX_SOCKET_PATH}")
        }
        _ => return Ok(()),
    };
    Err(Violation::new(
        section.key("path"),
        message,
        "write a shorter path, such as /run/dichroic/dichroic.sock, or remove the key",
    ))
}

fn admin(admin: &Admin) -> Result<(), Violation> {
    let violation = |message: &str| {
        Violation::new(
            KeyPath::of("admin.token"),
            message,
            format!(
                "write a secret of at least {MIN_TOKEN} characters, such as token: ${{env:DICHROIC_ADMIN_TOKEN}}"
            ),
        )
    };
    match &admin.token {
        None if exposed(&admin.listen) => Err(violation(
            "a token is required, because admin.listen is not a loopback address",
        )),
        Some(Secret(token)) if token.is_empty() => Err(violation("the token is empty")),
        Some(Secret(token)) if token.contains(char::is_control) => Err(violation(
            "the token contains a line break or another control character",
        )),
        Some(Secret(token)) if token.len() < MIN_TOKEN => Err(violation(&format!(
            "the token is shorter than {MIN_TOKEN} characters"
        ))),
        _ => Ok(()),
    }
}

fn listeners(config: &Config) -> Result<(), Violation> {
    let allowed = config.security.allow_non_loopback;
    for (key, listen) in [
        ("receivers.otlp.grpc", &config.receivers.otlp.grpc),
        ("receivers.otlp.http", &config.receivers.otlp.http),
    ] {
        if exposed(listen) && !allowed {
            return Err(Violation::new(
                KeyPath::of(key),
                "not a loopback address, and OTLP is accepted without authentication",
                ALLOW,
            ));
        }
    }
    let tcp: Option<(SocketAddr, Secret)> = config.security.tcp().map_err(TokenError::violation)?;
    match tcp {
        Some((address, _)) if !address.ip().is_loopback() && !allowed => Err(Violation::new(
            KeyPath::of("security.local_tcp.listen"),
            "not a loopback address, and neither the token nor the data is encrypted in transit",
            ALLOW,
        )),
        _ => Ok(()),
    }
}

fn scrape_configs(config: &Config) -> Result<(), Violation> {
    let jobs = KeyPath::of("receivers.prometheus.scrape_configs");
    let configs = &config.receivers.prometheus.scrape_configs;
    for (at, job) in configs.iter().enumerate() {
        if configs[..at].iter().any(|other| other.job_name == job.job_name) {
            return Err(Violation::new(
                jobs.clone().item(at).key("job_name"),
                format!("duplicate job name {:?}", job.job_name),
                "give each job its own name, or write the targets into one job",
            ));
        }
        job.targets().map_err(|error| {
            let job = jobs.clone().item(at);
            let key = match error.key {
                "targets" | "labels" => job.key("static_configs"),
                key => job.key(key),
            };
            Violation::new(key, error.problem, error.help)
        })?;
    }
    Ok(())
}

fn logs(logs: &Logs) -> Result<(), Violation> {
    let key = KeyPath::of("receivers.beam.logs.attributes");
    let limits = "write at most 32 names of 1 to 255 bytes";
    if logs.attributes.len() > 32 {
        let message = format!("{} names exceed the maximum of 32", logs.attributes.len());
        return Err(Violation::new(key, message, limits));
    }
    let invalid = |name: &String| !(1..=255).contains(&name.len());
    match logs.attributes.iter().position(invalid) {
        Some(at) => Err(Violation::new(key.item(at), "invalid length of a name", limits)),
        None => Ok(()),
    }
}
