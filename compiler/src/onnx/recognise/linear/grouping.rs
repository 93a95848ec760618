//! The summands of all elements of a result as few terms: one per map of rows and pattern of factors.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::Matrix;
use heron_passes::ir::tensor::LinearTerm;
use heron_passes::ir::weight::{Choice, Weight};

use super::source::Source;
use crate::onnx::recognise::terms::{row_map, shrink_bias, slots_of, Parts};
use crate::onnx::recognise::{Lowerer, Step};
use crate::onnx::view::Sym;

/// Most elements that all weights of one linear map may have together.
const MAX_TERMS: usize = 1 << 27;

/// Summands (column of the result, column of the source, factor) as a choice of columns, if each column has one at most.
fn choice(summands: &[(usize, usize, f64)], n: usize, cols: usize) -> Option<Choice> {
    let mut choice = Choice {
        rows: n,
        from: vec![0; cols],
        factor: vec![0.0; cols],
    };
    let mut seen = vec![false; cols];
    for (col, j, factor) in summands {
        if std::mem::replace(&mut seen[*col], true) {
            return None;
        }
        (choice.from[*col], choice.factor[*col]) = (*j as u32, *factor);
    }
    Some(choice)
}

/// Row per output row, and which slot of terms with factors.
type TermKey = (Vec<Option<usize>>, Option<usize>);

impl Lowerer<'_> {
    /// Groups the summands of all elements into terms: one per map of rows and pattern of factors.
    pub(super) fn build(
        &mut self,
        view: &Sym,
        e: u32,
        source: Source,
        parts: &[Parts],
        mut bias: Vec<f64>,
        n: usize,
    ) -> Step<ValueId> {
        let (t, c) = (view.shape[0], view.shape[1]);
        // Per term the summands (column of the result, column of the source, factor).
        type Summand = (usize, usize, f64);
        let mut terms: BTreeMap<TermKey, (Vec<Summand>, Option<Matrix>)> = BTreeMap::new();
        for col in 0..c {
            let slots = slots_of(parts, t, c, col, n);
            for (s, (j, nth)) in slots.into_iter().enumerate() {
                let mut rows = Vec::with_capacity(t);
                let mut factors = Vec::with_capacity(t);
                for r in 0..t {
                    let here = &parts[r * c + col];
                    let mine = here.iter().filter(|p| p.element as usize % n == j).nth(nth);
                    // A factor of 0 (a sine) leaves the row that the other summands read.
                    let row = mine
                        .or(here.first())
                        .map(|p| source.row[p.element as usize / n]);
                    rows.push(row);
                    factors.push(mine.map_or(0.0, |p| p.factor));
                    if let (Some(p), Some(b)) = (mine, &source.bias) {
                        bias[r * c + col] += p.factor * b.data[p.element as usize];
                    }
                }
                let present: Vec<f64> = rows
                    .iter()
                    .zip(&factors)
                    .filter(|(r, _)| r.is_some())
                    .map(|(_, &f)| f)
                    .collect();
                let uniform = present.iter().all(|&f| f == present[0]);
                for (r, row) in rows.iter_mut().enumerate() {
                    if row.is_none() && source.zero.get(r) == Some(&true) {
                        *row = Some(r);
                    }
                }
                let key = (rows, (!uniform).then_some(s));
                if !terms.contains_key(&key)
                    && (terms.len() + 1).saturating_mul(source.cols * c) > MAX_TERMS
                {
                    return Err(self.refuse(
                        e,
                        "this rearrangement needs too many linear terms",
                        "keep tokens and features apart",
                    ));
                }
                let (summands, post) = terms
                    .entry(key)
                    .or_insert_with(|| (Vec::new(), (!uniform).then(|| Matrix::zeros(t, c))));
                summands.push((col, j, if uniform { present[0] } else { 1.0 }));
                if let Some(post) = post {
                    for r in 0..t {
                        post.data[r * c + col] = factors[r];
                    }
                }
            }
        }
        // Row by row: columns of large matrices are far apart in memory.
        let fill = |summands: Vec<Summand>| -> Weight {
            if !matches!(source.weight, Weight::Dense(_)) {
                if let Some(choice) = choice(&summands, n, c) {
                    return source.weight.then(&Weight::Choice(choice));
                }
            }
            let from;
            let from = match &source.weight {
                Weight::Dense(m) => m,
                weight => {
                    from = weight.dense();
                    &from
                }
            };
            let mut weight = Matrix::zeros(source.cols, c);
            for i in 0..source.cols {
                for (col, j, f) in &summands {
                    weight.data[i * c + col] += f * from.data[i * n + j];
                }
            }
            weight.into()
        };
        let terms: BTreeMap<TermKey, (Weight, Option<Matrix>)> = terms
            .into_iter()
            .map(|(key, (summands, post))| (key, (fill(summands), post)))
            .collect();
        let rotary = terms.values().any(|(_, post)| post.is_some());
        let terms: Vec<LinearTerm> = self.merge(terms, source.rows);
        let kind = self.linear_kind(e, rotary, t, source.rows);
        if rotary {
            self.count("rotary");
        }
        let bias = shrink_bias(bias, t, c);
        self.push_linear(e, kind, source.value, terms, bias, t, c)
    }

    /// Columns with factors of 1 everywhere join the first term with the same rows that has factors.
    fn merge(
        &self,
        terms: BTreeMap<TermKey, (Weight, Option<Matrix>)>,
        from: usize,
    ) -> Vec<LinearTerm> {
        let mut out: Vec<(Vec<Option<usize>>, Weight, Option<Matrix>)> = Vec::new();
        let mut plain = Vec::new();
        for ((rows, _), (weight, post)) in terms {
            match post {
                Some(p) => out.push((rows, weight, Some(p))),
                None => plain.push((rows, weight)),
            }
        }
        for (rows, weight) in plain {
            let cols = weight.cols();
            let host = out.iter_mut().find(|(r, w, p)| {
                *r == rows && p.is_some() && (0..cols).all(|c| !weight.uses(c) || !w.uses(c))
            });
            match host {
                Some((_, w, Some(p))) => {
                    w.take_columns(&weight);
                    for c in (0..cols).filter(|&c| weight.uses(c)) {
                        for r in 0..p.rows {
                            p.data[r * cols + c] = 1.0;
                        }
                    }
                }
                _ => out.push((rows, weight, None)),
            }
        }
        out.into_iter()
            .map(|(rows, weight, post)| LinearTerm {
                rows: row_map(&rows, from),
                weight,
                post,
            })
            .collect()
    }
}
