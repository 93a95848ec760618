//! The road from the tensor graph to a normalised poly graph, and the error budget along it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::budget::Budget;
use crate::defer_normalisation::DeferNormalisation;
use crate::fold_centring::FoldCentring;
use crate::fold_linear::FoldLinear;
use crate::ir::poly::{OutputFactor, PolyGraph};
use crate::ir::tensor::TensorGraph;
use crate::normalise::{AnnotateRanges, Normalise, Results};
use crate::pass::{Lower, Manager, PassError};
use crate::plots::{plots, Plot};
use crate::prepared::prepared;
use crate::share_equal::ShareEqual;
use crate::sites::SiteRanges;
use crate::split_rotary::SplitRotary;
use crate::substitute_polynomials::SubstitutePolynomials;

/// Values of graph inputs or outputs by name, row by row, for one input of the batch.
pub type Named = BTreeMap<String, Vec<f64>>;

/// A poly graph ready for packing.
#[derive(Clone, Debug)]
pub struct PolyModel {
    /// Every value that may be bootstrapped lies in [-1, 1] on calibration inputs.
    pub graph: PolyGraph,
    /// Per graph output, in order: what the client divides by.
    pub outputs: Vec<OutputFactor>,
    /// The budget that was used.
    pub budget: Budget,
    /// Largest |difference| from the reference over the calibration inputs, over the reference's standard deviation.
    pub error: f64,
    /// What the graph gives for each calibration input, in the model's units.
    pub results: Vec<Results>,
    /// Functions and their fits, for the report.
    pub plots: Vec<Plot>,
}

/// Share of the tolerance that approximations may use; noise and inputs beyond calibration need the rest.
const SHARE: f64 = 0.25;
/// How often errors are tightened, by four each time, before the best is taken.
const ROUNDS: usize = 4;

/// Runs the poly passes. `calibration` holds prepared inputs, `reference` the model's outputs for them; `tolerance` as in INTERFACE.
/// Tightens `budget` until the approximations use at most a quarter of the tolerance on the calibration inputs.
pub fn to_poly(
    tensor: &TensorGraph,
    sites: &SiteRanges,
    calibration: &[Named],
    reference: &[Named],
    mut budget: Budget,
    tolerance: f64,
    manager: &mut Manager<'_>,
) -> Result<PolyModel, PassError> {
    let mut best: Option<PolyModel> = None;
    for _ in 0..ROUNDS {
        let model = match attempt(tensor, sites, calibration, reference, budget, manager) {
            Ok(model) => model,
            Err(e) => return best.ok_or(e),
        };
        let error = model.error;
        if best.as_ref().is_none_or(|b| error < b.error) {
            best = Some(model);
        }
        if error <= tolerance * SHARE {
            break;
        }
        budget = budget.tightened(4.0);
    }
    best.ok_or_else(|| refused(tensor, "no calibration inputs".into()))
}

fn refused(tensor: &TensorGraph, reason: String) -> PassError {
    PassError::Refused {
        pass: SubstitutePolynomials::NAME,
        value: tensor.name.clone(),
        reason,
        remedy: "give calibration inputs (--calibration FILE)".into(),
    }
}

fn attempt(
    tensor: &TensorGraph,
    sites: &SiteRanges,
    calibration: &[Named],
    reference: &[Named],
    budget: Budget,
    manager: &mut Manager<'_>,
) -> Result<PolyModel, PassError> {
    let mut graph = manager.lower(&SubstitutePolynomials { sites, budget }, tensor)?;
    let plots = plots(&graph);
    manager.run(&ShareEqual, &mut graph)?;
    manager.run(&DeferNormalisation, &mut graph)?;
    manager.run(&FoldCentring, &mut graph)?;
    manager.run(&FoldLinear, &mut graph)?;
    manager.run(&SplitRotary::default(), &mut graph)?;
    let calibration = &prepared(tensor, &graph, calibration)[..];
    let results = OnceCell::new();
    let annotate = AnnotateRanges {
        inputs: calibration,
        results: Some(&results),
    };
    manager.run(&annotate, &mut graph)?;
    // Normalising is exact: the error is that of the graph before it.
    let results = results.into_inner().unwrap_or_default();
    let error = measure(&graph, &results, reference).map_err(|e| refused(tensor, e))?;
    manager.run(&Normalise, &mut graph)?;
    let factors = graph.output_factors.iter();
    let outputs: Vec<OutputFactor> = factors.map(|f| OutputFactor(*f)).collect();
    Ok(PolyModel {
        graph,
        outputs,
        budget,
        error,
        results,
        plots,
    })
}

/// Largest difference over the reference's standard deviation, over all outputs. `found`: results by input and output.
fn measure(graph: &PolyGraph, found: &[Results], reference: &[Named]) -> Result<f64, String> {
    let mut worst = 0f64;
    for (i, (name, _)) in graph.outputs.iter().enumerate() {
        let (mut sum, mut squares, mut count, mut difference) = (0.0, 0.0, 0usize, 0f64);
        for (got, expected) in found.iter().zip(reference) {
            let Some(want) = expected.get(name) else {
                return Err(format!("output `{name}` has no reference"));
            };
            for (g, w) in got[i].iter().zip(want) {
                difference = difference.max((g - w).abs());
                sum += w;
                squares += w * w;
                count += 1;
            }
        }
        let n = count.max(1) as f64;
        let deviation = (squares / n - (sum / n) * (sum / n)).max(0.0).sqrt();
        worst = worst.max(if deviation > 0.0 {
            difference / deviation
        } else {
            difference
        });
    }
    Ok(worst)
}
