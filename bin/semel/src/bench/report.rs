//! The report of a benchmark: a table for people, JSON for machines, one picture for the documentation.

use super::process::Cost;
use super::stats::{Figures, median, spread};
use serde::Serialize;

/// One signer in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) latency: Figures,
    pub(crate) signatures_per_second: f64,
    pub(crate) refusals: u64,
    pub(crate) cost: Cost,
    /// From the start of the process to the first verified signature.
    pub(crate) start_ms: f64,
}

/// One signer over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) rounds: Vec<Round>,
    /// Every latency of every round, nanoseconds, ascending; the picture is drawn from it.
    #[serde(skip)]
    pub(crate) all: Vec<u64>,
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
    pub(crate) disk_floor: Figures,
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
                let pairs = ours.rounds.iter().zip(&theirs.rounds);
                let ratios: Vec<f64> = pairs.map(|(a, b)| value(a) / value(b).max(f64::MIN_POSITIVE)).collect();
                let (lowest, highest) = spread(ratios.iter().copied());
                Ratio { what, median: median(ratios), lowest, highest }
            };
            self.ratios = vec![
                of("p50", |round| round.latency.p50_us),
                of("p99", |round| round.latency.p99_us),
                of("signatures/s", |round| round.signatures_per_second),
                of("memory", |round| round.cost.rss_kib as f64),
                of("processor", |round| round.cost.cpu_seconds),
            ];
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
        line(format!(
            "floor: disk (512 bytes + fdatasync) p50 {:.0} µs p99 {:.0} µs · one signature over loopback p50 {:.0} µs",
            self.disk_floor.p50_us, self.disk_floor.p99_us, self.loopback_floor.p50_us
        ));
        line(format!(
            "{:<24} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8}",
            "signer", "p50 µs", "p90 µs", "p99 µs", "max µs", "sign/s", "MiB", "cpu s", "first ms"
        ));
        for series in &self.series {
            let of = |value: fn(&Round) -> f64| median(series.rounds.iter().map(value));
            line(format!(
                "{:<24} {:>8.0} {:>8.0} {:>8.0} {:>9.0} {:>9.0} {:>8.1} {:>8.2} {:>8.0}",
                series.name,
                of(|round| round.latency.p50_us),
                of(|round| round.latency.p90_us),
                of(|round| round.latency.p99_us),
                of(|round| round.latency.max_us),
                of(|round| round.signatures_per_second),
                of(|round| round.cost.rss_kib as f64 / 1024.0),
                of(|round| round.cost.cpu_seconds),
                of(|round| round.start_ms),
            ));
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
