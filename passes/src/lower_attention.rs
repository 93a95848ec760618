//! lower-attention: products of queries and keys, and of weights and values.
//! before   %s = scores %q, %k                after   %kr = rotate %k by 0, 32, 64 … (whole tokens)
//!                                                    %p  = mul_sum %q * %kr[r]                  per rotation r
//!                                                    %s  = linear %p                            sums over features, packs, masks
//! before   %o = values %n, %v                after   %a  = linear %n                            spreads scores over features
//!                                                    %o  = mul_sum Σ_r %a[r] * %vr[r], then copies added by rotations
//! Wide heads are packed and spread in two linear maps instead of one, see `attention_stages`: rotation r then comes back-rotated by r mod
//! `inner` lanes, so that the maps over neighbouring lanes read one side only; or, where `attention-plan` finds it cheaper, in groups of
//! features, see `attention_groups`.
//! Needs    the layouts of `choose-layout`: shifted copies of keys and values where windows are free.
//! Error    none.    Depth  two for scores and two for values, one more for each where there are two stages; of groups see there.
//! Source   diagonals of products by token rotations: eprint 2018/1041 (JKLS) in spirit; slot layout as in the design notes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::attention_plan::{self, Half, Sizes, Way};
use crate::attention_stages::{self, Products};
use crate::element_maps::{Copy, PackScores, SumFeatures, WeightScores};
use crate::ir::graph::ValueId;
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Cell, Geometry, Layout};
use crate::ir::packed::{Kernel, KnownPlan, PackedGraph, Part};
use crate::ir::shape::{Matrix, Shape};
use crate::linear_lowering::{bound_outs, lower_linear};

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
    pub(crate) fn key(&self, kind: u64) -> Vec<u64> {
        let numbers = [self.heads, self.rows, self.keys, self.width, self.ways];
        let numbers = numbers.into_iter().map(|n| n as u64);
        std::iter::once(kind).chain(numbers).collect()
    }

    fn cols(&self) -> usize {
        self.heads * self.width
    }

    /// Lanes of a head.
    pub(crate) fn block(&self) -> usize {
        self.width.next_power_of_two()
    }

    /// (row, head, feature in the head) of an element of a matrix.
    pub(crate) fn split(&self, element: u32) -> (usize, usize, usize) {
        let e = element as usize;
        let (row, col) = (e / self.cols(), e % self.cols());
        (row, col / self.width, col % self.width)
    }

    pub(crate) fn score(&self, head: usize, row: usize, key: usize) -> u32 {
        ((head * self.rows + row) * self.keys + key) as u32
    }

    /// Slot (token, head block, x) of ciphertext (k, page) holds the score of rotation page · block + x, first occurrences only.
    /// `score(r, k, slot where the head block starts)`: the score of rotation r there.
    pub(crate) fn score_layout(
        &self,
        g: Geometry,
        (ciphertexts, rotations): (usize, usize),
        period: usize,
        score: impl Fn(usize, usize, usize) -> Cell,
    ) -> Layout {
        let block = self.block();
        let pages = rotations.div_ceil(block);
        let period = period.max(g.window());
        let mut seen: BTreeSet<(usize, u32)> = BTreeSet::new();
        let mut cells = vec![vec![None; period]; ciphertexts * pages];
        for k in 0..ciphertexts {
            for slot in 0..period {
                let (_, token, lane) = g.place(slot);
                let x = lane % block;
                for page in 0..pages {
                    let r = page * block + x;
                    if r >= rotations {
                        continue;
                    }
                    let Some(score) = score(r, k, slot - x) else {
                        continue;
                    };
                    if seen.insert((token, score)) {
                        cells[k * pages + page][slot] = Some(score);
                    }
                }
            }
        }
        Layout::new(cells, "scores by rotation")
    }
}

/// How many rotations by whole tokens reach every key: with shifted copies fewer, and fewer where queries repeat with their rows. A single
/// query stands beside every key as it is.
fn rotations(packed: &PackedGraph, about: Attention) -> usize {
    let all = (packed.geometry.tokens / about.ways).max(1);
    match about.rows.is_power_of_two() {
        true => all.min(about.rows),
        false => all,
    }
}

/// Rotations by whole tokens; number r is back-rotated by r mod `inner` lanes.
fn token_steps(packed: &PackedGraph, count: usize, inner: usize) -> Vec<i64> {
    let lanes = packed.geometry.lanes;
    (0..count)
        .map(|r| (r * lanes) as i64 - (r % inner) as i64)
        .collect()
}

/// A bundle of all rotations of `value` by `steps`.
pub(crate) fn rotate_all(
    packed: &mut PackedGraph,
    scope: &Scope,
    value: ValueId,
    steps: Vec<i64>,
) -> ValueId {
    if steps == [0] {
        return value;
    }
    let layout = Arc::clone(packed.layout(value));
    let mut key = vec![0];
    key.extend(steps.iter().map(|s| *s as u64));
    let rotated = packed.derived(key, &[&layout], || {
        let mut cells = Vec::new();
        for step in &steps {
            for k in 0..layout.ciphertexts() {
                cells.push(attention_stages::turned(&layout, k, *step, layout.period()));
            }
        }
        Layout::new(cells, "rotated")
    });
    let bound = packed.graph.node(value).op.bound;
    packed.add(scope, Kernel::Rotate { steps }, &[value], &rotated, bound)
}

/// What decides the way of the products over `ciphertexts` of queries or results.
fn sizes(packed: &PackedGraph, about: Attention, ciphertexts: usize) -> Sizes {
    Sizes {
        geometry: packed.geometry,
        ciphertexts,
        rotations: rotations(packed, about),
        block: about.block(),
    }
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
    let n = packed.layout(q).ciphertexts();
    let sizes = sizes(packed, about, n);
    if let Way::Grouped(groups) = attention_plan::choose(sizes, Half::Scores) {
        if let Some(scores) = groups.scores((packed, scope), (q, k), about, mask, bound)? {
            return Ok(scores);
        }
    }
    let products = attention_plan::single(sizes);
    single_scores((packed, scope), (q, k), about, products, mask, bound)
}

/// Scores by one product for each rotation.
pub fn single_scores(
    (packed, scope): (&mut PackedGraph, &Scope),
    (q, k): (ValueId, ValueId),
    about: Attention,
    products: Products,
    mask: Option<&Matrix>,
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let (n, inner) = (products.ciphertexts, products.inner);
    let steps = token_steps(packed, products.rotations, inner);
    let rotated = rotate_all(packed, scope, k, steps);
    let back: Vec<i64> = (0..inner as i64).map(|b| -b).collect();
    let q = rotate_all(packed, scope, q, back);
    let (lq, lk) = (
        Arc::clone(packed.layout(q)),
        Arc::clone(packed.layout(rotated)),
    );
    let period = lq.period().max(lk.period());
    let of_q = |o: usize| (o / n % inner) * n + o % n;
    // Which partial product each slot of product (r, k) is.
    let partial = packed.derived(about.key(1), &[&lq, &lk], || {
        let cells: Vec<Vec<Cell>> = (0..products.count())
            .map(|o| {
                (0..period)
                    .map(|slot| {
                        let (i, h, x) = about.split(lq.cell(of_q(o), slot)?);
                        let (j, hk, xk) = about.split(lk.cell(o, slot)?);
                        (h == hk && x == xk)
                            .then(|| about.score(h, i, j) * about.width as u32 + x as u32)
                    })
                    .collect()
            })
            .collect();
        Layout::new(cells, "partial scores")
    });
    let pairs: Vec<Vec<(Part, Part)>> = (0..products.count())
        .map(|o| vec![((0, of_q(o)), (1, o))])
        .collect();
    let kernel = Kernel::MulSum {
        pairs,
        factor: 1,
        constant: 0.0,
    };
    let mut sums = packed.add(scope, kernel, &[q, rotated], &partial, None);
    let target = packed.derived(about.key(2), &[&partial], || {
        let shape = (products.ciphertexts, products.rotations);
        about.score_layout(products.geometry, shape, partial.period(), |r, k, start| {
            let e = partial.cell(r * n + k, start + r % inner)?;
            Some(e / about.width as u32)
        })
    });
    let scores = about.heads * about.rows * about.keys;
    let held = target.holders(|_| true);
    if let Some(e) = (0..scores as u32).find(|e| held.of(*e).is_empty()) {
        return Err(format!(
            "score number {e} is reached by no rotation of the keys"
        ));
    }
    if inner > 1 {
        let few = packed.derived(about.key(4), &[&partial], || {
            products.summed(&partial, about.width)
        });
        let map = SumFeatures {
            width: about.width,
            inner,
        };
        sums = linear(packed, scope, sums, &few, &map, None)?;
    }
    let map = PackScores {
        width: about.width.div_ceil(inner),
        mask,
    };
    linear(packed, scope, sums, &target, &map, bound)
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
    let n = target.ciphertexts();
    let sizes = sizes(packed, about, n);
    if let Way::Grouped(groups) = attention_plan::choose(sizes, Half::Values) {
        let operands = (scores, v);
        let grouped = groups.values((packed, scope), operands, about, factors, target, bound)?;
        if let Some(values) = grouped {
            return Ok(values);
        }
    }
    let products = attention_plan::single(sizes);
    let operands = (scores, v);
    single_values(
        (packed, scope),
        operands,
        about,
        products,
        factors,
        target,
        bound,
    )
}

/// Values by one product for each rotation.
pub fn single_values(
    (packed, scope): (&mut PackedGraph, &Scope),
    (scores, v): (ValueId, ValueId),
    about: Attention,
    products: Products,
    factors: Option<&Matrix>,
    target: &Arc<Layout>,
    bound: Option<f64>,
) -> Result<ValueId, String> {
    let (n, inner) = (products.ciphertexts, products.inner);
    let steps = token_steps(packed, products.rotations, inner);
    let rotated = rotate_all(packed, scope, v, steps);
    let lv = Arc::clone(packed.layout(rotated));
    let period = lv.period().max(target.period());
    let base = target.period();
    // Each slot of the result sums, over rotations and over what its period leaves (shifted copies, all tokens for a single query), every
    // key once.
    let spread = packed.derived(about.key(3), &[target, &lv], || {
        let mut seen = vec![false; n * base * about.keys];
        let mut cells = vec![vec![None; period]; products.count()];
        for o in 0..products.count() {
            let back = o / n % inner;
            for slot in 0..period {
                // The product is turned back by this many lanes.
                let at = (slot + period - back) % period;
                let (Some(out), Some(value)) = (target.cell(o % n, at), lv.cell(o, slot)) else {
                    continue;
                };
                let (i, h, x) = about.split(out);
                let (j, hv, xv) = about.split(value);
                if h != hv || x != xv {
                    continue;
                }
                // The head and the row are those of the place.
                let place = (o % n) * base + at % base;
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
    let inner_scope = Scope {
        shape,
        ..scope.clone()
    };
    let first = match inner {
        1 => Arc::clone(&spread),
        _ => packed.derived(about.key(5), &[&spread], || {
            products.leading(&spread, about.width)
        }),
    };
    let mut weights = match factors {
        None => linear(packed, &inner_scope, scores, &first, &Copy, None)?,
        Some(weights) => {
            let map = WeightScores { weights };
            linear(packed, &inner_scope, scores, &first, &map, None)?
        }
    };
    if inner > 1 {
        weights = linear(packed, &inner_scope, weights, &spread, &Copy, None)?;
    }
    if inner > 1 || base < period {
        let nothing = Arc::new(Layout::new(vec![vec![None; period]; n], "partial sums"));
        let sums = sum_turned(packed, scope, (weights, rotated), &products, &nothing);
        return Ok(finish_values(
            packed,
            scope,
            sums,
            (base, period),
            target,
            bound,
        ));
    }
    let kernel = products.sum_of(0);
    Ok(packed.add(scope, kernel, &[weights, rotated], target, bound))
}

/// Σ_b rot_b(Σ_r weights_r · values_r), over the rotations r that are turned back by b lanes.
fn sum_turned(
    packed: &mut PackedGraph,
    scope: &Scope,
    (weights, values): (ValueId, ValueId),
    products: &Products,
    nothing: &Arc<Layout>,
) -> ValueId {
    let mut terms = Vec::new();
    for b in 0..products.inner.min(products.rotations) {
        let kernel = products.sum_of(b);
        let sum = packed.add(scope, kernel, &[weights, values], nothing, None);
        let rotate = Kernel::Rotate {
            steps: vec![b as i64],
        };
        terms.push(match b {
            0 => sum,
            _ => packed.add(scope, rotate, &[sum], nothing, None),
        });
    }
    if let [only] = terms[..] {
        return only;
    }
    let terms: Vec<(ValueId, f64)> = terms.into_iter().map(|t| (t, 1.0)).collect();
    packed.combine(scope, &terms, 0.0, None)
}

/// Adds what lies a period of the result apart, and names what the sums are.
fn finish_values(
    packed: &mut PackedGraph,
    scope: &Scope,
    sums: ValueId,
    (base, period): (usize, usize),
    target: &Arc<Layout>,
    bound: Option<f64>,
) -> ValueId {
    let mut steps = Vec::new();
    let mut step = base;
    while step < period {
        steps.push(step as i64);
        step *= 2;
    }
    if steps.is_empty() {
        let op = &mut packed.graph.node_mut(sums).op;
        op.layout = Arc::clone(target);
        op.bound = bound;
    }
    packed.fold(scope, sums, &steps, target, bound)
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
    let outs = bound_outs(&outs, &fold, target, map, &mut packed.plaintexts);
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
