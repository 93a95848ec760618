//! Attention masks: constant ones inside views, and those that the client computes from what the user gives.
//!
//! Softmax: e^(s + M) with M of 0 and hugely negative numbers is e^s times a 0/1 mask. PowerSoftmax: (s + M)^p would select what M
//! removes, so that an additive mask becomes a multiplicative one before the power. The client makes the 0/1 mask and checks that M
//! holds nothing else.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::TensorOp;
use heron_schedule::client::{Function, REMOVED};

use super::attention::Weights;
use super::{Lowerer, Step};
use crate::onnx::expr::Kind;
use crate::onnx::view::{Co, Sym, Val, NONE};

/// Scores, and what the client adds to them or multiplies them by.
pub(super) struct Masked {
    pub(super) scores: Sym,
    pub(super) added: Option<Sym>,
    pub(super) factor: Option<Sym>,
}

impl Lowerer<'_> {
    /// The other operand and the client's one, if `e` multiplies an encrypted value by what the client knows.
    pub(super) fn masked_by_client(&self, e: u32) -> Option<(Sym, Sym)> {
        let Kind::Mul(a, b) = &self.get(e).kind else {
            return None;
        };
        self.sides(a, b)
    }

    fn sides(&self, a: &Sym, b: &Sym) -> Option<(Sym, Sym)> {
        match (self.exprs.given_view(a), self.exprs.given_view(b)) {
            (false, true) => Some((a.clone(), b.clone())),
            (true, false) => Some((b.clone(), a.clone())),
            _ => None,
        }
    }

    /// Takes masks of the client off scores.
    pub(super) fn unmask(&mut self, scores: &Sym) -> Step<Masked> {
        let mut m = Masked {
            scores: scores.clone(),
            added: None,
            factor: None,
        };
        while let Some(e) = m.scores.single() {
            let (sum, a, b) = match &self.get(e).kind {
                Kind::Add(a, b) => (true, a.clone(), b.clone()),
                Kind::Mul(a, b) => (false, a.clone(), b.clone()),
                _ => break,
            };
            let Some((inner, mask)) = self.sides(&a, &b) else {
                break;
            };
            let mut pick = m.scores.clone();
            pick.add = Co::All(0.0);
            if !sum {
                pick.mul = Co::All(1.0);
            }
            let mask = pick.over(&mask);
            m.scores = m.scores.over(&inner);
            let slot = if sum { &mut m.added } else { &mut m.factor };
            let before = slot.take();
            let joined = match before {
                None => Val::Sym(mask),
                Some(old) if sum => self.exprs.add(&old, &mask),
                Some(old) => self.exprs.mul(&old, &mask),
            };
            let joined = Some(joined.to_sym());
            if sum {
                m.added = joined;
            } else {
                m.factor = joined;
            }
        }
        Ok(m)
    }

    /// Constant masks of scores that read their product in order: entries that count as score 0, and (softmax only) entries that are
    /// removed. `None` where all stay.
    pub(super) fn constant_masks(
        &self,
        base: u32,
        s: &Sym,
        softmax: bool,
        (rows, keys): (usize, usize),
    ) -> Step<(Option<Matrix>, Option<Matrix>)> {
        let remedy = "compute scores as Q·Kᵀ times a constant and a 0/1 mask";
        let n = s.len();
        let (mut zero, mut kept) = (vec![1.0; n], vec![1.0; n]);
        for i in 0..n {
            let (x, at) = s.at(i);
            let add = s.add.at(i);
            if softmax && add < REMOVED {
                (zero[i], kept[i]) = (0.0, 0.0);
            } else if add != 0.0 {
                let reason =
                    "a constant other than 0 is added to attention scores, and it is no mask";
                return Err(self.refuse(base, reason, remedy));
            } else if x == NONE {
                zero[i] = 0.0;
            } else if at as usize != i {
                return Err(self.refuse(base, "rearranged attention scores", remedy));
            }
        }
        let per_head = rows * keys;
        let matrix = |m: Vec<f64>| -> Step<Option<Matrix>> {
            if m.chunks(per_head).any(|h| h != &m[..per_head]) {
                return Err(self.refuse(base, "masks that differ between heads", "use one mask"));
            }
            let data = m[..per_head].to_vec();
            Ok(data.contains(&0.0).then_some(Matrix {
                rows,
                cols: keys,
                data,
            }))
        };
        Ok((matrix(zero)?, matrix(kept)?))
    }

    /// Adds the client's masks: scores multiplied by 0 and 1 where they must be, and the second operand of softmax.
    pub(super) fn client_masks(
        &mut self,
        top: u32,
        w: &Weights,
        scores: ValueId,
        (added, factor): (Option<Sym>, Option<Sym>),
    ) -> Step<(ValueId, Option<ValueId>)> {
        let shape = self.graph.node(scores).shape;
        let kept = added.map(|m| self.exprs.client_apply(Function::Kept, &[&m]));
        let after = w
            .after
            .as_ref()
            .map(|m| self.exprs.client_apply(Function::Binary, &[m]));
        let mut removing = None;
        let mut factors = vec![factor, after];
        match (w.power, kept) {
            (None, Some(k)) => removing = Some(self.mask_value(&k, shape)?),
            (_, k) => factors.push(k),
        }
        let mut product: Option<Sym> = None;
        for f in factors.into_iter().flatten() {
            product = Some(match product {
                None => f,
                Some(p) => self.exprs.mul(&p, &f).to_sym(),
            });
        }
        let Some(product) = product else {
            return Ok((scores, removing));
        };
        let mask = self.mask_value(&product, shape)?;
        let layer = self.layer(top, "mask", LayerKind::AttentionScores, &[]);
        let name = format!("{}.masked", self.value_name(top));
        let masked = self
            .graph
            .add(&name, TensorOp::Multiply, &[scores, mask], shape, layer);
        Ok((masked, removing))
    }

    /// The input that holds a mask; one for all layers that use it.
    fn mask_value(&mut self, mask: &Sym, shape: Shape) -> Step<ValueId> {
        let known = self
            .masks
            .iter()
            .find(|(m, v)| self.graph.node(*v).shape == shape && m.same(mask));
        if let Some((_, v)) = known {
            return Ok(*v);
        }
        let v = self.client_value(mask, shape)?;
        self.masks.push((mask.clone(), v));
        Ok(v)
    }
}
