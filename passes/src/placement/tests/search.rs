//! The independent search for the cheapest placement.

use std::collections::BTreeSet;

use crate::cost::{BootstrapKind, CostTable};
use crate::ir::graph::ValueId;
use crate::ir::packed::{Kernel, PackedGraph};

/// One value as the search sees it.
struct Vertex {
    /// (operand, levels, whether it must be at exactly that level)
    operands: Vec<(usize, u32, bool)>,
    /// Price by level of the operation, and of one adjustment to a level.
    operation: Vec<f64>,
    adjustment: Vec<f64>,
    addition: Vec<f64>,
    /// Price by level after a bootstrap.
    bootstrap: Option<Vec<f64>>,
}

/// All levelled graphs of a packed one, by exhaustion: each value's level and each value's bootstrap.
pub(super) struct Search {
    vertices: Vec<Vertex>,
    /// Least price of all vertices before each.
    before: Vec<f64>,
    best: f64,
    top: u32,
    from: u32,
    /// Level of the operation, and level offered, of the values chosen so far.
    chosen: Vec<(u32, u32)>,
}

impl Search {
    /// Prices in seconds, or only bootstraps.
    pub(super) fn new(packed: &PackedGraph, costs: &CostTable, count_only: bool) -> Self {
        let graph = &packed.graph;
        let mut alive: BTreeSet<ValueId> = graph.outputs.iter().map(|(_, v)| *v).collect();
        for v in graph.topological().into_iter().rev() {
            if alive.contains(&v) {
                alive.extend(graph.operands(v));
            }
        }
        let order: Vec<ValueId> = graph
            .topological()
            .into_iter()
            .filter(|v| alive.contains(v))
            .collect();
        let mut vertices = Vec::new();
        for v in &order {
            let op = &graph.node(*v).op;
            let n = op.layout.ciphertexts();
            let levels = || 0..=costs.top;
            let free = |x: f64| if count_only { 0.0 } else { x };
            let allowed = op.bound.is_some_and(|b| b <= 1.05)
                && !op.layout.is_unnamed()
                && !matches!(op.kernel, Kernel::Input { .. });
            // A bundle one way or the other, whichever costs less to the top.
            let repeats = op.layout.period() * packed.geometry.batch;
            let log_slots = repeats.max(2).ilog2();
            let pairs = |l| {
                (n / 2) as f64 * costs.bootstrap(BootstrapKind::ComplexPair, l)
                    + (n % 2) as f64 * costs.bootstrap(BootstrapKind::Full, l)
            };
            let alone = |l| n as f64 * costs.bootstrap(BootstrapKind::Sparse { log_slots }, l);
            let sparse = log_slots + 2 <= costs.log_n && alone(costs.top) <= pairs(costs.top);
            let price = |l| match (count_only, sparse) {
                (true, true) => n as f64,
                (true, false) => n.div_ceil(2) as f64,
                (false, true) => alone(l),
                (false, false) => pairs(l),
            };
            let operands = graph.operands(*v).into_iter().enumerate();
            vertices.push(Vertex {
                operands: operands
                    .map(|(i, o)| {
                        let at = order.iter().position(|w| *w == o).unwrap();
                        let exact = !matches!(op.kernel, Kernel::Combine { .. });
                        (at, op.kernel.levels(i), exact)
                    })
                    .collect(),
                operation: levels()
                    .map(|l| free(costs.kernel(&op.kernel, n, l)))
                    .collect(),
                adjustment: levels().map(|l| free(costs.adjustment(n, l))).collect(),
                addition: levels()
                    .map(|l| free(n as f64 * costs.combine(l)))
                    .collect(),
                bootstrap: allowed.then(|| levels().map(price).collect()),
            });
        }
        let mut before = vec![0.0];
        for v in &vertices {
            let least = v.operation.iter().copied().fold(f64::INFINITY, f64::min);
            before.push(before[before.len() - 1] + least);
        }
        Search {
            chosen: vec![(0, 0); vertices.len()],
            vertices,
            before,
            best: f64::INFINITY,
            top: costs.top,
            from: costs.chain.bootstrap_from.unwrap(),
        }
    }

    /// Values from `at` downwards, given what readers ask of each: (level, exactly).
    fn descend(&mut self, at: usize, asked: &mut Vec<Vec<(u32, bool)>>, price: f64) {
        if price + self.before[at] >= self.best {
            return;
        }
        let Some(at) = at.checked_sub(1) else {
            self.best = self.best.min(price + self.taken_from_above());
            return;
        };
        let most = asked[at].iter().map(|a| a.0).max().unwrap_or(0);
        for level in 0..=self.top {
            // Not bootstrapped, or bootstrapped to some level above.
            for out in level..=self.top {
                if out < most {
                    continue;
                }
                let vertex = &self.vertices[at];
                let bootstrap = match (&vertex.bootstrap, out > level) {
                    (_, false) => 0.0,
                    (Some(prices), true) if level >= self.from => prices[out as usize],
                    _ => continue,
                };
                let lowered: BTreeSet<u32> = asked[at]
                    .iter()
                    .filter(|(l, exact)| *exact && *l != level && *l != out)
                    .map(|(l, _)| *l)
                    .collect();
                let down = |l: &u32| vertex.adjustment[*l as usize] + vertex.addition[*l as usize];
                let adjustments: f64 = lowered.iter().map(down).sum();
                let operands = vertex.operands.clone();
                if operands.iter().any(|(_, d, _)| level + d > self.top) {
                    continue;
                }
                let price = price + vertex.operation[level as usize] + bootstrap + adjustments;
                for (o, d, exact) in &operands {
                    asked[*o].push((level + d, *exact));
                }
                self.chosen[at] = (level, out);
                self.descend(at, asked, price);
                for (o, _, _) in &operands {
                    asked[*o].pop();
                }
            }
        }
    }

    /// Combinations bring down terms that they do not multiply, those of one level together.
    fn taken_from_above(&self) -> f64 {
        let mut total = 0.0;
        for (vertex, (level, _)) in self.vertices.iter().zip(&self.chosen) {
            let free = vertex
                .operands
                .iter()
                .filter(|(_, d, exact)| *d == 0 && !exact);
            let offered = free.map(|(o, _, _)| match self.chosen[*o] {
                (own, _) if own >= *level => own,
                (_, out) => out,
            });
            let above: BTreeSet<u32> = offered.filter(|l| l > level).collect();
            total += above.len() as f64 * vertex.adjustment[*level as usize];
        }
        total
    }

    /// The least price; `None` where nothing fits.
    pub(super) fn run(mut self) -> Option<f64> {
        let mut asked = vec![Vec::new(); self.vertices.len()];
        self.descend(self.vertices.len(), &mut asked, 0.0);
        self.best.is_finite().then_some(self.best)
    }
}
