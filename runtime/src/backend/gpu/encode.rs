//! Launches that make plaintexts of integer coefficients.

use super::arguments::{EncodeArgs, MAX_LIMBS};
use super::core::Gpu;
use super::device::DeviceError;
use super::poly::GpuPoly;
use crate::ring::{Form, LimbId};
use bytemuck::Zeroable;
use std::sync::Arc;

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// Integer coefficients of 1, Y^g, Y^2g, …, with Y = X^(2^log_run) and g = 2^log_gap.
pub(crate) enum Integers<'a> {
    /// All below 2^62 in size.
    Narrow(&'a [i64]),
    /// All below 2^126 in size.
    Wide(&'a [i128]),
}

impl Integers<'_> {
    /// Words of one, in two's complement.
    pub(crate) fn words(&self) -> usize {
        match self {
            Integers::Narrow(_) => 2,
            Integers::Wide(_) => 4,
        }
    }

    /// Highest words of all coefficients, then lower ones: `[word][length]`, with zeros between coefficients.
    fn planes(&self, length: usize, log_gap: u32) -> Vec<u32> {
        let words = self.words();
        let mut planes = vec![0; words * length];
        for (w, plane) in planes.chunks_mut(length).rev().enumerate() {
            let places = plane.iter_mut().step_by(1 << log_gap);
            match self {
                Integers::Narrow(values) => places
                    .zip(*values)
                    .for_each(|(to, v)| *to = (v >> (32 * w)) as u32),
                Integers::Wide(values) => places
                    .zip(*values)
                    .for_each(|(to, v)| *to = (v >> (32 * w)) as u32),
            }
        }
        planes
    }
}

/// Where coefficients go.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub limbs: &'a [LimbId],
    /// log2 of the words that one word of the result stands for.
    pub log_run: u32,
    /// log2 of the distance of neighbouring coefficients in words of the result.
    pub log_gap: u32,
}

impl Gpu {
    /// Whether [`Gpu::values_of`] takes this: coefficients of so many words fit where their residues will be.
    pub(crate) fn takes_integers(&self, words: usize, places: Places<'_>) -> bool {
        let (limbs, length) = (places.limbs.len(), self.length(places));
        let shared = 4 * length;
        limbs <= MAX_LIMBS
            && limbs >= words
            && (places.log_run == 0 || shared <= self.shared_limit() as usize)
    }

    /// Words of a limb of the result.
    fn length(&self, places: Places<'_>) -> usize {
        self.ring_context().degree() >> places.log_run
    }

    /// The values of a polynomial with these coefficients, where [`Gpu::takes_integers`] says so.
    pub(crate) fn values_of(&self, integers: &Integers<'_>, places: Places<'_>) -> GpuPoly {
        self.spoil_recording();
        let form = Form::Evaluation;
        let planes = integers.planes(self.length(places), places.log_gap);
        let made = self.made(integers.words(), Some(&planes), places);
        self.or_lost(made, places.limbs, form)
    }

    /// What [`Gpu::values_of`] would start, without any coefficients, for rehearsals.
    pub fn imagined(&self, limbs: &[LimbId], log_run: u32) -> GpuPoly {
        let places = Places {
            limbs,
            log_run,
            log_gap: 0,
        };
        self.or_lost(self.made(2, None, places), limbs, Form::Evaluation)
    }

    fn made(
        &self,
        words: usize,
        planes: Option<&[u32]>,
        places: Places<'_>,
    ) -> Result<GpuPoly, DeviceError> {
        let (limbs, length) = (places.limbs, self.length(places));
        let buffer = self.take(limbs.len() * length)?;
        let mut poly = GpuPoly {
            buffer: None,
            offset: 0,
            limbs: limbs.into(),
            form: Form::Evaluation,
            degree: length,
            pending: None,
        };
        let ring = self.tables().ring();
        let mut args = EncodeArgs {
            primes: ring.primes,
            forward: ring.forward,
            to: buffer.address().0,
            log_n: ring.log_n,
            log_words: length.ilog2(),
            log_gap: places.log_gap,
            words: words as u32,
            limbs: limbs.len() as u32,
            ..EncodeArgs::zeroed()
        };
        for (prime, limb) in args.prime.iter_mut().zip(limbs) {
            *prime = limb.0;
        }
        if let Some(planes) = planes {
            let first = (limbs.len() - words) * length;
            // SAFETY: the planes are as long as the last limbs of the buffer.
            unsafe { self.copy_to(planes, buffer.address().plus(first))? };
        }
        let threads = THREADS.min(length as u32);
        let grid = [length as u32 / threads, 1, 1];
        let moves = length * (words + limbs.len());
        // SAFETY: the buffer holds all limbs.
        unsafe { self.launch("heron_residues", grid, threads, 0, moves, &args)? };
        poly.buffer = Some(Arc::new(buffer));
        if places.log_run == 0 {
            poly.form = Form::Coefficient;
            self.transformed(&mut poly, Form::Evaluation)?;
            return Ok(poly);
        }
        let (grid, shared) = ([limbs.len() as u32, 1, 1], 4 * length as u32);
        let threads = THREADS.min(length as u32 / 2);
        let moves = 2 * length * limbs.len();
        // SAFETY: as above.
        unsafe { self.launch("heron_small_transform", grid, threads, shared, moves, &args)? };
        Ok(poly)
    }
}
