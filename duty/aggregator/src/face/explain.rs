//! Every stable code of this duty in words, for `semel explain`.

use super::codes;

/// Codes with their explanation.
pub fn codes() -> Vec<(&'static str, String)> {
    let config = codes::ALL.iter().map(|code| (code.id, format!("{}. {}", code.title, code.explanation)));
    let commands = codes::COMMANDS.iter().map(|(id, text)| (*id, (*text).to_owned()));
    commands.chain(config).collect()
}

#[cfg(test)]
mod tests {
    use super::codes;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn sources(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_code_in_the_sources_is_explained_and_none_twice() {
        let mut texts = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        let is_code = |text: &&str| {
            text.rsplit_once('-').is_some_and(|(area, number)| {
                number.len() == 4
                    && number.bytes().all(|digit| digit.is_ascii_digit())
                    && !area.is_empty()
                    && area.bytes().all(|letter| letter.is_ascii_uppercase())
            })
        };
        let named: BTreeSet<&str> = texts.iter().flat_map(|text| text.split('"').filter(is_code)).collect();
        let explained: Vec<&str> = codes().into_iter().map(|(id, _)| id).collect();
        let unique: BTreeSet<&str> = explained.iter().copied().collect();
        assert_eq!(explained.len(), unique.len());
        assert_eq!(named, unique);
    }
}
