//! Operators of opset 23 that stand for whole blocks, written out: recognition sees them like any other spelling.
//!
//! Attention: softmax(scale · Q Kᵀ + mask) V, heads grouped; RotaryEmbedding: pairs of features turned by the angle of their position.

use super::arith::{add, mul, scale};
use super::contract::matmul;
use super::gathering::take;
use super::movement::{concat, limit, transpose};
use super::norms::along;
use super::{client, malformed, shape_error, unsupported, Call, Step};
use crate::onnx::expr::{Exprs, Kind};
use crate::onnx::nd::Nd;
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::Val;

pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    match call.op() {
        "Attention" => attention(call, exprs).map(Some),
        "RotaryEmbedding" => rotary(call, exprs).map(Some),
        _ => Ok(None),
    }
}

/// [B, H, S, D] of an operand that is that already or [B, S, H·D].
fn heads_first(x: &Val, heads: i64) -> Step<Val> {
    match *x.shape() {
        [_, _, _, _] => Ok(x.clone()),
        [b, s, w] => {
            let h = usize::try_from(heads).unwrap_or(0);
            if h == 0 || w % h != 0 {
                return Err(shape_error(format!("{heads} heads of {w} features")));
            }
            transpose(&x.reshape(vec![b, s, h, w / h]), &[0, 2, 1, 3])
        }
        _ => Err(shape_error(format!(
            "attention over a tensor of shape {:?}",
            x.shape()
        ))),
    }
}

fn attention(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let more = call.node.output.iter().skip(1).any(|o| !o.is_empty());
    if more || call.optional(4).is_some() || call.optional(5).is_some() {
        return Err(unsupported(
            "attention with a cache of keys and values, or with more than one output",
            "export without cache (use_cache=False)",
        ));
    }
    if call.float("softcap", 0.0) != 0.0 {
        return Err(unsupported(
            "attention with a soft cap on its scores",
            "set softcap to 0",
        ));
    }
    let flat = call.input(0)?.shape().len() == 3;
    let q = heads_first(call.input(0)?, call.int("q_num_heads", 0))?;
    let k = heads_first(call.input(1)?, call.int("kv_num_heads", 0))?;
    let v = heads_first(call.input(2)?, call.int("kv_num_heads", 0))?;
    let ([b, h, s, d], [_, hk, t, dk], [_, hv, tv, _]) = (shape4(&q)?, shape4(&k)?, shape4(&v)?);
    if hk == 0 || h % hk != 0 || hv != hk || dk != d || tv != t {
        return Err(shape_error(format!(
            "queries {:?}, keys {:?} and values {:?} do not fit",
            q.shape(),
            k.shape(),
            v.shape()
        )));
    }
    // Each group of queries shares a head of keys and values.
    let group: Vec<f64> = (0..h).map(|i| (i / (h / hk)) as f64).collect();
    let group = Nd::new(vec![h], group, true);
    let (k, v) = (take(&k, &group, 1)?, take(&v, &group, 1)?);
    let factor = match call.float("scale", 0.0) {
        0.0 => 1.0 / (d as f64).sqrt(),
        x => x,
    };
    let mut scores = scale(&matmul(&q, &transpose(&k, &[0, 1, 3, 2])?, exprs)?, factor);
    if let Some(mask) = call.optional(3) {
        let number = |x: f64| Val::Const(Nd::new(vec![], vec![x], false));
        let mask = match mask {
            // Booleans keep where they are true.
            Val::Const(c) if c.integer => {
                let low = c.data.iter().map(|&x| if x != 0.0 { 0.0 } else { -1e30 });
                Val::Const(Nd::new(c.shape.clone(), low.collect(), false))
            }
            Val::Sym(m) if client::is_truth(exprs, m) => {
                client::select(exprs, &[mask, &number(0.0), &number(-1e30)])?
            }
            other => other.clone(),
        };
        scores = add(&scores, &mask, exprs)?;
    }
    if call.int("is_causal", 0) != 0 {
        limit(&[s, t], MAX_VALUE)?;
        let low = (0..s * t).map(|i| if i % t > i / t { -1e30 } else { 0.0 });
        let causal = Val::Const(Nd::new(vec![s, t], low.collect(), false));
        scores = add(&scores, &causal, exprs)?;
    }
    if scores.shape() != [b, h, s, t] {
        return Err(shape_error("the mask does not fit the scores"));
    }
    let weights = along(&scores, 3, exprs, |a, l| Kind::Softmax { a, l })?;
    let out = matmul(&weights, &v, exprs)?;
    if !flat {
        return Ok(out);
    }
    let width = out.shape().last().copied().unwrap_or(0);
    Ok(transpose(&out, &[0, 2, 1, 3])?.reshape(vec![b, s, h * width]))
}

fn shape4(x: &Val) -> Step<[usize; 4]> {
    <[usize; 4]>::try_from(x.shape()).map_err(|_| shape_error("a tensor of rank 4 is needed"))
}

fn indices(from: usize, to: usize, step: usize) -> Nd {
    let v: Vec<f64> = (from..to).step_by(step).map(|i| i as f64).collect();
    Nd::new(vec![v.len()], v, true)
}

fn rotary(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let given = call.input(0)?.clone();
    let x = heads_first(&given, call.int("num_heads", 0))?;
    let [b, h, s, d] = shape4(&x)?;
    let dim = match call.int("rotary_embedding_dim", 0) {
        0 => d,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    if dim > d || dim % 2 != 0 {
        return Err(shape_error(format!("{dim} of {d} features are turned")));
    }
    let angle = |i: usize| -> Step<Val> {
        let table = call.input(i)?.clone();
        let rows = match call.optional(3) {
            Some(Val::Const(ids)) => take(&table, ids, 0)?,
            Some(Val::Sym(_)) => {
                return Err(unsupported(
                    "rotary positions that depend on an input",
                    "export with fixed positions",
                ))
            }
            None => table,
        };
        let n = rows.shape().iter().product::<usize>();
        if n != s * dim / 2 && n != b * s * dim / 2 {
            return Err(shape_error(format!(
                "angles {:?} for {s} positions and {dim} features",
                rows.shape()
            )));
        }
        Ok(rows.reshape(vec![n / (s * dim / 2), 1, s, dim / 2]))
    };
    let (cos, sin) = (angle(1)?, angle(2)?);
    let interleaved = call.int("interleaved", 0) != 0;
    let (first, second) = if interleaved {
        (indices(0, dim, 2), indices(1, dim, 2))
    } else {
        (indices(0, dim / 2, 1), indices(dim / 2, dim, 1))
    };
    let (x1, x2) = (take(&x, &first, 3)?, take(&x, &second, 3)?);
    let real = add(
        &mul(&cos, &x1, exprs)?,
        &scale(&mul(&sin, &x2, exprs)?, -1.0),
        exprs,
    )?;
    let imaginary = add(&mul(&sin, &x1, exprs)?, &mul(&cos, &x2, exprs)?, exprs)?;
    let turned = concat(&[real, imaginary], 3)?;
    let turned = if interleaved {
        let back = (0..dim).map(|i| (i / 2 + i % 2 * (dim / 2)) as f64);
        take(&turned, &Nd::new(vec![dim], back.collect(), true), 3)?
    } else {
        turned
    };
    let out = if dim < d {
        concat(&[turned, take(&x, &indices(dim, d, 1), 3)?], 3)?
    } else {
        turned
    };
    match given.shape().len() {
        4 => Ok(out),
        3 => Ok(transpose(&out, &[0, 2, 1, 3])?.reshape(vec![b, s, h * d])),
        _ => Err(malformed("a tensor of rank 3 or 4 is needed")),
    }
}
