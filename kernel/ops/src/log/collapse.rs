//! Repeated lines: a message that appears every second is a bug.
//!
//! The first occurrence of a line is let through at once. Repeats are counted and told at widening intervals of
//! [`INTERVALS`] after it, as `LINE (repeated 37 times in 60 s)`. One `Collapse` belongs to one source of lines (a validator's
//! connection, say) and remembers its last [`LINES_MAX`] different lines, so that two errors in turns are collapsed as well.

use std::time::{Duration, Instant};

/// How long after the last line that was let through the next one is; the last entry repeats.
pub const INTERVALS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3600),
];
/// Different lines that are remembered.
pub const LINES_MAX: usize = 8;

#[derive(Debug)]
struct Seen {
    line: String,
    told: Instant,
    repeats: u64,
    step: usize,
}

impl Seen {
    fn interval(&self) -> Duration {
        INTERVALS.get(self.step).or(INTERVALS.last()).copied().unwrap_or(Duration::ZERO)
    }

    fn summary(&self, now: Instant) -> String {
        let during = now.saturating_duration_since(self.told).as_secs();
        match self.repeats {
            1 => format!("{} (repeated once more in {during} s)", self.line),
            n => format!("{} (repeated {n} times in {during} s)", self.line),
        }
    }
}

/// See the module. Give it lines without numbers that change each time, or nothing repeats.
#[derive(Debug, Default)]
pub struct Collapse {
    seen: Vec<Seen>,
}

impl Collapse {
    /// Nothing seen.
    pub fn new() -> Collapse {
        Collapse::default()
    }

    /// What to log for this occurrence: the line, the line with a count, or nothing.
    pub fn observe(&mut self, line: &str, now: Instant) -> Option<String> {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.line == line) {
            seen.repeats = seen.repeats.saturating_add(1);
            if now.saturating_duration_since(seen.told) < seen.interval() {
                return None;
            }
            let text = seen.summary(now);
            seen.told = now;
            seen.repeats = 0;
            seen.step = seen.step.saturating_add(1);
            return Some(text);
        }
        if self.seen.len() >= LINES_MAX
            && let Some(oldest) = self.seen.iter().enumerate().min_by_key(|(_, seen)| seen.told).map(|(at, _)| at)
        {
            self.seen.swap_remove(oldest);
        }
        self.seen.push(Seen { line: line.to_owned(), told: now, repeats: 0, step: 0 });
        Some(line.to_owned())
    }

    /// The trouble is over: what was counted and not yet told, to be logged before the good news. The next occurrence of
    /// any line is a first one again.
    pub fn clear(&mut self, now: Instant) -> Vec<String> {
        let lines = self.seen.iter().filter(|seen| seen.repeats > 0).map(|seen| seen.summary(now)).collect();
        self.seen.clear();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is let through of a line that occurs every half second for `seconds`, as (second, text).
    fn told(seconds: u64) -> Vec<(u64, String)> {
        let start = Instant::now();
        let mut collapse = Collapse::new();
        let mut told = Vec::new();
        for half in 0..=seconds * 2 {
            let now = start + Duration::from_millis(half * 500);
            if let Some(text) = collapse.observe("refused", now) {
                told.push((half / 2, text));
            }
        }
        told
    }

    #[test]
    fn a_line_every_half_second_is_told_at_widening_intervals() {
        let expected = [
            (0, "refused"),
            (1, "refused (repeated 2 times in 1 s)"),
            (11, "refused (repeated 20 times in 10 s)"),
            (71, "refused (repeated 120 times in 60 s)"),
            (671, "refused (repeated 1200 times in 600 s)"),
        ];
        assert_eq!(told(1000), expected.map(|(at, text)| (at, text.to_owned())));
    }

    #[test]
    fn a_day_of_trouble_is_less_than_thirty_lines() {
        assert!(told(86_400).len() < 30);
    }

    #[test]
    fn two_lines_in_turns_are_both_collapsed() {
        let now = Instant::now();
        let mut collapse = Collapse::new();
        let lines: Vec<_> = ["a", "b", "a", "b", "a"].iter().filter_map(|line| collapse.observe(line, now)).collect();
        assert_eq!(lines, ["a", "b"]);
    }

    #[test]
    fn the_end_of_the_trouble_tells_what_was_counted_and_starts_anew() {
        let now = Instant::now();
        let mut collapse = Collapse::new();
        assert!(collapse.observe("a", now).is_some());
        assert!(collapse.observe("a", now).is_none());
        assert_eq!(collapse.clear(now + Duration::from_secs(3)), ["a (repeated once more in 3 s)"]);
        assert_eq!(collapse.observe("a", now).as_deref(), Some("a"));
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let now = Instant::now();
        let mut collapse = Collapse::new();
        for n in 0..100 {
            assert!(collapse.observe(&n.to_string(), now).is_some());
        }
        assert_eq!(collapse.seen.len(), LINES_MAX);
    }
}
