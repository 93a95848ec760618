//! How far results will be off, said before anything runs: approximations as measured on calibration inputs, and the noise of encrypted
//! evaluation carried through the poly graph.
//!
//! Noise: every value of the poly graph gets what its operations add (rescaling, key switching, plaintext rounding), and what bootstraps
//! of the levelled graph made from it add: their noise, independent in every slot, and the cubic term of the sine, the same in all.
//! The graph is evaluated with and without, on calibration inputs, with fixed seeds; the difference at the outputs is the noise there,
//! gains of all later layers included. A bootstrap within an evaluation (of a Chebyshev power, of a factor of 1/x) is charged to its
//! argument and to its result: the derivative of the whole is at least that of what follows.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::{LevelledGraph, LevelledKernel};
use heron_passes::ir::poly::eval::EvalError;
use heron_passes::ir::poly::{Evaluation, PolyGraph, PolyOp};
use heron_passes::normalise::Results;
use heron_passes::to_poly::Named;
use heron_schedule::noise::{NoiseModel, NoiseStream};
use heron_schedule::params::{Level, ParameterError, ParameterSet};

/// Unseen inputs may come closer to the ends of the fitted intervals, and errors of layers may add up as they did not here.
const UNSEEN: f64 = 3.0;
/// Standard deviations that the largest of some thousand results may reach, with a little for what the model leaves out.
const DEVIATIONS: f64 = 6.0;
/// Most evaluations with noise.
const EVALUATIONS: usize = 16;
/// Multiplications that all of them together may take, about: large graphs get fewer, at least one.
const WORK: f64 = 2e10;

/// What calibration knows.
#[derive(Clone, Copy, Debug)]
pub struct Calibrated<'a> {
    /// Prepared inputs.
    pub inputs: &'a [Named],
    /// The model's results for them.
    pub reference: &'a [Named],
    /// The poly graph's results for them without noise, in the model's units.
    pub clean: &'a [Results],
    /// Largest difference of the poly graph from the reference, over its standard deviation.
    pub approximation: f64,
}

/// Predicted errors over the standard deviation of the reference output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Largest difference expected of any result: not to be exceeded by inputs within the calibrated ranges.
    pub total: f64,
    /// Measured on calibration inputs, without margin.
    pub approximation: f64,
    /// Standard deviation of the noise.
    pub noise: f64,
}

/// Why no prediction could be made.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The graph could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The parameters lack a level.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}

/// Standard deviations for values in [-1, 1], the worst of all levels a program may use.
struct Figures {
    fresh: f64,
    rescale: f64,
    switch: f64,
    encoding: f64,
    bootstrap: f64,
    cubic: f64,
}

impl Figures {
    fn new(params: &ParameterSet) -> Result<Figures, ParameterError> {
        let model = NoiseModel::new(params);
        let mut f = Figures {
            fresh: 0.0,
            rescale: 0.0,
            switch: 0.0,
            encoding: 0.0,
            bootstrap: model.bootstrap(),
            cubic: model.bootstrap_cubic()?,
        };
        for l in 0..=params.top_usable().0 {
            f.fresh = f.fresh.max(model.fresh(Level(l))?);
            f.rescale = f.rescale.max(model.rescale(Level(l))?);
            f.switch = f.switch.max(model.key_switch(Level(l))?);
            f.encoding = f.encoding.max(model.encoding(Level(l))?);
        }
        Ok(f)
    }

    /// Of one operation, bootstraps apart.
    fn operation(&self, graph: &PolyGraph, v: ValueId) -> f64 {
        let own = self.rescale.hypot(self.switch);
        let length = |v: &ValueId| graph.node(*v).shape.len() as f64;
        let operands = graph.operands(v);
        match &graph.node(v).op {
            PolyOp::Input { .. } => self.fresh,
            // A sum of n rotated values collects n errors of rotation.
            PolyOp::KeySum { scale, .. } | PolyOp::ColumnSum { scale, .. } => {
                let n = operands.first().map_or(1.0, length) / length(&v).max(1.0);
                own.hypot(self.switch * scale * n.sqrt())
            }
            PolyOp::Linear(linear) => {
                let mut square = own * own;
                for term in &linear.terms {
                    let w = &term.weight;
                    let gain = w.largest_column_square();
                    square += self.switch.powi(2) * gain + self.encoding.powi(2) * w.rows() as f64;
                }
                square.sqrt()
            }
            PolyOp::Evaluate { evaluation, .. } => own * (levels(evaluation) as f64).sqrt() * 2.0,
            PolyOp::Scores { .. } | PolyOp::Values { .. } => own * 2.0,
            _ => own,
        }
    }
}

fn levels(evaluation: &Evaluation) -> usize {
    match evaluation {
        Evaluation::Polynomial(p) => p.depth(),
        Evaluation::Reciprocal { shifts, .. } => shifts.len(),
        Evaluation::InverseSqrt { relaxation, .. } => 2 * relaxation.len(),
    }
}

/// The poly value that a packed value was made from: packed values carry its name, with a number where it is not the first.
fn origin(names: &BTreeMap<&str, ValueId>, packed: &str) -> Option<ValueId> {
    let mut name = packed;
    loop {
        if let Some(v) = names.get(name) {
            return Some(*v);
        }
        let (stem, number) = name.rsplit_once('_')?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        name = stem;
    }
}

/// Per poly value, how many packed values made from it are bootstrapped. Where the origin of one is not known, every output
/// counts it: late, but at full size.
fn bootstraps(graph: &PolyGraph, levelled: &LevelledGraph) -> BTreeMap<ValueId, usize> {
    let order = graph.topological();
    let names: BTreeMap<&str, ValueId> = order
        .iter()
        .map(|v| (graph.node(*v).name.as_str(), *v))
        .collect();
    let mut found: BTreeMap<ValueId, usize> = BTreeMap::new();
    for v in levelled.graph.topological() {
        if !matches!(
            levelled.graph.node(v).op.kernel,
            LevelledKernel::Bootstrap { .. }
        ) {
            continue;
        }
        let source = levelled.graph.operands(v).first().copied().unwrap_or(v);
        let places = match origin(&names, &levelled.graph.node(source).name) {
            Some(at) if matches!(graph.node(at).op, PolyOp::Evaluate { .. }) => {
                let mut places = graph.operands(at);
                places.push(at);
                places
            }
            Some(at) => vec![at],
            None => graph.outputs.iter().map(|(_, v)| *v).collect(),
        };
        for place in places {
            *found.entry(place).or_default() += 1;
        }
    }
    found
}

/// Multiplications of one evaluation, about.
fn work(graph: &PolyGraph) -> f64 {
    let order = graph.topological();
    let of = |v: &ValueId| {
        let node = graph.node(*v);
        let n = node.shape.len() as f64;
        match &node.op {
            PolyOp::Linear(linear) => {
                let inner = linear.terms.iter().map(|t| t.weight.rows());
                n * inner.sum::<usize>() as f64
            }
            _ => n * 32.0,
        }
    };
    order.iter().map(of).sum()
}

/// Pooled standard deviation of all results.
fn deviation(reference: &[Named]) -> f64 {
    let (mut n, mut sum, mut square) = (0usize, 0.0, 0.0);
    for x in reference.iter().flat_map(BTreeMap::values).flatten() {
        n += 1;
        sum += x;
        square += x * x;
    }
    let n = n.max(1) as f64;
    let deviation = (square / n - (sum / n).powi(2)).max(0.0).sqrt();
    if deviation > 0.0 {
        deviation
    } else {
        1.0
    }
}

/// Predicts the error of running `levelled`, made from `graph`, under `params`.
pub fn predict(
    graph: &PolyGraph,
    levelled: &LevelledGraph,
    params: &ParameterSet,
    known: &Calibrated<'_>,
) -> Result<Prediction, PredictError> {
    let figures = Figures::new(params)?;
    let boots = bootstraps(graph, levelled);
    let own: BTreeMap<ValueId, f64> = graph
        .topological()
        .into_iter()
        .map(|v| (v, figures.operation(graph, v)))
        .collect();
    let Some(reference) = known.reference.first() else {
        return Ok(Prediction::default());
    };
    let runs = ((WORK / work(graph).max(1.0)) as usize / 2).clamp(1, EVALUATIONS);
    let (mut count, mut square, mut largest) = (0usize, 0.0, 0f64);
    // Witnesses are outputs without a reference.
    let results = graph.outputs.iter().enumerate();
    let results: Vec<(usize, ValueId)> = results
        .filter(|(_, (name, _))| reference.contains_key(name))
        .map(|(i, (_, v))| (i, *v))
        .collect();
    for (run, input) in known.inputs.iter().cycle().take(runs).enumerate() {
        let is_result = |v: ValueId| results.iter().any(|(_, r)| *r == v);
        let mut noisy: BTreeMap<ValueId, Vec<f64>> = BTreeMap::new();
        let mut number = 0u64;
        graph.visit_changing(input, &mut |v, values| {
            number += 1;
            let mut stream = NoiseStream::new(run as u64, number, 0);
            let times = boots.get(&v).copied().unwrap_or(0) as f64;
            let own = own.get(&v).copied().unwrap_or(0.0);
            stream.add(values, own.hypot(figures.bootstrap * times.sqrt()));
            // The sine takes from every value; what is bootstrapped is at most 1 in size.
            let sine = figures.cubic * times;
            values.iter_mut().for_each(|x| *x -= sine * x.powi(3));
            if is_result(v) {
                noisy.insert(v, values.to_vec());
            }
        })?;
        let clean = known.clean.get(run % known.inputs.len());
        for (i, v) in &results {
            let factor = graph.output_factors.get(*i).copied().unwrap_or(1.0);
            let noisy = noisy.get(v).map_or(&[][..], Vec::as_slice);
            let clean = clean.and_then(|c| c.get(*i));
            let clean = clean.map_or(&[][..], Vec::as_slice);
            for (a, b) in clean.iter().zip(noisy) {
                let difference = (a - b / factor).abs();
                count += 1;
                square += difference * difference;
                largest = largest.max(difference);
            }
        }
    }
    let unit = deviation(known.reference);
    let noise = (square / count.max(1) as f64).sqrt() / unit;
    let total = UNSEEN * known.approximation + (DEVIATIONS * noise).max(2.0 * largest / unit);
    Ok(Prediction {
        total,
        approximation: known.approximation,
        noise,
    })
}
