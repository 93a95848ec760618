//! The poly graph: only additions, products, matrix products, sums and evaluations of polynomials.
//!
//! Values are scaled representations: a value here is `factor` × the model's value where passes chose so, with the inverse
//! folded into the readers. After the pass `normalise` every value lies in [-1, 1] on the calibrated inputs
//! (with its margin), which is what bootstrapping and fixed scales need.

pub mod eval;
pub(in crate::ir) mod parse;
pub mod print;
pub mod verify;

use super::graph::Graph;
use super::shape::Matrix;
use super::tensor::{ClientInput, Linear};

/// A poly graph.
pub type PolyGraph = Graph<PolyOp>;

/// A polynomial in the Chebyshev basis: Σ c_k T_k(u), u in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Chebyshev {
    /// Coefficients c_0 … c_d.
    pub coefficients: Vec<f64>,
}

/// What a non-polynomial function was replaced by: a row of the depth report.
#[derive(Clone, Debug, PartialEq)]
pub struct Approximation {
    /// For instance `gelu`, `1/x`, `1/sqrt(x)`.
    pub function: String,
    /// Interval of the original argument, in the model's units.
    pub interval: (f64, f64),
    /// `chebyshev`, `minimax`, `relaxed-goldschmidt`, …
    pub method: String,
    /// Degree of a polynomial or number of iterations.
    pub degree_or_iterations: usize,
    /// Largest error on a dense grid (relative for 1/x and 1/sqrt(x), absolute otherwise).
    pub max_error: f64,
}

/// s → multiplier · s² + constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquareStep {
    /// A small positive integer (at most 256): multiplying by it costs no level.
    pub multiplier: i32,
    /// Added afterwards.
    pub constant: f64,
}

/// How an elementwise function is computed; input u in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluation {
    /// One polynomial.
    Polynomial(Chebyshev),
    /// Relaxed Goldschmidt for 1/z on [e, 1] scaled and centred, in the form without constant products: with s_0 = u,
    /// the output is Π_j (s_j + shift_j), where s_{j+1} = multiplier_j · s_j² + constant_j (small integer multipliers, so K
    /// factors cost exactly K-1 levels for s and K in all, 2K-2 products). `shifts.len() == squares.len() + 1`.
    /// The relaxation factors that are optimal at every step make s_j a multiple of the Chebyshev polynomial T_{2^j}(u).
    Reciprocal {
        /// Steps s_j → s_{j+1}.
        squares: Vec<SquareStep>,
        /// Added to s_j in the product.
        shifts: Vec<f64>,
        /// The output is this over z = mid + half·u.
        output_factor: f64,
        /// z at u = 0.
        mid: f64,
        /// dz/du.
        half: f64,
    },
    /// Relaxed coupled iteration for 1/√z, z = mid + half·u in [e, 1]: with w the running product,
    /// w ← w · √k (3 − k x)/2 and x ← k x ((3 − k x)/2)²; output `output_factor`/√z.
    InverseSqrt {
        /// z at u = 0.
        mid: f64,
        /// dz/du.
        half: f64,
        /// Relaxation factors, one per iteration.
        relaxation: Vec<f64>,
        /// The output is this over √z.
        output_factor: f64,
    },
}

/// Operations of the poly graph. Operand order as given in each variant.
#[derive(Clone, Debug, PartialEq)]
pub enum PolyOp {
    /// An encrypted input; the encrypted value is `factor` × what the client prepared. Shape Matrix, or Scores for a mask that
    /// is read by `Multiply` only: it gets the layout of the other operand.
    Input {
        /// Name of the ONNX graph input.
        name: String,
        /// What the client does.
        client: ClientInput,
        /// Applied by the client before encryption.
        factor: f64,
    },
    /// Operand x: Matrix → Matrix. One level.
    Linear(Linear),
    /// Operands a, b of one shape.
    Add,
    /// Operands a, b of one shape.
    Sub,
    /// Operand a: a × constant (+ constant), any shape. One level unless the constant is ±1.
    Affine {
        /// Factor.
        scale: f64,
        /// Added afterwards.
        shift: f64,
    },
    /// Operands a, b of one shape (the same value twice is a square). One level.
    Multiply,
    /// Operands q [rows, heads·h], k [keys, heads·h] → Scores: q_i·k_j within heads, masked (0/1). Two levels: product, packing.
    Scores {
        /// Number of heads.
        heads: usize,
        /// (rows × keys) of 0 and 1; `None` is all ones.
        mask: Option<Matrix>,
    },
    /// Operand n: Scores → PerHead: shift + scale · Σ over keys of weights · n. One level.
    KeySum {
        /// Factor.
        scale: f64,
        /// Added afterwards.
        shift: f64,
        /// (rows × keys), the same for every head, for instance a mask; `None` is all ones. Costs nothing: the sum is a product
        /// with plaintexts anyway.
        weights: Option<Matrix>,
    },
    /// Operands n: Scores, v [keys, heads·h] → Matrix [rows, heads·h], unnormalised A·V with A = weights · n. Two levels for n,
    /// one for v.
    Values {
        /// Number of heads.
        heads: usize,
        /// (rows × keys), the same for every head, for instance a mask; `None` is all ones. Costs nothing.
        weights: Option<Matrix>,
    },
    /// Operands o: Matrix [rows, heads·h] or Scores, r: PerHead: each head's columns (or scores) of a row times its factor.
    /// One level. On Scores only before the pass `defer-normalisation`.
    ScaleHeads,
    /// Operand x: Matrix → PerRow: shift + scale · Σ over columns. One level.
    ColumnSum {
        /// Factor.
        scale: f64,
        /// Added afterwards.
        shift: f64,
    },
    /// Operands x: Matrix, r: PerRow: each row times its factor. One level.
    ScaleRows,
    /// Operand u in [-1, 1], any shape: elementwise.
    Evaluate {
        /// How.
        evaluation: Evaluation,
        /// For the report.
        approximation: Approximation,
    },
}

/// What the client does with a decrypted output: value / factor. One per graph output, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFactor(pub f64);
