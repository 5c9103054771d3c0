//! The source and scope of the items that follow in a request.

use super::attributes::pairs;
use super::sources::OpenSource;
use crate::protobuf::{Content, Cursor, text};
use dichroic_model::{Attributes, Fingerprinter, Scope, SourceId, attributes::cut};
use dichroic_pipeline::DropReason;

/// Bytes of a scope's name or version that are kept.
const SCOPE_BYTES: usize = 256;
/// Bytes of a schema URL that are kept.
const URL_BYTES: usize = 1_024;

/// The resource and the instrumentation scope that the next items belong to.
pub(super) struct ResourceScope {
    pub(super) source: SourceId,
    /// Why all items of the source are dropped; `None` when they are accepted.
    pub(super) refused: Option<DropReason>,
    pub(super) open: Option<OpenSource>,
    pub(super) of_source: Fingerprinter,
    pub(super) of_scope: Fingerprinter,
    pub(super) scope: Scope,
}

impl ResourceScope {
    /// Enters the scope in `message`, an `InstrumentationScope`.
    pub(super) fn enter_scope(&mut self, message: &[u8], schema_url: &[u8]) {
        self.of_scope = self.of_source.with(message);
        self.scope = read_scope(message);
        if !schema_url.is_empty() {
            self.of_scope = self.of_scope.with(schema_url);
            self.scope.schema_url = cut(text(schema_url).unwrap_or(""), URL_BYTES).to_owned();
        }
    }
}

/// The scope's name, version and attributes, as far as they can be read.
fn read_scope(message: &[u8]) -> Scope {
    let mut scope = Scope::default();
    let mut cursor = Cursor::new(message);
    while let Ok(Some((number, content))) = cursor.field() {
        let kept = |bytes| cut(text(bytes).unwrap_or(""), SCOPE_BYTES).to_owned();
        match (number, content) {
            (1, Content::Bytes(bytes)) => scope.name = kept(bytes),
            (2, Content::Bytes(bytes)) => scope.version = kept(bytes),
            _ => {}
        }
    }
    scope.attributes = Attributes::pack(&mut pairs(message, 3).unwrap_or_default());
    scope
}
