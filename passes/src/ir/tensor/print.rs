//! Text of tensor graphs: one line a value, in topological order; numbers rounded for reading, or exact to be read back.

use std::fmt;

use super::{ClientInput, Linear, RowMap, TensorGraph, TensorOp};
use crate::ir::graph::ValueId;
use crate::ir::shape::Matrix;
use crate::ir::text::{self, Notation};

impl fmt::Display for TensorGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "tensor", |v| self.text(v))
    }
}

/// How terms and bias of a linear map are printed: constants are the value's `weight`, `rows`, `post`, with the number of the term where
/// there are several, and `bias`. `sizes`: whether a bias of several rows is told from one for all rows in the short form.
pub(in crate::ir) fn linear_text(linear: &Linear, sizes: bool, n: &mut Notation) -> String {
    let several = linear.terms.len() > 1;
    let role = |word: &str, i: usize| match several {
        true => format!("{word}{i}"),
        false => word.to_string(),
    };
    let terms: Vec<String> = linear
        .terms
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let rows = match &t.rows {
                RowMap::Identity => String::new(),
                RowMap::Mix(m) => format!("rows {} ", n.matrix(&role("rows", i), m)),
            };
            let weight = n.weight(&role("weight", i), &t.weight);
            let post = match &t.post {
                None => String::new(),
                Some(m) if n.is_full() => format!(" post {}", n.matrix(&role("post", i), m)),
                Some(_) => " post".to_string(),
            };
            format!("{rows}{weight}{post}")
        })
        .collect();
    let bias = match &linear.bias {
        None => String::new(),
        Some(b) if n.is_full() || (b.rows != 1 && sizes) => {
            format!(", bias {}", n.matrix("bias", b))
        }
        Some(_) => ", bias".to_string(),
    };
    format!("{}{bias}", terms.join(" + "))
}

/// Name of a graph input and what the client does.
pub(in crate::ir) fn input_text(name: &str, client: &ClientInput, n: &mut Notation) -> String {
    let name = text::name(name);
    match client {
        ClientInput::Gather { user_shape, index } => {
            let plain = index.iter().enumerate().all(|(i, &k)| k == i as i64);
            // As many values as the user gives, where that is all there is to say.
            let all = user_shape.iter().product::<usize>() == index.len();
            if plain && (all || !n.is_full()) {
                format!("input {name} {user_shape:?} as given")
            } else if n.is_full() {
                let index = n.integers("index", index);
                format!("input {name} {user_shape:?} gathered by {index}")
            } else {
                format!("input {name} {user_shape:?} gathered")
            }
        }
        ClientInput::Embedding { user_shape, table } => {
            let table = n.weight("table", table);
            format!("input {name} {user_shape:?} embedded by {table}")
        }
    }
}

/// A 0/1 mask, if there is one.
pub(in crate::ir) fn mask_text(mask: &Option<Matrix>, n: &mut Notation) -> String {
    optional_text("mask", "masked", mask, n)
}

/// Weights of scores, if there are any.
pub(in crate::ir) fn weights_text(weights: &Option<Matrix>, n: &mut Notation) -> String {
    optional_text("weights", "weighted", weights, n)
}

fn optional_text(word: &str, short: &str, m: &Option<Matrix>, n: &mut Notation) -> String {
    match m {
        None => String::new(),
        Some(m) if n.is_full() => format!(", {word} {}", n.matrix(word, m)),
        Some(_) => format!(", {short}"),
    }
}

impl TensorGraph {
    /// The operation of `v` with its operands, as printed in the short form.
    pub fn text(&self, v: ValueId) -> String {
        self.text_in(v, &mut Notation::short())
    }

    /// The operation of `v` with its operands. `parse.rs` reads the full form.
    fn text_in(&self, v: ValueId, n: &mut Notation) -> String {
        let list = self.operand_names(v).join(", ");
        match &self.node(v).op {
            TensorOp::Input { name, client } => input_text(name, client, n),
            TensorOp::Linear(linear) => format!("linear {list}, {}", linear_text(linear, true, n)),
            TensorOp::Add => format!("add {list}"),
            TensorOp::Sub => format!("sub {list}"),
            TensorOp::Multiply => format!("multiply {list}"),
            TensorOp::Scores { heads, scale, mask } => {
                let (scale, mask) = (n.number(*scale, 4), mask_text(mask, n));
                format!("scores {list}, heads {heads}, scale {scale}{mask}")
            }
            TensorOp::PowerSoftmax { power, epsilon } => {
                let epsilon = n.scientific(*epsilon, 3);
                format!("power_softmax {list}, p {power}, epsilon {epsilon}")
            }
            TensorOp::Softmax { mask } => format!("softmax {list}{}", mask_text(mask, n)),
            TensorOp::Values { heads } => format!("values {list}, heads {heads}"),
            TensorOp::LayerNorm {
                gamma,
                beta,
                epsilon,
                centre,
            } => {
                let name = if *centre { "layer_norm" } else { "rms_norm" };
                let epsilon = n.scientific(*epsilon, 3);
                let mut text = format!("{name} {list}, epsilon {epsilon}");
                if n.is_full() {
                    text += &format!(", gamma {}", n.vector("gamma", gamma));
                    text += &format!(", beta {}", n.vector("beta", beta));
                }
                text
            }
            TensorOp::Activation(function) => format!("{} {list}", function.name()),
        }
    }
}

impl crate::pass::Ir for TensorGraph {
    const STAGE: &'static str = "tensor";

    fn print(&self) -> String {
        self.to_string()
    }

    fn full(&self) -> String {
        let op = |v, n: &mut Notation| self.text_in(v, n);
        text::full(
            self,
            (Self::STAGE, ""),
            Notation::full(),
            (&[], &[]),
            op,
            &[],
        )
    }

    fn renumber(&mut self) {
        let _ = TensorGraph::renumber(self);
    }

    fn verify(&self) -> Result<(), String> {
        TensorGraph::verify(self).map_err(|e| e.to_string())
    }
}
