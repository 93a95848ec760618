//! split-rotary: poly → poly.
//! before   %q = linear %x, @W post @cos + @WR post @sin      after   %p = linear %x, @W
//!                                                                    %q = linear %p, 1 post @cos + @R post @sin
//! Needs    factors per row and column on weights whose columns are, up to sign, those of one matrix: a rotary embedding of a projection.
//! Error    none: an exact identity.    Depth  one more for each map that is split.
//! Why      weights with factors per token take plaintexts that do not repeat: `d` of them, of all slots each. The weights alone repeat with
//!          every token, and R moves features within a head: a few diagonals carry the factors. Narrow maps keep their level instead.
//! Refuses  nothing: what is not of this form stays, which is correct and only larger.
//! Source   ours; rotary embeddings as x·W and x·W·R: arXiv 2104.09864.

use std::collections::hash_map::Entry;
use std::collections::HashMap;

use crate::ir::graph::ValueId;
use crate::ir::poly::{PolyGraph, PolyOp};
use crate::ir::shape::{Matrix, Shape};
use crate::ir::tensor::{Linear, LinearTerm, RowMap};
use crate::ir::weight::{Choice, Stored, Weight};
use crate::pass::{Changed, Pass, PassCx, PassError};

/// The pass; see the module.
#[derive(Clone, Copy, Debug)]
pub struct SplitRotary {
    /// Features from which a map is split.
    pub from: usize,
}

impl Default for SplitRotary {
    fn default() -> Self {
        SplitRotary { from: 256 }
    }
}

impl Pass for SplitRotary {
    type Ir = PolyGraph;
    const NAME: &'static str = "split-rotary";
    const NEEDED: bool = false;

    fn run(&self, graph: &mut PolyGraph, _: &mut PassCx) -> Result<Changed, PassError> {
        let mut changed = false;
        for v in graph.topological() {
            let Shape::Matrix { rows, cols } = graph.node(v).shape else {
                continue;
            };
            let [x] = graph.operands(v)[..] else {
                continue;
            };
            let PolyOp::Linear(linear) = &graph.node(v).op else {
                continue;
            };
            if !self.applies(linear) {
                continue;
            }
            if let Some((projection, turn)) = split(linear, cols) {
                apply(graph, v, x, Shape::Matrix { rows, cols }, projection, turn);
                changed = true;
            }
        }
        Ok(Changed::from_bool(changed))
    }
}

impl SplitRotary {
    fn applies(&self, linear: &Linear) -> bool {
        let rows = linear.terms.first().map(|t| &t.rows);
        let same_rows = linear.terms.iter().all(|t| Some(&t.rows) == rows);
        let factors = linear.terms.iter().any(|t| t.post.is_some());
        let wide = |t: &LinearTerm| t.weight.rows() >= self.from && t.weight.cols() >= self.from;
        same_rows && factors && linear.terms.iter().all(wide)
    }
}

fn apply(
    graph: &mut PolyGraph,
    v: ValueId,
    x: ValueId,
    shape: Shape,
    projection: Linear,
    turn: Linear,
) {
    let (name, layer) = (
        format!("{}.projection", graph.node(v).name),
        graph.node(v).layer,
    );
    let p = graph.add(&name, PolyOp::Linear(projection), &[x], shape, layer);
    graph.node_mut(v).op = PolyOp::Linear(turn);
    graph.set_operands(v, &[p]);
}

/// A column up to sign: its numbers where the first that is not 0 is positive, and the sign taken out. `None` for zeros.
/// Columns of one matrix that is kept elsewhere are told by their places and factors.
fn unsigned(weight: &Weight, col: usize) -> Option<(Vec<u64>, f64)> {
    if let Weight::Stored(s) = weight {
        let factor = s.column_factor(col);
        let key = vec![u64::from(s.picked(col)), factor.abs().to_bits()];
        return (factor != 0.0).then(|| (key, factor.signum()));
    }
    let column = || (0..weight.rows()).map(|r| weight.at(r, col));
    let sign = column().find(|x| *x != 0.0)?.signum();
    // Adding 0 makes -0 into 0.
    Some((column().map(|x| (x * sign + 0.0).to_bits()).collect(), sign))
}

/// The matrix whose column c is that of the term named: `None` for zeros.
fn gathered(linear: &Linear, rows: usize, from: &[Option<usize>]) -> Weight {
    let term = |at: &Option<usize>| at.and_then(|t| linear.terms.get(t)).map(|t| &t.weight);
    if let Some(Weight::Stored(first)) = linear.terms.first().map(|t| &t.weight) {
        let column = |(c, at): (usize, &Option<usize>)| match term(at) {
            Some(Weight::Stored(s)) => (s.picked(c), s.column_factor(c)),
            _ => (0, 0.0),
        };
        let columns: Vec<(u32, f64)> = from.iter().enumerate().map(column).collect();
        return Weight::Stored(Stored {
            cols: from.len(),
            pick: Some(columns.iter().map(|c| c.0).collect()),
            col: Some(columns.iter().map(|c| c.1).collect()),
            ..first.clone()
        });
    }
    let mut made = Matrix::zeros(rows, from.len());
    for (c, at) in from.iter().enumerate() {
        if let Some(weight) = term(at) {
            for r in 0..rows {
                made.data[r * from.len() + c] = weight.at(r, c);
            }
        }
    }
    made.into()
}

/// Terms whose weights are columns of one matrix kept elsewhere, or numbers all of them.
fn comparable(linear: &Linear) -> Linear {
    let mut linear = linear.clone();
    let one = match linear.terms.first().map(|t| t.weight.clone()) {
        Some(Weight::Stored(first)) => {
            let same =
                |t: &LinearTerm| matches!(&t.weight, Weight::Stored(s) if s.same_rows(&first));
            linear.terms.iter().all(same)
        }
        _ => false,
    };
    if !one {
        let terms = linear.terms.iter_mut();
        terms.for_each(|t| t.weight = t.weight.dense().into());
    }
    linear
}

/// The one matrix that all terms take their columns from, and the map that chooses and weighs them.
fn split(linear: &Linear, cols: usize) -> Option<(Linear, Linear)> {
    let linear = &comparable(linear);
    let first = linear.terms.first()?;
    let mut taken = vec![None; cols];
    let mut known: HashMap<Vec<u64>, (usize, f64)> = HashMap::new();
    for col in 0..cols {
        let mut found = linear
            .terms
            .iter()
            .enumerate()
            .filter_map(|(t, term)| Some((t, unsigned(&term.weight, col)?)));
        let Some((term, (column, sign))) = found.next() else {
            continue;
        };
        taken[col] = Some(term);
        if let Entry::Vacant(e) = known.entry(column) {
            e.insert((col, sign));
        }
    }
    let mut terms = Vec::with_capacity(linear.terms.len());
    for term in &linear.terms {
        let mut choice = Choice {
            rows: cols,
            from: vec![0; cols],
            factor: vec![0.0; cols],
        };
        for col in 0..cols {
            let Some((column, sign)) = unsigned(&term.weight, col) else {
                continue;
            };
            let (from, its) = known.get(&column)?;
            choice.from[col] = *from as u32;
            choice.factor[col] = sign * its;
        }
        terms.push(LinearTerm {
            rows: RowMap::Identity,
            weight: Weight::choice(choice),
            post: term.post.clone(),
        });
    }
    let projection = Linear {
        terms: vec![LinearTerm {
            rows: first.rows.clone(),
            weight: gathered(linear, first.weight.rows(), &taken),
            post: None,
        }],
        bias: None,
    };
    let bias = linear.bias.clone();
    Some((projection, Linear { terms, bias }))
}
