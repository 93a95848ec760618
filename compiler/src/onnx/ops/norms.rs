//! Reductions, softmax and normalisations.

use super::arith::{add, mul, scale, unary};
use super::movement::transpose;
use super::{axis, malformed, shape_error, unsupported, Call, Step};
use crate::onnx::expr::{Exprs, Fun, Kind};
use crate::onnx::nd::{count, Nd};
use crate::onnx::view::Val;

pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let x = match call.optional(0) {
        Some(x) => x,
        None => return Ok(None),
    };
    let out = match call.op() {
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" => {
            reduce(call, x, exprs)?
        }
        "GlobalAveragePool" => {
            let rank = x.shape().len();
            if rank < 3 {
                return Err(shape_error("a tensor [N, C, ...] is needed"));
            }
            let axes: Vec<usize> = (2..rank).collect();
            let n: usize = count(&x.shape()[2..]);
            scale(&sum(x, &axes, true, exprs)?, 1.0 / n as f64)
        }
        "AveragePool" => average(call, x, exprs)?,
        "Softmax" => {
            let k = axis(call.int("axis", -1), x.shape().len(), false)?;
            match x {
                Val::Const(_) => {
                    return Err(unsupported("softmax of a constant", "fold constants"))
                }
                Val::Sym(_) => along(x, k, exprs, |a, l| Kind::Softmax { a, l })?,
            }
        }
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
            let rank = x.shape().len();
            let k = axis(call.int("axis", -1), rank, false)?;
            let epsilon = call.float("epsilon", 1e-5);
            let centre = call.op() == "LayerNormalization";
            if call.node.output.iter().skip(1).any(|o| !o.is_empty()) {
                return Err(unsupported(
                    "mean and deviation as outputs are not supported",
                    "compute them from the input",
                ));
            }
            if matches!(x, Val::Const(_)) {
                return Err(unsupported("normalisation of a constant", "fold constants"));
            }
            let shape = x.shape().to_vec();
            let l = count(&shape[k..]);
            let flat = x.reshape(vec![count(&shape[..k]), l]);
            let normed = along(&flat, 1, exprs, |a, l| Kind::Norm {
                a,
                l,
                epsilon,
                centre,
            })?
            .reshape(shape);
            let mut out = mul(&normed, &Val::Const(call.constant(1)?.clone()), exprs)?;
            if call.optional(2).is_some() {
                out = add(&out, &Val::Const(call.constant(2)?.clone()), exprs)?;
            }
            if out.shape() != x.shape() {
                return Err(shape_error("scale does not fit the normalised axes"));
            }
            out
        }
        "BatchNormalization" => {
            let rank = x.shape().len();
            let c = *x
                .shape()
                .get(1)
                .ok_or_else(|| shape_error("a tensor [N, C, ...] is needed"))?;
            let epsilon = call.float("epsilon", 1e-5);
            let p: Vec<&Nd> = (1..5).map(|i| call.constant(i)).collect::<Step<_>>()?;
            if p.iter().any(|t| t.data.len() != c) {
                return Err(shape_error(format!("parameters of {c} values are needed")));
            }
            let mut shape = vec![1; rank];
            shape[1] = c;
            let factor: Vec<f64> = (0..c)
                .map(|i| p[0].data[i] / (p[3].data[i] + epsilon).sqrt())
                .collect();
            let shift: Vec<f64> = (0..c)
                .map(|i| p[1].data[i] - p[2].data[i] * factor[i])
                .collect();
            let scaled = mul(x, &Val::Const(Nd::new(shape.clone(), factor, false)), exprs)?;
            add(&scaled, &Val::Const(Nd::new(shape, shift, false)), exprs)?
        }
        _ => return Ok(None),
    };
    Ok(Some(out))
}

/// Puts axis k last, flattens to [G, L], makes an expression of that shape, and puts the axis back.
pub(super) fn along(
    x: &Val,
    k: usize,
    exprs: &mut Exprs,
    make: impl Fn(crate::onnx::view::Sym, usize) -> Kind,
) -> Step<Val> {
    let rank = x.shape().len();
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != k).collect();
    perm.push(k);
    let moved = transpose(x, &perm)?;
    let l = x.shape()[k];
    let g = count(x.shape()) / l.max(1);
    let Val::Sym(a) = moved.reshape(vec![g, l]) else {
        return Err(malformed("an encrypted value is needed"));
    };
    let out = Val::Sym(exprs.push(vec![g, l], make(a, l))).reshape(moved.shape().to_vec());
    let mut back = vec![0; rank];
    for (i, &p) in perm.iter().enumerate() {
        back[p] = i;
    }
    transpose(&out, &back)
}

/// Sum over axes.
pub(super) fn sum(x: &Val, axes: &[usize], keep: bool, exprs: &mut Exprs) -> Step<Val> {
    fold(x, axes, keep, exprs, false)
}

fn fold(x: &Val, axes: &[usize], keep: bool, exprs: &mut Exprs, max: bool) -> Step<Val> {
    let rank = x.shape().len();
    let mut perm: Vec<usize> = (0..rank).filter(|i| !axes.contains(i)).collect();
    let kept: Vec<usize> = perm.iter().map(|&i| x.shape()[i]).collect();
    perm.extend(axes);
    let moved = transpose(x, &perm)?;
    let g = count(&kept);
    let l = count(x.shape()) / g.max(1);
    let shape: Vec<usize> = if keep {
        (0..rank)
            .map(|i| if axes.contains(&i) { 1 } else { x.shape()[i] })
            .collect()
    } else {
        kept
    };
    Ok(match moved.reshape(vec![g, l]) {
        Val::Const(c) => {
            let data = c
                .data
                .chunks(l.max(1))
                .map(|r| {
                    if max {
                        r.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                    } else {
                        r.iter().sum()
                    }
                })
                .collect();
            Val::Const(Nd::new(shape, data, c.integer))
        }
        Val::Sym(a) => {
            let kind = if max {
                Kind::Max { a }
            } else {
                Kind::Sum { a, l }
            };
            Val::Sym(exprs.push(vec![g], kind)).reshape(shape)
        }
    })
}

fn reduce(call: &Call, x: &Val, exprs: &mut Exprs) -> Step<Val> {
    let rank = x.shape().len();
    let Some(axes) = call.reduced_axes(rank)? else {
        return Ok(x.clone());
    };
    let keep = call.int("keepdims", 1) != 0;
    let n: usize = axes.iter().map(|&i| x.shape()[i]).product();
    if n == 0 {
        return Err(shape_error("reduces an empty axis"));
    }
    match call.op() {
        "ReduceMax" => fold(x, &axes, keep, exprs, true),
        "ReduceMean" => Ok(scale(&sum(x, &axes, keep, exprs)?, 1.0 / n as f64)),
        "ReduceL1" => {
            let a = unary(x, Fun::Abs, exprs);
            sum(&a, &axes, keep, exprs)
        }
        "ReduceSumSquare" | "ReduceL2" => {
            let squares = unary(x, Fun::Pow(2.0), exprs);
            let s = sum(&squares, &axes, keep, exprs)?;
            if call.op() == "ReduceL2" {
                return Ok(unary(&s, Fun::Pow(0.5), exprs));
            }
            Ok(s)
        }
        _ => sum(x, &axes, keep, exprs),
    }
}

/// Means over windows without padding.
fn average(call: &Call, x: &Val, exprs: &mut Exprs) -> Step<Val> {
    let refused = || {
        unsupported(
            "average pooling with padding, dilation or rounded-up sizes",
            "pool without padding",
        )
    };
    let rank = x.shape().len();
    let dims = rank.saturating_sub(2);
    let numbers = |name: &str, default: i64, len: usize| -> Step<Vec<usize>> {
        let v = call.ints(name).unwrap_or_else(|| vec![default; len]);
        let v: Vec<usize> = v.iter().filter_map(|&v| usize::try_from(v).ok()).collect();
        if v.len() == len {
            Ok(v)
        } else {
            Err(malformed(format!("{name} needs {len} numbers")))
        }
    };
    let kernel = numbers("kernel_shape", 0, dims)?;
    let stride = numbers("strides", 1, dims)?;
    let plain = numbers("pads", 0, 2 * dims)?.iter().all(|&p| p == 0)
        && numbers("dilations", 1, dims)?.iter().all(|&d| d == 1)
        && call.int("ceil_mode", 0) == 0
        && matches!(
            call.string("auto_pad").as_deref(),
            None | Some("NOTSET" | "VALID")
        );
    if !plain || dims == 0 {
        return Err(refused());
    }
    let space = &x.shape()[2..];
    let fits = |k: usize| kernel[k] > 0 && stride[k] > 0 && kernel[k] <= space[k];
    if !(0..dims).all(fits) {
        return Err(shape_error(format!(
            "windows {kernel:?} with strides {stride:?} on {space:?}"
        )));
    }
    let out: Vec<usize> = (0..dims)
        .map(|k| (space[k] - kernel[k]) / stride[k] + 1)
        .collect();
    let (channels, taps) = (count(&x.shape()[..2]), count(&kernel));
    let mut wide = x.shape()[..2].to_vec();
    wide.extend(&out);
    let shape = wide.clone();
    wide.push(taps);
    super::movement::limit(&wide, crate::onnx::proto::MAX_VALUE)?;
    let mut index = Vec::with_capacity(count(&wide));
    for c in 0..channels {
        for p in 0..count(&out) {
            for t in 0..taps {
                let (mut rp, mut rt, mut place, mut step) = (p, t, 0, 1);
                for k in (0..dims).rev() {
                    place += (rp % out[k] * stride[k] + rt % kernel[k]) * step;
                    rp /= out[k];
                    rt /= kernel[k];
                    step *= space[k];
                }
                index.push((c * count(space) + place) as u32);
            }
        }
    }
    let windows = x.gather(wide, &index);
    let total = sum(&windows, &[rank], false, exprs)?;
    Ok(scale(&total, 1.0 / taps as f64).reshape(shape))
}
