//! What this process costs, and its threads.

use rustix::time::{ClockId, clock_gettime};

fn seconds(clock: ClockId) -> f64 {
    let ran = clock_gettime(clock);
    ran.tv_sec as f64 + ran.tv_nsec as f64 / 1e9
}

/// Processor time of the whole process, threads that ended among them.
pub(super) fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

/// Processor time of this thread.
pub(super) fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn status(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Memory that this process has now.
pub(super) fn resident_mib() -> f64 {
    status("VmRSS:")
}

/// Most memory that this process had.
pub(super) fn resident_mib_most() -> f64 {
    status("VmHWM:")
}
