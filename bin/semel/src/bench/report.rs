//! The report of a benchmark: a table for people, JSON for machines, one picture for the documentation.

use super::process::Cost;
use super::stats::{Figures, median, spread};
use super::syscalls::Syscalls;
use serde::Serialize;

/// One signer in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) latency: Figures,
    pub(crate) signatures_per_second: f64,
    /// The same of each validator's connection.
    pub(crate) signatures_per_second_by_connection: Vec<f64>,
    pub(crate) refusals: u64,
    /// Requests without an answer that verifies.
    pub(crate) failures: u64,
    /// Why the first request was refused or failed, and the last lines of the signer's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    pub(crate) cost: Cost,
    /// From the start of the process to the first verified signature.
    pub(crate) start_ms: Option<f64>,
}

impl Round {
    fn errors(&self) -> u64 {
        self.refusals + self.failures
    }
}

/// One signer over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syscalls: Option<Syscalls>,
    /// Every latency of every round, nanoseconds, ascending; the picture is drawn from it.
    #[serde(skip)]
    pub(crate) all: Vec<u64>,
}

impl Series {
    pub(crate) fn new(name: String) -> Self {
        Self { name, rounds: Vec::new(), syscalls: None, all: Vec::new() }
    }

    /// Requests that were refused or have no answer that verifies.
    pub(crate) fn errors(&self) -> u64 {
        self.rounds.iter().map(Round::errors).sum()
    }

    /// The median of the rounds in which anything was signed.
    fn median(&self, value: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().filter(|round| round.latency.count > 0).map(value))
    }

    /// What went wrong, in one line.
    fn complaint(&self) -> Option<String> {
        let sum = |value: fn(&Round) -> u64| self.rounds.iter().map(value).sum::<u64>();
        let first = self.rounds.iter().find_map(|round| round.failure.as_deref()).unwrap_or("no reason is known");
        let (refusals, failures) = (sum(|round| round.refusals), sum(|round| round.failures));
        let text = format!("{}: {refusals} refused, {failures} without an answer that verifies; {first}", self.name);
        (refusals + failures > 0).then_some(text)
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) validators: usize,
    pub(crate) requests_per_validator: usize,
    pub(crate) loop_kind: String,
    pub(crate) transport: &'static str,
    pub(crate) filesystem: String,
    pub(crate) kernel: String,
    /// The disk alone, before the signers of each round and after them.
    pub(crate) disk_floor_before: Figures,
    pub(crate) disk_floor_after: Figures,
    pub(crate) loopback_floor: Figures,
    pub(crate) series: Vec<Series>,
    pub(crate) ratios: Vec<Ratio>,
}

/// The first series against the second, round by round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) what: &'static str,
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Report {
    /// Fills in the ratios of the first series to the second.
    pub(crate) fn with_ratios(mut self) -> Self {
        if let [ours, theirs, ..] = self.series.as_slice() {
            let of = |what, value: fn(&Round) -> f64| {
                let signed = |(a, b): &(&Round, &Round)| a.latency.count > 0 && b.latency.count > 0;
                let pairs = ours.rounds.iter().zip(&theirs.rounds).filter(signed);
                // Too little to be told from nothing has no ratio.
                let ratios: Vec<f64> =
                    pairs.map(|(a, b)| value(a) / value(b)).filter(|ratio| ratio.is_finite()).collect();
                let (lowest, highest) = spread(ratios.iter().copied());
                (!ratios.is_empty()).then(|| Ratio { what, median: median(ratios), lowest, highest })
            };
            let ratios = [
                of("p50", |round| round.latency.p50_us),
                of("p99", |round| round.latency.p99_us),
                of("signatures/s", |round| round.signatures_per_second),
                of("memory", |round| round.cost.rss_kib as f64),
                of("processor", |round| round.cost.cpu_seconds),
            ];
            self.ratios = ratios.into_iter().flatten().collect();
        }
        self
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let Self { validators, requests_per_validator, loop_kind, transport, filesystem, kernel, .. } = self;
        let mut line = |text: String| out.extend([text.as_str(), "\n"]);
        line(format!(
            "{validators} validator(s), {requests_per_validator} requests each, {loop_kind}, {transport}, {filesystem}, Linux {kernel}"
        ));
        let (before, after) = (&self.disk_floor_before, &self.disk_floor_after);
        line(format!(
            "floor: disk (512 bytes + fdatasync) p50 {:.0} µs p99 {:.0} µs before, p50 {:.0} µs p99 {:.0} µs after · one signature over loopback p50 {:.0} µs",
            before.p50_us, before.p99_us, after.p50_us, after.p99_us, self.loopback_floor.p50_us
        ));
        line(format!(
            "{:<24} {:>5} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8}",
            "signer",
            "procs",
            "p50 µs",
            "p90 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "sign/s",
            "errors",
            "MiB",
            "cpu s",
            "first ms"
        ));
        for series in &self.series {
            line(format!(
                "{:<24} {:>5} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>9.0} {:>9.0} {:>7} {:>8.1} {:>8.2} {:>8.0}",
                series.name,
                series.rounds.first().map_or(0, |round| round.cost.processes),
                series.median(|round| round.latency.p50_us),
                series.median(|round| round.latency.p90_us),
                series.median(|round| round.latency.p99_us),
                series.median(|round| round.latency.p999_us),
                series.median(|round| round.latency.max_us),
                series.median(|round| round.signatures_per_second),
                series.errors(),
                series.median(|round| round.cost.rss_kib as f64 / 1024.0),
                series.median(|round| round.cost.cpu_seconds),
                series.median(|round| round.start_ms.unwrap_or_default()),
            ));
        }
        self.series.iter().filter_map(Series::complaint).for_each(&mut line);
        for Series { name, syscalls, .. } in &self.series {
            if let Some(Syscalls { all, fdatasync, fsync, rename, .. }) = syscalls {
                line(format!(
                    "{name}: {all:.1} syscalls per signature (fdatasync {fdatasync:.2}, fsync {fsync:.2}, rename {rename:.2})"
                ));
            }
        }
        if let [ours, theirs, ..] = self.series.as_slice() {
            line(format!("ratio {} / {}:", ours.name, theirs.name));
            for Ratio { what, median, lowest, highest } in &self.ratios {
                line(format!("  {what:<14} {median:.2}  ({lowest:.2} to {highest:.2})"));
            }
        }
        out
    }

    /// The picture: share of answers (upwards) within a latency (to the right, logarithmic), one curve per signer.
    pub(crate) fn svg(&self) -> String {
        const WIDTH: f64 = 820.0;
        const HEIGHT: f64 = 420.0;
        const LEFT: f64 = 60.0;
        const TOP: f64 = 50.0;
        const RIGHT: f64 = 30.0;
        const BOTTOM: f64 = 60.0;
        const COLOURS: [&str; 4] = ["#0b5fa5", "#c2410c", "#15803d", "#6b21a8"];
        let every = || self.series.iter().flat_map(|series| &series.all);
        let low = every().min().map_or(10.0, |ns| *ns as f64 / 1000.0).max(1.0);
        let high = every().max().map_or(1000.0, |ns| *ns as f64 / 1000.0).max(low * 2.0);
        let (low, high) = (low.log10(), high.log10());
        let x = |us: f64| LEFT + (us.max(1.0).log10() - low) / (high - low) * (WIDTH - LEFT - RIGHT);
        let y = |share: f64| TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n<text x=\"{LEFT}\" y=\"24\" \
             font-size=\"16\" fill=\"#111827\">Time from request to answer: {} validator(s), {}</text>\n",
            self.validators, self.filesystem
        );
        let mut put = |text: String| out.extend([text.as_str(), "\n"]);
        for share in [0.0, 0.25, 0.5, 0.75, 0.9, 0.99] {
            let at = y(share);
            put(format!(
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#e5e7eb\"/>",
                WIDTH - RIGHT
            ));
            let percent = share * 100.0;
            put(format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#374151\">{percent:.0} %</text>",
                LEFT - 8.0,
                at + 4.0
            ));
        }
        let mut tick = 1.0_f64;
        while tick.log10() <= high {
            for us in [tick, tick * 2.0, tick * 5.0] {
                if us.log10() >= low && us.log10() <= high {
                    let at = x(us);
                    let label = if us >= 1000.0 { format!("{} ms", us / 1000.0) } else { format!("{us} µs") };
                    put(format!(
                        "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{}\" stroke=\"#f3f4f6\"/>",
                        HEIGHT - BOTTOM
                    ));
                    put(format!(
                        "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#374151\">{label}</text>",
                        HEIGHT - BOTTOM + 20.0
                    ));
                }
            }
            tick *= 10.0;
        }
        for ((index, series), colour) in self.series.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let count = series.all.len().max(1);
            let mut path = String::new();
            let steps = 400.min(count);
            for step in 0..=steps {
                let rank = (step * count / steps.max(1)).min(count - 1);
                if let Some(ns) = series.all.get(rank) {
                    let command = if path.is_empty() { 'M' } else { 'L' };
                    let share = (rank + 1) as f64 / count as f64;
                    path += &format!("{command}{:.1} {:.1} ", x(*ns as f64 / 1000.0), y(share));
                }
            }
            put(format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"));
            let at = LEFT + index as f64 * 190.0;
            put(format!("<rect x=\"{at}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>", HEIGHT - 18.0));
            let name = series.name.replace('&', "&amp;").replace('<', "&lt;");
            put(format!("<text x=\"{}\" y=\"{}\" fill=\"#111827\">{name}</text>", at + 20.0, HEIGHT - 12.0));
        }
        put("</svg>".into());
        out
    }
}
