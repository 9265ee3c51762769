//! Latencies of one run, and what to say of them.

use serde::Serialize;

/// The figures of one distribution, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// The figures of `nanoseconds`, which it sorts. All zero where there is nothing.
pub(crate) fn figures(nanoseconds: &mut [u64]) -> Figures {
    nanoseconds.sort_unstable();
    let count = nanoseconds.len();
    let at = |share: f64| {
        let index = ((count as f64 * share).ceil() as usize).saturating_sub(1);
        nanoseconds.get(index.min(count.saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    Figures { count, p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), p999_us: at(0.999), max_us: at(1.0) }
}

/// Median of a few figures, one per round.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Smallest and largest of a few figures.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values.into_iter().fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut values: Vec<u64> = (1..=1000).rev().map(|value| value * 1000).collect();
        let figures = figures(&mut values);
        assert_eq!((figures.p50_us, figures.p90_us, figures.p99_us), (500.0, 900.0, 990.0));
        assert_eq!((figures.p999_us, figures.max_us, figures.count), (999.0, 1000.0, 1000));
    }

    #[test]
    fn nothing_measured_is_zero_and_no_panic() {
        assert_eq!(figures(&mut []).max_us, 0.0);
    }
}
