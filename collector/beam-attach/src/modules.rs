//! The compiled modules of the relay.
//!
//! A node loads code compiled by its own OTP release or one of the two before it; OTP 29 rejects instructions that OTP 25 generated from
//! the same source. So there is a set per compiler, and a node gets the newest set that is not newer than itself.

#[path = "../beams/mod.rs"]
mod beams;

use crate::connection::Connection;
use crate::error::Error;
use crate::term::{Term, atom, string, tuple};
use std::time::Duration;

/// The file name that loaded modules report, which distinguishes them from modules of an application.
pub const FILE: &str = "(attached by dichroic)";
/// The module of discovery; the name of its helper module starts with it. No application contains them: a module that an application
/// has loaded cannot be replaced and restored.
pub const VISIT: &str = "dichroic_visit";

/// Name, digest, code.
type Compiled = (&'static str, &'static str, &'static [u8]);

/// One module.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Name of the module.
    pub name: &'static str,
    /// MD5 of the code in hexadecimal, as `Module:module_info(md5)` returns it on the node.
    pub md5: &'static str,
    /// Compiled code.
    pub code: &'static [u8],
}

/// Modules from one compiler.
#[derive(Debug, Clone, Copy)]
pub struct ModuleSet {
    /// The OTP release that compiled them.
    pub otp: u32,
    modules: &'static [Compiled],
}

impl ModuleSet {
    /// All sets, the oldest first.
    pub fn all() -> impl Iterator<Item = ModuleSet> {
        beams::SETS
            .iter()
            .map(|&(otp, modules)| ModuleSet { otp, modules })
    }

    /// The set for a node of this OTP release: the newest that is not newer, else the oldest.
    pub fn for_release(otp: u32) -> ModuleSet {
        let fitting = ModuleSet::all().filter(|set| set.otp <= otp).last();
        fitting
            .or_else(|| ModuleSet::all().next())
            .unwrap_or(ModuleSet { otp, modules: &[] })
    }

    /// The set for this node, by its OTP release.
    pub async fn of(node: &mut Connection) -> Result<ModuleSet, Error> {
        let limit = Duration::from_secs(10);
        let release = node
            .call("erlang", "system_info", vec![atom("otp_release")], limit)
            .await?;
        let text = release.to_text().unwrap_or_default();
        match text.parse() {
            Ok(otp) => Ok(ModuleSet::for_release(otp)),
            Err(_) => Err(Error::Protocol(format!(
                "unknown OTP release {text:?} of the node"
            ))),
        }
    }

    /// The modules of an attached relay.
    pub fn relay(self) -> impl Iterator<Item = Module> {
        self.modules().filter(|module| !module.name.starts_with(VISIT))
    }

    /// The modules of discovery.
    pub fn discover(self) -> impl Iterator<Item = Module> {
        self.modules().filter(|module| module.name.starts_with(VISIT))
    }

    fn modules(self) -> impl Iterator<Item = Module> {
        self.modules
            .iter()
            .map(|&(name, md5, code)| Module { name, md5, code })
    }
}

/// Names of the modules of an attached relay, the same in every set.
pub fn names() -> impl Iterator<Item = &'static str> {
    ModuleSet::for_release(0).relay().map(|module| module.name)
}

/// The argument of `code:atomic_load/1`, which loads all modules or none.
pub(crate) fn to_load(modules: impl Iterator<Item = Module>) -> Term {
    Term::List(
        modules
            .map(|module| {
                tuple([
                    atom(module.name),
                    string(FILE),
                    Term::Binary(module.code.to_vec()),
                ])
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_newest_code_that_is_not_newer_than_itself() {
        let check =
            |release, expected| assert_eq!(ModuleSet::for_release(release).otp, expected, "{release}");
        check(24, 25);
        check(25, 25);
        check(26, 25);
        check(27, 27);
        check(28, 27);
        check(29, 27);
    }
}
