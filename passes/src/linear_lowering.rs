//! linear-lowering: one plaintext-linear map → products, rotations of sources and rotations of sums.
//! before   elements of the result as sums of coefficient × element of a source, and both layouts
//! after    Σ_g rot_g(Σ_t plaintext_t · rot_baby(source_t)) + bias, then rotations that add up whole windows
//! Needs    every element that is read to have a slot in its source's layout.
//! Error    none.    Depth  one.
//! Why      projections, pooling, sums over keys or columns, broadcasts, packing, masks and rotary embeddings are all this one thing.
//! Source   diagonal method and baby-step giant-step: eprint 2014/106, 2018/244.

use std::collections::{BTreeMap, BTreeSet};

use crate::cost;
use crate::ir::packed::layout::{Geometry, Holders, Layout};
use crate::ir::packed::{reduce_period, LinearOut, LinearTerm, Plaintexts};

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
pub trait ElementMap {
    /// Appends what is summed into element `element` of the result.
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>);
    /// Added to element `element` of the result.
    fn bias(&self, element: u32) -> f64;
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

/// The representative of `offset` modulo `period` that is nearest to 0; of two the positive one.
fn centred(offset: i64, period: usize) -> i64 {
    let p = period as i64;
    let o = offset.rem_euclid(p);
    if o > p / 2 {
        o - p
    } else {
        o
    }
}

/// (source ciphertext, offset) → coefficients by slot of the result.
type Diagonals = BTreeMap<(usize, i64), Vec<f64>>;

/// Where a source element may be read: (number of the source ciphertext, offset, slot of the result).
type Candidate = (usize, i64, usize);

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

    /// Coefficients of all tokens from those of token 0; one window's worth repeats with its lanes.
    fn expand(&self, coefficients: Vec<f64>) -> Vec<f64> {
        let g = self.geometry;
        if !self.one_token {
            return coefficients;
        }
        if self.wide <= g.window() {
            return coefficients.into_iter().take(g.lanes).collect();
        }
        (0..self.wide)
            .map(|slot| {
                let (window, _, lane) = g.place(slot);
                coefficients[window * g.window() + lane]
            })
            .collect()
    }

    /// How a result slot may read `slot` of a source of period `period`.
    fn reach(&self, source: &Source, ciphertext: usize, slot: usize, v: usize) -> Candidate {
        let reduced = source.period.min(self.narrow);
        if self.narrow < self.wide && source.period >= self.narrow {
            let offset = centred(slot as i64 - v as i64, reduced);
            let z = (slot as i64 - offset).rem_euclid(self.wide as i64) as usize;
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
    let mut all = Vec::new();
    for ciphertext in 0..target.ciphertexts() {
        all.push(diagonals(
            &frame,
            &infos,
            target.cells(ciphertext),
            map,
            &mut offsets,
        )?);
    }
    let step = best_step(g, &all);
    let outs = all
        .into_iter()
        .enumerate()
        .map(|(ciphertext, diagonals)| {
            let mut giants: BTreeMap<i64, Vec<LinearTerm>> = BTreeMap::new();
            for ((source, offset), coefficients) in diagonals {
                let (baby, giant) = split(offset, step);
                let giant = centred(giant, frame.wide);
                let n = coefficients.len();
                let by = giant.rem_euclid(n as i64) as usize;
                let mut shifted = vec![0.0; n];
                for (v, c) in coefficients.into_iter().enumerate() {
                    shifted[(v + by) % n] = c;
                }
                let plaintext = plaintexts.insert(shifted);
                giants.entry(giant).or_default().push(LinearTerm {
                    source,
                    baby,
                    plaintext,
                });
            }
            let bias: Vec<f64> = target
                .cells(ciphertext)
                .iter()
                .map(|c| c.map_or(0.0, |e| map.bias(e) / copies as f64))
                .collect();
            let bias = bias
                .iter()
                .any(|b| *b != 0.0)
                .then(|| plaintexts.insert(bias));
            LinearOut {
                giants: giants.into_iter().collect(),
                bias,
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

fn diagonals(
    frame: &Frame,
    sources: &[Source],
    cells: &[Option<u32>],
    map: &dyn ElementMap,
    offsets: &mut BTreeSet<i64>,
) -> Result<Diagonals, u32> {
    let mut diagonals = Diagonals::new();
    let mut waiting: Vec<(Vec<Candidate>, f64)> = Vec::new();
    let mut contributions = Vec::new();
    let mut put = |c: Candidate, coefficient: f64| {
        diagonals
            .entry((c.0, c.1))
            .or_insert_with(|| vec![0.0; frame.length()])[c.2] += coefficient;
    };
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
            if let [(ciphertext, slot)] = *holders {
                let only = frame.reach(source, ciphertext as usize, slot as usize, v);
                offsets.insert(only.1);
                put(only, c.coefficient);
            } else {
                let candidates = holders
                    .iter()
                    .map(|(ciphertext, slot)| {
                        frame.reach(source, *ciphertext as usize, *slot as usize, v)
                    })
                    .collect();
                waiting.push((candidates, c.coefficient));
            }
        }
    }
    // Copies of an element: an offset that is needed anyway, else the nearest copy.
    for (candidates, coefficient) in waiting {
        let nearest = |c: &&Candidate| (c.1.abs(), c.1 < 0, c.0, c.2);
        let chosen = candidates
            .iter()
            .filter(|c| offsets.contains(&c.1))
            .min_by_key(nearest)
            .or_else(|| candidates.iter().min_by_key(nearest));
        if let Some(c) = chosen {
            offsets.insert(c.1);
            put(*c, coefficient);
        }
    }
    diagonals.retain(|_, d| d.iter().any(|c| *c != 0.0));
    for d in diagonals.values_mut() {
        *d = frame.expand(std::mem::take(d));
        reduce_period(d);
        d.shrink_to_fit();
    }
    Ok(diagonals)
}

/// offset = baby + giant with 0 ≤ baby < step; step 0 makes every offset a baby.
fn split(offset: i64, step: i64) -> (i64, i64) {
    if step == 0 {
        return (offset, 0);
    }
    let baby = offset.rem_euclid(step);
    (baby, offset - baby)
}

/// The step whose rotations cost least: sources once decomposed and cheap, sums dear.
fn best_step(g: Geometry, all: &[Diagonals]) -> i64 {
    let mut best = (f64::INFINITY, 0);
    let mut step = 1i64;
    let last = g.virtual_slots() as i64;
    let mut steps = vec![0];
    while step < last {
        steps.push(step);
        step *= 2;
    }
    for step in steps {
        let mut babies = BTreeSet::new();
        let mut hoisted = BTreeSet::new();
        let mut giants = 0usize;
        for diagonals in all {
            let mut own = BTreeSet::new();
            for (source, offset) in diagonals.keys() {
                let (baby, giant) = split(*offset, step);
                if baby != 0 {
                    babies.insert((*source, baby));
                    hoisted.insert(*source);
                }
                if giant != 0 {
                    own.insert(giant);
                }
            }
            giants += own.len();
        }
        let cost = cost::HOISTING * hoisted.len() as f64
            + cost::BABY * babies.len() as f64
            + cost::GIANT * giants as f64;
        if cost < best.0 {
            best = (cost, step);
        }
    }
    best.1
}
