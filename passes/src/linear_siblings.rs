//! linear-siblings: linear maps of one value at one level are one instruction, which makes the rotations of their sources once.
//! before   %q = linear %x@8 -> @7     after   all four of %x@9 -> @8, and one instruction where they are written
//!          %k = linear %x@8 -> @7
//!          %v = linear %x@7 -> @6
//!          %h = linear %x@9 -> @8
//! Needs    maps of one operand; a map is brought up to the level of another where that costs less than rotations of its own.
//! Error    none.    Depth  none: what reads a map that was brought up brings it down again.
//! Why      projections of queries, keys and values, and the first of the MLP where both branches read one LayerNorm, rotate the same sources.
//! Source   own.

use std::collections::BTreeMap;

use crate::cost::folding::{parts, seconds};
use crate::cost::{CostTable, Work};
use crate::ir::graph::ValueId;
use crate::ir::levelled::{LevelledGraph, LevelledKernel};
use crate::ir::packed::{Kernel, LinearOut, PackedGraph};
use crate::placement::Plan;

/// Seconds of a map with its result at `level`.
fn price(costs: &CostTable, outs: &[LinearOut], level: u32) -> f64 {
    let work = |work: &Work| costs.work(work, level);
    parts(outs).iter().map(|p| work(&p.work)).sum()
}

/// Whether maps of one operand at one level are one instruction: by the prices that foldings are chosen by, at whatever level.
fn cheaper_together(maps: &[&[LinearOut]]) -> bool {
    let apart: f64 = maps.iter().map(|m| seconds(&parts(m))).sum();
    seconds(&parts(&maps.concat())) < apart
}

/// Brings linear maps up to the level of others of the same operand, where together they cost less.
pub fn raise(packed: &PackedGraph, plan: &mut Plan, costs: &CostTable) {
    let outputs: Vec<ValueId> = packed.graph.outputs.iter().map(|(_, v)| *v).collect();
    let mut families: BTreeMap<ValueId, Vec<(u32, ValueId)>> = BTreeMap::new();
    for v in packed.graph.topological() {
        let operands = packed.graph.operands(v);
        let ([x], Some(level)) = (&operands[..], plan.levels.get(&v)) else {
            continue;
        };
        let free = !outputs.contains(&v) && !plan.bootstraps.contains_key(&v);
        if free && matches!(packed.graph.node(v).op.kernel, Kernel::Linear(_)) {
            families.entry(*x).or_default().push((*level, v));
        }
    }
    for mut members in families.into_values() {
        members.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&(top, _)) = members.first() else {
            continue;
        };
        let outs = |v: ValueId| match &packed.graph.node(v).op.kernel {
            Kernel::Linear(outs) => &outs[..],
            _ => &[],
        };
        // The highest ones together, the others apart.
        let apart = |(level, v): &(u32, ValueId)| price(costs, outs(*v), *level);
        let alone: Vec<f64> = members.iter().map(apart).collect();
        let mut best = (alone.iter().sum::<f64>(), 0);
        for count in 2..=members.len() {
            let maps: Vec<&[LinearOut]> = members[..count].iter().map(|(_, v)| outs(*v)).collect();
            let down = |(level, v): &(u32, ValueId)| match *level == top {
                true => 0.0,
                false => costs.adjustment(outs(*v).len(), *level),
            };
            if !cheaper_together(&maps) {
                continue;
            }
            let cost = price(costs, &maps.concat(), top)
                + members[..count].iter().map(down).sum::<f64>()
                + alone[count..].iter().sum::<f64>();
            if cost < best.0 {
                best = (cost, count);
            }
        }
        for (_, v) in &members[..best.1] {
            plan.levels.insert(*v, top);
        }
    }
}

/// Maps that are one instruction, by the first of them in topological order.
pub fn families(graph: &LevelledGraph) -> BTreeMap<ValueId, Vec<ValueId>> {
    let mut all: BTreeMap<(ValueId, u32), Vec<ValueId>> = BTreeMap::new();
    for v in graph.graph.topological() {
        let op = &graph.graph.node(v).op;
        if let ([x], Some(_)) = (&graph.graph.operands(v)[..], outs(graph, v)) {
            all.entry((*x, op.level)).or_default().push(v);
        }
    }
    let several = all.into_values().filter(|members| {
        let maps: Vec<&[LinearOut]> = members.iter().filter_map(|v| outs(graph, *v)).collect();
        members.len() > 1 && cheaper_together(&maps)
    });
    several.map(|members| (members[0], members)).collect()
}

/// The results of a linear map.
pub fn outs(graph: &LevelledGraph, v: ValueId) -> Option<&[LinearOut]> {
    match &graph.graph.node(v).op.kernel {
        LevelledKernel::Packed(Kernel::Linear(outs)) => Some(outs),
        _ => None,
    }
}

/// What each member of a family takes of the seconds that all take together, in proportion to what it would take alone.
pub(crate) fn shares(graph: &LevelledGraph) -> BTreeMap<ValueId, f64> {
    let mut shares = BTreeMap::new();
    for members in families(graph).into_values() {
        let level = graph.graph.node(members[0]).op.level;
        let maps: Vec<&[LinearOut]> = members.iter().filter_map(|v| outs(graph, *v)).collect();
        let alone: Vec<f64> = maps.iter().map(|m| price(&graph.costs, m, level)).collect();
        let share = price(&graph.costs, &maps.concat(), level) / alone.iter().sum::<f64>();
        shares.extend(members.iter().zip(alone).map(|(v, s)| (*v, s * share)));
    }
    shares
}
