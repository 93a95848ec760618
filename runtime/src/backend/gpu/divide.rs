//! Basis extensions, and the divisions made of them.

use super::arguments::{ExtensionArgs, Piece, ABSENT, EXTENSION_GROUP, MAX_BATCH, MAX_PIECES};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::memory::Buffer;
use super::pointwise::{Operands, Word};
use super::poly::GpuPoly;
use super::transform::{Limb, Route};
use crate::ring::extension::Extension;
use crate::ring::{Form, GaloisElement, LimbId};
use crate::rlwe::RlweError;
use bytemuck::Zeroable;
use num_bigint::BigInt;
use std::sync::Arc;

/// Threads of a block; with 64 source limbs they take 32 KiB of shared memory.
const THREADS: u32 = 128;

/// One extension of a launch.
pub(super) struct Extended<'a> {
    pub tables: &'a Extension,
    pub target: &'a [LimbId],
    pub divided: bool,
    /// First limbs in source and target.
    pub from: usize,
    pub to: usize,
}

impl Gpu {
    /// Runs extensions, the same for each (source, target).
    ///
    /// # Safety
    /// The sources hold the limbs of all pieces, times the inverse cofactors, and the targets have room for theirs.
    pub(super) unsafe fn extensions(
        &self,
        polys: &[(Address, Address)],
        pieces: &[Extended<'_>],
    ) -> Result<(), DeviceError> {
        let ring = self.ring_context();
        let threads = THREADS.min(ring.degree() as u32);
        for batch in polys.chunks(MAX_BATCH) {
            for pieces in pieces.chunks(MAX_PIECES) {
                let ends = pieces.iter().map(|p| p.to + p.target.len());
                let mut primes = vec![ABSENT; ends.max().unwrap_or(0)];
                let mut args = ExtensionArgs {
                    primes: self.tables().ring().primes,
                    log_n: ring.log_n(),
                    pieces: pieces.len() as u32,
                    ..ExtensionArgs::zeroed()
                };
                let (mut sources, mut targets) = (0, 0);
                for (to, piece) in args.piece.iter_mut().zip(pieces) {
                    let tables = self.tables();
                    let tables = tables.extension(piece.tables, piece.target, piece.divided)?;
                    let count = piece.tables.source().len();
                    *to = Piece {
                        tables: tables.0,
                        sources: count as u16,
                        targets: piece.target.len() as u16,
                        source: piece.from as u16,
                        target: piece.to as u16,
                    };
                    sources = sources.max(count as u32);
                    targets = targets.max(piece.target.len());
                    for (prime, id) in primes[piece.to..].iter_mut().zip(piece.target) {
                        *prime = id.0;
                    }
                }
                args.prime = self.tables().list(&primes)?.0;
                for (i, (from, to)) in batch.iter().enumerate() {
                    (args.from[i], args.to[i]) = (from.0, to.0);
                }
                let grid = [
                    ring.degree() as u32 / threads,
                    targets.div_ceil(EXTENSION_GROUP) as u32,
                    (pieces.len() * batch.len()) as u32,
                ];
                let shared = 4 * sources * threads;
                // SAFETY: the caller vouches for the addresses.
                unsafe { self.launch("heron_extend", grid, threads, shared, &args)? };
            }
        }
        Ok(())
    }

    /// The centred lift of `a` on `target`.
    pub(super) fn lifted(&self, a: &GpuPoly, target: &[LimbId]) -> Result<GpuPoly, RlweError> {
        assert_eq!(
            a.form,
            Form::Coefficient,
            "a basis extension reads coefficients"
        );
        let ring = self.ring_context();
        let tables = ring.extension(&a.limbs, target)?;
        let mut scaled = a.clone();
        self.map(
            "heron_scale",
            &mut scaled,
            &tables.source_factors(ring, None),
        )?;
        let result = self.scratch(target, Form::Coefficient)?;
        let piece = Extended {
            tables: &tables,
            target,
            divided: false,
            from: 0,
            to: 0,
        };
        // SAFETY: both polynomials are on those limbs.
        unsafe { self.extensions(&[(scaled.address()?, result.address()?)], &[piece])? };
        Ok(result)
    }

    /// The coefficients of some limbs of polynomials on the same limbs, each times its factor, one after the other in one buffer.
    pub(super) fn scaled_coefficients(
        &self,
        polys: &[&GpuPoly],
        limbs: &[LimbId],
        factors: &[u32],
    ) -> Result<Buffer, DeviceError> {
        let size = limbs.len() * self.ring_context().degree();
        let buffer = self.take(size * polys.len())?;
        let first = polys.first().map(|p| p.limbs.clone()).unwrap_or_default();
        let place = |id: LimbId| first.iter().position(|&l| l == id);
        let limbs = limbs.iter().zip(factors).enumerate();
        let limbs: Vec<Limb> = limbs
            .map(|(i, (&id, &factor))| Limb {
                // The callers take limbs of these polynomials.
                source: place(id).map_or(ABSENT, |p| p as u16),
                factor,
                ..Limb::at(i, id)
            })
            .collect();
        let routes = polys.iter().enumerate().map(|(i, poly)| {
            let to = buffer.address().plus(i * size);
            Ok(Route::new(poly.address()?, to))
        });
        let routes = routes.collect::<Result<Vec<Route>, DeviceError>>()?;
        // SAFETY: the limbs are those of the polynomials, and the buffer has room.
        unsafe { self.backward(&routes, &limbs)? };
        Ok(buffer)
    }

    /// [`crate::backend::Backend::divide_and_round`] of polynomials on the same limbs, then an automorphism.
    pub(super) fn divided<const K: usize>(
        &self,
        polys: [&GpuPoly; K],
        lo: &[LimbId],
        factor: Option<&BigInt>,
        element: Option<GaloisElement>,
    ) -> Result<[GpuPoly; K], RlweError> {
        let ring = self.ring_context();
        let hi = polys.first().map_or(lo, |a| &a.limbs);
        for a in polys {
            assert_eq!(a.form, Form::Evaluation, "rescaling reads values");
            assert_eq!(*a.limbs, *hi, "polynomials on the same limbs");
        }
        let tables = ring.rescale(hi, lo)?;
        let constants = factor.map(|c| ring.residues(c, lo));
        let limbs: Vec<Limb> = lo
            .iter()
            .enumerate()
            .map(|(i, &id)| {
                let kept = tables.kept_factor[i];
                let constant = constants.as_ref().map_or(1, |c| c[i]);
                let place = hi.iter().position(|&l| l == id);
                Limb {
                    addend: match (kept, place) {
                        (Some(_), Some(place)) => place as u16,
                        _ => ABSENT,
                    },
                    factor: kept.map_or(0, |k| ring.modulus(id).mul(k, constant)),
                    ..Limb::at(i, id)
                }
            })
            .collect();
        let Some(extension) = &tables.extension else {
            return self.multiples(polys, lo, &limbs, element);
        };
        let factors = tables.leaving_factors(ring, factor);
        let remainders = self.scaled_coefficients(&polys, tables.leaving(), &factors)?;
        let remainder_words = tables.leaving().len() * ring.degree();
        let result_words = lo.len() * ring.degree();
        let quotients = self.several(result_words, K)?;
        let piece = Extended {
            tables: extension,
            target: lo,
            divided: true,
            from: 0,
            to: 0,
        };
        let quotient = |i: usize| quotients[i].address();
        let ways = (0..K).map(|i| (remainders.address().plus(i * remainder_words), quotient(i)));
        // SAFETY: the remainders are on the leaving limbs, the quotients on `lo`.
        unsafe { self.extensions(&ways.collect::<Vec<_>>(), &[piece])? };
        // A permutation cannot be written over what others still read.
        let turned = match element {
            None => quotients.clone(),
            Some(_) => self.several(result_words, K)?,
        };
        let routes = polys.iter().enumerate().map(|(i, a)| {
            Ok(Route {
                from: quotient(i),
                between: quotient(i),
                to: turned[i].address(),
                addend: a.address()?,
            })
        });
        let routes = routes.collect::<Result<Vec<Route>, DeviceError>>()?;
        let turn = element.map_or(1, |g| g.inverse(ring.log_n()).value());
        // SAFETY: the quotients are on `lo`; addends are named where the polynomials have the limb.
        unsafe { self.forward(&routes, &limbs, turn)? };
        let lo: Arc<[LimbId]> = lo.into();
        Ok(std::array::from_fn(|i| GpuPoly {
            buffer: Some(Arc::clone(&turned[i])),
            offset: 0,
            limbs: Arc::clone(&lo),
            form: Form::Evaluation,
            degree: ring.degree(),
        }))
    }

    fn several(&self, words: usize, count: usize) -> Result<Vec<Arc<Buffer>>, DeviceError> {
        let each = (0..count).map(|_| Ok(Arc::new(self.take(words)?)));
        each.collect()
    }

    /// A division by nothing: limbs times their factors, zero where a limb enters.
    fn multiples<const K: usize>(
        &self,
        polys: [&GpuPoly; K],
        lo: &[LimbId],
        limbs: &[Limb],
        element: Option<GaloisElement>,
    ) -> Result<[GpuPoly; K], RlweError> {
        let mut results = Vec::with_capacity(K);
        for a in polys {
            let result = self.scratch(lo, Form::Evaluation)?;
            let words = limbs.iter().enumerate().map(|(i, limb)| Word {
                a: limb.addend,
                constant: limb.factor,
                ..Word::at(i, limb.id)
            });
            let operands = Operands {
                to: result.address()?,
                a: a.address()?,
                ..Operands::default()
            };
            // SAFETY: the addresses hold the limbs.
            unsafe { self.pointwise("heron_scale", operands, words)? };
            results.push(match element {
                None => result,
                Some(g) => self.turned(&result, g)?,
            });
        }
        let mut results = results.into_iter();
        // One was pushed for each.
        Ok(polys.map(|a| results.next().unwrap_or_else(|| a.clone())))
    }
}
