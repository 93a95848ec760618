//! Runs one ONNX node on constants and views.

use tract_onnx::pb;

use super::error::{ErrorKind, Obstacle};
use super::expr::Exprs;
use super::nd::Nd;
use super::view::Val;

mod arith;
mod blocks;
mod client;
mod contract;
mod fixed;
mod gathering;
mod movement;
mod norms;

/// Why a node was refused; the caller adds its name.
pub(super) type Step<T> = Result<T, Obstacle>;

pub(super) fn shape_error(reason: impl Into<String>) -> Obstacle {
    Obstacle::new(
        ErrorKind::Shape,
        "",
        reason,
        "check the shapes given by --shape and the calibration file",
    )
}

pub(super) fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
    Obstacle::new(ErrorKind::UnsupportedOp, "", reason, remedy)
}

pub(super) fn malformed(reason: impl Into<String>) -> Obstacle {
    Obstacle::new(ErrorKind::Malformed, "", reason, "export the model again")
}

/// A node with its inputs in hand.
pub(super) struct Call<'a> {
    pub(super) node: &'a pb::NodeProto,
    pub(super) inputs: Vec<Option<Val>>,
}

impl Call<'_> {
    pub(super) fn op(&self) -> &str {
        &self.node.op_type
    }

    pub(super) fn input(&self, i: usize) -> Step<&Val> {
        self.optional(i)
            .ok_or_else(|| malformed(format!("input {i} is missing")))
    }

    pub(super) fn optional(&self, i: usize) -> Option<&Val> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Input i, which must not depend on encrypted values.
    pub(super) fn constant(&self, i: usize) -> Step<&Nd> {
        match self.input(i)? {
            Val::Const(c) => Ok(c),
            Val::Sym(_) => Err(unsupported(
                format!("input {i} depends on encrypted values, a constant is needed"),
                "compute it outside the model, or make it a constant",
            )),
        }
    }

    fn attribute(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.node.attribute.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.attribute(name).map_or(default, |a| a.f))
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).map(|a| a.ints.clone())
    }

    pub(super) fn string(&self, name: &str) -> Option<String> {
        self.attribute(name)
            .map(|a| String::from_utf8_lossy(&a.s).into_owned())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&pb::TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_ref())
    }

    pub(super) fn raw(&self, name: &str) -> Option<&pb::AttributeProto> {
        self.attribute(name)
    }

    /// Axes from an attribute or, in newer operator sets, from an input.
    pub(super) fn axes(&self, input: usize) -> Step<Option<Vec<i64>>> {
        if let Some(a) = self.ints("axes") {
            return Ok(Some(a));
        }
        match self.optional(input) {
            Some(_) => Ok(Some(self.constant(input)?.as_ints())),
            None => Ok(None),
        }
    }

    /// The axes that a reduction of an operand of this rank goes over, ascending; `None` where it leaves the operand as it is.
    pub(super) fn reduced_axes(&self, rank: usize) -> Step<Option<Vec<usize>>> {
        match self.axes(1)? {
            Some(a) if !a.is_empty() => {
                let mut axes = a
                    .iter()
                    .map(|&a| axis(a, rank, false))
                    .collect::<Step<Vec<usize>>>()?;
                axes.sort_unstable();
                axes.dedup();
                Ok(Some(axes))
            }
            _ if self.int("noop_with_empty_axes", 0) != 0 => Ok(None),
            _ => Ok(Some((0..rank).collect())),
        }
    }
}

/// An axis counted from the front; `rank` itself is allowed when `past` is.
pub(super) fn axis(a: i64, rank: usize, past: bool) -> Step<usize> {
    let r = rank as i64;
    let limit = if past { r } else { r - 1 };
    let k = if a < 0 { a + r + i64::from(past) } else { a };
    if a < -r - i64::from(past) || k < 0 || k > limit {
        return Err(shape_error(format!("axis {a} of a tensor of rank {rank}")));
    }
    Ok(k as usize)
}

/// Operators of the standard domain that [`run`] knows.
const KNOWN: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Cos",
    "CumSum",
    "Div",
    "Dropout",
    "Einsum",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "IsInf",
    "IsNaN",
    "LayerNormalization",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pad",
    "Pow",
    "RMSNormalization",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "RotaryEmbedding",
    "Round",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
    "SimplifiedLayerNormalization",
    "HardSwish",
];

/// `None` if the operator is known, else the reason it is refused.
pub(super) fn unknown(node: &pb::NodeProto) -> Option<Obstacle> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        let advice = if node.domain.starts_with("com.microsoft") {
            "export without onnxruntime's optimiser, which fuses operators"
        } else {
            "export it as standard operators"
        };
        return Some(unsupported(
            format!("operator of the unknown domain `{}`", node.domain),
            advice,
        ));
    }
    if KNOWN.contains(&node.op_type.as_str()) {
        return None;
    }
    let (reason, remedy) = match node.op_type.as_str() {
        "ArgMax" | "ArgMin" | "TopK" | "NonZero" => (
            "chooses by comparing encrypted values",
            "return the scores and choose after decryption",
        ),
        "Loop" | "If" | "Scan" => (
            "control flow that may depend on encrypted values",
            "unroll it when exporting: fix shapes and trip counts",
        ),
        _ => (
            "this operator is not supported",
            "replace it by operators that `heron check` accepts",
        ),
    };
    Some(unsupported(reason, remedy))
}

/// Runs a node: one value per output.
pub(super) fn run(call: &Call, exprs: &mut Exprs) -> Step<Vec<Val>> {
    if let Some(out) = client::run(call, exprs)? {
        return Ok(vec![out]);
    }
    if let Some(out) = movement::run(call)? {
        return Ok(out);
    }
    if let Some(out) = fixed::run(call)? {
        return Ok(vec![out]);
    }
    if let Some(out) = arith::run(call, exprs)? {
        return Ok(vec![out]);
    }
    if let Some(out) = blocks::run(call, exprs)? {
        return Ok(vec![out]);
    }
    if let Some(out) = norms::run(call, exprs)? {
        return Ok(vec![out]);
    }
    if let Some(out) = contract::run(call, exprs)? {
        return Ok(vec![out]);
    }
    Err(unsupported(
        "this operator is not supported on encrypted values",
        "replace it by additions, products, linear maps or recognised blocks",
    ))
}
