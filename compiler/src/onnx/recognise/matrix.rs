//! The matrix that a view describes: a placed value, a linear map of one, an input as the client arranges it, or a sum of such.

use std::rc::Rc;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::{ClientInput, TensorOp};

use super::{label, Lowerer, Placed, Step};
use crate::onnx::error::{ErrorKind, Obstacle};
use crate::onnx::expr::Kind;
use crate::onnx::view::{At, Co, Sym, NONE};

impl Lowerer<'_> {
    /// The value of the tensor graph that holds exactly the elements of a 2-dimensional view.
    pub(super) fn matrix(&mut self, view: &Sym) -> Step<ValueId> {
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
        own.at = At::Map(Rc::new(
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
    pub(super) fn place_view(&mut self, view: &Sym, e: u32) -> Step<(Placed, Sym)> {
        if let Some(found) = self.norm_view(view, e)? {
            return Ok(found);
        }
        Ok((self.place(e)?, view.clone()))
    }
}
