//! The node's files and chain, as the engine and the HTTP server need them: roots, artifacts, proofs.

use crate::core::merkle::MerkleError;
use crate::face::metrics::{Gauge, entity_label};
use crate::host::artifact::{ArtifactError, DatabaseMaker};
use crate::host::chain::Observer;
use crate::host::chaindata::{Certified, ChainData, ChainDataError, Insistence, Provers, ROLL_BACK_MAX, Verdict};
use crate::host::engine::{SourceError, Sources};
use crate::host::http::proofs::Prover;
use crate::host::immutable::{CachePolicy, Digester, Digests, ImmutableError, ImmutableFiles};
use crate::host::store::Store;
use mithril_common::entities::{BlockNumber, BlockNumberOffset, CardanoDbBeacon, SignedEntityType};
use mithril_common::messages::{
    CardanoBlocksProofsMessage, CardanoTransactionsProofsMessage, CardanoTransactionsProofsV2Message,
};
use semel_ops::shutdown::Stop;
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A node's files.
#[derive(Debug)]
pub struct NodeFiles {
    /// The node's database; none: nothing of it is certified.
    pub db: Option<PathBuf>,
    /// The chain.
    pub observer: Arc<dyn Observer>,
    /// Where digests are kept.
    pub store: Store,
    /// What to do with the digests that are kept; `Reset` counts once.
    pub digests: Mutex<CachePolicy>,
    /// Makes artifacts of the node's database; none: it is not certified.
    pub maker: Option<DatabaseMaker>,
    /// Blocks and transactions; none: they are not certified.
    pub chain: Option<ChainData>,
    /// Whoever proves now.
    pub provers: Provers,
    /// Blocks below the tip that the import at start leaves out.
    pub preload_offset: BlockNumberOffset,
    /// What a node says that goes back below a certified block.
    pub insistence: Mutex<Insistence>,
    /// Pulled at the end.
    pub stop: Stop,
}

fn immutable(error: ImmutableError) -> SourceError {
    match error {
        ImmutableError::NothingComplete(_) | ImmutableError::Ahead { .. } | ImmutableError::Stopped => {
            SourceError::NotYet(error.to_string())
        }
        _ => SourceError::Failed(error.to_string()),
    }
}

fn chain(error: ChainDataError) -> SourceError {
    match error {
        ChainDataError::NotYet { .. } | ChainDataError::Stopped => SourceError::NotYet(error.to_string()),
        _ => SourceError::Failed(error.to_string()),
    }
}

impl NodeFiles {
    fn list(&self) -> Result<ImmutableFiles, SourceError> {
        let db = self.db.as_ref().ok_or_else(|| SourceError::Failed("no database of a node is configured".into()))?;
        ImmutableFiles::list(db).map_err(immutable)
    }

    fn digests_up_to(&self, last: u64) -> Result<Digests, SourceError> {
        let policy = {
            let mut kept = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            let policy = *kept;
            if policy == CachePolicy::Reset {
                *kept = CachePolicy::Use;
            }
            policy
        };
        let digester = Digester { cache: &self.store, policy, stop: &self.stop };
        let told = Mutex::new(Instant::now());
        let tell = |progress: crate::host::immutable::Progress| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.elapsed() >= TELL_EVERY {
                *told = Instant::now();
                tracing::info!(done = progress.done, total = progress.total, "digests of immutable files");
            }
        };
        digester.digests(&self.list()?, last, &tell).map_err(immutable)
    }

    fn data(&self) -> Result<&ChainData, SourceError> {
        self.chain.as_ref().ok_or_else(|| SourceError::Failed("blocks are not imported".into()))
    }

    /// Imports the chain up to a block.
    fn import(&self, up_to: BlockNumber) -> Result<&ChainData, SourceError> {
        let data = self.data()?;
        if data.highest().is_some_and(|(highest, _)| highest >= up_to) {
            return Ok(data);
        }
        let mut brought = self.bring(data, up_to);
        if let Err(ChainDataError::BelowCertified { to, certified }) = brought {
            self.give_up(data, to, certified)?;
            brought = self.bring(data, up_to);
        }
        match brought.map_err(chain)? {
            true => {
                self.insistence().forget();
                Ok(data)
            }
            false => Err(SourceError::NotYet(format!("block {up_to} is not there yet"))),
        }
    }

    fn insistence(&self) -> MutexGuard<'_, Insistence> {
        self.insistence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node goes back below a certified block: what is above is given up when it keeps to that, and refused until then.
    fn give_up(&self, data: &ChainData, to: Option<BlockNumber>, certified: BlockNumber) -> Result<(), SourceError> {
        let below = ChainDataError::BelowCertified { to, certified };
        let highest = data.highest().map_or(certified, |(highest, _)| highest);
        let tip = self.observer.view().map_err(|error| chain(error.into()))?.tip.block_number;
        if tip < highest {
            self.insistence().forget();
            return Err(SourceError::Failed(format!("{below}; its tip is block {tip}, and it may still catch up")));
        }
        let verdict = self.insistence().look(to, highest, Instant::now());
        match verdict {
            Verdict::Wait => {
                Err(SourceError::Failed(format!("{below}; it is believed when it keeps to that for minutes")))
            }
            Verdict::TooFar => {
                Err(SourceError::Failed(format!("{below}, further than {ROLL_BACK_MAX} blocks: it is not believed")))
            }
            Verdict::Follow => {
                tracing::error!(
                    to = to.map(|to| *to),
                    certified = *certified,
                    highest = *highest,
                    tip = *tip,
                    "the chain went back below a certified block: the blocks above are taken back, and certificates over them are of a \
                     chain that is gone"
                );
                self.provers.forget_above(to);
                data.give_up(to).map_err(chain)
            }
        }
    }

    /// From complete files first, then from the node; false when the block is not there yet.
    fn bring(&self, data: &ChainData, up_to: BlockNumber) -> Result<bool, ChainDataError> {
        let told = std::cell::Cell::new(Instant::now());
        let tell = |progress: crate::host::chaindata::Progress| {
            if told.get().elapsed() >= TELL_EVERY {
                told.set(Instant::now());
                tracing::info!(
                    chunks = progress.chunks,
                    done = progress.done,
                    blocks = progress.blocks,
                    transactions = progress.transactions,
                    "blocks are imported"
                );
            }
            match self.stop.is_stopped() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let is_there = || data.highest().is_some_and(|(highest, _)| highest >= up_to);
        if !is_there()
            && let Some(db) = &self.db
            && let Ok(files) = ImmutableFiles::list(db)
        {
            data.import_immutables(files.directory(), up_to, &tell)?;
        }
        Ok(is_there() || data.follow(self.observer.as_ref(), up_to, &tell)?)
    }
}

/// Time between two lines of a long piece of work.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

impl Sources for NodeFiles {
    fn immutable_number(&self) -> Result<u64, SourceError> {
        if self.maker.is_none() {
            return Ok(0);
        }
        Ok(self.list()?.last_complete().unwrap_or_default())
    }

    fn database_root(&self, beacon: &CardanoDbBeacon) -> Result<String, SourceError> {
        self.digests_up_to(beacon.immutable_file_number)?.merkle_root().map_err(immutable)
    }

    fn transactions_root(&self, up_to: BlockNumber) -> Result<String, SourceError> {
        match self.import(up_to)?.transactions_root(up_to) {
            // The chain begins with ranges in which nobody sent anything.
            Err(ChainDataError::Merkle(MerkleError::NoLeaves)) => {
                Err(SourceError::NotYet(format!("there is no transaction up to block {up_to}")))
            }
            root => root.map_err(chain),
        }
    }

    fn blocks_transactions_root(&self, up_to: BlockNumber) -> Result<String, SourceError> {
        self.import(up_to)?.blocks_transactions_root(up_to).map_err(chain)
    }

    fn preload(&self) -> Result<(), SourceError> {
        if self.chain.is_none() {
            return Ok(());
        }
        let tip = self.observer.view().map_err(|error| chain(error.into()))?.tip.block_number;
        let (up_to, began) = (tip - self.preload_offset, Instant::now());
        tracing::info!(up_to = *up_to, tip = *tip, "blocks are imported before anything over them is certified");
        self.import(up_to)?;
        tracing::info!(up_to = *up_to, seconds = began.elapsed().as_secs(), "blocks are imported");
        Ok(())
    }

    fn database_artifact(&self, beacon: &CardanoDbBeacon, root: &str) -> Result<(String, Value), SourceError> {
        let maker = self.maker.as_ref().ok_or_else(|| SourceError::Failed("no artifacts are made here".into()))?;
        let digests = self.digests_up_to(beacon.immutable_file_number)?;
        let step = |step| tracing::debug!(?step, "artifact of the node's database");
        let failed = |error: ArtifactError| SourceError::Failed(error.to_string());
        let made = maker.make(beacon, root, &digests, &self.stop, &step).map_err(failed)?;
        Ok((made.hash.clone(), maker.json(&made).map_err(failed)?))
    }

    fn certified(&self, entity: &SignedEntityType, certificate: &str, root: &str) -> Result<(), SourceError> {
        let by = |block_number| Certified {
            certificate_hash: certificate.to_owned(),
            block_number,
            merkle_root: root.to_owned(),
        };
        match entity {
            SignedEntityType::CardanoTransactions(_, block) => {
                let prover = self.import(*block)?.transactions_prover(by(*block)).map_err(chain)?;
                self.provers.set_transactions(prover);
                Gauge::ProverBlock.set(entity_label(entity.into()), **block as f64);
            }
            SignedEntityType::CardanoBlocksTransactions(_, block, offset) => {
                let prover = self.import(*block)?.blocks_transactions_prover(by(*block), *offset).map_err(chain)?;
                self.provers.set_blocks_transactions(prover);
                Gauge::ProverBlock.set(entity_label(entity.into()), **block as f64);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Prover for NodeFiles {
    fn transactions(&self, hashes: &[String]) -> Result<Option<CardanoTransactionsProofsMessage>, String> {
        self.provers.transactions().map(|prover| prover.prove(hashes)).transpose().map_err(|error| error.to_string())
    }

    fn transactions_v2(&self, hashes: &[String]) -> Result<Option<CardanoTransactionsProofsV2Message>, String> {
        let prover = self.provers.blocks_transactions();
        prover.map(|prover| prover.prove_transactions(hashes)).transpose().map_err(|error| error.to_string())
    }

    fn blocks_v2(&self, hashes: &[String]) -> Result<Option<CardanoBlocksProofsMessage>, String> {
        let prover = self.provers.blocks_transactions();
        prover.map(|prover| prover.prove_blocks(hashes)).transpose().map_err(|error| error.to_string())
    }
}
