//! Shapes, intervals, matrices and layer tags: the facts that every graph carries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What one input of the batch holds at a value; the batch axis is never part of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// `rows` tokens of `cols` features.
    Matrix {
        /// Number of tokens.
        rows: usize,
        /// Number of features.
        cols: usize,
    },
    /// One `rows` × `keys` matrix per head: attention scores and what is computed from them elementwise.
    Scores {
        /// Number of heads.
        heads: usize,
        /// Number of query tokens.
        rows: usize,
        /// Number of key tokens.
        keys: usize,
    },
    /// One value per head and token: denominators of attention.
    PerHead {
        /// Number of heads.
        heads: usize,
        /// Number of tokens.
        rows: usize,
    },
    /// One value per token: variances.
    PerRow {
        /// Number of tokens.
        rows: usize,
    },
}

impl Shape {
    /// Number of values.
    pub fn len(&self) -> usize {
        match *self {
            Shape::Matrix { rows, cols } => rows * cols,
            Shape::Scores { heads, rows, keys } => heads * rows * keys,
            Shape::PerHead { heads, rows } => heads * rows,
            Shape::PerRow { rows } => rows,
        }
    }

    /// Whether the shape holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Shape::Matrix { rows, cols } => write!(f, "[{rows},{cols}]"),
            Shape::Scores { heads, rows, keys } => write!(f, "[{heads}h,{rows},{keys}]"),
            Shape::PerHead { heads, rows } => write!(f, "[{heads}h,{rows}]"),
            Shape::PerRow { rows } => write!(f, "[{rows}]"),
        }
    }
}

/// A closed interval of reals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end, at least `lo`.
    pub hi: f64,
}

impl Interval {
    /// The interval from `lo` to `hi`.
    pub fn new(lo: f64, hi: f64) -> Self {
        Interval { lo, hi }
    }

    /// Largest absolute value in the interval.
    pub fn magnitude(&self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }
}

impl Interval {
    /// The smallest interval with ends of three significant digits around this one: the same text on every machine,
    /// whatever the last bits of a calibration run.
    pub fn rounded_outward(&self) -> Interval {
        Interval {
            lo: round_digits(self.lo, false),
            hi: round_digits(self.hi, true),
        }
    }
}

/// `x` rounded to three significant digits, up or down; a value within 1e-9 relative of such a number stays there.
fn round_digits(x: f64, up: bool) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = 2 - libm::floor(libm::log10(x.abs())) as i32;
    // Powers of ten up to 10^22 are exact, so that scaling up and down again gives the nearest f64 of the decimal.
    let scaled = if exponent >= 0 {
        x * 10f64.powi(exponent)
    } else {
        x / 10f64.powi(-exponent)
    };
    let slack = scaled.abs() * 1e-9;
    let rounded = if up {
        (scaled - slack).ceil()
    } else {
        (scaled + slack).floor()
    };
    if exponent >= 0 {
        rounded / 10f64.powi(exponent)
    } else {
        rounded * 10f64.powi(-exponent)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:.4}, {:.4}]", self.lo, self.hi)
    }
}

/// A dense matrix of constants, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values, row by row.
    #[serde(with = "super::stored::numbers")]
    pub data: Vec<f64>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Matrix {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    /// Rows as columns.
    pub fn transposed(&self) -> Matrix {
        // In blocks, so that what is read and what is written both stay in the cache.
        const BLOCK: usize = 32;
        let mut out = Matrix::zeros(self.cols, self.rows);
        for r0 in (0..self.rows).step_by(BLOCK) {
            for c0 in (0..self.cols).step_by(BLOCK) {
                for r in r0..(r0 + BLOCK).min(self.rows) {
                    for c in c0..(c0 + BLOCK).min(self.cols) {
                        out.data[c * self.rows + r] = self.at(r, c);
                    }
                }
            }
        }
        out
    }

    /// The value at row `r`, column `c`; both must be in range.
    pub fn at(&self, r: usize, c: usize) -> f64 {
        self.data[r * self.cols + c]
    }
}

/// The layer kinds of the depth report (INTERFACE: `kind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum LayerKind {
    Embed,
    Matmul,
    AttentionScores,
    PowerSoftmax,
    Softmax,
    AttentionValues,
    LayerNorm,
    RmsNorm,
    Activation,
    Rotary,
    Residual,
    Reshape,
    Pool,
    Head,
    Other,
}

impl LayerKind {
    /// All kinds.
    pub const ALL: [LayerKind; 15] = [
        LayerKind::Embed,
        LayerKind::Matmul,
        LayerKind::AttentionScores,
        LayerKind::PowerSoftmax,
        LayerKind::Softmax,
        LayerKind::AttentionValues,
        LayerKind::LayerNorm,
        LayerKind::RmsNorm,
        LayerKind::Activation,
        LayerKind::Rotary,
        LayerKind::Residual,
        LayerKind::Reshape,
        LayerKind::Pool,
        LayerKind::Head,
        LayerKind::Other,
    ];

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<LayerKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            LayerKind::Embed => "embed",
            LayerKind::Matmul => "matmul",
            LayerKind::AttentionScores => "attention_scores",
            LayerKind::PowerSoftmax => "power_softmax",
            LayerKind::Softmax => "softmax",
            LayerKind::AttentionValues => "attention_values",
            LayerKind::LayerNorm => "layer_norm",
            LayerKind::RmsNorm => "rms_norm",
            LayerKind::Activation => "activation",
            LayerKind::Rotary => "rotary",
            LayerKind::Residual => "residual",
            LayerKind::Reshape => "reshape",
            LayerKind::Pool => "pool",
            LayerKind::Head => "head",
            LayerKind::Other => "other",
        }
    }
}

/// Where a value comes from: its row in the depth report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique and readable: the ONNX scope where there is one, for instance `blocks.0.attention`.
    pub name: String,
    /// Kind for the report.
    pub kind: LayerKind,
    /// Names of the ONNX nodes it was recognised from.
    pub onnx_nodes: Vec<String>,
}
