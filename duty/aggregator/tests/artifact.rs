//! The Cardano database artifact from real files: what is in it, and what happens when the disk is full or the process dies.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use mithril_common::crypto_helper::{ManifestSignature, ManifestVerifier};
use mithril_common::entities::{
    AncillaryLocation, CardanoDatabaseSnapshot, CardanoDbBeacon, CardanoNetwork, DigestLocation, ImmutablesLocation,
};
use mithril_common::messages::CardanoDatabaseDigestListItemMessage;
use semel_aggregator::host::artifact::{
    Algorithm, ArtifactError, Compression, DatabaseMaker, Layout, LocalUploader, ManifestSigner, ManifestSigningError,
    Part, Step, UploadError, Uploader, unpacked_size,
};
use semel_aggregator::host::immutable::{CachePolicy, Digester, Digests, ImmutableFiles, MemoryCache, trio};
use semel_ops::shutdown::Stop;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const BASE: &str = "http://localhost:8080/aggregator/";

fn preview(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    if path.exists() {
        return Some(path);
    }
    skip(test, "cardano/preview is absent");
    None
}

fn skip(test: &str, why: &str) {
    if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: {why}").unwrap();
    }
}

/// An Ed25519 key that signs as the guard does.
#[derive(Debug)]
struct Secret(SigningKey, VerifyingKey);

impl Secret {
    fn new() -> Secret {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key();
        Secret(key, public)
    }
}

impl ManifestSigner for Secret {
    fn verification_key(&self) -> &VerifyingKey {
        &self.1
    }

    fn sign(&self, files: &[(&str, [u8; 32])]) -> Result<[u8; 64], ManifestSigningError> {
        let text: String = files.iter().map(|(path, hash)| format!("{path}{}", hex::encode(hash))).collect();
        Ok(self.0.sign(&Sha256::digest(text)).to_bytes())
    }
}

/// A database of the first `trios` real trios and a made-up ledger of the in-memory backend.
fn database(at: &Path, from: &Path, trios: u64) {
    fs::create_dir_all(at.join("immutable")).unwrap();
    for name in (0..trios).flat_map(trio) {
        fs::copy(from.join(&name), at.join("immutable").join(&name)).unwrap();
    }
    for (slot, state) in [("4000", "older"), ("4321", "newest")] {
        let ledger = at.join("ledger").join(slot);
        fs::create_dir_all(&ledger).unwrap();
        fs::write(ledger.join("meta"), r#"{"backend":"utxohd-mem"}"#).unwrap();
        fs::write(ledger.join("state"), state.repeat(10_000)).unwrap();
        fs::write(ledger.join("tables"), state).unwrap();
    }
}

fn maker(db: &Path, snapshots: &Path) -> DatabaseMaker {
    DatabaseMaker {
        db: db.to_path_buf(),
        network: CardanoNetwork::TestNet(2),
        node_version: "10.7.1".to_owned(),
        compression: Compression { level: 3, workers: 2, ..Compression::default() },
        layout: Layout::open(snapshots).unwrap(),
        manifest: Arc::new(Secret::new()),
        uploaders: vec![Arc::new(LocalUploader::new(BASE))],
        digests_route: format!("{BASE}artifact/cardano-database/digests"),
    }
}

fn digests(db: &Path, last: u64) -> Digests {
    let (cache, stop) = (MemoryCache::default(), Stop::new());
    let files = ImmutableFiles::list(db).unwrap();
    Digester { cache: &cache, policy: CachePolicy::Off, stop: &stop }.digests(&files, last, &|_| {}).unwrap()
}

fn make(
    maker: &DatabaseMaker,
    last: u64,
    step: &(dyn Fn(Step) + Sync),
) -> Result<CardanoDatabaseSnapshot, ArtifactError> {
    let digests = digests(&maker.db, last);
    let root = digests.merkle_root().unwrap();
    maker.make(&CardanoDbBeacon::new(3, last), &root, &digests, &Stop::new(), step)
}

/// Name and content of every entry.
fn unpack(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    });
    entries.collect()
}

/// Everything a client would check, without its downloads.
fn check(maker: &DatabaseMaker, artifact: &CardanoDatabaseSnapshot, last: u64) {
    let in_db = |name: &str| fs::read(maker.db.join(name)).unwrap();
    let directory = |part| maker.layout.directory(part);
    for number in 0..=last {
        let entries = unpack(&directory(Part::Immutable).join(format!("{number:05}.tar.zst")));
        let expected = trio(number).map(|name| format!("immutable/{name}"));
        assert_eq!(entries.keys().cloned().collect::<Vec<_>>(), expected);
        assert!(entries.iter().all(|(name, content)| *content == in_db(name)));
    }
    let total: u64 = (1..=last).flat_map(trio).map(|name| in_db(&format!("immutable/{name}")).len() as u64).sum();
    assert_eq!(artifact.immutables.average_size_uncompressed, total / last);
    assert_eq!(artifact.total_db_size_uncompressed, total + artifact.ancillary.size_uncompressed);
    check_ancillary(maker, artifact, last);
    check_digests(maker, artifact, last);
    let left: Vec<_> = Part::ALL.iter().flat_map(|part| fs::read_dir(directory(*part)).unwrap()).collect();
    assert_eq!(left.len() as u64, last + 3);
    let ImmutablesLocation::CloudStorage { uri, .. } = &artifact.immutables.locations[0] else { panic!() };
    let uri = uri.expand_for_immutable_file_number(3).0;
    assert_eq!(uri, format!("{BASE}cardano-database-download/immutable/00003.tar.zst"));
}

fn check_ancillary(maker: &DatabaseMaker, artifact: &CardanoDatabaseSnapshot, last: u64) {
    let name = format!("preview-e3-i{last}.ancillary.tar.zst");
    let mut entries = unpack(&maker.layout.directory(Part::Ancillary).join(&name));
    assert_eq!(artifact.ancillary.size_uncompressed, entries.values().map(|content| content.len() as u64).sum::<u64>());
    let manifest: serde_json::Value =
        serde_json::from_slice(&entries.remove("ancillary_manifest.json").unwrap()).unwrap();
    let mut expected: Vec<String> = trio(last + 1).map(|name| format!("immutable/{name}")).into();
    expected.extend(["meta", "state", "tables"].map(|name| format!("ledger/4321/{name}")));
    assert_eq!(entries.keys().cloned().collect::<Vec<_>>(), expected);
    let mut signed = Sha256::new();
    for (path, content) in &entries {
        assert_eq!(manifest["data"][path], hex::encode(Sha256::digest(content)), "{path}");
        signed.update(path);
        signed.update(manifest["data"][path].as_str().unwrap());
    }
    assert_eq!(manifest["data"].as_object().unwrap().len(), entries.len());
    let signature = ManifestSignature::try_from(manifest["signature"].as_str().unwrap()).unwrap();
    let verifier = ManifestVerifier::from_verification_key((*maker.manifest.verification_key()).into());
    verifier.verify(&signed.finalize(), &signature).unwrap();
    let AncillaryLocation::CloudStorage { uri, .. } = &artifact.ancillary.locations[0] else { panic!() };
    assert_eq!(*uri, format!("{BASE}cardano-database-download/ancillary/{name}"));
}

fn check_digests(maker: &DatabaseMaker, artifact: &CardanoDatabaseSnapshot, last: u64) {
    let stem = format!("preview-e3-i{last}.digests");
    let entries = unpack(&maker.layout.directory(Part::Digests).join(format!("{stem}.tar.zst")));
    let (name, list) = entries.iter().next().unwrap();
    assert_eq!(
        (name.as_str(), list.len() as u64),
        (format!("{stem}.json").as_str(), artifact.digests.size_uncompressed)
    );
    let list: Vec<CardanoDatabaseDigestListItemMessage> = serde_json::from_slice(list).unwrap();
    let root = semel_aggregator::host::immutable::merkle_root(list.into_iter().map(|item| item.digest)).unwrap();
    assert_eq!(root, artifact.merkle_root);
    let types: Vec<_> =
        artifact.digests.locations.iter().map(|l| matches!(l, DigestLocation::CloudStorage { .. })).collect();
    assert_eq!(types, [true, false]);
}

#[test]
fn an_artifact_of_real_files_holds_them_and_says_so() {
    let Some(from) = preview("artifact::whole") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 12);
    let maker = maker(db.path(), snapshots.path());
    let artifact = make(&maker, 10, &|_| {}).unwrap();
    check(&maker, &artifact, 10);
    assert_eq!(
        artifact.hash,
        hex::encode(Sha256::digest([&3u64.to_be_bytes(), artifact.merkle_root.as_bytes()].concat()))
    );
    // The shape of a real one.
    let real = from.join("../../../mithril/preprod-v2/cardano_database_detail.json");
    let real: serde_json::Value = serde_json::from_slice(&fs::read(real).unwrap()).unwrap();
    let ours = serde_json::to_value(&artifact).unwrap();
    for part in ["digests", "immutables", "ancillary"] {
        assert!(ours[part].as_object().unwrap().keys().eq(real[part].as_object().unwrap().keys()));
        assert!(
            ours[part]["locations"][0]
                .as_object()
                .unwrap()
                .keys()
                .eq(real[part]["locations"][0].as_object().unwrap().keys())
        );
    }

    // Another beacon makes only what is new.
    fs::copy(from.join("00012.chunk"), db.path().join("immutable/00012.chunk")).unwrap();
    fs::copy(from.join("00012.primary"), db.path().join("immutable/00012.primary")).unwrap();
    fs::copy(from.join("00012.secondary"), db.path().join("immutable/00012.secondary")).unwrap();
    let made = Mutex::new(Vec::new());
    make(&maker, 11, &|step| made.lock().unwrap().push(step)).unwrap();
    let made = made.into_inner().unwrap();
    let immutables = made.iter().filter(|step| matches!(step, Step::Packed(Part::Immutable, _)));
    assert_eq!(immutables.collect::<Vec<_>>(), [&Step::Packed(Part::Immutable, "00011.tar.zst".to_owned())]);
}

#[test]
fn a_file_that_is_not_what_was_certified_is_not_packed() {
    let Some(from) = preview("artifact::not_certified") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 5);
    let maker = maker(db.path(), snapshots.path());
    let digests = digests(db.path(), 3);
    let root = digests.merkle_root().unwrap();
    let mut chunk = fs::read(db.path().join("immutable/00002.chunk")).unwrap();
    chunk[100] ^= 1;
    fs::write(db.path().join("immutable/00002.chunk"), chunk).unwrap();
    let beacon = CardanoDbBeacon::new(3, 3);
    match maker.make(&beacon, &root, &digests, &Stop::new(), &|_| {}) {
        Err(ArtifactError::NotCertified(path)) => assert!(path.ends_with("immutable/00002.chunk")),
        other => panic!("{other:?}"),
    }
    assert!(!maker.layout.directory(Part::Immutable).join("00002.tar.zst").exists());
    assert!(!maker.layout.directory(Part::Immutable).join("00002.tar.zst.tmp").exists());
    let other = maker.make(&beacon, &"0".repeat(64), &digests, &Stop::new(), &|_| {});
    assert!(matches!(other, Err(ArtifactError::OtherRoot { .. })));
}

#[test]
fn a_manifest_key_that_is_not_the_configured_one_makes_no_artifact() {
    #[derive(Debug)]
    struct Other(VerifyingKey);
    impl ManifestSigner for Other {
        fn verification_key(&self) -> &VerifyingKey {
            &self.0
        }
        fn sign(&self, files: &[(&str, [u8; 32])]) -> Result<[u8; 64], ManifestSigningError> {
            Secret::new().sign(files)
        }
    }
    let Some(from) = preview("artifact::wrong_key") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 3);
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let maker = DatabaseMaker { manifest: Arc::new(Other(other)), ..maker(db.path(), snapshots.path()) };
    assert!(matches!(make(&maker, 1, &|_| {}), Err(ArtifactError::Signing(_))));
    assert_eq!(fs::read_dir(maker.layout.directory(Part::Ancillary)).unwrap().count(), 0);
}

#[test]
fn the_growing_trio_is_packed_as_its_manifest_says_while_the_node_writes_into_it() {
    let Some(from) = preview("artifact::growing") else { return };
    let db = tempfile::tempdir().unwrap();
    database(db.path(), &from, 5);
    let growing = db.path().join("immutable/00004.chunk");
    let before = fs::metadata(&growing).unwrap().len();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&growing).unwrap();
            // Slowly and not for ever: this disk is everybody's.
            for _ in 0..4_000 {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                file.write_all(&[7; 999]).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        for _ in 0..10 {
            let snapshots = tempfile::tempdir().unwrap();
            let maker = maker(db.path(), snapshots.path());
            let artifact = make(&maker, 3, &|_| {}).unwrap();
            check(&maker, &artifact, 3);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(fs::metadata(&growing).unwrap().len() > before);
}

#[test]
fn gzip_is_named_in_the_text_and_in_the_names_of_its_archives_and_can_be_resumed() {
    let Some(from) = preview("artifact::gzip") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 3);
    let compression = Compression { algorithm: Algorithm::Gzip, ..Compression::default() };
    let maker = DatabaseMaker { compression, ..maker(db.path(), snapshots.path()) };
    let artifact = make(&maker, 1, &|_| {}).unwrap();
    assert_eq!(make(&maker, 1, &|step| assert!(!matches!(step, Step::Packed(..)))).unwrap(), artifact);
    let text = maker.json(&artifact).unwrap().to_string();
    assert_eq!(
        (text.matches("\"gzip\"").count(), text.matches(".tar.gz\"").count(), text.contains("zst")),
        (3, 3, false)
    );
    let packed = fs::File::open(maker.layout.directory(Part::Immutable).join("00001.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut chunk = Vec::new();
    archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut chunk).unwrap();
    assert_eq!(chunk, fs::read(from.join("00001.chunk")).unwrap());
    let usual = DatabaseMaker { compression: Compression::default(), ..maker };
    assert_eq!(usual.json(&artifact).unwrap(), serde_json::to_value(&artifact).unwrap());
}

#[test]
fn a_network_of_ones_own_is_called_private_and_a_node_that_has_no_version_is_refused() {
    let Some(from) = preview("artifact::private") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 3);
    let mut maker = DatabaseMaker { network: CardanoNetwork::TestNet(123), ..maker(db.path(), snapshots.path()) };
    make(&maker, 1, &|_| {}).unwrap();
    assert!(maker.layout.directory(Part::Digests).join("private-e3-i1.digests.tar.zst").exists());
    maker.node_version = "latest".to_owned();
    assert!(matches!(make(&maker, 1, &|_| {}), Err(ArtifactError::NodeVersion(version)) if version == "latest"));
}

#[test]
fn a_node_whose_ledger_is_not_in_memory_has_no_artifact_and_is_told_why() {
    let Some(from) = preview("artifact::lmdb") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 3);
    for slot in ["4000", "4321"] {
        fs::write(db.path().join("ledger").join(slot).join("meta"), r#"{"backend":"utxohd-lmdb"}"#).unwrap();
    }
    let why = make(&maker(db.path(), snapshots.path()), 1, &|_| {}).unwrap_err();
    assert!(matches!(why, ArtifactError::NoLedger(_)));
    assert!(why.to_string().contains("in-memory backend"), "{why}");
}

/// A file system of its own, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(kib: u32) -> Option<Small> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory.path()).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then_some(Small(directory))
    }

    fn resize(&self, kib: u32) {
        let size = format!("remount,size={kib}k");
        assert!(Command::new("mount").args(["-o", &size]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_whole_is_not_made_again() {
    let Some(from) = preview("artifact::disk_full") else { return };
    let Some(disk) = Small::mount(400) else {
        return skip("artifact::disk_full", "no file system can be mounted here");
    };
    let db = tempfile::tempdir().unwrap();
    database(db.path(), &from, 42);
    let maker = maker(db.path(), disk.0.path());
    let made = Mutex::new(Vec::new());
    let note = |step| {
        if let Step::Packed(_, name) = step {
            made.lock().unwrap().push(name);
        }
    };
    match make(&maker, 40, &note) {
        Err(ArtifactError::DiskFull(path)) => assert!(path.starts_with(disk.0.path())),
        other => panic!("{other:?}"),
    }
    let whole = made.lock().unwrap().len();
    assert!(whole > 1, "the disk was full too early for this test");
    let files = Part::ALL.iter().flat_map(|part| fs::read_dir(maker.layout.directory(*part)).unwrap());
    assert_eq!(files.count(), whole, "something unfinished is left");
    disk.resize(20_000);
    let artifact = make(&maker, 40, &note).unwrap();
    let made = made.into_inner().unwrap();
    let mut distinct = made.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((made.len(), distinct.len()), (43, 43), "something was made twice");
    check(&maker, &artifact, 40);
}

const CHILD: &str = "SEMEL_TEST_ARTIFACT_CHILD";

/// What a process does that is there to be killed. It dies at the step whose number it is given; 0: at none.
fn child(arguments: &str) {
    let mut arguments = arguments.split('|');
    let mut next = || arguments.next().unwrap().to_owned();
    let (db, snapshots, dies_at) = (next(), next(), next().parse::<u64>().unwrap());
    let steps = AtomicU64::new(0);
    let step = |_| {
        if steps.fetch_add(1, Ordering::SeqCst) + 1 == dies_at {
            std::process::abort();
        }
    };
    make(&maker(Path::new(&db), Path::new(&snapshots)), 3, &step).unwrap();
}

fn start_child(db: &Path, snapshots: &Path, dies_at: u64) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dying_at_any_step_leaves_nothing_half_and_the_next_start_goes_on"])
        .env(CHILD, format!("{}|{}|{dies_at}", db.display(), snapshots.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn dying_at_any_step_leaves_nothing_half_and_the_next_start_goes_on() {
    if let Ok(arguments) = std::env::var(CHILD) {
        return child(&arguments);
    }
    let Some(from) = preview("artifact::dying") else { return };
    let db = tempfile::tempdir().unwrap();
    database(db.path(), &from, 5);
    let mut deaths = 0;
    for dies_at in 1.. {
        let snapshots = tempfile::tempdir().unwrap();
        let ended = start_child(db.path(), snapshots.path(), dies_at).wait().unwrap();
        let maker = maker(db.path(), snapshots.path());
        for part in Part::ALL {
            for entry in fs::read_dir(maker.layout.directory(part)).unwrap() {
                unpacked_size(&entry.unwrap().path(), Algorithm::Zstandard, &Stop::new()).unwrap();
            }
        }
        let artifact = make(&maker, 3, &|_| {}).unwrap();
        check(&maker, &artifact, 3);
        if ended.success() {
            break;
        }
        deaths += 1;
    }
    // Begun, in place and uploaded: ancillary, four immutables (uploaded together), digests.
    assert_eq!(deaths, 15);
}

#[test]
fn killing_it_at_any_time_leaves_nothing_half_and_repeated_starts_arrive() {
    let Some(from) = preview("artifact::killing") else { return };
    let db = tempfile::tempdir().unwrap();
    database(db.path(), &from, 5);
    let snapshots = tempfile::tempdir().unwrap();
    for milliseconds in (1..).step_by(2) {
        let mut child = start_child(db.path(), snapshots.path(), 0);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            break;
        }
    }
    let maker = maker(db.path(), snapshots.path());
    let artifact = make(&maker, 3, &|step| assert!(!matches!(step, Step::Packed(..)), "{step:?} again")).unwrap();
    check(&maker, &artifact, 3);
}

#[derive(Debug)]
struct Refusing;

impl Uploader for Refusing {
    fn name(&self) -> String {
        "refusing".to_owned()
    }

    fn uri(&self, _: Part, file_name: &str) -> String {
        file_name.to_owned()
    }

    fn upload(&self, _: Part, _: &[PathBuf], _: &Stop) -> Result<(), UploadError> {
        Err(UploadError::Setting("never".to_owned()))
    }

    fn serves_directory(&self) -> bool {
        false
    }
}

#[test]
fn one_working_uploader_suffices_and_none_is_an_error() {
    let Some(from) = preview("artifact::uploaders") else { return };
    let (db, snapshots) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    database(db.path(), &from, 5);
    let mut maker = maker(db.path(), snapshots.path());
    maker.uploaders.insert(0, Arc::new(Refusing));
    let artifact = make(&maker, 3, &|_| {}).unwrap();
    check(&maker, &artifact, 3);
    assert_eq!(artifact.immutables.locations.len(), 1);
    maker.uploaders.pop();
    assert!(matches!(make(&maker, 3, &|_| {}), Err(ArtifactError::Upload(why)) if why == "refusing: never"));
}
