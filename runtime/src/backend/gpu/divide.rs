//! Basis extensions, and the divisions made of them.

use super::arguments::{ExtensionArgs, Piece, ABSENT, MAX_BATCH, MAX_LIMBS, MAX_PIECES};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::limits::SHARED_OF_A_BLOCK;
use super::memory::Buffer;
use super::pointwise::{Operands, Word};
use super::poly::GpuPoly;
use super::tables::montgomery_form;
use super::transform::{radix, Limb, Route};
use crate::ring::extension::Extension;
use crate::ring::{Form, GaloisElement, LimbId};
use crate::rlwe::RlweError;
use bytemuck::Zeroable;
use num_bigint::BigInt;
use std::sync::Arc;

/// Threads of a block; with 64 source limbs they take 32 KiB of shared memory.
const THREADS: u32 = 128;

/// Blocks that keep a large GPU busy: two for each of an H200's multiprocessors.
const WANTED_BLOCKS: usize = 264;

/// Fewest target limbs that are made from one reading of the sources, where there are as many.
const LEAST_GROUP: usize = 8;

/// Limbs of polynomials on the same limbs, in evaluation form, and what their coefficients are multiplied by.
pub(super) struct Sources<'a> {
    pub polys: &'a [&'a GpuPoly],
    pub limbs: &'a [LimbId],
    pub factors: &'a [u32],
}

impl Sources<'_> {
    /// Where they are in the polynomials, to be brought together in their order.
    fn places(&self) -> Vec<Limb> {
        let first = self.polys.first();
        let limbs = self.limbs.iter().zip(self.factors).enumerate();
        limbs
            .map(|(i, (&id, &factor))| Limb {
                // The callers take limbs of these polynomials.
                source: first
                    .and_then(|p| p.position_of(id))
                    .map_or(ABSENT, |p| p as u16),
                factor,
                ..Limb::at(i, id)
            })
            .collect()
    }
}

/// One extension of a launch.
pub(super) struct Extended<'a> {
    pub tables: &'a Extension,
    pub target: &'a [LimbId],
    pub divided: bool,
    /// First limbs in source and target.
    pub from: usize,
    pub to: usize,
}

/// Blocks of an extension: threads of one, how many there are of them, bytes of their shared memory.
struct Shape {
    threads: u32,
    blocks: u32,
    shared: u32,
}

impl Gpu {
    /// Runs extensions, the same for each (source, target): coefficients to coefficients.
    ///
    /// # Safety
    /// The sources hold the limbs of all pieces, times the inverse cofactors, and the targets have room for theirs.
    pub(super) unsafe fn extensions(
        &self,
        polys: &[(Address, Address)],
        pieces: &[Extended<'_>],
    ) -> Result<(), DeviceError> {
        let n = self.ring_context().degree() as u32;
        let threads = THREADS.min(n);
        let shape = Shape {
            threads,
            blocks: n / threads,
            shared: 4 * most_sources(pieces) * threads,
        };
        // SAFETY: as promised to this function.
        unsafe { self.launch_extensions("heron_extend", polys, pieces, &[], &shape) }
    }

    /// Extends limbs of polynomials and transforms the columns of what that makes, `limbs` in their order, to an address for each. Two
    /// launches where shared memory suffices: rows backward, then columns backward, the extension and columns forward.
    ///
    /// # Safety
    /// The pieces take all limbs of the sources, and the targets have room for what they make.
    pub(super) unsafe fn extend_columns(
        &self,
        sources: &Sources<'_>,
        to: &[Address],
        pieces: &[Extended<'_>],
        limbs: &[Limb],
    ) -> Result<(), DeviceError> {
        let size = sources.limbs.len() * self.ring_context().degree();
        let buffer = self.take(size * sources.polys.len())?;
        let places: Vec<Address> = (0..sources.polys.len())
            .map(|i| buffer.address().plus(i * size))
            .collect();
        let routes = sources.polys.iter().zip(&places);
        let routes = routes.map(|(poly, &to)| Ok(Route::new(self.place(poly)?, to)));
        let routes = routes.collect::<Result<Vec<Route>, DeviceError>>()?;
        let ways: Vec<_> = places.into_iter().zip(to.iter().copied()).collect();
        let read = sources.places();
        let fits = self.is_fused() && read.len() <= MAX_LIMBS;
        match fits
            .then(|| self.fused_shape(most_sources(pieces)))
            .flatten()
        {
            Some(shape) => {
                let kernel = format!("heron_extend_columns_{}", self.tables().ring().log_rows);
                // SAFETY: the limbs are those of the polynomials, and the buffer has room.
                unsafe {
                    self.backward_rows(&routes, &read)?;
                    self.launch_extensions(&kernel, &ways, pieces, &read, &shape)
                }
            }
            None => {
                let made: Vec<_> = ways.iter().map(|&(_, to)| (to, to)).collect();
                // SAFETY: as above.
                unsafe {
                    self.backward(&routes, &read)?;
                    self.extensions(&ways, pieces)?;
                    self.forward_columns(&made, limbs)
                }
            }
        }
    }

    /// Blocks of the launch that extends and transforms columns: 64 bytes wide if two of them fit the device's shared memory, else 32 bytes.
    /// None for more source limbs than that.
    fn fused_shape(&self, sources: u32) -> Option<Shape> {
        let ring = self.tables().ring();
        let (rows, columns) = (ring.log_rows, 1u32 << (ring.log_n - ring.log_rows));
        let points = 1u32 << radix(rows);
        let each = (1 << rows) / points;
        let limit = self.shared_limit();
        let half = limit.saturating_sub(SHARED_OF_A_BLOCK) / 2;
        [(16u32, half), (8, limit)]
            .into_iter()
            .find_map(|(width, most)| {
                let threads = each * width;
                // The transform's points, and the source words and quotients of as many.
                let shared = 4 * points * threads * (sources + 2);
                let fits = shared <= most && width <= columns && threads <= 256;
                fits.then_some(Shape {
                    threads,
                    blocks: columns / width,
                    shared,
                })
            })
    }

    unsafe fn launch_extensions(
        &self,
        kernel: &str,
        polys: &[(Address, Address)],
        pieces: &[Extended<'_>],
        sources: &[Limb],
        shape: &Shape,
    ) -> Result<(), DeviceError> {
        let ring = self.ring_context();
        for batch in polys.chunks(MAX_BATCH) {
            for pieces in pieces.chunks(MAX_PIECES) {
                let ends = pieces.iter().map(|p| p.to + p.target.len());
                let mut primes = vec![ABSENT; ends.max().unwrap_or(0)];
                let targets = pieces.iter().map(|p| p.target.len());
                let targets = targets.max().unwrap_or(0);
                // Each group reads the sources, so there are no more of them than fill the device.
                let alike = shape.blocks as usize * pieces.len() * batch.len();
                let groups = WANTED_BLOCKS.div_ceil(alike.max(1));
                let group = targets.div_ceil(groups).max(LEAST_GROUP);
                let mut args = ExtensionArgs {
                    ring: self.tables().ring(),
                    pieces: pieces.len() as u32,
                    group: group as u32,
                    ..ExtensionArgs::zeroed()
                };
                for (i, limb) in sources.iter().enumerate() {
                    args.source_prime[i] = limb.id.0;
                    args.source_factor[i] = montgomery_form(ring.modulus(limb.id), limb.factor);
                }
                for (to, piece) in args.piece.iter_mut().zip(pieces) {
                    let tables = self.tables();
                    let tables = tables.extension(piece.tables, piece.target, piece.divided)?;
                    *to = Piece {
                        tables: tables.0,
                        sources: piece.tables.source().len() as u16,
                        targets: piece.target.len() as u16,
                        source: piece.from as u16,
                        target: piece.to as u16,
                    };
                    for (prime, id) in primes[piece.to..].iter_mut().zip(piece.target) {
                        *prime = id.0;
                    }
                }
                args.prime = self.tables().list(&primes)?.0;
                for (i, (from, to)) in batch.iter().enumerate() {
                    (args.from[i], args.to[i]) = (from.0, to.0);
                }
                let grid = [
                    shape.blocks,
                    targets.div_ceil(group) as u32,
                    (pieces.len() * batch.len()) as u32,
                ];
                let limbs = pieces.iter().map(|p| {
                    // Each group reads the sources.
                    p.tables.source().len() * p.target.len().div_ceil(group) + p.target.len()
                });
                let moves = limbs.sum::<usize>() * batch.len() * ring.degree();
                // SAFETY: the caller vouches for the addresses.
                unsafe { self.launch(kernel, grid, shape.threads, shape.shared, moves, &args)? };
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
        unsafe { self.extensions(&[(self.place(&scaled)?, self.place(&result)?)], &[piece])? };
        Ok(result)
    }

    /// [`crate::backend::Backend::divide_and_round`] of polynomials on the same limbs, then an automorphism.
    pub(super) fn divided(
        &self,
        polys: &[&GpuPoly],
        lo: &[LimbId],
        factor: Option<&BigInt>,
        element: Option<GaloisElement>,
    ) -> Result<Vec<GpuPoly>, RlweError> {
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
        let sources = Sources {
            polys,
            limbs: tables.leaving(),
            factors: &tables.leaving_factors(ring, factor),
        };
        let result_words = lo.len() * ring.degree();
        let quotients = self.several(result_words, polys.len())?;
        let piece = Extended {
            tables: extension,
            target: lo,
            divided: true,
            from: 0,
            to: 0,
        };
        // A permutation cannot be written over what others still read.
        let turned = match element {
            None => quotients.clone(),
            Some(_) => self.several(result_words, polys.len())?,
        };
        let routes = polys.iter().enumerate().map(|(i, a)| {
            Ok(Route {
                from: quotients[i].address(),
                between: quotients[i].address(),
                to: turned[i].address(),
                addend: self.place(a)?,
            })
        });
        let routes = routes.collect::<Result<Vec<Route>, DeviceError>>()?;
        let turn = element.map_or(1, |g| g.inverse(ring.log_n()).value());
        let made: Vec<Address> = quotients.iter().map(|q| q.address()).collect();
        // SAFETY: the sources are the leaving limbs, the quotients on `lo`; addends are named where the polynomials have the limb.
        unsafe {
            self.extend_columns(&sources, &made, &[piece], &limbs)?;
            self.forward_rows(&routes, &limbs, turn)?;
        }
        let lo: Arc<[LimbId]> = lo.into();
        let results = turned.into_iter().map(|buffer| GpuPoly {
            buffer: Some(buffer),
            offset: 0,
            limbs: Arc::clone(&lo),
            form: Form::Evaluation,
            degree: ring.degree(),
            pending: None,
        });
        Ok(results.collect())
    }

    pub(super) fn several(
        &self,
        words: usize,
        count: usize,
    ) -> Result<Vec<Arc<Buffer>>, DeviceError> {
        let each = (0..count).map(|_| Ok(Arc::new(self.take(words)?)));
        each.collect()
    }

    /// A division by nothing: limbs times their factors, zero where a limb enters.
    fn multiples(
        &self,
        polys: &[&GpuPoly],
        lo: &[LimbId],
        limbs: &[Limb],
        element: Option<GaloisElement>,
    ) -> Result<Vec<GpuPoly>, RlweError> {
        let mut results = Vec::with_capacity(polys.len());
        for a in polys {
            let result = self.scratch(lo, Form::Evaluation)?;
            let words = limbs.iter().enumerate().map(|(i, limb)| Word {
                a: limb.addend,
                constant: limb.factor,
                ..Word::at(i, limb.id)
            });
            let operands = Operands {
                to: self.place(&result)?,
                a: self.place(a)?,
                ..Operands::default()
            };
            // SAFETY: the addresses hold the limbs.
            unsafe { self.pointwise("heron_scale", operands, words)? };
            results.push(match element {
                None => result,
                Some(g) => self.turned(&result, g)?,
            });
        }
        Ok(results)
    }
}

fn most_sources(pieces: &[Extended<'_>]) -> u32 {
    let each = pieces.iter().map(|p| p.tables.source().len());
    each.max().unwrap_or(0) as u32
}
