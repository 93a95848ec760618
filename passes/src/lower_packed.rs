//! lower-packed: poly → packed.
//! before   %q = linear %x, @Wq : [16,32]     after   %q = linear products 63 rotations 7+8 of %x : ct[1] features period 512
//! Needs    every value in [-1, 1] (pass `normalise`).
//! Error    none: the same function, up to rounding.
//! Depth    the poly graph's: one per linear map, product, sum; two for scores; evaluations as in `lower-evaluate`.
//! Why      each poly operation becomes the few kernels the runtime has; levels come later.
//! Source   of each kernel: `linear-lowering`, `lower-attention`, `lower-evaluate`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::choose_layout::{
    choose_features, choose_geometry, matrix_layout, per_head_layout, per_row_layout, shift_ways,
    Features,
};
use crate::element_maps::{AffineMap, ColumnSumMap, KeySumMap};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Geometry, Layout};
use crate::ir::packed::{is_free, InputPort, Kernel, PackedGraph, Plaintexts};
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::Shape;
use crate::linear_lowering::ElementMap;
use crate::lower_attention::{linear, lower_scores, lower_values, Attention};
use crate::lower_evaluate::lower_evaluation;
use crate::pass::{Lower, PassCx, PassError};
use crate::row_sums::{self, RowSum};

/// The lowering; see the module.
#[derive(Clone, Debug)]
pub struct LowerPacked {
    /// Slots of a ciphertext.
    pub slots: usize,
    /// Inputs side by side, or `None` to choose.
    pub batch: Option<usize>,
}

impl Lower for LowerPacked {
    type From = PolyGraph;
    type To = PackedGraph;
    const NAME: &'static str = "lower-packed";

    fn lower(&self, graph: &PolyGraph, _: &mut PassCx) -> Result<PackedGraph, PassError> {
        let mut poly = graph.clone();
        let features = choose_features(&mut poly);
        let geometry = choose_geometry(&poly, &features, self.slots, self.batch)?;
        let mut target = Graph::new(poly.name.clone());
        target.layers = poly.layers.clone();
        let mut lowering = Lowering {
            poly: &poly,
            features,
            packed: PackedGraph {
                graph: target,
                geometry,
                plaintexts: Plaintexts::default(),
                ports: Vec::new(),
                output_factors: Vec::new(),
                approximations: Vec::new(),
                layouts: Vec::new(),
                origins: Vec::new(),
            },
            values: BTreeMap::new(),
            layouts: BTreeMap::new(),
            moved: BTreeMap::new(),
            masks: BTreeMap::new(),
        };
        lowering.check_heads()?;
        for v in poly.topological() {
            // A mask is placed where scores that it multiplies lie.
            if lowering.is_mask(v) {
                continue;
            }
            let value = lowering.value(v)?;
            lowering.values.insert(v, value);
            let name = poly.node(v).name.clone();
            lowering.packed.origins.push((name, value));
        }
        for (i, (name, v)) in poly.outputs.iter().enumerate() {
            let value = lowering.of(*v)?;
            lowering.packed.graph.outputs.push((name.clone(), value));
            let factor = poly.output_factors.get(i).copied().unwrap_or(1.0);
            lowering.packed.output_factors.push(factor);
        }
        let mut packed = lowering.packed;
        packed
            .graph
            .remove_dead(|op| matches!(op.kernel, Kernel::Input { .. }));
        let alive: BTreeSet<ValueId> = packed.graph.topological().into_iter().collect();
        packed.origins.retain(|(_, v)| alive.contains(v));
        Ok(packed)
    }
}

struct Lowering<'a> {
    poly: &'a PolyGraph,
    features: BTreeMap<ValueId, Features>,
    packed: PackedGraph,
    /// Poly value → packed value.
    values: BTreeMap<ValueId, ValueId>,
    /// Layouts of matrices by (rows, cols, features), so that equal ones are shared.
    layouts: BTreeMap<(usize, usize, usize, bool), Arc<Layout>>,
    /// Factors per row or head that were moved to another layout: poly value → packed values.
    moved: BTreeMap<ValueId, Vec<ValueId>>,
    /// Masks from the client: poly value → packed values, one per layout that scores have.
    masks: BTreeMap<ValueId, Vec<ValueId>>,
}

impl Lowering<'_> {
    fn refuse(&self, v: ValueId, reason: impl Into<String>) -> PassError {
        PassError::Refused {
            pass: LowerPacked::NAME,
            value: self.poly.node(v).name.clone(),
            reason: reason.into(),
            remedy: "check the poly graph (--dump-ir): shapes and operands must be those of its operation".into(),
        }
    }

    /// Heads must divide the features before layouts can be made.
    fn check_heads(&self) -> Result<(), PassError> {
        for v in self.poly.topological() {
            let (PolyOp::Scores { heads, .. } | PolyOp::Values { heads, .. }) =
                self.poly.node(v).op
            else {
                continue;
            };
            for o in self.poly.operands(v) {
                if let Shape::Matrix { cols, .. } = self.poly.node(o).shape {
                    if heads == 0 || cols % heads != 0 {
                        return Err(self.refuse(v, format!("{heads} heads of {cols} features")));
                    }
                }
            }
        }
        Ok(())
    }

    fn of(&self, v: ValueId) -> Result<ValueId, PassError> {
        self.values
            .get(&v)
            .copied()
            .ok_or_else(|| self.refuse(v, "used before it is made"))
    }

    fn geometry(&self) -> Geometry {
        self.packed.geometry
    }

    fn matrix(&mut self, v: ValueId) -> Result<Arc<Layout>, PassError> {
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

    fn operand(&self, v: ValueId, at: usize) -> Result<(ValueId, Shape), PassError> {
        self.poly
            .operands(v)
            .get(at)
            .map(|o| (*o, self.poly.node(*o).shape))
            .ok_or_else(|| self.refuse(v, format!("operand {at} is missing")))
    }

    /// The layout that a factor per row or head should have: spread over the value that its first consumer scales with it.
    fn factor_layout(&mut self, v: ValueId) -> Result<Arc<Layout>, PassError> {
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
    fn factor(&mut self, user: ValueId, x: ValueId, r: ValueId) -> Result<ValueId, PassError> {
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
    fn is_mask(&self, v: ValueId) -> bool {
        let node = self.poly.node(v);
        matches!(node.op, PolyOp::Input { .. }) && matches!(node.shape, Shape::Scores { .. })
    }

    /// The mask `v` in the layout of `scores`.
    fn mask(&mut self, v: ValueId, scores: ValueId) -> Result<ValueId, PassError> {
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

    fn scope(&self, v: ValueId) -> Scope {
        let node = self.poly.node(v);
        Scope {
            name: node.name.clone(),
            shape: node.shape,
            layer: node.layer,
        }
    }

    /// Magnitude of a poly value: its range where known, else 1 as `normalise` promises.
    fn bound(&self, v: ValueId) -> Option<f64> {
        Some(self.poly.node(v).range.map_or(1.0, |r| r.magnitude()))
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

    fn is_output(&self, v: ValueId) -> bool {
        self.poly.outputs.iter().any(|(_, o)| *o == v)
    }

    fn value(&mut self, v: ValueId) -> Result<ValueId, PassError> {
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
