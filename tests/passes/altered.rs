//! The checks themselves: a pass that is altered must be caught, by the values, by the text, or by the verifier.

use heron_passes::defer_normalisation::DeferNormalisation;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::pass::{Changed, Manager, Pass, PassCx, PassError};

use crate::support::{attention, difference, matrix};

/// defer-normalisation, but it loses the constant factor between the weights and A·V.
struct LosesTheFactor;

impl Pass for LosesTheFactor {
    type Ir = PolyGraph;
    const NAME: &'static str = "loses-the-factor";
    const NEEDED: bool = false;

    fn run(&self, g: &mut PolyGraph, cx: &mut PassCx) -> Result<Changed, PassError> {
        let changed = DeferNormalisation.run(g, cx)?;
        for v in g.topological() {
            if let PolyOp::Affine { scale, .. } = &mut g.node_mut(v).op {
                *scale = 1.0;
            }
        }
        Ok(changed)
    }
}

/// defer-normalisation, but it leaves a product with one operand behind.
struct LeavesAHole;

impl Pass for LeavesAHole {
    type Ir = PolyGraph;
    const NAME: &'static str = "leaves-a-hole";
    const NEEDED: bool = false;

    fn run(&self, g: &mut PolyGraph, cx: &mut PassCx) -> Result<Changed, PassError> {
        let changed = DeferNormalisation.run(g, cx)?;
        for v in g.topological() {
            if matches!(g.node(v).op, PolyOp::ScaleHeads) {
                let first = g.operands(v)[0];
                g.set_operands(v, &[first]);
            }
        }
        Ok(changed)
    }
}

/// An attention head whose weights carry a constant factor.
fn scaled_attention() -> PolyGraph {
    let (mut g, p, v) = attention();
    let scores = g.node(p).shape;
    let factor = PolyOp::Affine {
        scale: 3.0,
        shift: 0.0,
    };
    let unit = g.add("unit", factor, &[p], scores, 0);
    let o = g.add(
        "o",
        PolyOp::Values {
            heads: 2,
            weights: None,
        },
        &[unit, v],
        matrix(4, 4),
        0,
    );
    g.outputs.push(("o".into(), o));
    g
}

#[test]
fn an_altered_pass_is_caught_by_values_and_by_text() {
    let before = scaled_attention();
    let (mut right, mut wrong) = (before.clone(), before.clone());
    DeferNormalisation
        .run(&mut right, &mut PassCx::default())
        .unwrap();
    LosesTheFactor
        .run(&mut wrong, &mut PassCx::default())
        .unwrap();
    let (good, bad) = (
        difference(&before, &right, &[]),
        difference(&before, &wrong, &[]),
    );
    println!("values differ by {good:.1e} after the pass, by {bad:.1e} after the altered one");
    assert!(good < 1e-12 && bad > 1e-2);
    assert_ne!(right.to_string(), wrong.to_string());
}

#[test]
fn the_manager_names_the_pass_that_left_an_invalid_graph() {
    let mut g = scaled_attention();
    let error = Manager::new().run(&LeavesAHole, &mut g).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("leaves-a-hole"), "{text}");
    assert!(text.contains("expected 2 operands, found 1"), "{text}");
}
