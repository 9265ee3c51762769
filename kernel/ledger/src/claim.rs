//! The claim of a process on a key, known to the whole host whatever ledger each process uses: an abstract unix socket with the
//! name of the (public key, chain), and one with that of the (public key, node). It ends with the process, however that ends.
//!
//! The lock in the ledger is what safety rests on. The claim catches what a lock in one directory cannot see: a second ledger.

use crate::host::process_words;
use crate::record::SubjectId;
use semel_guard::PublicKey;
use sha2::{Digest as _, Sha256};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Held while this process signs with a key, or for a node with it.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "the kernel keeps the name while the socket is open")] UnixListener);

/// Claims a key, or says who has it. None where the host has no such sockets.
pub(crate) fn claim(id: &SubjectId) -> Result<Option<Claim>, String> {
    claim_name(&format!("semel/key/{}", hex::encode(id)))
        .map_err(|holder| holder.map_or_else(String::new, process_words))
}

/// Claims a node for a key. A second process at the same node with the same key is a unit that was forgotten, as after an upgrade.
pub(crate) fn claim_node(key: &PublicKey, node: &str) -> Result<Option<Claim>, String> {
    let name = Sha256::new().chain_update(key.as_bytes()).chain_update(node).finalize();
    match claim_name(&format!("semel/node/{}", hex::encode(name))) {
        Err(Some(pid)) if pid == std::process::id() => Ok(None),
        other => other.map_err(|holder| holder.map_or_else(String::new, process_words)),
    }
}

/// Takes a name, or says which process has it, where the kernel tells.
fn claim_name(name: &str) -> Result<Option<Claim>, Option<u32>> {
    let Ok(address) = SocketAddr::from_abstract_name(name) else { return Ok(None) };
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Some(Claim(listener))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = UnixStream::connect_addr(&address)
                .ok()
                .and_then(|stream| rustix::net::sockopt::socket_peercred(&stream).ok())
                .map(|who| who.pid.as_raw_nonzero().get().unsigned_abs());
            Err(holder)
        }
        Err(_) => Ok(None),
    }
}
