//! An upgrade that is cut off, or that fails, at each of its operations, and goes on.

use super::super::plan::{self, Wanted};
use super::super::rewrite::Change;
use super::*;
use semel_ops::shell::Format;
use std::cell::Cell;
use std::collections::BTreeMap;

/// How an operation goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The power fails before it.
    Before,
    /// The power fails right after it, and nobody is told that it was done.
    After,
    /// The disk is full.
    Full,
}

/// This host, on which one operation goes wrong; units are files.
struct Faulty<'a> {
    units: &'a Path,
    at: Option<(usize, Fault)>,
    count: Cell<usize>,
    /// What the signers write, second by second; and the seconds that went by.
    signs: Vec<&'static str>,
    waited: Cell<usize>,
}

impl Faulty<'_> {
    fn operation<T>(&self, what: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let number = self.count.get();
        self.count.set(number + 1);
        match self.at {
            Some((at, Fault::Before)) if at == number => Err(io::Error::other("the power failed")),
            Some((at, Fault::Full)) if at == number => Err(io::ErrorKind::StorageFull.into()),
            Some((at, Fault::After)) if at == number => what().and(Err(io::Error::other("the power failed"))),
            _ => what(),
        }
    }
}

impl Ground for Faulty<'_> {
    fn write(&self, path: &Path, content: &[u8], like: &Path) -> io::Result<()> {
        self.operation(|| Host.write(path, content, like))
    }
    fn append(&self, path: &Path, line: &str) -> io::Result<()> {
        // What is cut off in the middle of a line leaves a part of it.
        if matches!(self.at, Some((at, Fault::Full)) if at == self.count.get()) {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(line.get(..line.len() / 2).unwrap_or_default().as_bytes())?;
        }
        self.operation(|| Host.append(path, line))
    }
    fn run(&self, words: &[String]) -> io::Result<(bool, String)> {
        self.operation(|| {
            let unit = |name: &str| self.units.join(name);
            match words.iter().skip(1).map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["start", name] => fs_mark(&unit(name), "running", true),
                ["stop", name] => fs_mark(&unit(name), "running", false),
                ["enable", name] => fs_mark(&unit(name), "enabled", true),
                ["disable", name] => fs_mark(&unit(name), "enabled", false),
                ["is-active", name] => {
                    let runs = unit(name).with_extension("running").exists();
                    Ok((runs, if runs { "active" } else { "inactive" }.into()))
                }
                ["show", "--property=MainPID", name] => {
                    let runs = unit(name).with_extension("running").exists();
                    Ok((true, format!("MainPID={}", u32::from(runs))))
                }
                ["daemon-reload"] => Ok((true, String::new())),
                other => panic!("{other:?}"),
            }
        })
    }
    fn wait(&self, time: Duration) {
        let second = self.waited.get();
        let Some(state) = self.signs.get(second).filter(|_| time == SECOND) else { return };
        if !state.is_empty() {
            for n in 1..=2 {
                std::fs::write(self.units.join(format!("s{n}.json")), state).unwrap();
            }
        }
        self.waited.set(second + 1);
    }
}

fn fs_mark(unit: &Path, what: &str, is_on: bool) -> io::Result<(bool, String)> {
    assert!(unit.exists() || !is_on, "{} is not there", unit.display());
    let mark = unit.with_extension(what);
    if is_on {
        std::fs::write(mark, "")?
    } else {
        drop(std::fs::remove_file(mark))
    }
    Ok((true, String::new()))
}

const STATE: &str = r#"{"height":"500","round":"0","step":2,"block_id":{"hash":"","parts":{"total":0,"hash":""}}}"#;

/// Two validators of a chain, their units running, and a plan. `to` may be the old id.
fn scene(directory: &Path, to: &str, in_place: bool) -> Plan {
    for n in 1..=2 {
        let at = |name: &str| directory.join(name).display().to_string();
        let key = semel_keys::softsign::generate(
            &directory.join(format!("k{n}")),
            semel_keys::softsign::KeyType::Consensus,
            None,
        );
        key.unwrap();
        semel_keys::identity::Identity::generate(&directory.join(format!("i{n}")), None).unwrap();
        std::fs::write(directory.join(format!("s{n}.json")), STATE).unwrap();
        let config = format!(
            "[[chain]]\nid = \"old-1\"\nkey_format = {{ type = \"hex\" }}\nstate_file = \"{}\"\n[[validator]]\nchain_id = \"old-1\"\n\
             addr = \"tcp://127.0.0.1:1\"\nsecret_key = \"{}\"\n[[providers.softsign]]\nchain_ids = [\"old-1\"]\npath = \"{}\"\n",
            at(&format!("s{n}.json")),
            at(&format!("i{n}")),
            at(&format!("k{n}"))
        );
        std::fs::write(directory.join(format!("c{n}.toml")), config).unwrap();
        let unit = format!("[Service]\nExecStart=/bin/true start -c {}\n", at(&format!("c{n}.toml")));
        let path = directory.join(format!("u{n}.service"));
        std::fs::write(&path, unit).unwrap();
        // The second one names its configuration in a drop-in.
        if n == 2 {
            let text = std::fs::read_to_string(&path).unwrap();
            let beside = directory.join("u2.service.d");
            std::fs::create_dir(&beside).unwrap();
            std::fs::write(beside.join("10-start.conf"), text.replace("ExecStart", "ExecStart=\nExecStart")).unwrap();
            std::fs::write(beside.join("20-limits.conf"), "[Service]\nLimitCORE=0\n").unwrap();
            std::fs::write(&path, "[Service]\nExecStart=/bin/false\n").unwrap();
        }
        fs_mark(&path, "running", true).unwrap();
        fs_mark(&path, "enabled", true).unwrap();
    }
    let change = Change { from: "old-1".into(), to: to.into(), protocol: None, suffix: "v3".into() };
    let pattern = |name: &str| directory.join(name).display().to_string();
    let wanted = Wanted {
        change,
        configs: pattern("c?.toml"),
        units: Some(pattern("u?.service")),
        in_place_units: in_place,
        halt_height: None,
        max_skew: 0,
        exec_template: None,
    };
    let plan = plan::plan(&wanted).unwrap();
    assert_eq!(plan.fails(), 0, "{:#?}", plan.checks);
    plan
}

fn go(plan: &Plan, directory: &Path, way: Way, at: Option<(usize, Fault)>) -> (Result<(), Stopped>, usize) {
    let (shell, _) = Shell::capture(Format::default());
    let ground = Faulty { units: directory, at, count: Cell::new(0), signs: Vec::new(), waited: Cell::new(0) };
    let journal = directory.join("plan.json.journal");
    let run = Run { plan, journal, systemctl: "systemctl".into(), ground: &ground, shell: &shell };
    let gone = run.go(way);
    (gone, ground.count.get())
}

/// Every file but the journal, with its content and what is in its name replaced.
fn world(directory: &Path) -> BTreeMap<String, String> {
    let place = directory.display().to_string();
    glob::glob(&format!("{place}/**/*"))
        .unwrap()
        .map(Result::unwrap)
        .filter(|path| path.is_file())
        .filter(|path| !path.to_string_lossy().contains("journal") && !path.to_string_lossy().ends_with(['1', '2']))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap().replace(&place, "DIR");
            (path.strip_prefix(&place).unwrap().display().to_string(), text)
        })
        .collect()
}

#[test]
fn wherever_an_upgrade_or_its_way_back_is_cut_off_it_goes_on_to_the_same_end() {
    for (to, in_place) in [("new-1", false), ("new-1", true), ("old-1", false)] {
        let clean = tempfile::tempdir().unwrap();
        let plan = scene(clean.path(), to, in_place);
        let before = world(clean.path());
        let (applied, operations) = go(&plan, clean.path(), Way::Apply, None);
        applied.unwrap();
        let after = world(clean.path());
        assert!(operations > 20 && after != before);
        let beside = if in_place { "u2.service.d" } else { "u2.v3.service.d" };
        let start = &after[&format!("{beside}/10-start.conf")];
        assert_eq!(start, "[Service]\nExecStart=\nExecStart=/bin/true start -c DIR/c2.v3.toml\n");
        assert_eq!(after[&format!("{beside}/20-limits.conf")], "[Service]\nLimitCORE=0\n");
        let (back, operations_back) = go(&plan, clean.path(), Way::Rollback, None);
        back.unwrap();
        let at_the_end = world(clean.path());
        for (name, text) in &before {
            let is_carried = to == "old-1" && name.starts_with('s');
            assert!(is_carried || at_the_end.get(name) == Some(text), "{to}: {name} changed");
        }
        let all = (0..operations + operations_back)
            .flat_map(|at| [Fault::Before, Fault::After, Fault::Full].map(|f| (at, f)));
        for (at, fault) in all {
            let named = format!("{to}, {in_place}, {fault:?} at operation {at}");
            let directory = tempfile::tempdir().unwrap();
            let plan = scene(directory.path(), to, in_place);
            let first = (at < operations).then_some((at, fault));
            let (cut, _) = go(&plan, directory.path(), Way::Apply, first);
            assert_eq!(cut.is_err(), first.is_some(), "{named}");
            if first.is_some() {
                go(&plan, directory.path(), Way::Apply, None).0.unwrap_or_else(|error| panic!("{named}: {error}"));
            }
            assert_eq!(world(directory.path()), after, "{named}");
            let second = at.checked_sub(operations).map(|at| (at, fault));
            let (cut, _) = go(&plan, directory.path(), Way::Rollback, second);
            assert_eq!(cut.is_err(), second.is_some(), "{named}");
            if second.is_some() {
                go(&plan, directory.path(), Way::Rollback, None).0.unwrap_or_else(|error| panic!("{named}: {error}"));
            }
            assert_eq!(world(directory.path()), at_the_end, "{named}");
        }
    }
}

#[test]
fn a_way_back_from_any_point_of_an_upgrade_serves_the_old_chain_again() {
    let clean = tempfile::tempdir().unwrap();
    let plan = scene(clean.path(), "new-1", false);
    let before = world(clean.path());
    let (_, operations) = go(&plan, clean.path(), Way::Apply, None);
    for at in 0..operations {
        let directory = tempfile::tempdir().unwrap();
        let plan = scene(directory.path(), "new-1", false);
        assert!(go(&plan, directory.path(), Way::Apply, Some((at, Fault::Before))).0.is_err());
        go(&plan, directory.path(), Way::Rollback, None).0.unwrap_or_else(|error| panic!("operation {at}: {error}"));
        let now = world(directory.path());
        assert!(before.iter().all(|(name, text)| now.get(name) == Some(text)), "operation {at}");
        // A plan that was rolled back is not applied again.
        let again = go(&plan, directory.path(), Way::Apply, None).0.unwrap_err();
        assert_eq!(again.report().code_text(), Some("UPGRADE-0021"));
    }
}

#[test]
fn a_way_back_on_which_nothing_is_left_to_do_is_in_the_journal_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = scene(directory.path(), "new-1", false);
    plan.units.clear();
    go(&plan, directory.path(), Way::Apply, None).0.unwrap();
    go(&plan, directory.path(), Way::Rollback, None).0.unwrap();
    let again = go(&plan, directory.path(), Way::Apply, None).0.unwrap_err();
    assert_eq!(again.report().code_text(), Some("UPGRADE-0021"));
}

#[test]
fn what_changed_since_the_plan_stops_it_before_anything_is_done() {
    type Change = fn(&Path);
    let rows: [(&str, Change, Way, &str); 5] = [
        ("a configuration", |dir| std::fs::write(dir.join("c1.toml"), "# other").unwrap(), Way::Apply, "UPGRADE-0018"),
        ("a unit", |dir| std::fs::write(dir.join("u2.service"), "# other").unwrap(), Way::Apply, "UPGRADE-0018"),
        ("a new file", |dir| std::fs::write(dir.join("c1.v3.toml"), "# other").unwrap(), Way::Apply, "UPGRADE-0003"),
        (
            "a configuration that is gone",
            |dir| std::fs::remove_file(dir.join("c1.toml")).unwrap(),
            Way::Apply,
            "UPGRADE-0022",
        ),
        (
            "an old configuration",
            |dir| std::fs::write(dir.join("c2.toml"), "# other").unwrap(),
            Way::Rollback,
            "UPGRADE-0018",
        ),
    ];
    for (name, change, way, code) in rows {
        let directory = tempfile::tempdir().unwrap();
        let plan = scene(directory.path(), "new-1", false);
        if way == Way::Rollback {
            go(&plan, directory.path(), Way::Apply, None).0.unwrap();
        }
        change(directory.path());
        let (stopped, operations) = go(&plan, directory.path(), way, None);
        assert_eq!(stopped.unwrap_err().report().code_text(), Some(code), "{name}");
        assert_eq!(operations, 0, "{name}: something was done");
    }
}

#[test]
fn a_state_that_is_lower_than_it_was_left_or_another_one_stops_the_way_back_and_a_higher_one_does_not() {
    let nil = r#""hash":"""#;
    let block = format!(r#""hash":"{}""#, "AB".repeat(32));
    let rows = [
        ("a lower height", "500", "499", true),
        ("the same bytes", "500", "500", false),
        ("a higher height", "500", "501", false),
        ("a lower round", r#""round":"1""#, r#""round":"0""#, true),
        ("a higher round", r#""round":"1""#, r#""round":"2""#, false),
        ("a lower step", r#""step":2"#, r#""step":1"#, true),
        ("another block", nil, &block, true),
    ];
    for (name, from, to, stops) in rows {
        let directory = tempfile::tempdir().unwrap();
        let state = STATE.replace(r#""round":"0""#, r#""round":"1""#);
        let plan = scene(directory.path(), "new-1", false);
        std::fs::write(directory.path().join("s1.json"), &state).unwrap();
        go(&plan, directory.path(), Way::Apply, None).0.unwrap();
        assert!(state.contains(from), "{name}");
        std::fs::write(directory.path().join("s1.json"), state.replace(from, to)).unwrap();
        let back = go(&plan, directory.path(), Way::Rollback, None).0;
        assert_eq!(back.is_err(), stops, "{name}");
        if let Err(stopped) = back {
            assert_eq!(stopped.report().code_text(), Some("UPGRADE-0020"));
        }
    }
}

#[test]
fn the_journal_of_an_older_version_tells_heights_and_nothing_more() {
    for (height, stops) in [("499", true), ("500", false)] {
        let directory = tempfile::tempdir().unwrap();
        let plan = scene(directory.path(), "new-1", false);
        go(&plan, directory.path(), Way::Apply, None).0.unwrap();
        let journal = directory.path().join("plan.json.journal");
        let state = directory.path().join("s1.json");
        let note = serde_json::json!({ state.display().to_string(): 500 });
        let text = std::fs::read_to_string(&journal).unwrap();
        let older = text.lines().map(|line| {
            let mut done: Done = serde_json::from_str(line).unwrap();
            if done.step == "heights" {
                done.note = Some(note.clone());
            }
            serde_json::to_string(&done).unwrap() + "\n"
        });
        std::fs::write(&journal, older.collect::<String>()).unwrap();
        std::fs::write(&state, STATE.replace("500", height).replace(r#""step":2"#, r#""step":1"#)).unwrap();
        assert_eq!(go(&plan, directory.path(), Way::Rollback, None).0.is_err(), stops, "{height}");
    }
}

#[test]
fn a_journal_of_many_mebibytes_counts_whole_and_one_without_end_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let plan = scene(directory.path(), "new-1", false);
    // What another plan left in front of it.
    let journal = directory.path().join("plan.json.journal");
    let other = Done { way: Way::Apply, step: "x".repeat(3 << 20), plan: "another".into(), note: None };
    std::fs::write(&journal, serde_json::to_string(&other).unwrap() + "\n").unwrap();
    go(&plan, directory.path(), Way::Apply, None).0.unwrap();
    let (shell, _) = Shell::capture(Format::default());
    let ground =
        Faulty { units: directory.path(), at: None, count: Cell::new(0), signs: Vec::new(), waited: Cell::new(0) };
    let run =
        Run { plan: &plan, journal: journal.clone(), systemctl: "systemctl".into(), ground: &ground, shell: &shell };
    assert_eq!(run.left(Way::Apply).unwrap(), []);
    std::fs::File::options().write(true).open(&journal).unwrap().set_len(plan::PLAN_MAX + 1).unwrap();
    let (stopped, operations) = go(&plan, directory.path(), Way::Apply, None);
    assert_eq!((stopped.unwrap_err().report().code_text(), operations), (Some("UPGRADE-0025"), 0));
}

#[test]
fn a_configuration_that_is_too_large_is_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    std::fs::write(&path, "#".repeat(1 << 20)).unwrap();
    assert_eq!(plan::read(&path).unwrap().len(), 1 << 20);
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert_eq!(plan::read(&path).unwrap_err().to_string(), "it is too large: more than 1 MiB");
    assert_eq!(plan::read_plan(&path).unwrap().len(), (1 << 20) + 1);
}

#[test]
fn where_the_chain_id_stays_the_higher_state_goes_along_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let plan = scene(directory.path(), "old-1", false);
    go(&plan, directory.path(), Way::Apply, None).0.unwrap();
    let height = |name: &str| {
        let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
        StateFile::parse(text.as_bytes()).unwrap().height
    };
    assert_eq!(height("s1.v3.json"), 500, "nothing at or below it is signed again");
    std::fs::write(directory.path().join("s1.v3.json"), STATE.replace("500", "777")).unwrap();
    go(&plan, directory.path(), Way::Rollback, None).0.unwrap();
    assert_eq!((height("s1.json"), height("s2.json")), (777, 500));
}

#[test]
fn the_old_chain_ends_with_the_precommits_of_its_halt_height_and_ten_quiet_seconds() {
    // Steps with the numbers of tmkms: 0, 1 and 2.
    let at = |height: u64, round: u32, step: u8| {
        let block = r#""block_id":{"hash":"","parts":{"total":0,"hash":""}}"#;
        &*format!(r#"{{"height":"{height}","round":"{round}","step":{step},{block}}}"#).leak()
    };
    let quiet = |n: usize| vec![""; n];
    // What is signed, second by second, from a prevote at the halt height on; when the old chain is left.
    let rows: [(&str, Vec<Vec<&'static str>>, usize); 4] = [
        ("a precommit", vec![quiet(30), vec![at(500, 0, 2)], quiet(20)], 41),
        (
            "another round",
            vec![vec![at(500, 0, 2)], quiet(5), vec![at(500, 1, 1)], quiet(15), vec![at(500, 1, 2)], quiet(20)],
            33,
        ),
        (
            "a proposal",
            vec![vec![at(500, 0, 2)], quiet(5), vec![at(500, 1, 0)], quiet(15), vec![at(501, 0, 1)], quiet(20)],
            23,
        ),
        ("a height above that goes on", vec![vec![at(501, 0, 1)], vec![at(502, 0, 1); 30]], 1),
    ];
    for (name, signs, seconds) in rows {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = scene(directory.path(), "new-1", false);
        plan.halt_height = Some(500);
        std::fs::write(directory.path().join("s1.json"), at(500, 0, 1)).unwrap();
        let (shell, _) = Shell::capture(Format::default());
        let signs = signs.concat();
        let ground = Faulty { units: directory.path(), at: None, count: Cell::new(0), signs, waited: Cell::new(0) };
        let journal = directory.path().join("plan.json.journal");
        let run = Run { plan: &plan, journal, systemctl: "systemctl".into(), ground: &ground, shell: &shell };
        assert_eq!(run.left(Way::Apply).unwrap().first(), Some(&Step::Halt(500)));
        run.step(&Step::Halt(500), Way::Apply).unwrap();
        assert_eq!(ground.waited.get(), seconds, "{name}");
    }
}

#[test]
fn a_plan_that_was_edited_or_cut_off_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = scene(directory.path(), "new-1", false).text();
    assert!(Plan::parse(&text).is_ok());
    assert!(Plan::parse(&text.replace("c1.v3.toml", "c9.v3.toml")).unwrap_err().contains("edited"));
    assert!(Plan::parse(&text.replace("\"schema\": 1", "\"schema\": 2")).unwrap_err().contains("version 2"));
    for len in (0..text.len() - 2).step_by(97) {
        assert!(Plan::parse(&text[..len]).is_err(), "{len} bytes");
    }
}
