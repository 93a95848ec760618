//! Launches of the number-theoretic transforms: two each, along columns and along rows (`kernels/ntt.cuh`).

use super::arguments::{TransformArgs, ABSENT, MAX_BATCH, MAX_LIMBS};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::poly::{GpuPoly, Pending, Progress};
use super::tables::montgomery_form;
use crate::ring::{Form, LimbId};
use bytemuck::Zeroable;

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// One limb of a transform.
#[derive(Clone, Copy)]
pub(super) struct Limb {
    pub id: LimbId,
    /// Where it is in each source, and where it goes in each target.
    pub source: u16,
    pub target: u16,
    /// Where it is in each addend, or [`ABSENT`].
    pub addend: u16,
    /// Backward: the coefficients are multiplied by it. Forward: the addend is. Below the prime.
    pub factor: u32,
}

impl Limb {
    /// A limb that stays where it is.
    pub(super) fn at(position: usize, id: LimbId) -> Self {
        Self {
            id,
            source: position as u16,
            target: position as u16,
            addend: ABSENT,
            factor: 1,
        }
    }
}

/// From one place to another, by way of a third that may be the target (and must be none of the others if `turn` permutes).
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub from: Address,
    pub between: Address,
    pub to: Address,
    pub addend: Address,
}

impl Route {
    pub(super) fn new(from: Address, to: Address) -> Self {
        Self {
            from,
            between: to,
            to,
            addend: Address::default(),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Columns,
    Rows,
}

/// log2 of the points of one thread, as `kernels/ntt.cuh` has it.
pub(super) fn radix(stages: u32) -> u32 {
    match stages {
        4 | 7 | 8 => 4,
        _ => 3,
    }
}

impl Gpu {
    /// Coefficients to values: `limbs` of each route's source to its target, plus factor · addend. `turn`: the automorphism to apply, undone.
    ///
    /// # Safety
    /// The addresses hold the limbs that `limbs` names.
    pub(super) unsafe fn forward(
        &self,
        routes: &[Route],
        limbs: &[Limb],
        turn: u32,
    ) -> Result<(), DeviceError> {
        let first: Vec<_> = routes.iter().map(|r| (r.from, r.between)).collect();
        // SAFETY: the caller vouches for the addresses; what lies between is where the targets are.
        unsafe {
            self.forward_columns(&first, limbs)?;
            self.forward_rows(routes, limbs, turn)
        }
    }

    /// The first half of [`Gpu::forward`]: to what is between.
    ///
    /// # Safety
    /// The addresses hold the limbs that `limbs` names.
    pub(super) unsafe fn forward_columns(
        &self,
        ways: &[(Address, Address)],
        limbs: &[Limb],
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller vouches for the addresses.
        unsafe { self.phase("heron_forward", Phase::Columns, ways, limbs, &[], 1) }
    }

    /// Where the residues of a polynomial are, once what is pending is done.
    pub(super) fn place(&self, poly: &GpuPoly) -> Result<Address, DeviceError> {
        let address = poly.address()?;
        if let Some(pending) = &poly.pending {
            self.finish(pending)?;
        }
        Ok(address)
    }

    /// Does the rows of pending digits.
    fn finish(&self, pending: &Pending) -> Result<(), DeviceError> {
        // A state that another thread left by panicking is not known.
        let mut state = pending.state.lock().map_err(|_| DeviceError::Lost)?;
        if *state != Progress::Finished {
            let limbs = pending.limbs.iter().enumerate();
            let limbs: Vec<Limb> = limbs.map(|(i, &id)| Limb::at(i, id)).collect();
            let route = Route::new(pending.address, pending.address);
            // SAFETY: the digits' buffer holds those limbs, and is alive as long as a digit is.
            unsafe { self.forward_rows(&[route], &limbs, 1)? };
            *state = Progress::Finished;
        }
        Ok(())
    }

    /// The second half of [`Gpu::forward`]: from what is between.
    ///
    /// # Safety
    /// As [`Gpu::forward`], whose first half has been done.
    pub(super) unsafe fn forward_rows(
        &self,
        routes: &[Route],
        limbs: &[Limb],
        turn: u32,
    ) -> Result<(), DeviceError> {
        let ways: Vec<_> = routes.iter().map(|r| (r.between, r.to)).collect();
        let addends: Vec<Address> = routes.iter().map(|r| r.addend).collect();
        let moved = stayed(limbs);
        // SAFETY: the caller vouches for the addresses.
        unsafe { self.phase("heron_forward", Phase::Rows, &ways, &moved, &addends, turn) }
    }

    /// Values to coefficients, times the limbs' factors.
    ///
    /// # Safety
    /// The addresses hold the limbs that `limbs` names.
    pub(super) unsafe fn backward(
        &self,
        routes: &[Route],
        limbs: &[Limb],
    ) -> Result<(), DeviceError> {
        let second: Vec<_> = routes.iter().map(|r| (r.between, r.to)).collect();
        let moved = stayed(limbs);
        // SAFETY: as above.
        unsafe {
            self.backward_rows(routes, limbs)?;
            self.phase("heron_backward", Phase::Columns, &second, &moved, &[], 1)
        }
    }

    /// The first half of [`Gpu::backward`]: to what is between.
    ///
    /// # Safety
    /// The addresses hold the limbs that `limbs` names.
    pub(super) unsafe fn backward_rows(
        &self,
        routes: &[Route],
        limbs: &[Limb],
    ) -> Result<(), DeviceError> {
        let ways: Vec<_> = routes.iter().map(|r| (r.from, r.between)).collect();
        // SAFETY: the caller vouches for the addresses.
        unsafe { self.phase("heron_backward", Phase::Rows, &ways, limbs, &[], 1) }
    }

    /// Rows that a block transforms together, threads of each, bytes of shared memory for all.
    pub(super) fn row_shape(&self) -> (u32, u32, u32) {
        let ring = self.tables().ring();
        let columns = ring.log_n - ring.log_rows;
        let each = (1u32 << columns) >> radix(columns);
        let together = (THREADS / each).min(1 << ring.log_rows);
        // A word of padding per 32.
        let padded = (1u32 << columns) + (1 << columns) / 32;
        (together, each, 4 * together * padded)
    }

    /// # Safety
    /// The addresses hold the limbs that `limbs` names.
    unsafe fn phase(
        &self,
        direction: &str,
        phase: Phase,
        polys: &[(Address, Address)],
        limbs: &[Limb],
        addends: &[Address],
        turn: u32,
    ) -> Result<(), DeviceError> {
        let ring = self.tables().ring();
        let (rows, columns) = (ring.log_rows, ring.log_n - ring.log_rows);
        let stages = match phase {
            Phase::Columns => rows,
            Phase::Rows => columns,
        };
        // Threads of one transform, transforms per block, words of shared memory per transform.
        let each = (1u32 << stages) >> radix(stages);
        let (together, count, shared, name) = match phase {
            Phase::Columns => {
                let together = (THREADS / each).min(32).min(1 << columns);
                // Backward, the last factors come first: of each row one.
                let factors = u32::from(direction == "heron_backward");
                let words = (together + factors) << rows;
                (together, 1u32 << columns, words, "columns")
            }
            Phase::Rows => {
                let (together, _, bytes) = self.row_shape();
                (together, 1u32 << rows, bytes / 4, "rows")
            }
        };
        let kernel = format!("{direction}_{name}_{stages}");
        for (number, batch) in polys.chunks(MAX_BATCH).enumerate() {
            for chunk in limbs.chunks(MAX_LIMBS) {
                let mut args = TransformArgs {
                    ring,
                    turn,
                    ..TransformArgs::zeroed()
                };
                for (i, (from, to)) in batch.iter().enumerate() {
                    (args.from[i], args.to[i]) = (from.0, to.0);
                    let addend = addends.get(number * MAX_BATCH + i);
                    args.addend[i] = addend.copied().unwrap_or_default().0;
                }
                for (i, limb) in chunk.iter().enumerate() {
                    args.prime[i] = limb.id.0;
                    args.source[i] = limb.source;
                    args.target[i] = limb.target;
                    args.addend_at[i] = limb.addend;
                    let q = self.ring_context().modulus(limb.id);
                    args.factor[i] = montgomery_form(q, limb.factor);
                }
                let grid = [count / together, chunk.len() as u32, batch.len() as u32];
                let added = |i: usize| match args.addend[i] {
                    0 => 0,
                    _ => chunk.iter().filter(|l| l.addend != ABSENT).count(),
                };
                let added: usize = (0..batch.len()).map(added).sum();
                let moves = (2 * chunk.len() * batch.len() + added) << ring.log_n;
                let threads = together * each;
                // SAFETY: the caller vouches for the addresses.
                unsafe { self.launch(&kernel, grid, threads, 4 * shared, moves, &args)? };
            }
        }
        Ok(())
    }

    /// Transforms a polynomial to the other form.
    pub(super) fn transformed(&self, poly: &mut GpuPoly, form: Form) -> Result<(), DeviceError> {
        if poly.form == form {
            return Ok(());
        }
        let limbs = poly.limbs.clone();
        let limbs = limbs.iter().enumerate();
        let limbs: Vec<Limb> = limbs.map(|(i, &id)| Limb::at(i, id)).collect();
        self.update(poly, |from, to| {
            let route = [Route::new(from, to)];
            // SAFETY: both addresses hold the polynomial.
            unsafe {
                match form {
                    Form::Evaluation => self.forward(&route, &limbs, 1),
                    Form::Coefficient => self.backward(&route, &limbs),
                }
            }
        })?;
        poly.form = form;
        Ok(())
    }
}

/// The limbs where the first launch left them.
fn stayed(limbs: &[Limb]) -> Vec<Limb> {
    let moved = |limb: &Limb| Limb {
        source: limb.target,
        ..*limb
    };
    limbs.iter().map(moved).collect()
}
