//! attention-plan: which way the products of attention go, by the cost table: one product per rotation (`attention_stages`) or groups of
//! features (`attention_groups`), and of what sizes.

use crate::attention_groups::Groups;
use crate::attention_stages::{self, Products};
use crate::cost::{CostTable, Work};
use crate::ir::packed::is_compact;
use crate::ir::packed::layout::Geometry;

/// The level that ways are compared at: the middle of a chain.
pub(crate) const LEVEL: u32 = 6;
/// Levels that one bootstrap gives.
pub(crate) const LEVELS: f64 = 10.0;

/// The sizes that decide.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// How slots are cut up.
    pub geometry: Geometry,
    /// Ciphertexts of queries or of the result.
    pub ciphertexts: usize,
    /// Rotations by whole tokens.
    pub rotations: usize,
    /// Lanes of a head.
    pub block: usize,
}

/// Which of the two products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Queries and keys.
    Scores,
    /// Scores and values.
    Values,
}

/// How products are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One product per rotation.
    Single(Products),
    /// Sums over groups of features.
    Grouped(Groups),
}

/// The cheapest way.
pub fn choose(sizes: Sizes, half: Half) -> Way {
    let costs = CostTable::bootstrapped(16, 13);
    let single = single(sizes);
    let mut best = (
        attention_stages::seconds(&costs, sizes, single.inner, half),
        Way::Single(single),
    );
    for groups in candidates(sizes) {
        let seconds = grouped(&costs, sizes, &groups, half);
        if seconds < best.0 {
            best = (seconds, Way::Grouped(groups));
        }
    }
    best.1
}

/// The cheapest way of one product per rotation.
pub fn single(sizes: Sizes) -> Products {
    Products {
        geometry: sizes.geometry,
        ciphertexts: sizes.ciphertexts,
        rotations: sizes.rotations,
        inner: attention_stages::inner_lanes(sizes),
    }
}

fn powers(from: usize, to: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from), |p| Some(2 * p)).take_while(move |p| *p <= to)
}

fn candidates(sizes: Sizes) -> Vec<Groups> {
    let most = sizes.rotations.min(sizes.block);
    let groups = powers(2, most).filter(|g| sizes.rotations.is_multiple_of(*g));
    groups
        .flat_map(|group| {
            powers(1, sizes.rotations / group).map(move |babies| Groups {
                geometry: sizes.geometry,
                ciphertexts: sizes.ciphertexts,
                rotations: sizes.rotations,
                group,
                babies,
            })
        })
        .collect()
}

/// Linear maps that copy: sources, products, rotations of sources and results.
fn copies(sources: usize, products: usize, babies: usize, results: usize, compact: bool) -> Work {
    let [whole, short] = if compact {
        [0, products]
    } else {
        [products, 0]
    };
    Work {
        linear: [sources, whole, short, babies, 0, results].map(|c| c as f64),
        ..Work::default()
    }
}

/// `count` ciphertexts rotated to `steps` places, the first of which is where they are.
fn hoisted(count: usize, steps: usize) -> Work {
    let rotated = (count * steps.min(2).saturating_sub(1)) as f64;
    Work {
        rotations: [rotated, (count * steps.saturating_sub(2)) as f64],
        ..Work::default()
    }
}

fn multiplied(sums: usize, products: usize) -> Work {
    Work {
        multiplications: [sums as f64, (products - sums) as f64],
        ..Work::default()
    }
}

/// Seconds of sums over groups, at a level in the middle, with their share of bootstraps for the levels that they take beyond one linear
/// map and one product.
fn grouped(costs: &CostTable, sizes: Sizes, groups: &Groups, half: Half) -> f64 {
    let (n, group) = (sizes.ciphertexts, groups.group);
    let g = sizes.geometry;
    let sums = sizes.rotations / group;
    let (babies, giants) = (groups.babies, groups.giants());
    let pages = sizes.rotations.div_ceil(sizes.block);
    let parts = sizes.block / group;
    let compact = is_compact(g.lanes, g.virtual_slots());
    let turns = 2 * (group - 1);
    let mut work = vec![
        // Keys are skewed and turned, then rotated.
        copies(n, n * group, n * (group - 1), n, compact),
        copies(n, n * (turns + 1), n * turns, n * group, compact),
        hoisted(n * group, babies),
        multiplied(
            match half {
                Half::Scores => n * sums,
                Half::Values => n * group * giants,
            },
            n * sizes.rotations,
        ),
    ];
    // Sums of one page that are rotated alike later.
    let alike = babies.min(parts);
    let turned = (parts / alike) * (parts + alike - 1);
    match half {
        Half::Scores => {
            work.push(copies(n, n * (turns + 1), n * turns, n * group, compact));
            work.push(hoisted(n * group, giants));
            let mut packing = copies(0, n * sums * parts, 0, n * pages, false);
            packing.linear[4] = (n * pages * turned) as f64;
            work.push(packing);
        }
        Half::Values => {
            let spread = n * pages * turned;
            work.push(copies(
                n * pages,
                n * sums * parts,
                spread,
                n * sums,
                compact,
            ));
            let mut gathering = copies(0, n * (turns + 1) * giants, 0, n, compact);
            gathering.linear[4] = (n * (turns + 1) * giants - n) as f64;
            work.push(gathering);
        }
    }
    let levels = costs.bundle(1 << 15, n, costs.top) / LEVELS;
    let seconds: f64 = work.iter().map(|w| costs.work(w, LEVEL)).sum();
    seconds + 3.0 * levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(tokens: usize, lanes: usize, block: usize, half: Half) -> Way {
        let geometry = Geometry {
            slots: 1 << 15,
            batch: 1,
            tokens,
            lanes,
        };
        let sizes = Sizes {
            geometry,
            ciphertexts: 2,
            rotations: tokens,
            block,
        };
        choose(sizes, half)
    }

    #[test]
    fn wide_heads_over_many_tokens_are_grouped_and_narrow_ones_are_not() {
        for half in [Half::Scores, Half::Values] {
            assert!(matches!(way(128, 256, 64, half), Way::Grouped(_)));
            assert!(matches!(way(4, 256, 4, half), Way::Single(_)));
        }
    }
}
