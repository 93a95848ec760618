//! Linear maps in parts that share no source, and which pairs of real ciphertexts each part computes as one complex ciphertext.
//!
//! Folding halves products with plaintexts, and rotations of sources or of sums, for one conjugation per sum. It is chosen part by part, by
//! the prices of the CPU at one level: what is emitted must be what was priced, at whatever level.    Source: design notes, 3.1.

use std::collections::{BTreeMap, BTreeSet};

use super::{CostTable, Work};
use crate::ir::packed::{LinearOut, LinearTerm};

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
    /// Numbers of the results, in the order in which pairs of them are folded.
    pub outs: Vec<usize>,
    /// Numbers of the sources, ascending.
    pub sources: Vec<usize>,
    /// How it is computed.
    pub folding: Folding,
    /// What that is.
    pub work: Work,
}

/// One product of a linear map, but for what it is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Product {
    /// Rotation of the sum.
    pub giant: i64,
    /// Number of the source.
    pub source: usize,
    /// Rotation of the source.
    pub baby: i64,
    /// Whether the plaintext is compact.
    pub compact: bool,
}

/// The level that foldings are compared at: the middle of a chain.
const LEVEL: u32 = 6;

/// The parts of a linear map, in the order of their first sources.
pub fn parts(outs: &[LinearOut]) -> Vec<LinearPart> {
    let products = |out: &LinearOut| -> Vec<Product> {
        let giants = out.giants.iter();
        let of = |(giant, terms): &(i64, Vec<LinearTerm>)| -> Vec<Product> {
            let product = |t: &LinearTerm| Product {
                giant: *giant,
                source: t.source,
                baby: t.baby,
                compact: t.compact,
            };
            terms.iter().map(product).collect()
        };
        giants.flat_map(of).collect()
    };
    let outs: Vec<Vec<Product>> = outs.iter().map(products).collect();
    parts_of(&outs)
}

/// The same for the products of each result.
pub(crate) fn parts_of(outs: &[Vec<Product>]) -> Vec<LinearPart> {
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
    joined(outs, parts, &costs)
}

/// Seconds of all parts of a linear map, to compare it with others.
pub(crate) fn seconds(parts: &[LinearPart]) -> f64 {
    let costs = CostTable::bootstrapped(16, 13);
    parts.iter().map(|p| costs.work(&p.work, LEVEL)).sum()
}

/// Parts whose sums are rotated alike, two by two: results of both as one complex one, where that costs less.
fn joined(outs: &[Vec<Product>], parts: Vec<LinearPart>, costs: &CostTable) -> Vec<LinearPart> {
    let giants = |part: &LinearPart| -> Vec<BTreeSet<i64>> {
        let of = |o: &usize| outs[*o].iter().map(|p| p.giant).collect();
        part.outs.iter().map(of).collect()
    };
    let mut waiting: BTreeMap<Vec<BTreeSet<i64>>, usize> = BTreeMap::new();
    let mut all: Vec<LinearPart> = Vec::new();
    for part in parts {
        let giants = giants(&part);
        if giants.iter().all(|g| g.iter().all(|step| *step == 0)) {
            all.push(part);
            continue;
        }
        let Some(at) = waiting.remove(&giants) else {
            waiting.insert(giants, all.len());
            all.push(part);
            continue;
        };
        let first = &all[at];
        let mut both = LinearPart {
            outs: first
                .outs
                .iter()
                .zip(&part.outs)
                .flat_map(|(a, b)| [*a, *b])
                .collect(),
            sources: first.sources.iter().chain(&part.sources).copied().collect(),
            folding: Folding::Results,
            work: Work::default(),
        };
        both.sources.sort_unstable();
        both.work = count(outs, &both, Folding::Results);
        let apart = costs.work(&first.work, LEVEL) + costs.work(&part.work, LEVEL);
        if costs.work(&both.work, LEVEL) < apart {
            all[at] = both;
        } else {
            all.push(part);
        }
    }
    all
}

fn find(group: &[usize], mut s: usize) -> usize {
    while group[s] != s {
        s = group[s];
    }
    s
}

fn connected(outs: &[Vec<Product>]) -> Vec<LinearPart> {
    let read: Vec<BTreeSet<usize>> = outs
        .iter()
        .map(|out| {
            let mut all: BTreeSet<usize> = out.iter().map(|t| t.source).collect();
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
fn count(outs: &[Vec<Product>], part: &LinearPart, folding: Folding) -> Work {
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
    let mut babies: Vec<(usize, i64)> = Vec::new();
    let (mut whole, mut compact) = (0, 0);
    let (mut giants, mut results, mut conjugations) = (0, 0, 0);
    // Wide maps read the same of all sources for every result.
    let mut last: (Vec<Product>, [usize; 3]) = Default::default();
    for pair in part.outs.chunks(together) {
        let products = pair.iter().flat_map(|o| &outs[*o]);
        let mut products: Vec<Product> = products
            .map(|p| Product {
                source: place(p.source),
                ..*p
            })
            .collect();
        // Of two vectors in one both must be compact: the first of two in order is the one that is not.
        products.sort_unstable();
        products.dedup_by_key(|p| (p.giant, p.source, p.baby));
        if products != last.0 {
            let moved = products.iter().filter(|p| p.baby != 0);
            babies.extend(moved.map(|p| (p.source, p.baby)));
            let mut steps: Vec<i64> = products.iter().map(|p| p.giant).collect();
            steps.dedup();
            let cheap = products.iter().filter(|p| p.compact).count();
            let turned = steps.iter().filter(|g| **g != 0).count();
            let counted = [products.len() - cheap, cheap, turned];
            last = (products, counted);
        }
        let [w, c, g] = last.1;
        whole += w;
        compact += c;
        giants += g;
        results += 1;
        conjugations += match folding {
            Folding::None => 0,
            Folding::Sources => 1,
            Folding::Results => pair.len() - 1,
        };
    }
    babies.sort_unstable();
    babies.dedup();
    let count = babies.len();
    babies.dedup_by_key(|b| b.0);
    let folded = match folding {
        Folding::Sources => part.sources.len() / 2,
        Folding::None | Folding::Results => 0,
    };
    Work {
        linear: [babies.len(), whole, compact, count, giants, results].map(|c| c as f64),
        // Each pair takes an addition, each conjugation one or two.
        combinations: [(folded + 2 * conjugations) as f64, 0.0],
        conjugations: conjugations as f64,
        ..Work::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A result of `source` with `giants` sums of `babies` products each.
    fn out(source: usize, giants: i64, babies: i64) -> Vec<Product> {
        let places = (0..giants).flat_map(|g| (0..babies).map(move |b| (g, b)));
        let product = |(giant, baby)| Product {
            giant: 64 * giant,
            source,
            baby,
            compact: true,
        };
        places.map(product).collect()
    }

    #[test]
    fn parts_whose_sums_are_rotated_alike_share_the_rotations() {
        let parts = parts_of(&[out(0, 9, 1), out(1, 9, 1), out(2, 4, 1)]);
        assert_eq!(parts.len(), 2);
        let [first, second] = [&parts[0], &parts[1]];
        assert_eq!(
            (&first.outs[..], first.folding),
            (&[0, 1][..], Folding::Results)
        );
        assert_eq!(first.sources, [0, 1]);
        // 18 products, eight rotations of sums but the first, one sum and one conjugation.
        assert_eq!(first.work.linear, [0.0, 0.0, 18.0, 0.0, 8.0, 1.0]);
        assert_eq!(first.work.conjugations, 1.0);
        assert_eq!(
            (&second.outs[..], second.folding),
            (&[2][..], Folding::None)
        );
    }

    #[test]
    fn parts_without_rotated_sums_stay_apart() {
        let parts = parts_of(&[out(0, 1, 9), out(1, 1, 9)]);
        let foldings: Vec<Folding> = parts.iter().map(|p| p.folding).collect();
        assert_eq!(foldings, [Folding::None, Folding::None]);
    }

    #[test]
    fn results_that_read_the_same_are_counted_like_any_other() {
        let alike = parts_of(&[out(0, 2, 4), out(0, 2, 4), out(0, 2, 5)]);
        let other = parts_of(&[out(0, 2, 4), out(0, 2, 5), out(0, 2, 4)]);
        assert_eq!(alike.len(), 1);
        assert_eq!(alike[0].work.linear[3], 4.0);
        assert_eq!(other[0].work.linear[3], 4.0);
    }
}
