//! range-witness: what it adds, and what it leaves alone.

use heron_passes::budget::Budget;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::pass::Lower;
use heron_passes::substitute_polynomials::SubstitutePolynomials;
use heron_passes::witness;

use crate::support::{diff, draw_inputs, graph, poly_input, snapshot, toy_block, Draws};

#[test]
fn arguments_of_approximations_become_outputs_in_units_of_their_interval() {
    let (tensor, sites) = toy_block(4);
    let pass = SubstitutePolynomials {
        sites: &sites,
        budget: Budget::default(),
    };
    let before = pass.lower(&tensor, &mut Default::default()).unwrap();
    let mut after = before.clone();
    assert_eq!(witness::add(&mut after), 3);
    after.verify().unwrap();
    let lines = diff(&before.to_string(), &after.to_string());
    snapshot("range-witness__toy_block", &lines);
    // Calibrated inputs keep every argument within its interval; those ten times as large do not.
    let mut draws = Draws(5);
    let inputs = draw_inputs(&after, &mut draws);
    for (scale, inside) in [(1.0, true), (10.0, false)] {
        let scaled = inputs
            .iter()
            .map(|(n, x)| (n.clone(), x.iter().map(|v| v * scale).collect()))
            .collect();
        let values = after.evaluate(&scaled).unwrap();
        let worst = after.outputs.iter().zip(&after.output_factors).skip(1);
        let worst = worst
            .flat_map(|((_, v), f)| values[v].iter().map(move |x| (x / f).abs()))
            .fold(0.0, f64::max);
        println!("inputs times {scale}: largest argument {worst:.3}");
        assert_eq!(worst <= 1.0, inside);
    }
}

#[test]
fn a_graph_without_approximations_has_nothing_to_witness() {
    let mut g: PolyGraph = graph("t");
    let x = poly_input(&mut g, "x", 2, 2);
    let shape = g.node(x).shape;
    let y = g.add("y", PolyOp::Multiply, &[x, x], shape, 0);
    g.outputs.push(("y".into(), y));
    let before = g.to_string();
    assert_eq!(witness::add(&mut g), 0);
    assert_eq!(g.to_string(), before);
}
