//! Rows of tables and elements of buffers, chosen by what the client computed.

use heron_schedule::client::Function;

use super::apply;
use crate::onnx::expr::{ClientOp, Exprs, Kind};
use crate::onnx::nd::{count, strides, walk, Nd};
use crate::onnx::ops::arith::{add, scale};
use crate::onnx::ops::movement::limit;
use crate::onnx::ops::{axis, shape_error, Call, Step};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::Val;

/// Rows of a constant table chosen by what the client computed; plain token ids are left to the lookup of embeddings.
pub(super) fn lookup(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let (Val::Const(table), Val::Sym(ids)) = (call.input(0)?, call.input(1)?) else {
        return Ok(None);
    };
    if call.int("axis", 0) != 0 || table.shape.is_empty() {
        return Ok(None);
    }
    let plain = ids.identity(ids.len()).is_some_and(
        |e| matches!(&exprs.get(e).kind, Kind::Input { .. } if exprs.get(e).len() == ids.len()),
    );
    let as_is = ids.mul.uniform() == Some(1.0) && ids.add.uniform() == Some(0.0);
    if plain && as_is && table.shape.len() == 2 {
        return Ok(None);
    }
    let cols = count(&table.shape[1..]);
    let mut shape = ids.shape.clone();
    shape.extend(&table.shape[1..]);
    limit(&shape, MAX_VALUE)?;
    let n = ids.len();
    let op = ClientOp::Lookup {
        table: table.data.rc().clone(),
        cols,
    };
    let rows = exprs.client(vec![n, cols], op, vec![ids.reshaped(vec![n])]);
    Ok(Some(Val::Sym(rows).reshape(shape)))
}

/// Elements of a constant tensor (a buffer of positions or token types) chosen by what the client computed.
pub(super) fn elements(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let (Val::Const(data), Val::Sym(index)) = (call.input(0)?, call.input(1)?) else {
        return Ok(None);
    };
    let (rank, own) = (data.shape.len(), strides(&data.shape));
    let mut shape = index.shape.clone();
    // Per chosen element: where it begins, and the sizes and strides of the axes that are chosen.
    let (base, chosen): (Vec<usize>, Vec<usize>) = if call.op() == "GatherElements" {
        let k = axis(call.int("axis", 0), rank, false)?;
        let fits = (0..rank).all(|i| i == k || shape.get(i).is_some_and(|&d| d <= data.shape[i]));
        if shape.len() != rank || !fits {
            return Err(shape_error("indices do not fit the data"));
        }
        let mut steps: Vec<isize> = own.iter().map(|&s| s as isize).collect();
        steps[k] = 0;
        let base = walk(&shape, &steps, 0);
        (base.into_iter().map(|b| b as usize).collect(), vec![k])
    } else {
        let depth = shape.pop().unwrap_or(0);
        if call.int("batch_dims", 0) != 0 || depth == 0 || depth > rank {
            return Ok(None);
        }
        shape.extend(&data.shape[depth..]);
        limit(&shape, MAX_VALUE)?;
        let inner = count(&data.shape[depth..]);
        (
            (0..count(&shape)).map(|i| i % inner).collect(),
            (0..depth).collect(),
        )
    };
    limit(&shape, MAX_VALUE)?;
    let n = count(&shape);
    if let Some(x) = data.uniform() {
        return Ok(Some(Val::Const(Nd::new(shape, vec![x; n], data.integer))));
    }
    let mut place = Val::Const(Nd::new(
        vec![n],
        base.iter().map(|&b| b as f64).collect(),
        true,
    ));
    let depth = chosen.len();
    let inner = n / (index.len() / depth).max(1);
    for (j, &k) in chosen.iter().enumerate() {
        let pick: Vec<u32> = (0..n)
            .map(|i| (i / inner.max(1) * depth + j) as u32)
            .collect();
        let at = Val::Sym(index.clone()).gather(vec![n], &pick);
        // Indices below 0 count from the end.
        let wrapped = apply(
            exprs,
            Function::Modulo,
            &[
                &at,
                &Val::Const(Nd::new(vec![], vec![data.shape[k] as f64], true)),
            ],
        )?;
        place = add(&place, &scale(&wrapped, own[k] as f64), exprs)?;
    }
    let op = ClientOp::Lookup {
        table: data.data.rc().clone(),
        cols: 1,
    };
    let found = exprs.client(vec![n, 1], op, vec![place.to_sym()]);
    Ok(Some(Val::Sym(found).reshape(shape)))
}
