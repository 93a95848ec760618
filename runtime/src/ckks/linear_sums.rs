//! The sums of a linear map's giant steps, before they are rotated.
//!
//! Two ways, with the same residues. Plaintexts that take little memory are made for many giant steps at once, and rotated sources exist for
//! one limb only ([`Backend::rotated_sums`]): every rotated source is read once for all those sums. Plaintexts that take much memory are
//! made some at a time; then rotated sources are made once and stay in QP.

use super::linear::{add_pair, shape, DiagonalSource, GiantStep, LinearOutput, LinearTerm, Watch};
use super::multiply::two;
use super::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, RotationStep};
pub use crate::backend::PassBytes;
use crate::backend::{Backend, Decomposition, LinearProduct, LinearSource, Rotation};
use crate::rlwe::{KeyKind, RowLimbs};
use heron_schedule::params::Scale;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plaintexts of at most this share of a ring's words are worth a pass of their own over the rotated sources.
const COMPACT: usize = 16;

/// What the products of a giant step take.
#[derive(Clone, Copy, Debug)]
pub struct GiantSize {
    /// Products.
    pub terms: usize,
    /// Words per limb of their plaintexts, those that are kept anyway not counted.
    pub words: usize,
}

/// The passes over the rotated sources that make the sums of some giant steps on `limbs` limbs of `n` words: the end of each among the
/// giant steps. None where rotated sources are held instead, because the plaintexts are large and do not fit one pass.
pub fn passes(giants: &[GiantSize], n: usize, limbs: usize, most: PassBytes) -> Option<Vec<usize>> {
    let limb_bytes = 4 * limbs;
    let words: usize = giants.iter().map(|g| g.words).sum();
    let terms: usize = giants.iter().map(|g| g.terms).sum();
    let large = words.saturating_mul(limb_bytes) > most.plaintexts && words > terms * (n / COMPACT);
    if most.holds && large {
        return None;
    }
    let mut ends = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (i, giant) in giants.iter().enumerate() {
        let own = giant.words * limb_bytes;
        let sums = (i + 1 - first) * 2 * limb_bytes * n;
        if i > first && (sums > most.sums || bytes + own > most.plaintexts) {
            ends.push(i);
            (first, bytes) = (i, 0);
        }
        bytes += own;
    }
    ends.push(giants.len());
    Some(ends)
}

/// A giant step's sum, in QP, or on the row's limbs alone when no term of it is rotated.
pub(super) struct Sum<P> {
    pub basis: Basis,
    pub polys: Option<(P, P)>,
}

/// A finished sum: number of its output, giant step, sum.
pub(super) type Made<'a, P> = (usize, &'a GiantStep, Sum<P>);

/// What takes finished sums.
type Take<'t, 'a, P> = dyn FnMut(Vec<Made<'a, P>>) -> Result<(), CkksError> + 't;

/// Rotations of one source, times P, in QP.
type Rotated<P> = BTreeMap<RotationStep, (P, P)>;

/// A giant step and where it belongs.
#[derive(Clone, Copy)]
struct Place<'a> {
    output: usize,
    giant: &'a GiantStep,
}

/// What the sums of one map are made of.
struct Map<'a, P> {
    sources: &'a [&'a Ciphertext<P>],
    diagonals: &'a dyn DiagonalSource<P>,
    row: &'a RowLimbs,
    most: PassBytes,
    watch: &'a Watch,
}

impl<P> Map<'_, P> {
    /// Words per limb of the plaintexts of a giant step.
    fn words(&self, giant: &GiantStep, n: usize) -> usize {
        let of = |t: &LinearTerm| self.diagonals.words(t.diagonal).map_or(n, |w| w.min(n));
        giant.terms.iter().map(of).sum()
    }
}

impl<B: Backend> Evaluator<B> {
    /// Makes the sums of all giant steps and gives each to `take`; returns the scale of the plaintexts.
    pub(super) fn linear_sums<'a>(
        &self,
        sources: &[&Ciphertext<B::Poly>],
        outputs: &'a [LinearOutput],
        diagonals: &dyn DiagonalSource<B::Poly>,
        (row, most, watch): (&RowLimbs, PassBytes, &Watch),
        take: &mut Take<'_, 'a, B::Poly>,
    ) -> Result<Scale, CkksError> {
        let map = Map {
            sources,
            diagonals,
            row,
            most,
            watch,
        };
        let places: Vec<Place<'_>> = outputs
            .iter()
            .enumerate()
            .flat_map(|(output, o)| o.giants.iter().map(move |giant| Place { output, giant }))
            .collect();
        let n = self.backend.ring().degree();
        let (moving, still): (Vec<Place<'_>>, Vec<_>) =
            places.into_iter().partition(|p| self.moves(p.giant));
        let mut scale = None;
        let mut made = Vec::new();
        for place in still {
            let mut sum = None;
            for terms in place.giant.terms.chunks(most.terms) {
                let plaintexts = self.plaintexts(&map, terms, Basis::Row, &mut scale)?;
                let mut triples = Vec::with_capacity(terms.len());
                for (term, plaintext) in terms.iter().zip(&plaintexts) {
                    let (c0, c1) = two("linear", sources[term.source])?;
                    triples.push((&plaintext.poly, c0, c1));
                }
                let pair = self.backend.inner_product_pair(&triples, &row.limbs);
                add_pair(&self.backend, &mut sum, pair);
            }
            let sum = Sum {
                basis: Basis::Row,
                polys: sum,
            };
            made.push((place.output, place.giant, sum));
            if made.len() >= self.backend.together() {
                take(std::mem::take(&mut made))?;
            }
        }
        take(made)?;
        let sizes: Vec<GiantSize> = moving
            .iter()
            .map(|p| GiantSize {
                terms: p.giant.terms.len(),
                words: map.words(p.giant, n),
            })
            .collect();
        match passes(&sizes, n, row.extended.len(), map.most) {
            Some(ends) => self.sums_in_passes(&map, &moving, &ends, &mut scale, take)?,
            None => self.sums_of_held_rotations(&map, &moving, &mut scale, take)?,
        }
        scale.ok_or_else(|| shape("number of terms", 1, 0))
    }

    fn moves(&self, giant: &GiantStep) -> bool {
        giant.terms.iter().any(|t| !self.is_identity(t.baby))
    }

    /// The rotations of a source that are needed in QP, ascending.
    fn babies_of(&self, source: usize, places: &[Place<'_>]) -> Vec<RotationStep> {
        let terms = places.iter().flat_map(|p| &p.giant.terms);
        let mut babies: Vec<RotationStep> = terms
            .filter(|t| t.source == source)
            .map(|t| t.baby)
            .collect();
        babies.sort_unstable();
        babies.dedup();
        babies
    }

    fn rotation(&self, step: RotationStep) -> Result<Rotation<'_>, CkksError> {
        let element = self.rotation_element(step);
        let key = self.keys.get(KeyKind::Galois(element))?;
        Ok(Rotation { element, key })
    }

    fn plaintexts(
        &self,
        map: &Map<'_, B::Poly>,
        terms: &[LinearTerm],
        basis: Basis,
        scale: &mut Option<Scale>,
    ) -> Result<Vec<Arc<Plaintext<B::Poly>>>, CkksError> {
        let op = "linear";
        let level = map.row.level;
        let diagonals = map.diagonals;
        let numbers: Vec<usize> = terms.iter().map(|t| t.diagonal).collect();
        let made = || diagonals.diagonals(&numbers, level, basis);
        let plaintexts = map.watch.encoding(made)?;
        for plaintext in &plaintexts {
            super::evaluator::same_level(op, level, plaintext.level)?;
            let scale = *scale.get_or_insert(plaintext.scale);
            super::evaluator::same_scale(op, scale, plaintext.scale)?;
        }
        Ok(plaintexts)
    }

    /// One pass per end ([`passes`]).
    fn sums_in_passes<'a>(
        &self,
        map: &Map<'_, B::Poly>,
        places: &[Place<'a>],
        ends: &[usize],
        scale: &mut Option<Scale>,
        take: &mut Take<'_, 'a, B::Poly>,
    ) -> Result<(), CkksError> {
        let babies: Vec<Vec<RotationStep>> = (0..map.sources.len())
            .map(|source| self.babies_of(source, places))
            .collect();
        let moves = |steps: &[RotationStep]| steps.iter().any(|&s| !self.is_identity(s));
        let mut halves = Vec::with_capacity(babies.len());
        for source in map.sources {
            halves.push(two("linear", source)?);
        }
        let each = halves.iter().zip(&babies);
        let moving = each.filter(|(_, steps)| moves(steps));
        let moving: Vec<&B::Poly> = moving.map(|(&(_, c1), _)| c1).collect();
        let decompose = || self.backend.decompose_each(&moving, map.row);
        let digits: Vec<Decomposition<'_, B::Poly>> =
            map.watch.rotating(&self.backend, decompose)?;
        let mut digits = digits.into_iter();
        let mut sources = Vec::with_capacity(babies.len());
        for (&pair, steps) in halves.iter().zip(&babies) {
            let rotations = steps.iter().map(|&s| match self.is_identity(s) {
                true => Ok(None),
                false => self.rotation(s).map(Some),
            });
            sources.push(LinearSource {
                pair,
                rotations: rotations.collect::<Result<_, _>>()?,
                digits: moves(steps).then(|| digits.next()).flatten(),
            });
        }
        let mut done = 0;
        for &end in ends {
            let pass = &places[done..end];
            let terms: Vec<LinearTerm> =
                pass.iter().flat_map(|p| &p.giant.terms).copied().collect();
            let plaintexts = self.plaintexts(map, &terms, Basis::Extended, scale)?;
            let mut plaintexts = plaintexts.iter();
            let product = |t: &LinearTerm, plaintext| LinearProduct {
                source: t.source,
                // Every baby of a term is among those of its source.
                rotation: babies[t.source].binary_search(&t.baby).unwrap_or(0),
                plaintext,
            };
            let products: Vec<Vec<LinearProduct<'_, B::Poly>>> = pass
                .iter()
                .map(|p| {
                    let terms = p.giant.terms.iter().zip(&mut plaintexts);
                    terms.map(|(t, p)| product(t, &p.poly)).collect()
                })
                .collect();
            let sums = self.backend.rotated_sums(&sources, &products, map.row)?;
            let made = pass.iter().zip(sums).map(|(place, pair)| {
                let sum = Sum {
                    basis: Basis::Extended,
                    polys: Some(pair),
                };
                (place.output, place.giant, sum)
            });
            take(made.collect())?;
            done = end;
        }
        Ok(())
    }

    /// Source by source, its rotations held in QP.
    fn sums_of_held_rotations<'a>(
        &self,
        map: &Map<'_, B::Poly>,
        places: &[Place<'a>],
        scale: &mut Option<Scale>,
        take: &mut Take<'_, 'a, B::Poly>,
    ) -> Result<(), CkksError> {
        let mut sums: Vec<Option<(B::Poly, B::Poly)>> = places.iter().map(|_| None).collect();
        for (index, source) in map.sources.iter().enumerate() {
            let babies = self.babies_of(index, places);
            let rotate = || self.rotated_in_qp(source, babies, map.row);
            let rotated = map.watch.rotating(&self.backend, rotate)?;
            for (place, sum) in places.iter().zip(&mut sums) {
                let terms = place.giant.terms.iter().filter(|t| t.source == index);
                let terms: Vec<LinearTerm> = terms.copied().collect();
                for terms in terms.chunks(map.most.terms) {
                    let plaintexts = self.plaintexts(map, terms, Basis::Extended, scale)?;
                    let triples: Vec<_> = terms
                        .iter()
                        .zip(&plaintexts)
                        .filter_map(|(term, plaintext)| {
                            let (low, high) = rotated.get(&term.baby)?;
                            Some((&plaintext.poly, low, high))
                        })
                        .collect();
                    let pair = self.backend.inner_product_pair(&triples, &map.row.extended);
                    add_pair(&self.backend, sum, pair);
                }
            }
        }
        let made = places.iter().zip(sums).map(|(place, polys)| {
            let sum = Sum {
                basis: Basis::Extended,
                polys,
            };
            (place.output, place.giant, sum)
        });
        take(made.collect())
    }

    /// P · rot(source) in QP, for each of the steps.
    fn rotated_in_qp(
        &self,
        source: &Ciphertext<B::Poly>,
        steps: Vec<RotationStep>,
        row: &RowLimbs,
    ) -> Result<Rotated<B::Poly>, CkksError> {
        let (c0, c1) = two("linear", source)?;
        let (still, moving): (Vec<RotationStep>, Vec<_>) =
            steps.into_iter().partition(|&s| self.is_identity(s));
        let mut rotated = BTreeMap::new();
        if !moving.is_empty() {
            let digits = self.backend.decompose(c1, row)?;
            let rotations = moving.iter().map(|&s| self.rotation(s));
            let rotations = rotations.collect::<Result<Vec<_>, _>>()?;
            let products = self
                .backend
                .rotated_products(&digits, c0, &rotations, row)?;
            rotated.extend(moving.into_iter().zip(products));
        }
        for step in still {
            rotated.insert(step, (self.lifted(c0, row), self.lifted(c1, row)));
        }
        Ok(rotated)
    }
}
