//! From expressions to blocks, asked for from the outputs backwards, so that the largest block is seen first.
//!
//! Each expression is placed once in a matrix of the tensor graph; a reader asks for the matrix its view describes and gets
//! the placed one, or a linear map of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::tensor::TensorGraph;
use heron_schedule::client::ClientGraph;

use super::error::{ErrorKind, Obstacle};
use super::expr::{Expr, Exprs};
use super::proto::Model;
use super::view::{Sym, Val};

mod activation;
mod attention;
mod client;
mod elementwise;
mod label;
mod layout;
mod linear;
mod mask;
mod matrix;
mod norm;
mod place;
mod polynomial;
mod terms;
mod tokens;

pub(super) type Step<T> = Result<T, Obstacle>;

/// The tensor graph and what was found on the way.
pub(super) struct Lowered {
    pub(super) graph: TensorGraph,
    pub(super) used_inputs: BTreeSet<String>,
    pub(super) blocks: BTreeMap<String, usize>,
    pub(super) client: ClientGraph,
}

/// Where the elements of an expression are: element i is `factor` × value[pos_i], the value a matrix of `cols` columns.
#[derive(Clone, Debug)]
struct Placed {
    value: ValueId,
    cols: usize,
    pos: Rc<Vec<u32>>,
    factor: f64,
}

/// Rows, columns and the place of each element of an expression in a matrix.
type Layout = Rc<(usize, usize, Vec<u32>)>;

/// gamma, beta and the block that has them.
type ScaledNorm = (Vec<f64>, Vec<f64>, ValueId);

struct Lowerer<'a> {
    model: &'a Model,
    exprs: Exprs,
    graph: TensorGraph,
    placed: HashMap<u32, Placed>,
    layouts: HashMap<u32, Layout>,
    matrices: HashMap<(usize, u32, u32), Vec<(Sym, ValueId)>>,
    norms: HashMap<u32, Vec<ScaledNorm>>,
    used_inputs: BTreeSet<String>,
    blocks: BTreeMap<String, usize>,
    /// What the client computes, and the step of each of its expressions.
    client: ClientGraph,
    client_steps: HashMap<u32, u32>,
    masks: Vec<(Sym, ValueId)>,
    /// What was refused; a stand-in took its place, so that the rest is looked at too.
    obstacles: Vec<Obstacle>,
}

/// Lowers the outputs, each to a matrix whose elements are the output's in order.
pub(super) fn lower(
    model: &Model,
    exprs: Exprs,
    outputs: &[(String, Val)],
) -> Result<Lowered, Vec<Obstacle>> {
    let name = if model.graph.name.is_empty() {
        "model".to_string()
    } else {
        label::clean(&model.graph.name)
    };
    let mut l = Lowerer {
        model,
        exprs,
        graph: TensorGraph::new(name),
        placed: HashMap::new(),
        layouts: HashMap::new(),
        matrices: HashMap::new(),
        norms: HashMap::new(),
        used_inputs: BTreeSet::new(),
        blocks: BTreeMap::new(),
        client: ClientGraph::default(),
        client_steps: HashMap::new(),
        masks: Vec::new(),
        obstacles: Vec::new(),
    };
    let mut found = Vec::new();
    for (name, v) in outputs {
        let Val::Sym(s) = v else {
            l.obstacles.push(Obstacle::new(
                ErrorKind::Graph,
                name,
                "this output does not depend on any input",
                "remove it from the outputs",
            ));
            continue;
        };
        let cols = s.shape.last().copied().unwrap_or(1);
        let view = s.reshaped(vec![s.len() / cols.max(1), cols]);
        match l.matrix(&view) {
            Ok(value) => found.push((name.clone(), value)),
            Err(o) => l.obstacles.push(o),
        }
    }
    if !l.obstacles.is_empty() {
        let mut all: Vec<Obstacle> = Vec::new();
        for o in l.obstacles {
            if !all.contains(&o) {
                all.push(o);
            }
        }
        return Err(all);
    }
    l.graph.outputs = found;
    label::mark_heads(&mut l.graph);
    Ok(Lowered {
        graph: l.graph,
        used_inputs: l.used_inputs,
        blocks: l.blocks,
        client: l.client,
    })
}

impl Lowerer<'_> {
    fn get(&self, e: u32) -> &Expr {
        self.exprs.get(e)
    }

    fn count(&mut self, block: &str) {
        *self.blocks.entry(block.to_string()).or_insert(0) += 1;
    }

    /// An obstacle at the node that made expression `e`.
    fn refuse(&self, e: u32, reason: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
        let node = self.get(e).node;
        let mut o = Obstacle::new(
            ErrorKind::UnsupportedOp,
            label::node_name(self.model, node),
            reason,
            remedy,
        );
        o.op = label::node_op(self.model, node);
        o
    }
}
