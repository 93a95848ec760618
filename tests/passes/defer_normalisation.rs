use heron_passes::defer_normalisation::DeferNormalisation;
use heron_passes::ir::poly::PolyOp;
use heron_passes::pass::{Pass, PassCx};

use crate::support::{attention, matrix, run_pass, snapshot};

#[test]
fn moves_the_row_factor_past_the_product_with_v() {
    let (mut g, p, v) = attention();
    let o = g.add(
        "o",
        PolyOp::Values {
            heads: 2,
            weights: None,
        },
        &[p, v],
        matrix(4, 4),
        0,
    );
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
    let o = g.add(
        "o",
        PolyOp::Values {
            heads: 2,
            weights: None,
        },
        &[n, v],
        matrix(4, 4),
        0,
    );
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
