//! A lower bound on every placement: what no choice of levels and bootstraps can undercut.
//!
//! Needs    nothing of `place-bootstraps`; it holds also where that pass drops partial plans.
//! Why      a dynamic program that reports its own cost as the bound proves nothing about itself.
//! Source   the Lagrangian dual of the choice of one label per value, by sequential tree-reweighted message passing (Kolmogorov,
//!          IEEE TPAMI 28, 2006), which is the linear-programming relaxation over labels and pairs of labels.
//!
//! A value's label is the level ℓ of its operation and the level o ≥ ℓ that readers find: o = ℓ without a bootstrap. Bootstraps start
//! at the lowest level they can, since prices do not fall with the level. Reader t takes operand s under the condition o_s ≥ ℓ_t + d. Adjustments
//! are free here. Each pair (s, t) has two messages, from s to t over ℓ_t and from t to s over o_s. Whatever they are,
//!
//!   Σ_s (1 − γ_s·outs_s)·min θ_s + Σ_{(s,t)} min over allowed labels of [γ_s θ_s(label) − m_ts(o_s) − m_st(ℓ_t)],
//!   θ_s(label) = price(label) + Σ messages to s,
//!
//! is no more than the price of any placement, because adding the messages up again gives its price: weak duality.
//! The passes only make the bound larger.

use std::collections::BTreeMap;

use super::{Objective, Problem};

/// Passes over the graph, at most.
pub const PASSES: usize = 400;
/// Price of a label that is not allowed: large, finite, so that differences stay numbers. Any price of at least nothing is valid.
const FORBIDDEN: f64 = 1e7;
/// Passes without gain after which it stops.
const PATIENCE: usize = 30;
/// Rounding of sums of prices, relative: taken off the bound.
const ROUNDING: f64 = 1e-9;

/// Lower bounds on any placement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LowerBound {
    /// Seconds by the cost table.
    pub seconds: f64,
    /// Bootstraps executed in one run.
    pub bootstraps: usize,
}

/// Both bounds, with at most `passes` passes each.
pub fn lower_bound(problem: &Problem, passes: usize) -> LowerBound {
    let bound = |objective| Relaxation::new(problem, objective).solve(passes);
    LowerBound {
        seconds: bound(Objective::Seconds),
        // A count is whole.
        bootstraps: (bound(Objective::Bootstraps) - 1e-6).ceil().max(0.0) as usize,
    }
}

/// One value.
struct Vertex {
    /// Price by level, not bootstrapped.
    plain: Vec<f64>,
    /// Price by the level after a bootstrap; empty where none is allowed.
    bootstrapped: Vec<f64>,
    /// Pairs in which it is the operand, and in which it is the reader.
    outs: Vec<usize>,
    ins: Vec<usize>,
}

/// Operand and reader, with the levels between them.
struct Pair {
    operand: usize,
    reader: usize,
    depth: usize,
    /// By the reader's level.
    forward: Vec<f64>,
    /// By the level that readers of the operand find.
    backward: Vec<f64>,
}

struct Relaxation {
    vertices: Vec<Vertex>,
    pairs: Vec<Pair>,
    levels: usize,
    /// The level that bootstraps begin at.
    from: usize,
}

impl Relaxation {
    fn new(problem: &Problem, objective: Objective) -> Self {
        let levels = problem.top as usize + 1;
        let mut vertices = Vec::with_capacity(problem.sites.len());
        let mut pairs: Vec<Pair> = Vec::new();
        for (reader, site) in problem.sites.iter().enumerate() {
            let first = site.operation.get(problem.from as usize);
            let first = first.copied().unwrap_or(0.0);
            let (plain, bootstrapped) = match objective {
                Objective::Seconds => (
                    site.operation.clone(),
                    site.bootstrap.iter().map(|b| first + b).collect(),
                ),
                Objective::Bootstraps => (
                    vec![0.0; levels],
                    vec![site.count as f64; site.bootstrap.len()],
                ),
            };
            vertices.push(Vertex {
                plain,
                bootstrapped,
                outs: Vec::new(),
                ins: Vec::new(),
            });
            let mut depths: BTreeMap<usize, usize> = BTreeMap::new();
            for &(operand, depth) in &site.operands {
                let most = depths.entry(operand).or_insert(0);
                *most = (*most).max(depth as usize);
            }
            for (operand, depth) in depths {
                pairs.push(Pair {
                    operand,
                    reader,
                    depth,
                    forward: vec![0.0; levels],
                    backward: vec![0.0; levels],
                });
            }
        }
        for (i, pair) in pairs.iter().enumerate() {
            vertices[pair.operand].outs.push(i);
            vertices[pair.reader].ins.push(i);
        }
        Relaxation {
            vertices,
            pairs,
            levels,
            from: problem.from as usize,
        }
    }

    /// θ of the labels without and with a bootstrap.
    fn theta(&self, s: usize) -> (Vec<f64>, Vec<f64>) {
        let vertex = &self.vertices[s];
        let (mut plain, mut bootstrapped) = (vertex.plain.clone(), vertex.bootstrapped.clone());
        for &p in &vertex.ins {
            let forward = &self.pairs[p].forward;
            plain.iter_mut().zip(forward).for_each(|(t, m)| *t += m);
            bootstrapped
                .iter_mut()
                .for_each(|t| *t += forward[self.from]);
        }
        for &p in &vertex.outs {
            let backward = &self.pairs[p].backward;
            plain.iter_mut().zip(backward).for_each(|(t, m)| *t += m);
            bootstrapped
                .iter_mut()
                .zip(backward)
                .for_each(|(t, m)| *t += m);
        }
        (plain, bootstrapped)
    }

    /// The share of θ that each pair of a value gets.
    fn share(&self, s: usize) -> f64 {
        let vertex = &self.vertices[s];
        1.0 / vertex.ins.len().max(vertex.outs.len()).max(1) as f64
    }

    /// For each level of the reader: the least of γθ_s − m_ts over labels of the operand that it may read.
    fn towards_reader(&self, p: usize, theta: &(Vec<f64>, Vec<f64>)) -> Vec<f64> {
        let pair = &self.pairs[p];
        let share = self.share(pair.operand);
        let mut least = vec![FORBIDDEN; self.levels + 1];
        for o in (0..self.levels).rev() {
            let mut price = share * theta.0[o];
            if let Some(t) = theta.1.get(o) {
                price = price.min(share * t);
            }
            least[o] = least[o + 1].min(price - pair.backward[o]);
        }
        (0..self.levels)
            .map(|l| least[(l + pair.depth).min(self.levels)])
            .collect()
    }

    /// For each level that the operand offers: the least of γθ_t − m_st over labels of the reader that may read it.
    fn towards_operand(&self, p: usize, theta: &(Vec<f64>, Vec<f64>)) -> Vec<f64> {
        let pair = &self.pairs[p];
        let share = self.share(pair.reader);
        let bootstrapped = theta.1.iter().copied().fold(f64::INFINITY, f64::min);
        let mut least = FORBIDDEN;
        let mut message = vec![FORBIDDEN; self.levels];
        for (l, t) in theta.0.iter().enumerate() {
            // Before a bootstrap the reader is where it begins.
            let price = if l == self.from {
                t.min(bootstrapped)
            } else {
                *t
            };
            least = least.min(share * price - pair.forward[l]);
            if let Some(m) = message.get_mut(l + pair.depth) {
                *m = least;
            }
        }
        message
    }

    /// One pass from inputs to outputs; the bound that the messages then give.
    fn forward(&mut self) -> f64 {
        let mut bound = 0.0;
        for s in 0..self.vertices.len() {
            let theta = self.theta(s);
            let outs = self.vertices[s].outs.clone();
            let rest = 1.0 - self.share(s) * outs.len() as f64;
            bound += rest.max(0.0) * least(&theta);
            for p in outs {
                // Its pair term is now least(message − message) = 0 at every level.
                self.pairs[p].forward = self.towards_reader(p, &theta);
            }
        }
        bound
    }

    /// One pass from outputs to inputs; the bound that the messages then give, by the same sum with the roles exchanged.
    fn backward(&mut self) -> f64 {
        let mut bound = 0.0;
        for t in (0..self.vertices.len()).rev() {
            let theta = self.theta(t);
            let ins = self.vertices[t].ins.clone();
            let rest = 1.0 - self.share(t) * ins.len() as f64;
            bound += rest.max(0.0) * least(&theta);
            for p in ins {
                self.pairs[p].backward = self.towards_operand(p, &theta);
            }
        }
        bound
    }

    fn solve(mut self, passes: usize) -> f64 {
        let (mut best, mut idle) = (0.0f64, 0);
        for _ in 0..passes {
            let bound = self.forward().max(self.backward());
            if bound > best * (1.0 + 1e-6) {
                idle = 0;
            } else {
                idle += 1;
            }
            best = best.max(bound);
            if idle > PATIENCE {
                break;
            }
        }
        (best * (1.0 - ROUNDING)).max(0.0)
    }
}

fn least(theta: &(Vec<f64>, Vec<f64>)) -> f64 {
    let all = theta.0.iter().chain(&theta.1);
    all.copied().fold(f64::INFINITY, f64::min)
}
