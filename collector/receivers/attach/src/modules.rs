//! The relay's modules, compiled, as they are loaded into nodes.

#[path = "../beams/mod.rs"]
mod beams;

use crate::term::{Term, atom, tuple};

/// What is reported as the file of a loaded module, so that ours are told from those of an application.
pub const FILE: &str = "(attached by dichroic)";
/// The module that is only loaded to be asked.
pub const DISCOVER: &str = "dichroic_discover";

/// One module.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    pub name: &'static str,
    /// Of the code, in hexadecimal: what `Module:module_info(md5)` shows on the node.
    pub md5: &'static str,
    pub code: &'static [u8],
}

/// The modules of an attached relay.
pub fn relay() -> impl Iterator<Item = Module> {
    all().filter(|module| module.name != DISCOVER)
}

/// The module that discovers.
pub fn discover() -> impl Iterator<Item = Module> {
    all().filter(|module| module.name == DISCOVER)
}

fn all() -> impl Iterator<Item = Module> {
    beams::BEAMS
        .iter()
        .map(|&(name, md5, code)| Module { name, md5, code })
}

/// The argument of `code:atomic_load/1`: all of them or none.
pub(crate) fn to_load(modules: impl Iterator<Item = Module>) -> Term {
    let file: Vec<Term> = FILE.bytes().map(|c| Term::Int(i64::from(c))).collect();
    Term::List(
        modules
            .map(|module| {
                tuple([
                    atom(module.name),
                    Term::List(file.clone()),
                    Term::Binary(module.code.to_vec()),
                ])
            })
            .collect(),
    )
}
