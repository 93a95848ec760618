//! Products of matrices: MatMul, Gemm, Einsum, Conv, and the lookup of embeddings.

use std::rc::Rc;

use super::arith::{add, scale};
use super::movement::{concat, limit, transpose};
use super::{malformed, shape_error, unsupported, Call, Step};
use crate::onnx::expr::{Exprs, Kind};
use crate::onnx::nd::{broadcast, count, Nd};
use crate::onnx::proto::{MAX_VALUE, MAX_WEIGHT};
use crate::onnx::view::{At, Co, Sym, Val, NONE};

pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let out = match call.op() {
        "MatMul" => matmul(call.input(0)?, call.input(1)?, exprs)?,
        "Gemm" => gemm(call, exprs)?,
        "Einsum" => einsum(call, exprs)?,
        "Conv" => conv(call, exprs)?,
        "Gather" => embedding(call, exprs)?,
        _ => return Ok(None),
    };
    Ok(Some(out))
}

fn swap_last(x: &Val) -> Step<Val> {
    let rank = x.shape().len();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    transpose(x, &perm)
}

/// numpy's matmul.
pub(super) fn matmul(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Val> {
    let (sa, sb) = (a.shape().to_vec(), b.shape().to_vec());
    if sa.is_empty() || sb.is_empty() {
        return Err(shape_error("a scalar has no matrix product"));
    }
    if sa.len() == 1 {
        let out = matmul(&a.reshape(vec![1, sa[0]]), b, exprs)?;
        let mut shape = out.shape().to_vec();
        let at = if sb.len() == 1 {
            shape.len() - 1
        } else {
            shape.len() - 2
        };
        if shape.len() > at {
            shape.remove(at);
        }
        return Ok(out.reshape(shape));
    }
    if sb.len() == 1 {
        let out = matmul(a, &b.reshape(vec![sb[0], 1]), exprs)?;
        let mut shape = out.shape().to_vec();
        shape.pop();
        return Ok(out.reshape(shape));
    }
    let (m, k) = (sa[sa.len() - 2], sa[sa.len() - 1]);
    let (k2, n) = (sb[sb.len() - 2], sb[sb.len() - 1]);
    let bad = || {
        shape_error(format!(
            "inner sizes of {sa:?} and {sb:?} differ or do not broadcast"
        ))
    };
    if k != k2 {
        return Err(bad());
    }
    let lead = broadcast(&sa[..sa.len() - 2], &sb[..sb.len() - 2]).ok_or_else(bad)?;
    let mut shape = lead.clone();
    shape.extend([m, n]);
    limit(&shape, MAX_WEIGHT)?;
    match (a, b) {
        (Val::Sym(x), Val::Const(w)) if count(&sb[..sb.len() - 2]) == 1 => {
            let rows = x.len() / k.max(1);
            let flat = x.reshaped(vec![rows, k]);
            let out = exprs.push(
                vec![rows, n],
                Kind::MatConst {
                    a: flat,
                    w: w.data.clone(),
                    k,
                },
            );
            Ok(Val::Sym(out).reshape(shape))
        }
        (Val::Const(_), Val::Sym(_)) => swap_last(&matmul(&swap_last(b)?, &swap_last(a)?, exprs)?),
        _ => {
            let batch = count(&lead);
            let with = |s: &[usize]| {
                let mut t = lead.clone();
                t.extend(s);
                t
            };
            limit(&with(&[m, k]), MAX_VALUE)?;
            limit(&with(&[k, n]), MAX_VALUE)?;
            let wide = |v: &Val, s: &[usize]| -> Step<Val> { v.expand(&with(s)).ok_or_else(bad) };
            let (a, b) = (wide(a, &[m, k])?, wide(b, &[k, n])?);
            match (&a, &b) {
                (Val::Sym(x), Val::Sym(y)) => {
                    let kind = Kind::MatSym {
                        a: x.reshaped(vec![batch, m, k]),
                        b: y.reshaped(vec![batch, k, n]),
                        k,
                    };
                    Ok(Val::Sym(exprs.push(vec![batch, m, n], kind)).reshape(shape))
                }
                (Val::Const(x), Val::Const(y)) => {
                    limit(&shape, MAX_VALUE)?;
                    let mut out = vec![0.0; batch * m * n];
                    for i in 0..batch * m {
                        let base = i / m * k * n;
                        for j in 0..k {
                            let f = x.data[i * k + j];
                            for c in 0..n {
                                out[i * n + c] += f * y.data[base + j * n + c];
                            }
                        }
                    }
                    Ok(Val::Const(Nd::new(shape, out, x.integer)))
                }
                _ => {
                    // A batch of constant matrices: one product each.
                    let part = |v: &Val, i: usize, r: usize, c: usize| {
                        let index: Vec<u32> =
                            (i * r * c..(i + 1) * r * c).map(|e| e as u32).collect();
                        v.gather(vec![1, r, c], &index)
                    };
                    let parts = (0..batch)
                        .map(|i| matmul(&part(&a, i, m, k), &part(&b, i, k, n), exprs))
                        .collect::<Step<Vec<Val>>>()?;
                    Ok(concat(&parts, 0)?.reshape(shape))
                }
            }
        }
    }
}

fn gemm(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let side = |i: usize, name: &str| -> Step<Val> {
        let x = call.input(i)?;
        if x.shape().len() != 2 {
            return Err(shape_error(format!(
                "operand {i} of shape {:?} is not a matrix",
                x.shape()
            )));
        }
        if call.int(name, 0) != 0 {
            swap_last(x)
        } else {
            Ok(x.clone())
        }
    };
    let product = matmul(&side(0, "transA")?, &side(1, "transB")?, exprs)?;
    let product = scale(&product, call.float("alpha", 1.0));
    match call.optional(2) {
        Some(c) => add(&product, &scale(c, call.float("beta", 1.0)), exprs),
        None => Ok(product),
    }
}

/// Einsum without repeated labels: two operands at a time, from the left.
fn einsum(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let equation: String = call
        .string("equation")
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let refused = || {
        unsupported(
            format!("equation `{equation}` is not a product of matrices"),
            "write it with MatMul",
        )
    };
    let (left, right) = equation.split_once("->").ok_or_else(refused)?;
    let labels: Vec<Vec<char>> = left.split(',').map(|l| l.chars().collect()).collect();
    let out: Vec<char> = right.chars().collect();
    if labels.len() < 2 || labels.len() != call.inputs.len() {
        return Err(refused());
    }
    let mut now = labels[0].clone();
    let mut value = call.input(0)?.clone();
    for i in 1..labels.len() {
        let last = i + 1 == labels.len();
        let wanted = |c: &char| out.contains(c) || labels[i + 1..].iter().any(|l| l.contains(c));
        let next: Vec<char> = if last {
            out.clone()
        } else {
            let mut kept: Vec<char> = now.iter().copied().filter(wanted).collect();
            let new = labels[i].iter().copied().filter(wanted);
            for c in new {
                if !kept.contains(&c) {
                    kept.push(c);
                }
            }
            kept
        };
        let (left, right) = ((&now[..], &value), (&labels[i][..], call.input(i)?));
        value = einsum_pair(&equation, left, right, &next, exprs)?;
        now = next;
    }
    Ok(value)
}

/// Permute, multiply, permute.
fn einsum_pair(
    equation: &str,
    (la, a): (&[char], &Val),
    (lb, b): (&[char], &Val),
    lo: &[char],
    exprs: &mut Exprs,
) -> Step<Val> {
    let refused = || {
        unsupported(
            format!("equation `{equation}` is not a product of matrices"),
            "write it with MatMul",
        )
    };
    let distinct = |l: &[char]| l.iter().all(|c| l.iter().filter(|d| *d == c).count() == 1);
    let plain = |l: &[char]| distinct(l) && l.iter().all(|c| c.is_alphabetic());
    if !plain(la) || !plain(lb) || !plain(lo) {
        return Err(refused());
    }
    if la.len() != a.shape().len() || lb.len() != b.shape().len() {
        return Err(shape_error(format!(
            "`{equation}` does not fit the operands"
        )));
    }
    let pick = |f: &dyn Fn(&char) -> bool, l: &[char]| -> Vec<char> {
        l.iter().copied().filter(|c| f(c)).collect()
    };
    let batch = pick(&|c| lb.contains(c) && lo.contains(c), la);
    let rows = pick(&|c| !lb.contains(c) && lo.contains(c), la);
    let inner = pick(&|c| lb.contains(c) && !lo.contains(c), la);
    let cols = pick(&|c| !la.contains(c) && lo.contains(c), lb);
    if batch.len() + rows.len() + inner.len() != la.len()
        || batch.len() + inner.len() + cols.len() != lb.len()
        || batch.len() + rows.len() + cols.len() != lo.len()
    {
        return Err(refused());
    }
    let arrange = |x: &Val, l: &[char], order: [&[char]; 3]| -> Step<(Val, [usize; 3])> {
        let place = |c: &char| l.iter().position(|d| d == c).unwrap_or(0);
        let perm: Vec<usize> = order.iter().flat_map(|o| o.iter().map(place)).collect();
        let sizes = order.map(|o| o.iter().map(|c| x.shape()[place(c)]).product::<usize>());
        Ok((transpose(x, &perm)?.reshape(sizes.to_vec()), sizes))
    };
    let (x, sx) = arrange(a, la, [&batch, &rows, &inner])?;
    let (y, sy) = arrange(b, lb, [&batch, &inner, &cols])?;
    if sx[0] != sy[0] || sx[2] != sy[1] {
        return Err(shape_error(format!(
            "`{equation}` does not fit the operands"
        )));
    }
    let out = matmul(&x, &y, exprs)?;
    let now: Vec<char> = batch.iter().chain(&rows).chain(&cols).copied().collect();
    let size = |c: &char| {
        la.iter()
            .position(|d| d == c)
            .map(|i| a.shape()[i])
            .or_else(|| lb.iter().position(|d| d == c).map(|i| b.shape()[i]))
            .unwrap_or(1)
    };
    let out = out.reshape(now.iter().map(size).collect());
    let perm: Vec<usize> = lo
        .iter()
        .map(|c| now.iter().position(|d| d == c).unwrap_or(0))
        .collect();
    transpose(&out, &perm)
}

/// Convolution as a matrix product on gathered patches.
fn conv(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let Val::Sym(x) = call.input(0)? else {
        return Err(unsupported("convolution of a constant", "fold constants"));
    };
    let w = call.constant(1)?;
    let rank = x.shape.len();
    if rank < 3 || w.shape.len() != rank {
        return Err(shape_error(format!(
            "input {:?} and kernel {:?} do not fit",
            x.shape, w.shape
        )));
    }
    let dims = rank - 2;
    let numbers = |name: &str, len: usize, default: usize| -> Step<Vec<usize>> {
        let v = call.ints(name).unwrap_or_else(|| vec![default as i64; len]);
        let v: Vec<usize> = v.iter().filter_map(|&v| usize::try_from(v).ok()).collect();
        if v.len() != len || v.iter().any(|&n| n > 1 << 20) {
            return Err(malformed(format!("{name} needs {len} small numbers")));
        }
        Ok(v)
    };
    let stride = numbers("strides", dims, 1)?;
    let dilation = numbers("dilations", dims, 1)?;
    let mut pads = numbers("pads", 2 * dims, 0)?;
    let group = usize::try_from(call.int("group", 1)).unwrap_or(0);
    if stride.contains(&0)
        || group == 0
        || w.shape[0] % group != 0
        || x.shape[1] != w.shape[1] * group
    {
        return Err(shape_error(format!(
            "input {:?}, kernel {:?} and group {group} do not fit",
            x.shape, w.shape
        )));
    }
    let kernel = &w.shape[2..];
    let mut out = Vec::new();
    for d in 0..dims {
        let reach = dilation[d] * kernel[d].saturating_sub(1) + 1;
        let size = x.shape[2 + d];
        match call.string("auto_pad").as_deref() {
            Some("SAME_UPPER") | Some("SAME_LOWER") => {
                let n = size.div_ceil(stride[d]);
                let total = ((n - 1) * stride[d] + reach).saturating_sub(size);
                let small = total / 2;
                let upper = call.string("auto_pad").as_deref() == Some("SAME_UPPER");
                pads[d] = if upper { small } else { total - small };
                pads[dims + d] = total - pads[d];
            }
            _ => {}
        }
        let padded = size + pads[d] + pads[dims + d];
        if padded < reach || kernel[d] == 0 {
            return Err(shape_error(format!(
                "kernel {kernel:?} is larger than {:?}",
                x.shape
            )));
        }
        out.push((padded - reach) / stride[d] + 1);
    }
    limit(&out, MAX_VALUE)?;
    limit(kernel, MAX_VALUE)?;
    let (positions, taps) = (count(&out), count(kernel));
    let channels = w.shape[1];
    let filters = w.shape[0] / group;
    limit(&[positions, channels * group, taps], MAX_VALUE)?;
    let space = count(&x.shape[2..]);
    let mut parts = Vec::new();
    for g in 0..group {
        let mut at = Vec::with_capacity(positions * channels * taps);
        let mut factor = Vec::with_capacity(at.capacity());
        let mut shift = Vec::with_capacity(at.capacity());
        for p in 0..positions {
            for c in 0..channels {
                for t in 0..taps {
                    let mut place = Some(0usize);
                    let (mut rp, mut rt) = (p, t);
                    let mut step = 1;
                    for d in (0..dims).rev() {
                        let (op, kt) = (rp % out[d], rt % kernel[d]);
                        rp /= out[d];
                        rt /= kernel[d];
                        let here = (op * stride[d] + kt * dilation[d]).checked_sub(pads[d]);
                        place = match (place, here) {
                            (Some(s), Some(h)) if h < x.shape[2 + d] => Some(s + h * step),
                            _ => None,
                        };
                        step *= x.shape[2 + d];
                    }
                    match place {
                        Some(s) => {
                            let i = (g * channels + c) * space + s;
                            at.push(x.at(i));
                            factor.push(x.mul.at(i));
                            shift.push(x.add.at(i));
                        }
                        None => {
                            at.push((NONE, 0));
                            factor.push(0.0);
                            shift.push(0.0);
                        }
                    }
                }
            }
        }
        let k = channels * taps;
        let patches = Sym {
            shape: vec![positions, k],
            at: At::Map(Rc::new(at)),
            mul: Co::from_vec(factor),
            add: Co::from_vec(shift),
        };
        let rows = &w.data[g * filters * k..(g + 1) * filters * k];
        let mut weight = vec![0.0; k * filters];
        for f in 0..filters {
            for i in 0..k {
                weight[i * filters + f] = rows[f * k + i];
            }
        }
        let product = matmul(
            &Val::Sym(patches),
            &Val::Const(Nd::new(vec![k, filters], weight, false)),
            exprs,
        )?;
        parts.push(product);
    }
    let joined = concat(&parts, 1)?;
    let joined = match call.optional(2) {
        Some(b) => add(&joined, b, exprs)?,
        None => joined,
    };
    let mut shape = vec![1, w.shape[0]];
    shape.extend(&out);
    Ok(transpose(&joined, &[1, 0])?.reshape(shape))
}

/// Rows of a constant table chosen by ids that the user gives.
fn embedding(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let (table, ids) = match (call.input(0)?, call.input(1)?) {
        (Val::Const(t), Val::Sym(i)) => (t, i),
        _ => {
            return Err(unsupported(
                "chooses elements by encrypted numbers",
                "only a constant table can be looked up, by the client",
            ))
        }
    };
    let plain = ids
        .single()
        .is_some_and(|e| matches!(exprs.get(e).kind, Kind::Input { .. }))
        && ids.mul.uniform() == Some(1.0)
        && ids.add.uniform() == Some(0.0);
    if !plain || call.int("axis", 0) != 0 || table.shape.len() != 2 {
        return Err(unsupported(
            "looks up a table by numbers that are not plain token ids",
            "the client looks up embeddings: ids must be a graph input and the table a matrix",
        ));
    }
    let mut shape = ids.shape.clone();
    shape.push(table.shape[1]);
    limit(&shape, MAX_VALUE)?;
    let flat = vec![ids.len(), table.shape[1]];
    let kind = Kind::Embed {
        table: table.clone(),
        ids: ids.reshaped(vec![ids.len()]),
    };
    Ok(Val::Sym(exprs.push(flat, kind)).reshape(shape))
}
