//! Linear maps in parts that share no source, and which pairs of real ciphertexts each part computes as one complex ciphertext.
//!
//! Folding halves products with plaintexts, and rotations of sources or of sums, for one conjugation per sum. It is chosen part by part, by
//! the prices of the CPU at one level: what is emitted must be what was priced, at whatever level.    Source: design notes, 3.1.

use std::collections::{BTreeMap, BTreeSet};

use super::{CostTable, Work};
use crate::ir::packed::LinearOut;

/// What is folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Folding {
    /// Nothing.
    #[default]
    None,
    /// Sources 2k and 2k + 1 of the part: one operand, products of both with one complex plaintext.
    Sources,
    /// Results 2k and 2k + 1 of the part: one sum of products with complex plaintexts.
    Results,
}

/// Results that share sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearPart {
    /// Numbers of the results, ascending.
    pub outs: Vec<usize>,
    /// Numbers of the sources, ascending.
    pub sources: Vec<usize>,
    /// How it is computed.
    pub folding: Folding,
    /// What that is.
    pub work: Work,
}

/// The level that foldings are compared at: the middle of a chain.
const LEVEL: u32 = 6;

/// The parts of a linear map, in the order of their first sources.
pub fn parts(outs: &[LinearOut]) -> Vec<LinearPart> {
    let costs = CostTable::bootstrapped(16, 13);
    let mut parts = connected(outs);
    for part in &mut parts {
        let with = |folding| {
            let work = count(outs, part, folding);
            (folding, work, costs.work(&work, LEVEL))
        };
        let mut best = with(Folding::None);
        for other in [Folding::Sources, Folding::Results].map(with) {
            if other.2 < best.2 {
                best = other;
            }
        }
        (part.folding, part.work) = (best.0, best.1);
    }
    parts
}

fn find(group: &[usize], mut s: usize) -> usize {
    while group[s] != s {
        s = group[s];
    }
    s
}

fn connected(outs: &[LinearOut]) -> Vec<LinearPart> {
    let read: Vec<BTreeSet<usize>> = outs
        .iter()
        .map(|out| {
            let terms = out.giants.iter().flat_map(|(_, t)| t);
            let mut all: BTreeSet<usize> = terms.map(|t| t.source).collect();
            if all.is_empty() {
                // A constant is made of the first source times zero.
                all.insert(0);
            }
            all
        })
        .collect();
    let count = read.iter().flatten().max().map_or(0, |s| s + 1);
    // Union-find over sources; the smallest names the group.
    let mut group: Vec<usize> = (0..count).collect();
    for sources in &read {
        let mut names = sources.iter();
        let Some(first) = names.next() else { continue };
        for s in names {
            let (a, b) = (find(&group, *first), find(&group, *s));
            group[a.max(b)] = a.min(b);
        }
    }
    let mut parts: BTreeMap<usize, LinearPart> = BTreeMap::new();
    for (number, sources) in read.iter().enumerate() {
        let Some(first) = sources.first() else {
            continue;
        };
        let part = parts.entry(find(&group, *first)).or_default();
        part.outs.push(number);
        part.sources.extend(sources);
    }
    let mut parts: Vec<LinearPart> = parts.into_values().collect();
    for part in &mut parts {
        part.sources.sort_unstable();
        part.sources.dedup();
    }
    parts
}

/// What a part does, folded in a way: as the schedule counts it.
fn count(outs: &[LinearOut], part: &LinearPart, folding: Folding) -> Work {
    let place = |source: usize| {
        let at = part.sources.binary_search(&source).unwrap_or(0);
        match folding {
            Folding::Sources => at / 2,
            Folding::None | Folding::Results => at,
        }
    };
    let together = match folding {
        Folding::Results => 2,
        Folding::None | Folding::Sources => 1,
    };
    let (mut babies, mut rotated) = (BTreeSet::new(), BTreeSet::new());
    let (mut whole, mut compact) = (0, 0);
    let (mut giants, mut results, mut conjugations) = (0, 0, 0);
    let mut folded = 0;
    if folding == Folding::Sources {
        folded = part.sources.len() / 2;
    }
    for pair in part.outs.chunks(together) {
        // Whether each product has a plaintext that is compact; of two vectors in one, both must be.
        let mut made = BTreeMap::new();
        let mut steps = BTreeSet::new();
        for (giant, terms) in pair.iter().flat_map(|o| outs[*o].giants.iter()) {
            steps.insert(*giant);
            for t in terms {
                let source = place(t.source);
                *made.entry((*giant, source, t.baby)).or_insert(true) &= t.compact;
                if t.baby != 0 {
                    babies.insert((source, t.baby));
                    rotated.insert(source);
                }
            }
        }
        let cheap = made.values().filter(|compact| **compact).count();
        compact += cheap;
        whole += made.len() - cheap;
        giants += steps.iter().filter(|g| **g != 0).count();
        results += 1;
        conjugations += match folding {
            Folding::None => 0,
            Folding::Sources => 1,
            Folding::Results => pair.len() - 1,
        };
    }
    Work {
        linear: [rotated.len(), whole, compact, babies.len(), giants, results].map(|c| c as f64),
        // Each pair takes an addition, each conjugation one or two.
        combinations: [(folded + 2 * conjugations) as f64, 0.0],
        conjugations: conjugations as f64,
        ..Work::default()
    }
}
