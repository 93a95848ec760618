//! Elements chosen by constant indices.

use super::movement::limit;
use super::{axis, shape_error, Call, Step};
use crate::onnx::nd::{count, strides, walk, Nd};
use crate::onnx::proto::MAX_WEIGHT;
use crate::onnx::view::Val;

/// Gather along an axis.
pub(super) fn take(x: &Val, index: &Nd, k: usize) -> Step<Val> {
    let from = x.shape();
    let d = from[k] as i64;
    let (outer, inner) = (count(&from[..k]), count(&from[k + 1..]));
    let mut places = Vec::with_capacity(index.data.len());
    for i in index.as_ints() {
        let p = if i < 0 { i + d } else { i };
        if p < 0 || p >= d {
            return Err(shape_error(format!("index {i} of an axis of size {d}")));
        }
        places.push(p as usize);
    }
    let mut shape = from[..k].to_vec();
    shape.extend(&index.shape);
    shape.extend(&from[k + 1..]);
    limit(&shape, MAX_WEIGHT)?;
    let mut order = Vec::with_capacity(count(&shape));
    for o in 0..outer {
        for &p in &places {
            let base = (o * from[k] + p) * inner;
            order.extend((base..base + inner).map(|e| e as u32));
        }
    }
    Ok(x.gather(shape, &order))
}

pub(super) fn gather_elements(call: &Call) -> Step<Val> {
    let x = call.input(0)?;
    let index = call.constant(1)?;
    let from = x.shape();
    let k = axis(call.int("axis", 0), from.len(), false)?;
    if index.shape.len() != from.len()
        || (0..from.len()).any(|i| i != k && index.shape[i] > from[i])
    {
        return Err(shape_error("indices do not fit the data"));
    }
    let own = strides(from);
    let mut steps: Vec<isize> = own.iter().map(|&s| s as isize).collect();
    steps[k] = 0;
    let base = walk(&index.shape, &steps, 0);
    let d = from[k] as i64;
    let order = base
        .iter()
        .zip(index.as_ints())
        .map(|(&b, i)| {
            let p = if i < 0 { i + d } else { i };
            if p < 0 || p >= d {
                return Err(shape_error(format!("index {i} of an axis of size {d}")));
            }
            Ok(b + (p as usize * own[k]) as u32)
        })
        .collect::<Step<Vec<u32>>>()?;
    Ok(x.gather(index.shape.clone(), &order))
}

pub(super) fn gather_nd(call: &Call) -> Step<Val> {
    let x = call.input(0)?;
    let index = call.constant(1)?;
    let from = x.shape();
    let batch = call.int("batch_dims", 0).max(0) as usize;
    let depth = *index.shape.last().unwrap_or(&0);
    if batch >= index.shape.len() || batch + depth > from.len() || depth == 0 {
        return Err(shape_error("indices do not fit the data"));
    }
    let own = strides(from);
    let rows = count(&index.shape[..index.shape.len() - 1]);
    let per_batch = rows / count(&index.shape[..batch]).max(1);
    let inner = count(&from[batch + depth..]);
    let batch_stride = count(&from[batch..]);
    let values = index.as_ints();
    let mut order = Vec::with_capacity(rows * inner);
    for r in 0..rows {
        let mut base = (r / per_batch.max(1)) * batch_stride;
        for j in 0..depth {
            let d = from[batch + j] as i64;
            let i = values[r * depth + j];
            let p = if i < 0 { i + d } else { i };
            if p < 0 || p >= d {
                return Err(shape_error(format!("index {i} of an axis of size {d}")));
            }
            base += p as usize * own[batch + j];
        }
        order.extend((base..base + inner).map(|e| e as u32));
    }
    if order.iter().any(|&e| e as usize >= count(from)) {
        return Err(shape_error("indices do not fit the data"));
    }
    let mut shape = index.shape[..index.shape.len() - 1].to_vec();
    shape.extend(&from[batch + depth..]);
    Ok(x.gather(shape, &order))
}
