//! `semel upgrade` as an operator runs it: the guide's files, a service manager that starts the real binary, and a node of each chain.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::{Family, Listen, Listener};
use stage::{Stage, called, node_at, prevote, refusal};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

const OLD: &str = "commercio-2_2";
const NEW: &str = "commercio-3";

fn manager() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/drive/systemctl")
}

/// A host with the signer of two validators of the old chain, each a unit, and the nodes of both chains at the same addresses.
struct Site {
    stage: Stage,
    addresses: Vec<std::net::SocketAddr>,
}

impl Site {
    fn new() -> Self {
        let stage = Stage::new();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_semel"), stage.path("tmkms")).unwrap();
        fs::create_dir(stage.path("units")).unwrap();
        let mut addresses = Vec::new();
        for n in 1..=2 {
            let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let name = format!("v{n}");
            stage.run(&["kms", "softsign", "keygen", &format!("DIR/{name}.key")]);
            stage.config_of(&format!("{name}.toml"), OLD, &name, &[format!("tcp://{free}")]);
            let dir = stage.path("").display().to_string();
            let unit = format!(
                "[Service]\nWorkingDirectory={dir}\nExecStart={dir}tmkms start -c {dir}{name}.toml --ledger {dir}ledger --i-accept-volatile-ledger\n"
            );
            fs::write(stage.path("units").join(format!("{name}.service")), unit).unwrap();
            addresses.push(free);
        }
        Self { stage, addresses }
    }

    fn systemctl(&self, words: &[&str]) {
        let done = Command::new(manager()).args(words).env("SYSTEMCTL_DIR", self.stage.path("units")).status().unwrap();
        assert!(done.success(), "{words:?}");
    }

    /// `semel upgrade …`, with `DIR` for the directory. Exit code, and everything that was said.
    fn upgrade(&self, words: &[&str]) -> (i32, String) {
        let dir = self.stage.path("").display().to_string();
        let words = words.iter().map(|word| word.replace("DIR/", &dir));
        let mut command = stage::semel();
        let done = command.arg("upgrade").args(words).env("SYSTEMCTL_DIR", self.stage.path("units")).output().unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        (done.status.code().unwrap(), said.replace(&dir, "DIR/"))
    }

    fn planned(&self, more: &[&str]) -> (i32, String) {
        let words = ["plan", "--from", OLD, "--to", NEW, "--suffix", "v3", "--configs", "DIR/v?.toml"];
        let words = [&words[..], &["--units", "DIR/units/v?.service", "--out", "DIR/plan.json"], more].concat();
        self.upgrade(&words)
    }

    /// The nodes of a chain, each of which gets a vote at this height.
    fn vote(&self, chain: &str, family: Family, height: u64) {
        let nodes: Vec<Listener> =
            self.addresses.iter().map(|address| node_at(Listen::Tcp(*address), family, chain)).collect();
        for node in &nodes {
            let mut remote = called(node);
            remote.sign_vote(&prevote(height, 1)).unwrap();
            refusal(remote.sign_vote(&prevote(height, 2)));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for unit in ["v1", "v2", "v1.v3", "v2.v3"] {
            let mut stop = Command::new(manager());
            drop(stop.args(["stop", unit]).env("SYSTEMCTL_DIR", self.stage.path("units")).output());
        }
    }
}

#[test]
fn two_validators_go_to_a_new_chain_and_back_and_sign_nothing_twice() {
    let site = Site::new();
    for unit in ["v1", "v2"] {
        site.systemctl(&["enable", unit]);
        site.systemctl(&["start", unit]);
    }
    site.vote(OLD, Family::V033, 500);
    let (code, said) = site.planned(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("DIR/v1.toml           500  DIR/v1.json"), "the table of heights: {said}");
    assert!(said.contains("systemctl start v2.v3.service"), "{said}");
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--dry-run"]);
    assert!(code == 0 && said.starts_with("systemctl stop v1.service\nsystemctl disable v1.service\n"), "{said}");
    assert!(!site.stage.path("v1.v3.toml").exists(), "a dry run writes nothing");
    let systemctl = manager().display().to_string();
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes", "--systemctl", &systemctl]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("Height 500 in DIR/v2.json") && said.contains("Upgraded commercio-2_2 to commercio-3"),
        "{said}"
    );
    let fresh = site.stage.read("v1.v3.json");
    assert!(fresh.contains("\"height\":\"0\""), "{fresh}");
    site.vote(NEW, Family::V034, 1);
    let (_, said) = site.upgrade(&["status", "DIR/plan.json"]);
    assert!(said.starts_with("commercio-2_2 to commercio-3: applied, 20 of 20 steps done"), "{said}");
    let (code, said) = site.upgrade(&["rollback", "DIR/plan.json", "--yes", "--systemctl", &systemctl]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Rolled back commercio-2_2 serves again"), "{said}");
    // The old chain goes on above its floor, and only there.
    let node = node_at(Listen::Tcp(site.addresses[0]), Family::V033, OLD);
    let mut remote = called(&node);
    refusal(remote.sign_vote(&prevote(499, 7)));
    refusal(remote.sign_vote(&prevote(500, 7)));
    remote.sign_vote(&prevote(501, 7)).unwrap();
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes", "--systemctl", &systemctl]);
    assert!(code == 1 && said.contains("UPGRADE-0021"), "{said}");
    let (_, said) = site.upgrade(&["status", "DIR/plan.json", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(status["state"], "rolled back");
}

#[test]
fn what_is_wrong_with_a_plan_is_said_before_there_is_one() {
    let site = Site::new();
    for n in 1..=2 {
        let state = r#"{"height":"500","round":"0","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#;
        site.stage.secret(&format!("v{n}.json"), state);
    }
    // What is changed, and put back; a code; words.
    type Change = fn(&Stage);
    let rows: [(&str, Change, &str, &str); 7] = [
        (
            "a state is missing",
            |stage| fs::remove_file(stage.path("v1.json")).unwrap(),
            "UPGRADE-0005",
            "v1.json cannot be read",
        ),
        (
            "another chain",
            |stage| stage.edit("v1.toml", "id = \"commercio-2_2\"", "id = \"other-1\""),
            "UPGRADE-0002",
            "v1.toml has no chain",
        ),
        ("no TOML", |stage| stage.edit("v1.toml", "[[chain]]", "[[chain]"), "UPGRADE-0001", "does not parse"),
        (
            "a new file is there",
            |stage| fs::write(stage.path("v1.v3.toml"), "# mine").unwrap(),
            "UPGRADE-0003",
            "another file",
        ),
        (
            "a new state is there",
            |stage| fs::write(stage.path("v1.v3.json"), "{}").unwrap(),
            "UPGRADE-0004",
            "not a fresh state",
        ),
        (
            "no unit",
            |stage| fs::remove_file(stage.path("units/v1.service")).unwrap(),
            "UPGRADE-0008",
            "the ExecStart of no unit",
        ),
        (
            "no such user",
            |stage| stage.edit("units/v1.service", "[Service]", "[Service]\nUser=nobody-here"),
            "UPGRADE-0011",
            "no user nobody-here",
        ),
    ];
    for (name, change, code, words) in rows {
        let kept: Vec<(&str, Vec<u8>)> = ["v1.toml", "v1.json", "units/v1.service"]
            .into_iter()
            .map(|file| (file, fs::read(site.stage.path(file)).unwrap()))
            .collect();
        change(&site.stage);
        let (exit, said) = site.planned(&[]);
        assert!(exit == 1 || code == "UPGRADE-0002", "{name}: {said}");
        assert!(said.contains(code) && said.contains(words), "{name}: {said}");
        kept.into_iter().for_each(|(file, bytes)| fs::write(site.stage.path(file), bytes).unwrap());
        for made in ["v1.v3.toml", "v1.v3.json", "plan.json"] {
            drop(fs::remove_file(site.stage.path(made)));
        }
    }
    let (code, said) = site.planned(&["--halt-height", "600"]);
    assert!(code == 1 && said.contains("UPGRADE-0016") && said.contains("max_height = \"600\""), "{said}");
    let (code, said) = site.planned(&["--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert!(code == 0 && plan["checks"].as_array().unwrap().iter().all(|check| check["verdict"] != "fail"), "{said}");
    assert!(!site.stage.path("plan.json").exists(), "a dry run writes nothing");
    assert_eq!(site.planned(&[]).0, 0);
    let edited = site.stage.read("plan.json").replace("v1.v3.toml", "v9.v3.toml");
    fs::write(site.stage.path("plan.json"), edited).unwrap();
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes"]);
    assert!(code == 1 && said.contains("UPGRADE-0019") && said.contains("edited"), "{said}");
}

#[test]
fn a_chain_that_halts_is_left_when_it_has_come_to_its_height() {
    let site = Site::new();
    for n in 1..=2 {
        site.stage.edit(&format!("v{n}.toml"), "reconnect = true", "reconnect = true\nmax_height = \"500\"");
        site.systemctl(&["start", &format!("v{n}")]);
    }
    site.vote(OLD, Family::V034, 499);
    assert_eq!(site.planned(&["--halt-height", "500"]).0, 0);
    let systemctl = manager().display().to_string();
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| site.upgrade(&["apply", "DIR/plan.json", "--yes", "--systemctl", &systemctl]));
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(!applied.is_finished(), "it waits for height 500");
        site.vote(OLD, Family::V034, 500);
        let (code, said) = applied.join().unwrap();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("Waiting for height 500: the lowest state is at 499"), "{said}");
    });
    assert!(!site.stage.read("v1.v3.toml").contains("max_height"));
    site.vote(NEW, Family::V034, 501);
}
