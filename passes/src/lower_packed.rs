//! lower-packed: poly → packed.
//! before   %q = linear %x, @Wq : [16,32]     after   %q = linear products 63 rotations 7+8 of %x : ct[1] features period 512
//! Needs    every value in [-1, 1] (pass `normalise`).
//! Error    none: the same function, up to rounding.
//! Depth    the poly graph's: one per linear map, product, sum; two for scores; evaluations as in `lower-evaluate`.
//! Why      each poly operation becomes the few kernels the runtime has; levels come later.
//! Source   of each kernel: `linear-lowering`, `lower-attention`, `lower-evaluate`.

mod placing;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::choose_layout::{choose_features, choose_geometry, Features};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Geometry, Layout};
use crate::ir::packed::{Kernel, PackedGraph, Plaintexts};
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::Shape;
use crate::pass::{Lower, PassCx, PassError};

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

    fn operand(&self, v: ValueId, at: usize) -> Result<(ValueId, Shape), PassError> {
        self.poly
            .operands(v)
            .get(at)
            .map(|o| (*o, self.poly.node(*o).shape))
            .ok_or_else(|| self.refuse(v, format!("operand {at} is missing")))
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

    fn is_output(&self, v: ValueId) -> bool {
        self.poly.outputs.iter().any(|(_, o)| *o == v)
    }
}
