//! The claim of a process on a key, known to the whole host whatever ledger each process uses: an abstract unix socket with the
//! name of the (public key, chain). It ends with the process, however that ends.
//!
//! The lock in the ledger is what safety rests on. The claim catches what a lock in one directory cannot see: a second ledger.

use crate::host::process_words;
use crate::record::SubjectId;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Held while this process signs with a key.
pub(crate) struct Claim(
    #[expect(dead_code, reason = "the kernel keeps the name while the socket is open")] UnixListener,
);

/// Claims a key, or says who has it. None where the host has no such sockets.
pub(crate) fn claim(id: &SubjectId) -> Result<Option<Claim>, String> {
    let name = format!("semel/key/{}", hex::encode(id));
    let Ok(address) = SocketAddr::from_abstract_name(name) else { return Ok(None) };
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Some(Claim(listener))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = UnixStream::connect_addr(&address)
                .ok()
                .and_then(|stream| rustix::net::sockopt::socket_peercred(&stream).ok());
            Err(holder.map_or_else(String::new, |who| process_words(who.pid.as_raw_nonzero().get().unsigned_abs())))
        }
        Err(_) => Ok(None),
    }
}
