//! Linear steps on pairs of real ciphertexts held as one complex one: what is multiplied by what.
//!
//! Sources folded: s_2k + i·s_2k+1 is one operand, and the products p·s_2k and p'·s_2k+1 of one rotation and one sum are the real part of
//! one product with p - i·p'. Results folded: results 2k and 2k+1 are real and imaginary part of one sum of products with p + i·p'.
//! Either way plaintexts are halved, so that adding the conjugate gives the real part.    Source: design notes, 3.1.

use crate::body::{all_giants, giants};
use crate::keys::normal_step;
use crate::proto::{linear::Folding, Body, Linear};
use std::collections::{BTreeMap, BTreeSet};

/// (source, rotation) × (real + i·imaginary); without either vector that part is 0. In a folded step the source is a pair's number
/// where sources are folded, and the vectors are multiplied by [`factors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Number of the source, or of the pair of sources.
    pub source: u32,
    /// Its rotation, normalised.
    pub baby: i32,
    /// Number of a plaintext.
    pub real: Option<u32>,
    /// Number of a plaintext.
    pub imaginary: Option<u32>,
}

/// One sum: products by giant steps (normalised).
pub type Sum = Vec<(i32, Vec<Product>)>;

/// The folding of a linear step; none for values this version does not know, which [`crate::verify`] refuses.
pub fn folding(op: &Linear) -> Folding {
    Folding::try_from(op.folding).unwrap_or(Folding::None)
}

/// What real and imaginary vectors are multiplied by.
pub fn factors(folding: Folding) -> (f64, f64) {
    match folding {
        Folding::None => (1.0, 0.0),
        Folding::Sources => (0.5, -0.5),
        Folding::Results => (0.5, 0.5),
    }
}

/// Sums that a linear step makes: one per result, or per pair of results where these are folded.
pub fn sums(bodies: &[Body], op: &Linear, slots: usize) -> Vec<Sum> {
    let folding = folding(op);
    let together = match folding {
        Folding::Results => 2,
        Folding::None | Folding::Sources => 1,
    };
    let sum = |outs: &[crate::proto::LinearOut]| -> Sum {
        let mut found: Vec<(i32, Vec<Product>)> = Vec::new();
        // (number of the giant step, source, rotation) → products there.
        let mut places: BTreeMap<(usize, u32, i32), Vec<usize>> = BTreeMap::new();
        for (second, out) in outs.iter().enumerate() {
            for giant in giants(bodies, out) {
                let step = normal_step(giant.step, slots);
                let known = found.iter().position(|(s, _)| *s == step);
                let at = known.filter(|_| folding != Folding::None);
                let at = at.unwrap_or_else(|| {
                    found.push((step, Vec::new()));
                    found.len() - 1
                });
                for term in &giant.term {
                    let baby = normal_step(term.baby, slots);
                    let (source, is_imaginary) = match folding {
                        Folding::None => (term.src, false),
                        Folding::Sources => (term.src / 2, term.src % 2 == 1),
                        Folding::Results => (term.src, second == 1),
                    };
                    let products = &mut found[at].1;
                    let same = places.entry((at, source, baby)).or_default();
                    let free = same.iter().copied().find(|p| {
                        let product = &products[*p];
                        folding != Folding::None
                            && match is_imaginary {
                                true => product.imaginary.is_none(),
                                false => product.real.is_none(),
                            }
                    });
                    let place = free.unwrap_or_else(|| {
                        same.push(products.len());
                        products.push(Product {
                            source,
                            baby,
                            real: None,
                            imaginary: None,
                        });
                        products.len() - 1
                    });
                    match is_imaginary {
                        true => products[place].imaginary = Some(term.plaintext),
                        false => products[place].real = Some(term.plaintext),
                    }
                }
            }
        }
        found
    };
    op.out.chunks(together).map(sum).collect()
}

/// Conjugations of a linear step, one level below its sources: of each sum, but of a last result that has no partner.
pub fn conjugations(op: &Linear) -> usize {
    match folding(op) {
        Folding::None => 0,
        Folding::Sources => op.out.len(),
        Folding::Results => op.out.len() / 2,
    }
}

/// Distinct rotations of the (folded) sources of a linear step, as (source, normalised step), the step 0 left out.
pub fn baby_rotations(bodies: &[Body], op: &Linear, slots: usize) -> BTreeSet<(u32, i32)> {
    let halved = match folding(op) {
        Folding::Sources => 2,
        Folding::None | Folding::Results => 1,
    };
    term_rotations(bodies, op, slots)
        .into_iter()
        .map(|(source, step)| (source / halved, step))
        .collect()
}

/// Distinct rotations that the terms name, as (source, normalised step), the step 0 left out.
pub fn term_rotations(bodies: &[Body], op: &Linear, slots: usize) -> BTreeSet<(u32, i32)> {
    all_giants(bodies, op)
        .flat_map(|giant| &giant.term)
        .map(|term| (term.src, normal_step(term.baby, slots)))
        .filter(|(_, step)| *step != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Giant, LinearOut, Term};

    /// Two results of three sources, each one giant step with products at rotations 0 and 1.
    fn step(folding: Folding) -> (Vec<Body>, Linear) {
        let term = |src, baby, plaintext| Term {
            src,
            baby,
            plaintext,
        };
        let body = |first| Body {
            giant: vec![Giant {
                step: 4,
                term: (0..6)
                    .map(|i| term(i / 2, i as i32 % 2, first + i))
                    .collect(),
            }],
        };
        let out = |dst, body| LinearOut {
            dst,
            body,
            ..LinearOut::default()
        };
        let op = Linear {
            src: vec![0, 1, 2],
            level_in: 3,
            out: vec![out(3, 0), out(4, 1)],
            folding: folding.into(),
        };
        (vec![body(0), body(6)], op)
    }

    fn products((bodies, op): &(Vec<Body>, Linear)) -> usize {
        let all = sums(bodies, op, 64);
        all.iter().flatten().map(|(_, p)| p.len()).sum()
    }

    #[test]
    fn folded_steps_make_fewer_products() {
        let [plain, sources, results] =
            [Folding::None, Folding::Sources, Folding::Results].map(step);
        assert_eq!([&plain, &sources, &results].map(products), [12, 8, 6]);
        let all = [&plain, &sources, &results];
        assert_eq!(all.map(|(_, op)| conjugations(op)), [0, 2, 1]);
        assert_eq!(baby_rotations(&plain.0, &plain.1, 64).len(), 3);
        assert_eq!(baby_rotations(&sources.0, &sources.1, 64).len(), 2);
        assert_eq!(sums(&results.0, &results.1, 64).len(), 1);
    }

    #[test]
    fn a_source_without_a_partner_is_real_alone() {
        let (bodies, op) = step(Folding::Sources);
        let sums = sums(&bodies, &op, 64);
        let last = sums[0][0].1.last().copied();
        let expected = Product {
            source: 1,
            baby: 1,
            real: Some(5),
            imaginary: None,
        };
        assert_eq!(last, Some(expected));
    }
}
