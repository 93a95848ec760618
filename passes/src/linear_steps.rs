//! linear-steps: how the offsets of a linear map are split into rotations of sources (babies) and of sums (giants).
//!
//! Either the rest of an offset by a step is a baby and what is left a giant, or the other way round, where offsets are near multiples of a large
//! step. Every step is priced with the folding of pairs that it allows; of those that cost about the least, the one with the fewest keys is taken.

use rayon::prelude::*;

use crate::cost::folding::{parts_of, seconds, Product};
use crate::ir::packed::is_compact;
use crate::ir::packed::layout::Geometry;
use crate::linear_lowering::Diagonals;

/// offset = baby + giant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// 0 ≤ baby < step.
    Babies(i64),
    /// -step / 2 < giant ≤ step / 2.
    Giants(i64),
}

impl Split {
    /// (baby, giant).
    pub fn of(self, offset: i64) -> (i64, i64) {
        match self {
            Split::Babies(step) => {
                let baby = offset.rem_euclid(step);
                (baby, offset - baby)
            }
            Split::Giants(step) => {
                let rest = offset.rem_euclid(step);
                let giant = if 2 * rest > step { rest - step } else { rest };
                (offset - giant, giant)
            }
        }
    }
}

/// How much dearer than the cheapest a split may be that takes fewer keys: prices are no finer, and keys are most of the memory.
const NEAR: f64 = 1.05;

/// The split of the diagonals of each result. `neighbours`: results elsewhere over the results here, with which rotations of sources are shared.
pub(crate) fn best(g: Geometry, outs: &[Diagonals], neighbours: f64) -> Split {
    let last = g.virtual_slots() as i64;
    let steps =
        || std::iter::successors(Some(1i64), |s| Some(2 * s)).take_while(|s| *s < last.max(2));
    let all: Vec<Split> = steps()
        .map(Split::Giants)
        .chain(steps().map(Split::Babies))
        .collect();
    let priced: Vec<(f64, usize, Split)> = all
        .into_par_iter()
        .map(|split| {
            let (seconds, keys) = price(g, outs, split, neighbours);
            (seconds, keys, split)
        })
        .collect();
    let least = priced.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let near = priced.iter().filter(|p| p.0 <= NEAR * least);
    let best = near.min_by(|a, b| a.1.cmp(&b.1).then(a.0.total_cmp(&b.0)));
    best.map_or(Split::Giants(1), |p| p.2)
}

/// Seconds, and the number of different rotations.
fn price(g: Geometry, outs: &[Diagonals], split: Split, neighbours: f64) -> (f64, usize) {
    let mut rotations = Vec::new();
    let products: Vec<Vec<Product>> = outs
        .iter()
        .map(|diagonals| {
            let product = |((source, offset), coefficients): &((usize, i64), Vec<f64>)| {
                let (baby, giant) = split.of(*offset);
                Product {
                    giant,
                    source: *source,
                    baby,
                    compact: is_compact(coefficients.len(), g.virtual_slots()),
                }
            };
            diagonals.iter().map(product).collect()
        })
        .collect();
    for product in products.iter().flatten() {
        rotations.push(product.baby);
        rotations.push(product.giant);
    }
    rotations.sort_unstable();
    rotations.dedup();
    rotations.retain(|r| *r != 0);
    let mut parts = parts_of(&products);
    for part in &mut parts {
        let [sources, _, _, babies, _, _] = &mut part.work.linear;
        *sources /= 1.0 + neighbours;
        *babies /= 1.0 + neighbours;
    }
    (seconds(&parts), rotations.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Geometry = Geometry {
        slots: 1 << 15,
        batch: 1,
        tokens: 128,
        lanes: 256,
    };

    fn diagonals(source: usize, offsets: impl Iterator<Item = i64>) -> Diagonals {
        offsets.map(|o| ((source, o), vec![1.0; 256])).collect()
    }

    #[test]
    fn both_splits_add_up_to_the_offset() {
        for step in [1, 2, 16, 1024] {
            for offset in [-2000, -17, -1, 0, 1, 8, 9, 300] {
                for split in [Split::Babies(step), Split::Giants(step)] {
                    let (baby, giant) = split.of(offset);
                    assert_eq!(baby + giant, offset);
                }
            }
        }
    }

    #[test]
    fn offsets_near_multiples_of_a_token_rotate_sources_by_tokens() {
        // Of each of eight tokens one lane before and after.
        let near = (0..8).flat_map(|t| (-1..2).map(move |lane| 256 * t + lane));
        let outs: Vec<Diagonals> = vec![diagonals(0, near)];
        let split = best(WINDOW, &outs, 0.0);
        let (_, keys) = price(WINDOW, &outs, split, 0.0);
        assert!(
            matches!(split, Split::Giants(_)) && keys == 7 + 2,
            "{split:?} with {keys} keys"
        );
    }

    #[test]
    fn maps_that_share_their_sources_take_more_babies() {
        let wide = || vec![diagonals(0, -255..256), diagonals(0, -255..256)];
        let babies = |neighbours| match best(WINDOW, &wide(), neighbours) {
            Split::Babies(step) => step,
            Split::Giants(_) => 0,
        };
        assert!(babies(6.0) > babies(0.0) && babies(0.0) > 1);
    }
}
