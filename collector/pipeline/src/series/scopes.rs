//! Instrumentation scopes, shared between series.

use crate::hash::HashSet;
use dichroic_model::Scope;
use std::sync::Arc;

/// Largest number of shared scopes; further ones are stored per series.
const INTERNED: usize = 4_096;

#[derive(Default)]
pub(crate) struct Scopes(HashSet<Arc<Scope>>);

impl Scopes {
    pub(crate) fn intern(&mut self, scope: &Scope) -> Arc<Scope> {
        if let Some(shared) = self.0.get(scope) {
            return shared.clone();
        }
        let scope = Arc::new(scope.clone());
        if self.0.len() >= INTERNED {
            self.0.retain(|scope| Arc::strong_count(scope) > 1);
        }
        if self.0.len() < INTERNED {
            self.0.insert(scope.clone());
        }
        scope
    }
}
