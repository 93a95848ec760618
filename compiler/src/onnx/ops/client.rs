//! What the client computes: everything that depends on integer inputs and constants alone, up to looked-up embeddings and their sums.
//!
//! Comparisons, logic and choices also take what the user gives as numbers (a mask of floats). Sums and products of two client values
//! are made in [`Exprs::add`] and [`Exprs::mul`]; constant factors and summands stay in the view.

mod choice;
mod lookup;
mod reduce;

use heron_schedule::client::Function;

use super::movement::limit;
use super::{shape_error, Call, Step};
use crate::onnx::expr::{ClientOp, Exprs, Kind};
use crate::onnx::nd::{broadcast, Nd};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::{Sym, Val};
use choice::{choose, triangle};
use lookup::{elements, lookup};
use reduce::{cumulative, product, reduce};

pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let syms: Vec<&Sym> = call
        .inputs
        .iter()
        .flatten()
        .filter_map(|v| match v {
            Val::Sym(s) => Some(s),
            Val::Const(_) => None,
        })
        .collect();
    if syms.is_empty() {
        return Ok(None);
    }
    let op = call.op();
    if op == "Where" {
        return choose(call, exprs);
    }
    if op == "Trilu" {
        return triangle(call).map(Some);
    }
    let given = syms.iter().all(|s| exprs.given_view(s));
    if given {
        if let Some(v) = logic(call, exprs)? {
            return Ok(Some(v));
        }
    }
    if !syms.iter().all(|s| exprs.client_view(s)) {
        return Ok(None);
    }
    if op == "Gather" {
        return lookup(call, exprs);
    }
    if matches!(op, "GatherElements" | "GatherND") {
        return elements(call, exprs);
    }
    if op == "Cast" {
        return Ok(Some(cast(call, exprs)?));
    }
    if syms.iter().any(|s| exprs.embedded(s)) {
        return Ok(None);
    }
    arithmetic(call, exprs)
}

/// A constant or client value as a view of `shape`.
fn view(v: &Val, shape: &[usize]) -> Step<Sym> {
    let wide = v
        .expand(shape)
        .ok_or_else(|| shape_error("operands do not broadcast"))?;
    Ok(wide.to_sym())
}

fn apply(exprs: &mut Exprs, f: Function, args: &[&Val]) -> Step<Val> {
    let mut shape = Vec::new();
    for a in args {
        shape = broadcast(&shape, a.shape()).ok_or_else(|| {
            shape_error(format!("{shape:?} and {:?} do not broadcast", a.shape()))
        })?;
    }
    limit(&shape, MAX_VALUE)?;
    let views = args
        .iter()
        .map(|a| view(a, &shape))
        .collect::<Step<Vec<Sym>>>()?;
    let views: Vec<&Sym> = views.iter().collect();
    Ok(Val::Sym(exprs.client_apply(f, &views)))
}

/// The second where the first is not 0, else the third.
pub(super) fn select(exprs: &mut Exprs, args: &[&Val]) -> Step<Val> {
    apply(exprs, Function::Select, args)
}

/// Whether a view holds 0 and 1 only.
pub(super) fn is_truth(exprs: &Exprs, s: &Sym) -> bool {
    use Function as F;
    let plain = s.mul.uniform() == Some(1.0) && s.add.uniform() == Some(0.0);
    let of_truth = |e: u32| {
        matches!(
            exprs.get(e).kind,
            Kind::Client {
                op: ClientOp::Apply(
                    F::Not
                        | F::IsTrue
                        | F::And
                        | F::Or
                        | F::Xor
                        | F::Equal
                        | F::Less
                        | F::LessOrEqual
                        | F::Kept
                        | F::Binary
                ),
                ..
            }
        )
    };
    plain && s.exprs().into_iter().all(of_truth)
}

fn truth(exprs: &mut Exprs, s: &Sym) -> Sym {
    if is_truth(exprs, s) {
        return s.clone();
    }
    exprs.client_apply(Function::IsTrue, &[s])
}

fn logic(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    use Function as F;
    let (f, flip) = match call.op() {
        "Not" => return Ok(Some(apply(exprs, F::Not, &[call.input(0)?])?)),
        "And" => (F::And, false),
        "Or" => (F::Or, false),
        "Xor" => (F::Xor, false),
        "Equal" => (F::Equal, false),
        "Less" => (F::Less, false),
        "LessOrEqual" => (F::LessOrEqual, false),
        "Greater" => (F::Less, true),
        "GreaterOrEqual" => (F::LessOrEqual, true),
        _ => return Ok(None),
    };
    let (a, b) = (call.input(0)?, call.input(1)?);
    let args = if flip { [b, a] } else { [a, b] };
    Ok(Some(apply(exprs, f, &args)?))
}

fn cast(call: &Call, exprs: &mut Exprs) -> Step<Val> {
    let Val::Sym(s) = call.input(0)? else {
        return Ok(call.input(0)?.clone());
    };
    let whole = |s: &Sym| {
        let plain = s.mul.uniform() == Some(1.0) && s.add.uniform() == Some(0.0);
        let source = |e: u32| matches!(exprs.get(e).kind, Kind::Input { integer: true, .. });
        plain && s.exprs().into_iter().all(source)
    };
    Ok(match call.int("to", 1) {
        1 | 10 | 11 | 16 => Val::Sym(s.clone()),
        9 => Val::Sym(truth(exprs, s)),
        _ if whole(s) || is_truth(exprs, s) => Val::Sym(s.clone()),
        _ => Val::Sym(exprs.client_apply(Function::Truncate, &[s])),
    })
}

/// Arithmetic on ids, masks and positions; sums, products and constant factors are made elsewhere.
fn arithmetic(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    use Function as F;
    let x = call.input(0)?;
    let one = |f: F, exprs: &mut Exprs| apply(exprs, f, &[x]).map(Some);
    match call.op() {
        "Abs" => one(F::Abs, exprs),
        "Sign" => one(F::Sign, exprs),
        "Floor" => one(F::Floor, exprs),
        "Ceil" => one(F::Ceil, exprs),
        "Round" => one(F::Round, exprs),
        "Sqrt" => one(F::Sqrt, exprs),
        "Exp" => one(F::Exp, exprs),
        "Log" => one(F::Log, exprs),
        "Sin" => one(F::Sin, exprs),
        "Cos" => one(F::Cos, exprs),
        "Reciprocal" => one(F::Reciprocal, exprs),
        "Relu" => {
            let zero = Val::Const(Nd::new(vec![], vec![0.0], false));
            apply(exprs, F::Max, &[x, &zero]).map(Some)
        }
        "Pow" => apply(exprs, F::Power, &[x, call.input(1)?]).map(Some),
        "Mod" if call.int("fmod", 0) != 0 => {
            apply(exprs, F::Remainder, &[x, call.input(1)?]).map(Some)
        }
        "Mod" => apply(exprs, F::Modulo, &[x, call.input(1)?]).map(Some),
        "Div" => match call.input(1)? {
            Val::Const(c) if c.integer => {
                apply(exprs, F::DivideTruncated, &[x, call.input(1)?]).map(Some)
            }
            Val::Const(_) => Ok(None),
            y => apply(exprs, F::Divide, &[x, y]).map(Some),
        },
        "Min" | "Max" => {
            let f = if call.op() == "Min" { F::Min } else { F::Max };
            let mut v = x.clone();
            for i in 1..call.inputs.len() {
                v = apply(exprs, f, &[&v, call.input(i)?])?;
            }
            Ok(Some(v))
        }
        "Clip" => {
            let mut v = x.clone();
            for (i, f) in [(1, F::Max), (2, F::Min)] {
                if let Some(end) = call.optional(i) {
                    v = apply(exprs, f, &[&v, end])?;
                }
            }
            Ok(Some(v))
        }
        "CumSum" => cumulative(call, exprs).map(Some),
        "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" => {
            reduce(call, exprs).map(Some)
        }
        "MatMul" => product(x, call.input(1)?, exprs),
        _ => Ok(None),
    }
}
