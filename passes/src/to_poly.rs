//! The road from the tensor graph to a normalised poly graph, and the error budget along it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::defer_normalisation::DeferNormalisation;
use crate::fold_centring::FoldCentring;
use crate::fold_linear::FoldLinear;
use crate::ir::poly::{OutputFactor, PolyGraph};
use crate::ir::tensor::TensorGraph;
use crate::normalise::{AnnotateRanges, Normalise};
use crate::pass::{Lower, Manager, PassError};
use crate::plots::{plots, Plot};
use crate::prepared::prepared;
use crate::sites::SiteRanges;
use crate::substitute_polynomials::{Budget, SubstitutePolynomials};

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
    /// Functions and their fits, for the report.
    pub plots: Vec<Plot>,
}

/// Share of the tolerance that approximations may use; noise and inputs beyond calibration need the rest.
const SHARE: f64 = 0.25;
/// How often errors are tightened, by four each time, before the best is taken.
const ROUNDS: usize = 4;

/// Runs the poly passes. `calibration` holds prepared inputs, `reference` the model's outputs for them; `tolerance` as in INTERFACE.
/// Tightens the budget until the approximations use at most a quarter of the tolerance on the calibration inputs.
pub fn to_poly(
    tensor: &TensorGraph,
    sites: &SiteRanges,
    calibration: &[Named],
    reference: &[Named],
    tolerance: f64,
    manager: &mut Manager<'_>,
) -> Result<PolyModel, PassError> {
    let mut best: Option<PolyModel> = None;
    let mut budget = Budget::default();
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
    manager.run(&DeferNormalisation, &mut graph)?;
    manager.run(&FoldCentring, &mut graph)?;
    manager.run(&FoldLinear, &mut graph)?;
    let calibration = &prepared(tensor, &graph, calibration)[..];
    let inputs = calibration;
    manager.run(&AnnotateRanges { inputs }, &mut graph)?;
    manager.run(&Normalise, &mut graph)?;
    let factors = graph.output_factors.iter();
    let outputs: Vec<OutputFactor> = factors.map(|f| OutputFactor(*f)).collect();
    let error =
        measure(&graph, &outputs, calibration, reference).map_err(|e| refused(tensor, e))?;
    Ok(PolyModel {
        graph,
        outputs,
        budget,
        error,
        plots,
    })
}

/// Largest difference over the reference's standard deviation, over all outputs.
fn measure(
    graph: &PolyGraph,
    factors: &[OutputFactor],
    inputs: &[Named],
    reference: &[Named],
) -> Result<f64, String> {
    let found: Vec<Result<Vec<Vec<f64>>, String>> = inputs
        .par_iter()
        .map(|input| {
            let mut outputs = vec![Vec::new(); graph.outputs.len()];
            graph
                .visit(input, &mut |v, values| {
                    for ((_, o), kept) in graph.outputs.iter().zip(&mut outputs) {
                        if *o == v {
                            *kept = values.to_vec();
                        }
                    }
                })
                .map_err(|e| e.to_string())?;
            Ok(outputs)
        })
        .collect();
    let found: Vec<Vec<Vec<f64>>> = found.into_iter().collect::<Result<_, _>>()?;
    let mut worst = 0f64;
    for (i, (name, _)) in graph.outputs.iter().enumerate() {
        let factor = factors.get(i).map_or(1.0, |f| f.0);
        let (mut sum, mut squares, mut count, mut difference) = (0.0, 0.0, 0usize, 0f64);
        for (got, expected) in found.iter().zip(reference) {
            let Some(want) = expected.get(name) else {
                return Err(format!("output `{name}` has no reference"));
            };
            for (g, w) in got[i].iter().zip(want) {
                difference = difference.max((g / factor - w).abs());
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
