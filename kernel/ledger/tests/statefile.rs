//! `priv_validator_state.json` in every dialect: what is read, what is refused, what is written, and the file kept in place.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

mod scene;

use semel_guard::{Mark, Step};
use semel_ledger::interchange::{
    BlockId, Dialect, Mirror, MirrorError, StateFile, StateFileError, StateWarning, floor_of,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

const HASH: &str = "26C0A41F3243C6BCD7AD2DFF8A8D83A71D29D307B5326C227F734A1A512FE47D";
const PARTS: &str = "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB";

fn block() -> Option<BlockId> {
    Some(BlockId { hash: hex::decode(HASH).unwrap(), parts_total: 1, parts_hash: hex::decode(PARTS).unwrap() })
}

fn full() -> StateFile {
    StateFile {
        height: 500_001,
        round: 3,
        step: Some(Step::Precommit),
        block_id: block(),
        sign_bytes: Some(vec![0x6e, 0x08, 0x02]),
        signature: Some(vec![7; 64]),
        chain_id: Some("a \"chain\"\\-1".into()),
        pub_key: Some("AB".repeat(32)),
        ..StateFile::default()
    }
}

#[test]
fn every_dialect_is_read() {
    use StateWarning::{AnyVote, OldTmkms, UnclearStep};
    type Row = (&'static str, String, Dialect, [u64; 3], Option<BlockId>, &'static [StateWarning]);
    let object = format!("{{\"hash\":\"{HASH}\",\"parts\":{{\"total\":1,\"hash\":\"{PARTS}\"}}}}");
    let tmkms = |height: &str, round: &str, step: &str, block: &str| {
        format!("{{\"height\":{height},\"round\":{round},\"step\":{step},\"block_id\":{block}}}")
    };
    let rows: Vec<Row> = vec![
        ("tmkms precommit", tmkms("\"500001\"", "\"0\"", "2", &object), Dialect::Tmkms, [500_001, 0, 3], block(), &[]),
        ("tmkms prevote", tmkms("\"7\"", "\"1\"", "1", &object), Dialect::Tmkms, [7, 1, 2], block(), &[]),
        ("tmkms proposal", tmkms("\"7\"", "\"1\"", "0", &object), Dialect::Tmkms, [7, 1, 1], block(), &[]),
        ("numbers", tmkms("7", "1", "2", &object), Dialect::Tmkms, [7, 1, 3], block(), &[]),
        ("step as a string", tmkms("7", "1", "\"2\"", &object), Dialect::Tmkms, [7, 1, 3], block(), &[]),
        ("old proposal", tmkms("7", "0", "3", &object), Dialect::Tmkms, [7, 0, 1], block(), &[OldTmkms]),
        ("old vote", tmkms("7", "0", "6", &object), Dialect::Tmkms, [7, 0, 3], block(), &[OldTmkms, AnyVote]),
        ("a step nobody writes", tmkms("7", "0", "9", &object), Dialect::Tmkms, [7, 0, 3], block(), &[UnclearStep]),
        ("block null", tmkms("\"7\"", "\"0\"", "1", "null"), Dialect::Tmkms, [7, 0, 2], None, &[]),
        ("block {}", tmkms("\"7\"", "\"0\"", "1", "{}"), Dialect::Tmkms, [7, 0, 2], None, &[]),
        (
            "empty hashes",
            tmkms("\"7\"", "\"0\"", "1", "{\"hash\":\"\",\"parts\":{\"total\":0,\"hash\":\"\"}}"),
            Dialect::Tmkms,
            [7, 0, 2],
            None,
            &[],
        ),
        (
            "part_set_header, total as a string, lower case",
            tmkms(
                "\"7\"",
                "\"0\"",
                "1",
                &object.to_lowercase().replace("parts", "part_set_header").replace(":1,", ":\"1\","),
            ),
            Dialect::Tmkms,
            [7, 0, 2],
            block(),
            &[],
        ),
        (
            "padding and keys that are not known",
            format!("  {{\"x\":[1,{{}}],\"height\":\"7\",\"round\":\"0\",\"step\":0,\"block_id\":null}}{}\n\0\0", " ".repeat(900)),
            Dialect::Tmkms,
            [7, 0, 1],
            None,
            &[],
        ),
        (
            "no block_id: the later reading counts",
            "{\"height\":\"7\",\"round\":\"2\",\"step\":1}".into(),
            Dialect::Tmkms,
            [7, 2, 3],
            None,
            &[UnclearStep],
        ),
        (
            "CometBFT",
            "{\n  \"height\": \"42\",\n  \"round\": 1,\n  \"step\": 2,\n  \"signature\": \"AQI=\",\n  \"signbytes\": \"0AFF\"\n}".into(),
            Dialect::FilePv,
            [42, 1, 2],
            None,
            &[],
        ),
        ("CometBFT, unsigned", "{\"height\":\"42\",\"round\":1,\"step\":3}".into(), Dialect::FilePv, [42, 1, 3], None, &[]),
        (
            "CometBFT, a height without a step",
            "{\"height\":\"42\",\"round\":1,\"step\":0}".into(),
            Dialect::FilePv,
            [42, 1, 3],
            None,
            &[UnclearStep],
        ),
        (
            "horcrux",
            "{\"height\":\"42\",\"round\":\"1\",\"step\":3,\"nonce_public\":null,\"signature\":\"AQI=\",\"signbytes\":\"0A\",\
             \"vote_ext_signature\":null}"
                .into(),
            Dialect::Horcrux,
            [42, 1, 3],
            None,
            &[],
        ),
        (
            "every round",
            tmkms("\"7\"", "\"2147483647\"", "2", "null"),
            Dialect::Tmkms,
            [8, 0, 0],
            None,
            &[],
        ),
    ];
    for (name, text, dialect, floor, block, warnings) in rows {
        let state = StateFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(floor_of(&state), Some(Mark(floor)), "{name}");
        assert_eq!(state.dialect, dialect, "{name}");
        assert_eq!(state.block_id, block, "{name}");
        assert_eq!(state.warnings, warnings, "{name}");
    }
}

#[test]
fn a_state_at_height_0_says_that_nothing_was_signed() {
    for text in [
        "{\"height\":\"0\",\"round\":\"0\",\"step\":0,\"block_id\":null}",
        "{\"height\":\"0\",\"round\":0,\"step\":0}",
        "{\"height\":\"0\",\"round\":\"0\",\"step\":0}",
        "{\"height\":0,\"round\":0,\"step\":0,\"block_id\":{}}",
    ] {
        let state = StateFile::parse(text.as_bytes()).unwrap();
        assert_eq!((floor_of(&state), state.step, state.warnings), (None, None, vec![]), "{text}");
    }
}

#[test]
fn what_is_no_state_is_refused_with_its_code() {
    let with = |height: &str, round: &str, step: &str| {
        format!("{{\"height\":{height},\"round\":{round},\"step\":{step},\"block_id\":null}}")
    };
    let block = |block: &str| format!("{{\"height\":\"1\",\"round\":\"0\",\"step\":0,\"block_id\":{block}}}");
    let rows: Vec<(&str, String)> = vec![
        ("STATE-0001", String::new()),
        ("STATE-0001", " \n\0\0\0".into()),
        ("STATE-0002", "{".into()),
        ("STATE-0002", "{\"height\":\"5".into()),
        ("STATE-0002", "{\"height\":\"5\",\"round\":\"0\",\"step\":0,\"block_id\":{\"hash\"".into()),
        ("STATE-0003", "height = 5".into()),
        ("STATE-0003", "[]".into()),
        ("STATE-0003", "\u{feff}{}".into()),
        ("STATE-0003", "{}{}".into()),
        ("STATE-0003", "{\"height\":\"1\",\"height\":\"2\",\"round\":\"0\",\"step\":0,\"block_id\":null}".into()),
        ("STATE-0003", format!("{{\"height\":{}1{},\"round\":0,\"step\":0}}", "[".repeat(200), "]".repeat(200))),
        ("STATE-0004", "{}".into()),
        ("STATE-0004", "{\"height\":\"1\",\"step\":0,\"block_id\":null}".into()),
        ("STATE-0004", with("null", "0", "0")),
        ("STATE-0004", with("1.5", "0", "0")),
        ("STATE-0004", with("1e3", "0", "0")),
        ("STATE-0004", with("\"\"", "0", "0")),
        ("STATE-0004", with("\"0x10\"", "0", "0")),
        ("STATE-0004", with("\"+5\"", "0", "0")),
        ("STATE-0004", with("true", "0", "0")),
        ("STATE-0004", with("\"9223372036854775808\"", "0", "0")),
        ("STATE-0004", with("\"99999999999999999999999\"", "0", "0")),
        ("STATE-0004", block("7")),
        ("STATE-0004", block("{\"hash\":\"ABCD\"}")),
        ("STATE-0004", block("{\"hash\":\"XY\"}")),
        ("STATE-0004", block("{\"hash\":5}")),
        ("STATE-0004", block("{\"parts\":[]}")),
        ("STATE-0004", block("{\"parts\":{\"total\":4294967296}}")),
        ("STATE-0004", "{\"height\":\"1\",\"round\":1,\"step\":1,\"signature\":\"***\"}".into()),
        ("STATE-0004", "{\"height\":\"1\",\"round\":1,\"step\":1,\"signbytes\":\"0\"}".into()),
        ("STATE-0005", with("\"-1\"", "0", "0")),
        ("STATE-0005", with("-1", "0", "0")),
        ("STATE-0005", with("1", "-1", "0")),
        ("STATE-0005", with("1", "0", "-1")),
        ("STATE-0005", block("{\"parts\":{\"total\":-1}}")),
        ("STATE-0006", with("1", "2147483648", "0")),
        ("STATE-0006", with("1", "\"18446744073709551615\"", "0")),
        ("STATE-0007", format!("{{{}", " ".repeat(65_536))),
    ];
    for (code, text) in rows {
        let error = StateFile::parse(text.as_bytes()).expect_err(&text);
        assert_eq!(error.code(), code, "{text}: {error}");
    }
}

#[test]
fn every_beginning_of_a_state_is_refused() {
    let text = full().render(Dialect::Tmkms);
    for end in 0..text.len() {
        StateFile::parse(&text.as_bytes()[..end]).unwrap_err();
    }
}

#[test]
fn the_state_of_another_chain_or_key_is_refused() {
    let state = full();
    let (chain, key) = ("a \"chain\"\\-1", "ab".repeat(32));
    state.check_owner(chain, &key).unwrap();
    for (chain, key) in [("other-1", key.as_str()), (chain, "00")] {
        let error = state.check_owner(chain, key).unwrap_err();
        assert!(matches!(error, StateFileError::Foreign { .. }));
        assert_eq!(error.code(), "STATE-0008");
    }
    // A file of tmkms does not say whose it is.
    StateFile { chain_id: None, pub_key: None, ..state }.check_owner("other-1", "00").unwrap();
}

#[test]
fn what_is_written_is_read_back_the_same() {
    for step in [Step::Propose, Step::Prevote, Step::Precommit] {
        let state = StateFile { step: Some(step), ..full() };
        let read = |dialect| StateFile::parse(state.render(dialect).as_bytes()).unwrap();
        assert_eq!(read(Dialect::Tmkms), state);
        // The block of the other dialects is inside the message.
        let strangers = StateFile { block_id: None, chain_id: None, pub_key: None, ..state.clone() };
        for dialect in [Dialect::FilePv, Dialect::Horcrux] {
            assert_eq!(read(dialect), StateFile { dialect, ..strangers.clone() });
        }
    }
}

#[test]
fn the_written_bytes_are_those_of_the_other_programs() {
    let state = StateFile { chain_id: None, pub_key: None, sign_bytes: None, signature: None, ..full() };
    assert_eq!(
        state.render(Dialect::Tmkms),
        format!(
            "{{\"height\":\"500001\",\"round\":\"3\",\"step\":2,\"block_id\":{{\"hash\":\"{HASH}\",\"parts\":{{\"total\":1,\
             \"hash\":\"{PARTS}\"}}}}}}"
        )
    );
    assert_eq!(state.render(Dialect::FilePv), "{\"height\":\"500001\",\"round\":3,\"step\":3}");
    assert_eq!(
        full().render(Dialect::Horcrux),
        format!(
            "{{\"height\":\"500001\",\"round\":\"3\",\"step\":3,\"nonce_public\":null,\"signature\":\"{}==\",\
             \"signbytes\":\"6E0802\"}}",
            "BwcH".repeat(21) + "Bw"
        )
    );
    assert_eq!(
        StateFile::default().render(Dialect::Tmkms),
        "{\"height\":\"0\",\"round\":\"0\",\"step\":0,\"block_id\":{\"hash\":\"\",\"parts\":{\"total\":0,\"hash\":\"\"}}}"
    );
}

#[test]
fn a_missing_file_is_made_at_height_0_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    drop(Mirror::open(&path).unwrap());
    let state = StateFile::parse(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(floor_of(&state), None);
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.len()), (0o600, 512));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn a_state_is_written_in_place_padded_and_never_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    std::fs::write(&path, "{\"height\":\"3\",\"round\":\"0\",\"step\":1,\"block_id\":null}\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let before = std::fs::metadata(&path).unwrap();
    let mut mirror = Mirror::open(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().len(), before.len() as usize, "opening changes nothing");
    let long = StateFile { sign_bytes: Some(vec![1; 256]), ..full() };
    let short = StateFile { height: 9, block_id: None, ..StateFile::default() };
    for (state, len) in [(full(), 512), (long, 1024), (short, 1024)] {
        mirror.write(&state).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), len);
        assert!(!bytes.contains(&b'\n'));
        assert_eq!(StateFile::parse(&bytes).unwrap().height, state.height);
    }
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()), "the same file with the same mode");
}

#[test]
fn one_state_file_is_kept_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let link = dir.path().join("link.json");
    symlink(&path, &link).unwrap();
    let first = Mirror::open(&path).unwrap();
    for other in [&path, &link] {
        let error = Mirror::open(other).unwrap_err();
        assert!(matches!(error, MirrorError::InUse(_)), "{error}");
        assert_eq!(error.code(), "STATE-0011");
    }
    drop(first);
    Mirror::open(&link).unwrap();
}

#[test]
fn a_link_is_followed_and_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("target.json"), dir.path().join("link.json"));
    symlink("target.json", &link).unwrap();
    let mut mirror = Mirror::open(&link).unwrap();
    for height in 1..4 {
        mirror.write(&StateFile { height, ..full() }).unwrap();
        assert_eq!(StateFile::parse(&std::fs::read(&target).unwrap()).unwrap().height, height);
        assert!(matches!(Mirror::open(&link), Err(MirrorError::InUse(_))), "the lock moves with the file");
    }
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");
}

#[test]
fn a_file_that_was_deleted_or_moved_while_signing_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    for is_moved in [false, true] {
        comes_back(&path, is_moved);
    }
}

fn comes_back(path: &std::path::Path, is_moved: bool) {
    let mut mirror = Mirror::open(path).unwrap();
    mirror.write(&full()).unwrap();
    let take_away = || match is_moved {
        true => std::fs::rename(path, path.with_extension("old")).unwrap(),
        false => std::fs::remove_file(path).unwrap(),
    };
    take_away();
    // It is looked for once a second.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    for height in 500_002.. {
        mirror.write(&StateFile { height, ..full() }).unwrap();
        if path.exists() {
            assert_eq!(StateFile::parse(&std::fs::read(path).unwrap()).unwrap().height, height);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it did not come back");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // And at the end.
    take_away();
    mirror.settle().unwrap();
    assert!(StateFile::parse(&std::fs::read(path).unwrap()).unwrap().height >= 500_002);
}

#[test]
fn a_directory_is_no_state_file() {
    let dir = tempfile::tempdir().unwrap();
    let error = Mirror::open(dir.path()).unwrap_err();
    assert_eq!(error.code(), "STATE-0012", "{error}");
    let error = Mirror::open(&dir.path().join("missing/state.json")).unwrap_err();
    assert_eq!(error.code(), "STATE-0013", "{error}");
}

#[test]
fn jq_reads_the_height_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.json");
    let mut mirror = Mirror::open(&path).unwrap();
    mirror.write(&StateFile { height: 1, ..full() }).unwrap();
    let jq = || Command::new("jq").arg("-r").arg(".height").arg(&path).output();
    if jq().is_err() {
        scene::skip("jq_reads_the_height_while_it_is_written", "jq is not installed");
        return;
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for height in 2.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                mirror.write(&StateFile { height, ..full() }).unwrap();
            }
        });
        let mut last = 0;
        for _ in 0..20 {
            let out = jq().unwrap();
            let height: u64 = String::from_utf8(out.stdout).unwrap().trim().parse().unwrap();
            assert!(height >= last);
            last = height;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _any = StateFile::parse(&bytes);
    }

    #[test]
    fn every_state_survives_its_own_dialect(
        height in 1..=i64::MAX as u64, round in 0..=i32::MAX as u32, step in 1..=3_u64,
        chain in ".{1,60}", key in "[0-9A-F]{64}", bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..256),
    ) {
        let state = StateFile {
            height, round, step: Step::from_code(step), chain_id: Some(chain), pub_key: Some(key),
            sign_bytes: Some(bytes), ..full()
        };
        proptest::prop_assert_eq!(StateFile::parse(state.render(Dialect::Tmkms).as_bytes()).unwrap(), state);
    }
}
