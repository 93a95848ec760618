//! attention-stages: packing and spreading of scores in two linear maps where one would take too many products.
//! one stage   score of rotation r at lane r of its head: sums of `width` features, each from `width` masked products
//! two stages  r = inner·a + b, and product r is turned back by b lanes:
//!             lane inner·y + b of group a holds Σ_j product_r[inner·y + j] for j < inner      (`inner` masks per product, offsets j)
//!             lane inner·a + b of a page holds the sum of these over y                        (`outer` masks per group)
//!             and the other way round for spreading, where offsets are -j
//! Why         a head of 64 features takes 64 products per rotation in one stage and 4 + 16 / 4 in two, for one level more.
//! Source      the design notes, 3.2.

use crate::attention_plan::{Half, Sizes, LEVEL, LEVELS};
use crate::cost::{CostTable, Work};
use crate::ir::packed::layout::{Cell, Geometry, Layout};
use crate::ir::packed::{is_compact, Kernel, Part};

/// The ciphertexts that products of attention are: number rotation · ciphertexts + ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Products {
    /// How slots are cut up.
    pub geometry: Geometry,
    /// Ciphertexts of queries or of the result.
    pub ciphertexts: usize,
    /// Rotations by whole tokens.
    pub rotations: usize,
    /// Rotation r is turned back by r mod `inner` lanes; 1 where there is one stage.
    pub inner: usize,
}

/// One period of ciphertext `k` rotated left by `step`.
pub(crate) fn turned(layout: &Layout, k: usize, step: i64, period: usize) -> Vec<Cell> {
    let start = step.rem_euclid(period as i64) as usize;
    (0..period).map(|s| layout.cell(k, s + start)).collect()
}

impl Products {
    /// Number of products.
    pub fn count(&self) -> usize {
        self.rotations * self.ciphertexts
    }

    /// Layout after the first stage of packing: element score · parts + y, parts of `inner` features each.
    pub fn summed(&self, partial: &Layout, width: usize) -> Layout {
        let parts = width.div_ceil(self.inner);
        let place = |product: usize, slot: usize, x: usize| {
            let y = x / self.inner;
            let e = partial.cell(product, slot - y * self.inner)? as usize / width;
            (y < parts).then(|| (e * parts + y) as u32)
        };
        self.groups(partial.period(), width, "sums of features", place)
    }

    /// Layout after the first stage of spreading: what the lanes from here on hold in the end.
    pub fn leading(&self, spread: &Layout, width: usize) -> Layout {
        let place = |product: usize, slot: usize, _: usize| spread.cell(product, slot);
        self.groups(spread.period(), width, "scores by group", place)
    }

    /// `place(product, slot, lane in the head)` for each group of `inner` rotations.
    fn groups(
        &self,
        period: usize,
        width: usize,
        note: &'static str,
        place: impl Fn(usize, usize, usize) -> Cell,
    ) -> Layout {
        let (n, block) = (self.ciphertexts, width.next_power_of_two());
        // Blocks must not be cut where all ciphertexts repeat sooner.
        let period = period.max(block);
        let cells = (0..self.rotations.div_ceil(self.inner) * n)
            .map(|o| {
                (0..period)
                    .map(|slot| {
                        let x = slot % self.geometry.lanes % block;
                        let r = o / n * self.inner + x % self.inner;
                        if r >= self.rotations {
                            return None;
                        }
                        place(r * n + o % n, slot, x)
                    })
                    .collect()
            })
            .collect();
        Layout::new(cells, note)
    }

    /// For each ciphertext Σ weights_r · values_r over the rotations that are turned back by `back` lanes.
    pub fn sum_of(&self, back: usize) -> Kernel {
        let n = self.ciphertexts;
        let rotations = || (back..self.rotations).step_by(self.inner);
        let part = |operand: usize, r: usize, k: usize| -> Part { (operand, r * n + k) };
        let pairs = (0..n)
            .map(|k| {
                rotations()
                    .map(|r| (part(0, r, k), part(1, r, k)))
                    .collect()
            })
            .collect();
        Kernel::MulSum {
            pairs,
            factor: 1,
            constant: 0.0,
        }
    }
}

/// Lanes of the inner stage: 1 for one stage.
pub fn inner_lanes(sizes: Sizes) -> usize {
    let costs = CostTable::bootstrapped(16, 13);
    let block = sizes.block;
    let candidates = (0..=block.ilog2())
        .map(|i| 1usize << i)
        .filter(|i| *i < block.max(2));
    let seconds = |inner: &usize| packing(&costs, sizes, *inner);
    candidates
        .min_by(|a, b| seconds(a).total_cmp(&seconds(b)))
        .unwrap_or(1)
}

/// Packing or spreading with `inner` lanes in the inner stage, by the cost table: products, rotations of sums and, for a second stage, its share
/// of bootstrapping the scores.
fn packing(costs: &CostTable, sizes: Sizes, inner: usize) -> f64 {
    let Sizes {
        geometry: g,
        ciphertexts,
        rotations,
        block,
    } = sizes;
    let pages = rotations.div_ceil(block);
    let outer = (block / inner) as f64;
    let groups = (rotations.div_ceil(inner) * ciphertexts) as f64;
    let packed = (pages * ciphertexts) as f64;
    let lanes = inner as f64 - 1.0;
    let two = f64::from(u8::from(inner > 1));
    // Masks of the inner stage are alike for all tokens; those of the outer stage hold the attention mask too.
    let alike = two * (rotations * ciphertexts * inner) as f64;
    let (whole, compact) = match is_compact(g.lanes, g.virtual_slots()) {
        true => (groups * outer, alike),
        false => (groups * outer + alike, 0.0),
    };
    let giants = packed * 2.0 * (outer - 1.0) + groups * lanes;
    let work = Work {
        linear: [0.0, whole, compact, 0.0, giants, packed + two * groups],
        ..Work::default()
    };
    let bootstraps = costs.bundle(1 << 15, pages * ciphertexts, costs.top);
    costs.work(&work, LEVEL) + two * bootstraps / LEVELS
}

/// The whole half of attention, rotations of keys or values and products included.
pub(crate) fn seconds(costs: &CostTable, sizes: Sizes, inner: usize, half: Half) -> f64 {
    let count = sizes.ciphertexts * sizes.rotations;
    let sums = match half {
        Half::Scores => count,
        Half::Values => sizes.ciphertexts * inner,
    };
    let first = sizes.ciphertexts * sizes.rotations.min(2).saturating_sub(1);
    let others = sizes.ciphertexts * sizes.rotations.saturating_sub(2);
    let work = Work {
        rotations: [first as f64, others as f64],
        multiplications: [sums as f64, count.saturating_sub(sums) as f64],
        ..Work::default()
    };
    packing(costs, sizes, inner) + costs.work(&work, LEVEL)
}
