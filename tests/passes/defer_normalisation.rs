use heron_passes::defer_normalisation::DeferNormalisation;
use heron_passes::ir::graph::ValueId;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::Shape;
use heron_passes::pass::{Pass, PassCx};

use crate::support::{graph, matrix, poly_input, run_pass, snapshot};

/// n and r from inputs, p = n · r; returns (graph, p, v).
fn attention() -> (PolyGraph, ValueId, ValueId) {
    let mut g: PolyGraph = graph("t");
    let q = poly_input(&mut g, "q", 4, 4);
    let k = poly_input(&mut g, "k", 4, 4);
    let v = poly_input(&mut g, "v", 4, 4);
    let scores = Shape::Scores {
        heads: 2,
        rows: 4,
        keys: 4,
    };
    let n = g.add(
        "n",
        PolyOp::Scores {
            heads: 2,
            mask: None,
        },
        &[q, k],
        scores,
        0,
    );
    let r = g.add(
        "r",
        PolyOp::KeySum {
            scale: 0.5,
            shift: 1.0,
        },
        &[n],
        Shape::PerHead { heads: 2, rows: 4 },
        0,
    );
    let p = g.add("p", PolyOp::ScaleHeads, &[n, r], scores, 0);
    (g, p, v)
}

#[test]
fn moves_the_row_factor_past_the_product_with_v() {
    let (mut g, p, v) = attention();
    let o = g.add("o", PolyOp::Values { heads: 2 }, &[p, v], matrix(4, 4), 0);
    g.outputs.push(("o".into(), o));
    snapshot(
        "defer-normalisation__moves_row_factor",
        &run_pass(&DeferNormalisation, &g),
    );
}

#[test]
fn leaves_unscaled_weights_alone() {
    let (mut g, p, v) = attention();
    let n = g.operands(p)[0];
    let o = g.add("o", PolyOp::Values { heads: 2 }, &[n, v], matrix(4, 4), 0);
    g.outputs.push(("o".into(), o));
    g.remove_dead(|op| matches!(op, PolyOp::Input { .. }));
    snapshot(
        "defer-normalisation__leaves_alone",
        &run_pass(&DeferNormalisation, &g),
    );
}

#[test]
fn refuses_weights_that_are_an_output() {
    let (mut g, p, _) = attention();
    g.outputs.push(("p".into(), p));
    let refused = DeferNormalisation
        .run(&mut g, &mut PassCx::default())
        .unwrap_err();
    snapshot("defer-normalisation__refuses", &refused.to_string());
}
