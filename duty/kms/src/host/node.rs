//! One `[[validator]]`: a thread that dials the node for as long as it is wanted.
//!
//! It dials at a constant pace of at most one second, without growing pauses: a node that starts waits three seconds for
//! its signer, and ends. A connection that lasted is dialled again at once.

use super::answer::Context;
use super::chain::Chain;
use super::channel::{Peer, greet};
use super::connection::Connection;
use super::ended::Ended;
use super::meters::Meters;
use super::plan::NodePlan;
use super::stream::Stream;
use super::worker::{Door, serve_alone};
use crate::core::secret::Variant;
use crate::core::session::Terms;
use semel_ops::health::Health;
use semel_ops::log::Collapse;
use semel_ops::shutdown::Stop;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pace of dialling. With up to 10 % less, so that a hundred validators do not dial in step.
const REDIAL: Duration = Duration::from_millis(1000);

/// A connection that lasted this long is dialled again at once.
const LASTED: Duration = Duration::from_secs(1);

/// What a node's thread needs.
pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    pub(crate) chain: Arc<Chain>,
    pub(crate) terms: Terms,
    pub(crate) health: Health,
    pub(crate) dry_run: bool,
    /// Who serves the connection; None: its own thread, because the key blocks.
    pub(crate) worker: Option<Arc<Door>>,
}

impl Node {
    /// Dials and serves until `stop`, or, without `reconnect`, until the first end. Returns why it ended.
    pub(crate) fn run(self, stop: &Stop) {
        let Self { plan, chain, terms, health, dry_run, worker } = self;
        let name = format!("{}@{}", terms.chain_id, plan.endpoint);
        let condition = health.register(format!("validator {name}"));
        let meters = Meters::new(&terms.chain_id, &plan.endpoint.to_string());
        let refusals = Mutex::new(Collapse::new());
        let context = Arc::new(Context { name, chain, terms, plan, meters, dry_run, refusals });
        let Context { name, plan, meters, .. } = context.as_ref();
        // What the node spoke last.
        let mut variant = None;
        let mut collapse = Collapse::new();
        // A node that takes us and hangs up each second is one trouble, and not the end of one.
        let mut is_flapping = false;
        let mut is_first = true;
        // Being there and waiting for the node is as ready as a signer can be.
        condition.ok();
        while !stop.is_stopped() {
            let begun = Instant::now();
            let ended = match Stream::connect(&plan.endpoint) {
                Ok(stream) => {
                    let closer = match stream.closer() {
                        Ok(closer) => closer,
                        Err(error) => {
                            condition.failing(&error.to_string());
                            tracing::error!("[{name}] {error}");
                            stop.wait_timeout(REDIAL);
                            continue;
                        }
                    };
                    let _closing = stop.on_stop(move || closer.close_read());
                    let mut is_known = false;
                    let ended = serve(stream, &context, worker.as_deref(), &mut variant, |peer| {
                        condition.ok();
                        meters.connected(std::mem::take(&mut is_first));
                        is_known = true;
                        if !is_flapping {
                            for line in collapse.clear(Instant::now()) {
                                tracing::info!("[{name}] {line}");
                            }
                        }
                        if let Some(line) = collapse.observe("connected to validator successfully", Instant::now()) {
                            tracing::info!("[{name}] {line}");
                            if let Some(peer) = peer {
                                tracing::info!("[{name}] peer {}, handshake {}", peer.id, peer.handshake);
                            }
                        }
                    });
                    is_flapping = is_known && begun.elapsed() < LASTED;
                    if stop.is_stopped() {
                        break;
                    }
                    if is_known {
                        meters.disconnected(ended.label());
                    } else {
                        meters.handshake_failed(ended.handshake_label());
                    }
                    ended.to_string()
                }
                Err(error) => {
                    meters.dial_failed();
                    format!("cannot reach the validator: {error}; is its priv_validator_laddr open to this host?")
                }
            };
            condition.failing(&ended);
            if let Some(line) = collapse.observe(&ended, Instant::now()) {
                tracing::error!("[{name}] {line}; retrying every second");
            }
            if !plan.reconnect {
                tracing::info!("[{name}] reconnect is off, this validator is done");
                return;
            }
            if begun.elapsed() < LASTED {
                stop.wait_timeout(jittered(REDIAL));
            }
        }
        meters.gone();
    }
}

/// Meets a node and serves it until the connection ends. `met` is called once the node is known.
fn serve(
    mut stream: Stream,
    context: &Arc<Context>,
    worker: Option<&Door>,
    variant: &mut Option<Variant>,
    met: impl FnOnce(Option<&Peer>),
) -> Ended {
    let mut meet = || {
        stream.set_write_timeout(context.plan.timeout)?;
        greet(&mut stream, &context.plan, variant, None)
    };
    let greeted = match meet() {
        Ok(greeted) => greeted,
        Err(ended) => return ended,
    };
    met(greeted.peer.as_ref());
    match (Connection::new(stream, Arc::clone(context), greeted), worker) {
        (Ok(connection), Some(worker)) => worker.serve(connection),
        (Ok(connection), None) => serve_alone(connection),
        (Err(error), _) => error.into(),
    }
}

/// Up to 10 % less than `pace`.
fn jittered(pace: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without randomness there is no jitter, and nothing is lost.
    let _random = getrandom::fill(&mut byte);
    pace - pace * u32::from(byte[0]) / 2560
}
