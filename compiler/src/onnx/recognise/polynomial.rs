//! Attention without division: weights that are a power of the scores times a constant, s^k · c.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::TensorOp;

use super::attention::masked_uniform;
use super::{Lowerer, Step};
use crate::onnx::expr::{Fun, Kind};
use crate::onnx::view::{Sym, NONE};

/// Largest power; more would lose the scores in noise.
const LARGEST_POWER: u32 = 16;

/// s^power · factor, element by element of a view.
struct Power {
    /// The product of queries and keys.
    base: u32,
    /// Which of its elements each element of the view is; `NONE` where masked.
    index: Vec<u32>,
    power: u32,
    factor: f64,
    /// Products on the way, outermost first.
    nodes: Vec<u32>,
}

impl Lowerer<'_> {
    /// Scores and their powers for weights read as [heads, rows, keys], and the factor of the weights over the value returned.
    pub(super) fn polynomial_weights(
        &mut self,
        a: &Sym,
        (heads, rows, keys): (usize, usize, usize),
    ) -> Step<Option<(ValueId, f64)>> {
        let Some(found) = self.power_of_scores(a) else {
            return Ok(None);
        };
        let Kind::MatSym { a: q, b, k } = self.get(found.base).kind.clone() else {
            return Ok(None);
        };
        let shape = &self.get(found.base).shape;
        let in_order = found
            .index
            .iter()
            .enumerate()
            .all(|(i, &at)| at == NONE || at as usize == i);
        if shape[..] != [heads, rows, keys] || !in_order {
            return Err(self.refuse(
                found.base,
                "scores are rearranged before they meet the values",
                "multiply powers of Q·Kᵀ by V without moving them",
            ));
        }
        let per_head = rows * keys;
        let mask: Vec<f64> = found
            .index
            .iter()
            .map(|&at| f64::from(at != NONE))
            .collect();
        if mask.chunks(per_head).any(|m| m != &mask[..per_head]) {
            return Err(self.refuse(
                found.base,
                "masks that differ between heads",
                "use one mask",
            ));
        }
        let mask = mask.contains(&0.0).then(|| Matrix {
            rows,
            cols: keys,
            data: mask[..per_head].to_vec(),
        });
        let width = heads * k;
        let queries = (0..rows * width)
            .map(|i| {
                let (r, h, c) = (i / width, i / k % heads, i % k);
                ((h * rows + r) * k + c) as u32
            })
            .collect::<Vec<_>>();
        let flipped = (0..keys * width)
            .map(|i| {
                let (r, h, c) = (i / width, i / k % heads, i % k);
                ((h * k + c) * keys + r) as u32
            })
            .collect::<Vec<_>>();
        let q = self.matrix(&q.gather(vec![rows, width], &queries))?;
        let kt = self.matrix(&b.gather(vec![keys, width], &flipped))?;
        let out = Shape::Scores { heads, rows, keys };
        let layer = self.layer(found.base, "", LayerKind::AttentionScores, &[]);
        let name = self.value_name(found.base);
        let scores = TensorOp::Scores {
            heads,
            scale: 1.0,
            mask,
        };
        let scores = self
            .graph
            .add(&format!("{name}.scores"), scores, &[q, kt], out, layer);
        let layer = match found.nodes.split_first() {
            Some((&top, inner)) => self.layer(top, "", LayerKind::Activation, inner),
            None => layer,
        };
        let mut value = scores;
        let mut done = 1;
        // Squares as far as they go, then single factors: depth first, the fewest products for the powers that occur.
        while done * 2 <= found.power {
            done *= 2;
            let name = format!("{name}.power{done}");
            let op = TensorOp::Multiply;
            value = self.graph.add(&name, op, &[value, value], out, layer);
        }
        while done < found.power {
            done += 1;
            let name = format!("{name}.power{done}");
            let op = TensorOp::Multiply;
            value = self.graph.add(&name, op, &[value, scores], out, layer);
        }
        self.count("polynomial_attention");
        Ok(Some((value, found.factor)))
    }

    /// A view as a power of one product of two encrypted matrices; `None` if it is anything else.
    fn power_of_scores(&self, a: &Sym) -> Option<Power> {
        let base = a.single()?;
        let factor = masked_uniform(a)?;
        if a.add.uniform() != Some(0.0) {
            return None;
        }
        let index: Vec<u32> = (0..a.len())
            .map(|i| match a.at(i) {
                (NONE, _) => NONE,
                (_, k) => k,
            })
            .collect();
        // Through what was made of the operand, element by element.
        let through = |inner: Power| -> Option<Vec<u32>> {
            index
                .iter()
                .map(|&at| match at {
                    NONE => Some(NONE),
                    at => inner.index.get(at as usize).copied(),
                })
                .collect()
        };
        let found = match &self.get(base).kind {
            Kind::MatSym { .. } => Power {
                base,
                index,
                power: 1,
                factor,
                nodes: Vec::new(),
            },
            Kind::Un(Fun::Pow(power), x) => {
                if power.fract() != 0.0 || *power < 1.0 || *power > f64::from(LARGEST_POWER) {
                    return None;
                }
                let inner = self.power_of_scores(x)?;
                let mut nodes = vec![base];
                nodes.extend(&inner.nodes);
                Power {
                    base: inner.base,
                    power: inner.power * *power as u32,
                    factor: factor * inner.factor.powi(*power as i32),
                    nodes,
                    index: through(inner)?,
                }
            }
            Kind::Mul(p, q) => {
                let (p, q) = (self.power_of_scores(p)?, self.power_of_scores(q)?);
                if p.base != q.base || p.index != q.index {
                    return None;
                }
                let mut nodes = vec![base];
                nodes.extend(&p.nodes);
                nodes.extend(&q.nodes);
                nodes.dedup();
                Power {
                    base: p.base,
                    power: p.power + q.power,
                    factor: factor * p.factor * q.factor,
                    nodes,
                    index: through(p)?,
                }
            }
            _ => return None,
        };
        (found.power <= LARGEST_POWER).then_some(found)
    }
}
