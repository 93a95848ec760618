//! The checks themselves: a pass that is altered must be caught, by the values, by the text, or by the verifier.

use heron_passes::defer_normalisation::DeferNormalisation;
use heron_passes::ir::poly::{PolyGraph, PolyOp};
use heron_passes::ir::shape::Shape;
use heron_passes::pass::{Changed, Manager, Pass, PassCx, PassError};

use crate::support::{difference, graph, matrix, poly_input};

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

fn attention() -> PolyGraph {
    let mut g: PolyGraph = graph("t");
    let q = poly_input(&mut g, "q", 4, 4);
    let k = poly_input(&mut g, "k", 4, 4);
    let v = poly_input(&mut g, "v", 4, 4);
    let scores = Shape::Scores {
        heads: 2,
        rows: 4,
        keys: 4,
    };
    let n = g.add(
        "n",
        PolyOp::Scores {
            heads: 2,
            mask: None,
        },
        &[q, k],
        scores,
        0,
    );
    let sum = PolyOp::KeySum {
        scale: 0.5,
        shift: 1.0,
    };
    let r = g.add("r", sum, &[n], Shape::PerHead { heads: 2, rows: 4 }, 0);
    let p = g.add("p", PolyOp::ScaleHeads, &[n, r], scores, 0);
    let unit = PolyOp::Affine {
        scale: 3.0,
        shift: 0.0,
    };
    let unit = g.add("unit", unit, &[p], scores, 0);
    let o = g.add(
        "o",
        PolyOp::Values { heads: 2 },
        &[unit, v],
        matrix(4, 4),
        0,
    );
    g.outputs.push(("o".into(), o));
    g
}

#[test]
fn an_altered_pass_is_caught_by_values_and_by_text() {
    let before = attention();
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
    let mut g = attention();
    let error = Manager::new().run(&LeavesAHole, &mut g).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("leaves-a-hole"), "{text}");
    assert!(text.contains("expected 2 operands, found 1"), "{text}");
}
