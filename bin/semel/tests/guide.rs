//! The operators' guide for a KMS update, step by step, in the words of its own shell lines: three validators with their keys in a YubiHSM
//! go from one chain to the next, and back.
//!
//! Configurations, units and commands are read from the guide's text; only paths, addresses and the user are put in their place. `golden/guide.txt`
//! is what an operator sees; `SEMEL_TRANSCRIPTS=write cargo test -p semel --test guide` writes it anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod stage;

use regex_lite::Regex;
use semel_devnet_tendermint::privval::{Family, Listen, Listener};
use semel_devnet_yubihsm::{FakeConnector, Kind, PASSWORD, PutKey};
use stage::{Stage, called, node_at, prevote, refusal, skip};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const OLD: &str = "commercio-2_2";
const NEW: &str = "commercio-3";
const KMS: &str = "/data_tmkms/tmkms/kms/commercio";

/// The guide, and the host that it is followed on.
struct Guide {
    text: String,
    stage: Stage,
    hsm: FakeConnector,
    /// Where each validator's node listens, before and after the update.
    nodes: Vec<SocketAddr>,
    transcript: String,
}

impl Guide {
    /// None: the guide is not beside this repository, or something that it uses is not on this host.
    fn new() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let text = fs::read_to_string(root.join("../shared/guides/T-tmkms-update.md"));
        let stage = Stage::new();
        let lacks = match &text {
            Err(_) => Some("the guide is not beside this repository"),
            Ok(_) if Command::new("jq").arg("--version").output().is_err() => Some("jq is not installed"),
            Ok(_) if Command::new("python3").arg("--version").output().is_err() => Some("python3 is not installed"),
            Ok(_) if semel_ledger::filesystem_of(&stage.path(".")).unwrap() != semel_ledger::Filesystem::Local => {
                Some("the temporary directory is on no local disk")
            }
            Ok(_) => None,
        };
        if let Some(lacks) = lacks {
            skip("the_guide_step_by_step", lacks);
            return None;
        }
        // Keys that no other test has: a claim on a key counts for the whole host.
        let key = |id: u16| {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).unwrap();
            PutKey { id, kind: Kind::Ed25519, secret: Some(seed) }
        };
        let hsm = FakeConnector::start((Ipv4Addr::LOCALHOST, 0).into(), &[key(1), key(2), key(3)]).unwrap();
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let nodes = vec![free(), free(), free()];
        let guide = Self { text: text.unwrap(), stage, hsm, nodes, transcript: String::new() };
        guide.equip(&root);
        Some(guide)
    }

    /// The directories and programs that the guide takes for granted.
    fn equip(&self, root: &Path) {
        let at = |path: &str| self.stage.path(path);
        for made in ["data_tmkms/tmkms/kms/commercio", "data_tmkms/tmkms/.cargo/bin", "units", "bin"] {
            fs::create_dir_all(at(made)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_semel"), at("data_tmkms/tmkms/.cargo/bin/tmkms")).unwrap();
        symlink(env!("CARGO_BIN_EXE_semel"), at("bin/semel")).unwrap();
        symlink(env!("CARGO_BIN_EXE_semel"), at("bin/tmkms")).unwrap();
        symlink(root.join("interop/drive/systemctl").canonicalize().unwrap(), at("bin/systemctl")).unwrap();
        self.stage.secret("data_tmkms/tmkms/kms/password", &format!("{PASSWORD}\n"));
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(at("bin").join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(at("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("sudo", "exec \"$@\"");
        // Follows a unit's log until it has said what is waited for, as who looks at it does.
        script(
            "journalctl",
            "for i in $(seq 200); do grep -m1 -o \"$WAIT_FOR\" \"$SYSTEMCTL_DIR/$2.service.log\" && exit; sleep 0.05; done; exit 1",
        );
    }

    /// The guide's text as it is on this host.
    fn here(&self, text: &str, validator: usize) -> String {
        let directory = self.stage.path("").display().to_string();
        let text = text
            .replace("/data_tmkms/", &format!("{directory}data_tmkms/"))
            .replace("/etc/systemd/system/", &format!("{directory}units/"))
            .replace("tcp://127.0.0.1:12345", &format!("tcp://{}", self.hsm.address()))
            .replace("User=tmkms\n", "");
        let address = self.nodes.get(validator.wrapping_sub(1)).map(ToString::to_string).unwrap_or_default();
        let text = text.replace("10.1.1.1:26658", &address);
        let text =
            text.replace("state01", &format!("state0{validator}")).replace("tmkms.01", &format!("tmkms.0{validator}"));
        let text = text.replace("connection01", &format!("connection0{validator}"));
        Regex::new(r"(chain_ids = \[[^\]]*\], key = )1\b")
            .unwrap()
            .replace_all(&text, format!("${{1}}{validator}"))
            .into_owned()
    }

    /// What is the same on every host and at any time.
    fn steady(&self, text: &str) -> String {
        let directory = self.stage.path("").display().to_string();
        let mut text = text.replace(&format!("{directory}units/"), "/etc/systemd/system/").replace(&directory, "/");
        text = text.replace(&self.hsm.address().to_string(), "127.0.0.1:12345");
        for (index, node) in self.nodes.iter().enumerate() {
            text = text.replace(&node.to_string(), &format!("10.1.1.{}:26658", index + 1));
        }
        for (pattern, to) in [
            (r"did:com:valconspub1[a-z0-9]+", "did:com:valconspub1…"),
            (r"[0-9A-F]{40,}", "HEX…"),
            (r"process [0-9]+: [^;\n]+", "process N: …"),
            (r"[\^]{4,}", "^^^^"),
            (r"(?m)^[0-9A-F]{12} ", "KEY          "),
            (r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", "DATE"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, to).into_owned();
        }
        text
    }

    /// The first block of a language behind some words, without its indentation.
    fn block(&self, after: &str, language: &str) -> String {
        let from = self.text.find(after).unwrap_or_else(|| panic!("the guide has no {after:?}"));
        let rest = self.text.get(from..).unwrap();
        let (_, rest) = rest.split_once(&format!("```{language}\n")).unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        block.lines().map(|line| line.trim().to_owned() + "\n").collect()
    }

    /// The shell lines of a block that have these words.
    fn lines(&self, after: &str, language: &str, with: &str) -> Vec<String> {
        let block = self.block(after, language);
        let lines = block.lines().filter(|line| line.contains(with) && *line != "...");
        lines.map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect()
    }

    fn step(&mut self, row: &str) {
        writeln!(self.transcript, "\n# {row}").unwrap();
    }

    fn note(&mut self, text: &str) {
        writeln!(self.transcript, "# {text}").unwrap();
    }

    /// Runs a shell line; its exit code and what it printed.
    fn sh_waiting(&mut self, line: &str, wait_for: &str) -> (i32, String) {
        let path = format!("{}:{}", self.stage.path("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = stage::without_environment(Command::new("sh"));
        shell.args(["-c", &self.here(line, 1)]).env("PATH", path).env("WAIT_FOR", wait_for).env("LC_ALL", "C");
        shell.env("SYSTEMCTL_DIR", self.stage.path("units")).env("SEMEL_LEDGER", self.stage.path("ledger"));
        let done = shell.stdin(Stdio::null()).current_dir(self.stage.path("")).output().unwrap();
        let code = done.status.code().unwrap();
        writeln!(self.transcript, "$ {line}").unwrap();
        let mut said = String::new();
        for (mark, text) in [('|', done.stdout), ('!', done.stderr)] {
            let text = self.steady(&String::from_utf8(text).unwrap());
            for line in text.lines() {
                writeln!(self.transcript, "{}", format!("{mark} {line}").trim_end()).unwrap();
            }
            said += &text;
        }
        if code != 0 {
            writeln!(self.transcript, "? {code}").unwrap();
        }
        (code, said)
    }

    fn sh(&mut self, line: &str) -> (i32, String) {
        self.sh_waiting(line, "")
    }

    /// Runs every line, each of which has to succeed.
    fn all(&mut self, lines: &[String]) {
        assert!(!lines.is_empty());
        for line in lines {
            let (code, said) = self.sh(line);
            assert_eq!(code, 0, "{line}: {said}\n{}", self.transcript);
        }
    }

    /// What a unit logged once it has said something.
    fn logged(&mut self, unit: &str, text: &str) {
        let (code, said) = self.sh_waiting(&format!("journalctl -u {unit} -f"), text);
        assert_eq!(code, 0, "{unit} never said {text}: {said}\n{}", self.log_of(unit));
    }

    fn log_of(&self, unit: &str) -> String {
        fs::read_to_string(self.stage.path("units").join(format!("{unit}.service.log"))).unwrap_or_default()
    }

    /// The nodes of a chain, each of which gets votes at its height.
    fn vote(&self, chain: &str, family: Family, heights: [u64; 3]) -> Vec<Listener> {
        let nodes: Vec<Listener> =
            self.nodes.iter().map(|address| node_at(Listen::Tcp(*address), family, chain)).collect();
        for (node, height) in nodes.iter().zip(heights) {
            let mut remote = called(node);
            remote.sign_vote(&prevote(height, 1)).unwrap();
            refusal(remote.sign_vote(&prevote(height, 2)));
        }
        nodes
    }
}

impl Drop for Guide {
    fn drop(&mut self) {
        for unit in ["tmkms-01", "tmkms-02", "tmkms-03", "tmkms-01.v3", "tmkms-02.v3", "tmkms-03.v3", "tmkms-01.slip"] {
            let mut stop = Command::new(self.stage.path("bin/systemctl"));
            drop(stop.args(["stop", unit]).env("SYSTEMCTL_DIR", self.stage.path("units")).output());
        }
    }
}

/// T1 to T7, T24, T25: configurations and services.
fn prepare(guide: &mut Guide) {
    for validator in 1..=3 {
        let old = guide.here(&guide.block("The typical configuration", "toml"), validator);
        fs::write(guide.stage.path(&format!("data_tmkms/tmkms/kms/commercio/tmkms.0{validator}.toml")), old).unwrap();
        let new = guide.here(&guide.block("`/data_tmkms/tmkms/kms/commercio/tmkms.01.v3.toml`", "toml"), validator);
        fs::write(guide.stage.path(&format!("data_tmkms/tmkms/kms/commercio/tmkms.0{validator}.v3.toml")), new)
            .unwrap();
        let unit = guide.here(&guide.block("will be of this type", "ini"), validator);
        fs::write(guide.stage.path(&format!("units/tmkms-0{validator}.service")), unit).unwrap();
        let unit = guide.here(&guide.block("Create the new service `/etc", "ini"), validator);
        fs::write(guide.stage.path(&format!("units/tmkms-0{validator}.v3.service")), unit).unwrap();
        let key = format!("data_tmkms/tmkms/kms/commercio/secret_connection0{validator}.key");
        guide.stage.run(&["kms", "softsign", "keygen", "-t", "consensus", &key]);
    }
    guide.step("T1: the configuration of a validator, as in the guide");
    guide.all(&[format!("tmkms config check -c {KMS}/tmkms.01.toml")]);
    guide.step("T2: the configuration for the new chain");
    guide.all(&[format!("tmkms config check -c {KMS}/tmkms.01.v3.toml")]);

    guide.step("T3: one of the places with the chain id is forgotten");
    let slip = guide.stage.path("data_tmkms/tmkms/kms/commercio/slip.toml");
    let text = fs::read_to_string(guide.stage.path("data_tmkms/tmkms/kms/commercio/tmkms.01.v3.toml")).unwrap();
    fs::write(&slip, text.replacen("chain_id = \"commercio-3\"", "chain_id = \"commercio-2_2\"", 1)).unwrap();
    let (code, said) = guide.sh(&format!("tmkms config check -c {KMS}/slip.toml"));
    assert!(code != 0 && said.contains("slip.toml:8") && said.contains("slip.toml:2"), "both lines: {said}");

    guide.step("T4: a wrong serial number, a wrong password");
    fs::write(&slip, text.replace("9876543210", "1111111111")).unwrap();
    let (code, said) = guide.sh(&format!("tmkms start -c {KMS}/slip.toml 2>&1 | grep -o 'HSM-.*'"));
    assert!(code == 0 && said.contains("HSM-0006"), "{said}");
    guide.stage.secret("data_tmkms/tmkms/kms/wrong", "not it\n");
    fs::write(&slip, text.replace("/kms/password", "/kms/wrong")).unwrap();
    let (code, said) = guide.sh(&format!("tmkms start -c {KMS}/slip.toml 2>&1 | grep -o 'HSM-.*'"));
    assert!(code == 0 && said.contains("HSM-0002") && !said.contains("not it"), "{said}");
    fs::remove_file(&slip).unwrap();

    guide.step("T5, T24: the connector, as it is");
    guide.all(&[format!("tmkms yubihsm keys list -c {KMS}/tmkms.01.toml")]);
    guide.step("T25: the version, for who compares it with tmkms's");
    guide.all(&["tmkms version".to_owned()]);
}

/// The same lines with `enable` and `start` for the old units: the guide shows them where it goes back.
fn started(guide: &mut Guide) {
    guide.step("T6: the services of the chain as it is");
    let lines = guide.lines("2. Starting in new services When", "bash", "systemctl");
    guide.all(&lines);
    let nodes = guide.vote(OLD, Family::V033, [500, 501, 502]);
    guide.note("Each validator's node has a vote signed: at heights 500, 501, 502.");

    guide.step("T7: a second service for the same validator");
    let started = guide.lines("4. Starting in new services", "bash", "start tmkms-01.v3");
    guide.all(&started);
    guide.logged("tmkms-01.v3", "LEDGER-0002.*");
    guide.all(&["sudo systemctl stop tmkms-01.v3.service".to_owned()]);

    guide.step("T8: the validator's node is turned off");
    drop(nodes);
    guide.logged("tmkms-01", "the node closed the connection.*");
    guide.logged("tmkms-01", "cannot reach the validator.*");
}

/// T9 to T13: the old services are stopped, heights compared.
fn stopped(guide: &mut Guide) {
    guide.step("T9, T10: the services are stopped and disabled");
    let lines = guide.lines("2. Stop all services tmkms", "bash", "systemctl");
    assert_eq!(lines.len(), 6);
    guide.all(&lines);
    for unit in ["tmkms-01", "tmkms-02", "tmkms-03"] {
        assert!(
            guide.log_of(unit).contains("stopped, every signed position is in the ledger"),
            "{}",
            guide.log_of(unit)
        );
    }

    guide.step("T11: the heights");
    let lines = guide.lines("3. Get height of chain", "bash", "jq");
    let mut heights = Vec::new();
    for line in &lines {
        let (code, said) = guide.sh(line);
        assert_eq!(code, 0, "{said}");
        heights.push(said.trim().to_owned());
    }
    assert_eq!(heights, ["500", "501", "502"]);
    guide.step("T12: jq is there (sudo apt install jq)");
    guide.all(&["command -v jq > /dev/null".to_owned()]);
    guide.step("T13: the same from the ledger, for all validators");
    let (code, said) = guide.sh("semel ledger show --all | grep commercio | sort -k4");
    assert!(code == 0 && ["500", "501", "502"].iter().all(|height| said.contains(height)), "{said}");
}

/// T14 to T17: the new services, before and after the nodes.
fn updated(guide: &mut Guide) {
    guide.step("T14, T15: the new services, while the nodes are off");
    let lines = guide.lines("4. Starting in new services", "bash", "systemctl");
    assert_eq!(lines.len(), 6);
    guide.all(&lines);
    guide.step("T16: their logs");
    for line in guide.lines("Analyzing the logs", "", "journalctl") {
        let (code, said) = guide.sh_waiting(&line, "cannot reach the validator.*");
        assert_eq!(code, 0, "{said}");
    }
    let quiet = guide.log_of("tmkms-01.v3").matches("cannot reach").count();
    assert!(quiet < 5, "{quiet} lines in a few seconds");
    guide.step("T17: the nodes come back");
    let _nodes = guide.vote(NEW, Family::V034, [1, 1, 1]);
    guide.note("Each validator's node of the new chain has a vote signed, without a hand on the signer.");
    guide.logged("tmkms-01.v3", "signed Prevote:0101010101 at h/r/s 1/0/1");
}

/// T18, T19: back.
fn recovered(guide: &mut Guide) {
    guide.step("T18: the update failed: the new services are stopped and disabled");
    let lines = guide.lines("If the chain update fails", "bash", "systemctl");
    assert_eq!(lines.len(), 6);
    guide.all(&lines);
    guide.step("T19: the old services again");
    let lines = guide.lines("2. Starting in new services When", "bash", "systemctl");
    guide.all(&lines);
    let nodes: Vec<Listener> =
        guide.nodes.iter().map(|address| node_at(Listen::Tcp(*address), Family::V033, OLD)).collect();
    for (node, height) in nodes.iter().zip([500, 501, 502]) {
        let mut remote = called(node);
        refusal(remote.sign_vote(&prevote(height - 1, 7)));
        refusal(remote.sign_vote(&prevote(height, 7)));
        remote.sign_vote(&prevote(height + 1, 7)).unwrap();
    }
    guide.note("Each validator signs from its floor on, and not at or below it.");
    guide.all(&guide.lines("3. Get height of chain", "bash", "state01"));
}

/// T20 to T23: common mistakes.
fn mistaken(guide: &mut Guide) {
    guide.step("T20: the guide's chown, with its slip");
    let line = guide.lines("### Common mistakes", "bash", "chown").remove(0);
    let (code, said) = guide.sh(&format!("{line} 2>&1 | grep -o invalid"));
    assert!(code == 0 && said.contains("invalid"), "{said}");
    guide.note("What the doctor says of files that belong to nobody it knows: bin/semel/tests/doctor.rs.");
    guide.step("T21, T22, T23: what the doctor says of files, of the way to the node, and of its port");
    guide.all(&["sudo systemctl stop tmkms-01.service".to_owned()]);
    let password = guide.stage.path("data_tmkms/tmkms/kms/password");
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = guide.sh(&format!("semel doctor --deep -c {KMS}/tmkms.01.toml 2>/dev/null | grep -E 'password file|takes no|laddr' | grep -v CONFIG- | grep -v belongs"));
    assert!(code == 0 && said.contains("password") && said.contains("priv_validator_laddr"), "{said}");
}

#[test]
fn the_guide_step_by_step() {
    let Some(mut guide) = Guide::new() else { return };
    prepare(&mut guide);
    started(&mut guide);
    stopped(&mut guide);
    updated(&mut guide);
    recovered(&mut guide);
    mistaken(&mut guide);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/guide.txt");
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("SEMEL_TRANSCRIPTS").is_some_and(|value| value == "write") {
        fs::write(&path, &guide.transcript).unwrap();
    } else {
        let differs = expected.lines().zip(guide.transcript.lines()).find(|(a, b)| a != b);
        assert_eq!(guide.transcript, expected, "{}: first difference {differs:?}", path.display());
    }
}
