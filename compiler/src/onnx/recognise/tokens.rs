//! Products along tokens: mean pooling and token mixing.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{LinearTerm, RowMap};

use super::terms::{shrink_bias, Parts};
use super::{Lowerer, Placed, Step};
use crate::onnx::expr::Kind;
use crate::onnx::nd::Data;
use crate::onnx::view::{Sym, NONE};

impl Lowerer<'_> {
    /// Products along tokens (mean pooling, token mixing): the contracted axis is rows of what is read.
    pub(super) fn mixed_tokens(
        &mut self,
        view: &Sym,
        base: u32,
        (a, w, m, k, n): (&Sym, &Data, usize, usize, usize),
        parts: &[Parts],
        bias: &[f64],
    ) -> Step<Option<ValueId>> {
        let Some(e) = a.single() else { return Ok(None) };
        if (0..a.len()).any(|i| a.at(i).0 == NONE) {
            return Ok(None);
        }
        // Where the elements of `a` would lie, without making anything yet.
        let layout = self.layout(e);
        let place = |i: usize| {
            let p = layout.2[a.at(i).1 as usize] as usize;
            (p / layout.1, p % layout.1)
        };
        for i in 0..m {
            for j in 0..k {
                if place(i * k + j) != (place(j).0, place(i * k).1) {
                    return Ok(None);
                }
            }
        }
        if m == 1 && k > 1 && place(0).0 == place(1).0 {
            return Ok(None);
        }
        if k == 1 {
            return Ok(None);
        }
        let (t, c) = (view.shape[0], view.shape[1]);
        let mut feature = vec![None; c];
        let mut mix_col = vec![None; t];
        let mut scale = None;
        for r in 0..t {
            for q in 0..c {
                let [p] = parts[r * c + q][..] else {
                    return Ok(None);
                };
                let (i, j) = (p.element as usize / n, p.element as usize % n);
                if *feature[q].get_or_insert(i) != i
                    || *mix_col[r].get_or_insert(j) != j
                    || *scale.get_or_insert(p.factor) != p.factor
                {
                    return Ok(None);
                }
            }
        }
        let scale = scale.unwrap_or(1.0);
        let made_here =
            matches!(self.get(e).kind, Kind::Input { .. }) || self.linear_base(a).is_some();
        let (placed, a) = if made_here {
            let whole = Sym::whole(e, self.get(e).shape.clone());
            let value = self.matrix(&self.laid_out(&whole, &layout))?;
            let placed = Placed {
                value,
                cols: layout.1,
                pos: std::rc::Rc::new(layout.2.clone()),
                factor: 1.0,
            };
            (placed, a.clone())
        } else {
            self.place_view(a, e)?
        };
        let Shape::Matrix { rows, cols } = self.graph.node(placed.value).shape else {
            return Ok(None);
        };
        let place = |i: usize| {
            let p = placed.pos[a.at(i).1 as usize] as usize;
            (p / placed.cols, p % placed.cols)
        };
        // Factors may depend on the feature, not on the token.
        let separate = (0..m).all(|i| {
            (0..k).all(|j| {
                place(i * k + j) == (place(j).0, place(i * k).1)
                    && a.mul.at(i * k + j) == a.mul.at(i * k)
            })
        });
        if !separate {
            return Ok(None);
        }
        let mut mix = Matrix::zeros(t, rows);
        for r in 0..t {
            for j in 0..k {
                mix.data[r * rows + place(j).0] += scale * w[j * n + mix_col[r].unwrap_or(0)];
            }
        }
        let mut weight = Matrix::zeros(cols, c);
        for q in 0..c {
            let i = feature[q].unwrap_or(0) * k;
            weight.data[place(i).1 * c + q] = a.mul.at(i) * placed.factor;
        }
        let mut bias = bias.to_vec();
        for r in 0..t {
            for q in 0..c {
                for j in 0..k {
                    let i = feature[q].unwrap_or(0) * k + j;
                    bias[r * c + q] += w[j * n + mix_col[r].unwrap_or(0)] * scale * a.add.at(i);
                }
            }
        }
        let term = LinearTerm {
            rows: RowMap::Mix(mix),
            weight: weight.into(),
            post: None,
        };
        let bias = shrink_bias(bias, t, c);
        if matches!(self.get(base).kind, Kind::Sum { .. }) {
            self.count("pool");
        }
        self.push_linear(base, LayerKind::Pool, placed.value, vec![term], bias, t, c)
            .map(Some)
    }
}
