//! Linear maps: products with constant matrices, sums, and every rearrangement, folded into one `Linear` each.

use std::collections::BTreeMap;

use heron_passes::ir::graph::ValueId;
use heron_passes::ir::shape::{LayerKind, Matrix, Shape};
use heron_passes::ir::tensor::{Linear, LinearTerm, TensorOp};
use heron_passes::ir::weight::{Choice, Weight};

use super::terms::{row_map, shrink_bias, slots_of, Part};
use super::{Lowerer, Placed, Step};
use crate::onnx::expr::Kind;
use crate::onnx::view::{Co, Sym, NONE};

/// Most elements that all weights of one linear map may have together.
const MAX_TERMS: usize = 1 << 27;

/// Element (m, n) of what is read is Σ_c x[row(m), c] · weight[c, n] + bias.
struct Source {
    value: ValueId,
    rows: usize,
    cols: usize,
    /// Row of the value for each m.
    row: Vec<usize>,
    /// (cols × n).
    weight: Weight,
    /// Per (m, n).
    bias: Option<Matrix>,
    /// Rows that hold only zeros, so that reading them is reading nothing.
    zero: Vec<bool>,
}

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
    /// If a view is a sum of elements of one linear expression: that expression. Sums are looked through, so a rotary
    /// embedding of a projection is a view of the projection.
    pub(super) fn linear_base(&self, view: &Sym) -> Option<u32> {
        let mut todo = view.exprs();
        let mut base = None;
        let mut seen = 0;
        while let Some(e) = todo.pop() {
            seen += 1;
            if seen > 32 {
                return None;
            }
            match &self.get(e).kind {
                Kind::Add(a, b) => {
                    todo.extend(a.exprs());
                    todo.extend(b.exprs());
                }
                Kind::MatConst { .. } | Kind::Sum { .. } => {
                    if *base.get_or_insert(e) != e {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        base
    }

    /// Summands of element i of a view, all of expression `base`; returns the constant.
    fn parts(&self, view: &Sym, i: usize, base: u32, factor: f64, out: &mut Vec<Part>) -> f64 {
        let (e, k) = view.at(i);
        let constant = factor * view.add.at(i);
        if e == NONE {
            return constant;
        }
        let factor = factor * view.mul.at(i);
        if e == base {
            match out.iter_mut().find(|p| p.element == k) {
                Some(p) => p.factor += factor,
                None => out.push(Part { element: k, factor }),
            }
            return constant;
        }
        match &self.get(e).kind {
            Kind::Add(a, b) => {
                constant
                    + self.parts(a, k as usize, base, factor, out)
                    + self.parts(b, k as usize, base, factor, out)
            }
            _ => constant,
        }
    }

    /// The linear map that gives exactly the elements of `view`, all made of the linear expression `base`.
    pub(super) fn linear(&mut self, view: &Sym, base: u32) -> Step<ValueId> {
        let (a, w, k, n) = match self.get(base).kind.clone() {
            Kind::MatConst { a, w, k } => {
                let n = self.get(base).shape[1];
                (a, w, k, n)
            }
            Kind::Sum { a, l } => {
                let rows = a.len() / l.max(1);
                (a.reshaped(vec![rows, l]), vec![1.0; l].into(), l, 1)
            }
            _ => return Err(self.refuse(base, "not a linear map", "")),
        };
        let m = a.shape[0];
        let mut parts = Vec::with_capacity(view.len());
        let mut bias = Vec::with_capacity(view.len());
        for i in 0..view.len() {
            let mut p = Vec::new();
            bias.push(self.parts(view, i, base, 1.0, &mut p));
            parts.push(p);
        }
        if let Some(v) = self.mixed_tokens(view, base, (&a, &w, m, k, n), &parts, &bias)? {
            return Ok(v);
        }
        let weight = w.weight(k, n);
        let source = match self.folded_source(&a, &weight)? {
            Some(s) => s,
            None => {
                // Rows chosen from an input are chosen by the client.
                let (a, parts2) = self.client_rows(view, &a, &parts, n);
                let value = self.matrix(&a)?;
                let rows = a.shape[0];
                let source = Source {
                    value,
                    rows,
                    cols: k,
                    row: (0..rows).collect(),
                    weight,
                    bias: None,
                    zero: self.zero_rows(&a),
                };
                return self.build(view, base, source, &parts2, bias, n);
            }
        };
        self.build(view, base, source, &parts, bias, n)
    }

    /// If every output row reads one row of an input, the client can arrange them.
    fn client_rows(
        &self,
        view: &Sym,
        a: &Sym,
        parts: &[Vec<Part>],
        n: usize,
    ) -> (Sym, Vec<Vec<Part>>) {
        let same = (a.clone(), parts.to_vec());
        let from_input = a
            .single()
            .is_some_and(|e| matches!(self.get(e).kind, Kind::Input { .. }));
        let (t, c) = (view.shape[0], view.shape[1]);
        let k = a.shape[1];
        if !from_input || a.mul.uniform().is_none() || a.add.uniform() != Some(0.0) {
            return same;
        }
        let mut rows: Vec<Option<usize>> = vec![None; t];
        for r in 0..t {
            for p in parts[r * c..(r + 1) * c].iter().flatten() {
                let m = p.element as usize / n;
                if *rows[r].get_or_insert(m) != m {
                    return same;
                }
            }
        }
        if t == a.shape[0] && rows.iter().enumerate().all(|(i, r)| *r == Some(i)) {
            return same;
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
            .map(|(i, ps)| {
                ps.iter()
                    .map(|p| Part {
                        element: (i / c * n) as u32 + p.element % n as u32,
                        factor: p.factor,
                    })
                    .collect()
            })
            .collect();
        (arranged, moved)
    }

    /// Rows of an input that the client fills with zeros.
    fn zero_rows(&self, a: &Sym) -> Vec<bool> {
        let k = a.shape[1];
        (0..a.shape[0])
            .map(|r| (0..k).all(|j| a.at(r * k + j).0 == NONE && a.add.at(r * k + j) == 0.0))
            .collect()
    }

    /// A source that reads a placed value directly, its rearrangement folded into the weight; `None` if it does not fold.
    fn folded_source(&mut self, a: &Sym, weight: &Weight) -> Step<Option<Source>> {
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

    /// A view of a placed value as a linear map that only moves and scales.
    pub(super) fn select(&mut self, view: &Sym, e: u32, placed: &Placed) -> Step<ValueId> {
        let Shape::Matrix { rows, cols } = self.graph.node(placed.value).shape else {
            return Err(self.refuse(e, "attention weights are used outside A·V", ""));
        };
        let source = Source {
            value: placed.value,
            rows,
            cols,
            row: (0..rows).collect(),
            weight: Weight::identity(cols),
            bias: None,
            zero: vec![false; rows],
        };
        let mut parts = Vec::with_capacity(view.len());
        let mut bias = Vec::with_capacity(view.len());
        for i in 0..view.len() {
            let (x, k) = view.at(i);
            bias.push(view.add.at(i));
            parts.push(if x == NONE {
                Vec::new()
            } else {
                vec![Part {
                    element: placed.pos[k as usize],
                    factor: view.mul.at(i) * placed.factor,
                }]
            });
        }
        self.build(view, e, source, &parts, bias, cols)
    }

    /// Groups the summands of all elements into terms: one per map of rows and pattern of factors.
    fn build(
        &mut self,
        view: &Sym,
        e: u32,
        source: Source,
        parts: &[Vec<Part>],
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

    fn linear_kind(&self, e: u32, rotary: bool, rows: usize, from: usize) -> LayerKind {
        match self.get(e).kind {
            _ if rotary => LayerKind::Rotary,
            Kind::Sum { .. } => LayerKind::Pool,
            Kind::MatConst { .. } => LayerKind::Matmul,
            _ if rows < from => LayerKind::Pool,
            _ => LayerKind::Reshape,
        }
    }

    pub(super) fn push_linear(
        &mut self,
        e: u32,
        kind: LayerKind,
        operand: ValueId,
        terms: Vec<LinearTerm>,
        bias: Option<Matrix>,
        rows: usize,
        cols: usize,
    ) -> Step<ValueId> {
        if terms.is_empty() {
            return Err(self.refuse(e, "a result that is constant", "remove it from the model"));
        }
        let layer = self.layer(e, "", kind, &[]);
        let mut name = self.value_name(e);
        if matches!(self.get(e).kind, Kind::Input { .. }) {
            name = format!("{}.scaled", self.graph.node(operand).name);
        }
        Ok(self.graph.add(
            &name,
            TensorOp::Linear(Linear { terms, bias }),
            &[operand],
            Shape::Matrix { rows, cols },
            layer,
        ))
    }
}
