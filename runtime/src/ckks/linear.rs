//! Linear maps on slots by diagonals: baby-step giant-step with double hoisting (eprint 2014/106, 2018/244, 2020/1203).
//!
//! Each source is decomposed once for all its babies; rotated sources stay in QP, are multiplied there by plaintexts that hold the special
//! limbs too, and are summed per giant step ([`super::linear_sums`]). A giant step divides only the half it must switch; the other half and
//! the switched pair stay in QP until all giants are summed. One division then removes P and rescales.

use super::linear_sums::{Made, PassBytes};
use super::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, RotationStep};
use crate::backend::{Backend, Rotation, Turned};
use crate::rlwe::{KeyKind, RowLimbs};
use heron_schedule::params::Level;
use rayon::prelude::*;
use std::cell::Cell;
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

    /// [`DiagonalSource::diagonal`] of several.
    ///
    /// # Errors
    /// Those of [`DiagonalSource::diagonal`].
    fn diagonals(
        &self,
        indices: &[usize],
        level: Level,
        basis: Basis,
    ) -> Result<Vec<Arc<Plaintext<P>>>, CkksError>
    where
        P: Send + Sync,
    {
        let each = indices.par_iter();
        each.map(|&index| self.diagonal(index, level, basis))
            .collect()
    }

    /// Words per limb that [`DiagonalSource::diagonal`] takes anew for this plaintext: none where it is kept, fewer than N where it is
    /// compressed. What is not known is taken for N.
    fn words(&self, index: usize) -> Option<usize> {
        let _ = index;
        None
    }
}

/// Where the time of a linear map went, in seconds of wall time. The rest are the products, with what makes rotated sources limb by limb in
/// between, and the last division.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinearTimes {
    /// Decomposing sources, rotating them where they are held, and rotating the sums of giant steps.
    pub rotation: f64,
    /// Plaintexts, from [`DiagonalSource`].
    pub encoding: f64,
}

/// [`LinearTimes`] so far.
#[derive(Default)]
pub(super) struct Watch {
    /// Whether to wait for the backend at the end of each part.
    waits: bool,
    rotation: Cell<f64>,
    encoding: Cell<f64>,
}

impl Watch {
    /// Books what `work` takes as rotation.
    pub fn rotating<B: Backend, T>(&self, backend: &B, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let made = work();
        if self.waits {
            backend.wait();
        }
        self.rotation
            .set(self.rotation.get() + started.elapsed().as_secs_f64());
        made
    }

    /// Books what `work` takes as encoding.
    pub fn encoding<T>(&self, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let made = work();
        self.encoding
            .set(self.encoding.get() + started.elapsed().as_secs_f64());
        made
    }
}

/// What an output is so far: P times it in QP, and what is not divided by P on the row's limbs.
struct Total<P> {
    extended: Option<(P, P)>,
    row: Option<(P, P)>,
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
        self.linear_within(
            sources,
            outputs,
            diagonals,
            self.backend.pass_bytes(),
            &Watch::default(),
        )
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
        times: Option<&mut LinearTimes>,
    ) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
        let watch = Watch {
            waits: times.is_some(),
            ..Watch::default()
        };
        let most = self.backend.pass_bytes();
        let results = self.linear_within(sources, outputs, diagonals, most, &watch)?;
        if let Some(times) = times {
            times.rotation += watch.rotation.get();
            times.encoding += watch.encoding.get();
        }
        Ok(results)
    }

    /// [`Evaluator::linear`] in passes of so many bytes.
    pub(super) fn linear_within(
        &self,
        sources: &[&Ciphertext<B::Poly>],
        outputs: &[LinearOutput],
        diagonals: &dyn DiagonalSource<B::Poly>,
        most: PassBytes,
        watch: &Watch,
    ) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
        let op = "linear";
        let Some(first) = sources.first() else {
            return Err(shape("number of sources", 1, 0));
        };
        for source in sources {
            super::evaluator::same_level(op, first.level, source.level)?;
            super::evaluator::same_scale(op, first.scale, source.scale)?;
        }
        let terms = || outputs.iter().flat_map(|o| &o.giants);
        if let Some(term) = terms()
            .flat_map(|g| &g.terms)
            .find(|t| t.source >= sources.len())
        {
            return Err(shape("source of a term", sources.len(), term.source));
        }
        if terms().all(|g| g.terms.is_empty()) {
            return Err(shape("number of terms", 1, 0));
        }
        let row = self.row(first.level)?;
        let mut totals: Vec<Total<B::Poly>> = outputs
            .iter()
            .map(|_| Total {
                extended: None,
                row: None,
            })
            .collect();
        let mut take =
            |made| watch.rotating(&self.backend, || self.add_giants(&mut totals, made, row));
        let limits = (row, most, watch);
        let scale = self.linear_sums(sources, outputs, diagonals, limits, &mut take)?;
        let product = first
            .scale
            .times(scale)
            .ok_or(CkksError::ScaleRange { op })?;
        let (level, scale) = self.rescaled(op, first.level, product)?;
        let polys = self.totals_divided(totals, row, level)?;
        let with = |polys| Ciphertext {
            polys,
            level,
            scale,
        };
        Ok(polys.into_iter().map(with).collect())
    }

    pub(super) fn is_identity(&self, step: RotationStep) -> bool {
        self.rotation_element(step).value() == 1
    }

    /// P · poly in QP: nothing to convert, its residues modulo P are 0.
    pub(super) fn lifted(&self, poly: &B::Poly, row: &RowLimbs) -> B::Poly {
        let mut lifted = self
            .backend
            .zero(&row.extended, crate::ring::Form::Evaluation);
        self.backend
            .add_scaled(&mut lifted, poly, &row.special_product);
        lifted
    }

    /// Switches and permutes the sums of giant steps and adds each to its output.
    fn add_giants(
        &self,
        totals: &mut [Total<B::Poly>],
        mut made: Vec<Made<'_, B::Poly>>,
        row: &RowLimbs,
    ) -> Result<(), CkksError> {
        // Those that share a key side by side.
        made.sort_by_key(|(_, giant, _)| giant.step);
        let mut moving = Vec::new();
        for (output, giant, sum) in made {
            let Some(pair) = sum.polys else {
                continue;
            };
            let element = self.rotation_element(giant.step);
            if element.value() != 1 {
                let key = self.keys.get(KeyKind::Galois(element))?;
                moving.push((output, Rotation { element, key }, sum.basis, pair));
                continue;
            }
            let to = match sum.basis {
                Basis::Row => &mut totals[output].row,
                Basis::Extended => &mut totals[output].extended,
            };
            add_pair(&self.backend, to, pair);
        }
        let mut moving = moving.into_iter();
        loop {
            // What has been added makes room for what comes next.
            let together = self.backend.together().max(1);
            let some: Vec<_> = moving.by_ref().take(together).collect();
            if some.is_empty() {
                return Ok(());
            }
            let extended = some
                .iter()
                .filter(|(_, _, basis, _)| *basis == Basis::Extended);
            let extended: Vec<&B::Poly> = extended.map(|(_, _, _, (_, high))| high).collect();
            let divided = self
                .backend
                .divide_and_round_each(&extended, &row.limbs, None)?;
            let mut divided = divided.into_iter();
            let mut ready = Vec::with_capacity(some.len());
            for (output, rotation, basis, (low, high)) in some {
                ready.push(match basis {
                    Basis::Row => (output, rotation, self.lifted(&low, row), high),
                    Basis::Extended => (output, rotation, low, divided.next().unwrap_or(high)),
                });
            }
            self.add_turned(totals, &ready, row)?;
        }
    }

    /// Adds pairs to their outputs, each by its rotation.
    fn add_turned(
        &self,
        totals: &mut [Total<B::Poly>],
        ready: &[(usize, Rotation<'_>, B::Poly, B::Poly)],
        row: &RowLimbs,
    ) -> Result<(), CkksError> {
        let mut outputs: Vec<usize> = ready.iter().map(|(output, ..)| *output).collect();
        outputs.sort_unstable();
        outputs.dedup();
        let form = crate::ring::Form::Evaluation;
        let zero = || self.backend.zero(&row.extended, form);
        let taken = outputs.iter().map(|&o| totals[o].extended.take());
        let mut sums: Vec<_> = taken
            .map(|sum| sum.unwrap_or_else(|| (zero(), zero())))
            .collect();
        let turned = ready.iter().map(|(output, rotation, low, high)| Turned {
            pair: (low, high),
            rotation: *rotation,
            // Every output is among them.
            sum: outputs.binary_search(output).unwrap_or(0),
        });
        let turned: Vec<_> = turned.collect();
        self.backend.switch_and_add_each(&turned, row, &mut sums)?;
        for (output, sum) in outputs.into_iter().zip(sums) {
            totals[output].extended = Some(sum);
        }
        Ok(())
    }

    /// The two polynomials of each output, divided once.
    fn totals_divided(
        &self,
        totals: Vec<Total<B::Poly>>,
        row: &RowLimbs,
        level: Level,
    ) -> Result<Vec<Vec<B::Poly>>, CkksError> {
        let target = &self.row(level)?.limbs;
        let mut results = Vec::with_capacity(totals.len());
        let mut totals = totals.into_iter();
        loop {
            // Both halves are divided at once in any case.
            let together = self.backend.together().div_ceil(2).max(1);
            let mut polys = Vec::with_capacity(2 * together);
            for total in totals.by_ref().take(together) {
                let (low, high) = self.total(total, row)?;
                polys.extend([low, high]);
            }
            if polys.is_empty() {
                return Ok(results);
            }
            // Those on the row's limbs alone are not like those on QP.
            for alike in polys.chunk_by(|a, b| self.backend.limbs(a) == self.backend.limbs(b)) {
                let alike: Vec<&B::Poly> = alike.iter().collect();
                let divided = self.backend.divide_and_round_each(&alike, target, None)?;
                let mut divided = divided.into_iter();
                while let (Some(low), Some(high)) = (divided.next(), divided.next()) {
                    results.push(vec![low, high]);
                }
            }
        }
    }

    /// What an output is in all.
    fn total(
        &self,
        total: Total<B::Poly>,
        row: &RowLimbs,
    ) -> Result<(B::Poly, B::Poly), CkksError> {
        match (total.extended, total.row) {
            (Some((mut low, mut high)), Some((l, h))) => {
                self.backend.add_scaled(&mut low, &l, &row.special_product);
                self.backend.add_scaled(&mut high, &h, &row.special_product);
                Ok((low, high))
            }
            (Some(pair), None) | (None, Some(pair)) => Ok(pair),
            (None, None) => Err(shape("number of terms of an output", 1, 0)),
        }
    }
}

pub(super) fn add_pair<B: Backend>(
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

pub(super) fn shape(what: &'static str, expected: usize, found: usize) -> CkksError {
    CkksError::Shape {
        op: "linear",
        what,
        expected,
        found,
    }
}
