//! Sums, differences, products and small powers of encrypted values, element by element.

use std::rc::Rc;

use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::TensorOp;

use super::{Lowerer, Placed, Step};
use crate::onnx::error::ErrorKind;
use crate::onnx::expr::{Fun, Kind};
use crate::onnx::view::{Co, Sym};

impl Lowerer<'_> {
    pub(super) fn elementwise(
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
    pub(super) fn product_or_refuse(&mut self, e: u32, a: &Sym, b: &Sym) -> Step<Placed> {
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
    pub(super) fn power(&mut self, e: u32, x: &Sym, p: u32) -> Step<Placed> {
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
