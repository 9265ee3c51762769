//! A directory, nodes that listen as real ones do, and the real binary as their signer.

#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test may stop")]

pub(crate) mod below;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_devnet_tendermint::consensus::{BlockId, Height, Proposal, Round, Time, Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener, ListenerConfig, Remote, RemoteError};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A log that has not grown for this long has said everything.
const QUIET: Duration = Duration::from_millis(100);

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The chain of tests.
pub(crate) const CHAIN: &str = "test-1";

/// The binary under test.
pub(crate) fn semel() -> Command {
    without_environment(Command::new(env!("CARGO_BIN_EXE_semel")))
}

pub(crate) fn without_environment(mut command: Command) -> Command {
    for name in ["TMKMS_CONFIG_FILE", "SEMEL_LEDGER", "RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        command.env_remove(name);
    }
    command
}

/// A directory with keys, configurations and a ledger.
pub(crate) struct Stage {
    directory: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self { directory: tempfile::tempdir().unwrap() };
        stage.secret("identity.key", &BASE64.encode([3; 32]));
        stage.secret("consensus.key", &BASE64.encode([1; 32]));
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file with mode 0600.
    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Puts other words into a file.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
    }

    /// The configuration of one chain with one key (`NAME.key`, `NAME.json`) and these nodes.
    pub(crate) fn config_of(&self, file: &str, chain: &str, name: &str, addresses: &[String]) -> PathBuf {
        let directory = self.directory.path().display();
        let mut text = format!(
            "[[chain]]\nid = \"{chain}\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{directory}/{name}.json\"\n\n\
             [[providers.softsign]]\nchain_ids = [\"{chain}\"]\nkey_type = \"consensus\"\npath = \"{directory}/{name}.key\"\n"
        );
        for address in addresses {
            let secret = match address.starts_with("tcp") {
                true => format!("secret_key = \"{directory}/identity.key\"\n"),
                false => String::new(),
            };
            text +=
                &format!("\n[[validator]]\nchain_id = \"{chain}\"\naddr = \"{address}\"\nreconnect = true\n{secret}");
        }
        self.secret(file, &text)
    }

    /// `tmkms.toml` for [`CHAIN`].
    pub(crate) fn config(&self, addresses: &[String]) -> PathBuf {
        self.config_of("tmkms.toml", CHAIN, "consensus", addresses)
    }

    /// Where the ledger is, as arguments.
    pub(crate) fn ledger(&self) -> Vec<String> {
        let directory = self.path("ledger").display().to_string();
        vec!["--ledger".into(), directory, "--i-accept-volatile-ledger".into()]
    }

    /// `semel kms start` with this configuration.
    pub(crate) fn start(&self, config: &Path) -> Signer {
        self.start_with(config, &[])
    }

    pub(crate) fn start_with(&self, config: &Path, more: &[&str]) -> Signer {
        let mut command = semel();
        command.args(["kms", "start", "-c"]).arg(config).args(self.ledger()).args(more);
        Signer::spawn(command)
    }

    /// Runs a command to its end. `DIR` in arguments stands for the directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_this(semel(), arguments)
    }

    /// The same under the name of tmkms.
    pub(crate) fn run_tmkms(&self, arguments: &[&str]) -> Ran {
        let link = self.path("tmkms");
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_semel"), &link).unwrap();
        }
        self.run_this(without_environment(Command::new(link)), arguments)
    }

    fn run_this(&self, mut command: Command, arguments: &[&str]) -> Ran {
        let directory = self.directory.path().to_str().unwrap();
        command.args(arguments.iter().map(|argument| argument.replace("DIR", directory)));
        Ran::new(command.stdin(Stdio::null()).current_dir(directory).output().unwrap(), directory)
    }
}

/// The code and words of a refusal.
pub(crate) fn refusal<T: std::fmt::Debug>(asked: Result<T, RemoteError>) -> (i32, String) {
    let error = asked.unwrap_err();
    assert!(error.is_refusal(), "not refused: {error}");
    match error {
        RemoteError::Refused(refusal) => (refusal.code, refusal.description),
        _ => (0, String::new()),
    }
}

/// Says that a test cannot run here, and lets the count know.
pub(crate) fn skip(name: &str, reason: &str) {
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        file.write_all(format!("{name}: {reason}\n").as_bytes()).unwrap();
    }
}

/// What a command said, with the directory as `DIR`.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: Output, directory: &str) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(directory, "DIR");
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A node of a family, on TCP.
pub(crate) fn node(family: Family) -> Listener {
    node_at(Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), family, CHAIN)
}

pub(crate) fn node_at(listen: Listen, family: Family, chain: &str) -> Listener {
    let extensions = family == Family::V038;
    let config = ListenerConfig { listen, chain: chain.into(), family, extensions, identity: [9; 32] };
    Listener::bind(config).unwrap()
}

/// The signer that calls at a node, with its key known.
pub(crate) fn called(node: &Listener) -> Remote {
    let mut remote = node.accept(PATIENCE).unwrap();
    remote.pub_key().unwrap();
    remote
}

/// A vote for the block of this name; for nil without one.
pub(crate) fn vote(kind: VoteKind, height: u64, block: Option<u8>, seconds: i64) -> Vote {
    Vote {
        kind,
        height: Height(height),
        round: Round(0),
        block: block.map(|name| BlockId { hash: [name; 32], parts_total: 1, parts_hash: [name; 32] }),
        time: Time { seconds: 1_700_000_000 + seconds, nanos: 0 },
        validator: 0,
        extension: Vec::new(),
    }
}

pub(crate) fn prevote(height: u64, block: u8) -> Vote {
    vote(VoteKind::Prevote, height, Some(block), 0)
}

pub(crate) fn proposal(height: u64, block: u8) -> Proposal {
    Proposal {
        height: Height(height),
        round: Round(0),
        pol_round: None,
        block: BlockId { hash: [block; 32], parts_total: 1, parts_hash: [block; 32] },
        time: Time { seconds: 1_700_000_000, nanos: 0 },
    }
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

/// A running signer, and what it writes.
pub(crate) struct Signer {
    child: Child,
    log: Arc<Log>,
}

impl Signer {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let log = Arc::new(Log::default());
        let mine = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                let Ok(line) = line else { break };
                mine.lines.lock().unwrap().0.push(line);
                mine.grown.notify_all();
            }
            mine.lines.lock().unwrap().1 = true;
            mine.grown.notify_all();
        });
        Self { child, log }
    }

    pub(crate) fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Everything it has written.
    pub(crate) fn text(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    /// Waits for a line with this text.
    pub(crate) fn said(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "it never said {text:?}:\n{}", lines.0.join("\n"));
            lines = self.log.grown.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// How many lines have this text, once it says nothing more. Lines come after what they tell of, some milliseconds apart.
    pub(crate) fn count(&self, text: &str) -> usize {
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            let before = lines.0.len();
            lines = self.log.grown.wait_timeout(lines, QUIET).unwrap().0;
            if lines.0.len() == before {
                return lines.0.iter().filter(|line| line.contains(text)).count();
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.id()).unwrap(), signal).unwrap();
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // Its last words are on the way.
                let mut lines = self.log.lines.lock().unwrap();
                while !lines.1 && Instant::now() < deadline {
                    lines = self.log.grown.wait_timeout(lines, Duration::from_millis(100)).unwrap().0;
                }
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The answer to an HTTP request: status and body.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
