//! What a linear map reads: a placed value with its rearrangement in the weight, or rows as the client arranges them.

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{Matrix, Shape};
use heron_passes::ir::weight::{Choice, Weight};

use crate::onnx::expr::Kind;
use crate::onnx::recognise::terms::Parts;
use crate::onnx::recognise::{Lowerer, Step};
use crate::onnx::view::{Co, Sym, NONE};

/// Element (m, n) of what is read is Σ_c x[row(m), c] · weight[c, n] + bias.
pub(super) struct Source {
    pub(super) value: ValueId,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Row of the value for each m.
    pub(super) row: Vec<usize>,
    /// (cols × n).
    pub(super) weight: Weight,
    /// Per (m, n).
    pub(super) bias: Option<Matrix>,
    /// Rows that hold only zeros, so that reading them is reading nothing.
    pub(super) zero: Vec<bool>,
}

impl Lowerer<'_> {
    /// If every output row reads one row of an input, the client can arrange them: the input arranged, and the summands there. `None` if
    /// there is nothing to arrange.
    pub(super) fn client_rows(
        &self,
        view: &Sym,
        a: &Sym,
        parts: &[Parts],
        n: usize,
    ) -> Option<(Sym, Vec<Parts>)> {
        let from_input = a
            .single()
            .is_some_and(|e| matches!(self.get(e).kind, Kind::Input { .. }));
        let (t, c) = (view.shape[0], view.shape[1]);
        let k = a.shape[1];
        if !from_input || a.mul.uniform().is_none() || a.add.uniform() != Some(0.0) {
            return None;
        }
        let mut rows: Vec<Option<usize>> = vec![None; t];
        for r in 0..t {
            for p in parts[r * c..(r + 1) * c].iter().flat_map(|ps| ps.iter()) {
                let m = p.element as usize / n;
                if *rows[r].get_or_insert(m) != m {
                    return None;
                }
            }
        }
        if t == a.shape[0] && rows.iter().enumerate().all(|(i, r)| *r == Some(i)) {
            return None;
        }
        let index: Vec<u32> = rows
            .iter()
            .flat_map(|r| (0..k).map(move |j| (r.unwrap_or(0) * k + j) as u32))
            .collect();
        let keep: Vec<f64> = rows
            .iter()
            .flat_map(|r| (0..k).map(move |_| f64::from(r.is_some())))
            .collect();
        let arranged = a.gather(vec![t, k], &index).times(&Co::from_vec(keep));
        let moved = parts
            .iter()
            .enumerate()
            .map(|(i, ps)| ps.moved(|element| (i / c * n) as u32 + element % n as u32))
            .collect();
        Some((arranged, moved))
    }

    /// Rows of an input that the client fills with zeros.
    pub(super) fn zero_rows(&self, a: &Sym) -> Vec<bool> {
        let k = a.shape[1];
        (0..a.shape[0])
            .map(|r| (0..k).all(|j| a.at(r * k + j).0 == NONE && a.add.at(r * k + j) == 0.0))
            .collect()
    }

    /// A source that reads a placed value directly, its rearrangement folded into the weight; `None` if it does not fold.
    pub(super) fn folded_source(&mut self, a: &Sym, weight: &Weight) -> Step<Option<Source>> {
        let Some(e) = a.single() else { return Ok(None) };
        let foldable = !matches!(
            self.get(e).kind,
            Kind::Input { .. } | Kind::MatConst { .. } | Kind::Sum { .. }
        );
        if !foldable || self.linear_base(a).is_some() {
            return Ok(None);
        }
        let (placed, a) = self.place_view(a, e)?;
        let Shape::Matrix { rows, cols } = self.graph.node(placed.value).shape else {
            return Ok(None);
        };
        let (m, k) = (a.shape[0], a.shape[1]);
        let mut row = vec![usize::MAX; m];
        let mut col = vec![usize::MAX; k];
        for i in 0..m {
            for j in 0..k {
                let (x, at) = a.at(i * k + j);
                if x == NONE {
                    return Ok(None);
                }
                let p = placed.pos[at as usize] as usize;
                let (r, c) = (p / placed.cols, p % placed.cols);
                if (row[i] != usize::MAX && row[i] != r) || (col[j] != usize::MAX && col[j] != c) {
                    return Ok(None);
                }
                row[i] = r;
                col[j] = c;
            }
        }
        // Factors must depend on the column alone.
        if (0..m * k).any(|i| a.mul.at(i) != a.mul.at(i % k)) {
            return Ok(None);
        }
        let n = weight.cols();
        let factor = |j: usize| a.mul.at(j) * placed.factor;
        let folded = match weight {
            Weight::Dense(weight) => {
                let mut folded = Matrix::zeros(cols, n);
                for j in 0..k {
                    for c in 0..n {
                        folded.data[col[j] * n + c] += factor(j) * weight.data[j * n + c];
                    }
                }
                folded.into()
            }
            weight => {
                let straight = cols == k && (0..k).all(|j| col[j] == j && factor(j) == 1.0);
                let moves = Choice {
                    rows: cols,
                    from: col.iter().map(|c| *c as u32).collect(),
                    factor: (0..k).map(factor).collect(),
                };
                match straight {
                    true => weight.clone(),
                    false => Weight::Choice(moves).then(weight),
                }
            }
        };
        let bias = match a.add.uniform() {
            Some(0.0) => None,
            _ => {
                let mut b = Matrix::zeros(m, n);
                let added: Vec<f64> = (0..m * k).map(|i| a.add.at(i)).collect();
                weight.add_product(&added, m, &mut b.data);
                Some(b)
            }
        };
        Ok(Some(Source {
            value: placed.value,
            rows,
            cols,
            row,
            weight: folded,
            bias,
            zero: vec![false; rows],
        }))
    }
}
