use heron_passes::ir::tensor::TensorOp;
use heron_passes::pass::Lower;
use heron_passes::pass::PassCx;
use heron_passes::sites::SiteRanges;
use heron_passes::substitute_polynomials::{Budget, SubstitutePolynomials};

use crate::support::{snapshot, toy_block};

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
