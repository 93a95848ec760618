//! Data movement: every operator becomes a list of element numbers, the same for constants and encrypted values.

use std::rc::Rc;

use super::gathering::{gather_elements, gather_nd, take};
use super::{axis, malformed, shape_error, Call, Step};
use crate::onnx::error::{ErrorKind, Obstacle};
use crate::onnx::nd::{count, strides, walk, Nd};
use crate::onnx::proto::{MAX_VALUE, MAX_WEIGHT};
use crate::onnx::view::{At, Co, Sym, Val};

/// Refuses values that would not fit memory.
pub(super) fn limit(shape: &[usize], most: usize) -> Step<()> {
    let n = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d).filter(|&n| n <= most));
    match n {
        Some(_) => Ok(()),
        None => Err(Obstacle::new(
            ErrorKind::Size,
            "",
            format!("a value of shape {shape:?} has more than {most} elements"),
            "reduce the shapes",
        )),
    }
}

fn to_shape(values: &[i64]) -> Step<Vec<usize>> {
    values
        .iter()
        .map(|&v| usize::try_from(v).map_err(|_| shape_error(format!("dimension {v}"))))
        .collect()
}

pub(super) fn run(call: &Call) -> Step<Option<Vec<Val>>> {
    let one = |v: Val| Ok(Some(vec![v]));
    match call.op() {
        "Identity" | "Cast" | "CastLike" => {
            let v = call.input(0)?.clone();
            if call.op() == "Cast" {
                return one(cast(v, call.int("to", 1)));
            }
            one(v)
        }
        "Dropout" => {
            let v = call.input(0)?.clone();
            let mask = Val::Const(Nd::new(
                v.shape().to_vec(),
                vec![1.0; count(v.shape())],
                true,
            ));
            Ok(Some(vec![v, mask]))
        }
        "Reshape" => {
            let x = call.input(0)?;
            let want = call.constant(1)?.as_ints();
            one(x.reshape(reshaped(x.shape(), &want, call.int("allowzero", 0) != 0)?))
        }
        "Flatten" => {
            let x = call.input(0)?;
            let k = axis(call.int("axis", 1), x.shape().len() + 1, false)?;
            let rows = count(&x.shape()[..k]);
            let cols = count(&x.shape()[k..]);
            one(x.reshape(vec![rows, cols]))
        }
        "Squeeze" => {
            let x = call.input(0)?;
            let rank = x.shape().len();
            let drop: Vec<usize> = match call.axes(1)? {
                Some(a) => a
                    .iter()
                    .map(|&a| axis(a, rank, false))
                    .collect::<Step<_>>()?,
                None => (0..rank).filter(|&i| x.shape()[i] == 1).collect(),
            };
            if let Some(&bad) = drop.iter().find(|&&i| x.shape()[i] != 1) {
                return Err(shape_error(format!(
                    "axis {bad} of shape {:?} cannot be squeezed",
                    x.shape()
                )));
            }
            let shape = (0..rank)
                .filter(|i| !drop.contains(i))
                .map(|i| x.shape()[i])
                .collect();
            one(x.reshape(shape))
        }
        "Unsqueeze" => {
            let x = call.input(0)?;
            let axes = call.axes(1)?.ok_or_else(|| malformed("axes are missing"))?;
            let rank = x.shape().len() + axes.len();
            let new: Vec<usize> = axes
                .iter()
                .map(|&a| axis(a, rank, false))
                .collect::<Step<_>>()?;
            let mut old = x.shape().iter();
            let shape = (0..rank)
                .map(|i| {
                    if new.contains(&i) {
                        Ok(1)
                    } else {
                        old.next()
                            .copied()
                            .ok_or_else(|| malformed("an axis is named twice"))
                    }
                })
                .collect::<Step<Vec<usize>>>()?;
            one(x.reshape(shape))
        }
        "Transpose" => {
            let x = call.input(0)?;
            let rank = x.shape().len();
            let perm: Vec<usize> = match call.ints("perm") {
                Some(p) => p
                    .iter()
                    .map(|&a| axis(a, rank, false))
                    .collect::<Step<_>>()?,
                None => (0..rank).rev().collect(),
            };
            one(transpose(x, &perm)?)
        }
        "Expand" => {
            let x = call.input(0)?;
            let want = to_shape(&call.constant(1)?.as_ints())?;
            let shape = crate::onnx::nd::broadcast(x.shape(), &want).ok_or_else(|| {
                shape_error(format!("{:?} does not expand to {want:?}", x.shape()))
            })?;
            limit(&shape, MAX_VALUE)?;
            one(x
                .expand(&shape)
                .ok_or_else(|| shape_error("cannot be expanded"))?)
        }
        "Tile" => {
            let x = call.input(0)?;
            let times = to_shape(&call.constant(1)?.as_ints())?;
            if times.len() != x.shape().len() {
                return Err(shape_error("repeats do not match the rank"));
            }
            let shape: Vec<usize> = x
                .shape()
                .iter()
                .zip(&times)
                .map(|(d, &t)| d.saturating_mul(t))
                .collect();
            limit(&shape, MAX_VALUE)?;
            let mut v = x.clone();
            for (k, &t) in times.iter().enumerate() {
                if t != 1 {
                    v = concat(&vec![v; t], k)?;
                }
            }
            one(v)
        }
        "Slice" => one(slice(call)?),
        "Split" => split(call).map(Some),
        "Concat" => {
            let parts: Vec<Val> = (0..call.inputs.len())
                .map(|i| call.input(i).cloned())
                .collect::<Step<_>>()?;
            let rank = parts.first().map_or(0, |p| p.shape().len());
            one(concat(&parts, axis(call.int("axis", 0), rank, false)?)?)
        }
        "Gather" if matches!(call.input(1)?, Val::Const(_)) => {
            let x = call.input(0)?;
            let k = axis(call.int("axis", 0), x.shape().len(), false)?;
            one(take(x, call.constant(1)?, k)?)
        }
        "GatherElements" => one(gather_elements(call)?),
        "GatherND" => one(gather_nd(call)?),
        "Pad" => one(pad(call)?),
        "Where" => {
            let c = call.constant(0)?.clone();
            let (a, b) = (call.input(1)?, call.input(2)?);
            let wide = |x: &[usize], y: &[usize]| {
                crate::onnx::nd::broadcast(x, y)
                    .ok_or_else(|| shape_error(format!("{x:?} and {y:?} do not broadcast")))
            };
            let shape = wide(&wide(&c.shape, a.shape())?, b.shape())?;
            limit(&shape, MAX_VALUE)?;
            let bad = || shape_error("operands do not broadcast");
            let (a, b) = (
                a.expand(&shape).ok_or_else(bad)?,
                b.expand(&shape).ok_or_else(bad)?,
            );
            let c = Val::Const(c).expand(&shape).ok_or_else(bad)?;
            let n = count(&shape);
            let both = concat(&[a.reshape(vec![n]), b.reshape(vec![n])], 0)?;
            let Val::Const(c) = c else { return Err(bad()) };
            let index: Vec<u32> = (0..n)
                .map(|i| if c.data[i] != 0.0 { i } else { n + i } as u32)
                .collect();
            one(both.gather(shape, &index))
        }
        _ => Ok(None),
    }
}

fn cast(v: Val, to: i64) -> Val {
    match v {
        Val::Const(c) => {
            let integer = !matches!(to, 1 | 10 | 11 | 16);
            let data = if integer && !c.integer {
                let truth = to == 9;
                c.data
                    .iter()
                    .map(|&x| {
                        if truth {
                            f64::from(x != 0.0)
                        } else {
                            x.trunc()
                        }
                    })
                    .collect()
            } else {
                c.data.to_vec()
            };
            Val::Const(Nd::new(c.shape, data, integer))
        }
        s => s,
    }
}

fn reshaped(from: &[usize], want: &[i64], zero_is_zero: bool) -> Step<Vec<usize>> {
    let bad = || shape_error(format!("{from:?} cannot be reshaped to {want:?}"));
    let mut shape = Vec::new();
    let mut free = None;
    for (i, &w) in want.iter().enumerate() {
        match w {
            -1 if free.is_none() => {
                free = Some(i);
                shape.push(1);
            }
            0 if !zero_is_zero => shape.push(*from.get(i).ok_or_else(bad)?),
            w => shape.push(usize::try_from(w).map_err(|_| bad())?),
        }
    }
    limit(&shape, MAX_WEIGHT)?;
    let (n, m) = (count(from), count(&shape));
    if let Some(i) = free {
        if m == 0 || n % m != 0 {
            return Err(bad());
        }
        shape[i] = n / m;
    } else if n != m {
        return Err(bad());
    }
    Ok(shape)
}

pub(super) fn transpose(x: &Val, perm: &[usize]) -> Step<Val> {
    let from = x.shape();
    let mut seen = vec![false; from.len()];
    for &p in perm {
        if p >= from.len() || std::mem::replace(&mut seen[p], true) {
            return Err(shape_error(format!("{perm:?} is not a permutation")));
        }
    }
    if perm.len() != from.len() {
        return Err(shape_error(format!(
            "permutation {perm:?} of a tensor of rank {}",
            from.len()
        )));
    }
    let own = strides(from);
    let shape: Vec<usize> = perm.iter().map(|&p| from[p]).collect();
    // Moving axes of size 1 moves nothing.
    let real: Vec<usize> = perm.iter().copied().filter(|&p| from[p] != 1).collect();
    if real.windows(2).all(|w| w[0] < w[1]) {
        return Ok(x.reshape(shape));
    }
    let steps: Vec<isize> = perm.iter().map(|&p| own[p] as isize).collect();
    Ok(x.gather(shape.clone(), &walk(&shape, &steps, 0)))
}

pub(super) fn concat(parts: &[Val], axis: usize) -> Step<Val> {
    let first = parts
        .first()
        .ok_or_else(|| malformed("nothing to concatenate"))?;
    let mut shape = first.shape().to_vec();
    if axis >= shape.len() {
        return Err(shape_error(format!("axis {axis} of rank {}", shape.len())));
    }
    shape[axis] = 0;
    for p in parts {
        let fits = p.shape().len() == shape.len()
            && (0..shape.len()).all(|i| i == axis || p.shape()[i] == shape[i]);
        if !fits {
            return Err(shape_error(format!(
                "{:?} and {:?} cannot be joined along axis {axis}",
                first.shape(),
                p.shape()
            )));
        }
        shape[axis] += p.shape()[axis];
    }
    limit(&shape, MAX_WEIGHT)?;
    let outer = count(&shape[..axis]);
    let width = |p: &Val| count(&p.shape()[axis..]);
    // (part, element) in output order.
    let mut order = Vec::with_capacity(count(&shape));
    for o in 0..outer {
        for (k, p) in parts.iter().enumerate() {
            let w = width(p);
            order.extend((0..w).map(|i| (k, o * w + i)));
        }
    }
    if parts.iter().all(|p| matches!(p, Val::Const(_))) {
        let data: Vec<&Nd> = parts
            .iter()
            .filter_map(|p| match p {
                Val::Const(c) => Some(c),
                Val::Sym(_) => None,
            })
            .collect();
        return Ok(Val::Const(Nd::new(
            shape,
            order.iter().map(|&(k, i)| data[k].data[i]).collect(),
            data[0].integer,
        )));
    }
    let views: Vec<Sym> = parts.iter().map(Val::to_sym).collect();
    Ok(Sym {
        shape,
        at: At::Map(Rc::new(
            order.iter().map(|&(k, i)| views[k].at(i)).collect(),
        )),
        mul: Co::from_vec(order.iter().map(|&(k, i)| views[k].mul.at(i)).collect()),
        add: Co::from_vec(order.iter().map(|&(k, i)| views[k].add.at(i)).collect()),
    }
    .into_val())
}

fn slice(call: &Call) -> Step<Val> {
    let x = call.input(0)?;
    let from = x.shape();
    let starts = call.constant(1)?.as_ints();
    let ends = call.constant(2)?.as_ints();
    let axes = match call.optional(3) {
        Some(_) => call.constant(3)?.as_ints(),
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match call.optional(4) {
        Some(_) => call.constant(4)?.as_ints(),
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(malformed("starts, ends, axes and steps differ in length"));
    }
    let own = strides(from);
    let mut shape = from.to_vec();
    let mut walk_steps: Vec<isize> = own.iter().map(|&s| s as isize).collect();
    let mut offset = 0isize;
    for i in 0..starts.len() {
        let k = axis(axes[i], from.len(), false)?;
        let d = from[k] as i64;
        let step = steps[i];
        if step == 0 {
            return Err(malformed("a step of 0"));
        }
        let wrap = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
        let (lo, hi) = if step > 0 { (0, d) } else { (-1, d - 1) };
        let start = wrap(starts[i]).clamp(lo.max(0), hi.max(0));
        let end = if step < 0 && ends[i] < -d {
            -1
        } else {
            wrap(ends[i]).clamp(lo, hi)
        };
        let span = if step > 0 { end - start } else { start - end };
        let size = span.max(0) as u64;
        shape[k] = size.div_ceil(step.unsigned_abs()) as usize;
        offset += start as isize * own[k] as isize;
        walk_steps[k] = own[k] as isize * step as isize;
    }
    if count(&shape) == 0 {
        return Ok(Val::Const(Nd::new(shape, Vec::new(), true)));
    }
    Ok(x.gather(shape.clone(), &walk(&shape, &walk_steps, offset)))
}

fn split(call: &Call) -> Step<Vec<Val>> {
    let x = call.input(0)?;
    let k = axis(call.int("axis", 0), x.shape().len(), false)?;
    let d = x.shape()[k];
    let sizes: Vec<usize> = if call.optional(1).is_some() {
        to_shape(&call.constant(1)?.as_ints())?
    } else {
        let n = call.node.output.len().max(1);
        let size = d.div_ceil(n);
        (0..n)
            .map(|i| size.min(d.saturating_sub(i * size)))
            .collect()
    };
    if sizes.iter().try_fold(0usize, |a, &s| a.checked_add(s)) != Some(d) {
        return Err(shape_error(format!(
            "parts {sizes:?} of an axis of size {d}"
        )));
    }
    let mut from = 0;
    let mut out = Vec::new();
    for s in sizes {
        let index: Vec<f64> = (from..from + s).map(|i| i as f64).collect();
        out.push(take(x, &Nd::new(vec![s], index, true), k)?);
        from += s;
    }
    Ok(out)
}

fn pad(call: &Call) -> Step<Val> {
    let x = call.input(0)?;
    let pads = call.constant(1)?.as_ints();
    if call.string("mode").is_some_and(|m| m != "constant") {
        return Err(super::unsupported(
            "only constant padding is supported",
            "pad with a constant",
        ));
    }
    let value = match call.optional(2) {
        Some(_) => call.constant(2)?.uniform().unwrap_or(0.0),
        None => 0.0,
    };
    let rank = x.shape().len();
    let axes: Vec<usize> = match call.optional(3) {
        Some(_) => call
            .constant(3)?
            .as_ints()
            .iter()
            .map(|&a| axis(a, rank, false))
            .collect::<Step<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(malformed("two paddings per axis are needed"));
    }
    let mut v = x.clone();
    for (i, &k) in axes.iter().enumerate() {
        for (n, front) in [(pads[i], true), (pads[axes.len() + i], false)] {
            let n = usize::try_from(n)
                .map_err(|_| super::unsupported("negative padding", "use Slice"))?;
            if n == 0 {
                continue;
            }
            let mut shape = v.shape().to_vec();
            shape[k] = n;
            limit(&shape, MAX_VALUE)?;
            let fill = Val::Const(Nd::new(shape.clone(), vec![value; count(&shape)], false));
            v = if front {
                concat(&[fill, v], k)?
            } else {
                concat(&[v, fill], k)?
            };
        }
    }
    Ok(v)
}
