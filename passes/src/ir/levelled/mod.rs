//! The levelled graph: the packed graph with a level on every value, explicit adjustments and bootstraps.

mod parse;
mod print;
mod verify;

pub use verify::BOOTSTRAP_BOUND;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::{Graph, ValueId};
use super::packed::eval::{apply, place, Slots};
use super::packed::layout::{Geometry, Layout};
use super::packed::{InputPort, Kernel, Plaintexts};
use super::poly::Approximation;
use crate::cost::{BootstrapKind, CostTable};

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub enum LevelledKernel {
    /// As in the packed graph. Linear maps and products take operands at one level above the result's, rotations at the
    /// result's; a combination takes operands at any level from the result's (or one above, where it multiplies) upwards.
    Packed(Kernel),
    /// The same values at a higher level; one operand.
    Bootstrap {
        /// Full bundles are bootstrapped in pairs, the last alone if their number is odd.
        kind: BootstrapKind,
    },
}

/// The operation of a levelled value.
#[derive(Clone, Debug)]
pub struct LevelledOp {
    /// What is computed.
    pub kernel: LevelledKernel,
    /// Where the elements sit.
    pub layout: Arc<Layout>,
    /// Level of the result.
    pub level: u32,
    /// Largest magnitude in any slot over the calibrated inputs, as far as known.
    pub bound: Option<f64>,
}

/// How bootstraps were placed, for the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Name of the method.
    pub method: String,
    /// Seconds of the whole run by the cost table.
    pub cost_seconds: f64,
    /// No placement costs less by the same table: from a relaxation, not from the method.
    pub lower_bound_seconds: f64,
    /// Bootstraps executed in one run.
    pub bootstraps: usize,
    /// No placement has fewer.
    pub lower_bound_bootstraps: usize,
    /// What other ways of placing cost on the same graph.
    pub policies: Vec<PolicyCost>,
}

/// What a way of placing bootstraps costs.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyCost {
    /// Its name.
    pub name: String,
    /// Bootstraps executed in one run.
    pub bootstraps: usize,
    /// Seconds of the whole run by the cost table.
    pub cost_seconds: f64,
}

/// Graph, slots, constants and levels.
#[derive(Clone, Debug)]
pub struct LevelledGraph {
    /// The values.
    pub graph: Graph<LevelledOp>,
    /// How slots are cut up.
    pub geometry: Geometry,
    /// Plaintext vectors.
    pub plaintexts: Plaintexts,
    /// Inputs in the order of their ports.
    pub ports: Vec<InputPort>,
    /// The client divides output number i by this.
    pub output_factors: Vec<f64>,
    /// Approximations by layer, for the report.
    pub approximations: Vec<(usize, Approximation)>,
    /// Prices, ring degree and highest level.
    pub costs: CostTable,
    /// How bootstraps were placed.
    pub placement: Placement,
    /// Names of poly values with the values that hold them for their readers, where known: for `heron bisect`.
    pub origins: Vec<(String, ValueId)>,
}

impl LevelledGraph {
    /// Slot vectors of every value for one input of the batch, as [`super::packed::PackedGraph::evaluate_slots`].
    pub fn evaluate_slots(&self, inputs: &[Vec<f64>], fill: f64) -> BTreeMap<ValueId, Vec<Slots>> {
        let n = self.geometry.virtual_slots();
        let mut values: BTreeMap<ValueId, Vec<Slots>> = BTreeMap::new();
        for v in self.graph.topological() {
            let op = &self.graph.node(v).op;
            let ids = self.graph.operands(v);
            let operands: Vec<&Vec<Slots>> = ids.iter().filter_map(|o| values.get(o)).collect();
            let result = match &op.kernel {
                LevelledKernel::Packed(Kernel::Input { port }) => {
                    let factor = self.ports.get(*port).map_or(1.0, |p| p.factor);
                    let elements: Vec<f64> = inputs
                        .get(*port)
                        .map(|x| x.iter().map(|e| e * factor).collect())
                        .unwrap_or_default();
                    place(&op.layout, &elements, n, fill)
                }
                LevelledKernel::Packed(kernel) => apply(
                    kernel,
                    &operands,
                    op.layout.ciphertexts(),
                    n,
                    &self.plaintexts,
                ),
                LevelledKernel::Bootstrap { .. } => {
                    operands.first().map(|x| (*x).clone()).unwrap_or_default()
                }
            };
            values.insert(v, result);
        }
        values
    }

    /// Bootstraps of one run: (full, complex pair, sparse).
    pub fn bootstraps(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for v in self.graph.topological() {
            let op = &self.graph.node(v).op;
            let n = op.layout.ciphertexts();
            match op.kernel {
                LevelledKernel::Bootstrap {
                    kind: BootstrapKind::Sparse { .. },
                } => counts.2 += n,
                LevelledKernel::Bootstrap { .. } => {
                    counts.0 += n % 2;
                    counts.1 += n / 2;
                }
                LevelledKernel::Packed(_) => {}
            }
        }
        counts
    }
}
