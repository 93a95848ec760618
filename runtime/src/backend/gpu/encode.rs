//! Launches that make plaintexts of integer coefficients.

use super::arguments::{EncodeArgs, MAX_LIMBS};
use super::core::Gpu;
use super::device::DeviceError;
use super::poly::GpuPoly;
use super::transform::{Limb, Route};
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

    /// How many there are.
    fn count(&self) -> usize {
        match self {
            Integers::Narrow(values) => values.len(),
            Integers::Wide(values) => values.len(),
        }
    }

    /// Lowest words of `count` coefficients, those that are not there 0, then higher ones: `[word][count]`.
    fn planes(&self, count: usize, to: &mut Vec<u32>) {
        for w in 0..self.words() {
            let start = to.len();
            match self {
                Integers::Narrow(values) => {
                    to.extend(values.iter().map(|v| (v >> (32 * w)) as u32))
                }
                Integers::Wide(values) => to.extend(values.iter().map(|v| (v >> (32 * w)) as u32)),
            }
            to.resize(start + count, 0);
        }
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

/// Polynomials of one shape.
struct Shape<'a> {
    count: usize,
    /// Words of a coefficient.
    words: usize,
    places: Places<'a>,
}

/// Plaintexts that are made together: their coefficients take 32 MiB of the host at N = 2^16.
pub(crate) const TOGETHER: usize = 64;

impl Gpu {
    /// Whether [`Gpu::values_of`] takes this.
    pub(crate) fn takes_integers(&self, integers: &Integers<'_>, places: Places<'_>) -> bool {
        let length = self.length(places);
        let shared = 4 * length;
        places.limbs.len() <= MAX_LIMBS
            && integers.count() <= length >> places.log_gap
            && (places.log_run == 0 || shared <= self.shared_limit() as usize)
    }

    /// Words of a limb of the result.
    fn length(&self, places: Places<'_>) -> usize {
        self.ring_context().degree() >> places.log_run
    }

    /// The values of polynomials with these coefficients, all of one size and at the same places, where [`Gpu::takes_integers`] says so.
    pub(crate) fn values_of(&self, integers: &[Integers<'_>], places: Places<'_>) -> Vec<GpuPoly> {
        self.spoil_recording();
        let words = integers.first().map_or(0, Integers::words);
        let count = self.length(places) >> places.log_gap;
        let mut planes = Vec::with_capacity(integers.len() * words * count);
        for integers in integers {
            integers.planes(count, &mut planes);
        }
        let shape = Shape {
            count: integers.len(),
            words,
            places,
        };
        self.made_or_lost(&shape, Some(&planes))
    }

    /// What [`Gpu::values_of`] would start for polynomials of so many words, without any coefficients, for rehearsals.
    pub fn imagined(&self, limbs: &[LimbId], log_runs: &[u32]) -> Vec<GpuPoly> {
        let mut made: Vec<Option<GpuPoly>> = log_runs.iter().map(|_| None).collect();
        for start in (0..log_runs.len()).step_by(TOGETHER) {
            let some = &log_runs[start..log_runs.len().min(start + TOGETHER)];
            for numbers in alike(some.iter()) {
                let shape = Shape {
                    count: numbers.len(),
                    words: 2,
                    places: Places {
                        limbs,
                        log_run: some[numbers[0]],
                        log_gap: 0,
                    },
                };
                for (number, poly) in numbers.iter().zip(self.made_or_lost(&shape, None)) {
                    made[start + number] = Some(poly);
                }
            }
        }
        made.into_iter().flatten().collect()
    }

    fn made_or_lost(&self, shape: &Shape<'_>, planes: Option<&[u32]>) -> Vec<GpuPoly> {
        self.made(shape, planes).unwrap_or_else(|error| {
            let lost = || self.or_lost(Err(error.clone()), shape.places.limbs, Form::Evaluation);
            (0..shape.count).map(|_| lost()).collect()
        })
    }

    fn made(&self, shape: &Shape<'_>, planes: Option<&[u32]>) -> Result<Vec<GpuPoly>, DeviceError> {
        let Shape {
            count,
            words,
            places,
        } = *shape;
        let (limbs, length) = (places.limbs, self.length(places));
        let coefficients = words * (length >> places.log_gap);
        // Given back when its launch is under way: what comes next in its place comes later.
        let from = self.take(count * coefficients)?;
        let buffer = Arc::new(self.take(count * limbs.len() * length)?);
        let ring = self.tables().ring();
        let mut args = EncodeArgs {
            primes: ring.primes,
            forward: ring.forward,
            from: from.address().0,
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
            // SAFETY: the planes are as long as their buffer.
            unsafe { self.copy_to(planes, from.address())? };
        }
        let threads = THREADS.min(length as u32);
        let grid = [length as u32 / threads, count as u32, 1];
        let moves = count * (coefficients + length * limbs.len());
        // SAFETY: the buffers hold all coefficients and all limbs.
        unsafe { self.launch("heron_residues", grid, threads, 0, moves, &args)? };
        let shared: Arc<[LimbId]> = limbs.into();
        let polys = (0..count).map(|i| GpuPoly {
            buffer: Some(Arc::clone(&buffer)),
            offset: i * limbs.len() * length,
            limbs: Arc::clone(&shared),
            form: Form::Evaluation,
            degree: length,
            pending: None,
        });
        let polys: Vec<GpuPoly> = polys.collect();
        if places.log_run == 0 {
            let routes = polys.iter().map(|p| {
                let place = p.address()?;
                Ok(Route::new(place, place))
            });
            let routes = routes.collect::<Result<Vec<Route>, DeviceError>>()?;
            let limbs = limbs.iter().enumerate();
            let limbs: Vec<Limb> = limbs.map(|(i, &id)| Limb::at(i, id)).collect();
            // SAFETY: as above.
            unsafe { self.forward(&routes, &limbs, 1)? };
            return Ok(polys);
        }
        let grid = [limbs.len() as u32, count as u32, 1];
        let shared = 4 * length as u32;
        let threads = THREADS.min(length as u32 / 2);
        let moves = 2 * count * length * limbs.len();
        // SAFETY: as above.
        unsafe { self.launch("heron_small_transform", grid, threads, shared, moves, &args)? };
        Ok(polys)
    }
}

/// The numbers of equal items, by first appearance.
pub(crate) fn alike<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<Vec<usize>> {
    let mut found: Vec<(T, Vec<usize>)> = Vec::new();
    for (number, item) in items.enumerate() {
        match found.iter_mut().find(|(known, _)| *known == item) {
            Some((_, numbers)) => numbers.push(number),
            None => found.push((item, vec![number])),
        }
    }
    found.into_iter().map(|(_, numbers)| numbers).collect()
}
