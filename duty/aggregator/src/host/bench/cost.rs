//! What threads of this process cost, by name.

use std::path::Path;

/// Threads of the server: HTTP with its workers, and the database's writer.
const SERVER: [&str; 2] = ["http", "database"];

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Seconds that the server's threads have run.
pub(super) fn server_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let of = |task: std::path::PathBuf| {
        let is_server = SERVER.contains(&read(task.join("comm")).trim());
        let ran = read(task.join("schedstat")).split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        if is_server { ran.unwrap_or_default() / 1e9 } else { 0.0 }
    };
    tasks.filter_map(|task| Some(of(task.ok()?.path()))).sum()
}

/// Seconds that the whole process has run, threads that ended among them; in hundredths, as Linux tells them.
pub(super) fn process_seconds() -> f64 {
    let stat = read("/proc/self/stat");
    // The name may hold anything, and ends with the last bracket; user and system time are fields 14 and 15.
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn status(field: &str) -> f64 {
    let status = read("/proc/self/status");
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
