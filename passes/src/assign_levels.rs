//! assign-levels: packed → levelled.
//! before   %q = linear %x                 after   %x_boot  = bootstrap %x@0 -> @9
//!                                                 %x_down  = combine 1 of %x_boot@9 -> @7
//!                                                 %q       = linear %x_down@7 -> @6
//! Needs    a placement (`place-bootstraps`), which refuses what has none.
//! Error    none in exact arithmetic.    Depth  unchanged: bringing a value down costs no level of its own.
//! Why      every operation runs at the lowest level that its readers allow; a value is brought down before it is rotated.
//! Source   levels as rows of a table with one scale each: eprint 2020/1118; the placement's in `place-bootstraps`.

use std::collections::BTreeMap;

use crate::cost::{BootstrapKind, CostTable};
use crate::ir::graph::{Graph, ValueId};
use crate::ir::levelled::{LevelledGraph, LevelledKernel, LevelledOp, Placement, PolicyCost};
use crate::ir::packed::{Kernel, PackedGraph};
use crate::linear_siblings;
use crate::pass::{Lower, PassCx, PassError};
use crate::place_bootstraps::{self, solve, stuck};
use crate::placement::bound::{lower_bound, PASSES};
use crate::placement::policies::Policy;
use crate::placement::prune::prune;
use crate::placement::{seconds_alone, Levels, Objective, Plan, Problem};

/// How bootstraps are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placing {
    /// For the least seconds.
    #[default]
    Best,
    /// For the fewest bootstraps.
    FewestBootstraps,
    /// By a reference policy.
    By(Policy),
}

impl Placing {
    /// All ways, in the order of the report.
    pub const ALL: [Placing; 4] = [
        Placing::Best,
        Placing::FewestBootstraps,
        Placing::By(Policy::Lazy),
        Placing::By(Policy::EvaWaterline),
    ];

    /// Name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Placing::Best => "best",
            Placing::FewestBootstraps => "fewest-bootstraps",
            Placing::By(policy) => policy.name(),
        }
    }

    /// Levels and whether they are exact; a number of a value where there are none.
    fn levels(self, problem: &Problem) -> Result<(Levels, bool), usize> {
        match self {
            Placing::Best => {
                let found = solve(problem, Objective::Seconds)?;
                Ok((prune(problem, found.levels), found.exact))
            }
            Placing::FewestBootstraps => {
                let found = solve(problem, Objective::Bootstraps)?;
                Ok((found.levels, found.exact))
            }
            Placing::By(policy) => match policy.levels(problem) {
                Some(levels) => Ok((levels, false)),
                None => Err(0),
            },
        }
    }
}

/// The lowering; see the module.
#[derive(Clone, Debug)]
pub struct AssignLevels {
    /// Prices, ring degree and highest usable level.
    pub costs: CostTable,
    /// How bootstraps are placed.
    pub placing: Placing,
}

impl Lower for AssignLevels {
    type From = PackedGraph;
    type To = LevelledGraph;
    const NAME: &'static str = "assign-levels";

    fn lower(&self, packed: &PackedGraph, cx: &mut PassCx) -> Result<LevelledGraph, PassError> {
        let problem = Problem::new(packed, &self.costs);
        let refused = |at| stuck(packed, &problem, at);
        let (levels, exact) = self.placing.levels(&problem).map_err(refused)?;
        if !exact && self.placing == Placing::Best {
            cx.notes.push(format!(
                "{}: kept the cheapest partial plans only",
                place_bootstraps::NAME
            ));
        }
        let mut policies = Vec::new();
        for placing in Placing::ALL {
            let found = match placing == self.placing {
                true => Ok((levels.clone(), exact)),
                false => placing.levels(&problem),
            };
            // A policy that looks nowhere may get stuck where a plan exists.
            if let Some((levels, _)) = found.ok().filter(|(l, _)| problem.check(l).is_ok()) {
                policies.push(PolicyCost {
                    name: placing.name().into(),
                    bootstraps: problem.bootstraps(&levels),
                    cost_seconds: problem.seconds(&levels),
                });
            }
        }
        let bound = lower_bound(&problem, PASSES);
        let placement = Placement {
            method: self.method(exact),
            cost_seconds: problem.seconds(&levels),
            lower_bound_seconds: bound.seconds,
            bootstraps: problem.bootstraps(&levels),
            lower_bound_bootstraps: bound.bootstraps,
            policies,
        };
        let mut plan = problem.plan(&levels, exact);
        let graph = assign(packed, &plan, self.costs, placement.clone());
        // Of what was made: sparse bootstraps of one program share the longest period.
        let values = graph.graph.topological().into_iter();
        let cost_seconds = values.map(|v| seconds_alone(&graph, v)).sum();
        let placement = Placement {
            cost_seconds,
            ..placement
        };
        linear_siblings::raise(packed, &mut plan, &self.costs);
        Ok(assign(packed, &plan, self.costs, placement))
    }
}

impl AssignLevels {
    fn method(&self, exact: bool) -> String {
        match (self.placing, exact) {
            (Placing::Best | Placing::FewestBootstraps, true) => {
                "frontier dynamic program, exact over candidate values".into()
            }
            (Placing::Best | Placing::FewestBootstraps, false) => {
                let states = place_bootstraps::STATES;
                format!("frontier dynamic program, best {states} partial plans")
            }
            (Placing::By(policy), _) => policy.name().into(),
        }
    }
}

struct Assigned<'a> {
    packed: &'a PackedGraph,
    graph: Graph<LevelledOp>,
    /// Packed value → its own levelled value, and the bootstrapped one (or its own again).
    values: BTreeMap<ValueId, (ValueId, ValueId)>,
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

/// Writes a plan into a graph.
pub fn assign(
    packed: &PackedGraph,
    plan: &Plan,
    costs: CostTable,
    placement: Placement,
) -> LevelledGraph {
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
            let Some(&(own, bootstrapped)) = assigned.values.get(&o) else {
                continue;
            };
            let wanted = level + op.kernel.levels(i);
            let made = match assigned.level(own) < wanted {
                true => bootstrapped,
                false => own,
            };
            let exact = !matches!(op.kernel, Kernel::Combine { .. });
            operands.push(if exact {
                assigned.lower(o, made, wanted)
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
        let own = assigned.add(v, "", levelled.clone(), &operands);
        let mut bootstrapped = own;
        if let Some(&out) = plan.bootstraps.get(&v) {
            let period = op.layout.period() * packed.geometry.batch;
            let kind = match costs.bundle_kind(period, op.layout.ciphertexts()) {
                BootstrapKind::Sparse { .. } => BootstrapKind::Sparse { log_slots: sparse },
                other => other,
            };
            let boot = LevelledOp {
                kernel: LevelledKernel::Bootstrap { kind },
                level: out,
                ..levelled
            };
            bootstrapped = assigned.add(v, "_boot", boot, &[own]);
        }
        assigned.values.insert(v, (own, bootstrapped));
    }
    let origins = packed.origins.iter();
    let origins = origins
        .filter_map(|(name, v)| Some((name.clone(), assigned.values.get(v)?.1)))
        .collect();
    let mut graph = assigned.graph;
    for (name, v) in &packed.graph.outputs {
        if let Some((own, _)) = assigned.values.get(v) {
            graph.outputs.push((name.clone(), *own));
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
        placement,
        origins,
    }
}

/// One period for all sparse bootstraps, the longest, so that they share keys and matrices.
fn common_period(packed: &PackedGraph, plan: &Plan, costs: &CostTable) -> u32 {
    plan.bootstraps
        .keys()
        .filter_map(|v| {
            let layout = &packed.graph.node(*v).op.layout;
            let period = layout.period() * packed.geometry.batch;
            match costs.bundle_kind(period, layout.ciphertexts()) {
                BootstrapKind::Sparse { log_slots } => Some(log_slots),
                _ => None,
            }
        })
        .max()
        .unwrap_or(1)
}
