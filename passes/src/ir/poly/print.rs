//! Text of poly graphs: one line a value, in topological order; numbers rounded for reading, or exact to be read back.

use std::fmt;

use super::{Approximation, Evaluation, PolyGraph, PolyOp};
use crate::ir::graph::ValueId;
use crate::ir::tensor::print::{input_text, linear_text, mask_text, weights_text};
use crate::ir::text::{self, Notation};

impl fmt::Display for PolyGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "poly", |v| self.text(v))
    }
}

/// How an elementwise function is computed, in full.
fn evaluation_text(evaluation: &Evaluation, n: &mut Notation) -> String {
    let list = |all: &[f64]| {
        let all: Vec<String> = all.iter().map(|x| text::number(*x)).collect();
        format!("[{}]", all.join(" "))
    };
    let affine = |mid: f64, half: f64, factor: f64| {
        let [mid, half, factor] = [mid, half, factor].map(text::number);
        format!("mid {mid}, half {half}, factor {factor}")
    };
    match evaluation {
        Evaluation::Polynomial(p) => {
            format!("polynomial {}", n.vector("coefficients", &p.coefficients))
        }
        Evaluation::Reciprocal {
            squares,
            shifts,
            output_factor,
            mid,
            half,
        } => {
            let squares: Vec<String> = squares
                .iter()
                .map(|s| format!("{} {}", s.multiplier, text::number(s.constant)))
                .collect();
            format!(
                "reciprocal {}, squares [{}], shifts {}",
                affine(*mid, *half, *output_factor),
                squares.join(", "),
                list(shifts)
            )
        }
        Evaluation::InverseSqrt {
            mid,
            half,
            relaxation,
            output_factor,
        } => format!(
            "inverse_sqrt {}, relaxation {}",
            affine(*mid, *half, *output_factor),
            list(relaxation)
        ),
    }
}

/// What a function was replaced by, in full.
pub(in crate::ir) fn approximation_text(a: &Approximation) -> String {
    let (lo, hi) = a.interval;
    format!(
        "approximates {} on [{}, {}] by {} {}, error {}",
        text::name(&a.function),
        text::number(lo),
        text::number(hi),
        text::name(&a.method),
        a.degree_or_iterations,
        text::number(a.max_error)
    )
}

impl PolyGraph {
    /// The operation of `v` with its operands, as printed in the short form.
    pub fn text(&self, v: ValueId) -> String {
        self.text_in(v, &mut Notation::short())
    }

    /// The operation of `v` with its operands. `parse.rs` reads the full form.
    fn text_in(&self, v: ValueId, n: &mut Notation) -> String {
        let o = self.operand_names(v);
        let list = o.join(", ");
        let affine = |scale: &f64, shift: &f64, n: &Notation| {
            format!(
                "scale {}, shift {}",
                n.number(*scale, 4),
                n.number(*shift, 4)
            )
        };
        match &self.node(v).op {
            PolyOp::Input {
                name,
                client,
                factor,
            } => {
                let factor = n.number(*factor, 4);
                if n.is_full() {
                    format!("{}, factor {factor}", input_text(name, client, n))
                } else {
                    format!("input {name}, factor {factor}")
                }
            }
            PolyOp::Linear(linear) => format!("linear {list}, {}", linear_text(linear, false, n)),
            PolyOp::Add => format!("add {list}"),
            PolyOp::Sub => format!("sub {list}"),
            PolyOp::Affine { scale, shift } => {
                format!("affine {list}, {}", affine(scale, shift, n))
            }
            PolyOp::Multiply if o.len() == 2 && o[0] == o[1] => format!("square {}", o[0]),
            PolyOp::Multiply => format!("multiply {list}"),
            PolyOp::Scores { heads, mask } => {
                format!("scores {list}, heads {heads}{}", mask_text(mask, n))
            }
            PolyOp::KeySum {
                scale,
                shift,
                weights,
            } => {
                let weights = weights_text(weights, n);
                format!("key_sum {list}, {}{weights}", affine(scale, shift, n))
            }
            PolyOp::Values { heads, weights } => {
                format!("values {list}, heads {heads}{}", weights_text(weights, n))
            }
            PolyOp::ScaleHeads => format!("scale_heads {list}"),
            PolyOp::ColumnSum { scale, shift } => {
                format!("column_sum {list}, {}", affine(scale, shift, n))
            }
            PolyOp::ScaleRows => format!("scale_rows {list}"),
            PolyOp::Evaluate {
                evaluation,
                approximation,
            } if n.is_full() => {
                let how = evaluation_text(evaluation, n);
                format!(
                    "evaluate {list}, {how}, {}",
                    approximation_text(approximation)
                )
            }
            PolyOp::Evaluate {
                evaluation,
                approximation,
            } => {
                let how = match evaluation {
                    Evaluation::Polynomial(p) => format!("degree {}", p.degree()),
                    Evaluation::Reciprocal { shifts, .. } => format!("{} factors", shifts.len()),
                    Evaluation::InverseSqrt { relaxation, .. } => {
                        format!("{} iterations", relaxation.len())
                    }
                };
                format!(
                    "evaluate {list}, {}, {how}, error {:.1e}",
                    approximation.function, approximation.max_error
                )
            }
        }
    }
}

impl crate::pass::Ir for PolyGraph {
    const STAGE: &'static str = "poly";

    fn print(&self) -> String {
        self.to_string()
    }

    fn full(&self) -> String {
        let op = |v, n: &mut Notation| self.text_in(v, n);
        let factors = &self.output_factors;
        text::full(
            self,
            (Self::STAGE, ""),
            Notation::full(),
            (&[], &[]),
            op,
            factors,
        )
    }

    fn renumber(&mut self) {
        let _ = PolyGraph::renumber(self);
    }

    fn verify(&self) -> Result<(), String> {
        PolyGraph::verify(self).map_err(|e| e.to_string())
    }
}
