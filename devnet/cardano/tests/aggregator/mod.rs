//! An aggregator of one file: it keeps registrations by epoch, serves them, and writes down every call with what it answered.
//!
//! It checks what a real one must: registrations by their certificates, single signatures by the registration that they sign
//! with. Messages it does not know: what signers agree on is theirs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, unreachable_pub, reason = "a test may stop")]

use mithril_common::crypto_helper::{ProtocolKeyRegistration, SignerRegistrationParameters};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoTransactionsSigningConfig, Epoch,
    ProtocolParameters, SignedEntityTypeDiscriminants, Signer, SignerWithStake, SingleSignature, StakeDistribution,
};
use mithril_common::messages::{
    EpochSettingsMessage, ProtocolConfigurationMessage, RegisterSignatureMessageHttp, RegisterSignerMessage,
    SignerMessagePart,
};
use mithril_common::protocol::SignerBuilder;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A call and its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path.
    pub what: String,
    /// Headers, lower case.
    pub headers: BTreeMap<String, String>,
    /// Body as JSON, null without one.
    pub body: serde_json::Value,
    /// Status of the answer.
    pub status: u16,
}

/// What the aggregator is and has.
#[derive(Debug)]
pub struct State {
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether registrations are taken.
    pub open: bool,
    /// Parameters by epoch; the last that is not later counts.
    pub parameters: BTreeMap<Epoch, ProtocolParameters>,
    /// An epoch whose configuration is missing.
    pub missing: Option<Epoch>,
    /// Stakes by the epoch under which they are recorded.
    pub stakes: BTreeMap<Epoch, StakeDistribution>,
    /// Registrations by the epoch under which they are recorded.
    pub signers: BTreeMap<Epoch, BTreeMap<String, SignerMessagePart>>,
    /// Valid single signatures by epoch and type, as JSON.
    pub signatures: BTreeMap<(Epoch, String), Vec<(SingleSignature, String)>>,
    /// All calls.
    pub calls: Vec<Call>,
}

/// The aggregator.
#[derive(Debug, Clone)]
pub struct Aggregator {
    /// Its base.
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Aggregator {
    /// Serves on a free port until the test ends.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/aggregator", listener.local_addr().unwrap());
        let state = State {
            epoch: Epoch(0),
            open: true,
            parameters: BTreeMap::from([(Epoch(0), ProtocolParameters::new(5, 100, 0.7))]),
            missing: None,
            stakes: BTreeMap::new(),
            signers: BTreeMap::new(),
            signatures: BTreeMap::new(),
            calls: Vec::new(),
        };
        let aggregator = Self { url, state: Arc::new(Mutex::new(state)) };
        let serving = aggregator.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        aggregator
    }

    /// A look, or a change.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    /// Begins an epoch with the stakes of its mark.
    pub fn enter(&self, epoch: Epoch, stakes: StakeDistribution) {
        self.with(|state| {
            state.epoch = epoch;
            state.stakes.insert(epoch.next(), stakes);
            state.calls.clear();
        });
    }

    /// What was called since the epoch began, in order.
    pub fn calls(&self) -> Vec<(String, u16)> {
        self.with(|state| state.calls.iter().map(|call| (call.what.clone(), call.status)).collect())
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let what = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, answer) = self.with(|state| state.answer(&what, &body));
            let body = serde_json::from_slice(&body).unwrap_or_default();
            self.with(|state| state.calls.push(Call { what, headers, body, status }));
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            );
            writer.write_all(head.as_bytes()).unwrap();
        }
    }
}

impl State {
    fn answer(&mut self, what: &str, body: &[u8]) -> (u16, String) {
        match what {
            "GET /aggregator/epoch-settings" => (200, serde_json::to_string(&self.settings()).unwrap()),
            "POST /aggregator/register-signer" => (self.register(body), String::new()),
            "POST /aggregator/register-signatures" => (self.sign(body), String::new()),
            _ => {
                let epoch =
                    what.strip_prefix("GET /aggregator/protocol-configuration/").map(|epoch| epoch.parse().unwrap());
                match epoch.map(Epoch) {
                    Some(epoch) if self.missing != Some(epoch) => {
                        (200, serde_json::to_string(&self.configuration(epoch)).unwrap())
                    }
                    _ => (404, String::new()),
                }
            }
        }
    }

    fn parts(&self, epoch: Epoch) -> Vec<SignerMessagePart> {
        self.signers.get(&epoch).map(|signers| signers.values().cloned().collect()).unwrap_or_default()
    }

    #[expect(deprecated, reason = "signers do not look at these fields any more")]
    fn settings(&self) -> EpochSettingsMessage {
        EpochSettingsMessage {
            epoch: self.epoch,
            signer_registration_protocol_parameters: None,
            current_signers: self.parts(self.epoch.previous().unwrap()),
            next_signers: self.parts(self.epoch),
            cardano_transactions_signing_config: None,
        }
    }

    /// Parameters of an epoch.
    pub fn parameters_of(&self, epoch: Epoch) -> ProtocolParameters {
        self.parameters.range(..=epoch).next_back().unwrap().1.clone()
    }

    fn configuration(&self, epoch: Epoch) -> ProtocolConfigurationMessage {
        ProtocolConfigurationMessage {
            protocol_parameters: self.parameters_of(epoch),
            cardano_transactions_signing_config: Some(CardanoTransactionsSigningConfig {
                security_parameter: BlockNumberOffset(12),
                step: BlockNumber(15),
            }),
            cardano_blocks_transactions_signing_config: Some(CardanoBlocksTransactionsSigningConfig {
                security_parameter: BlockNumberOffset(12),
                step: BlockNumber(7),
            }),
            available_signed_entity_types: SignedEntityTypeDiscriminants::all().into_iter().map(Into::into).collect(),
        }
    }

    fn register(&mut self, body: &[u8]) -> u16 {
        if !self.open {
            return 550;
        }
        let Ok(message) = serde_json::from_slice::<RegisterSignerMessage>(body) else { return 400 };
        if message.epoch != self.epoch.next() {
            return 500;
        }
        let part = SignerMessagePart {
            party_id: message.party_id,
            verification_key_for_concatenation: message.verification_key_for_concatenation,
            verification_key_signature_for_concatenation: message.verification_key_signature_for_concatenation,
            operational_certificate: message.operational_certificate,
            kes_evolutions: message.kes_evolutions,
        };
        let signer: Signer = part.clone().try_into().unwrap();
        let stakes: Vec<_> = self.stakes[&self.epoch.next()].clone().into_iter().collect();
        let registered = ProtocolKeyRegistration::init(&stakes, message.epoch).register(SignerRegistrationParameters {
            party_id: Some(signer.party_id.clone()),
            operational_certificate: signer.operational_certificate,
            verification_key_signature_for_concatenation: signer.verification_key_signature_for_concatenation,
            kes_evolutions: signer.kes_evolutions,
            verification_key_for_concatenation: signer.verification_key_for_concatenation,
        });
        match registered {
            Ok(party) if party == part.party_id => {
                self.signers.entry(message.epoch).or_default().insert(party, part);
                201
            }
            _ => 400,
        }
    }

    /// The registration that signs now.
    pub fn current(&self) -> SignerBuilder {
        let epoch = self.epoch.previous().unwrap();
        let stakes = &self.stakes[&epoch];
        let signers: Vec<SignerWithStake> = self
            .parts(epoch)
            .into_iter()
            .map(|part| SignerWithStake::from_signer(part.clone().try_into().unwrap(), stakes[&part.party_id]))
            .collect();
        SignerBuilder::new(&signers, &self.parameters_of(epoch), epoch).unwrap()
    }

    fn sign(&mut self, body: &[u8]) -> u16 {
        let Ok(message) = serde_json::from_slice::<RegisterSignatureMessageHttp>(body) else { return 400 };
        let Ok(signature) = message.signature.try_into() else { return 400 };
        let signature = SingleSignature::new(message.party_id.clone(), signature, message.won_indexes);
        if self.current().build_multi_signer().verify_single_signature(&message.signed_message, &signature).is_err() {
            return 400;
        }
        let entity = serde_json::to_string(&message.signed_entity_type).unwrap();
        let known = self.signatures.entry((self.epoch, entity)).or_default();
        known.retain(|(other, _)| other.party_id != signature.party_id);
        known.push((signature, message.signed_message));
        201
    }
}
