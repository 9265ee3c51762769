//! Every environment variable that the program reads, one documented constant each.
//!
//! Nothing in the program names a variable by a literal; `ALL` is what `--help` and the documentation list.

/// Configuration file of the duty `kms` when no `-c` is given; a name that tmkms gave.
pub const TMKMS_CONFIG_FILE: &str = "TMKMS_CONFIG_FILE";
/// Directory of the ledger, when neither `--ledger` nor the configuration names one.
pub const SEMEL_LEDGER: &str = "SEMEL_LEDGER";
/// Any value but `0`, `no` and `false`: a signer may run as root.
pub const SEMEL_ALLOW_ROOT: &str = "SEMEL_ALLOW_ROOT";
/// Directory where test peers are cached; default `$HOME/.cache/semel`.
pub const SEMEL_CACHE: &str = "SEMEL_CACHE";
/// Level of the log, as directives of the tracing ecosystem: `info`, `debug`, `semel_kms=trace,info`.
pub const RUST_LOG: &str = "RUST_LOG";
/// Any value but the empty one: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// `0`: no colours.
pub const CLICOLOR: &str = "CLICOLOR";
/// Any value but `0`: colours even when the output is not a terminal.
pub const CLICOLOR_FORCE: &str = "CLICOLOR_FORCE";
/// Kind of terminal; `dumb` means no colours.
pub const TERM: &str = "TERM";
/// Where the service manager wants to hear that the program is ready; set by systemd.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// Microseconds after which systemd restarts a silent program; set by systemd.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// Process that `WATCHDOG_USEC` is meant for; set by systemd.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// Home directory; the per-user ledger and the cache are under it.
pub const HOME: &str = "HOME";
/// Base directory of per-user state; default `$HOME/.local/state`.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// First epoch of the current era, for `era generate-tx-datum`; a name that mithril-aggregator gave, like those below. The
/// settings of its server are a list of their own: `semel aggregator config explain`.
pub const CURRENT_ERA_EPOCH: &str = "CURRENT_ERA_EPOCH";
/// First epoch of the next era, for `era generate-tx-datum`.
pub const NEXT_ERA_EPOCH: &str = "NEXT_ERA_EPOCH";
/// Key that signs era markers, JSON-hex.
pub const ERA_MARKERS_SECRET_KEY: &str = "ERA_MARKERS_SECRET_KEY";
/// Key that signs the genesis certificate of a test network, JSON-hex.
pub const GENESIS_SECRET_KEY: &str = "GENESIS_SECRET_KEY";
/// Key that genesis certificates are verified with, JSON-hex.
pub const GENESIS_VERIFICATION_KEY: &str = "GENESIS_VERIFICATION_KEY";
/// Key that signs protocol configurations, JSON-hex.
pub const PROTOCOL_CONFIGURATION_MARKERS_SECRET_KEY: &str = "PROTOCOL_CONFIGURATION_MARKERS_SECRET_KEY";
/// Directory of the databases, for `database migrate` and `database vacuum`.
pub const STORES_DIRECTORY: &str = "STORES_DIRECTORY";

/// Every variable with one line about it, sorted by name.
pub const ALL: &[(&str, &str)] = &[
    (CLICOLOR, "0: no colours"),
    (CLICOLOR_FORCE, "not 0: colours even when the output is not a terminal"),
    (CURRENT_ERA_EPOCH, "first epoch of the current era, for era generate-tx-datum"),
    (ERA_MARKERS_SECRET_KEY, "key that signs era markers"),
    (GENESIS_SECRET_KEY, "key that signs the genesis certificate of a test network"),
    (GENESIS_VERIFICATION_KEY, "key that genesis certificates are verified with"),
    (HOME, "home directory: the per-user ledger and the cache are under it"),
    (NEXT_ERA_EPOCH, "first epoch of the next era, for era generate-tx-datum"),
    (NOTIFY_SOCKET, "set by systemd: where to say that the program is ready"),
    (NO_COLOR, "not empty: no colours"),
    (PROTOCOL_CONFIGURATION_MARKERS_SECRET_KEY, "key that signs protocol configurations"),
    (RUST_LOG, "level of the log, as tracing directives"),
    (SEMEL_ALLOW_ROOT, "1: a signer may run as root"),
    (SEMEL_CACHE, "directory of cached test peers [default: $HOME/.cache/semel]"),
    (SEMEL_LEDGER, "directory of the ledger"),
    (STORES_DIRECTORY, "directory of the databases, for database migrate and vacuum"),
    (TERM, "kind of terminal; dumb: no colours"),
    (TMKMS_CONFIG_FILE, "configuration file when no -c is given [default: tmkms.toml]"),
    (WATCHDOG_PID, "set by systemd: process that WATCHDOG_USEC is meant for"),
    (WATCHDOG_USEC, "set by systemd: microseconds after which a silent program is restarted"),
    (XDG_STATE_HOME, "base directory of per-user state [default: $HOME/.local/state]"),
];

/// Value of a variable; `None` when it is unset, empty or not text.
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_every_name_is_unique() {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_variable_that_nobody_set_is_none() {
        assert_eq!(var("SEMEL_TEST_VARIABLE_THAT_NOBODY_SETS"), None);
    }
}
