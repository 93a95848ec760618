//! lower-attention: products of queries and keys, and of weights and values.
//! before   %s = scores %q, %k                after   %kr = rotate %k by 0, 32, 64 … (whole tokens)
//!                                                    %p  = mul_sum %q * %kr[r]                  per rotation r
//!                                                    %s  = linear %p                            sums over features, packs, masks
//! before   %o = values %n, %v                after   %a  = linear %n                            spreads scores over features
//!                                                    %o  = mul_sum Σ_r %a[r] * %vr[r], then copies added by rotations
//! Needs    the layouts of `choose-layout`: shifted copies of keys and values where windows are free.
//! Error    none.    Depth  two for scores, two for weights, one for values.
//! Source   diagonals of products by token rotations: eprint 2018/1041 (JKLS) in spirit; slot layout as in the design notes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::element_maps::{Copy, PackScores, WeightScores};
use crate::ir::graph::ValueId;
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Cell, Geometry, Layout};
use crate::ir::packed::{Kernel, KnownPlan, PackedGraph, Part};
use crate::ir::shape::{Matrix, Shape};
use crate::linear_lowering::lower_linear;

/// What one attention product is about.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads.
    pub heads: usize,
    /// Query tokens.
    pub rows: usize,
    /// Key tokens.
    pub keys: usize,
    /// Features of a head.
    pub width: usize,
    /// Windows that hold keys or values shifted, and by which the number of rotations shrinks.
    pub ways: usize,
}

impl Attention {
    /// Names a layout of this attention; `kind` tells its layouts apart.
    fn key(&self, kind: u64) -> Vec<u64> {
        let numbers = [self.heads, self.rows, self.keys, self.width, self.ways];
        let numbers = numbers.into_iter().map(|n| n as u64);
        std::iter::once(kind).chain(numbers).collect()
    }

    fn cols(&self) -> usize {
        self.heads * self.width
    }

    /// (row, head, feature in the head) of an element of a matrix.
    fn split(&self, element: u32) -> (usize, usize, usize) {
        let e = element as usize;
        let (row, col) = (e / self.cols(), e % self.cols());
        (row, col / self.width, col % self.width)
    }

    fn score(&self, head: usize, row: usize, key: usize) -> u32 {
        ((head * self.rows + row) * self.keys + key) as u32
    }
}

/// Whole-token rotations that, with the shifted copies, reach every key.
fn token_steps(packed: &PackedGraph, ways: usize) -> Vec<i64> {
    let g = packed.geometry;
    (0..(g.tokens / ways).max(1))
        .map(|r| (r * g.lanes) as i64)
        .collect()
}

/// A bundle of all rotations of `value` by whole tokens.
fn rotate_tokens(packed: &mut PackedGraph, scope: &Scope, value: ValueId, ways: usize) -> ValueId {
    let steps = token_steps(packed, ways);
    if steps == [0] {
        return value;
    }
    let layout = Arc::clone(packed.layout(value));
    let rotated = packed.derived(vec![0, ways as u64], &[&layout], || {
        let mut cells = Vec::new();
        for step in &steps {
            for k in 0..layout.ciphertexts() {
                cells.push(
                    (0..layout.period())
                        .map(|s| layout.cell(k, s + *step as usize))
                        .collect(),
                );
            }
        }
        Layout::new(cells, "rotated")
    });
    let bound = packed.graph.node(value).op.bound;
    packed.add(scope, Kernel::Rotate { steps }, &[value], &rotated, bound)
}

/// Scores q_i · k_j; fails with a sentence if some score is reached by no rotation.
pub fn lower_scores(
    packed: &mut PackedGraph,
    scope: &Scope,
    (q, k): (ValueId, ValueId),
    about: Attention,
    mask: Option<&Matrix>,
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let rotated = rotate_tokens(packed, scope, k, about.ways);
    let (lq, lk) = (
        Arc::clone(packed.layout(q)),
        Arc::clone(packed.layout(rotated)),
    );
    let n = lq.ciphertexts();
    let rotations = lk.ciphertexts() / n.max(1);
    let period = lq.period().max(lk.period());
    // Which partial product each slot of product (r, k) is.
    let partial = packed.derived(about.key(1), &[&lq, &lk], || {
        let cells: Vec<Vec<Cell>> = (0..rotations * n)
            .map(|o| {
                (0..period)
                    .map(|slot| {
                        let (i, h, x) = about.split(lq.cell(o % n, slot)?);
                        let (j, hk, xk) = about.split(lk.cell(o, slot)?);
                        (h == hk && x == xk)
                            .then(|| about.score(h, i, j) * about.width as u32 + x as u32)
                    })
                    .collect()
            })
            .collect();
        Layout::new(cells, "partial scores")
    });
    let pairs: Vec<Vec<(Part, Part)>> = (0..rotations * n)
        .map(|o| vec![((0, o % n), (1, o))])
        .collect();
    let kernel = Kernel::MulSum {
        pairs,
        factor: 1,
        constant: 0.0,
    };
    let products = packed.add(scope, kernel, &[q, rotated], &partial, None);
    let g = packed.geometry;
    let target = packed.derived(about.key(2), &[&partial], || {
        score_layout(g, &partial, n, rotations, about)
    });
    let scores = about.heads * about.rows * about.keys;
    let held = target.holders(|_| true);
    if let Some(e) = (0..scores as u32).find(|e| held.of(*e).is_empty()) {
        return Err(format!(
            "score number {e} is reached by no rotation of the keys"
        ));
    }
    let map = PackScores {
        width: about.width,
        mask,
    };
    linear(packed, scope, products, &target, &map, bound)
}

/// Slot (token, head block, x) of ciphertext (k, page) holds the score of rotation page · block + x, first occurrences only.
fn score_layout(
    g: Geometry,
    partial: &Layout,
    n: usize,
    rotations: usize,
    about: Attention,
) -> Layout {
    let block = about.width.next_power_of_two();
    let pages = rotations.div_ceil(block);
    let period = partial.period().max(g.window());
    let mut seen: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut cells = vec![vec![None; period]; n * pages];
    for k in 0..n {
        for slot in 0..period {
            let (_, token, lane) = g.place(slot);
            let x = lane % block;
            for page in 0..pages {
                let r = page * block + x;
                if r >= rotations {
                    continue;
                }
                // The head block starts where x = 0.
                let Some(e) = partial.cell(r * n + k, slot - x) else {
                    continue;
                };
                let score = e / about.width as u32;
                if seen.insert((token, score)) {
                    cells[k * pages + page][slot] = Some(score);
                }
            }
        }
    }
    Layout::new(cells, "scores by rotation")
}

/// Σ_j factors_ij n_ij v_j, unnormalised; `target` is the layout of the result.
pub fn lower_values(
    packed: &mut PackedGraph,
    scope: &Scope,
    (scores, v): (ValueId, ValueId),
    about: Attention,
    factors: Option<&Matrix>,
    target: &Arc<Layout>,
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let g = packed.geometry;
    let rotated = rotate_tokens(packed, scope, v, about.ways);
    let lv = Arc::clone(packed.layout(rotated));
    let n = target.ciphertexts();
    let rotations = lv.ciphertexts() / n.max(1);
    let period = lv.period().max(target.period());
    let base = target.period().max(g.window());
    // Each slot of the result sums, over rotations and (with shifted copies) windows, every key once.
    let places = if about.ways > 1 { base } else { period };
    let spread = packed.derived(about.key(3), &[target, &lv], || {
        let mut seen = vec![false; n * places * about.keys];
        let mut cells = vec![vec![None; period]; rotations * n];
        for o in 0..rotations * n {
            for slot in 0..period {
                let (Some(out), Some(value)) = (target.cell(o % n, slot), lv.cell(o, slot)) else {
                    continue;
                };
                let (i, h, x) = about.split(out);
                let (j, hv, xv) = about.split(value);
                if h != hv || x != xv {
                    continue;
                }
                // The head and the row are those of the place.
                let place = (o % n) * places + slot % places;
                if !std::mem::replace(&mut seen[place * about.keys + j], true) {
                    cells[o][slot] = Some(about.score(h, i, j));
                }
            }
        }
        Layout::new(cells, "scores by feature")
    });
    let shape = Shape::Scores {
        heads: about.heads,
        rows: about.rows,
        keys: about.keys,
    };
    let inner = Scope {
        shape,
        ..scope.clone()
    };
    let weights = match factors {
        None => linear(packed, &inner, scores, &spread, &Copy, None)?,
        Some(weights) => {
            let map = WeightScores { weights };
            linear(packed, &inner, scores, &spread, &map, None)?
        }
    };
    let pairs = (0..n)
        .map(|k| {
            (0..rotations)
                .map(|r| ((0, r * n + k), (1, r * n + k)))
                .collect()
        })
        .collect();
    let kernel = Kernel::MulSum {
        pairs,
        factor: 1,
        constant: 0.0,
    };
    if about.ways == 1 {
        return Ok(packed.add(scope, kernel, &[weights, rotated], target, bound));
    }
    let nothing = Arc::new(Layout::new(vec![vec![None; period]; n], "partial sums"));
    let sums = packed.add(scope, kernel, &[weights, rotated], &nothing, None);
    let mut steps = Vec::new();
    let mut step = base;
    while step < period {
        steps.push(step as i64);
        step *= 2;
    }
    if steps.is_empty() {
        packed.graph.node_mut(sums).op.layout = Arc::clone(target);
    }
    Ok(packed.fold(scope, sums, &steps, target, bound))
}

/// Adds a linear map and its folding; the layout of the result is `target`.
pub fn linear(
    packed: &mut PackedGraph,
    scope: &Scope,
    source: ValueId,
    target: &Arc<Layout>,
    map: &dyn crate::linear_lowering::ElementMap,
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let layout = Arc::clone(packed.layout(source));
    let geometry = packed.geometry;
    let key = map.key();
    let known = key
        .as_ref()
        .and_then(|k| packed.plaintexts.plan(k, &layout, target));
    let (outs, fold) = match known {
        Some(plan) => (Arc::clone(&plan.outs), plan.fold.clone()),
        None => {
            let plan = lower_linear(geometry, &[&layout], target, map, &mut packed.plaintexts)
                .map_err(|e| format!("element {e} of the operand is in no slot of {layout}"))?;
            let (outs, fold) = (Arc::new(plan.outs), plan.fold);
            if let Some(key) = key {
                let plan = KnownPlan {
                    from: Arc::clone(&layout),
                    to: Arc::clone(target),
                    outs: Arc::clone(&outs),
                    fold: fold.clone(),
                };
                packed.plaintexts.keep_plan(key, plan);
            }
            (outs, fold)
        }
    };
    let folded = !fold.is_empty();
    let first = if folded {
        let cells = vec![vec![None]; outs.len()];
        Arc::new(Layout::new(cells, "partial sums"))
    } else {
        Arc::clone(target)
    };
    let kernel = Kernel::Linear(outs);
    let own = if folded { None } else { bound };
    let value = packed.add(scope, kernel, &[source], &first, own);
    Ok(packed.fold(scope, value, &fold, target, bound))
}
