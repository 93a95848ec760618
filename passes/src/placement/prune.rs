//! After the dynamic program: leave bootstraps out, and keep what is cheaper with adjustments counted.
//!
//! Why      the dynamic program counts no adjustments, and drops partial plans on large graphs.
//! Source   the pruning of Fhelipe (PLDI 2024).

use std::collections::BTreeSet;

use super::{Levels, Problem};

/// The levels without the bootstraps that they are cheaper without.
pub fn prune(problem: &Problem, levels: Levels) -> Levels {
    let mut best = levels;
    let mut seconds = problem.seconds(&best);
    for at in best.bootstraps.keys().copied().collect::<Vec<_>>() {
        let mut without: BTreeSet<usize> = best.bootstraps.keys().copied().collect();
        without.remove(&at);
        if let Some(other) = problem.lowest(&without) {
            let found = problem.seconds(&other);
            if found < seconds {
                (best, seconds) = (other, found);
            }
        }
    }
    best
}
