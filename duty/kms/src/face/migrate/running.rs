//! Whether the old signer still runs, as far as this user can see: its command line, the files it holds, the node it talks to.

use super::super::processes::{FileId, Open, Process, processes};
use super::home::files_of;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A connection that stands, in /proc/net/tcp.
const ESTABLISHED: &str = "01";

/// Lines of a table of sockets that are read.
const SOCKETS_MAX: usize = 100_000;

/// What would give an old signer away.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Names of its program; empty: any program.
    pub(super) programs: &'static [&'static str],
    /// Its configuration or home, as its command line may name it.
    pub(super) named: Vec<PathBuf>,
    /// What it has when its command line names nothing: a file of the directory that it runs in.
    pub(super) default: Option<PathBuf>,
    /// Files that it holds open.
    pub(super) files: Vec<PathBuf>,
    /// Directories in which it holds files open.
    pub(super) directories: Vec<PathBuf>,
    /// Where it writes its number.
    pub(super) pid_file: Option<PathBuf>,
    /// Nodes that it talks to.
    pub(super) nodes: Vec<String>,
}

/// A process that should not be there.
#[derive(Debug)]
pub(super) struct Seen {
    /// None: it is another user's, and shows only in the kernel's tables.
    id: Option<u32>,
    name: String,
    why: String,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "process {id} ({}) {}", self.name, self.why),
            None => write!(f, "a process of another user {}", self.why),
        }
    }
}

impl Watch {
    /// Every process that gives itself away.
    pub(super) fn look(&self) -> Vec<Seen> {
        let files = files_of(&self.files, &self.directories);
        let mut sockets = self.sockets();
        let mut seen = Vec::new();
        for process in processes().filter(|process| process.id != std::process::id()) {
            if let Some(why) = self.why(&process, &files, &mut sockets) {
                seen.push(Seen { id: Some(process.id), name: process.name, why });
            }
        }
        // What no visible process holds belongs to somebody all the same.
        seen.extend(sockets.into_iter().map(|(_, node)| Seen {
            id: None,
            name: String::new(),
            why: format!("is connected to the node {node}"),
        }));
        seen
    }

    fn why(
        &self,
        process: &Process,
        files: &HashMap<FileId, PathBuf>,
        sockets: &mut Vec<(String, String)>,
    ) -> Option<String> {
        if let Some(path) = self.pid_file.as_deref().filter(|path| number_in(path) == Some(process.id)) {
            return Some(format!("is the one in {}", path.display()));
        }
        if let Some(path) = self.names(process) {
            return Some(format!("was started with {}", path.display()));
        }
        // Asked for each process, so it is read once for both questions.
        let open: Vec<Open> = process.open_files().collect();
        if let Some(path) = open.iter().find_map(|open| open.id.and_then(|id| files.get(&id))) {
            return Some(format!("holds {}", path.display()));
        }
        // By its path too: one that was removed since, or lies beyond the bounds of what was looked at.
        if let Some(open) = open.iter().find(|open| self.holds(&open.path)) {
            return Some(format!("holds {}", open.path.display()));
        }
        let held = |inode: &str| open.iter().any(|open| open.path.as_os_str() == format!("socket:[{inode}]").as_str());
        let (mine, others) = std::mem::take(sockets).into_iter().partition(|(inode, _)| held(inode));
        *sockets = others;
        let mine: Vec<(String, String)> = mine;
        mine.first().map(|(_, node)| format!("is connected to the node {node}"))
    }

    /// What of ours its command line names, if it is a signer or node at work.
    fn names(&self, process: &Process) -> Option<PathBuf> {
        if !process.words.iter().any(|word| word == "start") || !self.is_program(process) {
            return None;
        }
        let cwd = process.link("cwd");
        let ours: Vec<(PathBuf, Option<FileId>)> =
            self.named.iter().map(|path| (real(path), FileId::of(path))).collect();
        let named = process.words.iter().skip(1).find_map(|word| {
            let word = word.rsplit_once('=').map_or(word.as_str(), |(_, path)| path);
            let word = Path::new(word.strip_prefix("-c").unwrap_or(word));
            let path = real(&cwd.as_ref().map_or_else(|| word.to_owned(), |cwd| cwd.join(word)));
            // In a container another path leads to it.
            let there = FileId::of(&process.meant(word));
            ours.iter().find(|(our, id)| *our == path || (there.is_some() && there == *id)).map(|(our, _)| our.clone())
        });
        named.or_else(|| {
            let says_other =
                process.words.iter().any(|word| ["-c", "--config", "--home"].iter().any(|flag| word.starts_with(flag)));
            let default = self.default.as_ref().filter(|_| !says_other)?;
            let name = Path::new(default.file_name()?);
            let here = cwd?.join(name);
            let there = FileId::of(&process.meant(name));
            let is_ours = real(&here) == real(default) || (there.is_some() && there == FileId::of(default));
            is_ours.then_some(here)
        })
    }

    fn is_program(&self, process: &Process) -> bool {
        let file = process.words.first().map(Path::new).and_then(Path::file_name);
        self.programs.is_empty()
            || self.programs.iter().any(|name| process.name == *name || file.is_some_and(|file| file == *name))
    }

    fn holds(&self, path: &Path) -> bool {
        self.files.iter().any(|file| real(file) == *path)
            || self.directories.iter().any(|directory| path.starts_with(real(directory)))
    }

    /// Connections to the nodes: number of the socket, and which node.
    fn sockets(&self) -> Vec<(String, String)> {
        let nodes: Vec<(SocketAddr, &String)> = self
            .nodes
            .iter()
            .flat_map(|node| addresses(node).into_iter().map(move |address| (address, node)))
            .collect();
        let mut found = Vec::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = std::fs::read_to_string(table).unwrap_or_default();
            for line in text.lines().skip(1).take(SOCKETS_MAX) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (Some(remote), Some(state), Some(inode)) = (fields.get(2), fields.get(3), fields.get(9)) else {
                    continue;
                };
                let Some(remote) = address(remote).filter(|_| *state == ESTABLISHED) else { continue };
                if let Some((_, node)) = nodes.iter().find(|(address, _)| *address == remote) {
                    found.push(((*inode).to_owned(), (*node).clone()));
                }
            }
        }
        found
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn number_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What a node's address can be without asking a name server.
fn addresses(node: &str) -> Vec<SocketAddr> {
    let rest = node.strip_prefix("tcp://").unwrap_or(node);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    match rest.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        Some(port) => {
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| (ip, port).into()).to_vec()
        }
        None => rest.parse().into_iter().collect(),
    }
}

/// An address as the kernel's table has it: words of hex digits in the host's order, a colon, the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_of_the_kernel_is_read() {
        for (text, expected) in [
            ("0100007F:6823", Some("127.0.0.1:26659")),
            ("0000000000000000FFFF00000100007F:6823", Some("127.0.0.1:26659")),
            ("00000000000000000000000001000000:0001", Some("[::1]:1")),
            ("0100007F", None),
            ("xx00007F:6823", None),
            ("01:6823", None),
        ] {
            assert_eq!(address(text), expected.map(|text| text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_node_by_name_is_not_looked_up_but_this_host_is_known() {
        assert_eq!(addresses("tcp://node.example.org:26659"), []);
        assert_eq!(addresses("tcp://localhost:1"), ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]);
        assert_eq!(addresses("tcp://[::1]:26659"), ["[::1]:26659".parse().unwrap()]);
        assert_eq!(addresses("unix:///x"), []);
    }
}
