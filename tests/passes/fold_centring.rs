use heron_passes::budget::Budget;
use heron_passes::fold_centring::FoldCentring;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::ir::tensor::TensorGraph;
use heron_passes::last_position::LastPosition;
use heron_passes::pass::Lower;
use heron_passes::pass::Pass;
use heron_passes::pass::PassCx;
use heron_passes::sites::SiteRanges;
use heron_passes::substitute_polynomials::SubstitutePolynomials;

use crate::support::{run_pass, snapshot, toy_block};

fn lowered() -> PolyGraph {
    let (tensor, sites) = toy_block(4);
    lower(&tensor, &sites)
}

fn lower(tensor: &TensorGraph, sites: &SiteRanges) -> PolyGraph {
    SubstitutePolynomials {
        sites,
        budget: Budget::default(),
    }
    .lower(tensor, &mut PassCx::default())
    .unwrap()
}

#[test]
fn centres_the_writers_of_a_residual_stream() {
    snapshot(
        "fold-centring__residual_stream",
        &run_pass(&FoldCentring, &lowered()),
    );
}

#[test]
fn centres_the_writers_of_a_stream_that_is_cut_to_its_last_position() {
    let (mut tensor, sites) = toy_block(4);
    LastPosition
        .run(&mut tensor, &mut PassCx::default())
        .unwrap();
    snapshot(
        "fold-centring__last_position",
        &run_pass(&FoldCentring, &lower(&tensor, &sites)),
    );
}

#[test]
fn leaves_a_stream_that_is_also_an_output_alone() {
    let mut g = lowered();
    let r = g
        .topological()
        .into_iter()
        .find(|v| g.node(*v).name == "r")
        .unwrap();
    g.outputs.push(("r".into(), r));
    let e = g
        .topological()
        .into_iter()
        .find(|v| g.node(*v).name == "e")
        .unwrap();
    g.outputs.push(("e".into(), e));
    snapshot("fold-centring__leaves_alone", &run_pass(&FoldCentring, &g));
}
