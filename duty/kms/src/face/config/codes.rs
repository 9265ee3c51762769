//! The codes of findings that are about the schema of this duty.

use semel_ops::code::Code;

/// A chain id, or a chain's name, that is none.
pub static CHAIN_ID: Code = Code::local(
    "CONFIG-0101",
    "a chain id is not valid",
    "A chain id has 1 to 50 of the characters A-Z a-z 0-9 - _ and the full stop, and is written exactly as in the chain's genesis \
     file. It is part of what is signed, so a wrong one makes every signature worthless. The name of a chain keeps the same rule.",
);
/// Two chains with one id, or one name.
pub static CHAIN_TWICE: Code = Code::whole(
    "CONFIG-0102",
    "a chain is registered twice",
    "Two [[chain]] tables of a file have the same id or the same name. Several validators of one chain need either a file each \
     (-c a.toml -c b.toml, or -c DIRECTORY) or, in one file, a different name for each [[chain]], to which `chain` of [[validator]] and \
     `chains` of the keys refer.",
);
/// A reference to a chain that is not there.
pub static CHAIN_UNKNOWN: Code = Code::whole(
    "CONFIG-0103",
    "a chain is named that no [[chain]] registers",
    "A validator or a key names a chain for which the file has no [[chain]]. After a chain upgrade the id has to be changed in all \
     three places: id of [[chain]], chain_id of [[validator]], chain_ids of the key.",
);
/// A chain without a key.
pub static NO_KEY: Code = Code::whole(
    "CONFIG-0104",
    "a chain has no key",
    "No provider has a key whose chain_ids contain this chain, so nothing could be signed for it.",
);
/// A chain with more than one key.
pub static KEYS: Code = Code::whole(
    "CONFIG-0105",
    "a chain has more than one key",
    "Two keys could sign for this chain and it would be chance which one does. One chain has one consensus key. To serve several \
     validators of one chain id in one file, give each its own [[chain]] with a name.",
);
/// A reference by an id that several chains have.
pub static AMBIGUOUS: Code = Code::whole(
    "CONFIG-0106",
    "a chain id is that of several chains",
    "Several [[chain]] tables have this id under different names, so the id alone does not say which one is meant. Refer to it by \
     name: chain = \"NAME\" in [[validator]], chains = [\"NAME\"] in a key.",
);
/// Not exactly one YubiHSM.
pub static YUBIHSMS: Code = Code::whole(
    "CONFIG-0107",
    "the number of [[providers.yubihsm]] is not 1",
    "A file has one YubiHSM, with any number of keys in its `keys`. Several devices take several files.",
);
/// A serial number that is none.
pub static SERIAL: Code = Code::local(
    "CONFIG-0108",
    "a YubiHSM serial number is not valid",
    "A serial number has 10 digits and is at most 4294967295. It only chooses among devices on USB: with the http adapter it is not \
     used, so there this is a warning.",
);
/// No identity for an encrypted connection.
pub static NO_SECRET_KEY: Code = Code::whole(
    "CONFIG-0109",
    "a validator on TCP has no secret_key",
    "The connection to a node over TCP or Noise is encrypted and needs an identity of our own, a file with the base64 of 32 bytes. It is not \
     the validator's key and may be made anew at any time. On unix sockets it is not needed.",
);
/// An address that is none.
pub static ADDRESS: Code = Code::local(
    "CONFIG-0110",
    "an address is not valid",
    "A node's address is tcp://HOST:PORT, tcp://ID@HOST:PORT or HOST:PORT, with an IPv6 HOST in brackets and ID 40 hex digits, or \
     noise://PEER_ID@IP:PORT with the name that `cometbft show-node-id --libp2p` prints and no host name, or \
     unix:///PATH, or unix://@NAME for an abstract socket. The address of a yubihsm-connector is tcp://HOST:PORT.",
);
/// A max_height that is none.
pub static MAX_HEIGHT: Code = Code::local(
    "CONFIG-0111",
    "max_height is not a height",
    "max_height is a positive decimal number in quotes, at most 9223372036854775807. Heights above it are refused, the height itself is \
     signed.",
);
/// Not exactly one source of a password.
pub static AUTH: Code = Code::local(
    "CONFIG-0112",
    "auth needs exactly one of password and password_file",
    "The password of a YubiHSM authentication key stands either in the configuration (password) or, better, in a file of its own \
     (password_file). With both it would be unclear which one counts.",
);
/// A file that is named cannot be read.
pub static FILE: Code = Code::local(
    "CONFIG-0113",
    "a file that the configuration names cannot be read",
    "The key, password or state file does not exist, is no regular file, or the user of this process may not read it. Relative paths \
     are relative to the current directory (with systemd: WorkingDirectory).",
);
/// A key file whose content is no key.
pub static KEY_FILE: Code = Code::local(
    "CONFIG-0114",
    "a key file does not hold a key",
    "A consensus key in base64 has 32 bytes (seed), 64 (expanded secret, or seed and public key) or 96 (YubiHSM export); an account \
     key and a connection identity have 32. A node's priv_validator_key.json needs key_format = \"json\".",
);
/// A state file that is none.
pub static STATE_FILE: Code = Code::local(
    "CONFIG-0115",
    "a state file does not parse",
    "The state file says what was signed last. It is not repaired and not replaced, because starting without it could mean signing \
     twice. Restore it from a backup, or state the height below which nothing may be signed.",
);
/// A secret that others can read.
pub static PERMISSIONS: Code = Code::local(
    "CONFIG-0116",
    "a secret can be read by others",
    "The group or everybody may read this file, or it belongs to another user than the signer's. tmkms accepts that, so it is a \
     warning; a secret belongs to one user, mode 0600. For root the signer's user is the owner of the state file or its directory.",
);
/// One state file for two chains.
pub static STATE_TWICE: Code = Code::whole(
    "CONFIG-0117",
    "a state file is used twice",
    "Two chains would overwrite each other's record of what was signed. Each [[chain]] has a state_file of its own.",
);
/// One key and one chain id for two tenants.
pub static KEY_TWICE: Code = Code::whole(
    "CONFIG-0118",
    "a key signs twice for one chain",
    "Two tenants have the same key for the same chain id. That is how validators sign twice; several nodes of one validator are \
     several [[validator]] tables of one [[chain]] instead.",
);
/// A provider of tmkms that this program does not have.
pub static PROVIDER: Code = Code::local(
    "CONFIG-0119",
    "a provider is not served",
    "tmkms can be built with this provider. This program serves [[providers.softsign]], [[providers.yubihsm]] and [[providers.pkcs11]]. A \
     configuration that needs another one is refused instead of being started without its key.",
);
/// A bech32 prefix that is none.
pub static PREFIX: Code = Code::local(
    "CONFIG-0120",
    "a bech32 prefix is not valid",
    "The human part of a bech32 string has 1 to 83 printable ASCII characters without blanks, all in one case. A colon is fine: \
     did:com:valconspub.",
);
/// One key of a device, two entries.
pub static HSM_KEY_TWICE: Code = Code::local(
    "CONFIG-0121",
    "a YubiHSM key is listed twice",
    "Two entries of `keys` have the same key number. One entry may name several chains.",
);
/// A chain that nobody asks for.
pub static NO_VALIDATOR: Code = Code::whole(
    "CONFIG-0122",
    "a chain has no validator",
    "No [[validator]] connects to a node of this chain, so nothing will be signed for it.",
);
/// No configuration where one was expected.
pub static NO_FILES: Code = Code::local(
    "CONFIG-0123",
    "a directory gives no usable list of configuration files",
    "A directory stands for all files in it whose names end in .toml, sorted by name, at most 1000.",
);
/// A file given twice.
pub static GIVEN_TWICE: Code = Code::local(
    "CONFIG-0124",
    "a configuration file is given twice",
    "The same path was given more than once, alone or as part of a directory.",
);
/// Values that exclude each other.
pub static CONTRADICTION: Code = Code::local(
    "CONFIG-0125",
    "two values do not go together",
    "Each value would be fine alone, but together they contradict each other. The message names both, and the other place is shown.",
);
/// A value that changes nothing where it stands.
pub static NO_EFFECT: Code = Code::local(
    "CONFIG-0126",
    "a value has no effect here",
    "The value is valid but is not used in this combination, as in tmkms. It is a warning so that nobody relies on it.",
);
/// A promise that this program does not break.
pub static RESIGN: Code = Code::local(
    "CONFIG-0127",
    "a repeat is never signed anew",
    "When a node asks again for a vote that differs only in its timestamp, the stored signature is returned. Signing the new timestamp \
     would put two signatures of one position into the world, so there is no such setting.",
);
/// Settings of the process that two files state differently.
pub static DISAGREE: Code = Code::whole(
    "CONFIG-0128",
    "two files disagree about the process",
    "Files that are started together share one process, and that has one ledger, one durability, one address and one log. State the \
     setting in one file, or alike in all.",
);
/// A state file that cannot be written.
pub static STATE_DIRECTORY: Code = Code::local(
    "CONFIG-0129",
    "a state file cannot be written",
    "The directory of the state file must exist, and the user of this process must be able to make files in it and to replace the \
     state file.",
);
/// A beginning of bytes that could be that of a vote.
pub static SIGN_BYTES: Code = Code::local(
    "CONFIG-0130",
    "bytes with such a beginning are not signed",
    "A node of CometBFT v1 can ask for a signature of any bytes, and those could be a vote. allow_sign_bytes names how bytes must \
     begin to be signed: 4 to 64 printable ASCII characters, the first a letter or a digit. No vote, proposal or vote extension begins \
     so, and what reads as one is refused whatever the list says. Without the list nothing of the kind is signed.",
);
/// What has to last lies where it does not.
pub static VOLATILE: Code = Code::local(
    "CONFIG-0131",
    "a ledger or state file lies on a file system that forgets or is shared",
    "What was signed has to outlast a restart and belongs to one host. tmpfs, ramfs and overlay forget; NFS, SMB, 9p, FUSE and Ceph are \
     shared and may answer late or wrongly. `start` refuses such a ledger (LEDGER-0005), unless --i-accept-volatile-ledger says that it is \
     for a test network. A state file there is a warning: the ledger is what counts.",
);

/// All of them, in order.
pub static ALL: [&Code; 31] = [
    &CHAIN_ID,
    &CHAIN_TWICE,
    &CHAIN_UNKNOWN,
    &NO_KEY,
    &KEYS,
    &AMBIGUOUS,
    &YUBIHSMS,
    &SERIAL,
    &NO_SECRET_KEY,
    &ADDRESS,
    &MAX_HEIGHT,
    &AUTH,
    &FILE,
    &KEY_FILE,
    &STATE_FILE,
    &PERMISSIONS,
    &STATE_TWICE,
    &KEY_TWICE,
    &PROVIDER,
    &PREFIX,
    &HSM_KEY_TWICE,
    &NO_VALIDATOR,
    &NO_FILES,
    &GIVEN_TWICE,
    &CONTRADICTION,
    &NO_EFFECT,
    &RESIGN,
    &DISAGREE,
    &STATE_DIRECTORY,
    &SIGN_BYTES,
    &VOLATILE,
];

#[cfg(test)]
mod tests {
    use super::*;

    // Changing this list is a decision: people search for these codes.
    #[test]
    fn the_list_of_codes_is_frozen() {
        let list: Vec<_> = ALL.iter().map(|code| format!("{} {}", code.id, code.title)).collect();
        let golden = "\
CONFIG-0101 a chain id is not valid
CONFIG-0102 a chain is registered twice
CONFIG-0103 a chain is named that no [[chain]] registers
CONFIG-0104 a chain has no key
CONFIG-0105 a chain has more than one key
CONFIG-0106 a chain id is that of several chains
CONFIG-0107 the number of [[providers.yubihsm]] is not 1
CONFIG-0108 a YubiHSM serial number is not valid
CONFIG-0109 a validator on TCP has no secret_key
CONFIG-0110 an address is not valid
CONFIG-0111 max_height is not a height
CONFIG-0112 auth needs exactly one of password and password_file
CONFIG-0113 a file that the configuration names cannot be read
CONFIG-0114 a key file does not hold a key
CONFIG-0115 a state file does not parse
CONFIG-0116 a secret can be read by others
CONFIG-0117 a state file is used twice
CONFIG-0118 a key signs twice for one chain
CONFIG-0119 a provider is not served
CONFIG-0120 a bech32 prefix is not valid
CONFIG-0121 a YubiHSM key is listed twice
CONFIG-0122 a chain has no validator
CONFIG-0123 a directory gives no usable list of configuration files
CONFIG-0124 a configuration file is given twice
CONFIG-0125 two values do not go together
CONFIG-0126 a value has no effect here
CONFIG-0127 a repeat is never signed anew
CONFIG-0128 two files disagree about the process
CONFIG-0129 a state file cannot be written
CONFIG-0130 bytes with such a beginning are not signed
CONFIG-0131 a ledger or state file lies on a file system that forgets or is shared";
        assert_eq!(list.join("\n"), golden);
    }

    #[test]
    fn every_code_is_explained_in_a_paragraph() {
        for code in ALL {
            assert!(code.explanation.len() > 60 && !code.explanation.contains("  "), "{code}");
        }
    }
}
