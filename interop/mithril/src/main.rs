//! The published Mithril client library as a program: does everything a client does against an aggregator and believes nothing.
//!
//! Semel's own crates are not in it. One line per step on stdout, `ok` or `FAIL`; it ends at the first failure.
//! Exit codes: 0 all held; 1 something did not; 2 misuse.

mod steps;

use clap::Parser;
use mithril_client::feedback::{FeedbackReceiver, MithrilEvent};
use mithril_client::{AggregatorDiscoveryType, Client, ClientBuilder, GenesisVerificationKey, MithrilResult};
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Verifies what an aggregator serves, with the published client library.
#[derive(Parser)]
#[command(version, after_help = "Types: mithril-stakes, cardano-stakes, database, transactions, blocks")]
struct Arguments {
    /// Address of the aggregator: http://127.0.0.1:8080/aggregator
    url: String,
    /// Genesis verification key, JSON in hexadecimal
    genesis_vk: String,
    /// Verification key of the ancillary manifest, JSON in hexadecimal
    ancillary_vk: String,
    /// At least so many certificates must be on the way from the newest to genesis
    #[arg(long, value_name = "N", default_value_t = 2)]
    chain: u64,
    /// Hash of a transaction whose proofs (v1 and v2) are asked for; may be repeated
    #[arg(long = "transaction", value_name = "HASH")]
    transactions: Vec<String>,
    /// Hash of a block whose proof is asked for; may be repeated
    #[arg(long = "block", value_name = "HASH")]
    blocks: Vec<String>,
    /// Types that this aggregator does not certify
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = steps::TYPES)]
    without: Vec<String>,
    /// Artifacts of each type that are verified, newest first
    #[arg(long, value_name = "N", default_value_t = 3)]
    artifacts: usize,
    /// List and show Cardano databases, but download none
    #[arg(long)]
    no_download: bool,
    /// One JSON object per step
    #[arg(long)]
    json: bool,
}

/// Certificates verified so far, as the library tells.
#[derive(Default)]
struct Verified(AtomicU64);

#[async_trait::async_trait]
impl FeedbackReceiver for Verified {
    async fn handle_event(&self, event: MithrilEvent) {
        if let MithrilEvent::CertificateValidated { .. } = event {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What every step has.
struct Run {
    arguments: Arguments,
    client: Client,
    verified: Arc<Verified>,
}

impl Run {
    fn new(arguments: Arguments) -> MithrilResult<Run> {
        let verified = Arc::new(Verified::default());
        let client = ClientBuilder::new(AggregatorDiscoveryType::url(arguments.url.trim_end_matches('/')))
            .set_genesis_verification_key(GenesisVerificationKey::json_hex(&arguments.genesis_vk))
            .set_ancillary_verification_key(arguments.ancillary_vk.clone())
            .with_client_type(Some("LIBRARY".to_owned()))
            .with_origin_tag(Some("CI".to_owned()))
            .add_feedback_receiver(verified.clone())
            .build()?;
        Ok(Run { arguments, client, verified })
    }

    fn wants(&self, kind: &str) -> bool {
        !self.arguments.without.iter().any(|without| without == kind)
    }

    /// Certificates verified since the last call.
    fn verified(&self) -> u64 {
        self.verified.0.swap(0, Ordering::Relaxed)
    }

    /// Runs a step and says how it went.
    async fn step(&self, name: &str, work: impl Future<Output = MithrilResult<String>>) -> Result<(), ()> {
        let started = Instant::now();
        let outcome = work.await;
        self.say(name, &outcome, started.elapsed().as_secs_f64());
        outcome.map(|_| ()).map_err(|_| ())
    }

    fn say(&self, name: &str, outcome: &MithrilResult<String>, seconds: f64) {
        let text = match outcome {
            Ok(seen) => seen.clone(),
            Err(why) => format!("{why:#}").replace('\n', " "),
        };
        if self.arguments.json {
            println!(
                "{}",
                serde_json::json!({ "step": name, "ok": outcome.is_ok(), "seen": text, "seconds": seconds })
            );
        } else {
            println!("{:<4} {name} ({seconds:.1} s): {text}", if outcome.is_ok() { "ok" } else { "FAIL" });
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let run = match Run::new(arguments) {
        Ok(run) => run,
        Err(why) => {
            eprintln!("{why:#}");
            return ExitCode::from(2);
        }
    };
    match steps::all(&run).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}
