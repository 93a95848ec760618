//! What calibration keeps of the rows of a softmax: sums of exponentials of the scores over powers of two, and cumulants.
//!
//! Everything is kept as an interval over all rows, so that large models need no memory for it.

use crate::ir::shape::Interval;

/// Scores are divided by at most 2^HALVINGS before the exponential.
pub const HALVINGS: usize = 6;

const MEAN_EXPONENT: usize = pair(HALVINGS, HALVINGS - 1) + 1;
const REST: usize = MEAN_EXPONENT + 1;
const LOWEST: usize = REST + 1;
const HIGHEST: usize = LOWEST + 1;
/// Numbers per row.
pub const QUANTITIES: usize = HIGHEST + 1;

/// Where the sum over keys at 2^-b lies, of weights that were normalised at 2^-a > b; a row's own sums come first.
const fn pair(a: usize, b: usize) -> usize {
    HALVINGS + 1 + a * (a - 1) / 2 + b
}

/// The numbers of one row: `row` gives the scores that count, with their factors (a 0/1 mask, above 0). Empty for a row without keys.
pub fn quantities(row: impl Iterator<Item = (f64, f64)>) -> Option<[f64; QUANTITIES]> {
    let row: Vec<(f64, f64)> = row.filter(|(_, w)| *w != 0.0).collect();
    let first = row.first()?.0;
    let (mut lo, mut hi) = (first, first);
    for (s, _) in &row {
        lo = lo.min(*s);
        hi = hi.max(*s);
    }
    let mut out = [0.0; QUANTITIES];
    for t in 0..=HALVINGS {
        let scale = 0.5f64.powi(t as i32);
        let sum: f64 = row
            .iter()
            .map(|(s, w)| w * libm::exp((s - hi) * scale))
            .sum();
        out[t] = hi * scale + libm::log(sum);
    }
    for a in 1..=HALVINGS {
        for b in 0..a {
            out[pair(a, b)] = out[b] - 2f64.powi((a - b) as i32) * out[a];
        }
    }
    let count: f64 = row.iter().map(|(_, w)| w).sum();
    let mean = row.iter().map(|(s, w)| w * s).sum::<f64>() / count;
    let square = |s: f64| (s - mean) * (s - mean);
    let variance = row.iter().map(|(s, w)| w * square(*s)).sum::<f64>() / count;
    out[MEAN_EXPONENT] = mean + variance / 2.0;
    out[REST] = out[0] - libm::log(count) - out[MEAN_EXPONENT];
    out[LOWEST] = lo;
    out[HIGHEST] = hi;
    Some(out)
}

/// The intervals of a softmax's rows over the calibration inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftmaxSite(Vec<Interval>);

impl SoftmaxSite {
    /// The intervals of rows given as concatenated [`quantities`]; `None` without rows.
    pub fn of(rows: &[f64]) -> Option<SoftmaxSite> {
        let mut all: Option<SoftmaxSite> = None;
        for row in rows.chunks_exact(QUANTITIES) {
            let one = SoftmaxSite(row.iter().map(|&x| Interval::new(x, x)).collect());
            match &mut all {
                None => all = Some(one),
                Some(all) => all.merge(&one),
            }
        }
        all
    }

    /// From what [`SoftmaxSite::intervals`] gave; `None` for another number of intervals.
    pub fn new(intervals: &[Interval]) -> Option<SoftmaxSite> {
        (intervals.len() == QUANTITIES).then(|| SoftmaxSite(intervals.to_vec()))
    }

    /// All intervals, in a fixed order.
    pub fn intervals(&self) -> &[Interval] {
        &self.0
    }

    /// Widens every interval by another's.
    pub fn merge(&mut self, other: &SoftmaxSite) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a = Interval::new(a.lo.min(b.lo), a.hi.max(b.hi));
        }
    }

    /// Ends rounded outward to three digits, as of every range.
    pub fn rounded_outward(&self) -> SoftmaxSite {
        SoftmaxSite(self.0.iter().map(Interval::rounded_outward).collect())
    }

    fn at(&self, i: usize) -> Interval {
        self.0.get(i).copied().unwrap_or(Interval::new(0.0, 0.0))
    }

    /// ln Σ_j e^(s_j / 2^b); of weights that were brought to sum 1 at 2^-a before and then squared a − b times, where `a` is given.
    pub fn log_sum(&self, a: Option<usize>, b: usize) -> Interval {
        match a {
            Some(a) if a > b && a <= HALVINGS => self.at(pair(a, b)),
            _ => self.at(b.min(HALVINGS)),
        }
    }

    /// Mean plus half the variance of the scores of a row: the logarithm of the mean of e^s to second order.
    pub fn second_order(&self) -> Interval {
        self.at(MEAN_EXPONENT)
    }

    /// What the second order leaves of ln mean e^s.
    pub fn rest(&self) -> Interval {
        self.at(REST)
    }

    /// The scores that count.
    pub fn scores(&self) -> Interval {
        Interval::new(self.at(LOWEST).lo, self.at(HIGHEST).hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_normalised_squares_are_those_of_the_softmax() {
        let scores = [0.3, -2.0, 4.0, 1.0];
        let rows = quantities(scores.iter().map(|s| (*s, 1.0))).unwrap();
        let site = SoftmaxSite::of(&rows).unwrap();
        for a in 1..=HALVINGS {
            let e: Vec<f64> = scores
                .iter()
                .map(|s| libm::exp(s / 2f64.powi(a as i32)))
                .collect();
            let sum: f64 = e.iter().sum();
            for b in 0..a {
                let power = 1 << (a - b);
                let expected: f64 = e.iter().map(|x| (x / sum).powi(power)).sum();
                let found = site.log_sum(Some(a), b).lo;
                assert!((libm::exp(found) / expected - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn masked_scores_do_not_count_and_a_row_without_keys_is_left_out() {
        let row = [(1.0, 1.0), (700.0, 0.0), (3.0, 1.0)];
        let q = quantities(row.into_iter()).unwrap();
        let site = SoftmaxSite::of(&q).unwrap();
        assert_eq!(site.scores(), Interval::new(1.0, 3.0));
        assert_eq!(site.second_order(), Interval::new(2.5, 2.5));
        assert!(quantities([(1.0, 0.0)].into_iter()).is_none());
        assert!(SoftmaxSite::of(&[]).is_none());
    }
}
