//! How a softmax over keys is computed: which polynomials, squarings and divisions, with the least depth within the error budget.
//!
//! *Normalise and square* (Cho, Hanrot, Kim, Park, Stehlé: arXiv 2410.11184): softmax(x) is softmax(x/2) squared and brought to sum 1
//! again. Weights start as e^((x − c)/2^a) by one polynomial, c a calibrated constant; they are squared until x/2^b, where they may be
//! divided by their sum, and so on down to b = 0. A factor common to a row cancels in the next sum, so that the
//! divisions on the way need one digit only; the last one is exact and is deferred past A·V. Sums lie in the intervals seen in calibration.
//!
//! *Cumulants* (after arXiv 2602.01621): ln mean e^x = κ₁ + κ₂/2 + …; to second order the softmax is e^x · e^(−mean − variance/2) over the
//! number of keys, without a sum of exponentials and without a division. What is left out is known from calibration, row by row.

use std::collections::BTreeMap;

use super::minimax::minimax;
use super::reciprocal::{reciprocal, ReciprocalFit};
use super::softmax_rows::{SoftmaxSite, HALVINGS};
use crate::approx::chebyshev::interpolate;
use crate::ir::poly::{Chebyshev, Evaluation};
use crate::ir::shape::Interval;

/// Largest relative error of a division whose result is normalised again.
const CRUDE: f64 = 0.1;
/// Most levels of a division.
const DIVISION_LEVELS: usize = 12;
/// Degrees of an exponential: those that use all of their levels.
const DEGREES: [usize; 6] = [1, 3, 7, 15, 31, 63];
/// Products that make a Chebyshev polynomial of the degrees above, about.
const PRODUCTS: [f64; 6] = [0.0, 2.0, 4.0, 7.0, 11.0, 17.0];
/// What a bootstrap adds to a value in [-1, 1] (`place-bootstraps`): weights below it are lost.
const NOISE: f64 = 2.4e-7;
/// How many products weigh as much as a level when plans are compared.
const PRODUCTS_PER_LEVEL: f64 = 8.0;

/// What is asked of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Largest error of a row: Σ over its keys of |weight − softmax|.
    pub tolerance: f64,
    /// Keys of a row.
    pub keys: usize,
    /// Sums are divided by this below, and multiplied by the next above, beyond what calibration saw.
    pub widen_below: f64,
    /// See `widen_below`.
    pub widen_above: f64,
    /// Scores for which the exponential has to do, margin included: those of masked keys too.
    pub scores: Interval,
    /// Whether the number of keys of a row is not known (a mask that is encrypted): no mean can be taken.
    pub unknown_keys: bool,
}

/// e^((s − top)/2^halvings) as a polynomial of u = (s − mid)/half in [-1, 1].
#[derive(Clone, Debug)]
pub struct Exponential {
    /// The polynomial; at most about 1.
    pub polynomial: Chebyshev,
    /// Scores at u = 0.
    pub mid: f64,
    /// ds/du.
    pub half: f64,
    /// Score at which the value is 1.
    pub top: f64,
    /// The scores are divided by 2 to this.
    pub halvings: usize,
}

/// A division by the sum over keys once weights stand for the scores over 2^halvings.
#[derive(Clone, Debug)]
pub struct Division {
    /// Scores over 2 to this, reached by squaring.
    pub halvings: usize,
    /// 1/sum.
    pub fit: ReciprocalFit,
}

/// How a softmax is computed.
#[derive(Clone, Debug)]
pub enum Method {
    /// Squarings and divisions down to 2^0; the last division is deferred.
    Squares(Vec<Division>),
    /// n · e^(−K): `inverse` evaluates e^(lowest − K) at (K − mid)/half, K = mean + variance/2.
    Cumulants {
        /// The polynomial.
        inverse: Chebyshev,
        /// K at argument 0.
        mid: f64,
        /// dK by the argument.
        half: f64,
        /// Smallest K: the polynomial's value there is 1.
        lowest: f64,
    },
}

/// A softmax with its polynomials.
#[derive(Clone, Debug)]
pub struct SoftmaxPlan {
    /// The first exponential.
    pub exponential: Exponential,
    /// What follows.
    pub method: Method,
    /// Bound of the error of a row, Σ |weight − softmax|, for rows like those of calibration.
    pub error: f64,
    /// Levels from the scores to the weighted sum of values times its factor, A·V's two included.
    pub depth: usize,
    /// Products, about.
    pub products: f64,
}

impl SoftmaxPlan {
    fn price(&self) -> f64 {
        self.depth as f64 + self.products / PRODUCTS_PER_LEVEL
    }

    /// The name in reports.
    pub fn method(&self) -> String {
        match &self.method {
            Method::Cumulants { .. } => "cumulants of order 2".into(),
            Method::Squares(divisions) => {
                let at: Vec<String> = divisions
                    .iter()
                    .map(|d| format!("2^{}", d.halvings))
                    .collect();
                format!(
                    "normalise-and-square from 2^{}, divided at {}",
                    self.exponential.halvings,
                    at.join(", ")
                )
            }
        }
    }
}

/// The cheapest plan within the tolerance; `None` if there is none.
pub fn plan(site: &SoftmaxSite, demand: &Demand) -> Option<SoftmaxPlan> {
    let whole = demand.scores.hi - demand.scores.lo;
    if !whole.is_finite() || demand.tolerance.is_nan() || demand.tolerance <= 0.0 {
        return None;
    }
    // A row of one score everywhere still needs an interval.
    let half = (whole / 2.0).max(1e-3);
    let mid = (demand.scores.hi + demand.scores.lo) / 2.0;
    let mut search = Search {
        site,
        demand,
        fits: BTreeMap::new(),
        best: None,
    };
    for halvings in 0..=HALVINGS {
        let Some(first) = exponential(site, demand, (mid, half), halvings) else {
            continue;
        };
        if halvings == 0 && !demand.unknown_keys {
            let found = cumulants(site, demand, &first);
            search.offer(found);
        }
        for points in 0..1usize << halvings {
            let found = search.squares(&first, points);
            search.offer(found);
        }
    }
    search.best
}

/// A first exponential, the products it takes and a bound of the error of a row that it causes.
struct First {
    exponential: Exponential,
    products: f64,
    error: f64,
}

/// The polynomial of lowest depth for the weights over 2^halvings.
fn exponential(
    site: &SoftmaxSite,
    demand: &Demand,
    (mid, half): (f64, f64),
    halvings: usize,
) -> Option<First> {
    let top = mid + half;
    let power = f64::powi(2.0, halvings as i32);
    let tolerance = demand.tolerance / 16.0;
    // Weights far below the sum of their row need no relative accuracy: an equal share of the smallest sum.
    let share = libm::exp(site.log_sum(None, 0).lo - top) / demand.widen_below / demand.keys as f64;
    let f = |u: f64| libm::exp((mid + half * u - top) / power);
    // How far p may be from y = f for an error of y^power by its share of `tolerance`, over the tolerance.
    let root = libm::pow(tolerance * share, 1.0 / power) / (power * tolerance);
    let weight = |u: f64| {
        let y = f(u);
        let linear =
            (libm::pow(y, power) + share) / (power * libm::pow(y, power - 1.0)).max(1e-300);
        1.0 / linear.min(root)
    };
    for (degree, products) in DEGREES.into_iter().zip(PRODUCTS) {
        let rough = interpolate(f, degree);
        let error = (0..=200)
            .map(|i| {
                let u = i as f64 / 100.0 - 1.0;
                (rough.value(u) - f(u)).abs() * weight(u)
            })
            .fold(0.0, f64::max);
        if error.is_nan() || error > 30.0 * tolerance {
            continue;
        }
        let exponential = Exponential {
            polynomial: minimax(f, weight, degree).polynomial,
            mid,
            half,
            top,
            halvings,
        };
        let error = row_error(&exponential, share);
        if error <= demand.tolerance / 2.0 {
            return Some(First {
                exponential,
                products,
                error,
            });
        }
    }
    None
}

/// Bound of Σ |weight − softmax| of a row whose sum is at least `share` per key, from the largest error of e^(s − top) against
/// itself plus a share: the shares of all keys add up to at most the sum, and the sum is off by as much as the weights.
fn row_error(e: &Exponential, share: f64) -> f64 {
    let worst = (0..=2000)
        .map(|i| {
            let u = i as f64 / 1000.0 - 1.0;
            let exact = libm::exp(e.mid + e.half * u - e.top);
            let mut y = e.polynomial.value(u);
            for _ in 0..e.halvings {
                y *= y;
            }
            (y - exact).abs() / (exact + share)
        })
        .fold(0.0, f64::max);
    4.0 * worst
}

struct Search<'a> {
    site: &'a SoftmaxSite,
    demand: &'a Demand,
    /// Divisions by (halvings at the last one, halvings).
    fits: BTreeMap<(Option<usize>, usize), Option<ReciprocalFit>>,
    best: Option<SoftmaxPlan>,
}

impl Search<'_> {
    fn offer(&mut self, found: Option<SoftmaxPlan>) {
        if let Some(plan) = found {
            if self.best.as_ref().is_none_or(|b| plan.price() < b.price()) {
                self.best = Some(plan);
            }
        }
    }

    /// 1/sum on the way, at 2^target, of weights last divided at 2^last or made with their top at 1.
    fn division(&mut self, last: Option<usize>, target: usize, top: f64) -> Option<ReciprocalFit> {
        let (site, demand) = (self.site, self.demand);
        self.fits
            .entry((last, target))
            .or_insert_with(|| {
                let interval = sums(site, demand, last, target, top);
                reciprocal(interval, CRUDE, DIVISION_LEVELS)
            })
            .clone()
    }

    /// Normalise and square; bit i of `points` says that weights are divided once they stand for 2^(i + 1).
    fn squares(&mut self, first: &First, points: usize) -> Option<SoftmaxPlan> {
        let e = &first.exponential;
        let mut divisions = Vec::new();
        let mut level = e.polynomial.depth();
        let mut products = first.products;
        let mut noise = 0f64;
        let mut last: Option<usize> = None;
        let mut at = e.halvings;
        loop {
            let target = (1..=at)
                .rev()
                .find(|i| points >> (i - 1) & 1 == 1 && Some(*i) != last)
                .unwrap_or(0);
            level += at - target;
            products += (at - target) as f64;
            let sum = sums(self.site, self.demand, last, target, e.top);
            // The largest weight is 1 or the largest sum; what a bootstrap adds doubles with every squaring to come.
            let keys = (self.demand.keys as f64).sqrt();
            noise += NOISE * keys * f64::powi(2.0, target as i32) * sum.hi.min(1.0) / sum.lo;
            if noise > self.demand.tolerance {
                return None;
            }
            let fit = if target == 0 {
                let left = self.demand.tolerance - first.error - noise;
                reciprocal(sum, left, DIVISION_LEVELS)?
            } else {
                self.division(last, target, e.top)?
            };
            let (levels, own) = match &fit.evaluation {
                Evaluation::Polynomial(p) => {
                    let at = DEGREES.iter().position(|d| *d >= p.degree());
                    (p.depth(), at.map_or(17.0, |i| PRODUCTS[i]))
                }
                _ => {
                    let k = fit.degree_or_iterations;
                    (k, 2.0 * k as f64)
                }
            };
            let error = first.error + fit.error;
            divisions.push(Division {
                halvings: target,
                fit,
            });
            if target == 0 {
                return (error + noise <= self.demand.tolerance).then_some(SoftmaxPlan {
                    exponential: e.clone(),
                    method: Method::Squares(divisions),
                    error,
                    // A·V takes two levels of the weights, its product with the factor one more.
                    depth: (level + 2).max(level + 1 + levels) + 1,
                    // The deferred division is of one value per head and row.
                    products: products + own / 4.0,
                });
            }
            level += levels + 2;
            products += own + 2.0;
            if self.best.as_ref().is_some_and(|b| level as f64 > b.price()) {
                return None;
            }
            last = Some(target);
            at = target;
        }
    }
}

/// Where sums over keys lie, with the margins.
fn sums(
    site: &SoftmaxSite,
    demand: &Demand,
    last: Option<usize>,
    target: usize,
    top: f64,
) -> Interval {
    let seen = site.log_sum(last, target);
    let Some(last) = last else {
        let offset = top / f64::powi(2.0, target as i32);
        return Interval::new(
            libm::exp(seen.lo - offset) / demand.widen_below,
            libm::exp(seen.hi - offset) * demand.widen_above,
        );
    };
    // Weights of sum 1, whose squares sum to at most 1 and at least what equal ones do; the last division was off by CRUDE.
    let power = f64::powi(2.0, last.saturating_sub(target) as i32);
    let equal = libm::pow(demand.keys as f64, 1.0 - power);
    let lo = (libm::exp(seen.lo) / demand.widen_below).max(equal);
    let hi = (libm::exp(seen.hi) * demand.widen_above).min(1.0).max(lo);
    Interval::new(
        lo * libm::pow(1.0 - CRUDE, power),
        hi * libm::pow(1.0 + CRUDE, power),
    )
}

/// The second order, where calibration says that it does.
fn cumulants(site: &SoftmaxSite, demand: &Demand, first: &First) -> Option<SoftmaxPlan> {
    let left_out = libm::exp(site.rest().magnitude()) - 1.0;
    let seen = site.second_order();
    let margin = 0.12 * (seen.hi - seen.lo) + 0.02;
    let (lo, hi) = (seen.lo - margin, seen.hi + margin);
    let (mid, half) = ((hi + lo) / 2.0, (hi - lo) / 2.0);
    let noise = NOISE * (demand.keys as f64).sqrt() * libm::exp(2.0 * half);
    if left_out > demand.tolerance / 2.0 || noise > demand.tolerance {
        return None;
    }
    let f = |u: f64| libm::exp(lo - mid - half * u);
    for (degree, own) in DEGREES.into_iter().zip(PRODUCTS) {
        let fit = minimax(f, |u| 1.0 / f(u), degree);
        if fit.error > demand.tolerance / 4.0 {
            continue;
        }
        // Without a sum there is no error of the sum.
        let error = first.error / 2.0 + fit.error + left_out;
        let n = first.exponential.polynomial.depth();
        return (error + noise <= demand.tolerance).then_some(SoftmaxPlan {
            exponential: first.exponential.clone(),
            depth: (n + 2).max(2 + fit.polynomial.depth()) + 1,
            method: Method::Cumulants {
                inverse: fit.polynomial,
                mid,
                half,
                lowest: lo,
            },
            error,
            products: first.products + 1.0 + own / 4.0,
        });
    }
    None
}
