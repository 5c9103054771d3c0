//! The signal to stop.

use tokio::sync::watch;

/// Completes when the flag is set, or when its sender is gone.
///
/// [`watch::Receiver::wait_for`] returns a guard. In `select!` it lives until the end of the branch, also while the branch awaits; for that
/// time it blocks the sender, and with it the sender's thread. Here the guard is dropped first.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_branch_that_awaits_after_the_signal_does_not_block_the_sender() {
        let (done, ended) = mpsc::channel();
        // With a guard the second `send_replace` would never return: the thread would be left behind.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (sender, mut stop) = watch::channel(false);
                let (go, gone) = tokio::sync::oneshot::channel();
                let waiting = async {
                    tokio::select! {
                        () = stopped(&mut stop) => gone.await,
                    }
                };
                let sending = async {
                    sender.send_replace(true);
                    // Whichever is polled first, the branch has begun after two turns.
                    for _ in 0..2 {
                        tokio::task::yield_now().await;
                    }
                    sender.send_replace(true);
                    go.send(()).unwrap();
                };
                tokio::join!(waiting, sending).0.unwrap();
            });
            done.send(()).unwrap();
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(()));
    }
}
