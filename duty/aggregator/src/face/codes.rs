//! The stable codes of this duty's configuration and commands. A code never changes its meaning and is never used again.

use semel_ops::code::Code;

/// An environment or configuration file cannot be read.
pub static UNREADABLE: Code = Code::whole(
    "CONFIG-0301",
    "an environment or configuration file of the aggregator cannot be read",
    "The file does not exist, this user may not read it, it is not UTF-8 text, or it is larger than 1 MiB.",
);
/// A quote stays open.
pub static UNCLOSED: Code = Code::local(
    "CONFIG-0302",
    "a quote in an environment file is never closed",
    "systemd takes everything up to the end of the file as one value, so that the variables below it are not set at all. Quotes \
     count at the beginning of a value only; JSON without a quote around it needs none.",
);
/// A line that is no assignment.
pub static NO_ASSIGNMENT: Code = Code::local(
    "CONFIG-0303",
    "a line of an environment file is no assignment",
    "systemd passes over lines that are not NAME=value. A word before the name, such as export, is for shells only.",
);
/// A variable that is none of ours.
pub static UNKNOWN: Code = Code::local(
    "CONFIG-0304",
    "a variable is not known",
    "Unknown variables are passed over, so a misspelt one silently means its default. In an environment file each of them is told, in \
     the environment of the process those that look like a known one. Parts of a structure are set apart by two \
     underscores.",
);
/// A value of another kind.
pub static WRONG_TYPE: Code = Code::local(
    "CONFIG-0305",
    "a setting of the aggregator has a value of another kind",
    "The setting takes a number, a truth value (true, false, 1, 0, yes, no, on, off), an address, a URL or a version, and this is none.",
);
/// A number outside its range.
pub static OUT_OF_RANGE: Code = Code::local(
    "CONFIG-0306",
    "a setting of the aggregator is out of range",
    "The number is smaller or larger than the setting allows. The message states the range.",
);
/// A word that is none of the allowed ones.
pub static NOT_A_CHOICE: Code = Code::local(
    "CONFIG-0307",
    "a setting of the aggregator is none of the allowed words",
    "The setting takes one of a few words, with these capitals. The hint names the nearest, or all of them.",
);
/// JSON that does not parse.
pub static NOT_JSON: Code = Code::local(
    "CONFIG-0308",
    "a setting of the aggregator is not JSON",
    "The text breaks the grammar of JSON at this place. systemd takes backslashes away from values without quotes: put single quotes \
     around the whole value when the JSON in it has backslashes.",
);
/// JSON of another shape.
pub static WRONG_SHAPE: Code = Code::local(
    "CONFIG-0309",
    "a JSON setting of the aggregator has not the fields it needs",
    "The JSON parses, but a field is missing, is not known, or is of another kind. `config explain` shows the fields.",
);
/// A setting that has to be there.
pub static MISSING: Code = Code::local(
    "CONFIG-0310",
    "a setting of the aggregator is missing",
    "The setting has no default that could be right for you. An empty value counts as none.",
);
/// A setting that does not do what it says.
pub static RETIRED: Code = Code::local(
    "CONFIG-0311",
    "a setting of the aggregator is retired or has no effect here",
    "It is accepted, because guides still have it, and does not do what it says. The message tells what happens instead.",
);
/// Settings that contradict each other.
pub static CONTRADICTION: Code = Code::local(
    "CONFIG-0312",
    "settings of the aggregator contradict each other",
    "Each value is fine by itself, together they cannot be. The message names both.",
);
/// A key that is none.
pub static NOT_A_KEY: Code = Code::local(
    "CONFIG-0313",
    "a setting of the aggregator is no key",
    "Keys of Mithril are hex of a JSON list of 32 numbers, and begin with 5b. Plain hex of the 32 bytes is accepted too.",
);

/// A public key that counts because none is set.
pub static PRESET: Code = Code::local(
    "CONFIG-0314",
    "a published genesis key counts, because none is set",
    "All certificates rest on this key. The one that Mithril publishes for the network is built in; compare it, and set \
     GENESIS_VERIFICATION_KEY to be free of what is built in.",
);
/// A file or directory that the server needs at once.
pub static UNUSABLE: Code = Code::local(
    "CONFIG-0315",
    "a file or directory that the server needs at its start cannot be used",
    "The server reads certificates, keys, service accounts and databases when it starts, and ends where one of them is not there, is of \
     another kind, or cannot be read or written by its user.",
);
/// Codes of configurations, in order.
pub static ALL: [&Code; 15] = [
    &UNREADABLE,
    &UNCLOSED,
    &NO_ASSIGNMENT,
    &UNKNOWN,
    &WRONG_TYPE,
    &OUT_OF_RANGE,
    &NOT_A_CHOICE,
    &NOT_JSON,
    &WRONG_SHAPE,
    &MISSING,
    &RETIRED,
    &CONTRADICTION,
    &NOT_A_KEY,
    &PRESET,
    &UNUSABLE,
];

/// Codes of commands: what happened, and what to do.
pub const COMMANDS: &[(&str, &str)] = &[
    ("AGG-0001", "A file of the aggregator's tools cannot be read, or is larger than any such file can be."),
    ("AGG-0002", "A file of the aggregator's tools cannot be written. A secret key is never written over."),
    ("AGG-0003", "A secret key is no Ed25519 key in JSON-hex. Name or paste the whole content of the .sk file."),
    (
        "AGG-0004",
        "What should be signed as a genesis payload is not the 64 hex characters that `genesis export` writes.",
    ),
    ("AGG-0005", "Era markers make no sense: the next era has to begin after the current one."),
    (
        "AGG-0006",
        "The Lagrange era needs proofs that this program does not make. Leave --mithril-era away, or say pythagoras.",
    ),
    (
        "AGG-0007",
        "Edited protocol configurations make no sense, or contradict what the chain already has. The message names the epoch.",
    ),
    ("AGG-0008", "The variable is no setting of the aggregator. `config explain` without a name lists them all."),
    ("AGG-0009", "No signed markers were found where they should be on the chain, or the chain could not be asked."),
    (
        "AGG-0011",
        "The list of networks cannot be extended: it is not the published networks.json, or has this aggregator already.",
    ),
    (
        "AGG-0012",
        "A certificate does not hold, or another was given than was asked for. What it certifies must not be believed.",
    ),
    (
        "AGG-0013",
        "An aggregator does not answer, or not as an aggregator does; or a directory or file lacks a certificate that is asked for.",
    ),
    (
        "AGG-0014",
        "The database cannot be used: another version made it, it is locked, or it is damaged. A database of an older \
         mithril-aggregator is taken over with `database import`.",
    ),
    ("AGG-0015", "The chain does not answer: no certificate is made on what nobody tells."),
    (
        "AGG-0016",
        "The aggregator cannot do this now. The message says what is missing: signers, stakes, an era, a certificate.",
    ),
    (
        "AGG-0017",
        "The ledger refuses. It remembers which message was certified for each beacon, and one process at a time may write it.",
    ),
    ("AGG-0018", "The aggregator does not start. The message names the file or address."),
    ("AGG-0019", "A setting or key that the command needs is missing or cannot be used."),
    ("AGG-0020", "A signed genesis payload is not the 64 bytes of an Ed25519 signature."),
    ("AGG-0021", "The server ended by itself, because it could not go on safely."),
    (
        "AGG-0022",
        "The walk down a chain of certificates was interrupted. What it looked at holds; nothing is said about the rest.",
    ),
    ("AGG-0023", "There is no database where this command needs one. Nothing was made: check the path for a slip."),
    (
        "AGG-0024",
        "Somebody else writes these databases. A running server and every command that writes hold `aggregator.lock` in the stores \
         directory, one at a time; the message names who. The lock ends with its process, whatever stands in the file.",
    ),
    ("AGG-0101", "Doctor: whether the settings can be used."),
    ("AGG-0102", "Doctor: whether the Cardano node is as new as Mithril's networks ask for."),
    ("AGG-0103", "Doctor: whether the node's socket is there."),
    ("AGG-0104", "Doctor: whether the chain answers."),
    ("AGG-0105", "Doctor: whether the stakes of this epoch are known."),
    ("AGG-0106", "Doctor: whether the era of the Mithril network is known."),
    ("AGG-0107", "Doctor: whether immutable files are complete."),
    ("AGG-0108", "Doctor: whether a ledger snapshot can be archived."),
    ("AGG-0109", "Doctor: whether archives can be written."),
    ("AGG-0110", "Doctor: whether there is room for archives."),
    ("AGG-0111", "Doctor: whether databases can be written."),
    ("AGG-0112", "Doctor: whether there is a genesis certificate."),
    ("AGG-0113", "Doctor: whether clients can reach what they are told."),
    ("AGG-0114", "Doctor: whether the address can be told to anybody."),
    ("AGG-0115", "Doctor: whether the address is free, or the server of this network runs there already."),
    ("AGG-0116", "Doctor: whether the ledger can be written."),
    ("AGG-0117", "Doctor: whether certificate and key can be used for TLS."),
    ("AGG-0118", "Doctor: whether the credentials of the bucket can be used."),
    ("AGG-0119", "Doctor: whether ancillary files can be signed."),
];
