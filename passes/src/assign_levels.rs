//! assign-levels: packed → levelled.
//! before   %q = linear %x                 after   %x_boot  = bootstrap %x@0 -> @9
//!                                                 %x_down  = combine 1 of %x_boot@9 -> @7
//!                                                 %q       = linear %x_down@7 -> @6
//! Needs    a placement (`place-bootstraps`).
//! Error    none in exact arithmetic.    Depth  unchanged: bringing a value down costs no level of its own.
//! Why      every operation runs at the lowest level that its readers allow; a value is brought down before it is rotated.

use std::collections::BTreeMap;

use crate::cost::{BootstrapKind, CostTable};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::levelled::{LevelledGraph, LevelledKernel, LevelledOp, Placement};
use crate::ir::packed::{Kernel, PackedGraph};
use crate::pass::{Lower, PassCx, PassError};
use crate::place_bootstraps::{place, Plan};

/// The lowering; see the module.
#[derive(Clone, Debug)]
pub struct AssignLevels {
    /// Prices, ring degree and highest usable level.
    pub costs: CostTable,
}

impl Lower for AssignLevels {
    type From = PackedGraph;
    type To = LevelledGraph;
    const NAME: &'static str = "assign-levels";

    fn lower(&self, packed: &PackedGraph, cx: &mut PassCx) -> Result<LevelledGraph, PassError> {
        let plan = place(packed, &self.costs)?;
        if !plan.exact {
            cx.notes.push(format!(
                "{}: kept the cheapest partial plans only",
                crate::place_bootstraps::NAME
            ));
        }
        Ok(assign(packed, &plan, self.costs))
    }
}

struct Assigned<'a> {
    packed: &'a PackedGraph,
    graph: Graph<LevelledOp>,
    /// Packed value → what its readers read.
    values: BTreeMap<ValueId, ValueId>,
    /// (levelled value, level) → the value brought down.
    lowered: BTreeMap<(ValueId, u32), ValueId>,
}

impl Assigned<'_> {
    fn level(&self, v: ValueId) -> u32 {
        self.graph.node(v).op.level
    }

    fn add(
        &mut self,
        like: ValueId,
        suffix: &str,
        op: LevelledOp,
        operands: &[ValueId],
    ) -> ValueId {
        let node = self.packed.graph.node(like);
        let name = format!("{}{suffix}", node.name);
        self.graph.add(&name, op, operands, node.shape, node.layer)
    }

    /// The value at exactly `level`, which is at most its own.
    fn lower(&mut self, like: ValueId, v: ValueId, level: u32) -> ValueId {
        if self.level(v) == level {
            return v;
        }
        if let Some(known) = self.lowered.get(&(v, level)) {
            return *known;
        }
        let op = LevelledOp {
            kernel: LevelledKernel::Packed(Kernel::Combine {
                coefficients: vec![1.0],
                constant: 0.0,
            }),
            level,
            ..self.graph.node(v).op.clone()
        };
        let down = self.add(like, "_down", op, &[v]);
        self.lowered.insert((v, level), down);
        down
    }
}

/// Writes a placement into a graph.
pub fn assign(packed: &PackedGraph, plan: &Plan, costs: CostTable) -> LevelledGraph {
    let mut graph = Graph::new(packed.graph.name.clone());
    graph.layers = packed.graph.layers.clone();
    let mut assigned = Assigned {
        packed,
        graph,
        values: BTreeMap::new(),
        lowered: BTreeMap::new(),
    };
    let sparse = common_period(packed, plan, &costs);
    for v in packed.graph.topological() {
        let Some(&level) = plan.levels.get(&v) else {
            continue;
        };
        let op = &packed.graph.node(v).op;
        let mut operands = Vec::new();
        for (i, o) in packed.graph.operands(v).into_iter().enumerate() {
            let Some(&made) = assigned.values.get(&o) else {
                continue;
            };
            let exact = !matches!(op.kernel, Kernel::Combine { .. });
            operands.push(if exact {
                assigned.lower(o, made, level + op.kernel.levels(i))
            } else {
                made
            });
        }
        let levelled = LevelledOp {
            kernel: LevelledKernel::Packed(op.kernel.clone()),
            layout: op.layout.clone(),
            level,
            bound: op.bound,
        };
        let mut value = assigned.add(v, "", levelled.clone(), &operands);
        if let Some(&out) = plan.bootstraps.get(&v) {
            let period = op.layout.period() * packed.geometry.batch;
            let kind = match costs.bundle_kind(period) {
                BootstrapKind::Sparse { .. } => BootstrapKind::Sparse { log_slots: sparse },
                other => other,
            };
            let boot = LevelledOp {
                kernel: LevelledKernel::Bootstrap { kind },
                level: out,
                ..levelled
            };
            value = assigned.add(v, "_boot", boot, &[value]);
        }
        assigned.values.insert(v, value);
    }
    let mut graph = assigned.graph;
    for (name, v) in &packed.graph.outputs {
        if let Some(made) = assigned.values.get(v) {
            graph.outputs.push((name.clone(), *made));
        }
    }
    LevelledGraph {
        graph,
        geometry: packed.geometry,
        plaintexts: packed.plaintexts.clone(),
        ports: packed.ports.clone(),
        output_factors: packed.output_factors.clone(),
        approximations: packed.approximations.clone(),
        costs,
        placement: Placement {
            method: if plan.exact {
                "frontier dynamic program, exact over candidate values".into()
            } else {
                format!(
                    "frontier dynamic program, best {} partial plans",
                    crate::place_bootstraps::STATES
                )
            },
            cost_seconds: plan.cost,
            lower_bound_seconds: if plan.exact { plan.cost } else { 0.0 },
        },
    }
}

/// One period for all sparse bootstraps, the longest, so that they share keys and matrices.
fn common_period(packed: &PackedGraph, plan: &Plan, costs: &CostTable) -> u32 {
    plan.bootstraps
        .keys()
        .filter_map(|v| {
            let period = packed.graph.node(*v).op.layout.period() * packed.geometry.batch;
            match costs.bundle_kind(period) {
                BootstrapKind::Sparse { log_slots } => Some(log_slots),
                _ => None,
            }
        })
        .max()
        .unwrap_or(1)
}
