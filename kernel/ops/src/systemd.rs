//! What systemd wants to hear: ready, reloading, stopping, and that the program is alive.
//!
//! Follows sd_notify(3) and sd_watchdog_enabled(3). Without `NOTIFY_SOCKET` every call is a no-op. A failure to tell is
//! never an error of the program: it is logged at debug and forgotten.

use crate::health::Health;
use crate::shutdown::Stop;
use sd_notify::NotifyState;
use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

/// The longest status text that is sent, in bytes.
const STATUS_BYTES_MAX: usize = 512;
/// The shortest time between two signs of life.
const WATCHDOG_PERIOD_MIN: Duration = Duration::from_millis(100);

/// `READY=1`: keys are loaded and the program serves.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// `STOPPING=1`: the orderly end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// `RELOADING=1` with the time that systemd 253 and newer demand; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock for the service manager"),
    }
}

/// `STATUS=…`: one line for `systemctl status`.
pub fn status(text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_BYTES_MAX / 4).collect();
    tell(&[NotifyState::Status(&line)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager did not take a notification");
    }
}

/// Tells the service manager that the program lives, at half of `WATCHDOG_USEC`, as long as every heartbeat of `health` is
/// fresh; silence is what makes systemd restart it. `None` when no watchdog is wanted. The thread ends with `stop`.
///
/// # Errors
/// When the operating system refuses a thread.
pub fn watchdog(health: &Health, stop: &Stop) -> io::Result<Option<JoinHandle<()>>> {
    let Some(period) = sd_notify::watchdog_enabled() else { return Ok(None) };
    let period = half(period);
    let (health, stop) = (health.clone(), stop.clone());
    let thread = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || signs_of_life(&health, &stop, period, || tell(&[NotifyState::Watchdog])))?;
    Ok(Some(thread))
}

fn signs_of_life(health: &Health, stop: &Stop, period: Duration, mut beat: impl FnMut()) {
    let mut silent = false;
    loop {
        let live = health.is_live();
        if live {
            beat();
        } else if !silent {
            tracing::error!("a heartbeat is late: no more signs of life for the service manager");
        }
        silent = !live;
        if stop.wait_timeout(period) {
            return;
        }
    }
}

fn half(period: Duration) -> Duration {
    period.checked_div(2).unwrap_or(WATCHDOG_PERIOD_MIN).max(WATCHDOG_PERIOD_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown::StopReason;

    #[test]
    fn the_watchdog_period_is_half_and_never_a_busy_loop() {
        assert_eq!(half(Duration::from_secs(30)), Duration::from_secs(15));
        assert_eq!(half(Duration::from_micros(1)), WATCHDOG_PERIOD_MIN);
    }

    #[test]
    fn there_are_signs_of_life_as_long_as_every_heartbeat_is_fresh() {
        let health = Health::new();
        let stop = Stop::new();
        let mut beats = 0;
        signs_of_life(&health, &stop, Duration::ZERO, || {
            beats += 1;
            if beats == 3 {
                stop.stop(StopReason::Asked);
            }
        });
        assert_eq!(beats, 3);
        let _late = health.heartbeat("journal", Duration::ZERO);
        signs_of_life(&health, &stop, Duration::ZERO, || beats += 1);
        assert_eq!(beats, 3, "silence when a heartbeat is late");
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        ready();
        status("serving 3 validators\nand more");
        reloading();
        stopping();
    }
}
