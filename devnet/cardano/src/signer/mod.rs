//! A Mithril signer as real ones are, and as they must not be.
//!
//! It knows its pool's keys and the node; of the aggregator it knows the HTTP API only. One [`Signer::tick`] is one run interval:
//!
//! ```text
//! node: epoch, tip, stakes                        stakes of epoch e are kept for e + 1
//! GET  /epoch-settings                            another epoch than the node's: wait
//! GET  /protocol-configuration/{e-1, e, e+1}      at a new epoch; all three or nothing
//! POST /register-signer                           once an epoch, for e + 1; 550 and 500: again at the next tick
//! POST /register-signatures                       every type that is open and not yet signed
//! ```
//!
//! A message is computed from the node alone: the aggregator says which types are open, with which parameters and among which
//! signers, never what to sign. Keys registered in epoch e sign in e + 2.

mod http;
pub(crate) mod library;
mod message;
mod population;

pub use http::{API_VERSION, HttpError, SIGNER_VERSION};
pub use population::Population;

use crate::pools::Pool;
use crate::world::Shared;
use http::Aggregator;
use library::SharedLibrary;
use message::Work;
use mithril_common::StdError;
use mithril_common::crypto_helper::{KesEvolutions, KesPeriod, KesSigner, ProtocolInitializer, ProtocolOpCert};
use mithril_common::entities::{
    Epoch, PartyId, ProtocolParameters, SignedEntityType, SingleSignature, StakeDistribution,
};
use mithril_common::messages::{
    EpochSettingsMessage, ProtocolConfigurationMessage, RegisterSignatureMessageHttp, RegisterSignerMessage,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Epochs whose stakes and keys are kept: those that can still sign, and one more.
const EPOCHS_KEPT: u64 = 4;

/// How a signer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// As it should.
    Honest,
    /// Signs only after this many ticks of the epoch.
    Late(u32),
    /// Signs with a key that it never registered.
    WrongKey,
    /// Registers for the current epoch instead of the next, and signs as if the epoch were the next.
    WrongEpoch,
    /// Sends everything twice.
    Duplicate,
    /// Registers, and never signs.
    Silent,
    /// Registers and signs with its own keys under the id of another party.
    ForeignParty,
    /// Registers again, with another key, at every tick.
    ReRegisters,
    /// Registers no more, because another program does that with its pool's keys; it signs as long as its own are recorded.
    Leaves,
    /// Its node is so many blocks ahead of the aggregator's.
    Ahead(u64),
}

/// Why a tick ended early.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The aggregator gives no answer, or none that can be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A configuration of one of the three epochs is missing: a real signer stops here.
    #[error("GET {route} answers {status}")]
    Status {
        /// What was asked.
        route: String,
        /// What the status was.
        status: u16,
    },
    /// Something does not fit the protocol.
    #[error("{0:#}")]
    Protocol(StdError),
}

/// What happened in one tick.
#[derive(Debug, Default)]
pub struct Report {
    /// The node's epoch.
    pub epoch: u64,
    /// The aggregator's epoch, when it is another one: nothing else was done then.
    pub waits_for: Option<Epoch>,
    /// Statuses of registrations.
    pub registrations: Vec<u16>,
    /// What was posted of signatures, and the statuses of posting it.
    pub signatures: Vec<(RegisterSignatureMessageHttp, u16)>,
    /// Types that could not be signed, and why.
    pub unsigned: Vec<(SignedEntityType, String)>,
    /// Whether a key of this signer may sign in this epoch.
    pub may_sign: bool,
}

/// What a signer knows of the current epoch.
#[derive(Debug)]
struct Now {
    epoch: Epoch,
    ticks: u32,
    registered: bool,
    configurations: [ProtocolConfigurationMessage; 3],
    signed: Vec<SignedEntityType>,
}

/// A signer.
#[derive(Debug)]
pub struct Signer {
    pool: Arc<Pool>,
    node: Arc<Shared>,
    library: SharedLibrary,
    slots_per_kes_period: u64,
    aggregator: Aggregator,
    conduct: Conduct,
    dice: ChaCha20Rng,
    /// By the epoch under which they are recorded.
    stakes: BTreeMap<Epoch, StakeDistribution>,
    keys: BTreeMap<Epoch, Vec<ProtocolInitializer>>,
    now: Option<Now>,
}

impl Signer {
    pub(crate) fn new(
        pool: Arc<Pool>,
        node: Arc<Shared>,
        library: SharedLibrary,
        slots_per_kes_period: u64,
        url: &str,
    ) -> Result<Self, HttpError> {
        let mut seed = [0; 32];
        seed.iter_mut().zip(pool.id).for_each(|(into, from)| *into = from);
        Ok(Self {
            pool,
            node,
            library,
            slots_per_kes_period: slots_per_kes_period.max(1),
            aggregator: Aggregator::new(url)?,
            conduct: Conduct::Honest,
            dice: ChaCha20Rng::from_seed(seed),
            stakes: BTreeMap::new(),
            keys: BTreeMap::new(),
            now: None,
        })
    }

    /// The same signer, behaving otherwise.
    #[must_use]
    pub fn with_conduct(self, conduct: Conduct) -> Self {
        Self { conduct, ..self }
    }

    /// From now on it behaves otherwise.
    pub fn set_conduct(&mut self, conduct: Conduct) {
        self.conduct = conduct;
    }

    /// From now on it speaks to the aggregator at another base.
    pub fn turn_to(&mut self, url: &str) -> Result<(), HttpError> {
        self.aggregator = Aggregator::new(url)?;
        Ok(())
    }

    /// Its party id.
    pub fn party_id(&self) -> &str {
        &self.pool.party_id
    }

    /// One run interval.
    pub fn tick(&mut self) -> Result<Report, SignerError> {
        let (epoch, slot, mut block, stakes) = self.look();
        if let Conduct::Ahead(blocks) = self.conduct {
            block.block_number += blocks;
        }
        self.keep(epoch, stakes);
        let mut report = Report { epoch: *epoch, ..Report::default() };
        let settings: EpochSettingsMessage = self.expect("/epoch-settings")?;
        if settings.epoch != epoch {
            report.waits_for = Some(settings.epoch);
            return Ok(report);
        }
        let mut now = match self.now.take() {
            Some(now) if now.epoch == epoch => now,
            _ => self.enter(epoch)?,
        };
        let outcome = self.act(&mut now, &settings, KesPeriod(slot / self.slots_per_kes_period), block, &mut report);
        now.ticks = now.ticks.saturating_add(1);
        self.now = Some(now);
        outcome.map(|()| report)
    }

    /// What the node says.
    fn look(&self) -> (Epoch, u64, mithril_common::entities::ChainPoint, StakeDistribution) {
        let ledger = self.node.world().ledger();
        let [mark, ..] = &ledger.stakes;
        let stakes = mark
            .iter()
            .filter(|(_, stake)| **stake > 0)
            .filter_map(|(pool, stake)| {
                Some((mithril_common::crypto_helper::encode_bech32("pool", pool).ok()?, *stake))
            })
            .collect();
        let slot = ledger.tip.map_or(0, |tip| tip.slot);
        let point = message::chain_point(ledger.tip);
        (Epoch(ledger.epoch), slot, point, stakes)
    }

    fn keep(&mut self, epoch: Epoch, stakes: StakeDistribution) {
        // A node that tells of no stake at all will tell otherwise.
        if !stakes.is_empty() {
            self.stakes.entry(epoch.offset_to_recording_epoch()).or_insert(stakes);
        }
        let oldest = Epoch((*epoch + 1).saturating_sub(EPOCHS_KEPT));
        self.stakes = self.stakes.split_off(&oldest);
        self.keys = self.keys.split_off(&oldest);
    }

    fn expect<T: serde::de::DeserializeOwned>(&self, route: &str) -> Result<T, SignerError> {
        let answer = self.aggregator.get(route)?;
        answer.map_err(|status| SignerError::Status { route: route.to_owned(), status })
    }

    /// Asks what a new epoch is configured with.
    fn enter(&self, epoch: Epoch) -> Result<Now, SignerError> {
        let of = |epoch: u64| self.expect(&format!("/protocol-configuration/{epoch}"));
        let configurations = [of(epoch.saturating_sub(1))?, of(*epoch)?, of(*epoch + 1)?];
        Ok(Now { epoch, ticks: 0, registered: false, configurations, signed: Vec::new() })
    }

    fn act(
        &mut self,
        now: &mut Now,
        settings: &EpochSettingsMessage,
        period: KesPeriod,
        tip: mithril_common::entities::ChainPoint,
        report: &mut Report,
    ) -> Result<(), SignerError> {
        let is_to_register = match self.conduct {
            Conduct::ReRegisters => true,
            Conduct::Leaves => false,
            _ => !now.registered,
        };
        if is_to_register {
            now.registered |= self.register(now, settings, period, report)?;
        }
        let patience = if let Conduct::Late(ticks) = self.conduct { ticks } else { 0 };
        if self.conduct == Conduct::Silent || now.ticks < patience {
            return Ok(());
        }
        let immutable = self.node.world().database.directory().join("immutable");
        let Some(key) = self.key(now.epoch, settings).map_err(SignerError::Protocol)? else { return Ok(()) };
        report.may_sign = true;
        let work = Work { now, settings, stakes: &self.stakes, library: &self.library, node: &self.node, immutable };
        let open = work.open(tip).map_err(SignerError::Protocol)?;
        let mut done = Vec::new();
        for entity in open.into_iter().filter(|entity| !now.signed.contains(entity)) {
            match work.sign(&self.pool.party_id, &key, &entity) {
                Ok(Some((signature, message))) => {
                    if self.publish(entity.clone(), signature, message, settings, report)? {
                        done.push(entity);
                    }
                }
                // No lottery won: there is nothing to send.
                Ok(None) => done.push(entity),
                Err(why) => report.unsigned.push((entity, format!("{why:#}"))),
            }
        }
        now.signed.extend(done);
        Ok(())
    }

    /// The key that may sign now: the one that was recorded, whatever was sent before and after it.
    fn key(&mut self, epoch: Epoch, settings: &EpochSettingsMessage) -> Result<Option<ProtocolInitializer>, StdError> {
        let keys = self.keys.get(&Epoch(epoch.saturating_sub(1))).map_or(&[][..], Vec::as_slice);
        let Some(recorded) = message::recorded(settings, &self.pool.party_id, keys)? else { return Ok(None) };
        if self.conduct != Conduct::WrongKey {
            return Ok(Some(recorded));
        }
        let parameters = recorded.get_protocol_parameters();
        let signer: Arc<dyn KesSigner> = Arc::clone(&self.pool) as _;
        let stake = recorded.get_stake();
        let period = Some(self.pool.certificate.get_start_kes_period());
        ProtocolInitializer::setup(parameters, Some(signer), period, stake, &mut self.dice).map(Some)
    }

    /// Registers a new key; true when it is recorded.
    fn register(
        &mut self,
        now: &Now,
        settings: &EpochSettingsMessage,
        period: KesPeriod,
        report: &mut Report,
    ) -> Result<bool, SignerError> {
        let recording = now.epoch.offset_to_recording_epoch();
        let stake = self.stakes.get(&recording).and_then(|stakes| stakes.get(&self.pool.party_id)).copied();
        let Some(stake) = stake else { return Ok(false) };
        let [.., next] = &now.configurations;
        let initializer = self.new_key(&next.protocol_parameters, period, stake).map_err(SignerError::Protocol)?;
        let mut message = self.registration(&initializer, recording, period).map_err(SignerError::Protocol)?;
        match self.conduct {
            Conduct::WrongEpoch => message.epoch = now.epoch,
            Conduct::ForeignParty => message.party_id = self.victim(settings).unwrap_or_default(),
            _ => {}
        }
        let times = if self.conduct == Conduct::Duplicate { 2 } else { 1 };
        let mut recorded = false;
        for _ in 0..times {
            let status = self.aggregator.post("/register-signer", &message)?;
            report.registrations.push(status);
            recorded |= status == 201;
        }
        if recorded {
            self.keys.entry(recording).or_default().push(initializer);
        }
        Ok(recorded)
    }

    fn new_key(
        &mut self,
        parameters: &ProtocolParameters,
        period: KesPeriod,
        stake: u64,
    ) -> Result<ProtocolInitializer, StdError> {
        let signer: Arc<dyn KesSigner> = Arc::clone(&self.pool) as _;
        ProtocolInitializer::setup(parameters.clone().into(), Some(signer), Some(period), stake, &mut self.dice)
    }

    fn registration(
        &self,
        initializer: &ProtocolInitializer,
        epoch: Epoch,
        period: KesPeriod,
    ) -> Result<RegisterSignerMessage, StdError> {
        let key = mithril_common::crypto_helper::ProtocolKey::new(initializer.verification_key_for_concatenation());
        let signature = initializer.verification_key_signature_for_concatenation();
        let start = self.pool.certificate.get_start_kes_period();
        Ok(RegisterSignerMessage {
            epoch,
            party_id: self.pool.party_id.clone(),
            verification_key_for_concatenation: key.to_json_hex()?,
            verification_key_signature_for_concatenation: signature
                .map(|signature| signature.to_json_hex())
                .transpose()?,
            operational_certificate: Some(ProtocolOpCert::new(self.pool.certificate.clone()).to_json_hex()?),
            kes_evolutions: Some(KesEvolutions(period.saturating_sub(*start))),
        })
    }

    /// Sends a signature; true when it need not be sent again.
    fn publish(
        &self,
        entity: SignedEntityType,
        signature: SingleSignature,
        signed_message: String,
        settings: &EpochSettingsMessage,
        report: &mut Report,
    ) -> Result<bool, SignerError> {
        let mut message = RegisterSignatureMessageHttp {
            signed_entity_type: entity.clone().into(),
            party_id: signature.party_id.clone(),
            signature: signature.signature.to_json_hex().map_err(SignerError::Protocol)?,
            won_indexes: signature.won_indexes,
            signed_message,
        };
        match self.conduct {
            Conduct::WrongEpoch => message.signed_entity_type = message::one_epoch_later(entity).into(),
            Conduct::ForeignParty => message.party_id = self.victim(settings).unwrap_or_default(),
            _ => {}
        }
        let times = if self.conduct == Conduct::Duplicate { 2 } else { 1 };
        let mut done = false;
        for _ in 0..times {
            let status = self.aggregator.post("/register-signatures", &message)?;
            report.signatures.push((message.clone(), status));
            done |= matches!(status, 201 | 202 | 410);
        }
        Ok(done)
    }

    /// Another party that signs.
    fn victim(&self, settings: &EpochSettingsMessage) -> Option<PartyId> {
        let parties = settings.current_signers.iter().chain(&settings.next_signers).map(|signer| &signer.party_id);
        parties.into_iter().find(|party| **party != self.pool.party_id).cloned()
    }
}
