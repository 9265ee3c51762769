//! Everything that is read.

use super::reply::{self, Keep};
use super::{API_VERSION, EPOCHS_BACK_MAX, LIST_MAX, Shared, turn, work};
use crate::core::entity;
use crate::core::runtime::State as Condition;
use crate::face::metrics::{self, ByClient};
use crate::host::store::entities::{self, Artifact};
use crate::host::store::{Result as StoreResult, StoreError, certificates as rows, epochs, snark};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use mithril_common::AggregateSignatureType;
use mithril_common::entities::{
    CardanoBlocksTransactionsSnapshot, CardanoNetwork, CardanoStakeDistribution, CardanoTransactionsSnapshot,
    Certificate, Epoch, EpochSpecifier, MithrilStakeDistribution, SignedEntityType,
    SignedEntityTypeDiscriminants as Kind, Signer,
};
use mithril_common::messages::{
    AggregatorCapabilities, AggregatorFeaturesMessage, AggregatorStatusMessage,
    CardanoBlocksTransactionsSnapshotMessage, CardanoDatabaseDigestListItemMessage,
    CardanoStakeDistributionListItemMessage, CardanoStakeDistributionMessage, CardanoTransactionSnapshotMessage,
    CardanoTransactionsProverCapabilities, CertificateListItemMessage, CertificateListItemMessageMetadata,
    CertificateMessage, EpochSettingsMessage, MithrilStakeDistributionListItemMessage, MithrilStakeDistributionMessage,
    ProtocolConfigurationMessage, SignerMessagePart, SignerWithStakeMessagePart,
};
use serde::Serialize;

/// No chain comes to this epoch; offsets of a few epochs are added without a check.
const EPOCH_MAX: u64 = 1 << 40;
/// Epochs back whose lists are kept in memory.
const EPOCHS_IN_MEMORY: u64 = 16;

/// What a read gives: a body, or that there is none.
type Found = StoreResult<Option<Vec<u8>>>;

impl Shared {
    /// A reply from memory, or built now.
    async fn serve(&self, path: String, keep: Keep, build: impl FnOnce(&Shared) -> Found + Send + 'static) -> Response {
        let version = self.0.engine.version();
        if let Some(body) = self.0.cache.get(&path, version) {
            return reply::json(StatusCode::OK, body, keep);
        }
        let place = match turn(&self.0.reads).await {
            Ok(place) => place,
            Err(busy) => return *busy,
        };
        // Somebody before may have built the same.
        let version = self.0.engine.version();
        if let Some(body) = self.0.cache.get(&path, version) {
            return reply::json(StatusCode::OK, body, keep);
        }
        let this = self.clone();
        let built = work(place, move || build(&this)).await;
        match built {
            Ok(Ok(Some(body))) => {
                let body = Bytes::from(body);
                self.0.cache.put(&path, &body, (keep == Keep::Never).then_some(version));
                reply::json(StatusCode::OK, body, keep)
            }
            Ok(Ok(None)) => reply::empty(StatusCode::NOT_FOUND),
            Ok(Err(error)) => reply::database(&error),
            Err(error) => reply::failed(&error.to_string()),
        }
    }

    /// A reply that is built each time: what it tells changes with every registration.
    async fn tell(&self, build: impl FnOnce(&Shared) -> Found + Send + 'static) -> Response {
        let place = match turn(&self.0.reads).await {
            Ok(place) => place,
            Err(busy) => return *busy,
        };
        let this = self.clone();
        match work(place, move || build(&this)).await {
            Ok(Ok(Some(body))) => reply::json(StatusCode::OK, Bytes::from(body), Keep::Never),
            Ok(Ok(None)) => reply::empty(StatusCode::NOT_FOUND),
            Ok(Err(error)) => reply::database(&error),
            Err(error) => reply::failed(&error.to_string()),
        }
    }
}

fn encode<T: Serialize>(message: &T) -> Found {
    serde_json::to_vec(message).map(Some).map_err(|error| StoreError::value("JSON", error))
}

/// `GET /semel/standing`: what no route of the reference tells. Causes of failures are for the log alone.
pub async fn standing(State(shared): State<Shared>) -> Response {
    let engine = &shared.0.engine;
    let (standing, open) = (engine.standing(), engine.open_messages());
    let open: Vec<_> = open
        .iter()
        .map(|open| {
            let (indexes, quorum) = open.progress();
            let is_certified = open.is_certified();
            let entity = &open.message.entity;
            let beacon: serde_json::Value =
                entity.get_json_beacon().ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            serde_json::json!({"type": entity.to_string(), "beacon": beacon, "indexes": indexes, "quorum": quorum, "is_certified": is_certified})
        })
        .collect();
    let why = match standing.state {
        Condition::Blocked(why) => Some(why.to_string()),
        _ => None,
    };
    let queued = engine.pending_artifacts().map_or(0, |pending| pending.len());
    reply::message(
        StatusCode::OK,
        &serde_json::json!({
            "schema": 1,
            "state": standing.state.name(),
            "why": why,
            "last_cycle_failed": standing.trouble.is_some(),
            "block": standing.view.map(|view| *view.tip.block_number),
            "open_messages": open,
            "artifacts_queued": queued,
        }),
    )
}

/// `GET /`
pub async fn features(State(shared): State<Shared>) -> Response {
    let options = &shared.0.options;
    let kinds = &shared.0.engine.options().kinds;
    let prover = kinds
        .contains(&Kind::CardanoTransactions)
        .then_some(CardanoTransactionsProverCapabilities { max_hashes_allowed_by_request: options.hashes_max });
    let features = AggregatorFeaturesMessage {
        open_api_version: API_VERSION.to_owned(),
        documentation_url: "https://mithril.network/doc/aggregator-api".to_owned(),
        capabilities: AggregatorCapabilities {
            signed_entity_types: kinds.iter().copied().map(Into::into).collect(),
            aggregate_signature_type: AggregateSignatureType::Concatenation,
            cardano_transactions_prover: prover,
        },
    };
    reply::message(StatusCode::OK, &features)
}

/// `GET /status`
pub async fn status(State(shared): State<Shared>) -> Response {
    let Some(data) = shared.0.engine.epoch() else { return reply::unable("no epoch has been entered yet") };
    let options = shared.0.engine.options();
    let count = |roster: &Option<std::sync::Arc<crate::core::roster::Roster>>| {
        roster.as_ref().map_or((0, 0), |roster| (roster.signers().len(), roster.total_stake()))
    };
    let ((total_signers, total_stakes_signers), (total_next_signers, total_next_stakes_signers)) =
        (count(&data.current), count(&data.next));
    let Ok(mithril_era) = data.mithril_era.parse() else { return reply::failed("the era is unknown") };
    reply::message(
        StatusCode::OK,
        &AggregatorStatusMessage {
            epoch: data.epoch,
            cardano_era: data.cardano_era.clone(),
            cardano_network: options.network.clone(),
            mithril_era,
            cardano_node_version: options.node_version.clone(),
            aggregator_node_version: shared.0.options.version.clone(),
            protocol_parameters: data.current_settings.parameters.clone(),
            next_protocol_parameters: data.next_settings.parameters.clone(),
            total_signers,
            total_next_signers,
            total_stakes_signers,
            total_next_stakes_signers,
            total_cardano_spo: u32::try_from(data.pools).unwrap_or(u32::MAX),
            total_cardano_stake: data.stake,
            leader_aggregator_endpoint: None,
            certificate_chain_aggregator_endpoint: None,
        },
    )
}

/// `GET /epoch-settings`
pub async fn epoch_settings(State(shared): State<Shared>) -> Response {
    if shared.0.engine.epoch().is_none() {
        return reply::unable("no epoch has been entered yet");
    }
    let build = |this: &Shared| {
        let Some(data) = this.0.engine.epoch() else { return Ok(None) };
        let signers = |roster: &Option<std::sync::Arc<crate::core::roster::Roster>>| {
            let signers = roster.iter().flat_map(|roster| roster.signers().iter().cloned().map(Signer::from));
            SignerMessagePart::from_signers(signers.collect())
        };
        #[expect(deprecated, reason = "signers of older distributions still read them")]
        let message = EpochSettingsMessage {
            epoch: data.epoch,
            signer_registration_protocol_parameters: Some(data.registration_settings.parameters.clone()),
            current_signers: signers(&data.current),
            next_signers: signers(&data.next),
            cardano_transactions_signing_config: data
                .current_settings
                .transactions
                .clone()
                .filter(|_| this.0.engine.options().kinds.contains(&Kind::CardanoTransactions)),
        };
        let store = this.0.engine.store();
        let kept = |epoch| store.read(|db| snark::of_epoch(db, epoch));
        let (now, next) = (kept(entity::signing(data.epoch))?, kept(entity::next_signing(data.epoch))?);
        if now.is_empty() && next.is_empty() {
            return encode(&message);
        }
        let mut message = serde_json::to_value(&message).map_err(|error| StoreError::value("JSON", error))?;
        snark::add_to_signers(message.get_mut("current_signers"), &now);
        snark::add_to_signers(message.get_mut("next_signers"), &next);
        encode(&message)
    };
    shared.serve("epoch-settings".into(), Keep::Never, build).await
}

/// `GET /protocol-configuration/{epoch}`
pub async fn protocol_configuration(State(shared): State<Shared>, Path(epoch): Path<String>) -> Response {
    let Some(number) = epoch.parse::<u64>().ok().filter(|number| *number <= EPOCH_MAX) else {
        return invalid_epoch(&epoch, "an epoch is a number, and not as high as that");
    };
    let build = move |this: &Shared| {
        let Some(settings) = this.0.engine.store().read(|db| epochs::settings(db, Epoch(number)))? else {
            return Ok(None);
        };
        // A signer that is told of a type without its configuration may sign nothing at all.
        let kinds = settings.configured(&this.0.engine.options().kinds);
        encode(&ProtocolConfigurationMessage {
            protocol_parameters: settings.parameters,
            cardano_transactions_signing_config: settings.transactions,
            cardano_blocks_transactions_signing_config: settings.blocks_transactions,
            available_signed_entity_types: kinds.into_iter().map(Into::into).collect(),
        })
    };
    shared.serve(format!("protocol-configuration/{number}"), Keep::Never, build).await
}

/// `GET /certificates`
pub async fn certificates(State(shared): State<Shared>) -> Response {
    let build = |this: &Shared| {
        let found = this.0.engine.store().read(|db| rows::latest(db, LIST_MAX))?;
        encode(&found.into_iter().map(list_item).collect::<Vec<_>>())
    };
    shared.serve("certificates".into(), Keep::Never, build).await
}

fn list_item(certificate: Certificate) -> CertificateListItemMessage {
    let entity = certificate.signed_entity_type();
    let metadata = certificate.metadata;
    CertificateListItemMessage {
        hash: certificate.hash,
        previous_hash: certificate.previous_hash,
        epoch: certificate.epoch,
        signed_entity_type: entity.into(),
        metadata: CertificateListItemMessageMetadata {
            network: metadata.network,
            protocol_version: metadata.protocol_version,
            protocol_parameters: metadata.protocol_parameters,
            initiated_at: metadata.initiated_at,
            sealed_at: metadata.sealed_at,
            total_signers: metadata.signers.len(),
        },
        protocol_message: certificate.protocol_message,
        signed_message: certificate.signed_message,
        aggregate_verification_key: certificate.aggregate_verification_key.to_json_hex().unwrap_or_default(),
    }
}

fn certificate_body(certificate: Option<Certificate>) -> Found {
    let Some(certificate) = certificate else { return Ok(None) };
    let message = CertificateMessage::try_from(certificate)
        .map_err(|error| StoreError::value("a certificate", format!("{error:#}")))?;
    encode(&message)
}

/// `GET /certificate/genesis`
pub async fn genesis_certificate(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    metrics::count_certificate_detail(&shared.origin(&headers), Shared::client(&headers));
    let build = |this: &Shared| certificate_body(this.0.engine.store().read(rows::latest_genesis)?);
    shared.serve("certificate/genesis".into(), Keep::Never, build).await
}

/// `GET /certificate/{hash}`
pub async fn certificate(State(shared): State<Shared>, Path(hash): Path<String>, headers: HeaderMap) -> Response {
    metrics::count_certificate_detail(&shared.origin(&headers), Shared::client(&headers));
    if !is_hash(&hash) {
        return reply::empty(StatusCode::NOT_FOUND);
    }
    let path = format!("certificate/{hash}");
    let build = move |this: &Shared| certificate_body(this.0.engine.store().read(|db| rows::get(db, &hash))?);
    shared.serve(path, Keep::Forever, build).await
}

fn is_hash(text: &str) -> bool {
    text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The types of artifacts, by their words in paths: one for lists, one for items.
fn kind_of(word: &str, is_list: bool) -> Option<Kind> {
    let table = [
        (Kind::MithrilStakeDistribution, "mithril-stake-distributions", "mithril-stake-distribution"),
        (Kind::CardanoStakeDistribution, "cardano-stake-distributions", "cardano-stake-distribution"),
        (Kind::CardanoDatabase, "cardano-database", "cardano-database"),
        (Kind::CardanoTransactions, "cardano-transactions", "cardano-transaction"),
        (Kind::CardanoBlocksTransactions, "cardano-blocks-transactions", "cardano-blocks-transactions"),
    ];
    table.into_iter().find(|(_, list, item)| word == if is_list { *list } else { *item }).map(|(kind, ..)| kind)
}

/// What counts the details of a type that were asked for.
fn served(kind: Kind) -> ByClient {
    match kind {
        Kind::MithrilStakeDistribution => ByClient::MithrilStakeDistributionDetail,
        Kind::CardanoStakeDistribution => ByClient::CardanoStakeDistributionDetail,
        Kind::CardanoDatabase => ByClient::CardanoDatabaseDetail,
        Kind::CardanoTransactions => ByClient::CardanoTransactionDetail,
        Kind::CardanoBlocksTransactions => ByClient::CardanoBlocksTransactionsDetail,
    }
}

/// `GET /artifact/…s`
pub async fn artifacts(State(shared): State<Shared>, Path(word): Path<String>) -> Response {
    let Some(kind) = kind_of(&word, true) else { return reply::empty(StatusCode::NOT_FOUND) };
    let build =
        move |this: &Shared| list_body(kind, &this.0.engine.store().read(|db| entities::latest(db, kind, LIST_MAX))?);
    shared.serve(format!("artifact/{word}"), Keep::Never, build).await
}

/// `GET /artifact/…/{hash}`
pub async fn artifact(
    State(shared): State<Shared>,
    Path((word, hash)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(kind) = kind_of(&word, false) else { return reply::empty(StatusCode::NOT_FOUND) };
    served(kind).add(&shared.origin(&headers), Shared::client(&headers), 1);
    if !is_hash(&hash) {
        return reply::empty(StatusCode::NOT_FOUND);
    }
    let path = format!("artifact/{word}/{hash}");
    let build = move |this: &Shared| match this.0.engine.store().read(|db| entities::get(db, kind, &hash))? {
        Some(artifact) => item_body(&artifact).map(Some),
        None => Ok(None),
    };
    // A Mithril stake distribution's hash is that of its content, yet a list of locations may grow.
    let keep = if kind == Kind::CardanoDatabase { Keep::Never } else { Keep::Forever };
    shared.serve(path, keep, build).await
}

/// `GET /artifact/…/epoch/{epoch}`
pub async fn artifacts_of_epoch(
    State(shared): State<Shared>,
    Path((word, asked)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let kind = match kind_of(&word, false) {
        Some(kind @ (Kind::CardanoStakeDistribution | Kind::CardanoDatabase)) => kind,
        _ => return reply::empty(StatusCode::NOT_FOUND),
    };
    if kind == Kind::CardanoStakeDistribution {
        served(kind).add(&shared.origin(&headers), Shared::client(&headers), 1);
    }
    // Stakes that are certified now are those of the epoch before.
    let back = u64::from(kind == Kind::CardanoStakeDistribution);
    let newest = shared.0.engine.epoch().map(|data| data.epoch.saturating_sub(back));
    let epoch = match epoch_of(&asked, newest, EPOCHS_BACK_MAX) {
        Ok(epoch) => epoch,
        Err(why) => return invalid_epoch(&asked, &why),
    };
    let path = format!("artifact/{word}/epoch/{epoch}");
    let build = move |this: &Shared| {
        let store = this.0.engine.store();
        let found = store.read(|db| entities::of_epoch(db, kind, epoch, LIST_MAX))?;
        match (kind, found.first()) {
            (Kind::CardanoStakeDistribution, Some(only)) => item_body(only).map(Some),
            (Kind::CardanoStakeDistribution, None) => Ok(None),
            _ => list_body(kind, &found),
        }
    };
    // What an epoch that nobody has seen holds is nothing that is worth a place in memory.
    match newest.and_then(|newest| newest.checked_sub(epoch)).is_some_and(|age| age <= EPOCHS_IN_MEMORY) {
        true => shared.serve(path, Keep::Never, build).await,
        false => shared.tell(build).await,
    }
}

/// The epoch that is asked for: a number, `latest` or `latest-N`, which goes back `back_max` epochs at most.
fn epoch_of(asked: &str, newest: Option<u64>, back_max: u64) -> Result<u64, String> {
    let specifier = EpochSpecifier::parse(&asked.to_lowercase()).map_err(|error| format!("{error:#}"))?;
    let newest = || newest.ok_or("no epoch has been entered yet");
    match specifier {
        EpochSpecifier::Number(epoch) if *epoch > EPOCH_MAX => Err("no chain comes to this epoch".to_owned()),
        EpochSpecifier::Number(epoch) => Ok(*epoch),
        EpochSpecifier::Latest => Ok(newest()?),
        EpochSpecifier::LatestMinusOffset(back) if back > back_max => {
            Err(format!("`latest` goes back {back_max} epochs at most"))
        }
        EpochSpecifier::LatestMinusOffset(back) => Ok(newest()?.saturating_sub(back)),
    }
}

fn invalid_epoch(asked: &str, why: &str) -> Response {
    reply::refused(StatusCode::BAD_REQUEST, "invalid_epoch", &format!("{asked}: {why}"))
}

fn content<T: serde::de::DeserializeOwned>(artifact: &Artifact) -> StoreResult<T> {
    serde_json::from_str(&artifact.content).map_err(|error| StoreError::value("an artifact", error))
}

fn list_body(kind: Kind, found: &[Artifact]) -> Found {
    let list = found.iter().map(|one| list_entry(kind, one)).collect::<StoreResult<Vec<serde_json::Value>>>()?;
    encode(&list)
}

fn list_entry(kind: Kind, artifact: &Artifact) -> StoreResult<serde_json::Value> {
    let (certificate_hash, created_at) = (artifact.certificate.clone(), artifact.created_at);
    let entry = match kind {
        Kind::MithrilStakeDistribution => serde_json::to_value(MithrilStakeDistributionListItemMessage {
            epoch: artifact.entity.get_epoch(),
            hash: artifact.id.clone(),
            certificate_hash,
            created_at,
        }),
        Kind::CardanoStakeDistribution => serde_json::to_value(CardanoStakeDistributionListItemMessage {
            epoch: artifact.entity.get_epoch(),
            hash: artifact.id.clone(),
            certificate_hash,
            created_at,
        }),
        Kind::CardanoDatabase => {
            let mut fields = database(artifact)?;
            fields.retain(|name, _| !matches!(name.as_str(), "network" | "digests" | "immutables" | "ancillary"));
            return Ok(fields.into());
        }
        // Lists of these have whole items.
        Kind::CardanoTransactions | Kind::CardanoBlocksTransactions => return item(artifact),
    };
    entry.map_err(|error| StoreError::value("JSON", error))
}

/// A Cardano database as it is served. The types of the reference know no gzip any more, so it is not read into them.
fn database(artifact: &Artifact) -> StoreResult<serde_json::Map<String, serde_json::Value>> {
    let mut fields: serde_json::Map<String, serde_json::Value> = content(artifact)?;
    fields.remove("type");
    // Kept as the network's type, served as its name.
    let network = fields.get("network").cloned().unwrap_or_default();
    if let Ok(network) = serde_json::from_value::<CardanoNetwork>(network) {
        fields.insert("network".into(), network.to_string().into());
    }
    fields.insert("certificate_hash".into(), artifact.certificate.clone().into());
    let created_at = serde_json::to_value(artifact.created_at).map_err(|error| StoreError::value("JSON", error))?;
    fields.insert("created_at".into(), created_at);
    Ok(fields)
}

fn item_body(artifact: &Artifact) -> StoreResult<Vec<u8>> {
    serde_json::to_vec(&item(artifact)?).map_err(|error| StoreError::value("JSON", error))
}

fn item(artifact: &Artifact) -> StoreResult<serde_json::Value> {
    let (certificate_hash, created_at) = (artifact.certificate.clone(), artifact.created_at);
    let item = match &artifact.entity {
        SignedEntityType::MithrilStakeDistribution(_) => {
            let whole: serde_json::Value = content(artifact)?;
            let kept = snark::of_signers(whole.get("signers_with_stake"));
            let found: MithrilStakeDistribution = content(artifact)?;
            let item = serde_json::to_value(MithrilStakeDistributionMessage {
                epoch: found.epoch,
                signers_with_stake: SignerWithStakeMessagePart::from_signers(found.signers_with_stake),
                hash: found.hash,
                certificate_hash,
                created_at,
                protocol_parameters: found.protocol_parameters,
            });
            item.map(|mut item| {
                snark::add_to_signers(item.get_mut("signers"), &kept);
                item
            })
        }
        SignedEntityType::CardanoStakeDistribution(_) => {
            let found: CardanoStakeDistribution = content(artifact)?;
            serde_json::to_value(CardanoStakeDistributionMessage {
                epoch: found.epoch,
                hash: found.hash,
                certificate_hash,
                stake_distribution: found.stake_distribution,
                created_at,
            })
        }
        SignedEntityType::CardanoDatabase(_) => return Ok(database(artifact)?.into()),
        SignedEntityType::CardanoTransactions(epoch, _) => {
            let found: CardanoTransactionsSnapshot = content(artifact)?;
            serde_json::to_value(CardanoTransactionSnapshotMessage {
                merkle_root: found.merkle_root,
                epoch: *epoch,
                block_number: found.block_number,
                hash: found.hash,
                certificate_hash,
                created_at,
            })
        }
        SignedEntityType::CardanoBlocksTransactions(epoch, ..) => {
            let found: CardanoBlocksTransactionsSnapshot = content(artifact)?;
            serde_json::to_value(CardanoBlocksTransactionsSnapshotMessage {
                merkle_root: found.merkle_root,
                epoch: *epoch,
                block_number_signed: found.block_number_signed,
                block_number_tip: found.block_number_tip,
                hash: found.hash,
                certificate_hash,
                created_at,
            })
        }
    };
    item.map_err(|error| StoreError::value("JSON", error))
}

/// `GET /artifact/cardano-database/digests`
pub async fn digests(State(shared): State<Shared>) -> Response {
    let build = |this: &Shared| {
        let found = this.0.engine.store().read(entities::digests)?;
        let list = found
            .into_iter()
            .map(|(immutable_file_name, digest)| CardanoDatabaseDigestListItemMessage { immutable_file_name, digest });
        encode(&list.collect::<Vec<_>>())
    };
    shared.serve("artifact/cardano-database/digests".into(), Keep::Never, build).await
}

#[derive(Serialize)]
struct Registrations {
    registered_at: Epoch,
    signing_at: Epoch,
    registrations: Vec<Registration>,
}

#[derive(Serialize)]
struct Registration {
    party_id: String,
    stake: u64,
}

/// `GET /signers/registered/{epoch}`
pub async fn registered(State(shared): State<Shared>, Path(asked): Path<String>) -> Response {
    let newest = shared.0.engine.epoch().map(|data| *data.epoch);
    let epoch = match epoch_of(&asked, newest, u64::MAX) {
        Ok(epoch) => Epoch(epoch),
        Err(why) => return invalid_epoch(&asked, &why),
    };
    let build = move |this: &Shared| {
        let signers = this.0.engine.store().read(|db| epochs::registered(db, entity::recording(epoch)))?;
        if signers.is_empty() {
            return Ok(None);
        }
        encode(&Registrations {
            registered_at: epoch,
            signing_at: epoch.offset_to_signer_signing_offset(),
            registrations: signers.into_iter().map(|(party_id, stake)| Registration { party_id, stake }).collect(),
        })
    };
    shared.tell(build).await
}

#[derive(Serialize)]
struct Tickers {
    network: String,
    signers: Vec<Ticker>,
}

#[derive(Serialize)]
struct Ticker {
    party_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_ticker: Option<String>,
    has_registered: bool,
}

/// `GET /signers/tickers`
pub async fn tickers(State(shared): State<Shared>) -> Response {
    let build = |this: &Shared| {
        let signers = this.0.engine.store().read(epochs::tickers)?;
        encode(&Tickers {
            network: this.0.engine.options().network.clone(),
            signers: signers
                .into_iter()
                .map(|one| Ticker { party_id: one.party, pool_ticker: one.ticker, has_registered: one.has_registered })
                .collect(),
        })
    };
    shared.tell(build).await
}
