//! The bounded queue between the threads that log and the one that writes.
//!
//! A full queue loses lines of info and below, never silently: the number of lost lines is written in their place. A last
//! part of the queue is kept for warnings and errors. What waits when the queue is closed is written before the thread ends.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait; at some 150 bytes each this is about 1 MB.
const LINES_MAX: usize = 8192;
/// Lines beyond that, kept for warnings and errors.
const URGENT_LINES_MAX: usize = 1024;
/// Lines taken at once by the writing thread.
const BATCH_LINES: usize = 256;
/// Pause between two batches.
const GATHER: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
    waiting: bool,
    closed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8], urgent: bool) {
        let mut state = self.lock();
        let limit = if urgent { LINES_MAX.saturating_add(URGENT_LINES_MAX) } else { LINES_MAX };
        if state.lines.len() >= limit {
            state.lost = state.lost.saturating_add(1);
            return;
        }
        state.lines.push_back(line.to_vec());
        if state.waiting {
            self.filled.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Writes lines to `sink` until the queue is closed and empty. A sink that fails is given up for those lines only: a log
    /// must not stop its program.
    pub(super) fn drain(&self, mut sink: impl Write) {
        loop {
            let (batch, lost, closed) = self.take();
            let _ = sink.write_all(&batch.concat());
            if lost > 0 {
                let _ = writeln!(sink, "{lost} log lines were lost here: they came faster than they could be written");
            }
            let _ = sink.flush();
            if closed && batch.is_empty() {
                return;
            }
            self.gather();
        }
    }

    /// Lets lines come together for a while: each wake-up would take a core from those who log.
    fn gather(&self) {
        let state = self.lock();
        if !state.closed && state.lines.len() < BATCH_LINES {
            drop(self.filled.wait_timeout(state, GATHER).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn take(&self) -> (Vec<Vec<u8>>, u64, bool) {
        let mut state = self.lock();
        while state.lines.is_empty() && !state.closed {
            state.waiting = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting = false;
        }
        let count = state.lines.len().min(BATCH_LINES);
        let batch = state.lines.drain(..count).collect();
        // The lost lines came after everything that waits, so they are told after it.
        let lost = if state.lines.is_empty() { std::mem::take(&mut state.lost) } else { 0 };
        (batch, lost, state.closed)
    }
}

/// Makes one writer for each event.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: Arc<Queue>,
}

impl Writer {
    pub(super) fn new(queue: &Arc<Queue>) -> Writer {
        Writer { queue: Arc::clone(queue) }
    }
}

/// Takes the bytes of one event.
#[derive(Debug)]
pub struct LineWriter<'a> {
    queue: &'a Queue,
    urgent: bool,
}

impl Write for LineWriter<'_> {
    // The formatter hands over each event in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { queue: &self.queue, urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { queue: &self.queue, urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_keep_their_order_and_all_are_written_at_the_end() {
        let queue = Queue::new();
        for n in 0..1000 {
            queue.push(format!("{n}\n").as_bytes(), false);
        }
        queue.close();
        let sink = Sink::default();
        queue.drain(sink.clone());
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(sink.text(), expected);
    }

    #[test]
    fn an_overflow_is_counted_and_told_and_spares_warnings() {
        let queue = Queue::new();
        for _ in 0..LINES_MAX + 10 {
            queue.push(b"info\n", false);
        }
        queue.push(b"warning\n", true);
        queue.close();
        let sink = Sink::default();
        queue.drain(sink.clone());
        let text = sink.text();
        assert_eq!(text.matches("info\n").count(), LINES_MAX);
        assert!(text.contains("warning\n10 log lines were lost here"), "{}", &text[text.len() - 100..]);
    }

    #[test]
    fn the_queue_is_bounded_for_warnings_too() {
        let queue = Queue::new();
        for _ in 0..LINES_MAX + URGENT_LINES_MAX + 5 {
            queue.push(b"w\n", true);
        }
        assert_eq!(queue.lock().lines.len(), LINES_MAX + URGENT_LINES_MAX);
        assert_eq!(queue.lock().lost, 5);
    }
}
