//! Packs and definitions: reading, validation, and the built-in ones.

mod builtin;
mod definitions;
mod promex;
mod templates;

use dichroic_packs::Definition;

fn definition(yaml: &str) -> Result<Definition, String> {
    serde_saphyr::from_str(yaml).map_err(|e: serde_saphyr::Error| {
        // An error of a whole document has no position; in a list, as in a configuration, it has the position of the item.
        let (line, column) = e.location().map_or((1, 1), |at| (at.line(), at.column()));
        format!("{line}:{column}: {}", e.without_snippet())
    })
}
