use heron_passes::ir::graph::ValueId;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::Shape;
use heron_passes::pass::{Changed, Pass, PassCx};
use heron_passes::share_equal::ShareEqual;

use crate::support::{dense, graph, matrix, poly_input, run_pass, snapshot, Draws};

/// x scaled by a sum over its columns plus `shift`, then mapped by a matrix of its own: one branch of a block.
fn branch(g: &mut PolyGraph, x: ValueId, draws: &mut Draws, shift: f64) -> ValueId {
    let rows = Shape::PerRow { rows: 4 };
    let sum = PolyOp::ColumnSum { scale: 0.25, shift };
    let r = g.add("r", sum, &[x], rows, 0);
    let hat = g.add("hat", PolyOp::ScaleRows, &[x, r], matrix(4, 4), 0);
    let own = PolyOp::Linear(dense(draws.matrix(4, 4, 1.0), None));
    g.add("own", own, &[hat], matrix(4, 4), 0)
}

fn branches(shifts: [f64; 2]) -> PolyGraph {
    let mut draws = Draws(6);
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 4, 4);
    let made = shifts.map(|s| branch(&mut g, x, &mut draws, s));
    let y = g.add("y", PolyOp::Add, &made, matrix(4, 4), 0);
    g.outputs.push(("y".into(), y));
    g
}

#[test]
fn two_normalisations_of_one_stream_share_their_statistics() {
    let text = run_pass(&ShareEqual, &branches([0.5, 0.5]));
    snapshot("share-equal__branches", &text);
}

#[test]
fn leaves_operations_that_differ_in_a_constant_alone() {
    let mut g = branches([0.5, 0.25]);
    let before = g.to_string();
    let changed = ShareEqual.run(&mut g, &mut PassCx::default()).unwrap();
    assert_eq!(changed, Changed::No);
    assert_eq!(g.to_string(), before);
}
