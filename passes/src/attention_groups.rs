//! attention-groups: scores and values of wide heads with sums over features inside products, relinearised once for `group` features.
//! Lanes of a head are (g, b) with b < group; rotation r by whole tokens is group·j + b.
//! keys      k~_a[t, (g, b)] = k[t + b, (g, a + b mod group)]       q~_a[t, (g, b)] = q[t, (g, a + b mod group)]
//! scores    y_j = Σ_a q~_a · rot_{group·j tokens}(k~_a)            lane (g, b): features of group g of the score of rotation r
//!           s   = Σ_g y_j, packed: score of rotation r at lane r of its head
//! values    z_a = Σ_j p_j · rot_{group·j tokens}(v~_a)             p_j[t, (g, b)] = the score of rotation r, whatever g
//!           o[t, (g, a + b mod group)] = Σ_b z_a[t, (g, b)]
//! Rotations are shared by both sides, j = j1 + babies·j2: rot_{j}(k) · q = rot_{j2}(rot_{j1}(k) · rot_{-j2}(q)), and the outer one is left to
//! the linear map that follows. Keys are skewed first (lane (g, b) read b tokens further), so that k~_a takes two rotations like q~_a.
//! Needs    keys that reach every query and whole groups; `lower-attention` takes its other way where something is not reached.
//! Error    none.    Depth  four from keys and values, three from queries and scores.
//! Source   own, from the diagonals of eprint 2018/1041 and baby steps on both sides of a product as in eprint 2025/2271.

use std::sync::Arc;

use crate::element_maps::{Copy, PackScores, WeightScores};
use crate::ir::graph::ValueId;
use crate::ir::packed::build::Scope;
use crate::ir::packed::layout::{Cell, Geometry, Layout};
use crate::ir::packed::{Kernel, PackedGraph};
use crate::ir::shape::{Matrix, Shape};
use crate::lower_attention::{linear, rotate_all, Attention};

/// How products are grouped. All are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How slots are cut up.
    pub geometry: Geometry,
    /// Ciphertexts of queries or of the result.
    pub ciphertexts: usize,
    /// Rotations by whole tokens.
    pub rotations: usize,
    /// Features that are summed before relinearisation, and rotations that share a ciphertext.
    pub group: usize,
    /// Rotations of keys or values; those of queries or scores are the others.
    pub babies: usize,
}

/// Whether some ciphertext holds nothing: where keys repeat, later rotations may reach nothing new.
fn has_empty(layout: &Layout) -> bool {
    (0..layout.ciphertexts()).any(|k| layout.cells(k).iter().all(Option::is_none))
}

impl Groups {
    /// Sums of products, for each ciphertext.
    fn sums(&self) -> usize {
        self.rotations / self.group
    }

    /// Rotations of queries or scores.
    pub fn giants(&self) -> usize {
        self.sums() / self.babies
    }

    /// The slots that rotation number j of keys or values is.
    fn tokens(&self, j: usize) -> usize {
        j * self.group * self.geometry.lanes
    }

    fn baby_steps(&self) -> Vec<i64> {
        (0..self.babies).map(|j| self.tokens(j) as i64).collect()
    }

    /// What sum j is rotated by afterwards.
    fn later(&self, j: usize) -> usize {
        self.tokens(j - j % self.babies)
    }

    /// Names layouts of these groups.
    fn key(&self, about: Attention, kind: u64) -> Vec<u64> {
        let mut key = about.key(kind);
        key.extend([self.group as u64, self.babies as u64]);
        key
    }

    /// (slot where the group starts, lane in the group) of a slot.
    fn place(&self, slot: usize) -> (usize, usize) {
        (slot - slot % self.group, slot % self.group)
    }

    /// The slot of feature number `a` of the lane of `slot`.
    fn feature(&self, slot: usize, a: usize) -> usize {
        let (start, b) = self.place(slot);
        start + (a + b) % self.group
    }

    /// The slot that it is read from in keys and values.
    fn key_feature(&self, slot: usize, a: usize) -> usize {
        self.feature(slot, a) + self.place(slot).1 * self.geometry.lanes
    }

    fn layout_of(
        &self,
        about: Attention,
        from: &Layout,
        ciphertexts: usize,
        note: &'static str,
        cell: impl Fn(usize, usize) -> Cell,
    ) -> Layout {
        // Heads must not be cut where all ciphertexts repeat sooner.
        let period = from.period().max(about.block());
        let cells = (0..ciphertexts)
            .map(|c| (0..period).map(|slot| cell(c, slot)).collect())
            .collect();
        Layout::new(cells, note)
    }

    /// Lane b of each group read b tokens further.
    fn skewed(&self, about: Attention, keys: &Layout) -> Layout {
        self.layout_of(about, keys, self.ciphertexts, "skewed", |k, slot| {
            keys.cell(k, slot + self.place(slot).1 * self.geometry.lanes)
        })
    }

    /// Ciphertext a·n + k: what `place(slot, a)` of ciphertext k holds.
    fn in_turn(
        &self,
        about: Attention,
        from: &Layout,
        place: impl Fn(usize, usize) -> usize,
    ) -> Layout {
        let n = self.ciphertexts;
        self.layout_of(
            about,
            from,
            n * self.group,
            "features in turn",
            |c, slot| from.cell(c % n, place(slot, c / n)),
        )
    }

    /// Adds q~: queries or values, each lane in turn.
    fn queries(
        &self,
        (packed, scope): (&mut PackedGraph, &Scope),
        about: Attention,
        from: ValueId,
    ) -> Result<ValueId, String> {
        let layout = Arc::clone(packed.layout(from));
        let target = packed.derived(self.key(about, 6), &[&layout], || {
            self.in_turn(about, &layout, |slot, a| self.feature(slot, a))
        });
        linear(packed, scope, from, &target, &Copy, None)
    }

    /// Adds k~ with its rotations: ciphertext (j1·group + a)·n + k.
    fn keys(
        &self,
        (packed, scope): (&mut PackedGraph, &Scope),
        about: Attention,
        from: ValueId,
    ) -> Result<ValueId, String> {
        let layout = Arc::clone(packed.layout(from));
        let skewed = packed.derived(self.key(about, 7), &[&layout], || {
            self.skewed(about, &layout)
        });
        let target = packed.derived(self.key(about, 8), &[&layout], || {
            self.in_turn(about, &layout, |slot, a| self.key_feature(slot, a))
        });
        let value = linear(packed, scope, from, &skewed, &Copy, None)?;
        let value = linear(packed, scope, value, &target, &Copy, None)?;
        Ok(rotate_all(packed, scope, value, self.baby_steps()))
    }

    /// Σ over pairs for each of `count` sums: `pair(sum, k)` lists ciphertexts of both operands.
    fn sum(&self, count: usize, pair: impl Fn(usize, usize) -> Vec<(usize, usize)>) -> Kernel {
        let n = self.ciphertexts;
        let pairs = (0..count * n)
            .map(|o| {
                let both = pair(o / n, o % n).into_iter();
                both.map(|(a, b)| ((0, a), (1, b))).collect()
            })
            .collect();
        Kernel::MulSum {
            pairs,
            factor: 1,
            constant: 0.0,
        }
    }

    /// Scores q_i · k_j, or nothing where this way does not reach all of them.
    pub fn scores(
        &self,
        (packed, scope): (&mut PackedGraph, &Scope),
        (q, k): (ValueId, ValueId),
        about: Attention,
        mask: Option<&Matrix>,
        bound: Option<f64>,
    ) -> Result<Option<ValueId>, String> {
        let (n, group) = (self.ciphertexts, self.group);
        let layouts = [q, k].map(|v| Arc::clone(packed.layout(v)));
        let [lq, lk] = &layouts;
        let partial = packed.derived(self.key(about, 9), &[lq, lk], || {
            self.partial_scores(about, (lq, lk))
        });
        let target = packed.derived(self.key(about, 10), &[&partial], || {
            self.packed_scores(about, &partial)
        });
        let held = target.holders(|_| true);
        let scores = (about.heads * about.rows * about.keys) as u32;
        if (0..scores).any(|e| held.of(e).is_empty()) || has_empty(&target) {
            return Ok(None);
        }
        let queries = self.queries((packed, scope), about, q)?;
        let back: Vec<i64> = (0..self.giants())
            .map(|j| -(self.tokens(j * self.babies) as i64))
            .collect();
        let queries = rotate_all(packed, scope, queries, back);
        let keys = self.keys((packed, scope), about, k)?;
        let kernel = self.sum(self.sums(), |j, k| {
            let (j1, j2) = (j % self.babies, j / self.babies);
            let at = |j: usize, a: usize| (j * group + a) * n + k;
            (0..group).map(|a| (at(j2, a), at(j1, a))).collect()
        });
        let sums = packed.add(scope, kernel, &[queries, keys], &partial, None);
        let map = PackScores {
            width: about.width.div_ceil(group),
            mask,
        };
        linear(packed, scope, sums, &target, &map, bound).map(Some)
    }

    /// Element score · parts + g of ciphertext j·n + k, where all features of group g meet their own.
    fn partial_scores(&self, about: Attention, (queries, keys): (&Layout, &Layout)) -> Layout {
        let n = self.ciphertexts;
        let parts = about.width.div_ceil(self.group);
        let from = if queries.period() > keys.period() {
            queries
        } else {
            keys
        };
        let all = from.period();
        self.layout_of(about, from, self.sums() * n, "sums by group", |o, slot| {
            let (j, k) = (o / n, o % n);
            let back = slot + all - self.later(j) % all;
            let ahead = self.tokens(j % self.babies);
            let mut found = None;
            for a in 0..self.group {
                let query = queries.cell(k, self.feature(back, a));
                let key = keys.cell(k, self.key_feature(slot, a) + ahead);
                let (Some(query), Some(key)) = (query, key) else {
                    if query != key {
                        return None;
                    }
                    continue;
                };
                let (i, h, x) = about.split(query);
                let (j, hk, xk) = about.split(key);
                let score = about.score(h, i, j) * parts as u32 + (x / self.group) as u32;
                if h != hk || x != xk || *found.get_or_insert(score) != score {
                    return None;
                }
            }
            found
        })
    }

    /// Slot (token, head block, x) of ciphertext (k, page) holds the score of rotation page · block + x, first occurrences only.
    fn packed_scores(&self, about: Attention, partial: &Layout) -> Layout {
        let n = self.ciphertexts;
        let parts = about.width.div_ceil(self.group) as u32;
        let shape = (n, self.rotations);
        about.score_layout(self.geometry, shape, partial.period(), |r, k, start| {
            let j = r / self.group;
            let slot = start + r % self.group + self.later(j);
            partial.cell(j * n + k, slot).map(|e| e / parts)
        })
    }

    /// Σ_j factors_ij n_ij v_j in the layout `target`, or nothing where this way does not reach every key.
    pub fn values(
        &self,
        (packed, scope): (&mut PackedGraph, &Scope),
        (scores, v): (ValueId, ValueId),
        about: Attention,
        factors: Option<&Matrix>,
        target: &Arc<Layout>,
        bound: Option<f64>,
    ) -> Result<Option<ValueId>, String> {
        let (n, group) = (self.ciphertexts, self.group);
        let lv = Arc::clone(packed.layout(v));
        if target.period() < lv.period() {
            return Ok(None);
        }
        // Where something is not reached, no slot holds anything.
        let spread = packed.derived(self.key(about, 11), &[target, &lv], || {
            let reached = self.spread_scores(about, target, &lv);
            reached.unwrap_or_else(|| Layout::new(vec![vec![None]], "nothing"))
        });
        if has_empty(&spread) {
            return Ok(None);
        }
        let inner_scope = Scope {
            shape: Shape::Scores {
                heads: about.heads,
                rows: about.rows,
                keys: about.keys,
            },
            ..scope.clone()
        };
        let weights = match factors {
            None => linear(packed, &inner_scope, scores, &spread, &Copy, None)?,
            Some(weights) => {
                let map = WeightScores { weights };
                linear(packed, &inner_scope, scores, &spread, &map, None)?
            }
        };
        let values = self.keys((packed, scope), about, v)?;
        let giants = self.giants();
        let kernel = self.sum(group * giants, |o, k| {
            let (a, j2) = (o / giants, o % giants);
            let pair = |j1: usize| {
                let j = j2 * self.babies + j1;
                (j * n + k, (j1 * group + a) * n + k)
            };
            (0..self.babies).map(pair).collect()
        });
        let parts = group * giants;
        // Copies of an element may be sums over the same keys in another order: each place is made of its own parts.
        let places = packed.derived(self.key(about, 12), &[target], || {
            let period = target.period();
            self.layout_of(about, target, n, "places", |k, slot| {
                let held = target.cell(k, slot);
                held.and(u32::try_from(k * period + slot % period).ok())
            })
        });
        let sums = packed.derived(self.key(about, 13), &[&places], || {
            let period = places.period();
            self.layout_of(about, &places, parts * n, "sums over keys", |o, slot| {
                let (part, k) = (o / n, o % n);
                let (a, j2) = (part / giants, part % giants);
                let back = slot + period - self.later(j2 * self.babies) % period;
                let place = places.cell(k, self.feature(back, a))? as usize;
                u32::try_from(place * parts + part).ok()
            })
        });
        let sums = packed.add(scope, kernel, &[weights, values], &sums, None);
        let map = PackScores {
            width: parts,
            mask: None,
        };
        let value = linear(packed, scope, sums, &places, &map, bound)?;
        packed.graph.node_mut(value).op.layout = Arc::clone(target);
        Ok(Some(value))
    }

    /// Scores for each sum, turned back by what it is rotated by later: every key once for each group of features of the result.
    fn spread_scores(&self, about: Attention, target: &Layout, values: &Layout) -> Option<Layout> {
        let n = self.ciphertexts;
        let period = target.period().max(about.block());
        let groups = period / self.group;
        let mut seen = vec![false; n * groups * about.keys];
        let mut cells = vec![vec![None; period]; self.sums() * n];
        for (o, cells) in cells.iter_mut().enumerate() {
            let (j, k) = (o / n, o % n);
            for (slot, cell) in cells.iter_mut().enumerate() {
                let at = (slot + period - self.later(j) % period) % period;
                let ahead = self.tokens(j % self.babies);
                let mut found = None;
                for a in 0..self.group {
                    let Some(out) = target.cell(k, self.feature(at, a)) else {
                        continue;
                    };
                    let value = values.cell(k, self.key_feature(slot, a) + ahead)?;
                    let (i, h, x) = about.split(out);
                    let (key, hv, xv) = about.split(value);
                    let score = (about.score(h, i, key), key);
                    if h != hv || x != xv || *found.get_or_insert(score) != score {
                        return None;
                    }
                }
                let Some((score, key)) = found else {
                    continue;
                };
                let place = k * groups + at / self.group;
                if !std::mem::replace(&mut seen[place * about.keys + key], true) {
                    *cell = Some(score);
                }
            }
        }
        let held = (0..n * groups).filter(|g| {
            let slots = (g % groups) * self.group..(g % groups + 1) * self.group;
            slots
                .into_iter()
                .any(|s| target.cell(g / groups, s).is_some())
        });
        let reached = seen.iter().filter(|s| **s).count();
        (reached == held.count() * about.keys).then(|| Layout::new(cells, "scores for groups"))
    }
}
