//! place-bootstraps: packed graph → which values are bootstrapped, and the level of every value.
//! before   %r = mul_sum …              after   level 3
//!          %o = mul_sum %u, %r                 level 2, bootstrapped: readers see level 9
//! Needs    some value within every `top` levels that is known to lie in [-1, 1].
//! Error    none here; a bootstrap adds about 2^-22.    Depth  unchanged.
//! Why      a bootstrap costs as much as all the rest of a layer.
//! Source   the frontier dynamic program of Fhelipe (PLDI 2024) run backwards on single values with prices by level and kind, so that
//!          skip connections are part of the state.
//!
//! Values are visited in reverse topological order. What is still to come depends on the past only through the level that each
//! value of the frontier must have (values with a reader already visited, not yet visited themselves). A partial plan
//! that costs no more than another and needs no higher level anywhere is never worse, so that keeping the others only is
//! exact, until [`STATES`] are kept; then the cheapest are, and the report says so.

use std::collections::BTreeMap;

use crate::cost::CostTable;
use crate::ir::graph::ValueId;
use crate::ir::levelled::BOOTSTRAP_BOUND;
use crate::ir::packed::{Kernel, PackedGraph};
use crate::pass::PassError;

/// Name of the pass.
pub const NAME: &str = "place-bootstraps";
/// Most partial plans kept.
pub const STATES: usize = 600;

/// Levels and bootstraps of a packed graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Level of the result of each value's operation.
    pub levels: BTreeMap<ValueId, u32>,
    /// Bootstrapped values with the level afterwards; all readers read the bootstrapped one.
    pub bootstraps: BTreeMap<ValueId, u32>,
    /// Seconds by the cost table.
    pub cost: f64,
    /// Whether no partial plan was dropped that could have been better.
    pub exact: bool,
}

/// A partial plan: needs of the frontier, and the decisions so far as a linked list.
#[derive(Clone, Debug)]
struct State {
    cost: f64,
    /// Level that each value of the frontier must have, by position in the list of open values.
    needs: Vec<u8>,
    /// Index of the last decision.
    last: usize,
}

/// One decision: level of the value, level after its bootstrap if any, and the decision before.
#[derive(Clone, Copy, Debug)]
struct Decision {
    level: u8,
    bootstrapped: Option<u8>,
    before: usize,
}

/// Whether a value may be bootstrapped.
fn is_candidate(packed: &PackedGraph, v: ValueId) -> bool {
    let op = &packed.graph.node(v).op;
    let movable = !matches!(op.kernel, Kernel::Input { .. } | Kernel::Rotate { .. });
    movable && !op.layout.is_unnamed() && op.bound.is_some_and(|b| b <= BOOTSTRAP_BOUND)
}

/// Chooses levels and bootstraps of least cost.
pub fn place(packed: &PackedGraph, costs: &CostTable) -> Result<Plan, PassError> {
    let order = packed.graph.topological();
    let mut decisions: Vec<Decision> = Vec::new();
    let mut exact = true;
    // Open values, in the order in which they are visited (latest first).
    let mut open: Vec<ValueId> = Vec::new();
    let mut states = vec![State {
        cost: 0.0,
        needs: Vec::new(),
        last: usize::MAX,
    }];
    let rank: BTreeMap<ValueId, usize> = order.iter().enumerate().map(|(i, v)| (*v, i)).collect();
    for (_, v) in &packed.graph.outputs {
        admit(&mut open, &mut states, *v, &rank);
    }
    let mut visited: Vec<ValueId> = Vec::new();
    for v in order.iter().rev() {
        // The latest open value comes first; a value nobody needs is not computed.
        if open.first() != Some(v) {
            continue;
        }
        visited.push(*v);
        open.remove(0);
        let op = &packed.graph.node(*v).op;
        let operands = packed.graph.operands(*v);
        let candidate = is_candidate(packed, *v);
        let n = op.layout.ciphertexts();
        let period = op.layout.period() * packed.geometry.batch;
        let mut next = Vec::with_capacity(states.len() * 2);
        for state in &states {
            let need = state.needs[0];
            let mut choices = vec![(need, None)];
            if candidate && need > 0 {
                choices.push((0, Some(need)));
            }
            for (level, bootstrapped) in choices {
                let level = u32::from(level);
                let most = (0..operands.len())
                    .map(|i| level + op.kernel.levels(i))
                    .max()
                    .unwrap_or(level);
                if most > costs.top {
                    continue;
                }
                let mut cost = state.cost + costs.kernel(&op.kernel, n, level);
                if let Some(out) = bootstrapped {
                    cost += costs.bundle(period, n, u32::from(out));
                }
                decisions.push(Decision {
                    level: level as u8,
                    bootstrapped,
                    before: state.last,
                });
                next.push(State {
                    cost,
                    needs: state.needs[1..].to_vec(),
                    last: decisions.len() - 1,
                });
            }
        }
        if next.is_empty() {
            let node = packed.graph.node(*v);
            return Err(PassError::Resource {
                pass: NAME,
                what: format!("levels between bootstraps at value `%{}`", node.name),
                needed: format!("more than {}", costs.top),
                available: costs.top.to_string(),
                remedy: "no value before it is known to lie in [-1, 1]: normalise ranges, lower the degree of approximations, or choose a parameter set with more levels".into(),
            });
        }
        states = next;
        for (i, operand) in operands.iter().enumerate() {
            let at = admit(&mut open, &mut states, *operand, &rank);
            for state in &mut states {
                let level = u32::from(decisions[state.last].level) + op.kernel.levels(i);
                state.needs[at] = state.needs[at].max(level as u8);
            }
        }
        exact &= prune(&mut states);
    }
    let best = states
        .into_iter()
        .min_by(|a, b| a.cost.total_cmp(&b.cost))
        .unwrap_or(State {
            cost: 0.0,
            needs: Vec::new(),
            last: usize::MAX,
        });
    let mut plan = Plan {
        levels: BTreeMap::new(),
        bootstraps: BTreeMap::new(),
        cost: best.cost,
        exact,
    };
    let mut at = best.last;
    for v in visited.iter().rev() {
        let Some(decision) = decisions.get(at) else {
            break;
        };
        plan.levels.insert(*v, u32::from(decision.level));
        if let Some(out) = decision.bootstrapped {
            plan.bootstraps.insert(*v, u32::from(out));
        }
        at = decision.before;
    }
    Ok(plan)
}

/// Makes `v` an open value, if it is not yet; returns its position.
fn admit(
    open: &mut Vec<ValueId>,
    states: &mut [State],
    v: ValueId,
    rank: &BTreeMap<ValueId, usize>,
) -> usize {
    if let Some(at) = open.iter().position(|o| *o == v) {
        return at;
    }
    let at = open
        .iter()
        .position(|o| rank.get(o) < rank.get(&v))
        .unwrap_or(open.len());
    open.insert(at, v);
    for state in states {
        state.needs.insert(at, 0);
    }
    at
}

/// Drops plans that another one beats in cost and in every need; `false` if it had to drop more.
fn prune(states: &mut Vec<State>) -> bool {
    states.sort_by(|a, b| {
        a.cost
            .total_cmp(&b.cost)
            .then_with(|| a.needs.cmp(&b.needs))
    });
    let mut kept: Vec<State> = Vec::new();
    for state in states.drain(..) {
        let beaten = kept
            .iter()
            .any(|k| k.needs.iter().zip(&state.needs).all(|(a, b)| a <= b));
        if !beaten {
            kept.push(state);
        }
    }
    let exact = kept.len() <= STATES;
    kept.truncate(STATES);
    *states = kept;
    exact
}
