//! Launches of the kernels that work word by word.

use super::arguments::{AutomorphismArgs, PointwiseArgs, ABSENT, MAX_LIMBS};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::poly::GpuPoly;
use crate::ring::{Form, GaloisElement, LimbId};
use bytemuck::Zeroable;

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// One limb of a launch: its prime, where it goes, where operands have it, and its constant.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub id: LimbId,
    pub target: u16,
    pub a: u16,
    pub b: u16,
    pub constant: u32,
}

impl Word {
    /// The limb at the same place in the result and in the first operand.
    pub(super) fn at(position: usize, id: LimbId) -> Self {
        Self {
            id,
            target: position as u16,
            a: position as u16,
            b: ABSENT,
            constant: 0,
        }
    }
}

/// What a launch reads and writes.
#[derive(Clone, Copy, Default)]
pub(super) struct Operands {
    pub to: Address,
    pub a: Address,
    pub b: Address,
    /// Coefficient form: a constant is added to the first word only.
    pub first_only: bool,
}

impl Gpu {
    /// # Safety
    /// The addresses that the kernel uses hold the limbs that `limbs` names, of N words each.
    pub(super) unsafe fn pointwise(
        &self,
        kernel: &str,
        operands: Operands,
        limbs: impl IntoIterator<Item = Word>,
    ) -> Result<(), DeviceError> {
        let ring = self.ring_context();
        let n = ring.degree() as u32;
        let threads = THREADS.min(n / 4);
        let limbs: Vec<Word> = limbs.into_iter().collect();
        for chunk in limbs.chunks(MAX_LIMBS) {
            let mut args = PointwiseArgs {
                primes: self.tables().ring().primes,
                to: operands.to.0,
                a: operands.a.0,
                b: operands.b.0,
                log_n: ring.log_n(),
                first_only: u32::from(operands.first_only),
                ..PointwiseArgs::zeroed()
            };
            let mut limbs_moved = 0;
            for (i, limb) in chunk.iter().enumerate() {
                let reads =
                    |from: Address, at| usize::from(from != Address::default() && at != ABSENT);
                limbs_moved += 1 + reads(operands.a, limb.a) + reads(operands.b, limb.b);
                let factor = ring.modulus(limb.id).shoup(limb.constant);
                args.prime[i] = limb.id.0;
                args.target[i] = limb.target;
                args.a_at[i] = limb.a;
                args.b_at[i] = limb.b;
                args.constant[i] = factor.value;
                args.quotient[i] = factor.quotient;
            }
            let grid = [n / 4 / threads, chunk.len() as u32, 1];
            let moves = limbs_moved * n as usize;
            // SAFETY: the caller vouches for the addresses.
            unsafe { self.launch(kernel, grid, threads, 0, moves, &args)? };
        }
        Ok(())
    }

    /// Applies a kernel of one operand, with a constant per limb position.
    pub(super) fn map(
        &self,
        kernel: &str,
        poly: &mut GpuPoly,
        constants: &[u32],
    ) -> Result<(), DeviceError> {
        let limbs = poly.limbs.clone();
        let first_only = poly.form == Form::Coefficient;
        self.update(poly, |a, to| {
            let words = limbs.iter().enumerate().map(|(i, &id)| Word {
                constant: constants.get(i).copied().unwrap_or(0),
                ..Word::at(i, id)
            });
            let operands = Operands {
                to,
                a,
                first_only,
                ..Operands::default()
            };
            // SAFETY: both addresses hold the polynomial's limbs.
            unsafe { self.pointwise(kernel, operands, words) }
        })
    }

    /// Applies a kernel of two operands, matched by limb.
    ///
    /// # Panics
    /// If `b` lacks a limb of `a` or the forms differ.
    pub(super) fn zip(
        &self,
        kernel: &str,
        poly: &mut GpuPoly,
        b: &GpuPoly,
    ) -> Result<(), DeviceError> {
        assert_eq!(poly.form, b.form, "operands in different forms");
        let limbs = poly.limbs.clone();
        let words = limbs.iter().enumerate().map(|(i, &id)| Word {
            b: b.require(id) as u16,
            ..Word::at(i, id)
        });
        let words: Vec<Word> = words.collect();
        let b = self.place(b)?;
        self.update(poly, |a, to| {
            let operands = Operands {
                to,
                a,
                b,
                ..Operands::default()
            };
            // SAFETY: the addresses hold the operands' limbs.
            unsafe { self.pointwise(kernel, operands, words) }
        })
    }

    /// The limbs named, from another polynomial.
    pub(super) fn selected(
        &self,
        poly: &GpuPoly,
        limbs: &[LimbId],
    ) -> Result<GpuPoly, DeviceError> {
        let places: Vec<usize> = limbs.iter().map(|&id| poly.require(id)).collect();
        // A run of neighbouring limbs is a view.
        if places.windows(2).all(|w| w[1] == w[0] + 1) {
            let first = places.first().copied().unwrap_or(0);
            return Ok(GpuPoly {
                offset: poly.offset + first * poly.degree,
                limbs: limbs.into(),
                ..poly.clone()
            });
        }
        let result = self.scratch(limbs, poly.form)?;
        let words = limbs.iter().zip(places).enumerate();
        let words = words.map(|(i, (&id, place))| Word {
            a: place as u16,
            ..Word::at(i, id)
        });
        let operands = Operands {
            to: self.place(&result)?,
            a: self.place(poly)?,
            ..Operands::default()
        };
        // SAFETY: the addresses hold the limbs.
        unsafe { self.pointwise("heron_copy", operands, words)? };
        Ok(result)
    }

    /// The zero polynomial.
    pub(super) fn zeros(&self, limbs: &[LimbId], form: Form) -> Result<GpuPoly, DeviceError> {
        let result = self.scratch(limbs, form)?;
        let operands = Operands {
            to: self.place(&result)?,
            ..Operands::default()
        };
        let words = limbs.iter().enumerate().map(|(i, &id)| Word::at(i, id));
        // SAFETY: the kernel writes the limbs of the result only.
        unsafe { self.pointwise("heron_zero", operands, words)? };
        Ok(result)
    }

    /// `acc += factor · a` on the limbs of `a` that `acc` has.
    pub(super) fn add_multiple(
        &self,
        acc: &mut GpuPoly,
        a: &GpuPoly,
        factor: &[u32],
    ) -> Result<(), DeviceError> {
        let b = self.place(a)?;
        let in_place = acc.is_alone();
        let limbs = acc.limbs.clone();
        let words = limbs.iter().enumerate().filter_map(|(i, &id)| {
            let place = a.position_of(id);
            // Elsewhere the limbs that `a` lacks are copied: an absent limb counts as zero.
            (place.is_some() || !in_place).then(|| Word {
                b: place.map_or(ABSENT, |p| p as u16),
                constant: place.map_or(0, |p| factor[p]),
                ..Word::at(i, id)
            })
        });
        let words: Vec<Word> = words.collect();
        self.update(acc, |a, to| {
            let operands = Operands {
                to,
                a,
                b,
                ..Operands::default()
            };
            // SAFETY: the addresses hold the operands' limbs.
            unsafe { self.pointwise("heron_add_scaled", operands, words) }
        })
    }

    /// `a(X^g)`.
    pub(super) fn turned(&self, a: &GpuPoly, g: GaloisElement) -> Result<GpuPoly, DeviceError> {
        let ring = self.ring_context();
        let result = self.scratch(&a.limbs, a.form)?;
        let (kernel, element) = match a.form {
            Form::Evaluation => ("heron_automorphism_values", g),
            Form::Coefficient => ("heron_automorphism_coefficients", g.inverse(ring.log_n())),
        };
        let n = ring.degree();
        for (number, chunk) in a.limbs.chunks(MAX_LIMBS).enumerate() {
            let first = number * MAX_LIMBS * n;
            let mut args = AutomorphismArgs {
                primes: self.tables().ring().primes,
                to: self.place(&result)?.plus(first).0,
                from: self.place(a)?.plus(first).0,
                log_n: ring.log_n(),
                element: element.value(),
                ..AutomorphismArgs::zeroed()
            };
            for (prime, limb) in args.prime.iter_mut().zip(chunk) {
                *prime = limb.0;
            }
            let threads = THREADS.min(n as u32);
            let grid = [n as u32 / threads, chunk.len() as u32, 1];
            // SAFETY: both buffers hold all limbs.
            unsafe { self.launch(kernel, grid, threads, 0, 2 * n * chunk.len(), &args)? };
        }
        Ok(result)
    }
}
