//! Values kept or left out by what the client knows: choices, triangles.

use heron_schedule::client::{Function, REMOVED};

use super::{apply, truth};
use crate::onnx::expr::Exprs;
use crate::onnx::nd::{broadcast, Nd};
use crate::onnx::ops::arith::{add, mul, together};
use crate::onnx::ops::{shape_error, unsupported, Call, Step};
use crate::onnx::view::{Co, Val};

/// A choice by what the client knows. Where a branch is encrypted, products with 0 and 1; a constant far below every score on the other
/// side is a mask, added like any other.
pub(super) fn choose(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let Val::Sym(c) = call.input(0)? else {
        return Ok(None);
    };
    if !exprs.given_view(c) {
        return Err(unsupported(
            "chooses by an encrypted condition",
            "choose by what the client knows (ids, masks), or after decryption",
        ));
    }
    let (a, b) = (call.input(1)?, call.input(2)?);
    let known = |v: &Val| match v {
        Val::Const(_) => true,
        Val::Sym(s) => exprs.client_view(s),
    };
    if known(a) && known(b) {
        return Ok(Some(apply(
            exprs,
            Function::Select,
            &[call.input(0)?, a, b],
        )?));
    }
    let yes = Val::Sym(truth(exprs, c));
    let no = apply(exprs, Function::Not, &[&yes])?;
    let mut total: Option<Val> = None;
    for (x, mine, other) in [(a, &yes, b), (b, &no, a)] {
        let far = |v: &Val| matches!(v, Val::Const(k) if k.data.iter().all(|&x| x < REMOVED));
        if far(other) {
            let zero = Val::Const(Nd::new(vec![], vec![0.0], false));
            let low = Val::Const(Nd::new(vec![], vec![-1e30], false));
            let mask = apply(exprs, Function::Select, &[mine, &zero, &low])?;
            let (x, mask) = together(x, &mask)?;
            // The broadcast of the branch that is left out counts too.
            let shape = broadcast(x.shape(), other.shape())
                .ok_or_else(|| shape_error("operands do not broadcast"))?;
            let bad = || shape_error("operands do not broadcast");
            let (x, mask) = (
                x.expand(&shape).ok_or_else(bad)?,
                mask.expand(&shape).ok_or_else(bad)?,
            );
            return Ok(Some(add(&x, &mask, exprs)?));
        }
        let part = mul(x, mine, exprs)?;
        total = Some(match total {
            None => part,
            Some(t) => add(&t, &part, exprs)?,
        });
    }
    Ok(total)
}

/// The upper or lower triangle of the last two axes, of whatever value.
pub(super) fn triangle(call: &Call) -> Step<Val> {
    let Val::Sym(s) = call.input(0)? else {
        return Err(unsupported(
            "a triangle that depends on encrypted values",
            "fix the diagonal",
        ));
    };
    let k = match call.optional(1) {
        Some(_) => call.constant(1)?.uniform().unwrap_or(0.0) as i64,
        None => 0,
    };
    let upper = call.int("upper", 1) != 0;
    let [.., rows, cols] = s.shape[..] else {
        return Err(shape_error("a matrix is needed"));
    };
    let keep = (0..s.len()).map(|i| {
        let (r, c) = ((i / cols % rows) as i64, (i % cols) as i64);
        f64::from(u8::from(if upper { c >= r + k } else { c <= r + k }))
    });
    Ok(s.times(&Co::from_vec(keep.collect())).into_val())
}
