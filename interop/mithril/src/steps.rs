//! The steps, in the order in which a client of each type would take them.

use crate::Run;
use mithril_client::cardano_database_client::{DownloadUnpackOptions, ImmutableFileRange};
use mithril_client::common::ProtocolMessage;
use mithril_client::{CardanoDatabaseSnapshot, MessageBuilder, MithrilCertificate, MithrilError, MithrilResult};
use std::fmt::Display;
use std::path::Path;

/// Names of the types that can be left out.
pub(crate) const TYPES: [&str; 5] = ["mithril-stakes", "cardano-stakes", "database", "transactions", "blocks"];

/// A hash that is on no chain.
const NOWHERE: &str = "5e3e105e3e105e3e105e3e105e3e105e3e105e3e105e3e105e3e105e3e105e3e";

/// All steps that are wanted, up to the first failure, which has been said by then.
pub(crate) async fn all(run: &Run) -> Result<(), ()> {
    run.step("era", era(run)).await?;
    run.step("certificates", certificates(run)).await?;
    if run.wants("mithril-stakes") {
        run.step("mithril stake distributions", mithril_stakes(run)).await?;
    }
    if run.wants("cardano-stakes") {
        run.step("cardano stake distributions", cardano_stakes(run)).await?;
    }
    if run.wants("database") {
        run.step("cardano databases", databases(run)).await?;
        if !run.arguments.no_download {
            run.step("cardano database download", download(run)).await?;
        }
    }
    if run.wants("transactions") {
        run.step("cardano transactions", transactions(run)).await?;
        run.step("transaction proofs", transaction_proofs(run)).await?;
    }
    if run.wants("blocks") {
        run.step("cardano blocks and transactions", blocks(run)).await?;
        run.step("transaction proofs v2", transaction_proofs_v2(run)).await?;
        run.step("block proofs", block_proofs(run)).await?;
    }
    Ok(())
}

fn wrong(text: impl Display) -> MithrilError {
    MithrilError::msg(text.to_string())
}

fn ensure(holds: bool, text: impl Display) -> MithrilResult<()> {
    if holds { Ok(()) } else { Err(wrong(text)) }
}

/// What an item's route gave; none is a 404.
fn there<T>(item: Option<T>, hash: &str) -> MithrilResult<T> {
    item.ok_or_else(|| wrong(format!("{hash} is listed, but its own route does not know it")))
}

/// The certificate must be for `message`.
fn matches(certificate: &MithrilCertificate, message: &ProtocolMessage) -> MithrilResult<()> {
    let text = || {
        format!(
            "certificate {} signs {} and not {}",
            certificate.hash,
            certificate.signed_message,
            message.compute_hash()
        )
    };
    if certificate.match_message(message) { Ok(()) } else { Err(wrong(text())) }
}

async fn era(run: &Run) -> MithrilResult<String> {
    let era = run.client.mithril_era_client().fetch_current().await?;
    Ok(era.to_supported_era()?.to_string())
}

async fn certificates(run: &Run) -> MithrilResult<String> {
    let client = run.client.certificate();
    let list = client.list().await?;
    let newest = list.first().ok_or_else(|| wrong("the list is empty"))?;
    ensure(list.len() <= 20, format!("{} are listed", list.len()))?;
    for item in &list {
        let shown = there(client.get(&item.hash).await?, &item.hash)?;
        ensure(shown.hash == item.hash && shown.previous_hash == item.previous_hash, "list and item differ")?;
    }
    ensure(client.get(NOWHERE).await?.is_none(), "there is a certificate of a hash that nobody made")?;
    run.verified();
    let certificate = client.verify_chain(&newest.hash).await?;
    let verified = run.verified();
    ensure(
        verified >= run.arguments.chain,
        format!("only {verified} certificates are between {} and genesis", newest.hash),
    )?;
    Ok(format!(
        "{} listed, {verified} verified from {} (epoch {}) to genesis",
        list.len(),
        certificate.hash,
        certificate.epoch
    ))
}

async fn mithril_stakes(run: &Run) -> MithrilResult<String> {
    let client = run.client.mithril_stake_distribution();
    let list = client.list().await?;
    let mut seen = Seen::default();
    for item in list.iter().take(run.arguments.artifacts) {
        let artifact = there(client.get(&item.hash).await?, &item.hash)?;
        let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
        matches(
            &certificate,
            &MessageBuilder::new().compute_mithril_stake_distribution_message(&certificate, &artifact)?,
        )?;
        seen.note(format!("epoch {}, {} signers", artifact.epoch, artifact.signers_with_stake.len()));
    }
    ensure(client.get(NOWHERE).await?.is_none(), "an artifact that nobody made is shown")?;
    seen.text(list.len())
}

async fn cardano_stakes(run: &Run) -> MithrilResult<String> {
    let client = run.client.cardano_stake_distribution();
    let list = client.list().await?;
    let mut seen = Seen::default();
    for item in list.iter().take(run.arguments.artifacts) {
        let artifact = there(client.get(&item.hash).await?, &item.hash)?;
        let by_epoch = there(client.get_by_epoch(artifact.epoch).await?, "its epoch")?;
        ensure(by_epoch == artifact, format!("epoch {} has another one than {}", artifact.epoch, item.hash))?;
        let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
        matches(
            &certificate,
            &MessageBuilder::new().compute_cardano_stake_distribution_message(&certificate, &artifact)?,
        )?;
        seen.note(format!("epoch {}, {} pools", artifact.epoch, artifact.stake_distribution.len()));
    }
    seen.text(list.len())
}

async fn databases(run: &Run) -> MithrilResult<String> {
    let client = run.client.cardano_database_v2();
    let list = client.list().await?;
    let mut seen = Seen::default();
    for item in list.iter().take(run.arguments.artifacts) {
        let artifact = there(client.get(&item.hash).await?, &item.hash)?;
        ensure(artifact.merkle_root == item.merkle_root && artifact.beacon == item.beacon, "list and item differ")?;
        let of_epoch = client.list_by_epoch(item.beacon.epoch).await?;
        ensure(of_epoch.iter().any(|other| other.hash == item.hash), "the list of its epoch does not have it")?;
        let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
        let verified = client.download_and_verify_digests(&certificate, &artifact).await?;
        seen.note(format!("{}, {} digests verified", artifact.beacon, verified.digests.len()));
    }
    seen.text(list.len())
}

async fn download(run: &Run) -> MithrilResult<String> {
    let client = run.client.cardano_database_v2();
    let list = client.list().await?;
    let item = list.first().ok_or_else(|| wrong("the list is empty"))?;
    let artifact = there(client.get(&item.hash).await?, &item.hash)?;
    let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
    let directory = tempfile::tempdir()?;
    let options = DownloadUnpackOptions { include_ancillary: true, ..DownloadUnpackOptions::default() };
    let range = ImmutableFileRange::Full;
    client.download_unpack(&artifact, &range, directory.path(), options).await?;
    let digests = client.download_and_verify_digests(&certificate, &artifact).await?;
    let proof = client
        .verify_cardano_database(&certificate, &artifact, &range, false, directory.path(), &digests)
        .await
        .map_err(wrong)?;
    matches(&certificate, &MessageBuilder::new().compute_cardano_database_message(&certificate, &proof).await?)?;
    let last = artifact.beacon.immutable_file_number;
    client.add_statistics(true, true, last).await?;
    let seen = unpacked(directory.path(), &artifact)?;
    Ok(format!("{}: {seen}, verified against {}", artifact.beacon, certificate.hash))
}

/// What a node would find: all trios, the one after the beacon, and a ledger.
fn unpacked(directory: &Path, artifact: &CardanoDatabaseSnapshot) -> MithrilResult<String> {
    let last = artifact.beacon.immutable_file_number;
    for number in 0..=last + 1 {
        for extension in ["chunk", "primary", "secondary"] {
            let name = format!("immutable/{number:05}.{extension}");
            ensure(directory.join(&name).is_file(), format!("{name} was not unpacked"))?;
        }
    }
    let ledgers = std::fs::read_dir(directory.join("ledger"))?.count();
    ensure(ledgers > 0, "no ledger was unpacked")?;
    ensure(!directory.join("ancillary_manifest.json").exists(), "the manifest is left over")?;
    let (mut bytes, mut waiting) = (0, vec![directory.to_path_buf()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else {
                bytes += metadata.len();
            }
        }
    }
    Ok(format!("{} trios, {ledgers} ledger snapshots, {bytes} bytes", last + 2))
}

async fn transactions(run: &Run) -> MithrilResult<String> {
    let client = run.client.cardano_transaction();
    let list = client.list_snapshots().await?;
    let mut seen = Seen::default();
    for item in list.iter().take(run.arguments.artifacts) {
        let artifact = there(client.get_snapshot(&item.hash).await?, &item.hash)?;
        let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
        ensure(
            certificate.protocol_message.message_parts.values().any(|part| *part == artifact.merkle_root),
            "its certificate has another root",
        )?;
        seen.note(format!("epoch {}, block {}", artifact.epoch, artifact.block_number));
    }
    seen.text(list.len())
}

async fn blocks(run: &Run) -> MithrilResult<String> {
    let client = run.client.cardano_block();
    let list = client.list_snapshots().await?;
    let mut seen = Seen::default();
    for item in list.iter().take(run.arguments.artifacts) {
        let artifact = there(client.get_snapshot(&item.hash).await?, &item.hash)?;
        let certificate = run.client.certificate().verify_chain(&artifact.certificate_hash).await?;
        ensure(
            certificate.protocol_message.message_parts.values().any(|part| *part == artifact.merkle_root),
            "its certificate has another root",
        )?;
        seen.note(format!("epoch {}, block {}", artifact.epoch, artifact.block_number_signed));
    }
    seen.text(list.len())
}

/// The hashes, and one that is nowhere.
fn asked(hashes: &[String]) -> MithrilResult<Vec<String>> {
    ensure(!hashes.is_empty(), "no hash to ask for was given: --transaction, --block")?;
    Ok(hashes.iter().cloned().chain([NOWHERE.to_owned()]).collect())
}

/// Every hash is certified but the one that is nowhere.
fn complete(hashes: &[String], mut certified: Vec<String>, not: &[String]) -> MithrilResult<()> {
    let mut hashes = hashes.to_vec();
    hashes.sort();
    certified.sort();
    ensure(certified == hashes, format!("certified are {certified:?}"))?;
    ensure(not == [NOWHERE], format!("not certified are {not:?}"))
}

async fn transaction_proofs(run: &Run) -> MithrilResult<String> {
    let hashes = &run.arguments.transactions;
    let proofs = run.client.cardano_transaction().get_proofs(&asked(hashes)?).await?;
    let verified = proofs.verify()?;
    let certificate = run.client.certificate().verify_chain(&proofs.certificate_hash).await?;
    matches(&certificate, &MessageBuilder::new().compute_cardano_transactions_proofs_message(&certificate, &verified))?;
    complete(hashes, verified.certified_transactions().to_vec(), &proofs.non_certified_transactions)?;
    Ok(format!("{} verified against {}", hashes.len(), certificate.hash))
}

async fn transaction_proofs_v2(run: &Run) -> MithrilResult<String> {
    let hashes = &run.arguments.transactions;
    let proofs = run.client.cardano_transaction_v2().get_proof(&asked(hashes)?).await?;
    let verified = proofs.verify()?;
    let certificate = run.client.certificate().verify_chain(&proofs.certificate_hash).await?;
    matches(
        &certificate,
        &MessageBuilder::new().compute_cardano_transactions_proofs_v2_message(&certificate, &verified),
    )?;
    let certified = verified.certified_transactions().iter().map(|item| item.transaction_hash.clone()).collect();
    complete(hashes, certified, &proofs.non_certified_transactions)?;
    Ok(format!("{} verified against {}", hashes.len(), certificate.hash))
}

async fn block_proofs(run: &Run) -> MithrilResult<String> {
    let hashes = &run.arguments.blocks;
    let proofs = run.client.cardano_block().get_proof(&asked(hashes)?).await?;
    let verified = proofs.verify()?;
    let certificate = run.client.certificate().verify_chain(&proofs.certificate_hash).await?;
    matches(&certificate, &MessageBuilder::new().compute_cardano_blocks_proofs_message(&certificate, &verified))?;
    let certified = verified.certified_blocks().iter().map(|item| item.block_hash.clone()).collect();
    complete(hashes, certified, &proofs.non_certified_blocks)?;
    Ok(format!("{} verified against {}", hashes.len(), certificate.hash))
}

/// Artifacts of one type that were verified.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn note(&mut self, text: String) {
        self.0.push(text);
    }

    fn text(self, listed: usize) -> MithrilResult<String> {
        ensure(listed > 0, "the list is empty")?;
        ensure(listed <= 20, format!("{listed} are listed"))?;
        Ok(format!("{listed} listed, verified: {}", self.0.join("; ")))
    }
}
