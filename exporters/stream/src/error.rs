//! The error that ends a subscription.

use dichroic_wire::{Goodbye, GoodbyeCode};

/// Why a subscription is not, or no longer, served: the GOODBYE that its subscriber gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscribeError(pub Goodbye);

impl SubscribeError {
    /// With the time after which the subscriber may reconnect; 0: no advice.
    pub fn new(code: GoodbyeCode, retry_ms: u32, message: impl AsRef<str>) -> Self {
        SubscribeError(Goodbye::new(code, retry_ms, message.as_ref()))
    }

    /// The subscriber broke the protocol.
    pub fn malformed(message: impl AsRef<str>) -> Self {
        SubscribeError::new(GoodbyeCode::Malformed, 0, message)
    }

    /// The collector stops.
    pub fn shutting_down() -> Self {
        SubscribeError::new(GoodbyeCode::Shutdown, 0, "the collector is shutting down")
    }
}
