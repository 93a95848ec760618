//! Where an expression lies: each is placed once, by the block that makes it.

use std::rc::Rc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::{ClientInput, TensorOp};

use super::{Lowerer, Placed, Step};
use crate::onnx::expr::{Fun, Kind};
use crate::onnx::nd::count;
use crate::onnx::view::Sym;

impl Lowerer<'_> {
    /// The matrix that holds an expression, made on first use.
    pub(super) fn place(&mut self, e: u32) -> Step<Placed> {
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

    pub(super) fn whole(&self, value: ValueId, n: usize, cols: usize) -> Placed {
        Placed {
            value,
            cols,
            pos: Rc::new((0..n as u32).collect()),
            factor: 1.0,
        }
    }
}
