//! Elementwise arithmetic. Constant factors and summands go into the view; the rest becomes expressions.

use super::fixed::binary;
use super::movement::limit;
use super::{shape_error, unsupported, Call, Step};
use crate::onnx::expr::{Exprs, Fun};
use crate::onnx::nd::{broadcast, Nd};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::{Co, Sym, Val};

pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let out = match call.op() {
        "Add" => add(call.input(0)?, call.input(1)?, exprs)?,
        "Sum" => {
            let mut v = call.input(0)?.clone();
            for i in 1..call.inputs.len() {
                v = add(&v, call.input(i)?, exprs)?;
            }
            v
        }
        "Sub" => add(call.input(0)?, &scale(call.input(1)?, -1.0), exprs)?,
        "Neg" => scale(call.input(0)?, -1.0),
        "Mul" => mul(call.input(0)?, call.input(1)?, exprs)?,
        "Div" => div(call.input(0)?, call.input(1)?, exprs)?,
        "Reciprocal" => unary(call.input(0)?, Fun::Pow(-1.0), exprs),
        "Sqrt" => unary(call.input(0)?, Fun::Pow(0.5), exprs),
        "Pow" => {
            let p = match call.input(1)? {
                Val::Const(c) => c.uniform(),
                Val::Sym(_) => None,
            };
            match (call.input(0)?, p) {
                (x, Some(p)) => unary(x, Fun::Pow(p), exprs),
                (Val::Const(a), None) => {
                    let b = call.constant(1)?;
                    Val::Const(binary(a, b, a.integer, f64::powf)?)
                }
                _ => {
                    return Err(unsupported(
                        "the exponent is not one constant number",
                        "use a fixed exponent",
                    ))
                }
            }
        }
        "Abs" => unary(call.input(0)?, Fun::Abs, exprs),
        "Erf" => unary(call.input(0)?, Fun::Erf, exprs),
        "Tanh" => unary(call.input(0)?, Fun::Tanh, exprs),
        "Sigmoid" => unary(call.input(0)?, Fun::Sigmoid, exprs),
        "Exp" => unary(call.input(0)?, Fun::Exp, exprs),
        "Log" => unary(call.input(0)?, Fun::Log, exprs),
        "Relu" => unary(call.input(0)?, Fun::Relu, exprs),
        "Gelu" => gelu(call, exprs)?,
        "Clip" | "Min" | "Max" => bound(call, exprs)?,
        _ => return Ok(None),
    };
    Ok(Some(out))
}

/// Both operands with the shape they broadcast to.
pub(super) fn together(a: &Val, b: &Val) -> Step<(Val, Val)> {
    let shape = broadcast(a.shape(), b.shape()).ok_or_else(|| {
        shape_error(format!(
            "{:?} and {:?} do not broadcast",
            a.shape(),
            b.shape()
        ))
    })?;
    limit(&shape, MAX_VALUE)?;
    let bad = || shape_error("operands do not broadcast");
    Ok((
        a.expand(&shape).ok_or_else(bad)?,
        b.expand(&shape).ok_or_else(bad)?,
    ))
}

fn factors(c: &Nd) -> Co {
    match c.uniform() {
        Some(x) => Co::All(x),
        None => Co::Each(c.data.rc().clone()),
    }
}

pub(super) fn scale(x: &Val, by: f64) -> Val {
    match x {
        Val::Const(c) => Val::Const(Nd::new(
            c.shape.clone(),
            c.data.iter().map(|v| v * by).collect(),
            c.integer,
        )),
        Val::Sym(s) => s.times(&Co::All(by)).into_val(),
    }
}

pub(super) fn add(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Val> {
    if let (Val::Const(x), Val::Const(y)) = (a, b) {
        return Ok(Val::Const(binary(x, y, x.integer && y.integer, |p, q| {
            p + q
        })?));
    }
    let (a, b) = together(a, b)?;
    Ok(match (&a, &b) {
        (Val::Sym(s), Val::Const(c)) | (Val::Const(c), Val::Sym(s)) => {
            Val::Sym(s.plus(&factors(c)))
        }
        (Val::Sym(s), Val::Sym(t)) => exprs.add(s, t),
        _ => a,
    })
}

pub(super) fn mul(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Val> {
    if let (Val::Const(x), Val::Const(y)) = (a, b) {
        return Ok(Val::Const(binary(x, y, x.integer && y.integer, |p, q| {
            p * q
        })?));
    }
    let (a, b) = together(a, b)?;
    Ok(match (&a, &b) {
        (Val::Sym(s), Val::Const(c)) | (Val::Const(c), Val::Sym(s)) => {
            s.times(&factors(c)).into_val()
        }
        (Val::Sym(s), Val::Sym(t)) => exprs.mul(s, t),
        _ => a,
    })
}

pub(super) fn div(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Val> {
    match (a, b) {
        (Val::Const(x), Val::Const(y)) => {
            let integer = x.integer && y.integer;
            if integer && y.data.contains(&0.0) {
                return Err(super::malformed("integer division by zero"));
            }
            Ok(Val::Const(binary(x, y, integer, move |p, q| {
                if integer {
                    (p / q).trunc()
                } else {
                    p / q
                }
            })?))
        }
        (_, Val::Const(y)) => {
            if y.data.contains(&0.0) {
                return Err(super::malformed("division by a constant zero"));
            }
            let inverse = Nd::new(
                y.shape.clone(),
                y.data.iter().map(|v| 1.0 / v).collect(),
                false,
            );
            mul(a, &Val::Const(inverse), exprs)
        }
        (_, Val::Sym(_)) => {
            let inverse = unary(b, Fun::Pow(-1.0), exprs);
            mul(a, &inverse, exprs)
        }
    }
}

pub(super) fn unary(x: &Val, f: Fun, exprs: &mut Exprs) -> Val {
    match x {
        Val::Const(c) => Val::Const(Nd::new(
            c.shape.clone(),
            c.data.iter().map(|&v| f.eval(v)).collect(),
            c.integer,
        )),
        Val::Sym(s) => match f {
            Fun::Pow(p) => exprs.pow(s, p),
            Fun::Abs if exprs.never_negative(s) => x.clone(),
            _ => Val::Sym(exprs.un_shared(f, s.clone(), s.shape.clone())),
        },
    }
}

/// GELU is written out; it is recognised again like any other spelling.
fn gelu(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let x = call.input(0)?;
    let inner = if call.string("approximate").as_deref() == Some("tanh") {
        let cube = unary(x, Fun::Pow(3.0), exprs);
        let sum = add(x, &scale(&cube, 0.044715), exprs)?;
        let scaled = scale(&sum, (2.0 / std::f64::consts::PI).sqrt());
        unary(&scaled, Fun::Tanh, exprs)
    } else {
        unary(&scale(x, std::f64::consts::FRAC_1_SQRT_2), Fun::Erf, exprs)
    };
    let one = Val::Const(Nd::new(vec![], vec![1.0], false));
    let gate = add(&inner, &one, exprs)?;
    Ok(scale(&mul(x, &gate, exprs)?, 0.5))
}

fn bound(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    if call.op() != "Clip" {
        let all: Vec<&Val> = call.inputs.iter().flatten().collect();
        if let [Val::Const(a), Val::Const(b)] = all[..] {
            let f = if call.op() == "Min" {
                f64::min
            } else {
                f64::max
            };
            return Ok(Val::Const(binary(a, b, a.integer, f)?));
        }
        let (x, c) = match all[..] {
            [Val::Sym(s), Val::Const(c)] | [Val::Const(c), Val::Sym(s)] => (s, c),
            [x @ Val::Const(_)] => return Ok(x.clone()),
            _ => {
                return Err(unsupported(
                    "compares encrypted values",
                    "compare after decryption",
                ))
            }
        };
        let c = c
            .uniform()
            .ok_or_else(|| unsupported("the bound is not one number", "use one bound"))?;
        let f = match call.op() {
            "Max" if c == 0.0 => Fun::Relu,
            "Max" => Fun::Clip(c, f64::INFINITY),
            _ => Fun::Clip(f64::NEG_INFINITY, c),
        };
        return Ok(clip(x, f, exprs));
    }
    let end = |i: usize, none: f64| -> Step<f64> {
        match call.optional(i) {
            Some(_) => Ok(call.constant(i)?.uniform().unwrap_or(none)),
            None => Ok(none),
        }
    };
    let (lo, hi) = (end(1, f64::NEG_INFINITY)?, end(2, f64::INFINITY)?);
    match call.input(0)? {
        Val::Sym(s) if lo == 0.0 && hi == f64::INFINITY => Ok(clip(s, Fun::Relu, exprs)),
        Val::Sym(s) => Ok(clip(s, Fun::Clip(lo, hi), exprs)),
        c => Ok(unary(c, Fun::Clip(lo, hi), exprs)),
    }
}

fn clip(x: &Sym, f: Fun, exprs: &mut Exprs) -> Val {
    Val::Sym(exprs.un_shared(f, x.clone(), x.shape.clone()))
}
