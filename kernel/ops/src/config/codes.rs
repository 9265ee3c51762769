//! The codes of findings that any TOML file can have. Codes of a duty's own schema begin at `CONFIG-0101`.

use crate::code::Code;

/// The file cannot be read.
pub static UNREADABLE: Code = Code::whole(
    "CONFIG-0001",
    "a configuration file cannot be read",
    "The file does not exist, the user of the process may not read it, it is not UTF-8 text, or it is larger than 1 MiB. \
     Nothing in it was checked. Relative paths are relative to the current directory (with systemd: WorkingDirectory), not to \
     the file that names them.",
);
/// The text is no TOML.
pub static SYNTAX: Code = Code::local(
    "CONFIG-0002",
    "the text is not TOML",
    "The text at this place breaks the grammar of TOML 1.0: an unclosed quote or bracket, a missing value, a key given twice. \
     Other lines were still checked as far as that is certain; findings about missing keys and about references between tables \
     are held back until the text parses.",
);
/// A key that no schema knows.
pub static UNKNOWN_KEY: Code = Code::local(
    "CONFIG-0003",
    "a key is not known in this table",
    "Unknown keys are errors, because a misspelt key would silently mean its default. The hint names the known key that is \
     nearest, or the table where the key belongs.",
);
/// A key that must be there is not.
pub static MISSING_KEY: Code = Code::whole(
    "CONFIG-0004",
    "a mandatory key is missing",
    "The table at this place needs a key that it does not have. The position is that of the table's header, or the first line of \
     the file for a key of the top level.",
);
/// A value of the wrong type.
pub static WRONG_TYPE: Code = Code::local(
    "CONFIG-0005",
    "a value has the wrong type",
    "The value is of another TOML type than the key demands: a number in quotes, a string without them, one table where a list of \
     tables is meant. Numbers that do not fit a TOML integer, such as max_height, are strings on purpose.",
);
/// A number outside its range.
pub static OUT_OF_RANGE: Code = Code::local(
    "CONFIG-0006",
    "a number is out of range",
    "The number is smaller or larger than the key allows. The message states the range.",
);
/// A word that is none of the allowed ones.
pub static NOT_A_CHOICE: Code = Code::local(
    "CONFIG-0007",
    "a value is none of the allowed words",
    "The key takes one of a few words and this is none of them. The hint lists them, the nearest first if there is one.",
);
/// An empty string or list where that has no meaning.
pub static EMPTY: Code = Code::local(
    "CONFIG-0008",
    "a value is empty",
    "The key is there, but its string or list is empty, which has no meaning for it.",
);

/// All of them, in order.
pub static ALL: [&Code; 8] =
    [&UNREADABLE, &SYNTAX, &UNKNOWN_KEY, &MISSING_KEY, &WRONG_TYPE, &OUT_OF_RANGE, &NOT_A_CHOICE, &EMPTY];

#[cfg(test)]
mod tests {
    use super::*;

    // Changing this list is a decision: people search for these codes.
    #[test]
    fn the_list_of_codes_is_frozen() {
        let list: Vec<_> = ALL.iter().map(|code| format!("{} {}", code.id, code.title)).collect();
        let golden = [
            "CONFIG-0001 a configuration file cannot be read",
            "CONFIG-0002 the text is not TOML",
            "CONFIG-0003 a key is not known in this table",
            "CONFIG-0004 a mandatory key is missing",
            "CONFIG-0005 a value has the wrong type",
            "CONFIG-0006 a number is out of range",
            "CONFIG-0007 a value is none of the allowed words",
            "CONFIG-0008 a value is empty",
        ];
        assert_eq!(list, golden);
    }

    #[test]
    fn every_code_is_explained_in_a_paragraph() {
        for code in ALL {
            assert!(code.explanation.len() > 70 && !code.explanation.contains("  "), "{code}");
        }
    }
}
