//! The tensor graph: the model as blocks (linear maps, PowerSoftmax, LayerNorm, activations) on named shapes.
//!
//! One input of the batch is described; heron runs many side by side in the slots. Every value is a [`Shape`].

mod eval;
pub(in crate::ir) mod parse;
pub(in crate::ir) mod print;
#[cfg(test)]
mod tests;
mod verify;

pub use eval::{EvalError, Evaluated, Visitor};
pub use verify::VerifyError;

use serde::{Deserialize, Serialize};

use super::graph::Graph;
use super::shape::Matrix;
use super::weight::Weight;

/// A tensor graph.
pub type TensorGraph = Graph<TensorOp>;

/// How output rows of a linear map are made of input rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RowMap {
    /// Row t of the output reads row t of the input.
    Identity,
    /// An (out_rows × in_rows) matrix, for instance mean pooling (1 × T of 1/T) or choosing the CLS row.
    Mix(Matrix),
}

/// One term of a linear map: `rows · x · weight`, each output value then multiplied by `post` where it is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearTerm {
    /// Which rows are read.
    pub rows: RowMap,
    /// (in_cols × out_cols).
    pub weight: Weight,
    /// (out_rows × out_cols) factors, for instance the cosines of a rotary embedding.
    pub post: Option<Matrix>,
}

/// An affine map `y = Σ terms + bias` from one matrix value to another. In poly graphs it may also read PerRow etc.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Summed terms; at least one.
    pub terms: Vec<LinearTerm>,
    /// (out_rows × out_cols), or (1 × out_cols) to be used for every row; `None` is zero.
    pub bias: Option<Matrix>,
}

/// How the client turns what the user gives into the values that are encrypted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientInput {
    /// The value is a gather of the user's tensor (row-major element numbers, `-1` for a constant zero):
    /// reshapes, transposes and patch extraction cost nothing, as the client places values freely.
    Gather {
        /// Shape of the user's tensor for one input, without the batch axis.
        user_shape: Vec<usize>,
        /// One entry per value (row-major over the Matrix shape).
        index: Vec<i64>,
    },
    /// The user gives token ids; the client looks rows up in a table (which is thereby disclosed to it).
    Embedding {
        /// Shape of the user's tensor for one input, without the batch axis: one id per row.
        user_shape: Vec<usize>,
        /// (vocabulary × cols).
        table: Weight,
    },
}

/// Elementwise functions that are not polynomials yet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Function {
    /// x Φ(x), by erf.
    Gelu,
    /// The tanh form of GELU.
    GeluTanh,
    /// x σ(1.702 x).
    QuickGelu,
    /// x σ(x).
    Silu,
    /// max(x, 0).
    Relu,
    /// tanh x (BERT's pooler).
    Tanh,
    /// σ(x).
    Sigmoid,
}

/// Operations of the tensor graph. Operand order as given in each variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TensorOp {
    /// An encrypted input. Shape Matrix, or Scores for an attention mask of 0 and 1, which the client places as the scores
    /// it multiplies lie, so that it costs no rotation.
    Input {
        /// Name of the ONNX graph input.
        name: String,
        /// What the client does.
        client: ClientInput,
    },
    /// Operand x: Matrix. Output: Matrix.
    Linear(Linear),
    /// Operands a, b of equal shape.
    Add,
    /// Operands a, b of equal shape.
    Sub,
    /// Operands a, b of equal shape: the elementwise product (gated activations).
    Multiply,
    /// Operands q [rows, heads·h], k [keys, heads·h]: Scores, `scale · q_i·k_j` within each head, times `mask[i][j]`
    /// (0 or 1, multiplicative; applied before the power) where one is given. Heads are contiguous column groups.
    Scores {
        /// Number of heads.
        heads: usize,
        /// Factor, for instance 1/√h.
        scale: f64,
        /// (rows × keys) of 0 and 1; `None` is all ones.
        mask: Option<Matrix>,
    },
    /// Operand s: Scores. Output: Scores, `s^power / (epsilon + Σ_j s^power)` over keys; masked entries stay 0.
    PowerSoftmax {
        /// Even.
        power: u32,
        /// Added to the sum over keys (an ε on the mean is multiplied by the number of keys by the front end).
        epsilon: f64,
    },
    /// Operands s: Scores and, where the mask is encrypted, m: Scores of 0 and 1. Output: Scores, e^s·mask·m over its sum over
    /// keys; a row without keys gives 0.
    Softmax {
        /// (rows × keys) of 0 and 1; `None` is all ones.
        mask: Option<Matrix>,
    },
    /// Operands p: Scores, v [keys, heads·h]: Matrix [rows, heads·h].
    Values {
        /// Number of heads.
        heads: usize,
    },
    /// Operand x: Matrix; over columns. `centre` false is RMSNorm.
    LayerNorm {
        /// One per column.
        gamma: Vec<f64>,
        /// One per column.
        beta: Vec<f64>,
        /// Added to the variance.
        epsilon: f64,
        /// Whether the mean is subtracted.
        centre: bool,
    },
    /// Operand x: Matrix; elementwise.
    Activation(Function),
}
