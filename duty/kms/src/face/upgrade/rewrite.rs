//! A configuration and a unit for the new chain, from those of the old one: only what has to change does, byte for byte.

use super::super::edits::{Edits, tables};
use super::super::units::Mention;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item};

/// What changes.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Change {
    /// Id of the old chain.
    pub(super) from: String,
    /// Id of the new chain.
    pub(super) to: String,
    /// `protocol_version` of the new chain; None: as it is.
    pub(super) protocol: Option<String>,
    /// Goes before the extension of every file that has a new name.
    pub(super) suffix: String,
}

/// A configuration that was rewritten.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// Its text.
    pub(super) text: String,
    /// Old and new state file of each chain that changed, as the configuration names them.
    pub(super) states: Vec<(PathBuf, PathBuf)>,
    /// `max_height` of each validator of the old chain.
    pub(super) max_heights: Vec<Option<String>>,
    /// Addresses of validators of the chain.
    pub(super) addresses: Vec<String>,
}

impl Change {
    /// The name of a file with the suffix before its extension: `a.toml` becomes `a.v3.toml`.
    pub(super) fn renamed(&self, path: &Path) -> PathBuf {
        let name = match (path.file_stem(), path.extension()) {
            (Some(stem), Some(extension)) => {
                format!("{}.{}.{}", stem.to_string_lossy(), self.suffix, extension.to_string_lossy())
            }
            _ => format!("{}.{}", path.file_name().unwrap_or_default().to_string_lossy(), self.suffix),
        };
        path.with_file_name(name)
    }

    /// The configuration of the new chain. None: the old chain is not in it.
    pub(super) fn config(&self, text: &str) -> Result<Option<Rewritten>, String> {
        let document = Document::parse(text).map_err(|error| error.to_string())?;
        let mut edits = Edits::of(text);
        let (mut states, mut max_heights, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_there = false;
        // A chain is called by its name; one without a name by its id.
        let (mut names, mut has_no_name) = (Vec::new(), false);
        for chain in tables(document.get("chain")) {
            if !edits.replace(chain.get("id"), &self.from, &self.to) {
                continue;
            }
            is_there = true;
            match chain.get("name").and_then(Item::as_str) {
                Some(name) => names.push(name),
                None => has_no_name = true,
            }
            let old = chain.get("state_file").and_then(Item::as_str);
            match old {
                Some(old) => {
                    let new = self.renamed(Path::new(old));
                    edits.replace(chain.get("state_file"), old, &new.to_string_lossy());
                    states.push((PathBuf::from(old), new));
                }
                None => {
                    let of = |id: &str| PathBuf::from(format!("{id}_priv_validator_state.json"));
                    let (old, mut new) = (of(&self.from), of(&self.to));
                    if self.from == self.to {
                        new = self.renamed(&old);
                        edits.insert_after(chain.get("id"), &format!("state_file = \"{}\"", new.display()));
                    }
                    states.push((old, new));
                }
            }
        }
        for validator in tables(document.get("validator")) {
            let name = validator.get("chain");
            let is_by_id = edits.replace(validator.get("chain_id"), &self.from, &self.to);
            let is_by_name = name.and_then(Item::as_str).is_some_and(|name| names.contains(&name));
            let is_called_by_id = has_no_name && !is_by_name && edits.replace(name, &self.from, &self.to);
            if !is_by_id && !is_by_name && !is_called_by_id {
                continue;
            }
            addresses.extend(validator.get("addr").and_then(Item::as_str).map(str::to_owned));
            if let Some(protocol) = &self.protocol {
                match validator.get("protocol_version").and_then(Item::as_str) {
                    Some(old) => drop(edits.replace(validator.get("protocol_version"), old, protocol)),
                    None => {
                        let reference = validator.get("chain_id").or(name);
                        edits.insert_after(reference, &format!("protocol_version = \"{protocol}\""))
                    }
                }
            }
            // It was the old chain's end.
            max_heights.push(validator.get("max_height").and_then(Item::as_str).map(str::to_owned));
            edits.remove(validator, "max_height");
        }
        if let Some(providers) = document.get("providers").and_then(Item::as_table_like) {
            for (_, provider) in providers.iter() {
                for entry in tables(Some(provider)) {
                    for key in std::iter::once(entry).chain(tables(entry.get("keys"))) {
                        edits.replace_in(key.get("chain_ids"), &self.from, &self.to);
                        if has_no_name && !names.contains(&self.from.as_str()) {
                            edits.replace_in(key.get("chains"), &self.from, &self.to);
                        }
                    }
                }
            }
        }
        Ok(is_there.then(|| Rewritten { text: edits.apply(), states, max_heights, addresses }))
    }

    /// The new path in place of one that a unit names; `moved` has [`whole`] old paths. None: it means no configuration that moves.
    pub(super) fn mention(&self, mention: &Mention, moved: &[(PathBuf, PathBuf)]) -> Option<String> {
        let meant = whole(&mention.path);
        let (_, new) = moved.iter().find(|(old, _)| !mention.is_open && meant == *old)?;
        // A relative path stays one.
        let renamed = self.renamed(&mention.path);
        let text = self.renamed(Path::new(&mention.text)).display().to_string();
        if is_same_place(&renamed, new) {
            Some(text)
        } else {
            std::path::absolute(new).ok().map(|new| new.display().to_string())
        }
    }
}

/// A path without links, where it is there; absolute in any case.
pub(super) fn whole(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Whether two paths mean one file.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    one == other || whole(one) == whole(other)
}

/// Whether two paths of a file that is not there yet mean one.
fn is_same_place(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    let directories = directory(one).zip(directory(other));
    one.file_name() == other.file_name() && directories.is_some_and(|(one, other)| is_same(&one, &other))
}

#[cfg(test)]
mod tests {
    use super::super::super::units::Unit;
    use super::*;

    fn change() -> Change {
        let text = |word: &str| word.to_owned();
        Change {
            from: text("commercio-2_2"),
            to: text("commercio-3"),
            protocol: Some(text("v0.34")),
            suffix: text("v3"),
        }
    }

    /// The blocks of a language in the guide, without their indentation.
    fn blocks(language: &str) -> Option<Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let text = std::fs::read_to_string(root.join("../shared/guides/T-tmkms-update.md")).ok()?;
        let mut blocks = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim() == format!("```{language}") {
                let block = lines.by_ref().take_while(|line| line.trim() != "```").map(str::trim).collect::<Vec<_>>();
                blocks.push(block.join("\n"));
            }
        }
        Some(blocks)
    }

    #[test]
    fn the_configuration_and_unit_of_the_guide_become_those_of_the_guide() {
        let Some(configs) = blocks("toml") else { return };
        let made = change().config(&configs[0]).unwrap().unwrap();
        assert_eq!(made.text, configs[1]);
        let state = Path::new("/data_tmkms/tmkms/kms/commercio/commercio_priv_validator_state01.json");
        assert_eq!(made.states, [(state.to_owned(), change().renamed(state))]);
        let units = blocks("ini").unwrap();
        let old = PathBuf::from("/data_tmkms/tmkms/kms/commercio/tmkms.01.toml");
        let moved = [(old.clone(), change().renamed(&old))];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tmkms-01.service");
        std::fs::write(&path, &units[0]).unwrap();
        let unit = Unit::read(&path).unwrap();
        assert_eq!(unit.rewritten(0, |mention| change().mention(mention, &moved)).unwrap(), units[1]);
    }

    #[test]
    fn comments_order_quotes_and_other_chains_stay_as_they_are() {
        let old = "# mine\n[[chain]] # the chain\nid = 'commercio-2_2' # old\n\n[[chain]]\nid = \"other-1\"\nstate_file = \"o.json\"\n\
                   \n[[validator]]\n  chain_id = \"commercio-2_2\" # here\n  addr = \"tcp://a:1\"\n  max_height = \"500\"\n\n\
                   [[providers.softsign]]\nchain_ids = [ \"other-1\", \"commercio-2_2\" ]\npath = \"k\"\n";
        let new = "# mine\n[[chain]] # the chain\nid = 'commercio-3' # old\n\n[[chain]]\nid = \"other-1\"\nstate_file = \"o.json\"\n\
                   \n[[validator]]\n  chain_id = \"commercio-3\" # here\n  protocol_version = \"v0.34\"\n  addr = \"tcp://a:1\"\n\n\
                   [[providers.softsign]]\nchain_ids = [ \"other-1\", \"commercio-3\" ]\npath = \"k\"\n";
        let made = change().config(old).unwrap().unwrap();
        assert_eq!(made.text, new);
        assert_eq!(made.max_heights, [Some("500".into())]);
        assert_eq!(made.states[0].0, Path::new("commercio-2_2_priv_validator_state.json"));
        assert_eq!(made.states[0].1, Path::new("commercio-3_priv_validator_state.json"));
    }

    #[test]
    fn a_validator_that_names_its_chain_goes_along_and_that_of_another_name_does_not() {
        let old = "[[chain]]\nid = \"commercio-2_2\"\nname = \"main\"\nstate_file = \"m.json\"\n[[chain]]\nid = \"other-1\"\nname = \"side\"\n\
                   [[validator]]\nchain = \"main\"\naddr = \"tcp://a:1\"\nprotocol_version = \"v0.33\"\nmax_height = \"500\"\n\
                   [[validator]]\nchain = \"main\"\nchain_id = \"commercio-2_2\"\naddr = \"tcp://b:1\"\n\
                   [[validator]]\nchain = \"side\"\naddr = \"tcp://c:1\"\nmax_height = \"7\"\n\
                   [[providers.softsign]]\nchains = [\"main\", \"side\"]\npath = \"k\"\n";
        let new = "[[chain]]\nid = \"commercio-3\"\nname = \"main\"\nstate_file = \"m.v3.json\"\n[[chain]]\nid = \"other-1\"\nname = \"side\"\n\
                   [[validator]]\nchain = \"main\"\naddr = \"tcp://a:1\"\nprotocol_version = \"v0.34\"\n\
                   [[validator]]\nchain = \"main\"\nchain_id = \"commercio-3\"\nprotocol_version = \"v0.34\"\naddr = \"tcp://b:1\"\n\
                   [[validator]]\nchain = \"side\"\naddr = \"tcp://c:1\"\nmax_height = \"7\"\n\
                   [[providers.softsign]]\nchains = [\"main\", \"side\"]\npath = \"k\"\n";
        let made = change().config(old).unwrap().unwrap();
        assert_eq!(made.text, new);
        assert_eq!(made.max_heights, [Some("500".into()), None]);
        assert_eq!(made.addresses, ["tcp://a:1", "tcp://b:1"]);
        // A chain without a name is called by its id.
        let old = "[[chain]]\nid = \"commercio-2_2\"\n[[validator]]\nchain = \"commercio-2_2\"\naddr = \"tcp://a:1\"\n\
                   [[providers.softsign]]\nchains = [\"commercio-2_2\"]\npath = \"k\"\n";
        let new = "[[chain]]\nid = \"commercio-3\"\n[[validator]]\nchain = \"commercio-3\"\nprotocol_version = \"v0.34\"\naddr = \"tcp://a:1\"\n\
                   [[providers.softsign]]\nchains = [\"commercio-3\"]\npath = \"k\"\n";
        assert_eq!(change().config(old).unwrap().unwrap().text, new);
        let called = old.replace("id = \"commercio-2_2\"\n[[v", "id = \"other-1\"\nname = \"commercio-2_2\"\n[[v");
        assert_eq!(change().config(&called).unwrap(), None, "another chain that is called like it");
    }

    #[test]
    fn a_configuration_of_another_chain_is_not_touched_and_one_that_does_not_parse_is_said() {
        assert_eq!(change().config("[[chain]]\nid = \"other-1\"\n").unwrap(), None);
        assert!(change().config("[[chain]\n").is_err());
    }

    #[test]
    fn a_chain_that_keeps_its_id_gets_a_state_file_of_its_own() {
        let same = Change { to: "commercio-2_2".into(), protocol: None, ..change() };
        let made = same.config("[[chain]]\nid = \"commercio-2_2\"\n").unwrap().unwrap();
        assert_eq!(
            made.text,
            "[[chain]]\nid = \"commercio-2_2\"\nstate_file = \"commercio-2_2_priv_validator_state.v3.json\"\n"
        );
    }

    #[test]
    fn a_unit_keeps_its_way_of_naming_a_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("k")).unwrap();
        std::fs::write(at("k/a.toml"), "").unwrap();
        std::os::unix::fs::symlink(at("k"), at("linked")).unwrap();
        std::os::unix::fs::symlink(at("k/a.toml"), at("b.toml")).unwrap();
        let moved = [(whole(&at("k/a.toml")), at("k/a.v3.toml"))];
        let dir = directory.path().display();
        for (old, new) in [
            (format!("{dir}/k/a.toml"), format!("{dir}/k/a.v3.toml")),
            ("k/a.toml".to_owned(), "k/a.v3.toml".to_owned()),
            (format!("{dir}/linked/a.toml"), format!("{dir}/linked/a.v3.toml")),
            ("%p/a.toml".to_owned(), "k/a.v3.toml".to_owned()),
            // The link has another name than what it means.
            ("b.toml".to_owned(), format!("{dir}/k/a.v3.toml")),
        ] {
            let text = |path: &str| format!("[Service]\nWorkingDirectory={dir}\nExecStart=/b start -c {path}\n");
            std::fs::write(at("k.service"), text(&old)).unwrap();
            let unit = Unit::read(&at("k.service")).unwrap();
            assert_eq!(unit.rewritten(0, |mention| change().mention(mention, &moved)), Some(text(&new)), "{old}");
        }
    }
}
