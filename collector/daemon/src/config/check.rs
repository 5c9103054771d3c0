//! Rules of the configuration that involve several keys, or more than the type of one.

use super::attach;
use super::local_tcp::TokenError;
use super::own_endpoint;
use super::position::KeyPath;
use super::selection::selection;
use super::types::{Admin, Config, Logs};
use super::values::{Listen, Secret};
use super::violation::Violation;
use std::net::SocketAddr;

const MIN_TOKEN: usize = 16;
const ALLOW: &str = "if that is intended, set security.allow_non_loopback: true";

/// Checks every rule; the first violation is returned.
pub fn check(config: &Config) -> Result<(), Violation> {
    selection(config)?;
    admin(&config.admin)?;
    listeners(config)?;
    let mode = &config.security.local_socket.mode;
    if u32::from_str_radix(mode, 8).is_err() {
        return Err(Violation::new(
            KeyPath::of("security.local_socket.mode"),
            format!("invalid file mode {mode:?}"),
            "write an octal file mode in quotes, such as \"0660\"",
        ));
    }
    own_endpoint::check(config)?;
    scrape_configs(config)?;
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

fn exposed(listen: &Listen) -> bool {
    listen
        .address()
        .is_some_and(|address| !address.ip().is_loopback())
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
    for (at, job) in config.receivers.prometheus.scrape_configs.iter().enumerate() {
        job.targets().map_err(|error| {
            let job = jobs.clone().item(at);
            let key = match error.key {
                "targets" => job.key("static_configs"),
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
