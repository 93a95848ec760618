use heron_passes::budget::Budget;
use heron_passes::ir::tensor::{TensorGraph, TensorOp};
use heron_passes::pass::{Lower, PassCx};
use heron_passes::sites::SiteRanges;
use heron_passes::substitute_polynomials::SubstitutePolynomials;

use crate::support::{as_given, dense, diff, graph, matrix, snapshot, toy_block, Draws};

fn lower(power: u32, sites: impl Fn(SiteRanges) -> SiteRanges) -> Result<String, String> {
    let (tensor, known) = toy_block(power);
    let sites = sites(known);
    SubstitutePolynomials {
        sites: &sites,
        budget: Budget::default(),
    }
    .lower(&tensor, &mut PassCx::default())
    .map(|g| g.to_string())
    .map_err(|e| e.to_string())
}

#[test]
fn replaces_the_blocks_of_a_transformer() {
    snapshot(
        "substitute-polynomials__toy_block",
        &lower(4, |s| s).unwrap(),
    );
}

#[test]
fn builds_sixth_powers_from_squares() {
    let text = lower(6, |s| s).unwrap();
    let powers: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("%p_pow"))
        .map(str::trim)
        .collect();
    snapshot("substitute-polynomials__sixth_power", &powers.join("\n"));
}

#[test]
fn refuses_odd_powers_and_unknown_ranges_by_name() {
    let odd = lower(3, |s| s).unwrap_err();
    let unknown = lower(4, |_| SiteRanges::default()).unwrap_err();
    snapshot(
        "substitute-polynomials__refuses",
        &format!("{odd}\n\n{unknown}"),
    );
}

#[test]
fn leaves_linear_maps_as_they_are() {
    let (tensor, sites) = toy_block(4);
    let g = SubstitutePolynomials {
        sites: &sites,
        budget: Budget::default(),
    }
    .lower(&tensor, &mut PassCx::default())
    .unwrap();
    let count = tensor
        .topological()
        .iter()
        .filter(|v| matches!(tensor.node(**v).op, TensorOp::Linear(_)))
        .count();
    let named: Vec<&str> = vec!["e", "q", "k", "v", "a", "y"];
    let kept = named
        .iter()
        .filter(|n| {
            g.topological()
                .iter()
                .any(|v| g.node(*v).name == **n && g.text(*v).starts_with("linear"))
        })
        .count();
    assert_eq!((count, kept), (6, 6));
}

#[test]
fn leaves_linear_parts_alone() {
    let mut g: TensorGraph = graph("t");
    let input = TensorOp::Input {
        name: "x".into(),
        client: as_given(4),
    };
    let x = g.add("x", input, &[], matrix(2, 2), 0);
    let linear = TensorOp::Linear(dense(Draws(3).matrix(2, 2, 1.0), None));
    let y = g.add("y", linear, &[x], matrix(2, 2), 0);
    let z = g.add("z", TensorOp::Add, &[x, y], matrix(2, 2), 0);
    g.outputs.push(("z".into(), z));
    let pass = SubstitutePolynomials {
        sites: &SiteRanges::default(),
        budget: Budget::default(),
    };
    let poly = pass.lower(&g, &mut PassCx::default()).unwrap();
    // Only the word of the rung differs, and how an input is written.
    snapshot(
        "substitute-polynomials__leaves_alone",
        &diff(&g.to_string(), &poly.to_string()),
    );
    let inputs = [("x".to_string(), vec![0.1, -0.2, 0.3, 0.4])].into();
    let (a, b) = (
        g.evaluate(&inputs).unwrap(),
        poly.evaluate(&inputs).unwrap(),
    );
    let worst = a.values[&z]
        .iter()
        .zip(&b[&poly.outputs[0].1])
        .map(|(p, q)| (p - q).abs())
        .fold(0.0, f64::max);
    assert!(worst <= 1e-15, "differs by {worst:.1e}, bound 1e-15");
}
