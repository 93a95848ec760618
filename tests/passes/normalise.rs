use heron_passes::budget::Budget;
use heron_passes::ir::poly::{Evaluation, PolyOp};
use heron_passes::ir::shape::Interval;
use heron_passes::normalise::{annotate_ranges, normalise};
use heron_passes::pass::{Ir, Lower, Manager};
use heron_passes::to_poly::{to_poly, Named};

use crate::support::{
    difference, draw_inputs, graph, matrix, poly_input, snapshot, toy_block, Draws,
};

/// Twenty drawn inputs of the toy block and the outputs of an exact f64 model made of very fine approximations.
fn calibration() -> (Vec<Named>, Vec<Named>) {
    let (tensor, sites) = toy_block(4);
    let budget = heron_passes::budget::Budget::default().tightened(1e4);
    let pass = heron_passes::substitute_polynomials::SubstitutePolynomials {
        sites: &sites,
        budget,
    };
    let fine = pass.lower(&tensor, &mut Default::default()).unwrap();
    let mut draws = Draws(11);
    let inputs: Vec<Named> = (0..20).map(|_| draw_inputs(&fine, &mut draws)).collect();
    let outputs = inputs
        .iter()
        .map(|i| {
            let values = fine.evaluate(i).unwrap();
            fine.outputs
                .iter()
                .map(|(name, v)| (name.clone(), values[v].clone()))
                .collect()
        })
        .collect();
    (inputs, outputs)
}

#[test]
fn every_argument_of_a_bootstrap_fits_and_the_error_keeps_the_budget() {
    let (tensor, sites) = toy_block(4);
    let (inputs, outputs) = calibration();
    let model = to_poly(
        &tensor,
        &sites,
        &inputs,
        &outputs,
        Budget::default(),
        1e-2,
        &mut Manager::new(),
    )
    .unwrap();
    println!(
        "error {:.2e} of the tolerance 1e-2, budget {:?}",
        model.error, model.budget
    );
    assert!(
        model.error > 0.0 && model.error <= 0.25e-2,
        "{}",
        model.error
    );
    for v in model.graph.topological() {
        let node = model.graph.node(v);
        let query = model
            .graph
            .users(v)
            .iter()
            .any(|u| matches!(model.graph.node(*u).op, PolyOp::Scores { .. }));
        let range = node.range.unwrap();
        let inverse = matches!(
            &node.op,
            PolyOp::Evaluate {
                evaluation: Evaluation::Reciprocal { .. },
                ..
            }
        );
        assert!(
            query || range.magnitude() <= if inverse { 32.0 } else { 1.0 + 1e-9 },
            "%{} in {range}",
            node.name
        );
    }
    snapshot("normalise__toy_block", &model.graph.to_string());
}

#[test]
fn values_stay_equal_up_to_their_factors() {
    let mut draws = Draws(5);
    let mut g = graph("t");
    let x = poly_input(&mut g, "x", 4, 4);
    let big = crate::support::dense(draws.matrix(4, 4, 9.0), Some(draws.matrix(1, 4, 5.0)));
    let y = g.add("y", PolyOp::Linear(big), &[x], matrix(4, 4), 0);
    let s = g.add("s", PolyOp::Multiply, &[y, y], matrix(4, 4), 0);
    let z = g.add("z", PolyOp::Add, &[y, s], matrix(4, 4), 0);
    g.outputs.push(("z".into(), z));
    let before = g.clone();
    let inputs: Vec<Named> = (0..8).map(|_| draw_inputs(&g, &mut draws)).collect();
    annotate_ranges(&mut g, &inputs).unwrap();
    let factors: Vec<f64> = normalise(&mut g).unwrap().iter().map(|f| f.0).collect();
    g.verify().unwrap();
    let worst = difference(&before, &g, &factors);
    assert!(worst < 1e-9, "{worst:.1e}");
    snapshot("normalise__sum_of_a_product", &g.to_string());
}

#[test]
fn refuses_a_graph_without_ranges() {
    let mut g = graph("t");
    let x = poly_input(&mut g, "x", 2, 2);
    g.outputs.push(("x".into(), x));
    snapshot(
        "normalise__refuses",
        &normalise(&mut g).unwrap_err().to_string(),
    );
}

#[test]
fn leaves_a_graph_alone_whose_values_fill_their_interval() {
    let mut g = graph("t");
    let x = poly_input(&mut g, "x", 2, 2);
    let weight = Draws(3).matrix(2, 2, 1.0);
    let y = PolyOp::Linear(crate::support::dense(weight, None));
    let y = g.add("y", y, &[x], matrix(2, 2), 0);
    g.outputs.push(("y".into(), y));
    for v in [x, y] {
        g.node_mut(v).range = Some(Interval::new(-0.9, 0.5));
    }
    let before = g.full();
    let factors = normalise(&mut g).unwrap();
    assert_eq!(factors[0].0, 1.0);
    assert_eq!(g.full(), before);
}
