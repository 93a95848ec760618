//! assign-levels and place-bootstraps: levels fit, values stay, and no cheaper placement exists on small graphs.

use heron_passes::assign_levels::AssignLevels;
use heron_passes::cost::CostTable;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::eval::gather;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::pass::{Ir, Manager};

use crate::lower_packed::{lower, reference};
use crate::packed_models::blocks;

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
