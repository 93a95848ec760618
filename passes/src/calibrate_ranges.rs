//! calibrate-ranges: tensor → tensor, and the ranges inside blocks.
//! before   %v without range        after   %v in [lo, hi], the smallest and largest number seen
//! Needs    at least one calibration input.
//! Error    none.    Depth  unchanged.
//! Why      polynomials are fitted on intervals; the only honest source of intervals is data.
//! Source   ours; the paper gives ranges by training penalties instead (arXiv 2410.09457).
//!
//! Ends are rounded outward to three significant digits ([`Interval::rounded_outward`]), so that the text does not depend on the
//! last bits of a machine's arithmetic. No margin is added here: the pass that fits polynomials chooses it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::approx::softmax_rows::SoftmaxSite;
use crate::ir::graph::ValueId;
use crate::ir::shape::Interval;
use crate::ir::tensor::{EvalError, TensorGraph, TensorOp};
use crate::sites::SiteRanges;

/// Why a graph could not be calibrated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CalibrateError {
    /// There is nothing to calibrate on.
    #[error("the calibration set is empty; give at least one input")]
    Empty,
    /// An input does not fit the graph.
    #[error("calibration input {number}: {source}")]
    Input {
        /// Which input, from 0.
        number: usize,
        /// What is wrong with it.
        source: EvalError,
    },
    /// A value is not finite for some input.
    #[error("calibration input {number}: value `%{value}` is {found}; remove the input, or check the model's divisions")]
    NonFinite {
        /// Which input, from 0.
        number: usize,
        /// The value.
        value: String,
        /// The number.
        found: f64,
    },
    /// A denominator or variance reaches 0, where 1/x is no polynomial.
    #[error("value `%{value}`: its denominator reaches {lowest}, 1/x needs an interval above 0; add an epsilon to the model")]
    Range {
        /// The value.
        value: String,
        /// The smallest denominator.
        lowest: f64,
    },
}

/// Runs the graph on every calibration input and sets the range of every value.
///
/// Each input maps graph inputs to the user's numbers without batch axis. Returns, per value, the range of the argument of its
/// non-polynomial function: variance + ε for LayerNorm, ε + Σ s^p for PowerSoftmax, the argument for activations.
pub fn calibrate_ranges(
    graph: &mut TensorGraph,
    inputs: &[BTreeMap<String, Vec<f64>>],
) -> Result<SiteRanges, CalibrateError> {
    if inputs.is_empty() {
        return Err(CalibrateError::Empty);
    }
    let seen: Vec<Result<Seen, CalibrateError>> = inputs
        .par_iter()
        .enumerate()
        .map(|(number, input)| seen(graph, number, input))
        .collect();
    let (mut ranges, mut sites) = (BTreeMap::new(), BTreeMap::new());
    let mut rows: BTreeMap<ValueId, SoftmaxSite> = BTreeMap::new();
    for one in seen {
        let one = one?;
        merge(&mut ranges, one.ranges);
        merge(&mut sites, one.sites);
        for (v, site) in one.rows {
            rows.entry(v)
                .and_modify(|known| known.merge(&site))
                .or_insert(site);
        }
    }
    for (&v, &site) in &sites {
        if site.lo <= 0.0 {
            return Err(CalibrateError::Range {
                value: graph.node(v).name.clone(),
                lowest: site.lo,
            });
        }
    }
    for (&v, range) in &ranges {
        graph.node_mut(v).range = Some(range.rounded_outward());
    }
    for v in graph.topological() {
        if let TensorOp::Activation(_) = graph.node(v).op {
            if let Some(argument) = graph.operands(v).first().and_then(|x| ranges.get(x)) {
                sites.insert(v, *argument);
            }
        }
    }
    let sites = SiteRanges(
        sites
            .into_iter()
            .map(|(v, r)| (v, r.rounded_outward()))
            .collect(),
        rows.into_iter()
            .map(|(v, r)| (v, r.rounded_outward()))
            .collect(),
    );
    sites.write(graph);
    Ok(sites)
}

/// Smallest and largest numbers of one input.
#[derive(Default)]
struct Seen {
    ranges: BTreeMap<ValueId, Interval>,
    sites: BTreeMap<ValueId, Interval>,
    rows: BTreeMap<ValueId, SoftmaxSite>,
}

fn seen(
    graph: &TensorGraph,
    number: usize,
    input: &BTreeMap<String, Vec<f64>>,
) -> Result<Seen, CalibrateError> {
    let mut seen = Seen::default();
    let mut bad: Option<(ValueId, f64)> = None;
    let mut widen = |table: &mut BTreeMap<ValueId, Interval>, v: ValueId, numbers: &[f64]| {
        let mut range = Interval::new(f64::INFINITY, f64::NEG_INFINITY);
        let mut finite = true;
        for &x in numbers {
            finite &= x.is_finite();
            range.lo = range.lo.min(x);
            range.hi = range.hi.max(x);
        }
        if !finite {
            let found = numbers.iter().find(|x| !x.is_finite()).copied();
            bad = bad.or(found.map(|x| (v, x)));
        }
        if !numbers.is_empty() {
            table.insert(v, range);
        }
    };
    graph
        .visit(input, &mut |v, value, statistic| {
            widen(&mut seen.ranges, v, value);
            let softmax = matches!(graph.node(v).op, TensorOp::Softmax { .. });
            match statistic {
                Some(s) if softmax => {
                    // Finite where the scores are, which are checked as values.
                    if let Some(site) = SoftmaxSite::of(s) {
                        seen.rows.insert(v, site);
                    }
                }
                Some(s) => widen(&mut seen.sites, v, s),
                None => {}
            }
        })
        .map_err(|source| CalibrateError::Input { number, source })?;
    match bad {
        Some((v, found)) => Err(CalibrateError::NonFinite {
            number,
            value: graph.node(v).name.clone(),
            found,
        }),
        None => Ok(seen),
    }
}

fn merge(all: &mut BTreeMap<ValueId, Interval>, one: BTreeMap<ValueId, Interval>) {
    for (v, r) in one {
        let range = all.entry(v).or_insert(r);
        range.lo = range.lo.min(r.lo);
        range.hi = range.hi.max(r.hi);
    }
}

#[cfg(test)]
mod tests;
