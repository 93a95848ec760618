//! One poly operation as kernels.

use std::sync::Arc;

use super::Lowering;
use crate::choose_layout::shift_ways;
use crate::element_maps::{AffineMap, ColumnSumMap, KeySumMap};
use crate::ir::graph::ValueId;
use crate::ir::packed::layout::Layout;
use crate::ir::packed::{is_free, InputPort, Kernel};
use crate::ir::poly::PolyOp;
use crate::ir::shape::Shape;
use crate::linear_lowering::ElementMap;
use crate::lower_attention::{linear, lower_scores, lower_values, Attention};
use crate::lower_evaluate::lower_evaluation;
use crate::pass::PassError;
use crate::row_sums::{self, RowSum};

impl Lowering<'_> {
    pub(super) fn value(&mut self, v: ValueId) -> Result<ValueId, PassError> {
        let scope = self.scope(v);
        let bound = self.bound(v);
        let poly = self.poly;
        match &poly.node(v).op {
            PolyOp::Input {
                name,
                client,
                factor,
            } => {
                let layout = self.matrix(v)?;
                let port = self.packed.ports.len();
                self.packed.ports.push(InputPort {
                    name: name.clone(),
                    client: client.clone(),
                    factor: *factor,
                });
                Ok(self
                    .packed
                    .add(&scope, Kernel::Input { port }, &[], &layout, bound))
            }
            PolyOp::Linear(map) => {
                let (x, shape) = self.operand(v, 0)?;
                let (in_cols, out_cols) = match (shape, scope.shape) {
                    (Shape::Matrix { cols, .. }, Shape::Matrix { cols: out, .. }) => (cols, out),
                    (Shape::PerRow { .. }, Shape::Matrix { cols: out, .. }) => (1, out),
                    _ => {
                        return Err(
                            self.refuse(v, format!("a linear map from {shape} to {}", scope.shape))
                        )
                    }
                };
                let target = self.matrix(v)?;
                let source = self.of(x)?;
                let affine = AffineMap::new(map, (in_cols, out_cols), self.neighbours(v, x)?);
                linear(&mut self.packed, &scope, source, &target, &affine, bound)
                    .map_err(|e| self.refuse(v, e))
            }
            PolyOp::Add | PolyOp::Sub => {
                let (a, b) = (self.operand(v, 0)?.0, self.operand(v, 1)?.0);
                let sign = if poly.node(v).op == PolyOp::Add {
                    1.0
                } else {
                    -1.0
                };
                let (a, b) = (self.of(a)?, self.of(b)?);
                let terms = if a == b {
                    vec![(a, 1.0 + sign)]
                } else {
                    vec![(a, 1.0), (b, sign)]
                };
                Ok(self.packed.combine(&scope, &terms, 0.0, bound))
            }
            PolyOp::Affine { scale, shift } => {
                let (x, _) = self.operand(v, 0)?;
                let a = self.of(x)?;
                if self.gain(x).is_some() {
                    return Ok(a);
                }
                Ok(self.packed.combine(&scope, &[(a, *scale)], *shift, bound))
            }
            PolyOp::Multiply => {
                let (a, b) = (self.operand(v, 0)?.0, self.operand(v, 1)?.0);
                let (a, b) = match (self.is_mask(a), self.is_mask(b)) {
                    (false, true) => (self.of(a)?, self.mask(b, self.of(a)?)?),
                    (true, false) => (self.mask(a, self.of(b)?)?, self.of(b)?),
                    _ => (self.of(a)?, self.of(b)?),
                };
                Ok(self.packed.multiply(&scope, a, b, 1, 0.0, bound))
            }
            PolyOp::Scores { heads, mask } => {
                let (q, k) = (self.operand(v, 0)?, self.operand(v, 1)?);
                let about = self.attention(v, *heads, q.1, k.1)?;
                let operands = (self.of(q.0)?, self.of(k.0)?);
                lower_scores(
                    &mut self.packed,
                    &scope,
                    operands,
                    about,
                    mask.as_ref(),
                    bound,
                )
                .map_err(|e| self.refuse(v, e))
            }
            PolyOp::Values { heads, weights } => {
                let (n, x) = (self.operand(v, 0)?, self.operand(v, 1)?);
                let about = self.attention(v, *heads, scope.shape, x.1)?;
                let operands = (self.of(n.0)?, self.of(x.0)?);
                let target = self.matrix(v)?;
                lower_values(
                    &mut self.packed,
                    &scope,
                    operands,
                    about,
                    weights.as_ref(),
                    &target,
                    bound,
                )
                .map_err(|e| self.refuse(v, e))
            }
            PolyOp::KeySum {
                scale,
                shift,
                weights,
            } => {
                let (n, shape) = self.operand(v, 0)?;
                let Shape::Scores { keys, .. } = shape else {
                    return Err(self.refuse(v, format!("expected scores, found {shape}")));
                };
                let target = self.factor_layout(v)?;
                let map = KeySumMap {
                    keys,
                    scale: *scale,
                    shift: *shift,
                    weights: weights.as_ref(),
                };
                if weights.is_none() {
                    return self.row_sum(v, n, &target, (keys, *scale, *shift), &map);
                }
                let source = self.of(n)?;
                linear(&mut self.packed, &scope, source, &target, &map, bound)
                    .map_err(|e| self.refuse(v, e))
            }
            PolyOp::ColumnSum { scale, shift } => {
                let (x, shape) = self.operand(v, 0)?;
                let Shape::Matrix { cols, .. } = shape else {
                    return Err(self.refuse(v, format!("expected a matrix, found {shape}")));
                };
                let target = self.factor_layout(v)?;
                let map = ColumnSumMap {
                    cols,
                    scale: *scale,
                    shift: *shift,
                };
                self.row_sum(v, x, &target, (cols, *scale, *shift), &map)
            }
            PolyOp::ScaleHeads | PolyOp::ScaleRows => {
                let (x, r) = (self.operand(v, 0)?.0, self.operand(v, 1)?.0);
                let factor = self.factor(v, x, r)?;
                let x = self.of(x)?;
                let layout = Arc::clone(self.packed.layout(x));
                let (gain, bound) = self.gain(v).unwrap_or((1, bound));
                let value = self.packed.multiply(&scope, x, factor, gain, 0.0, bound);
                self.packed.graph.node_mut(value).op.layout = layout;
                Ok(value)
            }
            PolyOp::Evaluate {
                evaluation,
                approximation,
            } => {
                let u = self.of(self.operand(v, 0)?.0)?;
                self.packed
                    .approximations
                    .push((scope.layer, approximation.clone()));
                Ok(lower_evaluation(
                    &mut self.packed,
                    &scope,
                    u,
                    evaluation,
                    bound,
                ))
            }
        }
    }

    /// The integer that a scaling of scores is multiplied by and nothing else, with the magnitude then: the product takes it in.
    fn gain(&self, v: ValueId) -> Option<(i32, Option<f64>)> {
        let scores = matches!(self.poly.node(v).shape, Shape::Scores { .. });
        if self.poly.node(v).op != PolyOp::ScaleHeads || !scores {
            return None;
        }
        let [user] = self.poly.users(v)[..] else {
            return None;
        };
        match self.poly.node(user).op {
            PolyOp::Affine { scale, shift }
                if shift == 0.0 && is_free(scale) && scale >= 1.0 && !self.is_output(v) =>
            {
                Some((scale as i32, self.bound(user)))
            }
            _ => None,
        }
    }

    /// Ciphertexts of other linear maps of `x` over those of `v`.
    fn neighbours(&mut self, v: ValueId, x: ValueId) -> Result<f64, PassError> {
        let mut others = 0;
        for user in self.poly.users(x) {
            if user != v && matches!(self.poly.node(user).op, PolyOp::Linear(_)) {
                others += self.matrix(user)?.ciphertexts();
            }
        }
        Ok(others as f64 / self.matrix(v)?.ciphertexts() as f64)
    }

    /// The sums `map` of the rows of `x`, of (items of a row, factor, what is added).
    fn row_sum(
        &mut self,
        v: ValueId,
        x: ValueId,
        target: &Arc<Layout>,
        (items, scale, shift): (usize, f64, f64),
        map: &dyn ElementMap,
    ) -> Result<ValueId, PassError> {
        let alone = self.poly.users(x).len() == 1 && !self.is_output(x);
        let source = (self.of(x)?, alone);
        let (scope, bound) = (self.scope(v), self.bound(v));
        let sum = RowSum {
            items,
            scale,
            shift,
        };
        let packed = (&mut self.packed, &scope);
        row_sums::lower(packed, source, target, (sum, map), bound).map_err(|e| self.refuse(v, e))
    }

    fn attention(
        &self,
        v: ValueId,
        heads: usize,
        queries: Shape,
        keys: Shape,
    ) -> Result<Attention, PassError> {
        let (
            Shape::Matrix { rows, cols },
            Shape::Matrix {
                rows: keys,
                cols: key_cols,
            },
        ) = (queries, keys)
        else {
            return Err(self.refuse(v, format!("attention over {queries} and {keys}")));
        };
        if heads == 0 || cols % heads != 0 || cols != key_cols {
            return Err(self.refuse(
                v,
                format!("{heads} heads of {cols} and {key_cols} features"),
            ));
        }
        Ok(Attention {
            heads,
            rows,
            keys,
            width: cols / heads,
            ways: shift_ways(self.geometry(), cols, heads),
        })
    }
}
