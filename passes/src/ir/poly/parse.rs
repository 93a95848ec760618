//! Reads the full text of poly graphs.

use std::str::FromStr;

use super::{Approximation, Chebyshev, Evaluation, PolyGraph, PolyOp, SquareStep};
use crate::ir::graph::ValueId;
use crate::ir::tensor::parse::{heads, input, linear};
use crate::ir::text::{parse, Cursor, ParseError, Reader, Rung};

struct Poly;

impl FromStr for PolyGraph {
    type Err = ParseError;

    /// Reads what [`crate::pass::Ir::full`] writes. The graph is not verified.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (mut graph, factors) = parse(text, &mut Poly)?;
        if factors.iter().any(|f| *f != 1.0) {
            graph.output_factors = factors;
        }
        Ok(graph)
    }
}

/// `, word NUMBER`.
fn given(at: &mut Cursor<'_>, word: &str) -> Result<f64, ParseError> {
    at.parameter(word)?;
    at.number("a number")
}

/// `mid M, half H, factor F`, as (mid, half, factor).
fn affine(at: &mut Cursor<'_>) -> Result<(f64, f64, f64), ParseError> {
    at.keyword("mid")?;
    let mid = at.number("a number")?;
    Ok((mid, given(at, "half")?, given(at, "factor")?))
}

fn evaluation(r: &mut Reader<'_>) -> Result<Evaluation, ParseError> {
    const KINDS: &str = "`polynomial`, `reciprocal` or `inverse_sqrt`";
    r.at.skip();
    let start = r.at;
    match r.at.word(KINDS)? {
        "polynomial" => {
            let coefficients = r.vector()?;
            Ok(Evaluation::Polynomial(Chebyshev { coefficients }))
        }
        "reciprocal" => {
            let (mid, half, output_factor) = affine(&mut r.at)?;
            r.at.parameter("squares")?;
            r.at.symbol("[")?;
            let mut squares = Vec::new();
            while !r.at.try_symbol("]") {
                if !squares.is_empty() {
                    r.at.symbol(",")?;
                }
                squares.push(SquareStep {
                    multiplier: r.at.integer("a small whole number")?,
                    constant: r.at.number("a number")?,
                });
            }
            r.at.parameter("shifts")?;
            Ok(Evaluation::Reciprocal {
                squares,
                shifts: r.at.numbers("a shift")?,
                output_factor,
                mid,
                half,
            })
        }
        "inverse_sqrt" => {
            let (mid, half, output_factor) = affine(&mut r.at)?;
            r.at.parameter("relaxation")?;
            Ok(Evaluation::InverseSqrt {
                mid,
                half,
                relaxation: r.at.numbers("a relaxation factor")?,
                output_factor,
            })
        }
        _ => Err(start.fail(KINDS)),
    }
}

/// `approximates FUNCTION on [a, b] by METHOD N, error E`.
pub(in crate::ir) fn approximation(at: &mut Cursor<'_>) -> Result<Approximation, ParseError> {
    at.keyword("approximates")?;
    let function = at.name("the name of a function")?;
    at.keyword("on")?;
    let interval = at.interval()?;
    at.keyword("by")?;
    Ok(Approximation {
        function,
        interval: (interval.lo, interval.hi),
        method: at.name("the name of a method")?,
        degree_or_iterations: at.integer("a degree or a number of iterations")?,
        max_error: given(at, "error")?,
    })
}

impl Rung for Poly {
    type Op = PolyOp;
    const STAGE: &'static str = "poly";

    fn op(&mut self, r: &mut Reader<'_>) -> Result<(PolyOp, Vec<ValueId>), ParseError> {
        r.at.skip();
        let start = r.at;
        Ok(match r.at.word("an operation")? {
            "input" => {
                let (name, client) = input(r)?;
                let factor = given(&mut r.at, "factor")?;
                let op = PolyOp::Input {
                    name,
                    client,
                    factor,
                };
                (op, Vec::new())
            }
            "linear" => {
                let x = r.values(1)?;
                r.at.symbol(",")?;
                (PolyOp::Linear(linear(r)?), x)
            }
            "add" => (PolyOp::Add, r.values(2)?),
            "sub" => (PolyOp::Sub, r.values(2)?),
            "multiply" => (PolyOp::Multiply, r.values(2)?),
            "square" => {
                let x = r.value()?;
                (PolyOp::Multiply, vec![x, x])
            }
            word @ ("affine" | "key_sum" | "column_sum") => {
                let operands = r.values(1)?;
                let scale = given(&mut r.at, "scale")?;
                let shift = given(&mut r.at, "shift")?;
                let op = match word {
                    "affine" => PolyOp::Affine { scale, shift },
                    "key_sum" => PolyOp::KeySum {
                        scale,
                        shift,
                        weights: r.optional_matrix("weights")?,
                    },
                    _ => PolyOp::ColumnSum { scale, shift },
                };
                (op, operands)
            }
            "scores" => {
                let operands = r.values(2)?;
                let heads = heads(r)?;
                let mask = r.optional_matrix("mask")?;
                (PolyOp::Scores { heads, mask }, operands)
            }
            "values" => {
                let operands = r.values(2)?;
                let heads = heads(r)?;
                let weights = r.optional_matrix("weights")?;
                (PolyOp::Values { heads, weights }, operands)
            }
            "scale_heads" => (PolyOp::ScaleHeads, r.values(2)?),
            "scale_rows" => (PolyOp::ScaleRows, r.values(2)?),
            "evaluate" => {
                let operands = r.values(1)?;
                r.at.symbol(",")?;
                let evaluation = evaluation(r)?;
                r.at.symbol(",")?;
                let approximation = approximation(&mut r.at)?;
                let op = PolyOp::Evaluate {
                    evaluation,
                    approximation,
                };
                (op, operands)
            }
            _ => {
                return Err(start.fail(
                    "an operation: input, linear, add, sub, multiply, square, affine, scores, key_sum, values, scale_heads, column_sum, scale_rows or evaluate",
                ))
            }
        })
    }
}
