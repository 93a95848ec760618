//! Comparing a schedule with its plaintext model, value by value.
//!
//! Passes fold, move and scale what they like; nothing in them says which ciphertext is which value of the model. [`matching`] finds that
//! out by numbers: on calibration inputs a value of the poly graph is a constant times a value of the tensor graph (or one of its
//! [`View`]s), or it is not. [`record`] is what `X.heron` keeps of it: the tensor graph with its weights, and after which instruction
//! which of its values lies in which slots. [`compare`] walks a run along the record.

pub mod compare;
pub mod matching;
pub mod record;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::Shape;
use heron_passes::ir::tensor::{Evaluated, TensorGraph, TensorOp};
use serde::{Deserialize, Serialize};

/// What of a value of the tensor graph a ciphertext holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum View {
    /// PowerSoftmax: ε + Σ s^p per head and row; LayerNorm: variance + ε per row.
    Statistic,
    /// One over the statistic, or over its root for LayerNorm.
    Inverse,
    /// PowerSoftmax: s^p, the weights before division.
    Numerator,
    /// LayerNorm: the value before γ and β.
    Normalised,
    /// The value less the mean of its row.
    Centred,
    /// The value itself.
    Value,
}

impl View {
    /// Every view, in the order in which they are computed.
    pub const ALL: [View; 6] = [
        View::Statistic,
        View::Inverse,
        View::Numerator,
        View::Normalised,
        View::Centred,
        View::Value,
    ];

    /// Words after the name of a value in reports.
    pub fn suffix(self) -> &'static str {
        match self {
            View::Statistic => " (denominator)",
            View::Inverse => " (1/denominator)",
            View::Numerator => " (numerator)",
            View::Normalised => " (before gamma)",
            View::Centred => " (centred)",
            View::Value => "",
        }
    }

    /// Whether errors are measured against the size of the numbers, rather than their spread: statistics are far from 0 and
    /// nearly equal where a model is well trained.
    pub fn by_size(self) -> bool {
        matches!(self, View::Statistic | View::Inverse)
    }
}

/// The shape and numbers of a view of a value; `None` where it has no such view.
pub fn view(
    graph: &TensorGraph,
    v: ValueId,
    view: View,
    all: &Evaluated,
) -> Option<(Shape, Vec<f64>)> {
    let node = graph.node(v);
    let value = all.values.get(&v)?;
    let statistic = || all.statistics.get(&v);
    let normalises = matches!(node.op, TensorOp::LayerNorm { .. });
    let reduced = match node.shape {
        Shape::Scores { heads, rows, .. } => Shape::PerHead { heads, rows },
        Shape::Matrix { rows, .. } => Shape::PerRow { rows },
        other => other,
    };
    match view {
        View::Value => Some((node.shape, value.clone())),
        View::Statistic => Some((reduced, statistic()?.clone())),
        View::Inverse => {
            let one_over = |s: &f64| match normalises {
                true => 1.0 / s.sqrt(),
                false => 1.0 / s,
            };
            Some((reduced, statistic()?.iter().map(one_over).collect()))
        }
        View::Numerator => {
            let Shape::Scores { keys, .. } = node.shape else {
                return None;
            };
            let sums = statistic()?;
            let rows = value.chunks_exact(keys.max(1)).zip(sums);
            let found = rows.flat_map(|(row, sum)| row.iter().map(move |p| p * sum));
            Some((node.shape, found.collect()))
        }
        View::Normalised => {
            let (TensorOp::LayerNorm { centre, .. }, Shape::Matrix { cols, .. }) =
                (&node.op, node.shape)
            else {
                return None;
            };
            let x = all.values.get(graph.operands(v).first()?)?;
            let rows = x.chunks_exact(cols.max(1)).zip(statistic()?);
            let found = rows.flat_map(|(row, variance)| {
                let mean = if *centre { mean(row) } else { 0.0 };
                let r = 1.0 / variance.sqrt();
                row.iter().map(move |x| (x - mean) * r)
            });
            Some((node.shape, found.collect()))
        }
        View::Centred => {
            let Shape::Matrix { cols, .. } = node.shape else {
                return None;
            };
            let rows = value.chunks_exact(cols.max(1));
            let found = rows.flat_map(|row| {
                let mean = mean(row);
                row.iter().map(move |x| x - mean)
            });
            Some((node.shape, found.collect()))
        }
    }
}

fn mean(row: &[f64]) -> f64 {
    row.iter().sum::<f64>() / row.len().max(1) as f64
}
