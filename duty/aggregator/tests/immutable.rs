//! Digests and Merkle root of real immutable files, against a real certificate and the published client library's digester.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use mithril_common::entities::ProtocolMessagePartKey;
use mithril_common::messages::{CardanoDatabaseDigestListItemMessage, CertificateMessage};
use semel_aggregator::host::immutable::{
    CachePolicy, CachedDigest, DigestCache, Digester, ImmutableError, ImmutableFiles, MemoryCache, Progress,
    merkle_root,
};
use semel_ops::shutdown::{Stop, StopReason};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

fn data(below: &str, test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(below);
    if path.exists() {
        return Some(path);
    }
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: {below} is absent").unwrap();
    }
    None
}

#[test]
fn the_digests_archive_of_preprod_gives_the_root_and_the_message_of_its_certificate() {
    let Some(data) = data("mithril/preprod-v2", "immutable::preprod") else { return };
    let certificate: CertificateMessage =
        serde_json::from_slice(&fs::read(data.join("cardano_database_certificate.json")).unwrap()).unwrap();
    let packed = fs::File::open(data.join("digests.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
    let mut text = String::new();
    archive.entries().unwrap().next().unwrap().unwrap().read_to_string(&mut text).unwrap();
    let list: Vec<CardanoDatabaseDigestListItemMessage> = serde_json::from_str(&text).unwrap();
    assert_eq!(list.len(), 3 * 5811);

    let root = merkle_root(list.iter().map(|item| item.digest.clone())).unwrap();
    let part = &ProtocolMessagePartKey::CardanoDatabaseMerkleRoot;
    assert_eq!(certificate.protocol_message.get_message_part(part), Some(&root));
    assert_eq!(certificate.protocol_message.compute_hash(), certificate.signed_message);

    let mut other = list;
    other.swap(0, 1);
    assert_ne!(merkle_root(other.into_iter().map(|item| item.digest)).unwrap(), root);
}

#[test]
fn digests_of_the_preview_chain_are_those_of_its_files_and_the_second_time_nothing_is_read() {
    let Some(db) = data("cardano/preview", "immutable::preview") else { return };
    let files = ImmutableFiles::list(&db).unwrap();
    let last = files.last_complete().unwrap();
    assert_eq!(last, 218);
    let (cache, stop, seen) = (MemoryCache::default(), Stop::new(), Mutex::new(Vec::<Progress>::new()));
    let digester = Digester { cache: &cache, policy: CachePolicy::Use, stop: &stop };
    let first = digester.digests(&files, last, &|at| seen.lock().unwrap().push(at)).unwrap();
    assert_eq!((first.entries.len(), first.computed), (3 * 219, 3 * 219));
    for (name, digest) in &first.entries {
        assert_eq!(Sha256::digest(fs::read(files.directory().join(name)).unwrap()).as_slice(), digest, "{name}");
    }
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted_by_key(|at| at.done));
    assert_eq!(seen.last(), Some(&Progress { done: 657, total: 657, computed: 657 }));

    let second = digester.digests(&files, last, &|_| {}).unwrap();
    assert_eq!((second.computed, &second.entries), (0, &first.entries));
    assert_eq!(second.merkle_root().unwrap(), first.merkle_root().unwrap());
    let earlier = digester.digests(&files, last - 1, &|_| {}).unwrap();
    assert_ne!(earlier.merkle_root().unwrap(), first.merkle_root().unwrap());
}

fn small_db(trios: u64) -> tempfile::TempDir {
    let db = tempfile::tempdir().unwrap();
    fs::create_dir(db.path().join("immutable")).unwrap();
    for number in 0..trios {
        for name in semel_aggregator::host::immutable::trio(number) {
            fs::write(db.path().join("immutable").join(&name), format!("content of {name}")).unwrap();
        }
    }
    db
}

#[test]
fn a_file_that_was_replaced_is_read_again_and_only_that_one() {
    let db = small_db(4);
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let digester = Digester { cache: &cache, policy: CachePolicy::Use, stop: &stop };
    let files = ImmutableFiles::list(db.path()).unwrap();
    let before = digester.digests(&files, 2, &|_| {}).unwrap();
    fs::write(db.path().join("immutable/00001.chunk"), "another content").unwrap();
    let after = digester.digests(&files, 2, &|_| {}).unwrap();
    assert_eq!(after.computed, 1);
    assert_eq!(after.entries[3].1.as_slice(), Sha256::digest("another content").as_slice());
    assert_ne!(after.merkle_root().unwrap(), before.merkle_root().unwrap());
}

#[test]
fn a_digest_without_a_stamp_is_believed_once_and_stamped() {
    let db = small_db(3);
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let imported = CachedDigest { digest: [7; 32], stamp: None };
    cache.put(&[("00000.chunk".to_owned(), imported)]).unwrap();
    let digester = Digester { cache: &cache, policy: CachePolicy::Use, stop: &stop };
    let files = ImmutableFiles::list(db.path()).unwrap();
    let digests = digester.digests(&files, 1, &|_| {}).unwrap();
    assert_eq!((digests.computed, digests.entries[0].1), (5, [7; 32]));
    fs::write(db.path().join("immutable/00000.chunk"), "it moved").unwrap();
    assert_eq!(digester.digests(&files, 1, &|_| {}).unwrap().computed, 1);
}

#[test]
fn reset_forgets_and_off_neither_reads_nor_writes() {
    let db = small_db(3);
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let wrong = CachedDigest { digest: [7; 32], stamp: None };
    cache.put(&[("00000.chunk".to_owned(), wrong)]).unwrap();
    let files = ImmutableFiles::list(db.path()).unwrap();
    let with = |policy| Digester { cache: &cache, policy, stop: &stop }.digests(&files, 1, &|_| {}).unwrap();
    let right = with(CachePolicy::Off);
    assert_eq!(right.computed, 6);
    let name = ["00000.chunk".to_owned(), "00001.chunk".to_owned()];
    assert_eq!(cache.get(&name).unwrap().into_iter().collect::<Vec<_>>(), [(name[0].clone(), wrong)]);
    assert_eq!(with(CachePolicy::Reset).entries, right.entries);
    assert_eq!(with(CachePolicy::Use).computed, 0);
}

#[test]
fn a_pulled_stop_ends_it_and_a_missing_file_is_named() {
    let db = small_db(5);
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let digester = Digester { cache: &cache, policy: CachePolicy::Use, stop: &stop };
    let files = ImmutableFiles::list(db.path()).unwrap();
    // It vanishes between the listing and the reading.
    fs::remove_file(db.path().join("immutable/00002.primary")).unwrap();
    match digester.digests(&files, 3, &|_| {}) {
        Err(ImmutableError::Missing(path)) => assert!(path.ends_with("immutable/00002.primary")),
        other => panic!("{other:?}"),
    }
    stop.stop(StopReason::Asked);
    assert!(matches!(digester.digests(&files, 1, &|_| {}), Err(ImmutableError::Stopped)));
}
