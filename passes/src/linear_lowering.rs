//! linear-lowering: one plaintext-linear map → products, rotations of sources and rotations of sums.
//! before   elements of the result as sums of coefficient × element of a source, and both layouts
//! after    Σ_g rot_g(Σ_t plaintext_t · rot_baby(source_t)) + bias, then rotations that add up whole windows
//! Needs    every element that is read to have a slot in its source's layout.
//! Error    none.    Depth  one.
//! Why      projections, pooling, sums over keys or columns, broadcasts, packing, masks and rotary embeddings are all this one thing.
//! Source   diagonal method and baby-step giant-step: eprint 2014/106, 2018/244.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::ir::packed::layout::{Cell, Geometry, Holders, Layout};
use crate::ir::packed::{
    is_compact, reduce_period, vector_hash, LinearOut, LinearTerm, PlaintextId, Plaintexts,
};
use crate::ir::weight::Weight;
use crate::linear_steps::{self, Split};

/// coefficient × element `element` of source number `source`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Number of the operand.
    pub source: usize,
    /// Element of the operand.
    pub element: u32,
    /// Factor.
    pub coefficient: f64,
}

/// What a linear map does, element by element.
pub trait ElementMap: Sync {
    /// Tells this map from others, where it costs little to say: equal keys mean equal maps, so that a plan made once serves
    /// every layer of a model.
    fn key(&self) -> Option<Vec<u64>> {
        None
    }
    /// The matrix whose elements coefficients number, row by row from 1, where they are no factors themselves. Such a map has a key.
    fn matrix(&self) -> Option<&Weight> {
        None
    }
    /// Appends what is summed into element `element` of the result.
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>);
    /// Added to element `element` of the result.
    fn bias(&self, element: u32) -> f64;
    /// Results of other maps that read the same operand, over own results: rotations of sources are shared with them.
    fn neighbours(&self) -> f64 {
        0.0
    }
    /// (columns of the operand, columns of the result) where every row of a result is made of the same row of the one operand
    /// by the same coefficients: then one token stands for all.
    fn row_uniform(&self) -> Option<(usize, usize)> {
        None
    }
}

/// A linear map as products and rotations.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearPlan {
    /// One per ciphertext of the result.
    pub outs: Vec<LinearOut>,
    /// Afterwards, for each step in turn: y ← y + rot_step(y).
    pub fold: Vec<i64>,
    /// Period of the result before folding, in virtual slots.
    pub period: usize,
}

/// The shortest part that repeats.
fn one_period(mut vector: &[f64]) -> &[f64] {
    while vector.len() > 1 && vector.len().is_multiple_of(2) {
        let (a, b) = vector.split_at(vector.len() / 2);
        if a != b {
            break;
        }
        vector = a;
    }
    vector
}

/// The representative of `offset` modulo `period`, a power of two, that is nearest to 0; of two the positive one.
fn centred(offset: i64, period: usize) -> i64 {
    let p = period as i64;
    // A division for each weight of a model would take longer than all the rest.
    let o = offset & (p - 1);
    if o > p / 2 {
        o - p
    } else {
        o
    }
}

/// (source ciphertext, offset) → one period of the coefficients by slot of the result, ascending.
pub(crate) type Diagonals = Vec<((usize, i64), Vec<f64>)>;

/// Where a source element may be read: (number of the source ciphertext, offset, slot of the result).
type Candidate = (usize, i64, usize);

/// Results looked at together: enough for all threads, few enough for memory.
const CHUNK: usize = 16;

struct Source {
    first: usize,
    period: usize,
    holders: Holders,
}

struct Frame {
    geometry: Geometry,
    /// Period of the sum before folding.
    wide: usize,
    /// Period of the result.
    narrow: usize,
    /// Whether slots of token 0 stand for those of all tokens.
    one_token: bool,
}

/// The row that each token holds, if it is one row in all windows and ciphertexts, with columns placed as in token 0.
fn token_rows(layout: &Layout, g: Geometry, cols: usize) -> Option<Vec<Option<u32>>> {
    let cols = u32::try_from(cols.max(1)).ok()?;
    let mut rows: Vec<Option<u32>> = vec![None; g.tokens];
    for c in 0..layout.ciphertexts() {
        for (slot, cell) in layout.cells(c).iter().enumerate() {
            let (window, token, lane) = g.place(slot);
            let first = layout.cell(c, window * g.window() + lane);
            if cell.is_some() != first.is_some() {
                return None;
            }
            let (Some(e), Some(first)) = (cell, first) else {
                continue;
            };
            if e % cols != first % cols || *rows[token].get_or_insert(e / cols) != e / cols {
                return None;
            }
        }
    }
    Some(rows)
}

impl Frame {
    /// Slots to be looked at: with one window, token 0 comes first.
    fn length(&self) -> usize {
        if self.one_token && self.wide <= self.geometry.window() {
            self.geometry.lanes
        } else {
            self.wide
        }
    }

    /// Whether a slot has to be looked at.
    fn stands_for_others(&self, slot: usize) -> bool {
        !self.one_token || self.geometry.place(slot).1 == 0
    }

    /// One period of the coefficients of all tokens from those of token 0; one window's worth repeats with its lanes.
    fn expand(&self, coefficients: &[f64]) -> Vec<f64> {
        let g = self.geometry;
        let mut all = if !self.one_token {
            return one_period(coefficients).to_vec();
        } else if self.wide <= g.window() {
            return one_period(&coefficients[..g.lanes]).to_vec();
        } else {
            (0..self.wide)
                .map(|slot| {
                    let (window, _, lane) = g.place(slot);
                    coefficients[window * g.window() + lane]
                })
                .collect()
        };
        reduce_period(&mut all);
        all.shrink_to_fit();
        all
    }

    /// How a result slot may read `slot` of a source of period `period`.
    fn reach(&self, source: &Source, ciphertext: usize, slot: usize, v: usize) -> Candidate {
        let reduced = source.period.min(self.narrow);
        if self.narrow < self.wide && source.period >= self.narrow {
            let offset = centred(slot as i64 - v as i64, reduced);
            let z = (slot as i64 - offset) as usize & (self.wide - 1);
            (source.first + ciphertext, offset, z)
        } else {
            let offset = centred(slot as i64 - v as i64, source.period);
            (source.first + ciphertext, offset, v)
        }
    }
}

/// Lowers a map from operands in `sources` to a value in `target`.
/// Fails with the number of an element that is read but held nowhere.
pub fn lower_linear(
    g: Geometry,
    sources: &[&Layout],
    target: &Layout,
    map: &dyn ElementMap,
    plaintexts: &mut Plaintexts,
) -> Result<LinearPlan, u32> {
    let widest = sources.iter().map(|s| s.period()).max().unwrap_or(1);
    let narrow = target.period();
    let one_token = match (map.row_uniform(), sources) {
        (Some((cols, out_cols)), [source]) => {
            let rows = token_rows(source, g, cols);
            let whole = source.period() >= g.window() && narrow >= g.window();
            whole && rows.is_some() && rows == token_rows(target, g, out_cols)
        }
        _ => false,
    };
    let frame = Frame {
        geometry: g,
        wide: narrow.max(widest),
        narrow,
        one_token,
    };
    let mut infos = Vec::new();
    let mut first = 0;
    for layout in sources {
        infos.push(Source {
            first,
            period: layout.period(),
            holders: layout.holders(|slot| frame.stands_for_others(slot)),
        });
        first += layout.ciphertexts();
    }
    let copies = frame.wide / narrow;
    let mut offsets = BTreeSet::new();
    let mut all: Vec<Diagonals> = Vec::new();
    let results: Vec<usize> = (0..target.ciphertexts()).collect();
    for chunk in results.chunks(CHUNK) {
        let gathered: Result<Vec<Gathered>, u32> = chunk
            .par_iter()
            .map(|c| gather(&frame, &infos, first, target.cells(*c), map))
            .collect();
        let mut gathered = gathered?;
        for one in &mut gathered {
            one.choose_copies(&mut offsets);
        }
        all.par_extend(gathered.into_par_iter().map(|one| one.diagonals(&frame)));
    }
    let split = linear_steps::best(g, &all, map.neighbours());
    let turned: Vec<Vec<Turned>> = all
        .into_par_iter()
        .map(|diagonals| {
            let terms = diagonals.into_iter();
            terms
                .map(|(at, coefficients)| turn(&frame, split, at, coefficients))
                .collect()
        })
        .collect();
    let outs = turned
        .into_iter()
        .enumerate()
        .map(|(ciphertext, terms)| {
            let mut giants: BTreeMap<i64, Vec<LinearTerm>> = BTreeMap::new();
            for term in terms {
                giants.entry(term.giant).or_default().push(LinearTerm {
                    source: term.source,
                    baby: term.baby,
                    compact: is_compact(term.coefficients.len(), g.virtual_slots()),
                    plaintext: match map.matrix() {
                        None => plaintexts.insert_hashed(term.hash, term.coefficients),
                        Some(_) => plaintexts.insert_elements(&term.coefficients),
                    },
                });
            }
            LinearOut {
                giants: Arc::new(giants.into_iter().collect()),
                matrix: None,
                bias: match map.matrix() {
                    None => bias(target, ciphertext, map, copies, plaintexts),
                    Some(_) => None,
                },
            }
        })
        .collect();
    let mut fold = Vec::new();
    let mut by = narrow;
    while by < frame.wide {
        fold.push(by as i64);
        by *= 2;
    }
    Ok(LinearPlan {
        outs,
        fold,
        period: frame.wide,
    })
}

/// What is added to a ciphertext of the result, which `copies` of it are folded into.
fn bias(
    target: &Layout,
    ciphertext: usize,
    map: &dyn ElementMap,
    copies: usize,
    plaintexts: &mut Plaintexts,
) -> Option<PlaintextId> {
    let added = |c: &Cell| c.map_or(0.0, |e| map.bias(e) / copies as f64);
    let bias: Vec<f64> = target.cells(ciphertext).iter().map(added).collect();
    let any = bias.iter().any(|b| *b != 0.0);
    any.then(|| plaintexts.insert(bias))
}

/// The results of a plan for this map: those of a map by elements get its matrix and its bias.
pub(crate) fn bound_outs(
    outs: &Arc<Vec<LinearOut>>,
    fold: &[i64],
    target: &Layout,
    map: &dyn ElementMap,
    plaintexts: &mut Plaintexts,
) -> Arc<Vec<LinearOut>> {
    let Some(weight) = map.matrix() else {
        return Arc::clone(outs);
    };
    let matrix = plaintexts.insert_matrix(weight);
    let copies = 1 << fold.len();
    let bound = outs.iter().enumerate().map(|(c, out)| LinearOut {
        giants: Arc::clone(&out.giants),
        matrix: Some(matrix),
        bias: bias(target, c, map, copies, plaintexts),
    });
    Arc::new(bound.collect())
}

/// A diagonal as a baby step, a giant step and coefficients turned back by the latter.
struct Turned {
    source: usize,
    baby: i64,
    giant: i64,
    coefficients: Vec<f64>,
    hash: u64,
}

fn turn(
    frame: &Frame,
    split: Split,
    (source, offset): (usize, i64),
    mut coefficients: Vec<f64>,
) -> Turned {
    let (baby, giant) = split.of(offset);
    let giant = centred(giant, frame.wide);
    let by = giant.rem_euclid(coefficients.len() as i64) as usize;
    coefficients.rotate_right(by);
    reduce_period(&mut coefficients);
    Turned {
        source,
        baby,
        giant,
        hash: vector_hash(&coefficients),
        coefficients,
    }
}

/// What one ciphertext of the result reads: coefficients in the order in which they were met.
struct Gathered {
    /// Diagonals met so far, numbered in order.
    met: Vec<(usize, i64)>,
    /// Offset + `wide` → its row in `rows`.
    row_of: Vec<u32>,
    /// Per offset and source the number of the diagonal.
    rows: Vec<Vec<u32>>,
    sources: usize,
    wide: i64,
    /// (diagonal, slot of the result, coefficient).
    entries: Vec<(u32, u32, f64)>,
    /// Elements with copies: the places and the coefficient.
    waiting: Vec<(Vec<Candidate>, f64)>,
}

const UNSEEN: u32 = u32::MAX;

impl Gathered {
    fn new(sources: usize, wide: usize) -> Gathered {
        Gathered {
            met: Vec::new(),
            row_of: vec![UNSEEN; 2 * wide + 1],
            rows: Vec::new(),
            sources,
            wide: wide as i64,
            entries: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn put(&mut self, (source, offset, slot): Candidate, coefficient: f64) {
        let row = &mut self.row_of[(offset + self.wide) as usize];
        if *row == UNSEEN {
            *row = self.rows.len() as u32;
            self.rows.push(vec![UNSEEN; self.sources]);
        }
        let diagonal = &mut self.rows[*row as usize][source];
        if *diagonal == UNSEEN {
            *diagonal = self.met.len() as u32;
            self.met.push((source, offset));
        }
        self.entries.push((*diagonal, slot as u32, coefficient));
    }

    /// Copies of an element: an offset that is needed anyway, else the nearest copy. `offsets`: those of the results before, too.
    fn choose_copies(&mut self, offsets: &mut BTreeSet<i64>) {
        offsets.extend(self.met.iter().map(|(_, offset)| *offset));
        for (candidates, coefficient) in std::mem::take(&mut self.waiting) {
            let nearest = |c: &&Candidate| (c.1.abs(), c.1 < 0, c.0, c.2);
            let chosen = candidates
                .iter()
                .filter(|c| offsets.contains(&c.1))
                .min_by_key(nearest)
                .or_else(|| candidates.iter().min_by_key(nearest));
            if let Some(c) = chosen {
                offsets.insert(c.1);
                self.put(*c, coefficient);
            }
        }
    }

    /// The diagonals, one at a time in a buffer: all of them at full length would not fit in memory for wide models.
    fn diagonals(self, frame: &Frame) -> Diagonals {
        let mut start = vec![0usize; self.met.len() + 1];
        for (d, _, _) in &self.entries {
            start[*d as usize + 1] += 1;
        }
        for d in 0..self.met.len() {
            start[d + 1] += start[d];
        }
        let mut next = start.clone();
        let mut sorted = vec![(0u32, 0f64); self.entries.len()];
        for (d, slot, coefficient) in self.entries {
            let at = &mut next[d as usize];
            sorted[*at] = (slot, coefficient);
            *at += 1;
        }
        let mut order: Vec<usize> = (0..self.met.len()).collect();
        order.sort_unstable_by_key(|d| self.met[*d]);
        let mut buffer = vec![0.0; frame.length()];
        let mut diagonals = Vec::with_capacity(order.len());
        for d in order {
            let entries = &sorted[start[d]..start[d + 1]];
            for (slot, coefficient) in entries {
                buffer[*slot as usize] += coefficient;
            }
            if entries
                .iter()
                .any(|(slot, _)| buffer[*slot as usize] != 0.0)
            {
                diagonals.push((self.met[d], frame.expand(&buffer)));
            }
            for (slot, _) in entries {
                buffer[*slot as usize] = 0.0;
            }
        }
        diagonals
    }
}

/// Goes through the cells of one ciphertext of the result.
fn gather(
    frame: &Frame,
    sources: &[Source],
    ciphertexts: usize,
    cells: &[Cell],
    map: &dyn ElementMap,
) -> Result<Gathered, u32> {
    let mut found = Gathered::new(ciphertexts, frame.wide);
    let mut contributions = Vec::new();
    for (v, cell) in cells.iter().enumerate() {
        let Some(element) = cell else { continue };
        if !frame.stands_for_others(v) {
            continue;
        }
        contributions.clear();
        map.contributions(*element, &mut contributions);
        for c in contributions.iter().filter(|c| c.coefficient != 0.0) {
            let source = sources.get(c.source).ok_or(c.element)?;
            let holders = source.holders.of(c.element);
            if holders.is_empty() {
                return Err(c.element);
            }
            let reach = |(ciphertext, slot): (u32, u32)| {
                frame.reach(source, ciphertext as usize, slot as usize, v)
            };
            if let [only] = *holders {
                found.put(reach(only), c.coefficient);
            } else {
                let candidates = holders.iter().map(|h| reach(*h)).collect();
                found.waiting.push((candidates, c.coefficient));
            }
        }
    }
    Ok(found)
}
