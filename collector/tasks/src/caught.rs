//! Panics as values.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// The message of a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked(String);

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        text.map_or_else(Panicked::unknown, |text| Panicked(text.to_owned()))
    }

    pub(crate) fn unknown() -> Self {
        Panicked("panic without a message".to_owned())
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Calls a function. State that it shares with others must not be left half-changed by a panic: see [`crate::Rule`].
pub(crate) fn call<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Panicked::new(&*payload))
}

/// Awaits a future; drops it when it panics.
pub(crate) async fn future<T>(run: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut run = pin!(run);
    std::future::poll_fn(|cx| match call(|| run.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}
