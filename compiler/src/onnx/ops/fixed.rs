//! Operators that need no encrypted operand: shapes, ranges, comparisons, constants.

use std::path::Path;

use super::movement::limit;
use super::{axis, malformed, shape_error, unsupported, Call, Step};
use crate::onnx::nd::{count, Nd};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::Val;
use crate::onnx::weights::decode_tensor;

fn all_constant(call: &Call) -> bool {
    call.inputs
        .iter()
        .flatten()
        .all(|v| matches!(v, Val::Const(_)))
}

pub(super) fn run(call: &Call) -> Step<Option<Val>> {
    let out = match call.op() {
        "Constant" => constant(call)?,
        "Shape" => {
            let shape = call.input(0)?.shape().to_vec();
            let rank = shape.len() as i64;
            let at = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize;
            let (from, to) = (at(call.int("start", 0)), at(call.int("end", rank)));
            Nd::ints(shape.get(from..to.max(from)).unwrap_or(&[]))
        }
        "Size" => Nd::new(vec![], vec![count(call.input(0)?.shape()) as f64], true),
        // Encrypted values are finite on the calibrated inputs.
        "IsNaN" | "IsInf" => {
            let x = call.input(0)?;
            let test = |v: f64| {
                if call.op() == "IsNaN" {
                    v.is_nan()
                } else {
                    v.is_infinite()
                }
            };
            let data = match x {
                Val::Const(c) => c.data.iter().map(|&v| f64::from(test(v))).collect(),
                Val::Sym(_) => vec![0.0; count(x.shape())],
            };
            Nd::new(x.shape().to_vec(), data, true)
        }
        _ if !all_constant(call) => return Ok(None),
        "ConstantOfShape" => {
            let shape = call
                .constant(0)?
                .as_ints()
                .iter()
                .map(|&v| usize::try_from(v).map_err(|_| shape_error(format!("dimension {v}"))))
                .collect::<Step<Vec<usize>>>()?;
            limit(&shape, MAX_VALUE)?;
            let (value, integer) = match call.tensor("value") {
                Some(t) => {
                    let v = decode_tensor(t, Path::new(""), true)?;
                    (v.data.first().copied().unwrap_or(0.0), v.integer)
                }
                None => (0.0, false),
            };
            let n = count(&shape);
            Nd::new(shape, vec![value; n], integer)
        }
        "Range" => {
            let get = |i: usize| -> Step<f64> {
                call.constant(i)?
                    .uniform()
                    .ok_or_else(|| malformed("a scalar is needed"))
            };
            let (start, end, step) = (get(0)?, get(1)?, get(2)?);
            let n = ((end - start) / step).ceil().max(0.0);
            if !n.is_finite() || n > MAX_VALUE as f64 {
                limit(&[n.min(1e18) as usize], MAX_VALUE)?;
                return Err(malformed("a range without end"));
            }
            let data: Vec<f64> = (0..n as usize).map(|i| start + i as f64 * step).collect();
            Nd::new(vec![data.len()], data, call.constant(0)?.integer)
        }
        "CumSum" => cumulative(call)?,
        "Trilu" => {
            let x = call.constant(0)?;
            let k = match call.optional(1) {
                Some(_) => call.constant(1)?.uniform().unwrap_or(0.0) as i64,
                None => 0,
            };
            let upper = call.int("upper", 1) != 0;
            let rank = x.shape.len();
            if rank < 2 {
                return Err(shape_error("a matrix is needed"));
            }
            let (rows, cols) = (x.shape[rank - 2], x.shape[rank - 1]);
            let data = (0..x.data.len())
                .map(|i| {
                    let (r, c) = ((i / cols % rows) as i64, (i % cols) as i64);
                    let keep = if upper { c >= r + k } else { c <= r + k };
                    if keep {
                        x.data[i]
                    } else {
                        0.0
                    }
                })
                .collect();
            Nd::new(x.shape.clone(), data, x.integer)
        }
        "Not" | "Floor" | "Ceil" | "Round" | "Sign" | "Sin" | "Cos" => {
            let x = call.constant(0)?;
            let f: fn(f64) -> f64 = match call.op() {
                "Not" => |v| f64::from(v == 0.0),
                "Floor" => f64::floor,
                "Ceil" => f64::ceil,
                "Round" => f64::round_ties_even,
                "Sign" => |v| if v == 0.0 { 0.0 } else { v.signum() },
                "Sin" => f64::sin,
                _ => f64::cos,
            };
            Nd::new(
                x.shape.clone(),
                x.data.iter().map(|&v| f(v)).collect(),
                x.integer,
            )
        }
        "And" | "Or" | "Xor" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual"
        | "Mod" => {
            let f: fn(f64, f64) -> f64 = match call.op() {
                "And" => |a, b| f64::from(a != 0.0 && b != 0.0),
                "Or" => |a, b| f64::from(a != 0.0 || b != 0.0),
                "Xor" => |a, b| f64::from((a != 0.0) != (b != 0.0)),
                "Equal" => |a, b| f64::from(a == b),
                "Less" => |a, b| f64::from(a < b),
                "LessOrEqual" => |a, b| f64::from(a <= b),
                "Greater" => |a, b| f64::from(a > b),
                "GreaterOrEqual" => |a, b| f64::from(a >= b),
                _ if call.int("fmod", 0) != 0 => |a, b| a % b,
                _ => |a, b| {
                    if b == 0.0 {
                        0.0
                    } else {
                        a - b * (a / b).floor()
                    }
                },
            };
            binary(call.constant(0)?, call.constant(1)?, true, f)?
        }
        "ReduceProd" | "ReduceMin" => {
            let x = call.constant(0)?;
            if call.axes(1)?.is_some_and(|a| a.len() != x.shape.len()) {
                return Err(unsupported(
                    "only a reduction over all axes is supported",
                    "",
                ));
            }
            let v = if call.op() == "ReduceProd" {
                x.data.iter().product()
            } else {
                x.data.iter().copied().fold(f64::INFINITY, f64::min)
            };
            let shape = if call.int("keepdims", 1) != 0 {
                vec![1; x.shape.len()]
            } else {
                vec![]
            };
            Nd::new(shape, vec![v], x.integer)
        }
        _ => return Ok(None),
    };
    Ok(Some(Val::Const(out)))
}

/// Elementwise function of two constants with broadcasting.
pub(super) fn binary(a: &Nd, b: &Nd, integer: bool, f: impl Fn(f64, f64) -> f64) -> Step<Nd> {
    let shape = crate::onnx::nd::broadcast(&a.shape, &b.shape)
        .ok_or_else(|| shape_error(format!("{:?} and {:?} do not broadcast", a.shape, b.shape)))?;
    limit(&shape, MAX_VALUE)?;
    let bad = || shape_error("operands do not broadcast");
    let ia = crate::onnx::nd::expand_index(&a.shape, &shape).ok_or_else(bad)?;
    let ib = crate::onnx::nd::expand_index(&b.shape, &shape).ok_or_else(bad)?;
    let data = ia
        .iter()
        .zip(&ib)
        .map(|(&i, &j)| f(a.data[i as usize], b.data[j as usize]))
        .collect();
    Ok(Nd::new(shape, data, integer))
}

fn constant(call: &Call) -> Step<Nd> {
    if let Some(t) = call.tensor("value") {
        return decode_tensor(t, Path::new(""), true);
    }
    if let Some(a) = call.raw("value_float") {
        return Ok(Nd::new(vec![], vec![f64::from(a.f)], false));
    }
    if let Some(a) = call.raw("value_int") {
        return Ok(Nd::new(vec![], vec![a.i as f64], true));
    }
    if let Some(a) = call.raw("value_floats") {
        let v: Vec<f64> = a.floats.iter().map(|&x| f64::from(x)).collect();
        return Ok(Nd::new(vec![v.len()], v, false));
    }
    if let Some(a) = call.raw("value_ints") {
        let v: Vec<f64> = a.ints.iter().map(|&x| x as f64).collect();
        return Ok(Nd::new(vec![v.len()], v, true));
    }
    Err(unsupported(
        "a constant of this type is not supported",
        "use a dense tensor of numbers",
    ))
}

fn cumulative(call: &Call) -> Step<Nd> {
    let x = call.constant(0)?;
    let a = call.constant(1)?.uniform().unwrap_or(0.0) as i64;
    let k = axis(a, x.shape.len(), false)?;
    if call.int("exclusive", 0) != 0 || call.int("reverse", 0) != 0 {
        return Err(unsupported(
            "exclusive or reversed sums are not supported",
            "",
        ));
    }
    let inner = count(&x.shape[k + 1..]);
    let mut data = x.data.to_vec();
    for i in 0..data.len() {
        if !(i / inner).is_multiple_of(x.shape[k]) {
            data[i] += data[i - inner];
        }
    }
    Ok(Nd::new(x.shape.clone(), data, x.integer))
}
