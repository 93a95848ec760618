//! range-witness: poly → poly.
//! before   output y = %y          after   output y = %y
//!                                         output witness:rsigma = %var
//! Needs    a normalised graph ([`crate::normalise`]); asked for by `--witness`, never on its own.
//! Error    none.    Depth  none: the arguments are computed anyway, and leave at whatever level they have.
//! Why      a polynomial is fitted on an interval and useless beyond it, and the server cannot see whether a value left it. The client can,
//!          after decryption: every argument of every evaluation inside [-1, 1] means that each was used where it was fitted. The first
//!          evaluation to be left is among them whatever happens after it, so none inside means none.
//!
//! The price is what the client learns: the arguments (denominators, variances, hidden values before activations) depend on the weights, so a
//! client who asks often can learn about them. Whoever compiles decides. What is not witnessed: the values that are bootstrapped
//! (they may exceed their calibrated range many times over before one wraps).

use std::collections::BTreeSet;

use crate::ir::poly::{Evaluation, PolyGraph, PolyOp};

/// What the names of witness outputs begin with; no ONNX output is called so.
pub const PREFIX: &str = "witness:";

/// Makes the argument of every evaluation an output, in units of its fitted interval: in [-1, 1] where the approximation holds.
/// Returns how many there are.
pub fn add(graph: &mut PolyGraph) -> usize {
    let results = graph.outputs.len();
    graph.output_factors.resize(results, 1.0);
    let mut seen = BTreeSet::new();
    for v in graph.topological() {
        let PolyOp::Evaluate { evaluation, .. } = &graph.node(v).op else {
            continue;
        };
        let unit = match evaluation {
            Evaluation::Reciprocal { squares, .. } => argument_size(squares),
            Evaluation::Polynomial(_) | Evaluation::InverseSqrt { .. } => 1.0,
        };
        let Some(argument) = graph.operands(v).first().copied() else {
            continue;
        };
        if seen.insert(argument) {
            let name = format!("{PREFIX}{}", graph.node(v).name);
            graph.outputs.push((name, argument));
            graph.output_factors.push(unit);
        }
    }
    seen.len()
}

/// The largest argument of a division's chain on its interval: its first square is m u² − m α²/2 for arguments in [-α, α].
pub fn argument_size(squares: &[crate::ir::poly::SquareStep]) -> f64 {
    squares.first().map_or(1.0, |s| {
        (-2.0 * s.constant / f64::from(s.multiplier))
            .sqrt()
            .min(1.0)
    })
}
