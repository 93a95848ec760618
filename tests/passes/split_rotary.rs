use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::Matrix;
use heron_passes::ir::tensor::{Linear, LinearTerm, RowMap};
use heron_passes::pass::{Changed, Pass, PassCx};
use heron_passes::split_rotary::SplitRotary;

use crate::support::{graph, matrix, poly_input, run_pass, snapshot, Draws};

/// 4 tokens of 8 features, of which features 0 to 3 turn in pairs (0, 2) and (1, 3) and the others stay.
fn rotary() -> PolyGraph {
    let mut draws = Draws(4);
    let w = draws.matrix(8, 8, 1.0);
    let mut swapped = Matrix::zeros(8, 8);
    for r in 0..8 {
        for (to, from, sign) in [(0, 2, -1.0), (1, 3, -1.0), (2, 0, 1.0), (3, 1, 1.0)] {
            swapped.data[r * 8 + to] = sign * w.at(r, from);
        }
    }
    let (mut cos, mut sin) = (Matrix::zeros(4, 8), Matrix::zeros(4, 8));
    for i in 0..32 {
        let angle = (i / 8) as f64 * if i % 2 == 0 { 0.7 } else { 0.1 };
        cos.data[i] = if i % 8 < 4 { angle.cos() } else { 1.0 };
        sin.data[i] = if i % 8 < 4 { angle.sin() } else { 0.0 };
    }
    let term = |weight: Matrix, post| LinearTerm {
        rows: RowMap::Identity,
        weight: weight.into(),
        post: Some(post),
    };
    let linear = Linear {
        terms: vec![term(swapped, sin), term(w, cos)],
        bias: Some(draws.matrix(4, 8, 0.1)),
    };
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 4, 8);
    let q = g.add("q", PolyOp::Linear(linear), &[x], matrix(4, 8), 0);
    g.outputs.push(("q".into(), q));
    g
}

#[test]
fn takes_the_angles_out_of_a_rotary_projection() {
    let pass = SplitRotary { from: 8 };
    snapshot("split-rotary__projection", &run_pass(&pass, &rotary()));
}

fn left_alone(pass: SplitRotary, mut g: PolyGraph) {
    let before = g.to_string();
    let changed = pass.run(&mut g, &mut PassCx::default()).unwrap();
    assert_eq!(changed, Changed::No);
    assert_eq!(g.to_string(), before);
}

#[test]
fn leaves_a_narrow_projection_its_level() {
    left_alone(SplitRotary::default(), rotary());
}

#[test]
fn leaves_weights_that_share_no_columns_alone() {
    let mut g = rotary();
    let q = g.outputs[0].1;
    if let PolyOp::Linear(linear) = &mut g.node_mut(q).op {
        let mut weight = linear.terms[0].weight.dense();
        weight.data[0] += 0.5;
        linear.terms[0].weight = weight.into();
    }
    left_alone(SplitRotary { from: 8 }, g);
}
