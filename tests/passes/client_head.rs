use heron_passes::client_head::take_head;
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::ir::tensor::{Function, RowMap, TensorGraph, TensorOp};
use heron_passes::last_position::LastPosition;
use heron_passes::pass::{Pass, PassCx};

use crate::support::{dense, snapshot, toy_block, Draws};

/// The toy block without ranges.
fn block() -> TensorGraph {
    toy_block(4).0
}

/// Insists that the head on the new output gives what the graph gave before.
fn head_completes(before: &TensorGraph) -> TensorGraph {
    let mut after = before.clone();
    let Shape::Matrix { rows, cols } = before.node(before.outputs[0].1).shape else {
        panic!("the output is no matrix");
    };
    let head = take_head(&mut after, &[rows, cols]).unwrap();
    after.verify().unwrap();
    assert_eq!((head.shape.0, head.weight.cols()), (rows, cols));
    assert_eq!(head.output, [rows, cols]);
    let mut draws = Draws(5);
    for _ in 0..8 {
        let x: Vec<f64> = (0..16).map(|_| draws.next()).collect();
        let given = [("x".to_string(), x)].into();
        let expected = before.outputs_for(&given).unwrap().remove(0);
        let hidden = after.outputs_for(&given).unwrap().remove(0);
        for (i, expected) in expected.iter().enumerate() {
            let (r, c) = (i / cols, i % cols);
            let weights =
                (0..head.shape.1).map(|k| hidden[r * head.shape.1 + k] * head.weight.at(k, c));
            let bias = head.bias.as_ref();
            let bias = bias.map_or(0.0, |b| b.at(if b.rows == 1 { 0 } else { r }, c));
            let found = weights.sum::<f64>() + bias;
            assert!((found - expected).abs() <= 1e-12, "{found} {expected}");
        }
    }
    after
}

#[test]
fn the_head_on_what_is_left_gives_the_output() {
    let before = block();
    let after = head_completes(&before);
    assert!(after.topological().len() < before.topological().len());
    let mut last = before.clone();
    LastPosition.run(&mut last, &mut PassCx::default()).unwrap();
    let after = head_completes(&last);
    let shape = after.node(after.outputs[0].1).shape;
    assert!(matches!(shape, Shape::Matrix { rows: 1, .. }), "{shape:?}");
}

#[test]
fn pooling_before_the_head_stays_with_the_server() {
    let mut before = block();
    let (_, v) = before.outputs[0];
    let x = before.operands(v)[0];
    let Shape::Matrix { rows, cols } = before.node(x).shape else {
        panic!("a matrix is read");
    };
    let mut draws = Draws(2);
    let mut mean = dense(draws.matrix(cols, 2, 1.0), Some(draws.matrix(1, 2, 1.0)));
    mean.terms[0].rows = RowMap::Mix(Matrix {
        rows: 1,
        cols: rows,
        data: vec![1.0 / rows as f64; rows],
    });
    let shape = Shape::Matrix { rows: 1, cols: 2 };
    let pooled = before.add("pooled", TensorOp::Linear(mean), &[x], shape, 0);
    before.outputs = vec![("pooled".into(), pooled)];
    head_completes(&before);
}

#[test]
fn refuses_models_that_do_not_end_in_a_linear_map_of_one_value() {
    let refused = |change: &dyn Fn(&mut TensorGraph)| {
        let mut g = block();
        change(&mut g);
        take_head(&mut g, &[1]).unwrap_err().to_string()
    };
    let mut messages = vec![refused(&|g| {
        let first = g.outputs[0].clone();
        g.outputs.push(("again".into(), first.1));
    })];
    messages.push(refused(&|g| {
        let (_, v) = g.outputs[0];
        let shape = g.node(v).shape;
        let op = TensorOp::Activation(Function::Tanh);
        let v = g.add("bent", op, &[v], shape, 0);
        g.outputs[0].1 = v;
    }));
    messages.push(refused(&|g| {
        let (_, v) = g.outputs[0];
        if let TensorOp::Linear(map) = &mut g.node_mut(v).op {
            let Some(term) = map.terms.first().cloned() else {
                return;
            };
            map.terms.push(term);
        }
    }));
    messages.push(refused(&|g| {
        let (_, v) = g.outputs[0];
        let Shape::Matrix { rows, cols } = g.node(v).shape else {
            return;
        };
        if let TensorOp::Linear(map) = &mut g.node_mut(v).op {
            map.terms[0].post = Some(Matrix::zeros(rows, cols));
        }
    }));
    snapshot("client-head__refuses", &messages.join("\n\n"));
}
