//! A configuration and a unit for the new chain, from those of the old one: only what has to change does, byte for byte.

use super::super::edits::{Edits, tables};
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

    /// A unit with the new path in place of the old one. None: the unit does not name it.
    pub(super) fn unit(text: &str, paths: &[(PathBuf, PathBuf)]) -> Option<String> {
        let mut changed = false;
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| {
                if !line.trim_start().starts_with("ExecStart") {
                    return line.to_owned();
                }
                let mut line = line.to_owned();
                for (old, new) in paths {
                    let (old, new) = (old.to_string_lossy(), new.to_string_lossy());
                    if let Some(replaced) = replace_word(&line, &old, &new) {
                        (line, changed) = (replaced, true);
                    }
                }
                line
            })
            .collect();
        changed.then(|| lines.join("\n"))
    }
}

/// Replaces a path where it stands alone, as an argument or behind `=`.
fn replace_word(line: &str, old: &str, new: &str) -> Option<String> {
    let is_edge = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || matches!(c, '=' | '"' | '\''));
    let at = line.match_indices(old).map(|(at, _)| at).find(|at| {
        let (before, after) = (line.get(..*at), line.get(at + old.len()..));
        is_edge(before.and_then(|text| text.chars().next_back())) && is_edge(after.and_then(|text| text.chars().next()))
    })?;
    Some(format!("{}{new}{}", line.get(..at)?, line.get(at + old.len()..)?))
}

#[cfg(test)]
mod tests {
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
        let new = change().renamed(&old);
        assert_eq!(Change::unit(&units[0], &[(old, new)]).unwrap(), units[1]);
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
    fn a_unit_names_a_path_as_a_word_and_nothing_that_only_begins_like_it() {
        let paths = [(PathBuf::from("/k/a.toml"), PathBuf::from("/k/a.v3.toml"))];
        for (line, expected) in [
            ("ExecStart=/b start -c /k/a.toml", Some("ExecStart=/b start -c /k/a.v3.toml")),
            ("ExecStart=/b start --config=/k/a.toml -v", Some("ExecStart=/b start --config=/k/a.v3.toml -v")),
            ("ExecStart=/b start -c /k/a.toml.old", None),
            ("Environment=X=/k/a.toml", None),
        ] {
            assert_eq!(Change::unit(line, &paths).as_deref(), expected, "{line}");
        }
    }
}
