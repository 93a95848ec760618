//! Linear maps on slots by diagonals: baby-step giant-step with double hoisting (eprint 2014/106, 2018/244, 2020/1203).
//!
//! Each source is decomposed once for all its babies; rotated sources stay in QP, are multiplied there by plaintexts that hold the special
//! limbs too, and are summed per giant step. A giant step divides only the half it must switch; the other half and the switched pair stay
//! in QP until all giants are summed. One division then removes P and rescales.

use super::multiply::two;
use super::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, RotationStep};
use crate::backend::{Backend, Rotation};
use crate::rlwe::{KeyKind, RowLimbs};
use heron_schedule::params::{Level, Scale};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// plaintext · rot_baby(source).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearTerm {
    /// Index into the sources.
    pub source: usize,
    /// Rotation of the source before the product.
    pub baby: RotationStep,
    /// Number of the diagonal, for [`DiagonalSource`].
    pub diagonal: usize,
}

/// rot_step(Σ terms).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiantStep {
    /// Rotation of the sum.
    pub step: RotationStep,
    /// What is summed.
    pub terms: Vec<LinearTerm>,
}

/// One result: the sum of its giant steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinearOutput {
    /// The giant steps, each rotation at most once.
    pub giants: Vec<GiantStep>,
}

/// Where the plaintexts of a linear map come from: encoded when asked for, or kept.
pub trait DiagonalSource<P>: Sync {
    /// The plaintext numbered `index` for sources at `level`, on `basis`, compressed or whole. All plaintexts of one map have one scale.
    ///
    /// # Errors
    /// No such diagonal, or one that cannot be encoded.
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext<P>>, CkksError>;
}

/// Products summed at a time: bounds the plaintexts alive together.
pub const TERMS_AT_ONCE: usize = 16;

/// Rotations of one source, times P, in QP.
type Rotated<P> = BTreeMap<RotationStep, (P, P)>;

/// A giant step's sum so far, in QP, or on the row's limbs alone when no term of it is rotated.
struct Sum<P> {
    basis: Basis,
    polys: Option<(P, P)>,
}

/// Where the time of a linear map went, in seconds of wall time; what is left of the whole are the products and the last division.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinearTimes {
    /// Rotations of sources and of giant steps' sums.
    pub rotation: f64,
    /// Plaintexts, from [`DiagonalSource`].
    pub encoding: f64,
}

impl<B: Backend> Evaluator<B> {
    /// For each output Σ_giants rot_step(Σ_terms plaintext · rot_baby(source)), rescaled: sources at one level and scale, results one below
    /// at scale · plaintext scale · Q(level - 1)/Q(level).
    ///
    /// # Errors
    /// Sources at different levels or scales, an output without terms, missing keys, level 0, or what `diagonals` refuses.
    pub fn linear(
        &self,
        sources: &[&Ciphertext<B::Poly>],
        outputs: &[LinearOutput],
        diagonals: &dyn DiagonalSource<B::Poly>,
    ) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
        self.linear_timed(sources, outputs, diagonals, None)
    }

    /// [`Evaluator::linear`], which also adds to `times`, if given, where the time went; it then waits for the backend after each part.
    ///
    /// # Errors
    /// Those of [`Evaluator::linear`].
    pub fn linear_timed(
        &self,
        sources: &[&Ciphertext<B::Poly>],
        outputs: &[LinearOutput],
        diagonals: &dyn DiagonalSource<B::Poly>,
        mut times: Option<&mut LinearTimes>,
    ) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
        let op = "linear";
        let Some(first) = sources.first() else {
            return Err(shape("number of sources", 1, 0));
        };
        for source in sources {
            super::evaluator::same_level(op, first.level, source.level)?;
            super::evaluator::same_scale(op, first.scale, source.scale)?;
        }
        let row = self.row(first.level)?;
        let mut sums: Vec<Vec<Sum<B::Poly>>> = outputs
            .iter()
            .map(|output| output.giants.iter().map(|g| self.empty_sum(g)).collect())
            .collect();
        let mut scale: Option<Scale> = None;
        for (index, source) in sources.iter().enumerate() {
            let started = Instant::now();
            let rotated = self.rotated_in_qp(source, self.babies_of(index, outputs, &sums), row)?;
            self.rotated(started, &mut times);
            for (output, sums) in outputs.iter().zip(&mut sums) {
                for (giant, sum) in output.giants.iter().zip(sums) {
                    let terms: Vec<LinearTerm> = giant
                        .terms
                        .iter()
                        .filter(|t| t.source == index)
                        .copied()
                        .collect();
                    for terms in terms.chunks(TERMS_AT_ONCE) {
                        let plaintexts = encoded(source, terms, diagonals, sum.basis, &mut times)?;
                        self.accumulate(
                            source,
                            &rotated,
                            terms,
                            &plaintexts,
                            row,
                            sum,
                            &mut scale,
                        )?;
                    }
                }
            }
        }
        if let Some(term) = all_terms(outputs).find(|t| t.source >= sources.len()) {
            return Err(shape("source of a term", sources.len(), term.source));
        }
        let scale = scale.ok_or_else(|| shape("number of terms", 1, 0))?;
        let product = first
            .scale
            .times(scale)
            .ok_or(CkksError::ScaleRange { op })?;
        let (level, scale) = self.rescaled(op, first.level, product)?;
        outputs
            .iter()
            .zip(sums)
            .map(|(output, sums)| {
                let started = Instant::now();
                let total = self.sum_giants(output, sums, row)?;
                self.rotated(started, &mut times);
                let polys = self.lowered(total, level)?;
                Ok(Ciphertext {
                    polys,
                    level,
                    scale,
                })
            })
            .collect()
    }

    /// Books the time since `started` as rotation.
    fn rotated(&self, started: Instant, times: &mut Option<&mut LinearTimes>) {
        if let Some(times) = times {
            self.backend.wait();
            times.rotation += started.elapsed().as_secs_f64();
        }
    }

    fn is_identity(&self, step: RotationStep) -> bool {
        self.rotation_element(step).value() == 1
    }

    fn empty_sum(&self, giant: &GiantStep) -> Sum<B::Poly> {
        let unrotated = giant.terms.iter().all(|t| self.is_identity(t.baby));
        Sum {
            basis: if unrotated {
                Basis::Row
            } else {
                Basis::Extended
            },
            polys: None,
        }
    }

    /// The rotations of a source that are needed in QP.
    fn babies_of(
        &self,
        source: usize,
        outputs: &[LinearOutput],
        sums: &[Vec<Sum<B::Poly>>],
    ) -> Vec<RotationStep> {
        let mut babies: Vec<RotationStep> = outputs
            .iter()
            .zip(sums)
            .flat_map(|(output, sums)| output.giants.iter().zip(sums))
            .filter(|(_, sum)| sum.basis == Basis::Extended)
            .flat_map(|(giant, _)| &giant.terms)
            .filter(|t| t.source == source)
            .map(|t| t.baby)
            .collect();
        babies.sort_unstable();
        babies.dedup();
        babies
    }

    /// P · rot(source) in QP, for each of the steps.
    fn rotated_in_qp(
        &self,
        source: &Ciphertext<B::Poly>,
        steps: Vec<RotationStep>,
        row: &RowLimbs,
    ) -> Result<Rotated<B::Poly>, CkksError> {
        let (c0, c1) = two("linear", source)?;
        let digits = match steps.iter().any(|&s| !self.is_identity(s)) {
            true => Some(self.backend.decompose(c1, row)?),
            false => None,
        };
        let mut rotated = BTreeMap::new();
        if let Some(digits) = &digits {
            let moving: Vec<RotationStep> = steps
                .iter()
                .copied()
                .filter(|&s| !self.is_identity(s))
                .collect();
            let rotations = moving
                .iter()
                .map(|&step| {
                    let element = self.rotation_element(step);
                    let key = self.keys.get(KeyKind::Galois(element))?;
                    Ok(Rotation { element, key })
                })
                .collect::<Result<Vec<_>, CkksError>>()?;
            let products = self.backend.rotated_products(digits, c0, &rotations, row)?;
            rotated.extend(moving.into_iter().zip(products));
        }
        for step in steps.into_iter().filter(|&s| self.is_identity(s)) {
            rotated.insert(step, (self.lifted(c0, row), self.lifted(c1, row)));
        }
        Ok(rotated)
    }

    /// P · poly in QP: nothing to convert, its residues modulo P are 0.
    fn lifted(&self, poly: &B::Poly, row: &RowLimbs) -> B::Poly {
        let mut lifted = self
            .backend
            .zero(&row.extended, crate::ring::Form::Evaluation);
        self.backend
            .add_scaled(&mut lifted, poly, &row.special_product);
        lifted
    }

    fn accumulate(
        &self,
        source: &Ciphertext<B::Poly>,
        rotated: &Rotated<B::Poly>,
        terms: &[LinearTerm],
        plaintexts: &[Arc<Plaintext<B::Poly>>],
        row: &RowLimbs,
        sum: &mut Sum<B::Poly>,
        scale: &mut Option<Scale>,
    ) -> Result<(), CkksError> {
        let op = "linear";
        let limbs = match sum.basis {
            Basis::Row => &row.limbs,
            Basis::Extended => &row.extended,
        };
        let mut triples = Vec::with_capacity(terms.len());
        for (term, plaintext) in terms.iter().zip(plaintexts) {
            super::evaluator::same_level(op, source.level, plaintext.level)?;
            super::evaluator::same_scale(
                op,
                *scale.get_or_insert(plaintext.scale),
                plaintext.scale,
            )?;
            let (r0, r1) = match (sum.basis, rotated.get(&term.baby)) {
                (Basis::Extended, Some((r0, r1))) => (r0, r1),
                _ => two(op, source)?,
            };
            triples.push((&plaintext.poly, r0, r1));
        }
        let pair = self.backend.inner_product_pair(&triples, limbs);
        add_pair(&self.backend, &mut sum.polys, pair);
        Ok(())
    }

    /// Switches and permutes each giant step's sum, adds all, in QP if any is there.
    fn sum_giants(
        &self,
        output: &LinearOutput,
        sums: Vec<Sum<B::Poly>>,
        row: &RowLimbs,
    ) -> Result<(B::Poly, B::Poly), CkksError> {
        let (mut total, mut total_row) = (None, None);
        for (giant, sum) in output.giants.iter().zip(sums) {
            let Some((low, high)) = sum.polys else {
                continue;
            };
            let g = self.rotation_element(giant.step);
            if g.value() == 1 {
                let to = match sum.basis {
                    Basis::Row => &mut total_row,
                    Basis::Extended => &mut total,
                };
                add_pair(&self.backend, to, (low, high));
                continue;
            }
            let key = self.keys.get(KeyKind::Galois(g))?;
            let (low, high) = match sum.basis {
                Basis::Row => (self.lifted(&low, row), high),
                Basis::Extended => (low, self.backend.divide_and_round(&high, &row.limbs, None)?),
            };
            let zero = || {
                self.backend
                    .zero(&row.extended, crate::ring::Form::Evaluation)
            };
            let total = total.get_or_insert_with(|| (zero(), zero()));
            let rotation = Rotation { element: g, key };
            self.backend
                .switch_and_add((&low, &high), rotation, row, total)?;
        }
        match (total, total_row) {
            (Some((mut low, mut high)), Some((l, h))) => {
                self.backend.add_scaled(&mut low, &l, &row.special_product);
                self.backend.add_scaled(&mut high, &h, &row.special_product);
                Ok((low, high))
            }
            (Some(pair), None) | (None, Some(pair)) => Ok(pair),
            (None, None) => Err(shape("number of terms of an output", 1, 0)),
        }
    }

    /// Removes P, where it is there, and rescales.
    fn lowered(
        &self,
        (low, high): (B::Poly, B::Poly),
        level: Level,
    ) -> Result<Vec<B::Poly>, CkksError> {
        let target = &self.row(level)?.limbs;
        let (low, high) = self
            .backend
            .divide_and_round_pair((&low, &high), target, None)?;
        Ok(vec![low, high])
    }
}

/// The plaintexts of some terms.
fn encoded<P: Send + Sync>(
    source: &Ciphertext<P>,
    terms: &[LinearTerm],
    diagonals: &dyn DiagonalSource<P>,
    basis: Basis,
    times: &mut Option<&mut LinearTimes>,
) -> Result<Vec<Arc<Plaintext<P>>>, CkksError> {
    let started = Instant::now();
    let level = source.level;
    let plaintexts = terms
        .par_iter()
        .map(|t| diagonals.diagonal(t.diagonal, level, basis))
        .collect();
    if let Some(times) = times {
        times.encoding += started.elapsed().as_secs_f64();
    }
    plaintexts
}

fn add_pair<B: Backend>(
    backend: &B,
    to: &mut Option<(B::Poly, B::Poly)>,
    pair: (B::Poly, B::Poly),
) {
    match to {
        Some((low, high)) => {
            backend.add_assign(low, &pair.0);
            backend.add_assign(high, &pair.1);
        }
        None => *to = Some(pair),
    }
}

fn all_terms(outputs: &[LinearOutput]) -> impl Iterator<Item = &LinearTerm> {
    outputs
        .iter()
        .flat_map(|o| &o.giants)
        .flat_map(|g| &g.terms)
}

fn shape(what: &'static str, expected: usize, found: usize) -> CkksError {
    CkksError::Shape {
        op: "linear",
        what,
        expected,
        found,
    }
}
