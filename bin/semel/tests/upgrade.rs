//! `semel upgrade` as an operator runs it: the guide's files, a service manager that starts the real binary, and a node of each chain.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::consensus::{Vote, VoteKind};
use semel_devnet_tendermint::privval::{Family, Listen, Listener};
use stage::{Stage, called, node_at, prevote, refusal, vote};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
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

    /// The nodes of a chain, each of which gets these votes.
    fn vote(&self, chain: &str, family: Family, votes: &[Vote]) {
        self.vote_then(chain, family, votes, || {});
    }

    /// The same; between a vote of all and the next one something else is done.
    fn vote_then(&self, chain: &str, family: Family, votes: &[Vote], between: impl Fn()) {
        let nodes: Vec<Listener> =
            self.addresses.iter().map(|address| node_at(Listen::Tcp(*address), family, chain)).collect();
        let mut remotes: Vec<_> = nodes.iter().map(called).collect();
        for (n, vote) in votes.iter().enumerate() {
            if n > 0 {
                between();
            }
            for remote in &mut remotes {
                remote.sign_vote(vote).unwrap();
                let other = Vote { block: prevote(1, 2).block, ..vote.clone() };
                refusal(remote.sign_vote(&other));
            }
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
    site.vote(OLD, Family::V033, &[prevote(500, 1)]);
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
    site.vote(NEW, Family::V034, &[prevote(1, 1)]);
    let (_, said) = site.upgrade(&["status", "DIR/plan.json"]);
    assert!(said.starts_with("commercio-2_2 to commercio-3: applied, 21 of 21 steps done"), "{said}");
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
    site.vote(OLD, Family::V034, &[prevote(499, 1)]);
    assert_eq!(site.planned(&["--halt-height", "500"]).0, 0);
    let systemctl = manager().display().to_string();
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| site.upgrade(&["apply", "DIR/plan.json", "--yes", "--systemctl", &systemctl]));
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(!applied.is_finished(), "it waits for height 500");
        let precommit = vote(VoteKind::Precommit, 500, Some(1), 0);
        site.vote_then(OLD, Family::V034, &[prevote(500, 1), precommit], || {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            assert!(!applied.is_finished(), "without the precommits the height is not committed");
        });
        let precommitted = std::time::Instant::now();
        let (code, said) = applied.join().unwrap();
        assert_eq!(code, 0, "{said}");
        assert!(precommitted.elapsed().as_secs() >= 9, "another round may follow");
        assert!(
            said.contains("Waiting for a precommit at height 500: the lowest state is at 499/0, a prevote"),
            "{said}"
        );
        assert!(said.contains("the lowest state is at 500/0, a prevote"), "{said}");
    });
    assert!(!site.stage.read("v1.v3.toml").contains("max_height"));
    site.vote(NEW, Family::V034, &[prevote(501, 1)]);
}

/// A site whose signers are containers: what the template runs is in `calls`.
fn with_template(site: &Site) -> String {
    fs::write(site.stage.path("ex.sh"), "echo \"$1 $2\" >> \"$(dirname \"$0\")/calls\"\n").unwrap();
    for n in 1..=2 {
        let state = r#"{"height":"500","round":"0","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#;
        site.stage.secret(&format!("v{n}.json"), state);
    }
    format!("sh {} {{action}} {{unit}}", site.stage.path("ex.sh").display())
}

#[test]
fn without_units_a_template_stops_and_starts_what_is_named_after_the_configurations() {
    let site = Site::new();
    let template = with_template(&site);
    let words =
        ["plan", "--from", OLD, "--to", NEW, "--suffix", "v3", "--configs", "DIR/v?.toml", "--out", "DIR/plan.json"];
    let (code, said) = site.upgrade(&[&words[..], &["--exec-template", &template]].concat());
    assert_eq!(code, 0, "{said}");
    let (_, dry) = site.upgrade(&["apply", "DIR/plan.json", "--dry-run"]);
    let run: Vec<&str> = dry.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = ["stop v1", "stop v2", "start v1.v3", "start v2.v3"].map(|words| format!("sh DIR/ex.sh {words}"));
    assert_eq!(run, expected, "what is printed is what is run: {dry}");
    assert!(!dry.contains("wait until"), "{dry}");
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes"]);
    assert!(code == 0 && said.contains("Upgraded"), "{said}");
    assert_eq!(site.stage.read("calls"), "stop v1\nstop v2\nstart v1.v3\nstart v2.v3\n");
    let (code, said) = site.upgrade(&["rollback", "DIR/plan.json", "--yes"]);
    assert!(code == 0 && said.contains("Rolled back"), "{said}");
    assert!(site.stage.read("calls").ends_with("stop v1.v3\nstop v2.v3\nstart v1\nstart v2\n"));
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes"]);
    assert!(code == 1 && said.contains("UPGRADE-0021"), "{said}");
}

#[test]
fn a_plan_that_would_stop_and_start_nothing_or_two_things_of_one_name_is_none() {
    let site = Site::new();
    let template = with_template(&site);
    fs::create_dir(site.stage.path("v3")).unwrap();
    fs::write(site.stage.path("v3/v1.toml"), site.stage.read("v2.toml")).unwrap();
    let words = ["plan", "--from", OLD, "--to", NEW, "--suffix", "new", "--dry-run", "--configs"];
    let rows: [(&[&str], &str); 3] = [
        (&["DIR/v?.toml"], "nothing would be stopped or started"),
        (&["DIR/**/v1.toml", "--exec-template", &template], "two configurations are named v1"),
        (&["DIR/v?.toml", "--exec-template", "docker restart {unit}"], "{action}"),
    ];
    for (more, expected) in rows {
        let (code, said) = site.upgrade(&[&words[..], more].concat());
        assert!(code == 1 && said.contains("FAIL  UPGRADE-0008") && said.contains(expected), "{said}");
    }
}

#[test]
fn a_unit_that_dies_and_is_started_again_does_not_count_as_running() {
    let site = Site::new();
    drop(with_template(&site));
    // A systemctl as of a unit with Restart=always: it is active whenever it is asked, as another process each time.
    let manager = "case $1 in show) echo MainPID=$$;; is-active) echo active;; esac\n";
    fs::write(site.stage.path("systemctl"), format!("#!/bin/sh\n{manager}")).unwrap();
    fs::set_permissions(site.stage.path("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(site.planned(&[]).0, 0);
    // The old units have ended.
    let stop = "case $1 in stop) echo 1 > \"$0.stopped\";; start) rm -f \"$0.stopped\";; esac\n[ -e \"$0.stopped\" ] && [ $1 = is-active ] && { echo inactive; exit 3; }\n";
    fs::write(site.stage.path("systemctl"), format!("#!/bin/sh\n{stop}{manager}")).unwrap();
    let systemctl = site.stage.path("systemctl").display().to_string();
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes", "--systemctl", &systemctl]);
    assert!(
        code == 1 && said.contains("UPGRADE-0024") && said.contains("v1.v3.service does not keep running"),
        "{said}"
    );
}

#[test]
fn the_program_of_a_unit_is_asked_what_it_is() {
    let site = Site::new();
    drop(with_template(&site));
    let (code, said) = site.planned(&["--dry-run"]);
    let version = env!("CARGO_PKG_VERSION");
    assert!(code == 0 && said.contains(&format!("pass  UPGRADE-0014  DIR/tmkms is semel {version}")), "{said}");
    // Another signer, and one that never answers.
    for (script, expected) in
        [("echo 0.15.0", "is not Semel: it says `0.15.0`"), ("exec sleep 60", "no answer in time")]
    {
        fs::remove_file(site.stage.path("tmkms")).unwrap();
        fs::write(site.stage.path("tmkms"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(site.stage.path("tmkms"), fs::Permissions::from_mode(0o755)).unwrap();
        let (code, said) = site.planned(&["--dry-run"]);
        assert!(code == 0 && said.contains("warn  UPGRADE-0014") && said.contains(expected), "{said}");
    }
}

#[test]
fn units_are_understood_as_people_and_packages_write_them() {
    let site = Site::new();
    drop(with_template(&site));
    let dir = site.stage.path("").display().to_string();
    let start = |words: &str| format!("[Service]\nWorkingDirectory={dir}\nExecStart={dir}tmkms start {words}\n");
    let write = |name: &str, text: &str| fs::write(site.stage.path("units").join(name), text).unwrap();
    // What the unit has, and what the new one has in its place.
    let rows = [
        ("--config=v1.toml".to_owned(), "--config=v1.v3.toml".to_owned()),
        (format!("-c={dir}v1.toml -v"), format!("-c={dir}v1.v3.toml -v")),
        (format!("\\\n  -v \\\n  -c {dir}v1.toml"), format!("\\\n  -v \\\n  -c {dir}v1.v3.toml")),
        ("-c %p.toml".to_owned(), "-c v1.v3.toml".to_owned()),
    ];
    for (old, new) in rows {
        write(
            "v1.service",
            &start(&old).replace("ExecStart=", "ExecStart=-@").replace("tmkms start", "tmkms tmkms start"),
        );
        let (code, said) = site.planned(&["--dry-run", "--json"]);
        assert_eq!(code, 0, "{old}: {said}");
        let plan: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        let content = plan["units"][0]["content"].as_str().unwrap().replace("DIR/", &dir);
        assert!(content.contains(&format!("tmkms start {new}\n")), "{new}: {content}");
    }
    // An instance of a template, by its link: its new unit knows what it was an instance of.
    fs::remove_file(site.stage.path("units/v1.service")).unwrap();
    write("v@.service", &start("-c v%i.toml").replace("[Service]", "[Service]\nSyslogIdentifier=tmkms-%i"));
    fs::create_dir(site.stage.path("units/multi-user.target.wants")).unwrap();
    std::os::unix::fs::symlink(
        site.stage.path("units/v@.service"),
        site.stage.path("units/multi-user.target.wants/v@1.service"),
    )
    .unwrap();
    fs::create_dir(site.stage.path("units/v@1.service.d")).unwrap();
    write("v@1.service.d/limits.conf", "[Service]\nLimitCORE=0\n");
    for units in ["DIR/units/v@1.service", "DIR/units/multi-user.target.wants/v@*.service"] {
        let words =
            ["plan", "--from", OLD, "--to", NEW, "--suffix", "v3", "--configs", "DIR/v1.toml", "--dry-run", "--json"];
        let (code, said) = site.upgrade(&[&words[..], &["--units", units]].concat());
        assert_eq!(code, 0, "{units}: {said}");
        let plan: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(plan["units"][0]["new"], "DIR/units/v@1.v3.service");
        let content = plan["units"][0]["content"].as_str().unwrap();
        assert!(content.contains("-c v1.v3.toml") && content.contains("=tmkms-1\n"), "{content}");
        assert_eq!(plan["drop_ins"][0]["new"], "DIR/units/v@1.v3.service.d/limits.conf");
        assert_eq!(plan["units"].as_array().unwrap().len(), 1);
        let (code, said) = site.upgrade(&[&words[..], &["--units", units, "--in-place-units"]].concat());
        assert!(code == 1 && said.contains("leave --in-place-units away"), "{said}");
    }
    let (code, said) = site.planned(&["--dry-run"]);
    assert!(code == 1 && said.contains("v1.toml is in the ExecStart of no unit"), "{said}");
    // What no plan can be made for says what to do.
    write("v1.service", &start("-c /nowhere"));
    for (name, text, expected) in [
        ("v1.service", start(&format!("-c {dir}")), "name the files in it: `systemctl edit` the unit"),
        (
            "v1@.service",
            start("-c v%i.toml"),
            "name the instances: --units '/etc/systemd/system/multi-user.target.wants/v1@*.service'",
        ),
        ("v1.service", start("-c ${CONF}"), "without a variable"),
    ] {
        write(name, &text);
        let words = ["plan", "--from", OLD, "--to", NEW, "--suffix", "v3", "--configs", "DIR/v1.toml", "--dry-run"];
        let (code, said) = site.upgrade(&[&words[..], &["--units", "DIR/units/v1*.service"]].concat());
        assert!(code == 1 && said.contains("FAIL  UPGRADE-0008") && said.contains(expected), "{name}: {said}");
        drop(fs::remove_file(site.stage.path("units").join(name)));
    }
}

#[test]
fn a_plan_of_more_than_a_mebibyte_is_read_whole() {
    let site = Site::new();
    drop(with_template(&site));
    let long = format!("# {}\n", "x".repeat(600 << 10));
    for n in 1..=2 {
        site.stage.edit(&format!("v{n}.toml"), "[[chain]]", &format!("{long}[[chain]]"));
    }
    assert_eq!(site.planned(&[]).0, 0);
    assert!(fs::metadata(site.stage.path("plan.json")).unwrap().len() > 1 << 20);
    let (code, said) = site.upgrade(&["status", "DIR/plan.json"]);
    assert!(code == 0 && said.contains("planned, 0 of 21"), "{said}");
    fs::File::options().write(true).open(site.stage.path("plan.json")).unwrap().set_len((64 << 20) + 1).unwrap();
    let (code, said) = site.upgrade(&["apply", "DIR/plan.json", "--yes"]);
    assert!(code == 1 && said.contains("UPGRADE-0025") && said.contains("too large"), "{said}");
}
