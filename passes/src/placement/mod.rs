//! What surrounds `place-bootstraps`: the problem as numbers, prices of plans, reference policies, pruning, and a lower bound of
//! its own.

pub mod bound;
pub mod policies;
pub mod prune;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::cost::{CostTable, Work};
use crate::ir::graph::ValueId;
use crate::ir::levelled::{LevelledGraph, LevelledKernel, BOOTSTRAP_BOUND};
use crate::ir::packed::{Kernel, PackedGraph};
use crate::linear_siblings;

/// Levels and bootstraps of a packed graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Level of the result of each value's operation.
    pub levels: BTreeMap<ValueId, u32>,
    /// Bootstrapped values with the level afterwards. A reader that can do with the level before reads the value before.
    pub bootstraps: BTreeMap<ValueId, u32>,
    /// Whether no partial plan was dropped that could have been better.
    pub exact: bool,
}

/// What a placement is to make small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Objective {
    /// Seconds by the cost table.
    Seconds,
    /// Bootstraps executed in one run; seconds decide between equals.
    Bootstraps,
}

/// Weight of a second where bootstraps are counted: too little to buy one.
const SECOND: f64 = 1e-7;

/// Whether a value may be bootstrapped: the verifier's rule for levelled graphs. Inputs may come at any level, so it is never
/// worth it there.
pub fn may_bootstrap(packed: &PackedGraph, v: ValueId) -> bool {
    let op = &packed.graph.node(v).op;
    let given = matches!(op.kernel, Kernel::Input { .. });
    !given && !op.layout.is_unnamed() && op.bound.is_some_and(|b| b <= BOOTSTRAP_BOUND)
}

/// One value of a [`Problem`].
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The value.
    pub value: ValueId,
    /// Numbers of the operands, with the levels between them and the result.
    pub operands: Vec<(usize, u32)>,
    /// Seconds of its operation by the level of the result.
    pub operation: Vec<f64>,
    /// Seconds of its bootstrap by the level afterwards; empty where none is allowed.
    pub bootstrap: Vec<f64>,
    /// Bootstraps that takes.
    pub count: usize,
    /// Seconds for bringing it down, by the level below, and for a term of a combination there.
    pub adjustment: Vec<f64>,
    /// See `adjustment`.
    pub addition: Vec<f64>,
    /// Whether the client gives it, at any level.
    pub is_input: bool,
    /// Whether its operation takes operands at any level above the one it needs.
    pub takes_any: bool,
}

/// A packed graph as numbers: values that outputs depend on, in topological order.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The values.
    pub sites: Vec<Site>,
    /// Numbers of the values that are outputs.
    pub outputs: Vec<usize>,
    /// Highest level.
    pub top: u32,
    /// The level that bootstraps begin at, and their operands have at least.
    pub from: u32,
}

impl Problem {
    /// The prices of a graph.
    pub fn new(packed: &PackedGraph, costs: &CostTable) -> Self {
        let graph = &packed.graph;
        let mut needed: BTreeSet<ValueId> = graph.outputs.iter().map(|(_, v)| *v).collect();
        let order = graph.topological();
        for v in order.iter().rev() {
            if needed.contains(v) {
                needed.extend(graph.operands(*v));
            }
        }
        let mut number: BTreeMap<ValueId, usize> = BTreeMap::new();
        let mut sites = Vec::new();
        for v in order.into_iter().filter(|v| needed.contains(v)) {
            let op = &graph.node(v).op;
            let n = op.layout.ciphertexts();
            let work = Work::of(&op.kernel, n);
            let operands = graph.operands(v).into_iter().enumerate();
            let levels = 0..=costs.top;
            let (bootstrap, count) =
                if costs.chain.bootstrap_from.is_some() && may_bootstrap(packed, v) {
                    let period = op.layout.period() * packed.geometry.batch;
                    (
                        levels.clone().map(|l| costs.bundle(period, n, l)).collect(),
                        costs.bundle_count(period, n),
                    )
                } else {
                    (Vec::new(), 0)
                };
            let site = Site {
                value: v,
                operands: operands
                    .filter_map(|(i, o)| Some((*number.get(&o)?, op.kernel.levels(i))))
                    .collect(),
                operation: levels.clone().map(|l| costs.work(&work, l)).collect(),
                bootstrap,
                count,
                adjustment: levels.clone().map(|l| costs.adjustment(n, l)).collect(),
                addition: levels.map(|l| n as f64 * costs.combine(l)).collect(),
                is_input: matches!(op.kernel, Kernel::Input { .. }),
                takes_any: matches!(op.kernel, Kernel::Combine { .. }),
            };
            number.insert(v, sites.len());
            sites.push(site);
        }
        let outputs: BTreeSet<usize> = graph
            .outputs
            .iter()
            .filter_map(|(_, v)| number.get(v).copied())
            .collect();
        Problem {
            sites,
            outputs: outputs.into_iter().collect(),
            top: costs.top,
            from: costs.chain.bootstrap_from.unwrap_or(0),
        }
    }

    /// Price of an operation with its result at `level`.
    pub fn operation(&self, objective: Objective, site: usize, level: u32) -> f64 {
        let seconds = self.sites[site].operation[level as usize];
        match objective {
            Objective::Seconds => seconds,
            Objective::Bootstraps => SECOND * seconds,
        }
    }

    /// Price of bootstrapping a value that may be to `level_out`.
    pub fn bootstrap(&self, objective: Objective, site: usize, level_out: u32) -> f64 {
        let seconds = self.sites[site].bootstrap[level_out as usize];
        match objective {
            Objective::Seconds => seconds,
            Objective::Bootstraps => self.sites[site].count as f64 + SECOND * seconds,
        }
    }

    /// The plan of lowest levels for a choice of bootstraps: every operation as low as its readers allow, and where bootstraps
    /// begin before one. `None` where levels run out.
    pub fn lowest(&self, chosen: &BTreeSet<usize>) -> Option<Levels> {
        let mut need = vec![0u32; self.sites.len()];
        let mut bootstraps = BTreeMap::new();
        for (at, site) in self.sites.iter().enumerate().rev() {
            // A bootstrap whose result is read no higher than it begins gives nothing.
            if need[at] > self.from && chosen.contains(&at) {
                bootstraps.insert(at, need[at]);
                need[at] = self.from;
            }
            for &(operand, depth) in &site.operands {
                let wanted = need[at] + depth;
                if wanted > self.top {
                    return None;
                }
                need[operand] = need[operand].max(wanted);
            }
        }
        Some(Levels {
            operations: need,
            bootstraps,
        })
    }

    /// Seconds with the adjustments that `assign-levels` inserts.
    pub fn seconds(&self, levels: &Levels) -> f64 {
        let mut total = 0.0;
        // Levels below its own at which a value is read by operations that take one level only.
        let mut lowered: BTreeSet<(usize, u32)> = BTreeSet::new();
        for (at, (site, &level)) in self.sites.iter().zip(&levels.operations).enumerate() {
            total += site.operation[level as usize];
            if let Some(&out) = levels.bootstraps.get(&at) {
                total += site.bootstrap[out as usize];
            }
            if site.takes_any {
                // Terms of one level are brought down together; those that multiply have their price.
                let free = site.operands.iter().filter(|(_, depth)| *depth == 0);
                let above = free.map(|(o, _)| levels.offered(*o, level));
                let above: BTreeSet<u32> = above.filter(|l| *l > level).collect();
                total += above.len() as f64 * site.adjustment[level as usize];
                continue;
            }
            for &(operand, depth) in &site.operands {
                let wanted = level + depth;
                let here = [levels.operations[operand], levels.read(operand)];
                if !here.contains(&wanted) && lowered.insert((operand, wanted)) {
                    let site = &self.sites[operand];
                    total += site.addition[wanted as usize] + site.adjustment[wanted as usize];
                }
            }
        }
        total
    }

    /// What the levels get wrong: a level above the highest, an operand below what its reader needs, a bootstrap that is not allowed.
    pub fn check(&self, levels: &Levels) -> Result<(), String> {
        for (at, site) in self.sites.iter().enumerate() {
            let (own, read) = (levels.operations.get(at), levels.read(at));
            let Some(&own) = own.filter(|_| read <= self.top) else {
                return Err(format!("value {at} has no level up to {}", self.top));
            };
            if levels.bootstraps.contains_key(&at) && site.bootstrap.is_empty() {
                return Err(format!("value {at} may not be bootstrapped"));
            }
            if levels.bootstraps.contains_key(&at) && own < self.from {
                return Err(format!("value {at} is bootstrapped from level {own}"));
            }
            for &(operand, depth) in &site.operands {
                if levels.read(operand) < own + depth {
                    return Err(format!(
                        "value {at} at level {own} reads value {operand} at level {}",
                        levels.read(operand)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Bootstraps executed in one run.
    pub fn bootstraps(&self, levels: &Levels) -> usize {
        let counts = levels.bootstraps.keys().map(|at| self.sites[*at].count);
        counts.sum()
    }

    /// As a plan for the graph.
    pub fn plan(&self, levels: &Levels, exact: bool) -> Plan {
        let value = |at: usize| self.sites[at].value;
        let operations = levels.operations.iter().enumerate();
        Plan {
            levels: operations.map(|(at, l)| (value(at), *l)).collect(),
            bootstraps: levels
                .bootstraps
                .iter()
                .map(|(at, l)| (value(*at), *l))
                .collect(),
            exact,
        }
    }
}

/// Levels and bootstraps by the numbers of a [`Problem`].
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Level of the result of each operation.
    pub operations: Vec<u32>,
    /// Bootstrapped values with the level afterwards.
    pub bootstraps: BTreeMap<usize, u32>,
}

impl Levels {
    /// The level at which a reader that wants at least `wanted` finds a value: before its bootstrap if that is enough.
    fn offered(&self, at: usize, wanted: u32) -> u32 {
        let own = self.operations.get(at).copied().unwrap_or(0);
        if own >= wanted {
            own
        } else {
            self.read(at)
        }
    }

    /// The level at which a value is offered to its readers.
    pub fn read(&self, at: usize) -> u32 {
        let own = self.operations.get(at).copied().unwrap_or(0);
        self.bootstraps.get(&at).copied().unwrap_or(own)
    }
}

/// Seconds of every value of a levelled graph, in topological order, rotations that maps share counted once.
pub fn value_seconds(graph: &LevelledGraph) -> impl Iterator<Item = (ValueId, f64)> + '_ {
    let shares = linear_siblings::shares(graph);
    let values = graph.graph.topological().into_iter();
    values.map(move |v| match shares.get(&v) {
        Some(seconds) => (v, *seconds),
        None => (v, seconds_alone(graph, v)),
    })
}

/// Seconds of a value that shares nothing with others, as placements are priced.
pub fn seconds_alone(graph: &LevelledGraph, v: ValueId) -> f64 {
    let op = &graph.graph.node(v).op;
    let n = op.layout.ciphertexts();
    match &op.kernel {
        LevelledKernel::Packed(kernel) => {
            let adjusted = levels_above(graph, v, kernel);
            graph.costs.kernel(kernel, n, op.level)
                + adjusted as f64 * graph.costs.adjustment(n, op.level)
        }
        LevelledKernel::Bootstrap { kind } => graph.costs.bundle_of(*kind, n, op.level),
    }
}

/// Different levels above the result's from which a combination takes terms that it does not multiply.
fn levels_above(graph: &LevelledGraph, v: ValueId, kernel: &Kernel) -> usize {
    let Kernel::Combine { .. } = kernel else {
        return 0;
    };
    let level = graph.graph.node(v).op.level;
    let operands = graph.graph.operands(v).into_iter().enumerate();
    let free = operands.filter(|(i, _)| kernel.levels(*i) == 0);
    let levels = free.map(|(_, o)| graph.graph.node(o).op.level);
    levels
        .filter(|l| *l > level)
        .collect::<BTreeSet<u32>>()
        .len()
}
