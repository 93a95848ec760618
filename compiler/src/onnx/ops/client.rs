//! What the client computes: everything that depends on integer inputs and constants alone, up to looked-up embeddings and their sums.
//!
//! Comparisons, logic and choices also take what the user gives as numbers (a mask of floats). Sums and products of two client values
//! are made in [`Exprs::add`] and [`Exprs::mul`]; constant factors and summands stay in the view.

use heron_schedule::client::{Function, Reduction, REMOVED};

use super::arith::{add, mul, scale, together};
use super::movement::{limit, transpose};
use super::{axis, shape_error, unsupported, Call, Step};
use crate::onnx::expr::{ClientOp, Exprs, Kind};
use crate::onnx::nd::{broadcast, count, strides, walk, Nd};
use crate::onnx::proto::MAX_VALUE;
use crate::onnx::view::{Co, Sym, Val};

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

/// Rows of a constant table chosen by what the client computed; plain token ids are left to the lookup of embeddings.
fn lookup(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
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
fn elements(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
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

/// A choice by what the client knows. Where a branch is encrypted, products with 0 and 1; a constant far below every score on the other
/// side is a mask, added like any other.
fn choose(call: &Call, exprs: &mut Exprs) -> Step<Option<Val>> {
    let Val::Sym(c) = call.input(0)? else {
        return Ok(None);
    };
    if !exprs.given_view(c) {
        return Err(unsupported(
            "chooses by an encrypted condition",
            "choose by what the client knows (ids, masks), or after decryption",
        ));
    }
    let (a, b) = (call.input(1)?, call.input(2)?);
    let known = |v: &Val| match v {
        Val::Const(_) => true,
        Val::Sym(s) => exprs.client_view(s),
    };
    if known(a) && known(b) {
        return Ok(Some(apply(
            exprs,
            Function::Select,
            &[call.input(0)?, a, b],
        )?));
    }
    let yes = Val::Sym(truth(exprs, c));
    let no = apply(exprs, Function::Not, &[&yes])?;
    let mut total: Option<Val> = None;
    for (x, mine, other) in [(a, &yes, b), (b, &no, a)] {
        let far = |v: &Val| matches!(v, Val::Const(k) if k.data.iter().all(|&x| x < REMOVED));
        if far(other) {
            let zero = Val::Const(Nd::new(vec![], vec![0.0], false));
            let low = Val::Const(Nd::new(vec![], vec![-1e30], false));
            let mask = apply(exprs, Function::Select, &[mine, &zero, &low])?;
            let (x, mask) = together(x, &mask)?;
            // The broadcast of the branch that is left out counts too.
            let shape = broadcast(x.shape(), other.shape())
                .ok_or_else(|| shape_error("operands do not broadcast"))?;
            let bad = || shape_error("operands do not broadcast");
            let (x, mask) = (
                x.expand(&shape).ok_or_else(bad)?,
                mask.expand(&shape).ok_or_else(bad)?,
            );
            return Ok(Some(add(&x, &mask, exprs)?));
        }
        let part = mul(x, mine, exprs)?;
        total = Some(match total {
            None => part,
            Some(t) => add(&t, &part, exprs)?,
        });
    }
    Ok(total)
}

/// The upper or lower triangle of the last two axes, of whatever value.
fn triangle(call: &Call) -> Step<Val> {
    let Val::Sym(s) = call.input(0)? else {
        return Err(unsupported(
            "a triangle that depends on encrypted values",
            "fix the diagonal",
        ));
    };
    let k = match call.optional(1) {
        Some(_) => call.constant(1)?.uniform().unwrap_or(0.0) as i64,
        None => 0,
    };
    let upper = call.int("upper", 1) != 0;
    let [.., rows, cols] = s.shape[..] else {
        return Err(shape_error("a matrix is needed"));
    };
    let keep = (0..s.len()).map(|i| {
        let (r, c) = ((i / cols % rows) as i64, (i % cols) as i64);
        f64::from(u8::from(if upper { c >= r + k } else { c <= r + k }))
    });
    Ok(s.times(&Co::from_vec(keep.collect())).into_val())
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

fn cumulative(call: &Call, exprs: &mut Exprs) -> Step<Val> {
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

fn reduce(call: &Call, exprs: &mut Exprs) -> Step<Val> {
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
fn product(a: &Val, b: &Val, exprs: &mut Exprs) -> Step<Option<Val>> {
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
