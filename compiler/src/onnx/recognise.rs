//! From expressions to blocks, asked for from the outputs backwards, so that the largest block is seen first.
//!
//! Each expression is placed once in a matrix of the tensor graph; a reader asks for the matrix its view describes and gets
//! the placed one, or a linear map of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use heron_schedule::client::ClientGraph;

use super::error::{ErrorKind, Obstacle};
use super::expr::{Expr, Exprs, Fun, Kind};
use super::nd::count;
use super::proto::Model;
use super::view::{Co, Sym, Val, NONE};

mod activation;
mod attention;
mod client;
mod label;
mod layout;
mod linear;
mod mask;
mod norm;
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

    /// The value of the tensor graph that holds exactly the elements of a 2-dimensional view.
    fn matrix(&mut self, view: &Sym) -> Step<ValueId> {
        let key = (view.len(), view.at(0).0, view.at(0).1);
        if let Some(list) = self.matrices.get(&key) {
            if let Some((_, v)) = list
                .iter()
                .find(|(s, _)| s.shape == view.shape && s.same(view))
            {
                return Ok(*v);
            }
        }
        let value = self.make_matrix(view)?;
        self.matrices
            .entry(key)
            .or_default()
            .push((view.clone(), value));
        Ok(value)
    }

    fn make_matrix(&mut self, view: &Sym) -> Step<ValueId> {
        let bases = view.exprs();
        let [first, ..] = bases[..] else {
            return Err(Obstacle::new(
                ErrorKind::UnsupportedOp,
                "",
                "a block reads only constants",
                "fold constants before exporting",
            ));
        };
        let embedding = bases.len() == 1 && matches!(self.get(first).kind, Kind::Embed { .. });
        if !embedding && self.exprs.client_view(view) {
            let (rows, cols) = (view.shape[0], view.shape[1]);
            return self.client_value(view, Shape::Matrix { rows, cols });
        }
        if let Some(base) = self.linear_base(view) {
            return self.linear(view, base);
        }
        if bases.len() > 1 {
            return self.sum_of_parts(view, &bases);
        }
        if let Kind::Input {
            name, user_shape, ..
        } = &self.get(first).kind
        {
            let (name, user_shape) = (name.clone(), user_shape.clone());
            return self.input(view, first, name, user_shape);
        }
        self.placed_view(view, first)
    }

    /// A view of several expressions: each part alone (zero elsewhere), summed.
    fn sum_of_parts(&mut self, view: &Sym, bases: &[u32]) -> Step<ValueId> {
        let n = view.len();
        let mut total: Option<ValueId> = None;
        for (k, &e) in bases.iter().enumerate() {
            let mine: Vec<f64> = (0..n).map(|i| f64::from(view.at(i).0 == e)).collect();
            let mut part = view.times(&Co::from_vec(mine));
            if k == 0 {
                // Constants belong to the first part.
                let rest = (0..n).map(|i| {
                    if view.at(i).0 == NONE {
                        view.add.at(i)
                    } else {
                        0.0
                    }
                });
                part = part.plus(&Co::from_vec(rest.collect()));
            }
            let v = self.matrix(&part)?;
            total = Some(match total {
                None => v,
                Some(t) => {
                    let shape = self.graph.node(v).shape;
                    let layer = self.layer(bases[0], "join", LayerKind::Reshape, &[]);
                    let name = self.value_name(bases[0]);
                    self.graph.add(
                        &format!("{name}.join"),
                        TensorOp::Add,
                        &[t, v],
                        shape,
                        layer,
                    )
                }
            });
        }
        total.ok_or_else(|| self.refuse(bases[0], "an empty value", ""))
    }

    /// An input prepared by the client exactly as the view wants it.
    fn input(&mut self, view: &Sym, e: u32, name: String, user_shape: Vec<usize>) -> Step<ValueId> {
        let n = view.len();
        let (rows, cols) = (view.shape[0], view.shape[1]);
        let index = (0..n)
            .map(|i| match view.at(i) {
                (NONE, _) => -1,
                (_, k) => i64::from(k),
            })
            .collect();
        self.used_inputs.insert(name.clone());
        let layer = self.layer(e, "", LayerKind::Embed, &[]);
        let value = self.graph.add(
            &label::clean(&name),
            TensorOp::Input {
                name,
                client: ClientInput::Gather { user_shape, index },
            },
            &[],
            Shape::Matrix { rows, cols },
            layer,
        );
        let plain = view.mul.uniform() == Some(1.0) && view.add.uniform() == Some(0.0);
        let ones = (0..n).all(|i| view.at(i).0 == NONE || view.mul.at(i) == 1.0);
        if plain || (ones && view.add.uniform() == Some(0.0)) {
            return Ok(value);
        }
        let whole = Placed {
            value,
            cols,
            pos: Rc::new((0..n as u32).collect()),
            factor: 1.0,
        };
        let mut own = view.clone();
        own.at = super::view::At::Map(Rc::new(
            (0..n)
                .map(|i| {
                    if view.at(i).0 == NONE {
                        (NONE, 0)
                    } else {
                        (e, i as u32)
                    }
                })
                .collect(),
        ));
        self.select(&own, e, &whole)
    }

    /// A view of one placed expression: the value itself, or a linear map that moves and scales its elements.
    fn placed_view(&mut self, view: &Sym, e: u32) -> Step<ValueId> {
        let (placed, view) = self.place_view(view, e)?;
        let n = view.len();
        let Shape::Matrix { rows, cols } = self.graph.node(placed.value).shape else {
            return Err(self.refuse(e, "attention weights are used outside A·V", ""));
        };
        let same_shape = view.shape == [rows, cols];
        let as_is = same_shape
            && view.add.uniform() == Some(0.0)
            && view.mul.uniform().map(|m| m * placed.factor) == Some(1.0)
            && (0..n).all(|i| {
                let (x, k) = view.at(i);
                x == e && placed.pos[k as usize] as usize == i
            });
        if as_is {
            return Ok(placed.value);
        }
        self.select(&view, e, &placed)
    }

    /// Places `e`; for a normalisation the factors and summands of the view become gamma and beta where they fit.
    fn place_view(&mut self, view: &Sym, e: u32) -> Step<(Placed, Sym)> {
        if let Some(found) = self.norm_view(view, e)? {
            return Ok(found);
        }
        Ok((self.place(e)?, view.clone()))
    }

    /// The matrix that holds an expression, made on first use.
    fn place(&mut self, e: u32) -> Step<Placed> {
        if let Some(p) = self.placed.get(&e) {
            return Ok(p.clone());
        }
        let p = match self.make_placed(e) {
            Ok(p) => p,
            Err(o) => {
                self.obstacles.push(o);
                self.look_behind(e);
                self.stand_in(e)
            }
        };
        self.placed.insert(e, p.clone());
        Ok(p)
    }

    /// Looks at what a refused function reads, for more obstacles.
    fn look_behind(&mut self, e: u32) {
        let Kind::Un(_, x) = &self.get(e).kind else {
            return;
        };
        for base in x.exprs() {
            let inside = matches!(
                self.get(base).kind,
                Kind::MatSym { .. } | Kind::Softmax { .. } | Kind::Max { .. }
            );
            if inside {
                continue;
            }
            if let Err(o) = self.place(base) {
                self.obstacles.push(o);
            }
        }
    }

    /// In place of what is refused: the graph is not used, but what reads it is looked at.
    fn stand_in(&mut self, e: u32) -> Placed {
        let layout = self.layout(e);
        let n = layout.0 * layout.1;
        let layer = self.layer(e, "", LayerKind::Other, &[]);
        let client = ClientInput::Gather {
            user_shape: vec![n],
            index: (0..n as i64).collect(),
        };
        let name = self.value_name(e);
        let op = TensorOp::Input {
            name: name.clone(),
            client,
        };
        let shape = Shape::Matrix {
            rows: layout.0,
            cols: layout.1,
        };
        Placed {
            value: self.graph.add(&name, op, &[], shape, layer),
            cols: layout.1,
            pos: Rc::new(layout.2.clone()),
            factor: 1.0,
        }
    }

    fn make_placed(&mut self, e: u32) -> Step<Placed> {
        if let Some(p) = self.activation(e)? {
            return Ok(p);
        }
        let expr = self.get(e).clone();
        match &expr.kind {
            Kind::Embed { table, ids } => {
                let source = ids.single().map(|i| self.get(i).kind.clone());
                let Some(Kind::Input {
                    name, user_shape, ..
                }) = source
                else {
                    return Err(self.refuse(e, "ids are not a graph input", ""));
                };
                if ids.identity(count(&user_shape)).is_none() {
                    return Err(self.refuse(
                        e,
                        "ids are rearranged before the lookup",
                        "look up the ids in their order",
                    ));
                }
                self.used_inputs.insert(name.clone());
                self.count("embedding");
                let (rows, cols) = (expr.shape[0], expr.shape[1]);
                let client = ClientInput::Embedding {
                    user_shape,
                    table: table.data.weight(table.shape[0], table.shape[1]),
                };
                let layer = self.layer(e, "", LayerKind::Embed, &[]);
                let value = self.graph.add(
                    &self.value_name(e),
                    TensorOp::Input { name, client },
                    &[],
                    Shape::Matrix { rows, cols },
                    layer,
                );
                Ok(self.whole(value, rows * cols, cols))
            }
            Kind::Norm {
                a,
                l,
                epsilon,
                centre,
            } => self.norm_block(e, a, *l, *epsilon, *centre, 1.0, &[]),
            Kind::MatSym { a, b, k } => self.values(e, a, b, *k),
            Kind::Add(a, b) => self.elementwise(e, TensorOp::Add, LayerKind::Residual, a, b),
            Kind::Mul(a, b) => {
                if let Some(n) = self.find_norm(e) {
                    let p =
                        self.norm_block(e, &n.x, n.l, n.epsilon, n.centre, n.factor, &n.nodes)?;
                    // Elements of e in the order of the groups.
                    let pos = n.place.iter().map(|&i| p.pos[i as usize]).collect();
                    return Ok(Placed {
                        pos: Rc::new(pos),
                        ..p
                    });
                }
                self.product_or_refuse(e, a, b)
            }
            Kind::Un(Fun::Pow(p), x) if [2.0, 3.0, 4.0].contains(p) => {
                let (x, p) = (x.clone(), *p as u32);
                self.power(e, &x, p)
            }
            Kind::Un(f, _) => Err(self.refuse(
                e,
                format!(
                    "{} of an encrypted value outside a recognised block",
                    f.name()
                ),
                "known blocks: PowerSoftmax, LayerNorm, RMSNorm, GELU, SiLU, ReLU, tanh, sigmoid",
            )),
            Kind::Softmax { .. } => Err(self.refuse(
                e,
                "softmax outside attention",
                "return the scores and apply softmax after decryption",
            )),
            Kind::Max { .. } => Err(self.refuse(
                e,
                "maximum of encrypted values outside the stable form of PowerSoftmax",
                "export the length-agnostic form without the maximum",
            )),
            Kind::MatConst { .. } | Kind::Sum { .. } | Kind::Input { .. } | Kind::Client { .. } => {
                let layout = self.layout(e);
                let view = self.laid_out(&Sym::whole(e, expr.shape.clone()), &layout);
                let value = self.matrix(&view)?;
                Ok(Placed {
                    value,
                    cols: layout.1,
                    pos: Rc::new(layout.2.clone()),
                    factor: 1.0,
                })
            }
        }
    }

    fn whole(&self, value: ValueId, n: usize, cols: usize) -> Placed {
        Placed {
            value,
            cols,
            pos: Rc::new((0..n as u32).collect()),
            factor: 1.0,
        }
    }

    fn elementwise(
        &mut self,
        e: u32,
        op: TensorOp,
        kind: LayerKind,
        a: &Sym,
        b: &Sym,
    ) -> Step<Placed> {
        let layout = self.layout(e);
        let (va, vb) = (self.laid_out(a, &layout), self.laid_out(b, &layout));
        // A negated operand of a sum becomes a subtraction.
        let negative = |s: &Sym| s.mul.uniform() == Some(-1.0) && s.add.uniform() == Some(0.0);
        let (op, va, vb) = match op {
            TensorOp::Add if negative(&vb) && self.linear_base(&vb).is_none() => {
                (TensorOp::Sub, va, vb.times(&Co::All(-1.0)))
            }
            TensorOp::Add if negative(&va) && self.linear_base(&va).is_none() => {
                (TensorOp::Sub, vb, va.times(&Co::All(-1.0)))
            }
            op => (op, va, vb),
        };
        let x = self.matrix(&va)?;
        let y = self.matrix(&vb)?;
        let shape = Shape::Matrix {
            rows: layout.0,
            cols: layout.1,
        };
        let layer = self.layer(e, "", kind, &[]);
        let value = self
            .graph
            .add(&self.value_name(e), op, &[x, y], shape, layer);
        Ok(Placed {
            value,
            cols: layout.1,
            pos: Rc::new(layout.2.clone()),
            factor: 1.0,
        })
    }

    /// A product of two encrypted values; a division that no block explains is refused.
    fn product_or_refuse(&mut self, e: u32, a: &Sym, b: &Sym) -> Step<Placed> {
        for side in [a, b] {
            let Some(x) = side.single() else { continue };
            if let Kind::Un(Fun::Pow(p), _) = self.get(x).kind {
                if p < 1.0 {
                    let mut o = self.refuse(
                        e,
                        "divides by an encrypted value that is neither a sum of even powers nor a variance: \
                         its interval is not known to exclude 0",
                        "write it as PowerSoftmax or LayerNorm, or divide after decryption",
                    );
                    o.kind = ErrorKind::Range;
                    return Err(o);
                }
            }
        }
        self.count("product");
        self.elementwise(e, TensorOp::Multiply, LayerKind::Other, a, b)
    }

    /// x² to x⁴ by products.
    fn power(&mut self, e: u32, x: &Sym, p: u32) -> Step<Placed> {
        let layout = self.layout(e);
        let view = self.laid_out(x, &layout);
        let v = self.matrix(&view)?;
        let shape = self.graph.node(v).shape;
        let name = self.value_name(e);
        let layer = self.layer(e, "", LayerKind::Other, &[]);
        let square = self
            .graph
            .add(&name, TensorOp::Multiply, &[v, v], shape, layer);
        let value = match p {
            2 => square,
            3 => self
                .graph
                .add(&name, TensorOp::Multiply, &[square, v], shape, layer),
            _ => self
                .graph
                .add(&name, TensorOp::Multiply, &[square, square], shape, layer),
        };
        self.count("product");
        Ok(Placed {
            value,
            cols: layout.1,
            pos: Rc::new(layout.2.clone()),
            factor: 1.0,
        })
    }
}
