//! What no signer can beat on this machine: the disk's own sync, and one signature over a loopback connection.

use semel_kms::core::secret::{Opener, Sealer};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// 512 bytes in place and an `fdatasync`, `count` times; nanoseconds each.
pub(crate) fn disk(directory: &Path, count: usize) -> io::Result<Vec<u64>> {
    let path = directory.join("floor");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
    file.write_all_at(&vec![0; 1 << 20], 0)?;
    file.sync_all()?;
    let record = [0xa5; 512];
    let mut times = Vec::with_capacity(count);
    for index in 0..count {
        let start = Instant::now();
        file.write_all_at(&record, (index % 2048 * 512) as u64)?;
        file.sync_data()?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

/// One sealed frame there, one Ed25519 signature, one sealed frame back, over loopback, from one core to another as between
/// two programs; nanoseconds each.
pub(crate) fn loopback(count: usize) -> io::Result<Vec<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (here, there) = two_cores()?;
    let signer = std::thread::spawn(move || -> io::Result<()> {
        stay_on(there)?;
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let (mut sealer, mut opener) = (Sealer::new([1; 32]), Opener::new([2; 32]));
        let mut reply = Vec::new();
        for _ in 0..count {
            let request = receive(&mut far, &mut opener)?;
            let signature = ed25519_dalek::Signer::sign(&key, &request).to_bytes();
            send(&mut far, &mut sealer, &signature, &mut reply)?;
        }
        Ok(())
    });
    let (mut sealer, mut opener) = (Sealer::new([2; 32]), Opener::new([1; 32]));
    let mut buffer = Vec::new();
    let mut times = Vec::with_capacity(count);
    let anywhere = rustix::thread::sched_getaffinity(None)?;
    stay_on(here)?;
    for _ in 0..count {
        let start = Instant::now();
        send(&mut near, &mut sealer, &[0x5a; 130], &mut buffer)?;
        receive(&mut near, &mut opener)?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    rustix::thread::sched_setaffinity(None, &anywhere)?;
    signer.join().map_err(|_| io::Error::other("the far side of the loopback ended early"))??;
    Ok(times)
}

/// The first two cores that this process may use; twice the same where there is one.
fn two_cores() -> io::Result<(usize, usize)> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = cores.next().unwrap_or_default();
    Ok((first, cores.next().unwrap_or(first)))
}

fn stay_on(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn send(stream: &mut TcpStream, sealer: &mut Sealer, message: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    sealer.seal(message, buffer).map_err(io::Error::other)?;
    stream.write_all(buffer)
}

fn receive(stream: &mut TcpStream, opener: &mut Opener) -> io::Result<Vec<u8>> {
    let mut frame = [0; 1044];
    stream.read_exact(&mut frame)?;
    let mut message = Vec::new();
    opener.push(&frame, &mut message).map_err(io::Error::other)?;
    Ok(message)
}
