use super::*;
use crate::ir::shape::{Layer, LayerKind, Matrix, Shape};
use crate::ir::tensor::{ClientInput, Function, Linear, LinearTerm, RowMap};

/// x [2,2] → scores of x with itself → PowerSoftmax; and relu(x).
fn graph(epsilon: f64) -> TensorGraph {
    let mut g = TensorGraph::new("t");
    let layer = g.add_layer(Layer {
        name: "l".into(),
        kind: LayerKind::Other,
        onnx_nodes: vec![],
    });
    let square = Shape::Matrix { rows: 2, cols: 2 };
    let client = ClientInput::Gather {
        user_shape: vec![2, 2],
        index: vec![0, 1, 2, 3],
    };
    let input = TensorOp::Input {
        name: "x".into(),
        client,
    };
    let x = g.add("x", input, &[], square, layer);
    let weight = Matrix {
        rows: 2,
        cols: 2,
        data: vec![1.0, 0.0, 0.0, 1.0],
    };
    let term = LinearTerm {
        rows: RowMap::Identity,
        weight: weight.into(),
        post: None,
    };
    let linear = Linear {
        terms: vec![term],
        bias: None,
    };
    let k = g.add("k", TensorOp::Linear(linear), &[x], square, layer);
    let shape = Shape::Scores {
        heads: 1,
        rows: 2,
        keys: 2,
    };
    let scores = TensorOp::Scores {
        heads: 1,
        scale: 0.5,
        mask: None,
    };
    let s = g.add("s", scores, &[x, k], shape, layer);
    let soft = TensorOp::PowerSoftmax { power: 2, epsilon };
    let p = g.add("p", soft, &[s], shape, layer);
    let o = g.add("o", TensorOp::Values { heads: 1 }, &[p, k], square, layer);
    let r = g.add(
        "r",
        TensorOp::Activation(Function::Relu),
        &[o],
        square,
        layer,
    );
    g.outputs.push(("y".into(), r));
    g
}

fn input(numbers: [f64; 4]) -> BTreeMap<String, Vec<f64>> {
    BTreeMap::from([("x".to_string(), numbers.to_vec())])
}

#[test]
fn ranges_and_sites_are_what_the_inputs_give() {
    let mut g = graph(0.25);
    g.verify().unwrap();
    // Scores of the identity matrix: 0.5 on the diagonal, 0 beside it; of 2·identity: 2 and 0.
    let inputs = [input([1.0, 0.0, 0.0, 1.0]), input([2.0, 0.0, 0.0, 2.0])];
    let sites = calibrate_ranges(&mut g, &inputs).unwrap();
    g.verify_ranges().unwrap();
    let by_name = |name: &str| {
        g.topological()
            .into_iter()
            .find(|&v| g.node(v).name == name)
            .unwrap()
    };
    assert_eq!(g.node(by_name("s")).range, Some(Interval::new(0.0, 2.0)));
    // ε + Σ s²: 0.25 + 0.25 and 0.25 + 4.
    assert_eq!(sites.0[&by_name("p")], Interval::new(0.5, 4.25));
    // p = s² / that: 4 / 4.25 = 0.9411…, outward.
    assert_eq!(g.node(by_name("p")).range, Some(Interval::new(0.0, 0.942)));
    assert_eq!(sites.0[&by_name("r")], g.node(by_name("o")).range.unwrap());
}

#[test]
fn an_empty_set_a_zero_denominator_and_a_short_input_are_refused() {
    assert_eq!(
        calibrate_ranges(&mut graph(0.1), &[]),
        Err(CalibrateError::Empty)
    );
    let zero = calibrate_ranges(&mut graph(0.0), &[input([0.0; 4])]);
    assert!(matches!(zero, Err(CalibrateError::Range { lowest, .. }) if lowest == 0.0));
    let short = BTreeMap::from([("x".to_string(), vec![1.0])]);
    let short = calibrate_ranges(&mut graph(0.1), &[short]);
    assert!(matches!(
        short,
        Err(CalibrateError::Input { number: 0, .. })
    ));
}
