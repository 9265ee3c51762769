//! What a running signer has given up, seen from outside.

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{Stage, called, node, prevote};
use std::fs;

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
