//! What signers and clients send.
//!
//! The work of a registration (pairings, a commit) is done on threads that may block; as many of them share commits.

use super::reply::{self, REGISTRATION_CLOSED};
use super::{BODY_MAX, BODY_SMALL, Shared, turn, work};
use crate::core::registration;
use crate::face::metrics::{ByClient, ByOrigin, ClientType, Timed};
use crate::host::engine::{RegisterSignatureError, RegisterSignerError, SignatureOutcome};
use crate::host::events::Event;
use crate::host::store::snark::SnarkFields;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use mithril_common::MITHRIL_SIGNER_VERSION_HEADER;
use mithril_common::crypto_helper::{
    ProtocolOpCert, ProtocolSignerVerificationKeyForConcatenation,
    ProtocolSignerVerificationKeySignatureForConcatenation, ProtocolSingleSignature,
};
use mithril_common::entities::{SignedEntityTypeDiscriminants, Signer, SignerWithStake, SingleSignature};
use mithril_common::messages::{
    CardanoDatabaseImmutableFilesRestoredMessage, RegisterSignatureMessageHttp, RegisterSignerMessage,
    SignedEntityTypeMessage,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Time for a body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Lottery indexes that a message may list. The parameter m of mainnet is 16,948.
const INDEXES_MAX: usize = 65_536;

/// Labels of what cannot be decoded, as logs of signers show them.
const NO_SIGNER: &str = "Could not decode signer payload";
const NO_SIGNATURE: &str = "Could not decode signature payload";

/// A reply that says no; boxed, because it is large and rare.
type No = Box<Response>;

/// A body, and the room that it takes until it has been read.
struct Received {
    bytes: bytes::Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// A body, which has to say how long it is. (Clients send some statistics without any, and without a length.)
async fn body(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Received, No> {
    let refused = |status| Err(Box::new(reply::empty(status)));
    let length = match length(headers) {
        None => return refused(StatusCode::LENGTH_REQUIRED),
        Some(length) if length > BODY_MAX => return refused(StatusCode::PAYLOAD_TOO_LARGE),
        Some(length) => length,
    };
    let room = match u32::try_from(length) {
        Ok(bytes) if length > BODY_SMALL => {
            let room = Arc::clone(&shared.0.large_bodies).try_acquire_many_owned(bytes);
            Some(room.map_err(|_| Box::new(reply::busy()))?)
        }
        _ => None,
    };
    match tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, BODY_MAX)).await {
        Err(_) => refused(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(_)) => refused(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Ok(bytes)) => Ok(Received { bytes, _room: room }),
    }
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `POST /register-signer`
pub async fn signer(State(shared): State<Shared>, headers: HeaderMap, sent: Body) -> Response {
    let origin = shared.origin(&headers);
    ByOrigin::SignerRegistrations.add(&origin, 1);
    let done = async {
        let received = body(&shared, &headers, sent).await?;
        let turn = turn(&shared.0.writes).await?;
        let (engine, events) = (Arc::clone(&shared.0.engine), shared.0.events.clone());
        let version = headers.get(MITHRIL_SIGNER_VERSION_HEADER).and_then(|text| text.to_str().ok()).map(str::to_owned);
        let registered = work(turn, move || {
            let message: RegisterSignerMessage =
                serde_json::from_slice(&received.bytes).map_err(|error| undecodable(NO_SIGNER, &error))?;
            // What the message's type does not know is read beside it.
            let fields: SnarkFields =
                serde_json::from_slice(&received.bytes).map_err(|error| undecodable(NO_SIGNER, &error))?;
            let epoch = message.epoch;
            let signer = decode_signer(message).map_err(|why| undecodable(NO_SIGNER, &why))?;
            let (party, told) = (registration::pool(&signer).ok(), signer.clone());
            let is_new = engine.register_signer_with(epoch, signer, fields).map_err(|error| signer_refused(&error))?;
            if let (Some(party), Some(round)) = (party, engine.round()) {
                let stake = round.stakes.get(&party).copied().unwrap_or_default();
                let signer = SignerWithStake::from_signer(Signer { party_id: party, ..told }, stake);
                events.record(Event::signer_registered(version.as_deref(), *epoch, &signer));
            }
            Ok::<bool, No>(is_new)
        });
        registered.await.map_err(|error| Box::new(reply::failed(&error.to_string())))?
    };
    match done.await {
        Ok(is_new) => {
            if is_new {
                ByOrigin::SignerRegistrationsTaken.add(&origin, 1);
            }
            reply::empty(StatusCode::CREATED)
        }
        Err(refusal) => *refusal,
    }
}

fn undecodable(label: &str, why: &dyn std::fmt::Display) -> No {
    Box::new(reply::refused(StatusCode::BAD_REQUEST, label, &format!("{why:#}")))
}

fn decode_signer(message: RegisterSignerMessage) -> Result<Signer, String> {
    let broken = |what: &str| format!("{what} cannot be decoded");
    Ok(Signer {
        party_id: message.party_id,
        verification_key_for_concatenation: ProtocolSignerVerificationKeyForConcatenation::from_json_hex(
            &message.verification_key_for_concatenation,
        )
        .map_err(|_| broken("the verification key"))?,
        verification_key_signature_for_concatenation: message
            .verification_key_signature_for_concatenation
            .map(|text| ProtocolSignerVerificationKeySignatureForConcatenation::from_json_hex(&text))
            .transpose()
            .map_err(|_| broken("the KES signature"))?,
        operational_certificate: message
            .operational_certificate
            .map(|text| ProtocolOpCert::from_json_hex(&text))
            .transpose()
            .map_err(|_| broken("the operational certificate"))?,
        kes_evolutions: message.kes_evolutions,
    })
}

fn signer_refused(error: &RegisterSignerError) -> No {
    Box::new(match error {
        RegisterSignerError::Closed => {
            let status = StatusCode::from_u16(REGISTRATION_CLOSED).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            reply::message(status, &mithril_common::entities::ServerError::new(error.to_string()))
        }
        RegisterSignerError::Epoch { .. } => reply::unable(&error.to_string()),
        RegisterSignerError::Refused(why) => {
            reply::refused(StatusCode::BAD_REQUEST, "failed_signer_registration", &why.to_string())
        }
        RegisterSignerError::Failed(crate::host::engine::EngineError::Store(error)) => reply::database(error),
        RegisterSignerError::Failed(error) => reply::failed(&error.to_string()),
    })
}

/// `POST /register-signatures`
pub async fn signature(State(shared): State<Shared>, headers: HeaderMap, sent: Body) -> Response {
    ByOrigin::Signatures.add("HTTP", 1);
    let done = async {
        let received = body(&shared, &headers, sent).await?;
        let turn = turn(&shared.0.writes).await?;
        let engine = Arc::clone(&shared.0.engine);
        let begun = Instant::now();
        let registered = work(turn, move || {
            let message: RegisterSignatureMessageHttp =
                serde_json::from_slice(&received.bytes).map_err(|error| undecodable(NO_SIGNATURE, &error))?;
            let entity = match message.signed_entity_type {
                SignedEntityTypeMessage::Known(entity) => entity,
                SignedEntityTypeMessage::Discontinued(kind) => {
                    let why = format!("{kind} is not certified any more");
                    return Err(Box::new(reply::refused(StatusCode::GONE, "Discontinued signed entity type", &why)));
                }
                SignedEntityTypeMessage::Unknown => {
                    let known: Vec<_> = SignedEntityTypeDiscriminants::all().iter().map(ToString::to_string).collect();
                    let why = format!("known are {}", known.join(", "));
                    return Err(undecodable("Unknown signed entity type", &why));
                }
            };
            if message.won_indexes.len() > INDEXES_MAX {
                return Err(undecodable(NO_SIGNATURE, &"too many lottery indexes"));
            }
            let signature = ProtocolSingleSignature::from_json_hex(&message.signature)
                .map_err(|_| undecodable(NO_SIGNATURE, &"the signature cannot be decoded"))?;
            let signature = SingleSignature::new(message.party_id, signature, message.won_indexes);
            engine
                .register_signature(&entity, &message.signed_message, &signature)
                .map_err(|error| signature_refused(&error))
        });
        let registered = registered.await.map_err(|error| Box::new(reply::failed(&error.to_string())))?;
        Timed::SignatureCheck.record("HTTP", begun.elapsed());
        registered
    };
    match done.await {
        Ok(SignatureOutcome::Registered) => {
            ByOrigin::SignaturesTaken.add("HTTP", 1);
            reply::empty(StatusCode::CREATED)
        }
        Ok(SignatureOutcome::Buffered) => {
            ByOrigin::SignaturesTaken.add("HTTP", 1);
            reply::empty(StatusCode::ACCEPTED)
        }
        Err(refusal) => *refusal,
    }
}

fn signature_refused(error: &RegisterSignatureError) -> No {
    Box::new(match error {
        RegisterSignatureError::NoMessage => reply::empty(StatusCode::NOT_FOUND),
        RegisterSignatureError::AlreadyCertified => {
            reply::refused(StatusCode::GONE, "already_certified", &error.to_string())
        }
        RegisterSignatureError::Expired => reply::refused(StatusCode::GONE, "expired", &error.to_string()),
        RegisterSignatureError::Refused(why) => {
            reply::refused(StatusCode::BAD_REQUEST, "Could not authenticate signature", &why.to_string())
        }
        RegisterSignatureError::Full => reply::busy(),
        RegisterSignatureError::Store(error) => reply::database(error),
    })
}

/// `POST /statistics/cardano-database/…`
pub async fn statistics(
    State(shared): State<Shared>,
    Path(what): Path<String>,
    headers: HeaderMap,
    sent: Body,
) -> Response {
    let (origin, client) = (shared.origin(&headers), Shared::client(&headers));
    let (counter, count) = match what.as_str() {
        "immutable-files-restored" => {
            let received = match body(&shared, &headers, sent).await {
                Ok(received) => received,
                Err(refusal) => return *refusal,
            };
            match serde_json::from_slice::<CardanoDatabaseImmutableFilesRestoredMessage>(&received.bytes) {
                Ok(message) => (ByClient::ImmutableFilesRestored, message.nb_immutable_files.into()),
                Err(error) => return *undecodable("Could not decode statistics payload", &error),
            }
        }
        "ancillary-files-restored" => (ByClient::AncillaryFilesRestored, 1),
        "complete-restoration" => (ByClient::CompleteRestoration, 1),
        "partial-restoration" => (ByClient::PartialRestoration, 1),
        _ => return reply::empty(StatusCode::NOT_FOUND),
    };
    counter.add(&origin, client, count);
    // Files are counted only.
    if matches!(counter, ByClient::CompleteRestoration | ByClient::PartialRestoration) {
        shared.0.events.record(Event::restored(counter == ByClient::CompleteRestoration));
    }
    reply::empty(StatusCode::CREATED)
}

impl Shared {
    /// Where a request comes from, as far as it is one of the names that are told apart.
    pub(super) fn origin(&self, headers: &HeaderMap) -> String {
        let tag = headers.get("mithril-origin-tag").and_then(|text| text.to_str().ok()).unwrap_or("NA");
        match self.0.options.origins.iter().any(|known| known == tag) {
            true => tag.to_owned(),
            false => "NA".to_owned(),
        }
    }

    /// Which kind of client it is.
    pub(super) fn client(headers: &HeaderMap) -> ClientType {
        ClientType::parse(headers.get("mithril-client-type").and_then(|text| text.to_str().ok()).unwrap_or("NA"))
    }
}
