//! Units as people and packages write them.

use super::*;

/// Files in a directory; their names may have directories.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn unit(text: &str) -> (tempfile::TempDir, Unit) {
    let directory = files(&[("tmkms-01.service", text)]);
    let unit = Unit::read(&directory.path().join("tmkms-01.service")).unwrap();
    (directory, unit)
}

fn configs(unit: &Unit) -> Vec<(String, bool)> {
    unit.configs().into_iter().map(|config| (config.path.display().to_string(), config.is_open)).collect()
}

#[test]
fn a_configuration_is_found_however_a_unit_names_it() {
    for (text, expected) in [
        ("ExecStart=/b start -c /k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start --config /k/a.toml -v", "/k/a.toml"),
        ("ExecStart=/b start --config=/k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start -c=/k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start -c/k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start -vc /k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start \\\n  -v \\\n# why\n  -c /k/a.toml", "/k/a.toml"),
        ("ExecStart=/b start \\\r\n  -c /k/a.toml\r\nUser=x", "/k/a.toml"),
        ("ExecStart=-@:+!/b b start -c \"/k/with blank.toml\"", "/k/with blank.toml"),
        ("ExecStart=/b start -c /k/with\\x20blank.toml", "/k/with blank.toml"),
        ("WorkingDirectory=/k\nExecStart=/b start -c a.toml", "/k/a.toml"),
        ("WorkingDirectory=-/k\nExecStart=/b start -c a.toml", "/k/a.toml"),
        ("ExecStart=/b start -c a.toml", "/a.toml"),
        ("ExecStart=/b start -c /k/%p.toml", "/k/tmkms-01.toml"),
        ("ExecStart=/b start -c /k/old.toml\nExecStart=\nExecStart=/b start -c /k/a.toml", "/k/a.toml"),
        ("  ExecStart = /b start -c /k/a.toml", "/k/a.toml"),
    ] {
        let (_kept, unit) = unit(&format!("[Service]\n{text}\n"));
        assert_eq!(configs(&unit), [(expected.to_owned(), false)], "{text}");
    }
}

#[test]
fn a_directory_may_be_the_home_of_the_user() {
    let home = crate::face::users::home_of("root").unwrap();
    let (_kept, unit) = unit("[Service]\nWorkingDirectory=~\nExecStart=/b start -c a.toml\n");
    assert_eq!(configs(&unit), [(home.join("a.toml").display().to_string(), false)]);
}

#[test]
fn a_path_that_only_systemd_knows_is_open() {
    for path in ["/k/%i.toml", "%h/a.toml", "${CONF}", "$CONF"] {
        let (_kept, unit) = unit(&format!("[Service]\nExecStart=/b start -c {path}\n"));
        assert!(unit.configs()[0].is_open, "{path}");
    }
    let (_kept, unit) = unit("[Service]\nExecStart=/b start -c /k/100%%.toml\n");
    assert_eq!(configs(&unit), [("/k/100%.toml".into(), false)]);
}

#[test]
fn the_program_is_what_stands_behind_the_prefixes() {
    for (line, expected) in
        [("/b start", "/b"), ("-/b start", "/b"), ("@+/b x start", "/b"), ("\"/b c\" start", "/b c")]
    {
        let (_kept, unit) = unit(&format!("[Service]\nExecStart={line}\n"));
        assert_eq!(unit.program().unwrap(), Path::new(expected), "{line}");
    }
    let (_kept, unit) = unit("[Service]\nExecStart=sh start\n");
    assert_eq!(unit.program().unwrap(), Path::new("/usr/bin/sh"));
}

#[test]
fn an_instance_is_read_from_its_template_by_its_name_and_by_its_link() {
    let kept = files(&[
        ("tmkms@.service", "[Service]\nUser=tmkms-%i\nExecStart=/b start -c /k/%i.toml -c /k/%I.toml\n"),
        ("multi-user.target.wants/other", ""),
    ]);
    let at = |name: &str| kept.path().join(name);
    std::os::unix::fs::symlink("../tmkms@.service", at("multi-user.target.wants/tmkms@a-1.service")).unwrap();
    assert!(matching(&at("none@1.service").display().to_string(), 9).unwrap().is_empty());
    for pattern in ["tmkms@a-1.service", "multi-user.target.wants/tmkms@*.service"] {
        let found = matching(&at(pattern).display().to_string(), 9).unwrap();
        let unit = Unit::read(&found[0]).unwrap();
        assert_eq!(configs(&unit), [("/k/a-1.toml".into(), false), ("/k/a/1.toml".into(), false)]);
        assert_eq!(unit.setting("User").as_deref(), Some("tmkms-a-1"));
        assert_eq!(unit.path, at("tmkms@a-1.service"));
        assert_eq!(unit.elsewhere().map(|path| path.file_name().unwrap()), Some("tmkms@.service".as_ref()));
        assert_eq!(unit.settled("a %i %I %% %%i %n\n"), "a a-1 a/1 %% %%i %n\n");
    }
    let template = Unit::read(&at("tmkms@.service")).unwrap();
    assert!(template.is_template() && template.configs()[0].is_open);
}

#[test]
fn an_enabled_unit_is_that_of_its_link() {
    let kept = files(&[
        ("lib/one.service", "[Service]\nExecStart=/b start -c /k/1.toml\n"),
        ("etc/two.service", "[Service]\nExecStart=/b start -c /k/2.toml\n"),
        ("etc/multi-user.target.wants/other", ""),
    ]);
    let at = |name: &str| kept.path().join(name);
    for (name, source) in [("one.service", "lib/one.service"), ("two.service", "etc/two.service")] {
        let link = at("etc/multi-user.target.wants").join(name);
        std::os::unix::fs::symlink(at(source), &link).unwrap();
        let unit = Unit::read(&link).unwrap();
        assert_eq!(unit.path, at("etc").join(name));
        assert_eq!(unit.elsewhere(), (unit.path != at(source)).then_some(at(source)).as_deref());
    }
}

#[test]
fn drop_ins_count_in_the_order_of_their_names() {
    let kept = files(&[
        ("tmkms-01.service", "[Service]\nUser=a\nExecStart=/b start -c /k/old.toml\n"),
        ("tmkms-01.service.d/20.conf", "[Service]\nExecStart=\nExecStart=/b start -c /k/new.toml\n"),
        ("tmkms-01.service.d/note.txt", "User=nobody"),
        ("tmkms-.service.d/30.conf", "[Service]\nUser=b\n"),
    ]);
    let unit = Unit::read(&kept.path().join("tmkms-01.service")).unwrap();
    assert_eq!(configs(&unit), [("/k/new.toml".into(), false)]);
    assert_eq!(unit.setting("User").as_deref(), Some("b"));
    assert_eq!(unit.parts.iter().map(|part| part.is_shared).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn only_the_path_changes_and_nothing_that_only_begins_like_it() {
    for (old, new) in [
        ("ExecStart=/b start -c /k/a.toml", Some("ExecStart=/b start -c /k/a.v3.toml")),
        ("ExecStart=/b start --config=/k/a.toml -v", Some("ExecStart=/b start --config=/k/a.v3.toml -v")),
        ("ExecStart=/b start -c '/k/a.toml' # x", Some("ExecStart=/b start -c '/k/a.v3.toml' # x")),
        ("ExecStart=/b start -c /k/\"a\".toml", Some("ExecStart=/b start -c \"/k/a.v3.toml\"")),
        (
            "ExecStart=/b \\\n # /k/a.toml\n  -c \\\n /k/a.toml \\\n -v",
            Some("ExecStart=/b \\\n # /k/a.toml\n  -c \\\n /k/a.v3.toml \\\n -v"),
        ),
        ("ExecStartPre=/bin/test -r /k/a.toml", Some("ExecStartPre=/bin/test -r /k/a.v3.toml")),
        ("ExecStart=/b start -c /k/a.toml.old", None),
        ("Environment=X=/k/a.toml", None),
        ("# ExecStart=/b start -c /k/a.toml", None),
    ] {
        let (_kept, unit) = unit(old);
        let renamed = |mention: &Mention| (mention.path == Path::new("/k/a.toml")).then(|| "/k/a.v3.toml".to_owned());
        assert_eq!(unit.rewritten(0, renamed).as_deref(), new, "{old}");
    }
}
