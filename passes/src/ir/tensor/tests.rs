//! Plain softmax: text, verification, meaning.

use std::collections::BTreeMap;

use super::{ClientInput, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;
use crate::ir::shape::{Layer, LayerKind, Matrix, Shape};

const SHAPE: Shape = Shape::Scores {
    heads: 1,
    rows: 2,
    keys: 3,
};

fn input(g: &mut TensorGraph, name: &str, rows: usize) -> ValueId {
    let client = ClientInput::Gather {
        user_shape: vec![rows],
        index: (0..rows as i64).collect(),
    };
    let op = TensorOp::Input {
        name: name.into(),
        client,
    };
    g.add(name, op, &[], Shape::Matrix { rows, cols: 1 }, 0)
}

/// Scores q_i k_j of two queries and three keys, and 0/1 scores a_i b_j as a second operand where `encrypted`.
fn graph(mask: Option<Matrix>, encrypted: bool) -> (TensorGraph, ValueId) {
    let mut g = TensorGraph::new("softmax");
    g.add_layer(Layer {
        name: "softmax".into(),
        kind: LayerKind::Softmax,
        onnx_nodes: vec![],
    });
    let scores = || TensorOp::Scores {
        heads: 1,
        scale: 1.0,
        mask: None,
    };
    let (q, k) = (input(&mut g, "q", 2), input(&mut g, "k", 3));
    let mut operands = vec![g.add("s", scores(), &[q, k], SHAPE, 0)];
    if encrypted {
        let (a, b) = (input(&mut g, "a", 2), input(&mut g, "b", 3));
        operands.push(g.add("m", scores(), &[a, b], SHAPE, 0));
    }
    let p = g.add("p", TensorOp::Softmax { mask }, &operands, SHAPE, 0);
    g.outputs.push(("p".into(), p));
    (g, p)
}

fn run(g: &TensorGraph, inputs: &[(&str, &[f64])]) -> Vec<f64> {
    let inputs: BTreeMap<String, Vec<f64>> = inputs
        .iter()
        .map(|(n, x)| (n.to_string(), x.to_vec()))
        .collect();
    g.outputs_for(&inputs).unwrap().remove(0)
}

fn close(found: &[f64], expected: &[f64]) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-14, "{found:?} is not {expected:?}");
    }
}

#[test]
fn softmax_of_large_scores_does_not_overflow() {
    let (g, _) = graph(None, false);
    let p = run(&g, &[("q", &[1.0, -1.0]), ("k", &[800.0, 801.0, 790.0])]);
    let e = std::f64::consts::E;
    let (x, y, z) = (1.0 / e, 1.0, libm::exp(-11.0));
    let sum = x + y + z;
    close(&p[..3], &[x / sum, y / sum, z / sum]);
    assert!((p[3..].iter().sum::<f64>() - 1.0).abs() < 1e-15);
}

#[test]
fn masked_keys_count_nothing_and_a_row_without_keys_gives_zero() {
    let mask = Matrix {
        rows: 2,
        cols: 3,
        data: vec![1.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    };
    let (g, _) = graph(Some(mask), false);
    // A masked score far above the others must not push them to 0.
    let p = run(&g, &[("q", &[1.0, 1.0]), ("k", &[0.0, 0.0, 900.0])]);
    close(&p, &[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn constant_and_encrypted_masks_multiply() {
    let mask = Matrix {
        rows: 2,
        cols: 3,
        data: vec![1.0, 1.0, 0.0, 1.0, 1.0, 1.0],
    };
    let (g, _) = graph(Some(mask), true);
    let p = run(
        &g,
        &[
            ("q", &[1.0, 0.0]),
            ("k", &[2.0, 3.0, 4.0]),
            ("a", &[1.0, 1.0]),
            ("b", &[0.0, 1.0, 1.0]),
        ],
    );
    close(&p, &[0.0, 1.0, 0.0, 0.0, 0.5, 0.5]);
    assert!(g.verify().is_ok());
    assert_eq!(g.text(g.outputs[0].1), "softmax %s, %m, masked");
}

#[test]
fn verification_wants_a_zero_one_mask_of_the_right_size() {
    let found = |rows: usize, data: Vec<f64>| {
        let cols = data.len() / rows;
        let (g, _) = graph(Some(Matrix { rows, cols, data }), false);
        g.verify().map_err(|e| e.to_string())
    };
    assert!(found(2, vec![1.0; 6]).is_ok());
    let size = found(1, vec![1.0; 3]).unwrap_err();
    assert!(size.contains("expected 2x3, found 1x3"), "{size}");
    let half = found(2, vec![0.5; 6]).unwrap_err();
    assert!(half.contains("a mask of 0 and 1, found 0.5"), "{half}");
}

#[test]
fn verification_wants_a_mask_operand_shaped_like_the_scores() {
    let (mut g, p) = graph(None, true);
    let operands = g.operands(p);
    let other = Shape::Scores {
        heads: 2,
        rows: 2,
        keys: 3,
    };
    g.node_mut(operands[1]).shape = other;
    assert!(g.verify().is_err());
    g.node_mut(operands[1]).shape = SHAPE;
    g.set_operands(p, &[operands[0], operands[1], operands[1]]);
    assert!(g.verify().is_err());
}
