//! `semel explain`: every stable code in words.
//!
//! A code never changes its meaning and is never used again. Configuration codes bring their own texts; those of the kernel are here,
//! because the kernel knows nothing of a person at a terminal.

use super::{config, said};
use semel_guard::Reason;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;

/// Codes of keys, ledgers, state files and interchange files: what happened, and what to do.
const KERNEL: &[(&str, &str)] = &[
    ("KEY-0001", "A key file cannot be read or written. Let the user that runs the signer own it, mode 0600."),
    ("KEY-0002", "A key file is empty. Restore it from a backup; nothing can be made of it."),
    (
        "KEY-0003",
        "What should be a key file is something else: a directory, too large, or JSON where base64 is expected.",
    ),
    ("KEY-0004", "A key file is not base64. Files of key_format \"base64\" hold one base64 text."),
    (
        "KEY-0005",
        "A key has a length that no form of a key has. 32 bytes are a seed, 64 an expanded key or a seed and its public key, 96 a YubiHSM export.",
    ),
    ("KEY-0006", "A file is not a priv_validator_key.json. Name the node's own config/priv_validator_key.json."),
    (
        "KEY-0007",
        "The public half in a key file does not belong to its secret half. The file was damaged or put together by hand; take it from the node or a backup once more.",
    ),
    ("KEY-0008", "The bytes in a key file are no secret key of its algorithm."),
    (
        "KEY-0009",
        "A key file is there already, and a key is never written over. Name another path, or use --force, which keeps a dated copy.",
    ),
    (
        "HANDOVER-0001",
        "A handover file cannot be read or written. If the key is let go already, run `handover export` again: it writes the file anew.",
    ),
    ("HANDOVER-0002", "A file is no handover, or was cut off. Name the file that `handover export` made."),
    (
        "HANDOVER-0003",
        "A handover file was edited or damaged on the way. Copy it again, or run `handover export` at the source again.",
    ),
    (
        "HANDOVER-0004",
        "A handover file is of another version. Use the version of this program that made it, or a newer one.",
    ),
    (
        "HANDOVER-0005",
        "This host knows of a higher position than the handover file. The file is not the last word of this key: find out who signs with it before anything else.",
    ),
    (
        "HANDOVER-0006",
        "The key was handed over to another host and signs nothing here. `semel handover accept` with the file of that handover takes it back.",
    ),
    ("TRANSFER-0001", "A file to import cannot be read, or is longer than any such file can be."),
    (
        "TRANSFER-0002",
        "It is not clear which key and chain a file of another signer belongs to, or which one is to be exported. Name it with --key and --chain.",
    ),
    (
        "TRANSFER-0003",
        "A file to import is of another kind than --format says. Leave --format away: the file tells what it is.",
    ),
    ("TRANSFER-0004", "The file to export to cannot be made. A file that is there already is never written over."),
    (
        "BACKUP-0001",
        "The backup does not open: the passphrase or identity is another one, or the file was changed or cut off. Try the right secret, then another copy.",
    ),
    ("BACKUP-0002", "A file is no backup. Name the file that `backup create` made."),
    ("BACKUP-0003", "A backup is of another version. Use the version of this program that made it, or a newer one."),
    (
        "BACKUP-0004",
        "What is in the backup contradicts its own digests or makes no sense. Nothing was restored; use another copy or an older backup.",
    ),
    (
        "BACKUP-0005",
        "A passphrase file, recipient or identity cannot be used. A passphrase is one line; a recipient begins with age1, an identity with AGE-SECRET-KEY-1.",
    ),
    ("BACKUP-0006", "The backup cannot be made. A file that is there already is never written over."),
    ("BACKUP-0007", "A backup, or a file for it, is larger than a backup may be, or has too many parts."),
    ("BACKUP-0008", "A file that the backup needs cannot be read. Run the command as the user that runs the signer."),
    (
        "BACKUP-0009",
        "A file of the backup cannot be put in place. Files are put into an empty place only; floors may be raised already, and the command may be given again.",
    ),
    (
        "BACKUP-0010",
        "A name in the backup leads out of the directory it is restored into. Nothing was restored; somebody made this file by hand.",
    ),
    (
        "BACKUP-0011",
        "The backup would hold no floors: there is no ledger, or none with a key. Name it with --ledger; --without-floors keeps configurations alone.",
    ),
    (
        "FSCK-0001",
        "The ledger has something that is not safe and that cannot be mended without guessing. Nothing was changed; restore the disk, or restore a backup into a new ledger.",
    ),
    (
        "FSCK-0002",
        "The ledger has something that can be mended safely: `ledger fsck --repair` does, while no signer runs with it.",
    ),
    (
        "ADOPT-0001",
        "The ledger was made on another host. Stop the other host for good, then say `--i-accept-double-sign-risk`: two hosts that sign with one key are how keys get slashed.",
    ),
    (
        "ADOPT-0002",
        "Keys watch before they sign, because another signer may still have them. `ledger lift` ends that once you say that nobody has.",
    ),
    (
        "HOST-0001",
        "The signer was started as root. Run it as a user of its own that owns its keys, states and ledger; `semel doctor` names files that it cannot reach. --allow-root, SEMEL_ALLOW_ROOT=1 or allow_root = true in [semel] allow it.",
    ),
    (
        "CONFIG-0201",
        "`config init --generate-key` makes keys in files only. A device makes its own: `yubihsm keys generate`.",
    ),
    (
        "CONFIG-0202",
        "`key delete --erase` removes the file of a key that signs for one chain. A key in a device, or one that signs for other chains too, is not erased.",
    ),
    (
        "CONFIG-0203",
        "A configuration is there already and is not written over: it may be the one that a signer uses. Take another directory, or say --force, which keeps a dated copy of it.",
    ),
    (
        "CONFIG-0204",
        "`init` knows a few networks by name. For any other chain give its chain id, such as my-chain-1, as in the chain's genesis file.",
    ),
    (
        "MIGRATE-0001",
        "The signer that has the key still runs, as far as this user can see. Two signers of one key sign twice: stop it, and keep it from starting again.",
    ),
    (
        "MIGRATE-0002",
        "The old signer left no state, so nobody knows how far its key signed. Bring the state from where the key signed last. Only a key that never signed anything may come over without one: --i-accept-double-sign-risk.",
    ),
    ("MIGRATE-0003", "A file that `migrate` would make is there already. Give another directory with --output."),
    (
        "MIGRATE-0004",
        "The other signer holds a share of a threshold key. Shares are not put together here: stop all cosigners, import the whole key from its offline copy, and import the state of every cosigner, of which the highest counts.",
    ),
    ("MIGRATE-0005", "The files of the other signer leave something open. Say it as the hint tells."),
    ("MIGRATE-0006", "A key of the other signer is of a kind, or in a place, that is not served here."),
    (
        "MIGRATE-0007",
        "A file of the other signer cannot be read or understood. Name its directory or file, readable by this user.",
    ),
    (
        "MIGRATE-0008",
        "The ledger did not come to the floor that the old signer's state asks for. Nothing was written beside the ledger; run the command again.",
    ),
    (
        "MIGRATE-0009",
        "The old signer's state moved while its key came over, so it ran. No key was copied and no configuration written. Stop it for good, and run the command again: it takes the newer state.",
    ),
    (
        "HSM-0001",
        "The connector of a YubiHSM cannot be reached. Is yubihsm-connector running and the device plugged in? The signer goes on trying each second.",
    ),
    (
        "HSM-0002",
        "A YubiHSM does not accept the authentication key: the password is wrong, or it has no key of that number. Compare `auth` with the passwords of `yubihsm setup`.",
    ),
    (
        "HSM-0003",
        "All sixteen sessions of a YubiHSM are taken. One process with several -c needs one session; idle ones end after 30 s.",
    ),
    ("HSM-0004", "A YubiHSM has no key of the configured number. `yubihsm keys list` shows what it has."),
    (
        "HSM-0005",
        "A key in a YubiHSM is of another kind than configured. `type` is consensus for Ed25519 and account for secp256k1.",
    ),
    (
        "HSM-0006",
        "Another YubiHSM answers than the configured one, or than the one that answered before. Plug in the right device, or correct serial_number.",
    ),
    (
        "HSM-0007",
        "A YubiHSM holds another key under the same number than before. Nothing is signed until the known key is back; a new key needs a restart.",
    ),
    (
        "HSM-0008",
        "A signature of a YubiHSM does not belong to its key. It is not given out. The device or its connection is faulty: do not use it.",
    ),
    (
        "HSM-0009",
        "The authentication key has no right to do this on the YubiHSM. Operators and admins have more rights than validators.",
    ),
    ("HSM-0010", "The password file of a YubiHSM cannot be read. Let the user that runs the signer own it, mode 0600."),
    (
        "HSM-0011",
        "This build reaches a YubiHSM over HTTP only. Run yubihsm-connector and use adapter = { type = \"http\", addr = \"tcp://127.0.0.1:12345\" }.",
    ),
    ("HSM-0012", "A YubiHSM, or the way to it, failed. Its own words follow. Try `yubihsm test KEY`."),
    (
        "HSM-0013",
        "A YubiHSM has a key of this number already, and a key is never written over. Take another number; `yubihsm keys list` shows those in use.",
    ),
    (
        "P11-0001",
        "A PKCS#11 module cannot be loaded. `module` is the path of its library; SoftHSM2 also needs its SOFTHSM2_CONF.",
    ),
    (
        "P11-0002",
        "A PKCS#11 module has no such token. `pkcs11-tool --module MODULE --list-token-slots` shows what is there.",
    ),
    ("P11-0003", "Several tokens of a PKCS#11 module match. Name the token by `serial` or `slot`."),
    (
        "P11-0004",
        "The PIN of a token is wrong. It is not tried again: a token locks itself after a few wrong ones. Correct it, then start again.",
    ),
    ("P11-0005", "The PIN of a token is locked. Unlock the token with its SO PIN."),
    ("P11-0006", "A token has no such key. `pkcs11-tool --module MODULE --login --list-objects` shows labels and ids."),
    ("P11-0007", "Several keys of a token match. Name the key by `label` and `id`."),
    (
        "P11-0008",
        "A key in a token is of another kind than configured. `type` is consensus for Ed25519 and account for secp256k1.",
    ),
    (
        "P11-0009",
        "A token holds another key under the same words than before. Nothing is signed until the known key is back; a new key needs a restart.",
    ),
    (
        "P11-0010",
        "A signature of a token does not belong to its key. It is not given out. The token or its module is faulty: do not use it.",
    ),
    ("P11-0011", "A token, or its module, failed. Its own words follow. Try the key with `pkcs11-tool --sign`."),
    ("LEDGER-0001", "The ledger's disk failed, is full or may not be written. Nothing is signed until it opens."),
    (
        "LEDGER-0002",
        "Another process on this host signs with the same key for the same chain. Two signers with one key are how keys get slashed: stop one of them.",
    ),
    (
        "LEDGER-0003",
        "The ledger is damaged: what was acknowledged is not all there. It is never repaired silently: `ledger fsck` says what can be mended safely. Else restore the disk, or start a new ledger with a floor above every height that its keys may have signed (`state set-floor`).",
    ),
    (
        "LEDGER-0004",
        "The ledger was made on another host. If this is a copy, the original may still sign: stop it for good, then say so once with `ledger adopt --i-accept-double-sign-risk`.",
    ),
    (
        "LEDGER-0005",
        "The ledger is on a file system that forgets or is shared (tmpfs, overlay, NFS). Use a local disk, or say --i-accept-volatile-ledger for a test network.",
    ),
    (
        "LEDGER-0006",
        "Somebody else owns the ledger or may write it. chown it to the user that runs the signer, mode 0700.",
    ),
    ("LEDGER-0007", "The ledger holds as much as it can. Split the keys over several ledgers with --ledger."),
    ("LEDGER-0008", "The ledger was written by a newer version of this program. Use that version or a newer one."),
    (
        "STATE-0001",
        "A state file is empty. It says what was signed last: restore it; if it is lost, `state set-floor` above every height this key may have signed.",
    ),
    (
        "STATE-0002",
        "A state file ends in the middle of a value, as after a full disk. Restore it; if it is lost, `state set-floor` above every height this key may have signed.",
    ),
    (
        "STATE-0003",
        "A state file is not JSON. Restore it; if it is lost, `state set-floor` above every height this key may have signed.",
    ),
    ("STATE-0004", "A key of a state file is missing or makes no sense."),
    ("STATE-0005", "A number in a state file is negative."),
    ("STATE-0006", "The round in a state file is above 2³¹ − 1, which no chain can reach."),
    ("STATE-0007", "A file is too large for a state file. Name the right one."),
    ("STATE-0008", "The state file belongs to another chain or key. Each key on each chain has its own."),
    ("STATE-0011", "Another process keeps this state file. Stop it first: it may sign with the same key."),
    ("STATE-0012", "The state file is a directory, a device or a pipe."),
    (
        "STATE-0013",
        "The state file cannot be kept up to date. Let the user that runs the signer write it and its directory.",
    ),
    ("STATE-0101", "The state file cannot be read."),
    (
        "STATE-0102",
        "The state file is missing, and require_state says that it must be there. Put it in place, or `state set-floor` and take require_state away.",
    ),
    ("STATE-0103", "The ledger could not take in the state file. The ledger's own message says why."),
    (
        "STATE-0104",
        "The ledger does not know the key whose state is to be exported, or is not there. Name the right one with --ledger: a state of height 0 protects nothing.",
    ),
    (
        "STATE-0105",
        "Root was asked to raise a floor for a signer of another user. Without --ledger that is root's own ledger, which the signer does not read.",
    ),
    (
        "STATE-0106",
        "At the start the state file was lower than the ledger: it was restored, copied, or written by another signer. The ledger counts and the file is written again, so nothing is signed twice here; find out who put it back, and that no other signer has the key.",
    ),
    (
        "STATE-0107",
        "At the start the state file was missing, and the ledger knows what the key signed. The file is written again from the ledger; find out who took it away, and whether state_file still names the right place.",
    ),
    (
        "STATE-0108",
        "Neither a state file nor the ledger knows the key, so nothing protects what it signed elsewhere. If it ever did, stop the signer and import that state: `state import FILE`.",
    ),
    (
        "STATE-0109",
        "The configurations have no chain of that name, or several and none was named. `--chain` takes an id or a name of [[chain]].",
    ),
    (
        "STATE-0110",
        "A state file is of an old release, or does not say exactly how far its signer came. It is read as the last thing that it can mean, so that at most a position too many is closed.",
    ),
    (
        "DOC-0101",
        "The configurations as a whole: the errors that `config check` finds stand beside this, each with its own code.",
    ),
    ("DOC-0102", "A node of Tendermint 0.33 or older is configured. It is served; tmkms gave it up with 0.13."),
    (
        "DOC-0201",
        "A file with a secret can be read by others. chmod 600 mends it; whoever could read it may have the key.",
    ),
    (
        "DOC-0202",
        "A file with a secret belongs to a user or group that this host does not have, as after a chown with a slip. chown it to the user that runs the signer.",
    ),
    (
        "DOC-0203",
        "A state file lies on a file system that forgets or is shared. The ledger is what counts, and has to be on a local disk.",
    ),
    (
        "DOC-0204",
        "A state file is named relatively: it counts from the working directory, and another directory has another file. Name it absolutely.",
    ),
    ("DOC-0301", "States and keys could not be compared with the ledger. Mend what is named first."),
    ("DOC-0302", "The key of a chain, as it signs. Compare it with what the chain knows."),
    ("DOC-0303", "The state file of a chain, or that there is none."),
    (
        "DOC-0305",
        "A state file is behind the ledger: it was restored, copied or lost. The ledger counts, nothing is signed twice, but find out who put it back.",
    ),
    (
        "DOC-0306",
        "A configuration has a key that was handed over to another host. It signs nothing here. Take its configuration away, or take the key back.",
    ),
    ("DOC-0401", "Where the ledger is."),
    (
        "DOC-0402",
        "The ledger lies on a file system that forgets or is shared. A restart would forget what was signed: move it to a local disk.",
    ),
    ("DOC-0403", "The disk of the ledger has little room. A ledger that cannot write signs nothing."),
    ("DOC-0404", "The ledger can be read or written by others. chmod 700 mends it."),
    (
        "DOC-0405",
        "Whether every record of the ledger is whole and follows the one before it. A damaged ledger refuses to open.",
    ),
    ("DOC-0406", "How long the ledger's disk takes to keep something. Every vote waits for it."),
    ("DOC-0501", "Whether the name of a node has an address."),
    (
        "DOC-0502",
        "Whether a node takes a connection. Look at priv_validator_laddr in its config.toml, at VPN and firewall.",
    ),
    ("DOC-0503", "Whether a node shakes hands. A node that has a signer already does not."),
    ("DOC-0504", "What the RPC of a node says: its chain and height."),
    ("DOC-0505", "Whether a configuration has the chain of the node that was asked."),
    (
        "DOC-0506",
        "Whether the chain knows the key that is configured. A validator that signs with another key is missed by everybody.",
    ),
    ("DOC-0507", "How far the state file is behind the chain. A state that is far behind is an old one."),
    ("DOC-0601", "Whether a YubiHSM takes the authentication key."),
    ("DOC-0602", "Whether a YubiHSM holds a configured key."),
    ("DOC-0701", "How many files may be open. Each node and each configuration takes some."),
    (
        "DOC-0702",
        "Whether a crash writes the memory of the signer, and with it keys, to the disk. LimitCORE=0 forbids it.",
    ),
    ("DOC-0703", "Whether memory, and with it keys, may be written to swap. MemorySwapMax=0 forbids it."),
    ("DOC-0704", "Whether this runs as root. A signer runs as a user of its own."),
    ("DOC-0705", "Whether something keeps the clock of this host."),
    (
        "DOC-0706",
        "Another signer runs with one of these configurations, and does not know this ledger. Stop it before this one starts.",
    ),
    ("DOC-0707", "How many signers run on this host."),
    (
        "DOC-0708",
        "Whether the keys of the running signer lie in memory that is never swapped out. LimitMEMLOCK= in the unit, or ulimit -l, says how much may be locked; 64 kB are enough for a few keys.",
    ),
    ("DOC-0801", "The units that were looked at."),
    ("DOC-0802", "Whether the program that a unit starts is there."),
    (
        "DOC-0803",
        "Whether the configuration that a unit names is there. The fix names it where it was found in the directory above.",
    ),
    ("DOC-0804", "Whether the user of a unit is there."),
    ("DOC-0805", "Whether the group of a unit is there. A mistyped group is a common slip."),
    ("DOC-0806", "Whether the user of a unit may read its configuration. The fix is the chown that is meant."),
    ("DOC-0807", "Whether the user of a unit may write where the state file is. The fix is the chown that is meant."),
    ("DOC-0808", "Whether the user of a unit may read its keys. The fix is the chown that is meant."),
    (
        "DOC-0809",
        "Whether a unit has a user of its own. As root a signer does not start unless it is told to (HOST-0001).",
    ),
    ("EIP3076-0001", "An interchange file is empty."),
    ("EIP3076-0002", "An interchange file is too large."),
    ("EIP3076-0003", "An interchange file ends too early."),
    ("EIP3076-0004", "An interchange file is not JSON."),
    ("EIP3076-0005", "A field of an interchange file is missing or makes no sense."),
    ("EIP3076-0006", "An interchange file has another version than 5."),
    ("EIP3076-0007", "An interchange file names too many keys."),
    ("EIP3076-0008", "An interchange file has too many entries for one key."),
    ("EIP3076-0009", "An interchange file belongs to another chain: its genesis validators root is another one."),
    (
        "EIP3076-0010",
        "An interchange file names a slot or epoch that no chain can reach, which would close the key for ever.",
    ),
    ("EIP3076-0011", "An interchange file names something that is no public key."),
    ("UPGRADE-0001", "A configuration that the upgrade pattern matches does not parse. `config check` tells where."),
    (
        "UPGRADE-0002",
        "A configuration does not have the old chain. Quote the pattern, and compare the chain id with `id` of [[chain]].",
    ),
    (
        "UPGRADE-0003",
        "A new configuration would be written where another file is. Move it away, or take another --suffix.",
    ),
    (
        "UPGRADE-0004",
        "A new state file would be written where another state is. Move it away, or take another --suffix.",
    ),
    (
        "UPGRADE-0005",
        "A state file of the old chain cannot be read. A relative path counts from the unit's WorkingDirectory: name it absolutely.",
    ),
    (
        "UPGRADE-0006",
        "Old and new chain have one id, so the state has to go along. The plan carries it over; nothing at or below it is signed again.",
    ),
    (
        "UPGRADE-0007",
        "The new configurations are not valid together: an error in one, or two that share a key or a state file. `config check` on the old ones tells more.",
    ),
    (
        "UPGRADE-0008",
        "Nothing would stop and start a configuration: it is in the ExecStart of no unit, only by its directory, or there is neither a unit nor a template. Name the units with --units and the file with -c in ExecStart, or give --exec-template.",
    ),
    ("UPGRADE-0009", "A new unit would be written where another file is. Move it away, or take another --suffix."),
    (
        "UPGRADE-0010",
        "The validators' states are further apart than --max-skew allows. Stop every node of the old chain first.",
    ),
    (
        "UPGRADE-0011",
        "The user of a unit does not exist, or cannot read its configuration or write its state. The line behind `fix` mends it.",
    ),
    (
        "UPGRADE-0012",
        "The address of a node has a name that nobody resolves. Check the name, the VPN and the resolver.",
    ),
    (
        "UPGRADE-0013",
        "A device cannot be asked for a key of the plan, or has another one. Both chains use the same key: it has to be in the device that its table names.",
    ),
    ("UPGRADE-0014", "The program in a unit's ExecStart is not there, or is not Semel. Correct the unit."),
    ("UPGRADE-0015", "The disk has too little room for the new files. Make room first."),
    (
        "UPGRADE-0016",
        "The plan waits for a halt height, and the old configuration would sign above it. Add max_height to its [[validator]]; the new configuration goes without.",
    ),
    (
        "UPGRADE-0017",
        "No plan was written, because a check failed or the question makes no sense. Mend what is named, then make the plan again.",
    ),
    ("UPGRADE-0018", "A file has changed since the plan was made from it. Make the plan anew."),
    (
        "UPGRADE-0019",
        "A plan cannot be used: it was edited after it was made, is cut off, or is of another version. Make it anew.",
    ),
    (
        "UPGRADE-0020",
        "A state file of the old chain is lower than the upgrade left it, or another one of the same height, round and step. Put it back: with it, something could be signed twice. The ledger refuses that as well.",
    ),
    ("UPGRADE-0021", "A plan that was rolled back is not applied again. Make a new one: heights have moved on."),
    ("UPGRADE-0022", "A file could not be written. What was done stays done; the same command goes on from there."),
    ("UPGRADE-0023", "A command of the plan failed. What was done stays done; the same command goes on from there."),
    (
        "UPGRADE-0024",
        "A unit does not stop, does not start, or does not keep running. Its journal tells why; then run the same command again, or roll back.",
    ),
    (
        "UPGRADE-0025",
        "A plan, its journal or another file of an upgrade is too large to be read whole. Make a plan for each part of the configurations.",
    ),
    ("EIP3076-0012", "The ledger could not take in an interchange file. What was taken in stays; import it again."),
];

/// Explains a code, or lists them all: those of this duty and of the kernel, and `more`, those of the other duties.
pub fn explain(code: Option<&str>, more: Vec<(&'static str, String)>, shell: &Shell) -> Result<(), Report> {
    let mut all = codes().into_iter().chain(more);
    let Some(code) = code else {
        for (code, text) in all {
            said(shell.line(format!("{code}  {}", text.split(". ").next().unwrap_or_default().trim_end_matches('.'))))?;
        }
        return Ok(());
    };
    let wanted = code.to_uppercase();
    match all.find(|(id, _)| *id == wanted) {
        Some((id, text)) => said(shell.line(format!("{id}  {text}"))),
        None => Err(Report::new(format!("{code} is no code of this program"))
            .hint("`semel explain` lists them all")
            .exit(Exit::Misuse)),
    }
}

/// Every stable code with its explanation.
fn codes() -> Vec<(&'static str, String)> {
    let guard = Reason::ALL.map(|reason| {
        let what = match reason {
            Reason::Conflict => "Another message was already signed at this position. DOUBLE SIGN REFUSED",
            Reason::Regression => "The position lies at or below what this key has signed",
            Reason::TooFar => "The position lies further ahead than a chain can have come",
            Reason::Unknown => "A write to the ledger has an unknown outcome; the position counts as signed",
            Reason::Tombstoned => "The key was deleted or handed over on this host",
            Reason::Unavailable => "The ledger cannot answer",
            Reason::Held => {
                "The key is new to this host, or its floor came from a file, and watches a few heights before it signs"
            }
        };
        (reason.code(), format!("{what}. Nothing was signed. {}.", capitalized(reason.hint())))
    });
    let kernel = KERNEL.iter().map(|(id, text)| (*id, (*text).to_owned()));
    let config = semel_ops::config::codes::ALL.iter().chain(config::codes::ALL.iter());
    let config = config.map(|code| (code.id, format!("{}. {}", code.title, code.explanation)));
    guard.into_iter().chain(kernel).chain(config).collect()
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
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

    /// Codes in string literals of the sources: `"AREA-NNNN"`.
    fn named() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut texts = Vec::new();
        for crate_dir in ["kernel/guard", "kernel/keys", "kernel/ledger", "kernel/ops", "kernel/admin", "duty/kms"] {
            sources(&root.join(crate_dir).join("src"), &mut texts);
        }
        let is_code = |text: &&str| {
            text.rsplit_once('-').is_some_and(|(area, number)| {
                area != "TEST"
                    && number.len() == 4
                    && number.bytes().all(|digit| digit.is_ascii_digit())
                    && !area.is_empty()
                    && area.bytes().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit())
            })
        };
        texts.iter().flat_map(|text| text.split('"').filter(is_code).map(str::to_owned)).collect()
    }

    #[test]
    fn every_code_in_the_sources_is_explained_and_none_twice() {
        let explained: Vec<String> = codes().into_iter().map(|(id, _)| id.to_owned()).collect();
        let unique: BTreeSet<String> = explained.iter().cloned().collect();
        assert_eq!(explained.len(), unique.len());
        assert_eq!(named(), unique);
        assert!(unique.len() > 80, "only {} codes were found", unique.len());
    }
}
