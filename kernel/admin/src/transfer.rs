//! `ledger import` and `ledger export`: floors from other signers, and for them. Floors only rise.

use crate::floors::{Floor, How, Plan};
use crate::look::Which;
use crate::{Place, StateOf, known, put_out, read_bounded};
use clap::{Args, ValueEnum};
use semel_guard::{Algorithm, ChainId, HoldCause, Lane, PublicKey, Subject};
use semel_ledger::Known;
use semel_ledger::interchange::eip3076::{self, Eip3076Error, Interchange, Root};
use semel_ledger::interchange::{Dialect, StateFile, StateWarning, floor_of};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::path::PathBuf;

/// How far into a file the keys are looked for that say what it is, in bytes.
const HEAD_LEN: usize = 4096;

/// Keys that only an interchange file has.
const EIP3076_KEYS: [&str; 4] =
    ["\"interchange_format_version\"", "\"genesis_validators_root\"", "\"signed_blocks\"", "\"signed_attestations\""];

/// What another signer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// State of tmkms
    Tmkms,
    /// The node's own signer (priv_validator_state.json)
    Cometbft,
    /// State of horcrux
    Horcrux,
    /// Slashing protection of Ethereum validators (EIP-3076, version 5)
    Eip3076,
}

impl FileFormat {
    fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Tmkms => Some(Dialect::Tmkms),
            Self::Cometbft => Some(Dialect::FilePv),
            Self::Horcrux => Some(Dialect::Horcrux),
            Self::Eip3076 => None,
        }
    }
}

/// `ledger import`
#[derive(Debug, Args)]
pub struct Import {
    /// Which ledger
    #[command(flatten)]
    place: Place,
    /// Whose file it is, where it does not say so itself
    #[command(flatten)]
    which: Which,
    /// What wrote the file [default: the file tells]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// How
    #[command(flatten)]
    how: How,
    /// State file of tmkms, a node or horcrux, or a slashing-protection interchange file
    file: PathBuf,
}

/// `ledger export`
#[derive(Debug, Args)]
pub struct Export {
    /// Which ledger
    #[command(flatten)]
    place: Place,
    /// Which keys
    #[command(flatten)]
    which: Which,
    /// For which signer
    #[arg(long, value_enum, default_value = "tmkms")]
    format: FileFormat,
    /// File to make [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A file of another format than was said.
fn misnamed(import: &Import, found: &str) -> Report {
    Report::new(format!("{} is {found}", import.file.display()))
        .code_id("TRANSFER-0003")
        .hint("leave --format away: the file tells what it is")
        .exit(Exit::Misuse)
}

fn several(count: usize, hint: &str) -> Report {
    let message = match count {
        0 => "the ledger has no such key".into(),
        _ => format!("{count} keys match"),
    };
    Report::new(message).code_id("TRANSFER-0002").hint(hint).exit(Exit::Misuse)
}

impl Import {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        let bytes =
            read_bounded(&self.file, eip3076::FILE_MAX as u64).map_err(|report| report.code_id("TRANSFER-0001"))?;
        let directory = self.place.directory();
        let known = if directory.exists() { known(&directory)? } else { Vec::new() };
        let head = bytes.get(..HEAD_LEN).unwrap_or(&bytes);
        let has = |key: &&str| head.windows(key.len()).any(|part| part == key.as_bytes());
        let floors = match (self.format, EIP3076_KEYS.iter().any(has)) {
            (Some(FileFormat::Eip3076), _) | (None, true) => self.interchange(&bytes)?,
            (Some(_), true) => return Err(misnamed(self, "a slashing-protection interchange file")),
            (_, false) => self.state(&bytes, known.as_slice(), shell)?,
        };
        if floors.is_empty() {
            shell.status("Nothing", "the file says that nothing was signed");
            return Ok(());
        }
        let plan = Plan::of(&known, &floors, "in the file");
        plan.carry_out(&self.place, HoldCause::Imported, &self.how, shell)
    }

    fn interchange(&self, bytes: &[u8]) -> Result<Vec<Floor>, Report> {
        let report = |error: Eip3076Error| {
            Report::new(format!("{}: {error}", self.file.display())).code_id(error.code()).hint(error.hint())
        };
        let file = Interchange::parse(bytes).map_err(report)?;
        if let Some(chain) = &self.which.chain {
            let expected = Root::parse(chain).ok_or_else(|| {
                Report::new("--chain of an interchange file is its genesis validators root, 0x and 64 digits")
                    .code_id("TRANSFER-0002")
                    .exit(Exit::Misuse)
            })?;
            let found = file.genesis_validators_root;
            if found != expected {
                return Err(report(Eip3076Error::OtherChain { found, expected }));
            }
        }
        let floors = file.floors().map_err(report)?;
        let floors = floors.into_iter().map(|(subject, lane, mark)| Floor { subject, lane, mark });
        Ok(floors.filter(|floor| self.which.means(&floor.subject)).collect())
    }

    fn state(&self, bytes: &[u8], known: &[Known], shell: &Shell) -> Result<Vec<Floor>, Report> {
        let file = StateFile::parse(bytes).map_err(|error| {
            let report = Report::new(format!("{}: {error}", self.file.display())).code_id(error.code());
            report.hint("name a state file of tmkms, a node or horcrux, or an interchange file")
        })?;
        // One that could be of several signers is of the one that was named; its step is read as the latest that it can mean.
        let is_clear = !file.warnings.contains(&StateWarning::UnclearStep);
        if is_clear && self.format.and_then(FileFormat::dialect).is_some_and(|dialect| dialect != file.dialect) {
            return Err(misnamed(self, &format!("a state file in the form of {:?}", file.dialect)));
        }
        let subject = self.owner(&file, known)?;
        file.check_owner(subject.chain.as_str(), &subject.key.to_string()).map_err(|error| {
            let report = Report::new(format!("{}: {error}", self.file.display())).code_id(error.code());
            report.hint("name the key and chain of this file").exit(Exit::Unsafe)
        })?;
        for warning in &file.warnings {
            shell.warning(warning);
        }
        Ok(floor_of(&file).map(|mark| Floor { subject, lane: Lane::Tendermint, mark }).into_iter().collect())
    }

    /// Whose state it is: as said, as the file says, and known here or named in full.
    fn owner(&self, file: &StateFile, known: &[Known]) -> Result<Subject, Report> {
        let key = self.which.key.as_ref().or(file.pub_key.as_ref()).map(|key| key.to_uppercase());
        let chain = self.which.chain.as_ref().or(file.chain_id.as_ref()).cloned();
        let named = || {
            let bytes = hex::decode(key.as_ref()?).ok()?;
            let algorithm =
                [Algorithm::Ed25519, Algorithm::Secp256k1].into_iter().find(|a| a.key_len() == bytes.len())?;
            let key = PublicKey::new(algorithm, &bytes).ok()?;
            Some(Subject { key, chain: ChainId::new(chain.as_ref()?).ok()? })
        };
        let which = Which { key: key.clone(), chain: chain.clone() };
        let mut found: Vec<&Known> = known.iter().filter(|known| which.takes(known)).collect();
        let is_named = which.key.is_some() || which.chain.is_some();
        match (found.pop(), found.len()) {
            (Some(one), 0) if is_named => Ok(one.subject.clone()),
            (None, _) => named().ok_or_else(|| {
                several(0, "name the whole public key with --key, in hexadecimal digits, and its chain with --chain")
            }),
            (_, more) => Err(several(more + 1, "name one with --key and --chain")),
        }
    }
}

impl Export {
    /// Runs the command. `state_of` is how the duty writes what the ledger knows as a state file.
    pub fn run(&self, state_of: StateOf, shell: &Shell) -> Result<(), Report> {
        let found: Vec<Known> =
            known(&self.place.directory())?.into_iter().filter(|known| self.which.takes(known)).collect();
        let text = match self.format.dialect() {
            Some(dialect) => tendermint(&found, dialect, state_of)?,
            None => ethereum(&found)?,
        };
        put_out(self.output.as_deref(), text.trim_end(), shell)
    }
}

fn tendermint(found: &[Known], dialect: Dialect, state_of: StateOf) -> Result<String, Report> {
    let lane_of =
        |known: &Known| known.lanes.iter().find(|(lane, _)| *lane == Lane::Tendermint).map(|(_, lane)| lane.clone());
    let signing: Vec<_> = found.iter().filter_map(|known| Some((&known.subject, lane_of(known)?))).collect();
    match signing.as_slice() {
        [(subject, history)] => Ok(state_of(subject, history).render(dialect)),
        other => Err(several(other.len(), "a state file is of one key: name it with --key and --chain")),
    }
}

fn ethereum(found: &[Known]) -> Result<String, Report> {
    let signs = |known: &&Known| {
        known.lanes.iter().any(|(lane, _)| matches!(lane, Lane::EthereumBlock | Lane::EthereumAttestation))
    };
    let mut roots: Vec<Root> =
        found.iter().filter(signs).filter_map(|known| Root::parse(known.subject.chain.as_str())).collect();
    roots.sort_unstable();
    roots.dedup();
    let [root] = roots.as_slice() else {
        let hint = "an interchange file is of one chain: name its genesis validators root with --chain";
        return Err(several(roots.len(), hint));
    };
    let file = eip3076::export_known(found, *root);
    file.map(|file| file.render()).map_err(|error| Report::of(&error).code_id(error.code()).hint(error.hint()))
}
