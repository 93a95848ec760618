//! Runs packed kernels on plain slot vectors of one batch lane, in f64.

use std::collections::BTreeMap;

use super::layout::Layout;
use super::{Kernel, LinearOut, PackedGraph, Plaintexts};
use crate::ir::graph::ValueId;

/// One ciphertext: a value per virtual slot.
pub type Slots = Vec<f64>;

/// Left rotation.
pub fn rotate(x: &[f64], step: i64) -> Slots {
    let n = x.len();
    let k = step.rem_euclid(n.max(1) as i64) as usize;
    (0..n).map(|i| x[(i + k) % n]).collect()
}

/// Places `elements` by a layout; slots without an element hold `fill`.
pub fn place(layout: &Layout, elements: &[f64], slots: usize, fill: f64) -> Vec<Slots> {
    (0..layout.ciphertexts())
        .map(|c| {
            (0..slots)
                .map(|s| {
                    layout
                        .cell(c, s)
                        .and_then(|e| elements.get(e as usize).copied())
                        .unwrap_or(fill)
                })
                .collect()
        })
        .collect()
}

/// Reads `count` elements back; the second number is the largest difference between two copies of an element.
pub fn gather(layout: &Layout, cts: &[Slots], count: usize) -> (Vec<f64>, f64) {
    let mut values: Vec<Option<f64>> = vec![None; count];
    let mut spread: f64 = 0.0;
    for (c, ct) in cts.iter().enumerate() {
        for (s, x) in ct.iter().enumerate() {
            if let Some(v) = layout.cell(c, s).and_then(|e| values.get_mut(e as usize)) {
                match v {
                    Some(first) => spread = spread.max((*first - x).abs()),
                    None => *v = Some(*x),
                }
            }
        }
    }
    (
        values.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect(),
        spread,
    )
}

fn linear(out: &LinearOut, sources: &[&Slots], plaintexts: &Plaintexts, n: usize) -> Slots {
    let mut sum = vec![0.0; n];
    for (giant, terms) in out.giants.iter() {
        let mut inner = vec![0.0; n];
        for term in terms {
            let p = plaintexts.get(term.plaintext, out.matrix);
            let Some(source) = sources.get(term.source) else {
                continue;
            };
            let rotated = rotate(source, term.baby);
            for i in 0..n {
                inner[i] += p[i % p.len()] * rotated[i];
            }
        }
        for (s, x) in sum.iter_mut().zip(rotate(&inner, *giant)) {
            *s += x;
        }
    }
    if let Some(bias) = out.bias {
        let b = plaintexts.get(bias, None);
        for (i, s) in sum.iter_mut().enumerate() {
            *s += b[i % b.len()];
        }
    }
    sum
}

/// The result of a kernel on slot vectors; inputs excepted. Operands must have the ciphertexts that the kernel names.
pub fn apply(
    kernel: &Kernel,
    operands: &[&Vec<Slots>],
    ciphertexts: usize,
    n: usize,
    plaintexts: &Plaintexts,
) -> Vec<Slots> {
    match kernel {
        Kernel::Input { .. } => Vec::new(),
        Kernel::Linear(outs) => {
            let sources: Vec<&Slots> = operands.iter().flat_map(|o| o.iter()).collect();
            outs.iter()
                .map(|o| linear(o, &sources, plaintexts, n))
                .collect()
        }
        Kernel::Rotate { steps } => steps
            .iter()
            .flat_map(|s| operands[0].iter().map(|x| rotate(x, *s)))
            .collect(),
        Kernel::MulSum {
            pairs,
            factor,
            constant,
        } => pairs
            .iter()
            .map(|terms| {
                let mut sum = vec![0.0; n];
                for (a, b) in terms {
                    let (a, b) = (&operands[a.0][a.1], &operands[b.0][b.1]);
                    for i in 0..n {
                        sum[i] += a[i] * b[i];
                    }
                }
                sum.iter()
                    .map(|s| s * f64::from(*factor) + constant)
                    .collect()
            })
            .collect(),
        Kernel::Combine {
            coefficients,
            constant,
        } => (0..ciphertexts)
            .map(|k| {
                let mut sum = vec![*constant; n];
                for (c, o) in coefficients.iter().zip(operands) {
                    let x = if o.len() == 1 { &o[0] } else { &o[k] };
                    for i in 0..n {
                        sum[i] += c * x[i];
                    }
                }
                sum
            })
            .collect(),
    }
}

impl PackedGraph {
    /// Slot vectors of every value, for one input of the batch. `inputs[port]` are the elements before the factor.
    /// The graph must verify.
    pub fn evaluate_slots(&self, inputs: &[Vec<f64>], fill: f64) -> BTreeMap<ValueId, Vec<Slots>> {
        let n = self.geometry.virtual_slots();
        let mut values: BTreeMap<ValueId, Vec<Slots>> = BTreeMap::new();
        for v in self.graph.topological() {
            let op = &self.graph.node(v).op;
            let result = if let Kernel::Input { port } = op.kernel {
                let factor = self.ports.get(port).map_or(1.0, |p| p.factor);
                let elements: Vec<f64> = inputs
                    .get(port)
                    .map(|x| x.iter().map(|e| e * factor).collect())
                    .unwrap_or_default();
                place(&op.layout, &elements, n, fill)
            } else {
                let ids = self.graph.operands(v);
                let operands: Vec<&Vec<Slots>> = ids.iter().filter_map(|o| values.get(o)).collect();
                apply(
                    &op.kernel,
                    &operands,
                    op.layout.ciphertexts(),
                    n,
                    &self.plaintexts,
                )
            };
            values.insert(v, result);
        }
        values
    }
}
