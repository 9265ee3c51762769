//! Ten thousand disconnects, at every boundary of a connection: within the handshake, before, within and behind the frame of a
//! request, and while its answer is on the way. Whatever was signed meanwhile, one block at a height was.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::consensus::Encoding;
use semel_devnet_tendermint::privval::messages::{Request, Scratch};
use semel_devnet_tendermint::privval::{Family, Listener};
use stage::below::{caller, shaken};
use stage::{Stage, called, node, prevote};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Mutex;

/// Nodes, each of which hangs up this often.
const NODES: usize = 250;
const TIMES: usize = 40;

/// After which byte of what it sends a node hangs up. Its key is 35 bytes, its proof and each request are frames of 1044.
const CUTS: [usize; 14] = [0, 1, 34, 35, 36, 1078, 1079, 1080, 1081, 1600, 2122, 2123, 2124, 3167];

/// A delimited request for a signature.
fn request(height: u64, block: u8) -> Vec<u8> {
    let (mut message, vote) = (Vec::new(), prevote(height, block));
    Request::Vote(&vote, [7; 20]).write(Encoding::Protobuf, stage::CHAIN, &mut Scratch::default(), &mut message);
    let mut delimited = Vec::new();
    let mut len = message.len();
    while len >= 0x80 {
        delimited.push(len as u8 | 0x80);
        len >>= 7;
    }
    delimited.push(len as u8);
    delimited.extend(message);
    delimited
}

/// Takes the signer's call, asks twice for a signature, and hangs up after `cut` bytes.
fn hang_up(node: &Listener, cut: usize, height: u64, block: u8) {
    let mut socket = caller(node);
    let Some(mut secret) = shaken(&mut socket, cut) else { return };
    let mut frames = Vec::new();
    for _ in 0..2 {
        secret.sealer.seal(&request(height, block), &mut frames).unwrap();
    }
    let left = cut - 1079;
    // The signer may have ended the session itself.
    let _sent = socket.write_all(&frames[..left.min(frames.len())]);
    if left == 2 * 1044 {
        // In the middle of the first answer.
        let _some = socket.read(&mut [0; 100]);
    }
}

#[test]
fn after_ten_thousand_disconnects_one_block_at_each_height_was_signed_and_every_node_is_served() {
    let stage = Stage::new();
    let nodes: Vec<Listener> = (0..NODES).map(|_| node(Family::V034)).collect();
    let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
    let signer = stage.start(&stage.config(&addresses));
    std::thread::scope(|scope| {
        for (index, node) in nodes.iter().enumerate() {
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || {
                    for time in 0..TIMES {
                        hang_up(node, CUTS[(index + time) % CUTS.len()], time as u64 + 1, index as u8);
                    }
                })
                .unwrap();
        }
    });
    // Now each asks for the block that it asked for before, at every height.
    let signed: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::default();
    std::thread::scope(|scope| {
        for (index, node) in nodes.iter().enumerate().take(usize::from(u8::MAX)) {
            let signed = &signed;
            scope.spawn(move || {
                let mut remote = called(node);
                for height in 1..=TIMES as u64 {
                    if remote.sign_vote(&prevote(height, index as u8)).is_ok() {
                        signed.lock().unwrap().entry(height).or_default().push(index as u8);
                    }
                }
                remote.ping().unwrap();
            });
        }
    });
    let signed = signed.into_inner().unwrap();
    for (height, blocks) in &signed {
        assert_eq!(blocks.len(), 1, "at height {height} the blocks {blocks:?} were signed");
    }
    // Only the last positions are answered again; of those, each that was asked for was signed for somebody.
    assert!(signed.contains_key(&(TIMES as u64)), "{signed:?}");
    called_again(&nodes[0], TIMES as u64 + 1);
    assert_eq!(signer.count("undecodable"), 0);
    assert_eq!(signer.count("panicked"), 0);
}

/// After all that, the next height is signed as ever.
fn called_again(node: &Listener, height: u64) {
    called(node).sign_vote(&prevote(height, 1)).unwrap();
}
