//! The configuration file: its types, how it is read and checked, and errors with position, key and advice.
//!
//! The defaults of [`types`] are the whole configuration of `dichroic run` without a file. A file may contain exactly the keys of
//! these types. Reading goes through [`expand`] (references), YAML and the types (values and ranges) and [`check`] (rules between
//! keys); each failure becomes one [`ConfigError`].

pub mod attach;
mod check;
pub mod error;
pub mod expand;
pub mod loaded;
pub mod local_tcp;
pub mod own_endpoint;
pub mod position;
#[cfg(test)]
mod reference;
pub mod schema;
pub mod selection;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod types;
pub mod values;
pub mod violation;

pub use error::ConfigError;
pub use types::{Admin, Config, Security};

use error::Source;
use expand::{Expanded, System};
use local_tcp::TokenError;
use position::{KeyPath, Segment};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use values::Secret;

impl Security {
    /// Address and token of `local_tcp`, unless it is off.
    pub fn tcp(&self) -> Result<Option<(SocketAddr, Secret)>, TokenError> {
        let on = self
            .local_tcp
            .as_ref()
            .and_then(|tcp| Some((tcp, tcp.listen.address()?)));
        on.map(|(tcp, address)| Ok((address, tcp.secret()?))).transpose()
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, Box<ConfigError>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &name),
        Err(error) => Err(Box::new(ConfigError::unreadable(name, error))),
    }
}

/// Reads and checks the text of a file; `file` is its name in errors.
pub fn parse(text: &str, file: &str) -> Result<Config, Box<ConfigError>> {
    let expanded = expand::expand(text, &System).map_err(|error| Source::unexpanded(file, text, error))?;
    let source = Source {
        file,
        text,
        expanded: &expanded,
    };
    let config = read(&expanded).map_err(|failed| source.unread(failed.0, &failed.1))?;
    check::check(&config).map_err(|violation| source.violated(violation))?;
    Ok(config)
}

fn read(expanded: &Expanded) -> Result<Config, Box<(KeyPath, serde_saphyr::Error)>> {
    let text = &expanded.text;
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return Ok(Config::default());
    }
    let mut track = serde_path_to_error::Track::new();
    let config = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        Config::deserialize(serde_path_to_error::Deserializer::new(deserializer, &mut track))
    });
    config.map_err(|error| Box::new((key_path(&track.path()), error)))
}

fn key_path(path: &serde_path_to_error::Path) -> KeyPath {
    use serde_path_to_error::Segment as Tracked;
    let segments = path.iter().filter_map(|segment| match segment {
        Tracked::Map { key } => Some(Segment::Key(key.clone())),
        Tracked::Seq { index } => Some(Segment::Item(*index)),
        Tracked::Enum { .. } | Tracked::Unknown => None,
    });
    KeyPath(segments.collect())
}
