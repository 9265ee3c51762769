//! What a running signer has given up, seen from outside.

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{Signer, Stage, called, node, prevote};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn memory_is_in_no_core_file_and_threads_that_talk_to_nodes_write_nowhere_else() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", signer.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    if signer.count("this kernel has no Landlock") > 0 {
        return stage::skip("threads_that_talk_to_nodes_write_nowhere_else", "this kernel has no Landlock");
    }
    signer.said("this process writes to its ledger and state files, and nowhere else");
    // A thread under Landlock can gain no privileges any more; the others were there before.
    let mut confined = 0;
    for task in fs::read_dir(format!("/proc/{}/task", signer.id())).unwrap() {
        let path = task.unwrap().path();
        let name = fs::read_to_string(path.join("comm")).unwrap();
        let status = fs::read_to_string(path.join("status")).unwrap();
        let is_confined = status.lines().any(|line| line == "NoNewPrivs:\t1");
        assert!(is_confined || !name.starts_with("node "), "{name}");
        confined += usize::from(is_confined);
    }
    assert!(confined >= 2, "the main thread and that of the node");
}

#[test]
fn a_hook_writes_nowhere_else_either() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".into());
    let outside = format!("{home}/.semel-hook-{}", std::process::id());
    let config = stage.config(&[node.address().to_string()]);
    let script = format!("touch {outside}\necho '{{\"latest_block_height\":\"5\"}}'\n");
    let script = stage.secret("hook.sh", &script);
    let hook = format!("[[chain]]\nstate_hook = {{ cmd = [\"/bin/sh\", \"{}\"] }}", script.display());
    stage.edit("tmkms.toml", "[[chain]]", &hook);
    let signer = stage.start(&config);
    called(&node).sign_vote(&prevote(6, 1)).unwrap();
    let is_there = fs::metadata(&outside).is_ok();
    drop(fs::remove_file(&outside));
    if signer.count("this kernel has no Landlock") > 0 {
        return stage::skip("a_hook_writes_nowhere_else_either", "this kernel has no Landlock");
    }
    assert!(!is_there, "the hook wrote {outside}");
}

#[test]
fn root_signs_only_when_it_is_told_to() {
    if !rustix::process::geteuid().is_root() {
        return stage::skip("root_signs_only_when_it_is_told_to", "this is not root");
    }
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let start = |value: &str, more: &[&str]| {
        let mut command = stage::semel();
        command.args(["kms", "start", "-c"]).arg(&config).args(stage.ledger()).args(more);
        match value {
            "" => command.env_remove("SEMEL_ALLOW_ROOT"),
            value => command.env("SEMEL_ALLOW_ROOT", value),
        };
        Signer::spawn(command)
    };
    for value in ["", "0", "false"] {
        let mut refused = start(value, &[]);
        assert_eq!(refused.ended().code(), Some(1), "{value:?}: {}", refused.text());
        assert!(refused.text().contains("HOST-0001") && refused.text().contains("--allow-root"), "{}", refused.text());
    }
    assert!(!stage.path("ledger").exists(), "nothing of root's is left behind");
    let mut height = 0;
    let mut signs = |_signer: Signer| {
        height += 1;
        called(&node).sign_vote(&prevote(height, 1)).unwrap();
    };
    signs(start("1", &[]));
    signs(start("", &["--allow-root"]));
    stage.edit("tmkms.toml", "[[chain]]", "[semel]\nallow_root = true\n\n[[chain]]");
    signs(start("", &[]));
}

#[test]
fn keys_lie_in_memory_that_is_never_swapped_or_the_log_says_that_they_do_not() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let kept = |signer: &Signer| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", signer.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let signer = stage.start(&config);
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
    assert!(kept(&signer) >= 4, "{} kB; {}", kept(&signer), signer.text());
    assert_eq!(signer.count("may be swapped out"), 0);
    drop(signer);
    if !Path::new("/usr/bin/setpriv").exists() {
        return stage::skip("or_the_log_says_that_they_do_not", "there is no setpriv");
    }
    // Root may lock what it likes, so this one is a root without that right.
    let mut command = Command::new("sh");
    let script = "ulimit -l 0; exec setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_semel"), "kms", "start", "-c"]).arg(&config).args(stage.ledger());
    let signer = Signer::spawn(command);
    called(&node).sign_vote(&prevote(2, 1)).unwrap();
    assert_eq!(kept(&signer), 0);
    let line = signer.said("may be swapped out");
    assert!(line.contains("LimitMEMLOCK"), "{line}");
}
