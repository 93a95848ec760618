//! assign-levels and place-bootstraps: levels fit, values stay, and no cheaper placement exists on small graphs.

use heron_passes::assign_levels::AssignLevels;
use heron_passes::cost::CostTable;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::eval::gather;
use heron_passes::ir::packed::{Kernel, PackedGraph};
use heron_passes::ir::poly::PolyGraph;
use heron_passes::ir::poly::PolyOp;
use heron_passes::ir::shape::Shape;
use heron_passes::pass::{Ir, Lower, Manager, PassCx};
use heron_passes::place_bootstraps::place;

use crate::lower_packed::{lower, reference};
use crate::packed_models::{blocks, Model};
use crate::support::snapshot;

/// Levels for a ring of 2^16 with `top` usable levels.
pub fn levelled(poly: &PolyGraph, slots: usize, batch: Option<usize>, top: u32) -> LevelledGraph {
    let packed = lower(poly, slots, batch);
    let pass = AssignLevels {
        costs: CostTable {
            log_n: slots.ilog2() + 1,
            top,
        },
    };
    Manager::new().lower(&pass, &packed).unwrap()
}

#[test]
fn levels_and_bootstraps_leave_values_as_they_are() {
    let poly = blocks(8, 16, 4, 2);
    let packed = lower(&poly, 2048, None);
    for top in [7, 9, 11] {
        let graph = levelled(&poly, 2048, None, top);
        let (inputs, expected) = reference(&poly, &packed);
        let values = graph.evaluate_slots(&inputs, 0.37);
        let (_, v) = &graph.graph.outputs[0];
        let (found, spread) = gather(
            &graph.graph.node(*v).op.layout,
            &values[v],
            expected[0].len(),
        );
        let worst = found
            .iter()
            .zip(&expected[0])
            .map(|(f, e)| (f - e).abs())
            .fold(spread, f64::max);
        println!(
            "top {top}: difference {worst:.2e}, bound 1e-10; {} seconds, {:?} bootstraps, {}",
            graph.placement.cost_seconds,
            graph.bootstraps(),
            graph.placement.method
        );
        assert!(worst < 1e-10, "{}", graph.print());
    }
}

/// Seconds of the plan that bootstraps exactly the values in `chosen`; `None` where levels run out.
fn cost_of(packed: &PackedGraph, costs: &CostTable, chosen: &[ValueId]) -> Option<f64> {
    let mut need = std::collections::BTreeMap::new();
    for (_, v) in &packed.graph.outputs {
        need.insert(*v, 0u32);
    }
    let mut total = 0.0;
    for v in packed.graph.topological().into_iter().rev() {
        let Some(&level) = need.get(&v) else { continue };
        let op = &packed.graph.node(v).op;
        let n = op.layout.ciphertexts();
        let level = if chosen.contains(&v) {
            let period = op.layout.period() * packed.geometry.batch;
            total += costs.bundle(period, n, level);
            0
        } else {
            level
        };
        total += costs.kernel(&op.kernel, n, level);
        for (i, o) in packed.graph.operands(v).into_iter().enumerate() {
            let wanted = level + op.kernel.levels(i);
            if wanted > costs.top {
                return None;
            }
            let entry = need.entry(o).or_insert(0);
            *entry = (*entry).max(wanted);
        }
    }
    Some(total)
}

#[test]
fn no_choice_of_bootstraps_costs_less_on_small_graphs() {
    let shape = Shape::Matrix { rows: 4, cols: 4 };
    for seed in 0..200u64 {
        let mut m = Model::new("random");
        m.draws.0 = seed;
        let mut values = vec![m.input("x", 4, 4)];
        for i in 0..10 {
            let mut pick = || {
                let r = (m.draws.number() + 1.0) / 2.0;
                // Recent values more often, so that paths get long.
                values.len() - 1 - ((r * r * values.len() as f64) as usize).min(values.len() - 1)
            };
            let (a, b) = (values[pick()], values[pick()]);
            let name = format!("v{i}");
            let v = match (seed as usize + i * 7) % 4 {
                0 => m.dense(&name, a, 4),
                1 => m.add(&name, PolyOp::Add, &[a, b], shape),
                _ => m.add(&name, PolyOp::Multiply, &[a, b], shape),
            };
            values.push(v);
        }
        let last = values[values.len() - 1];
        // One ciphertext half filled: sparse; or several full ones.
        let slots = if seed % 2 == 0 { 64 } else { 16 };
        let packed = lower(&m.finish(last), slots, Some(1));
        let costs = CostTable {
            log_n: 16,
            top: 2 + (seed % 3) as u32,
        };
        let candidates: Vec<ValueId> = packed
            .graph
            .topological()
            .into_iter()
            .filter(|v| {
                let op = &packed.graph.node(*v).op;
                let moves = matches!(op.kernel, Kernel::Input { .. } | Kernel::Rotate { .. });
                !moves && !op.layout.is_unnamed() && op.bound.is_some_and(|b| b <= 1.05)
            })
            .collect();
        assert!(candidates.len() <= 12, "{}", packed.print());
        let mut best = f64::INFINITY;
        for subset in 0..1u32 << candidates.len() {
            let chosen: Vec<ValueId> = candidates
                .iter()
                .enumerate()
                .filter(|(i, _)| subset >> i & 1 == 1)
                .map(|(_, v)| *v)
                .collect();
            best = best.min(cost_of(&packed, &costs, &chosen).unwrap_or(f64::INFINITY));
        }
        let plan = place(&packed, &costs).unwrap();
        assert!(plan.exact);
        assert!(
            (plan.cost - best).abs() <= 1e-9 * best,
            "seed {seed}: plan {} best {best}\n{}",
            plan.cost,
            packed.print()
        );
    }
}

fn squares(count: usize) -> PolyGraph {
    let mut m = Model::new("squares");
    let mut v = m.input("x", 2, 2);
    let shape = Shape::Matrix { rows: 2, cols: 2 };
    for i in 0..count {
        v = m.add(&format!("s{i}"), PolyOp::Multiply, &[v, v], shape);
    }
    m.finish(v)
}

#[test]
fn a_chain_longer_than_the_levels_is_bootstrapped() {
    let graph = levelled(&squares(5), 8, Some(1), 3);
    snapshot("assign-levels__bootstraps_a_chain", &graph.print());
}

#[test]
fn a_chain_that_fits_is_left_alone() {
    let graph = levelled(&squares(3), 8, Some(1), 3);
    assert_eq!(graph.bootstraps(), (0, 0, 0));
    snapshot("assign-levels__leaves_alone", &graph.print());
}

#[test]
fn an_evaluation_deeper_than_the_levels_is_refused() {
    let mut m = Model::new("deep");
    let x = m.input("x", 2, 2);
    let y = m.polynomial("y", x, 31);
    let packed = lower(&m.finish(y), 8, Some(1));
    let pass = AssignLevels {
        costs: CostTable { log_n: 4, top: 3 },
    };
    let error = pass.lower(&packed, &mut PassCx::default()).unwrap_err();
    snapshot("place-bootstraps__refuses", &error.to_string());
}
