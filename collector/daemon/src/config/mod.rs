//! The configuration file: its types, how it is read and checked, and errors with position, key and advice.
//!
//! The defaults of [`types`] are the whole configuration of `dichroic run` without a file. A file may contain exactly the keys of
//! these types. Reading goes through [`input`] (bounded in size and time), [`position`] (the values of the YAML text), [`expand`]
//! (references in values), the types (values and ranges) and [`check`] (rules between keys); each failure becomes one [`ConfigError`].

pub mod attach;
mod check;
pub mod error;
pub mod expand;
pub mod input;
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
use expand::{Lookup, System};
use input::{READ_TIME, read_any};
use local_tcp::TokenError;
use position::{Index, KeyPath, Segment};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;
use values::Secret;

/// Largest configuration file, in bytes.
const MAX_BYTES: u64 = 4 << 20;

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

/// Reads and checks a file, which may be a pipe.
pub fn load(path: &Path) -> Result<Config, Box<ConfigError>> {
    let name = path.display().to_string();
    match read_any(path, MAX_BYTES, Instant::now() + READ_TIME) {
        Ok(text) => parse(&text, &name),
        Err(error) => Err(Box::new(ConfigError::unreadable(name, error))),
    }
}

/// Reads and checks the text of a file; `file` is its name in errors.
pub fn parse(text: &str, file: &str) -> Result<Config, Box<ConfigError>> {
    parse_with(text, file, &System::new())
}

fn parse_with(text: &str, file: &str, lookup: &dyn Lookup) -> Result<Config, Box<ConfigError>> {
    let index = Index::new(text);
    let source = Source {
        file,
        text,
        index: &index,
    };
    if let Some(broken) = &index.broken {
        return Err(Box::new(source.not_yaml(broken.at, broken.reason.clone())));
    }
    let expanded = expand::expand(text, &index.scalars, lookup).map_err(|error| source.unexpanded(error))?;
    let config = read(&expanded.text).map_err(|failed| source.unread(&expanded, failed.0, &failed.1))?;
    check::check(&config).map_err(|violation| source.violated(&expanded, violation))?;
    Ok(config)
}

fn read(text: &str) -> Result<Config, Box<(KeyPath, serde_saphyr::Error)>> {
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return Ok(Config::default());
    }
    let options = serde_saphyr::options! {
        reject_unsupported_tags: true,
        // The text has values of references in it.
        with_snippet: false,
    };
    let mut track = serde_path_to_error::Track::new();
    let config = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
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
