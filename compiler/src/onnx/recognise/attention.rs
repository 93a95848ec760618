//! Attention: scores, PowerSoftmax (or softmax) over keys, and the product with the values.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::TensorOp;

use super::mask::Masked;
use super::{Lowerer, Placed, Step};
use crate::onnx::expr::{Fun, Kind};
use crate::onnx::view::{Co, Sym, NONE};

/// What is normalised over keys.
pub(super) struct Weights {
    /// [heads, rows, keys]; entries without expression are masked.
    scores: Sym,
    /// `None` is plain softmax.
    pub(super) power: Option<(u32, f64)>,
    /// What the client multiplies the powers by: 0 or 1.
    pub(super) after: Option<Sym>,
    /// The attention weights are this times the block's output.
    factor: f64,
    nodes: Vec<u32>,
}

impl Lowerer<'_> {
    /// [B, M, K] · [B, K, N] as A·V; the product of scores is only made where a PowerSoftmax reads it.
    pub(super) fn values(&mut self, e: u32, a: &Sym, b: &Sym, k: usize) -> Step<Placed> {
        let shape = self.get(e).shape.clone();
        let (heads, rows, width) = (shape[0], shape[1], shape[2]);
        let (p, factor) = match self.weights(a, heads, rows, k)? {
            Some(w) => (self.scores_block(e, &w, heads, rows, k)?, w.factor),
            None => self.polynomial_weights(a, (heads, rows, k))?.ok_or_else(|| {
                self.refuse(
                    e,
                    "a product of two encrypted matrices that is not PowerSoftmax scores times values",
                    "only attention multiplies encrypted matrices",
                )
            })?,
        };
        // V as [keys, heads · width].
        let order: Vec<u32> = (0..k * heads * width)
            .map(|i| {
                let (j, h, c) = (i / (heads * width), i / width % heads, i % width);
                ((h * k + j) * width + c) as u32
            })
            .collect();
        let v = self.matrix(&b.gather(vec![k, heads * width], &order))?;
        let layer = self.layer(e, "", LayerKind::AttentionValues, &[]);
        let out = Shape::Matrix {
            rows,
            cols: heads * width,
        };
        let value = self.graph.add(
            &self.value_name(e),
            TensorOp::Values { heads },
            &[p, v],
            out,
            layer,
        );
        let layout = self.layout(e);
        Ok(Placed {
            value,
            cols: layout.1,
            pos: std::rc::Rc::new(layout.2.clone()),
            factor,
        })
    }

    /// Recognises attention weights read as [heads, rows, keys].
    fn weights(
        &mut self,
        a: &Sym,
        heads: usize,
        rows: usize,
        keys: usize,
    ) -> Step<Option<Weights>> {
        let Some(base) = a.single() else {
            return Ok(None);
        };
        let (Some(outer), Some(0.0)) = (masked_uniform(a), a.add.uniform()) else {
            return Ok(None);
        };
        match self.get(base).kind.clone() {
            Kind::Softmax { a: s, l } => {
                let n = a.len();
                let same = l == keys && (0..n).all(|i| a.at(i) == (base, i as u32));
                if !same {
                    return Err(self.refuse(base, "softmax over something other than keys", ""));
                }
                Ok(Some(Weights {
                    scores: s.reshaped(vec![heads, rows, keys]),
                    power: None,
                    after: None,
                    factor: outer,
                    nodes: vec![base],
                }))
            }
            Kind::Mul(p, q) => {
                for (p, q) in [(&p, &q), (&q, &p)] {
                    if let Some(mut w) = self.power_softmax(a, base, p, q, (heads, rows, keys))? {
                        w.factor *= outer;
                        return Ok(Some(w));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Recognises p / (Σ p + ε) over keys, p an even power.
    fn power_softmax(
        &mut self,
        a: &Sym,
        base: u32,
        p: &Sym,
        q: &Sym,
        (heads, rows, keys): (usize, usize, usize),
    ) -> Step<Option<Weights>> {
        let Some(inverse) = q.single() else {
            return Ok(None);
        };
        let Kind::Un(Fun::Pow(-1.0), den) = self.get(inverse).kind.clone() else {
            return Ok(None);
        };
        let mut nodes = vec![base, inverse];
        // A lower bound of the sum counts as its epsilon; both are far below every sum that occurs.
        let mut den = den;
        let mut floor = 0.0;
        if let Some(c) = den.single() {
            if let Kind::Un(Fun::Clip(lo, hi), inner) = self.get(c).kind.clone() {
                let plain = den.mul.uniform() == Some(1.0) && den.add.uniform() == Some(0.0);
                if plain && lo > 0.0 && lo <= 1e-6 && hi == f64::INFINITY {
                    let index: Vec<u32> = (0..den.len()).map(|i| den.at(i).1).collect();
                    den = inner.gather(den.shape.clone(), &index);
                    floor = lo;
                    nodes.push(c);
                }
            }
        }
        let (Some(sum), Some(cd), Some(ed), Some(mq)) = (
            den.single(),
            den.mul.uniform(),
            den.add.uniform(),
            q.mul.uniform(),
        ) else {
            return Ok(None);
        };
        let Kind::Sum { a: terms, l } = self.get(sum).kind.clone() else {
            return Ok(None);
        };
        let (Some(top), Some(mp)) = (p.single(), masked_uniform(p)) else {
            return Ok(None);
        };
        let (Some(bottom), Some(ct)) = (terms.single(), masked_uniform(&terms)) else {
            return Ok(None);
        };
        if top != bottom || p.add.uniform() != Some(0.0) || terms.add.uniform() != Some(0.0) {
            return Ok(None);
        }
        let (mut mp, mut after) = (mp, None);
        let mut inner = self.get(top).kind.clone();
        if let Some((powers, mask)) = self.masked_by_client(top) {
            // Powers times a mask: the view of the powers in the order of the product.
            if let (Some(pow), Some(m), Some(0.0)) = (
                powers.single(),
                masked_uniform(&powers),
                powers.add.uniform(),
            ) {
                if let Kind::Un(f, x) = &self.get(pow).kind {
                    inner = Kind::Un(*f, powers.over_plain(x));
                    mp *= m;
                    after = Some(mask);
                    nodes.push(pow);
                }
            }
        }
        let Kind::Un(Fun::Pow(power), x) = inner else {
            if let Kind::Un(Fun::Exp, _) = self.get(top).kind {
                return Err(self.refuse(
                    top,
                    "softmax written with exp",
                    "train with PowerSoftmax, or export Softmax as one node",
                ));
            }
            return Ok(None);
        };
        nodes.extend([sum, top]);
        if power < 2.0 || power != power.trunc() || power % 2.0 != 0.0 || power > 32.0 {
            return Err(self.refuse(
                top,
                format!("PowerSoftmax with power {power}: the power must be even"),
                "train with an even power, for instance p = 4",
            ));
        }
        // Element by element: which power, which group.
        let n = a.len();
        let mut order = Vec::with_capacity(n);
        let mut keep = Vec::with_capacity(n);
        let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for row in 0..heads * rows {
            let mut group = None;
            for j in 0..keys {
                let (x, k) = a.at(row * keys + j);
                let (at, g) = if x == NONE {
                    ((NONE, 0), None)
                } else {
                    let (_, r) = q.at(k as usize);
                    (p.at(k as usize), Some(den.at(r as usize).1))
                };
                if let Some(g) = g {
                    if *group.get_or_insert(g) != g {
                        return Ok(None);
                    }
                }
                keep.push(f64::from(at.0 != NONE));
                order.push(if at.0 == NONE { 0 } else { at.1 });
                if at.0 != NONE {
                    members.entry(g.unwrap_or(0)).or_default().push(at.1);
                }
            }
        }
        if members.len() != heads * rows {
            return Ok(None);
        }
        for (g, mut list) in members {
            let from = g as usize * l;
            let mut want: Vec<u32> = (from..from + l)
                .filter(|&i| terms.at(i).0 != NONE)
                .map(|i| terms.at(i).1)
                .collect();
            // Entries masked inside the power count as masked, wherever else they are not.
            let real = |k: &u32| x.at(*k as usize).0 != NONE;
            list.retain(real);
            want.retain(real);
            list.sort_unstable();
            want.sort_unstable();
            if list != want {
                return Err(self.refuse(
                    base,
                    "the sum of PowerSoftmax runs over other entries than the quotient",
                    "apply the same mask before the power",
                ));
            }
        }
        let after = after.map(|m| m.gather(vec![heads, rows, keys], &order));
        let mut scores = x
            .gather(vec![heads, rows, keys], &order)
            .times(&Co::from_vec(keep));
        let mut epsilon = (ed + floor) / (cd * ct);
        if cd * ct <= 0.0 || epsilon < 0.0 {
            return Ok(None);
        }
        if let Some((inner, extra)) = self.without_maximum(&scores) {
            // Σ (x/c)^p ≥ 1, so that an ε there costs at most ε relative: both go.
            scores = inner;
            epsilon = 0.0;
            nodes.extend(extra);
        }
        if let Some(b) = scores.single() {
            if matches!(self.get(b).kind, Kind::Un(Fun::Abs, _)) {
                return Err(self.refuse(
                    top,
                    "PowerSoftmax of absolute values with an odd power",
                    "use an even power",
                ));
            }
        }
        Ok(Some(Weights {
            scores,
            power: Some((power as u32, epsilon)),
            after,
            factor: mp * mq / (cd * ct),
            nodes,
        }))
    }

    /// The training-time stable form: x / max |x| of each row; returns x.
    fn without_maximum(&self, scores: &Sym) -> Option<(Sym, Vec<u32>)> {
        let e = scores.single()?;
        let Kind::Mul(p, q) = &self.get(e).kind else {
            return None;
        };
        for (p, q) in [(p, q), (q, p)] {
            let Some(inverse) = q.single() else { continue };
            let Kind::Un(Fun::Pow(-1.0), den) = &self.get(inverse).kind else {
                continue;
            };
            let mut top = den.single()?;
            if let Kind::Un(Fun::Clip(..), x) = &self.get(top).kind {
                top = x.single()?;
            }
            let Kind::Max { a } = &self.get(top).kind else {
                continue;
            };
            let abs = a.single()?;
            let Kind::Un(Fun::Abs, x) = &self.get(abs).kind else {
                continue;
            };
            if x.exprs() != p.exprs() {
                continue;
            }
            let n = scores.len();
            let index: Vec<u32> = (0..n)
                .map(|i| {
                    if scores.at(i).0 == NONE {
                        0
                    } else {
                        scores.at(i).1
                    }
                })
                .collect();
            let keep: Vec<f64> = (0..n).map(|i| f64::from(scores.at(i).0 != NONE)).collect();
            let inner = p
                .gather(scores.shape.clone(), &index)
                .times(&Co::from_vec(keep));
            return Some((inner, vec![e, inverse, top, abs]));
        }
        None
    }

    /// Adds scores and normalisation.
    fn scores_block(
        &mut self,
        e: u32,
        w: &Weights,
        heads: usize,
        rows: usize,
        keys: usize,
    ) -> Step<ValueId> {
        let what = "attention scores that are not a product of queries and keys";
        let remedy = "compute scores as Q·Kᵀ times a constant and a 0/1 mask";
        let Masked {
            scores: mut s,
            added,
            factor,
        } = self.unmask(&w.scores)?;
        let mut centred = false;
        if let Some(inner) = self.centred_scores(&s, keys) {
            s = inner;
            centred = true;
        }
        let (Some(base), Some(scale)) = (s.single(), masked_uniform(&s)) else {
            return Err(self.refuse(e, what, remedy));
        };
        let Kind::MatSym { a, b, k } = self.get(base).kind.clone() else {
            return Err(self.refuse(base, what, remedy));
        };
        let (mask, removed) = self.constant_masks(base, &s, w.power.is_none(), (rows, keys))?;
        let order = |t: usize, flip: bool| -> Vec<u32> {
            (0..t * heads * k)
                .map(|i| {
                    let (r, h, c) = (i / (heads * k), i / k % heads, i % k);
                    if flip {
                        ((h * k + c) * t + r) as u32
                    } else {
                        ((h * t + r) * k + c) as u32
                    }
                })
                .collect()
        };
        let q = self.matrix(&a.gather(vec![rows, heads * k], &order(rows, false)))?;
        let key_view = b.gather(vec![keys, heads * k], &order(keys, true));
        let mut kv = self.matrix(&key_view)?;
        if centred {
            kv = self.centre_keys(base, kv, keys, heads * k)?;
        }
        let shape = Shape::Scores { heads, rows, keys };
        let layer = self.layer(base, "", LayerKind::AttentionScores, &[]);
        let scores = self.graph.add(
            &format!("{}.scores", self.value_name(base)),
            TensorOp::Scores { heads, scale, mask },
            &[q, kv],
            shape,
            layer,
        );
        let top = w.nodes[0];
        let (scores, removing) = self.client_masks(top, w, scores, (added, factor))?;
        let (op, kind, block) = match w.power {
            Some((power, epsilon)) => (
                TensorOp::PowerSoftmax { power, epsilon },
                LayerKind::PowerSoftmax,
                "power_softmax",
            ),
            None => (
                TensorOp::Softmax { mask: removed },
                LayerKind::Softmax,
                "softmax",
            ),
        };
        self.count(block);
        let layer = self.layer(top, "", kind, &w.nodes);
        let operands: Vec<ValueId> = std::iter::once(scores).chain(removing).collect();
        Ok(self
            .graph
            .add(&self.value_name(top), op, &operands, shape, layer))
    }

    /// Scores minus their mean over keys: the scores themselves.
    fn centred_scores(&self, s: &Sym, keys: usize) -> Option<Sym> {
        let e = s.single()?;
        let Kind::Add(a, b) = &self.get(e).kind else {
            return None;
        };
        let m = s.mul.uniform()?;
        if s.add.uniform() != Some(0.0) {
            return None;
        }
        let index: Vec<u32> = (0..s.len()).map(|i| s.at(i).1).collect();
        for (u, w) in [(a, b), (b, a)] {
            let (u, w) = (
                u.gather(s.shape.clone(), &index),
                w.gather(s.shape.clone(), &index),
            );
            let Some(sum) = w.single() else { continue };
            let Kind::Sum { a: rows, l } = &self.get(sum).kind else {
                continue;
            };
            let mean = w.mul.uniform().map(|x| x * keys as f64);
            let fits = *l == keys
                && mean.is_some_and(|x| (x + 1.0).abs() < 1e-6)
                && w.add.uniform() == Some(0.0)
                && u.mul.uniform().is_some()
                && u.mul.uniform() == rows.mul.uniform()
                && u.add.uniform() == Some(0.0)
                && rows.add.uniform() == Some(0.0)
                && (0..u.len()).all(|i| u.at(i) == rows.at(w.at(i).1 as usize * l + i % keys));
            if fits {
                return Some(u.times(&Co::All(m)));
            }
        }
        None
    }

    /// k − mean over keys of k, which takes the mean out of every row of scores.
    fn centre_keys(&mut self, e: u32, value: ValueId, keys: usize, cols: usize) -> Step<ValueId> {
        let mut mix = Matrix::zeros(keys, keys);
        for i in 0..keys {
            for j in 0..keys {
                mix.data[i * keys + j] = f64::from(i == j) - 1.0 / keys as f64;
            }
        }
        let term = heron_passes::ir::tensor::LinearTerm {
            rows: heron_passes::ir::tensor::RowMap::Mix(mix),
            weight: heron_passes::ir::weight::Weight::identity(cols),
            post: None,
        };
        self.push_linear(e, LayerKind::Matmul, value, vec![term], None, keys, cols)
    }
}

/// The factor of all elements that are not masked, if it is one.
pub(super) fn masked_uniform(s: &Sym) -> Option<f64> {
    let mut found = None;
    for i in 0..s.len() {
        if s.at(i).0 != NONE && *found.get_or_insert(s.mul.at(i)) != s.mul.at(i) {
            return None;
        }
    }
    found
}
