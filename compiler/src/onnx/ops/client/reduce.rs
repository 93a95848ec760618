//! Sums and other reductions along axes, running sums, and products of matrices.

use heron_schedule::client::{Function, Reduction};

use super::apply;
use crate::onnx::expr::{ClientOp, Exprs};
use crate::onnx::nd::{broadcast, count};
use crate::onnx::ops::arith::{add, scale};
use crate::onnx::ops::movement::{limit, transpose};
use crate::onnx::ops::{axis, shape_error, Call, Step};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::{Sym, Val};

/// `axes` last, as [groups, length].
fn grouped(x: &Val, axes: &[usize]) -> Step<(Sym, Vec<usize>, usize)> {
    let rank = x.shape().len();
    let mut perm: Vec<usize> = (0..rank).filter(|i| !axes.contains(i)).collect();
    perm.extend(axes);
    let length: usize = axes.iter().map(|&i| x.shape()[i]).product();
    let moved = transpose(x, &perm)?;
    let groups = count(x.shape()) / length.max(1);
    Ok((moved.reshape(vec![groups, length]).to_sym(), perm, length))
}

pub(super) fn cumulative(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let x = call.input(0)?;
    let rank = x.shape().len();
    let k = axis(
        call.constant(1)?.uniform().unwrap_or(0.0) as i64,
        rank,
        false,
    )?;
    let (groups, perm, l) = grouped(x, &[k])?;
    let n = groups.len();
    let reverse = call.int("reverse", 0) != 0;
    let turned = |v: &Val| -> Val {
        if !reverse {
            return v.clone();
        }
        let index: Vec<u32> = (0..n)
            .map(|i| (i / l * l + (l - 1 - i % l)) as u32)
            .collect();
        v.gather(vec![n / l.max(1), l], &index)
    };
    let start = turned(&Val::Sym(groups));
    let sums = exprs.client(
        vec![n / l.max(1), l],
        ClientOp::CumulativeSum(l),
        vec![start.to_sym()],
    );
    let mut out = Val::Sym(sums);
    if call.int("exclusive", 0) != 0 {
        out = add(&out, &scale(&start, -1.0), exprs)?;
    }
    let moved: Vec<usize> = perm.iter().map(|&p| x.shape()[p]).collect();
    let mut back = vec![0; rank];
    for (i, &p) in perm.iter().enumerate() {
        back[p] = i;
    }
    transpose(&turned(&out).reshape(moved), &back)
}

pub(super) fn reduce(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let x = call.input(0)?;
    let rank = x.shape().len();
    let Some(axes) = call.reduced_axes(rank)? else {
        return Ok(x.clone());
    };
    let (groups, perm, l) = grouped(x, &axes)?;
    if l == 0 {
        return Err(shape_error("reduces an empty axis"));
    }
    let how = match call.op() {
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Product,
        _ => Reduction::Sum,
    };
    let g = groups.len() / l;
    let made = Val::Sym(exprs.client(vec![g], ClientOp::Reduce(how, l), vec![groups]));
    let kept = &perm[..rank - axes.len()];
    let shape: Vec<usize> = if call.int("keepdims", 1) != 0 {
        (0..rank)
            .map(|i| if axes.contains(&i) { 1 } else { x.shape()[i] })
            .collect()
    } else {
        kept.iter().map(|&i| x.shape()[i]).collect()
    };
    let made = made.reshape(shape);
    Ok(if call.op() == "ReduceMean" {
        scale(&made, 1.0 / l as f64)
    } else {
        made
    })
}

/// A product of matrices that the client makes (angles of rotary embeddings: frequencies times positions).
pub(super) fn product(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Option<Val>> {
    let (sa, sb) = (a.shape(), b.shape());
    let ([la @ .., m, k], [lb @ .., k2, n]) = (sa, sb) else {
        return Ok(None);
    };
    if k != k2 {
        return Err(shape_error(format!(
            "inner sizes of {sa:?} and {sb:?} differ"
        )));
    }
    let lead = broadcast(la, lb).ok_or_else(|| shape_error("operands do not broadcast"))?;
    let mut shape = lead.clone();
    shape.extend([*m, *n]);
    let mut wide = shape.clone();
    wide.push(*k);
    limit(&wide, MAX_VALUE)?;
    let mut row = la.to_vec();
    row.extend([*m, 1, *k]);
    let rank = sb.len();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    let mut col = lb.to_vec();
    col.extend([1, *n, *k]);
    let rows = a.reshape(row);
    let cols = transpose(b, &perm)?.reshape(col);
    let terms = apply(exprs, Function::Multiply, &[&rows, &cols])?;
    let g = count(&shape);
    let terms = terms.reshape(vec![g, *k]).to_sym();
    let sums = exprs.client(vec![g], ClientOp::Reduce(Reduction::Sum, *k), vec![terms]);
    Ok(Some(Val::Sym(sums).reshape(shape)))
}
