//! Reads the full text of tensor graphs.

use std::str::FromStr;

use super::{ClientInput, Function, Linear, LinearTerm, RowMap, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;
use crate::ir::text::{parse, ParseError, Reader, Rung};

struct Tensor;

impl FromStr for TensorGraph {
    type Err = ParseError;

    /// Reads what [`crate::pass::Ir::full`] writes. The graph is not verified.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text, &mut Tensor).map(|(graph, _)| graph)
    }
}

/// Terms and bias of a linear map, after the comma.
pub(in crate::ir) fn linear(r: &mut Reader<'_>) -> Result<Linear, ParseError> {
    let mut terms = Vec::new();
    loop {
        let rows = if r.at.try_keyword("rows") {
            RowMap::Mix(r.matrix()?)
        } else {
            RowMap::Identity
        };
        let weight = r.matrix()?.into();
        let post = if r.at.try_keyword("post") {
            Some(r.matrix()?)
        } else {
            None
        };
        terms.push(LinearTerm { rows, weight, post });
        if !r.at.try_symbol("+") {
            break;
        }
    }
    let bias = r.optional_matrix("bias")?;
    Ok(Linear { terms, bias })
}

/// Name of a graph input and what the client does, after the word `input`.
pub(in crate::ir) fn input(r: &mut Reader<'_>) -> Result<(String, ClientInput), ParseError> {
    let name = r.at.name("the name of an input")?;
    let user_shape = r.at.counts("a size of the user's tensor")?;
    let start = r.at;
    let client = match r.at.word("`as given`, `gathered by` or `embedded by`")? {
        "as" => {
            r.at.keyword("given")?;
            let count = user_shape.iter().product::<usize>() as i64;
            ClientInput::Gather {
                user_shape,
                index: (0..count).collect(),
            }
        }
        "gathered" => {
            r.at.keyword("by")?;
            let index = r.integers()?;
            ClientInput::Gather { user_shape, index }
        }
        "embedded" => {
            r.at.keyword("by")?;
            let table = r.matrix()?.into();
            ClientInput::Embedding { user_shape, table }
        }
        _ => return Err(start.fail("`as given`, `gathered by` or `embedded by`")),
    };
    Ok((name, client))
}

/// `, heads N`.
pub(in crate::ir) fn heads(r: &mut Reader<'_>) -> Result<usize, ParseError> {
    r.at.parameter("heads")?;
    r.at.count("a number of heads")
}

impl Rung for Tensor {
    type Op = TensorOp;
    const STAGE: &'static str = "tensor";

    fn op(&mut self, r: &mut Reader<'_>) -> Result<(TensorOp, Vec<ValueId>), ParseError> {
        r.at.skip();
        let start = r.at;
        let word = r.at.word("an operation")?;
        Ok(match word {
            "input" => {
                let (name, client) = input(r)?;
                (TensorOp::Input { name, client }, Vec::new())
            }
            "linear" => {
                let x = r.values(1)?;
                r.at.symbol(",")?;
                (TensorOp::Linear(linear(r)?), x)
            }
            "add" => (TensorOp::Add, r.values(2)?),
            "sub" => (TensorOp::Sub, r.values(2)?),
            "multiply" => (TensorOp::Multiply, r.values(2)?),
            "scores" => {
                let operands = r.values(2)?;
                let heads = heads(r)?;
                r.at.parameter("scale")?;
                let scale = r.at.number("a factor")?;
                let mask = r.optional_matrix("mask")?;
                (TensorOp::Scores { heads, scale, mask }, operands)
            }
            "power_softmax" => {
                let operands = r.values(1)?;
                r.at.parameter("p")?;
                let power = r.at.integer("an even power")?;
                r.at.parameter("epsilon")?;
                let epsilon = r.at.number("a number of at least 0")?;
                (TensorOp::PowerSoftmax { power, epsilon }, operands)
            }
            "softmax" => {
                let mut operands = r.values(1)?;
                let mut mask = r.optional_matrix("mask")?;
                if mask.is_none() && r.at.try_symbol(",") {
                    operands.push(r.value()?);
                    mask = r.optional_matrix("mask")?;
                }
                (TensorOp::Softmax { mask }, operands)
            }
            "values" => {
                let operands = r.values(2)?;
                let heads = heads(r)?;
                (TensorOp::Values { heads }, operands)
            }
            "layer_norm" | "rms_norm" => {
                let operands = r.values(1)?;
                r.at.parameter("epsilon")?;
                let epsilon = r.at.number("a number of at least 0")?;
                r.at.parameter("gamma")?;
                let gamma = r.vector()?;
                r.at.parameter("beta")?;
                let beta = r.vector()?;
                let centre = word == "layer_norm";
                let op = TensorOp::LayerNorm {
                    gamma,
                    beta,
                    epsilon,
                    centre,
                };
                (op, operands)
            }
            other => match Function::from_name(other) {
                Some(function) => (TensorOp::Activation(function), r.values(1)?),
                None => {
                    return Err(start.fail(
                        "an operation: input, linear, add, sub, multiply, scores, power_softmax, softmax, values, layer_norm, rms_norm or an activation",
                    ))
                }
            },
        })
    }
}
