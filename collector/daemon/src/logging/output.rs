//! The writer of standard error: a bounded queue and a thread, so that logging neither blocks nor fails its caller.
//!
//! A pipe that nobody reads blocks the thread only. A line that finds the queue full, or that cannot be written, is lost and counted;
//! when writing works again, a line states how many were lost and why. `tracing-appender` has such a writer, but its bound is a number
//! of lines, and it neither counts failed writes nor recovers from them with a line.

use super::line::{Format, own_line};
use dichroic_tasks::{Kind, Stopped, restarting_thread};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Level;

/// Largest size of all lines that wait to be written.
const QUEUE_BYTES: usize = 1 << 20;
/// Pauses between attempts to report losses while there is no line to write.
const REPORT_PAUSE_MIN: Duration = Duration::from_secs(1);
const REPORT_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Pause after a write to a non-blocking descriptor that is not ready.
const NOT_READY_PAUSE: Duration = Duration::from_millis(10);

/// The queue. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    pushed: Condvar,
    drained: Condvar,
    lost: Lost,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    /// Of the lines, and of the one that is being written.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lost {
    queue_full: AtomicU64,
    write_failed: AtomicU64,
}

impl Output {
    /// Starts the thread that writes to standard error. `format`: of the line about losses.
    ///
    /// # Errors
    /// The operating system refuses a thread or another file descriptor.
    pub fn start(format: Format) -> io::Result<Self> {
        // A descriptor of our own: the lock of `io::stderr` would be held during a write that blocks.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let output = Output::default();
        let mut writer = LineWriter::new(stderr, format, output.0.clone());
        dichroic_tasks::thread(Kind::LogWriter, move || {
            restarting_thread(Kind::LogWriter, || writer.run());
        })?;
        Ok(output)
    }

    /// Queues a line, which includes its line end; loses it if the queue is full.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.bytes + line.len() > QUEUE_BYTES {
            drop(queue);
            self.0.lost.queue_full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        drop(queue);
        self.0.pushed.notify_one();
    }

    /// Waits until all lines are written or lost, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        let queue = self.0.lock();
        let waiting = self
            .0
            .drained
            .wait_timeout_while(queue, limit, |queue| queue.bytes > 0);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lost lines since the start, by reason.
    pub fn lost(&self) -> [(&'static str, u64); 2] {
        let lost = &self.0.lost;
        [
            ("queue_full", lost.queue_full.load(Ordering::Relaxed)),
            ("write_failed", lost.write_failed.load(Ordering::Relaxed)),
        ]
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next line; `None` if there is none within `limit`.
    fn next(&self, limit: Option<Duration>) -> Option<Box<[u8]>> {
        let empty = |queue: &mut Queue| queue.lines.is_empty();
        let queue = self.lock();
        let mut queue = match limit {
            None => (self.pushed.wait_while(queue, empty)).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.pushed.wait_timeout_while(queue, limit, empty);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        queue.lines.pop_front()
    }

    /// After a line was written or lost.
    fn done(&self, length: usize) {
        let mut queue = self.lock();
        queue.bytes -= length;
        if queue.bytes == 0 {
            self.drained.notify_all();
        }
    }
}

/// The thread's state.
struct LineWriter<W> {
    out: W,
    format: Format,
    shared: Arc<Shared>,
    /// The line that is being written, until it is accounted for.
    length: usize,
    /// Lost lines that were reported.
    reported: [u64; 2],
    /// The last write error.
    error: String,
    /// Only part of the last line was written.
    torn: bool,
}

impl<W: Write> LineWriter<W> {
    fn new(out: W, format: Format, shared: Arc<Shared>) -> Self {
        LineWriter {
            out,
            format,
            shared,
            length: 0,
            reported: [0; 2],
            error: String::new(),
            torn: false,
        }
    }

    fn run(&mut self) -> Stopped {
        // After a panic.
        self.shared.done(std::mem::take(&mut self.length));
        let mut pause = REPORT_PAUSE_MIN;
        loop {
            let unreported = self.unreported().is_some();
            if !unreported {
                pause = REPORT_PAUSE_MIN;
            }
            match self.shared.next(unreported.then_some(pause)) {
                Some(line) => {
                    self.length = line.len();
                    dichroic_tasks::fault::point(Kind::LogWriter.as_str());
                    if self.report().and_then(|()| self.write(&line)).is_err() {
                        self.shared.lost.write_failed.fetch_add(1, Ordering::Relaxed);
                    }
                    self.shared.done(std::mem::take(&mut self.length));
                }
                None => {
                    let _ = self.report();
                    pause = (pause * 2).min(REPORT_PAUSE_MAX);
                }
            }
        }
    }

    /// Lost lines that were not reported yet.
    fn unreported(&self) -> Option<[u64; 2]> {
        let lost = Output(self.shared.clone()).lost().map(|(_, n)| n);
        (lost != self.reported).then_some(lost)
    }

    /// Writes a line about losses, if there are new ones.
    fn report(&mut self) -> io::Result<()> {
        let Some(lost) = self.unreported() else {
            return Ok(());
        };
        let [queue_full, write_failed] = [0, 1].map(|at| lost[at] - self.reported[at]);
        let mut fields = vec![
            ("queue_full", queue_full.into()),
            ("write_failed", write_failed.into()),
        ];
        if write_failed > 0 {
            fields.push(("error", self.error.as_str().into()));
        }
        let line = own_line(
            self.format,
            Level::WARN,
            module_path!(),
            "log lines were lost",
            &fields,
        );
        self.write(line.as_bytes())?;
        self.reported = lost;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut left = line;
        if self.torn {
            self.write_some(b"\n")?;
            self.torn = false;
        }
        while !left.is_empty() {
            match self.write_some(left) {
                Ok(written) => left = &left[written..],
                Err(error) => {
                    self.torn = left.len() < line.len();
                    self.error = error.to_string();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(NOT_READY_PAUSE),
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    type Written = Arc<Mutex<Vec<u8>>>;

    /// Each write takes its result from a script.
    struct Scripted(Receiver<io::Result<usize>>, Written);

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = self
                .0
                .recv()
                .map_err(|_| ErrorKind::BrokenPipe)??
                .min(bytes.len());
            self.1.lock().unwrap().extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (Output, Sender<io::Result<usize>>, Written) {
        let (output, written) = (Output::default(), Written::default());
        let (script, results) = channel();
        let out = Scripted(results, Arc::clone(&written));
        let mut writer = LineWriter::new(out, Format::Json, output.0.clone());
        std::thread::spawn(move || writer.run());
        (output, script, written)
    }

    const LONG: Duration = Duration::from_secs(60);
    const ALL: usize = usize::MAX;

    fn lines(written: &Mutex<Vec<u8>>) -> Vec<String> {
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_when_writing_works_again() {
        let (output, script, written) = start();
        for result in [
            Ok(4),
            Err(ErrorKind::StorageFull.into()),
            Err(ErrorKind::StorageFull.into()),
        ] {
            script.send(result).unwrap();
        }
        // The first line is torn; the second fails.
        output.push(b"torn line\n");
        output.push(b"lost\n");
        output.flush(LONG);
        assert_eq!(output.lost(), [("queue_full", 0), ("write_failed", 2)]);
        (0..3).for_each(|_| script.send(Ok(ALL)).unwrap());
        output.push(b"written\n");
        output.flush(LONG);
        let lines = lines(&written);
        assert_eq!(
            (lines[0].as_str(), lines[2].as_str()),
            ("torn", "written"),
            "{lines:?}"
        );
        let report: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(report["message"], "log lines were lost");
        assert_eq!(
            (&report["write_failed"], &report["queue_full"]),
            (&2.into(), &0.into())
        );
        assert_eq!(report["level"], "WARN");
        assert!(report["error"].as_str().unwrap().contains("storage"), "{report}");
    }

    #[test]
    fn losses_are_reported_without_a_further_line() {
        let (output, script, written) = start();
        script.send(Err(ErrorKind::StorageFull.into())).unwrap();
        output.push(b"lost\n");
        output.flush(LONG);
        script.send(Ok(ALL)).unwrap();
        let deadline = Instant::now() + LONG;
        while lines(&written).is_empty() {
            assert!(Instant::now() < deadline, "no report");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(lines(&written)[0].contains("\"write_failed\":1"));
    }

    #[test]
    fn a_writer_that_blocks_delays_nobody_and_the_queue_is_bounded() {
        let (output, script, written) = start();
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        let lines_that_fit = QUEUE_BYTES / line.len();
        (0..lines_that_fit + 5).for_each(|_| output.push(&line));
        assert_eq!(output.lost(), [("queue_full", 5), ("write_failed", 0)]);
        output.flush(Duration::from_millis(1));
        (0..=lines_that_fit).for_each(|_| script.send(Ok(ALL)).unwrap());
        output.flush(LONG);
        let lines = lines(&written);
        assert_eq!(lines.len(), lines_that_fit + 1);
        assert!(lines.iter().any(|line| line.contains("\"queue_full\":5")));
    }
}
