//! The Prometheus recorder behind the `metrics` macros.
//!
//! Durations are histograms in seconds, named `*_seconds`, with explicit buckets from 10 µs to 5 s. The recorder drains its
//! histograms each [`UPKEEP_PERIOD`] and at each rendering, so memory stays bounded when nobody scrapes.

use crate::shutdown::{Stop, StopReason};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Upper bounds of the histogram buckets, in seconds.
pub const SECONDS_BUCKETS: [f64; 18] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0,
];
/// How often the recorder is drained.
pub const UPKEEP_PERIOD: Duration = Duration::from_secs(5);
/// The content type of a rendering.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Gauge that is always 1 and whose labels say what runs.
pub const BUILD_INFO: &str = "semel_build_info";

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The recorder was refused, which happens when there is one already.
    #[error("cannot install the metrics recorder")]
    Recorder(#[source] BuildError),
    /// No thread for its upkeep.
    #[error("cannot start the metrics upkeep thread")]
    Thread(#[source] std::io::Error),
}

struct Upkeep {
    stop: Stop,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.stop(StopReason::Asked);
    }
}

/// The installed recorder; clones are the same recorder.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    _upkeep: Arc<Upkeep>,
}

fn builder() -> Result<PrometheusBuilder, MetricsError> {
    PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS).map_err(MetricsError::Recorder)
}

impl Metrics {
    /// Installs the recorder of the process, once.
    ///
    /// # Errors
    /// When there is a recorder already, or no thread can be had.
    pub fn install() -> Result<Metrics, MetricsError> {
        let handle = builder()?.install_recorder().map_err(MetricsError::Recorder)?;
        Metrics::keep(handle)
    }

    /// A recorder that is not the one of the process, to be used with `metrics::with_local_recorder` in tests.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn local() -> Result<(PrometheusRecorder, Metrics), MetricsError> {
        let recorder = builder()?.build_recorder();
        let metrics = Metrics::keep(recorder.handle())?;
        Ok((recorder, metrics))
    }

    fn keep(handle: PrometheusHandle) -> Result<Metrics, MetricsError> {
        let stop = Stop::new();
        let (drained, stopped) = (handle.clone(), stop.clone());
        std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                while !stopped.wait_timeout(UPKEEP_PERIOD) {
                    drained.run_upkeep();
                }
            })
            .map_err(MetricsError::Thread)?;
        Ok(Metrics { handle, _upkeep: Arc::new(Upkeep { stop }) })
    }

    /// Everything in the Prometheus text format.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Sets [`BUILD_INFO`]: the product's version, the face it shows and the version that this face speaks for.
pub fn build_info(version: &'static str, face: &'static str, compatible: &'static str) {
    metrics::describe_gauge!(BUILD_INFO, "Always 1; the labels say what runs.");
    metrics::gauge!(BUILD_INFO, "version" => version, "face" => face, "compatible" => compatible).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_rendered_in_seconds_with_the_stated_buckets() {
        let (recorder, metrics) = Metrics::local().unwrap();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("semel_test_seconds").record(0.000_3);
            build_info("1.2.3", "tmkms", "0.15.0");
        });
        let text = metrics.render();
        assert!(text.contains("semel_test_seconds_bucket{le=\"0.00025\"} 0"), "{text}");
        assert!(text.contains("semel_test_seconds_bucket{le=\"0.0005\"} 1"), "{text}");
        assert!(text.contains("semel_build_info{version=\"1.2.3\",face=\"tmkms\",compatible=\"0.15.0\"} 1"), "{text}");
        let buckets = text.lines().filter(|l| l.starts_with("semel_test_seconds_bucket")).count();
        assert_eq!(buckets, SECONDS_BUCKETS.len() + 1);
    }

    #[test]
    fn the_buckets_rise() {
        assert!(SECONDS_BUCKETS.windows(2).all(|w| w[0] < w[1]));
    }
}
