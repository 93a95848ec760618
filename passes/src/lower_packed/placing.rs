//! Where values lie: layouts of matrices, of factors per row or head, and of masks.

use std::sync::Arc;

use super::Lowering;
use crate::choose_layout::{matrix_layout, per_head_layout, per_row_layout, Features};
use crate::ir::graph::ValueId;
use crate::ir::packed::layout::Layout;
use crate::ir::packed::{InputPort, Kernel};
use crate::ir::poly::PolyOp;
use crate::ir::shape::Shape;
use crate::lower_attention::linear;
use crate::pass::PassError;

impl Lowering<'_> {
    pub(super) fn matrix(&mut self, v: ValueId) -> Result<Arc<Layout>, PassError> {
        let Shape::Matrix { rows, cols } = self.poly.node(v).shape else {
            return Err(self.refuse(
                v,
                format!("expected a matrix, found {}", self.poly.node(v).shape),
            ));
        };
        if rows == 0 || cols == 0 {
            return Err(self.refuse(v, "the matrix is empty"));
        }
        let f = self.features.get(&v).copied().unwrap_or(Features {
            heads: 1,
            shifted: false,
        });
        let g = self.geometry();
        Ok(Arc::clone(
            self.layouts
                .entry((rows, cols, f.heads, f.shifted))
                .or_insert_with(|| Arc::new(matrix_layout(g, rows, cols, f))),
        ))
    }

    /// The layout that a factor per row or head should have: spread over the value that its first consumer scales with it.
    pub(super) fn factor_layout(&mut self, v: ValueId) -> Result<Arc<Layout>, PassError> {
        // Follow elementwise users until a scaling is met.
        let mut front = vec![v];
        let mut done = Vec::new();
        while let Some(x) = front.pop() {
            done.push(x);
            for user in self.poly.users(x) {
                let scales = matches!(
                    self.poly.node(user).op,
                    PolyOp::ScaleHeads | PolyOp::ScaleRows
                );
                let operands = self.poly.operands(user);
                if scales && operands.get(1) == Some(&x) {
                    return self.spread_over(user, operands[0]);
                }
                if !done.contains(&user) && !scales {
                    front.push(user);
                }
            }
        }
        // Not used as a factor: one lane per element.
        let (rows, cols) = match self.poly.node(v).shape {
            Shape::PerHead { heads, rows } => (rows, heads),
            Shape::PerRow { rows } => (rows, 1),
            other => return Err(self.refuse(v, format!("expected a factor, found {other}"))),
        };
        let plain = matrix_layout(
            self.geometry(),
            rows,
            cols,
            Features {
                heads: 1,
                shifted: false,
            },
        );
        let factors = plain.map("factors", |e| {
            let (row, head) = (e as usize / cols, e as usize % cols);
            (head * rows + row) as u32
        });
        Ok(self.packed.shared(factors))
    }

    fn spread_over(&mut self, user: ValueId, x: ValueId) -> Result<Arc<Layout>, PassError> {
        let shape = self.poly.node(x).shape;
        let base = match (self.values.get(&x), shape) {
            (Some(p), _) => Arc::clone(self.packed.layout(*p)),
            (None, Shape::Matrix { .. }) => self.matrix(x)?,
            _ => return Err(self.refuse(user, "the scaled value is made after its factor")),
        };
        let spread = match (&self.poly.node(user).op, shape) {
            (PolyOp::ScaleRows, Shape::Matrix { cols, .. }) => per_row_layout(&base, cols),
            _ => {
                let heads = match self.operand(user, 1)?.1 {
                    Shape::PerHead { heads, .. } => heads,
                    _ => 1,
                };
                per_head_layout(&base, shape, heads)
            }
        };
        Ok(self.packed.shared(spread))
    }

    /// The factor `r` in the layout that scaling `x` needs: as it is, or converted (one level).
    pub(super) fn factor(
        &mut self,
        user: ValueId,
        x: ValueId,
        r: ValueId,
    ) -> Result<ValueId, PassError> {
        let wanted = self.spread_over(user, x)?;
        let have = self.of(r)?;
        if self.packed.layout(have).same_cells(&wanted) {
            return Ok(have);
        }
        let known = self.moved.entry(r).or_default();
        if let Some(v) = known
            .iter()
            .find(|v| self.packed.layout(**v).same_cells(&wanted))
        {
            return Ok(*v);
        }
        let scope = self.scope(r);
        let bound = self.bound(r);
        let moved = linear(
            &mut self.packed,
            &scope,
            have,
            &wanted,
            &crate::element_maps::Copy,
            bound,
        )
        .map_err(|e| self.refuse(user, e))?;
        self.moved.entry(r).or_default().push(moved);
        Ok(moved)
    }

    /// Whether `v` is a mask that the client gives.
    pub(super) fn is_mask(&self, v: ValueId) -> bool {
        let node = self.poly.node(v);
        matches!(node.op, PolyOp::Input { .. }) && matches!(node.shape, Shape::Scores { .. })
    }

    /// The mask `v` in the layout of `scores`.
    pub(super) fn mask(&mut self, v: ValueId, scores: ValueId) -> Result<ValueId, PassError> {
        let poly = self.poly;
        let PolyOp::Input {
            name,
            client,
            factor,
        } = &poly.node(v).op
        else {
            return Err(self.refuse(v, "a mask that is no input"));
        };
        let layout = Arc::clone(self.packed.layout(scores));
        let made = self.masks.entry(v).or_default();
        let same = |m: &&ValueId| self.packed.layout(**m).same_cells(&layout);
        if let Some(m) = made.iter().find(same) {
            return Ok(*m);
        }
        let port = self.packed.ports.len();
        let name = match made.len() {
            0 => name.clone(),
            n => format!("{name}.{n}"),
        };
        self.packed.ports.push(InputPort {
            name,
            client: client.clone(),
            factor: *factor,
        });
        let (scope, bound) = (self.scope(v), self.bound(v));
        let kernel = Kernel::Input { port };
        let value = self.packed.add(&scope, kernel, &[], &layout, bound);
        self.masks.entry(v).or_default().push(value);
        Ok(value)
    }
}
