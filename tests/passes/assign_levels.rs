//! assign-levels and place-bootstraps: levels fit, values stay, and no cheaper placement exists on small graphs.

use heron_passes::assign_levels::{AssignLevels, Placing};
use heron_passes::cost::CostTable;
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::eval::gather;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::ir::poly::PolyOp;
use heron_passes::ir::shape::Shape;
use heron_passes::pass::{Ir, Lower, Manager, PassCx};

use crate::lower_packed::{lower, reference};
use crate::packed_models::{blocks, Model};
use crate::support::snapshot;

/// Levels for a ring of 2^16 with `top` usable levels.
pub fn levelled(poly: &PolyGraph, slots: usize, batch: Option<usize>, top: u32) -> LevelledGraph {
    let packed = lower(poly, slots, batch);
    let pass = AssignLevels {
        costs: CostTable::bootstrapped(slots.ilog2() + 1, top),
        placing: Placing::Best,
    };
    Manager::new().lower(&pass, &packed).unwrap()
}

#[test]
fn levels_and_bootstraps_leave_values_as_they_are() {
    let poly = blocks(8, 16, 4, 2);
    let packed = lower(&poly, 2048, None);
    for top in [10, 12, 16] {
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
    let graph = levelled(&squares(8), 8, Some(1), 6);
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
    let y = m.polynomial("y", x, 127);
    let packed = lower(&m.finish(y), 8, Some(1));
    let pass = AssignLevels {
        costs: CostTable::bootstrapped(4, 6),
        placing: Placing::Best,
    };
    let error = pass.lower(&packed, &mut PassCx::default()).unwrap_err();
    snapshot("place-bootstraps__refuses", &error.to_string());
}
