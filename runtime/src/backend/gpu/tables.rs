//! What stays on the device: twiddles and constants of every prime, tables of basis extensions, short lists of numbers.

use super::arguments::{PrimeConstants, Ring};
use super::device::{Address, DeviceError};
use super::memory::{Buffer, Memory};
use crate::arith::Modulus;
use crate::ring::extension::Extension;
use crate::ring::LimbId;
use crate::rlwe::RlweContext;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Stages of the transforms along columns, whose length is the number of rows: 7 of 16, 4 of 8.
pub(super) fn log_rows(log_n: u32) -> u32 {
    match log_n {
        16 => 7,
        _ => log_n / 2,
    }
}

/// `w · 2^32 mod q`, centred.
pub(super) fn montgomery_form(q: &Modulus, w: u32) -> i32 {
    centred(q, q.mul(w, q.reduce_u64(1 << 32)))
}

fn centred(q: &Modulus, x: u32) -> i32 {
    match x > q.value() / 2 {
        // Below 2^28 in size.
        true => x as i32 - q.value() as i32,
        false => x as i32,
    }
}

type Cached<K> = Mutex<BTreeMap<K, Arc<Buffer>>>;

pub(super) struct Tables {
    memory: Arc<Memory>,
    _primes: Buffer,
    _twiddles: [Buffer; 4],
    ring: Ring,
    lists: Cached<Vec<u16>>,
    extensions: Cached<(Vec<LimbId>, Vec<LimbId>, bool)>,
}

impl Tables {
    pub(super) fn new(memory: &Arc<Memory>, context: &RlweContext) -> Result<Self, DeviceError> {
        let ring = context.ring();
        let limbs = ring.all_limbs();
        let (log_n, n) = (ring.log_n(), ring.degree());
        let (rows, columns) = (1 << log_rows(log_n), n >> log_rows(log_n));
        let primes: Vec<PrimeConstants> = limbs
            .iter()
            .map(|&l| prime_constants(ring.modulus(l)))
            .collect();
        let table = |length: usize, fill: &(dyn Fn(&Modulus, u32, &mut [i32]) + Sync)| {
            let mut words = vec![0i32; limbs.len() * length];
            words
                .par_chunks_mut(length)
                .zip(&limbs)
                .for_each(|(to, &l)| fill(ring.modulus(l), context.root(l), to));
            memory.filled(bytemuck::cast_slice(&words))
        };
        let twiddles = [
            table(n, &|q, psi, to| forward(q, psi, to))?,
            table(n, &|q, psi, to| twist(q, psi, columns, to))?,
            table(columns, &|q, psi, to| inverse(q, psi, n, to))?,
            table(rows, &|q, psi, to| untwist(q, psi, n, to))?,
        ];
        let primes = memory.filled(bytemuck::cast_slice(&primes))?;
        let ring = Ring {
            primes: primes.address().0,
            forward: twiddles[0].address().0,
            twist: twiddles[1].address().0,
            inverse: twiddles[2].address().0,
            untwist: twiddles[3].address().0,
            log_n,
            log_rows: log_rows(log_n),
        };
        Ok(Self {
            memory: Arc::clone(memory),
            _primes: primes,
            _twiddles: twiddles,
            ring,
            lists: Mutex::default(),
            extensions: Mutex::default(),
        })
    }

    /// Where the tables are.
    pub(super) fn ring(&self) -> Ring {
        self.ring
    }

    /// These numbers on the device. Lists are made of limb positions, of which a program has few: they are kept for good.
    pub(super) fn list(&self, numbers: &[u16]) -> Result<Address, DeviceError> {
        let key = numbers.to_vec();
        let buffer = cached(&self.lists, &key, || {
            let mut words: Vec<u32> = Vec::with_capacity(numbers.len().div_ceil(2));
            for pair in numbers.chunks(2) {
                let high = pair.get(1).copied().unwrap_or(0);
                words.push(u32::from(pair[0]) | u32::from(high) << 16);
            }
            self.memory.filled(&words)
        })?;
        Ok(buffer.address())
    }

    /// The tables of an extension, as `kernels/extension.cuh` reads them.
    pub(super) fn extension(
        &self,
        tables: &Extension,
        target: &[LimbId],
        divided: bool,
    ) -> Result<Address, DeviceError> {
        let key = (tables.source().to_vec(), target.to_vec(), divided);
        let buffer = cached(&self.extensions, &key, || {
            let mut words = Vec::new();
            for &r in &tables.reciprocal {
                words.extend([r as u32, (r >> 32) as u32]);
            }
            for column in &tables.columns {
                words.push(column.correction);
                words.extend_from_slice(&column.weights);
            }
            self.memory.filled(&words)
        })?;
        Ok(buffer.address())
    }
}

/// Looks up, or makes and keeps.
fn cached<K: Ord + Clone>(
    cache: &Cached<K>,
    key: &K,
    make: impl FnOnce() -> Result<Buffer, DeviceError>,
) -> Result<Arc<Buffer>, DeviceError> {
    if let Ok(map) = cache.lock() {
        if let Some(found) = map.get(key) {
            return Ok(Arc::clone(found));
        }
    }
    let made = Arc::new(make()?);
    Ok(match cache.lock() {
        Ok(mut map) => Arc::clone(map.entry(key.clone()).or_insert(made)),
        Err(_) => made,
    })
}

fn prime_constants(q: &Modulus) -> PrimeConstants {
    let p = q.value();
    // Newton's iteration doubles the correct low bits.
    let mut inverse = p;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(p.wrapping_mul(inverse)));
    }
    let radix = q.shoup(q.reduce_u64(1 << 32));
    PrimeConstants {
        q: p,
        q_inverse: inverse,
        barrett: ((1u64 << 32) / u64::from(p)) as u32,
        one: centred(q, radix.value),
        radix: radix.value,
        radix_quotient: radix.quotient,
        unused: [0; 2],
    }
}

fn reversed(i: usize, bits: u32) -> usize {
    match bits {
        0 => 0,
        _ => i.reverse_bits() >> (usize::BITS - bits),
    }
}

/// 1, base, base², …
fn powers(q: &Modulus, base: u32, count: usize) -> impl Iterator<Item = u32> + '_ {
    let step = q.shoup(base);
    std::iter::successors(Some(1), move |&x| Some(q.mul_shoup(x, step))).take(count)
}

/// Entry k: psi^reverse(k).
fn forward(q: &Modulus, psi: u32, to: &mut [i32]) {
    let bits = to.len().ilog2();
    for (k, power) in powers(q, psi, to.len()).enumerate() {
        to[reversed(k, bits)] = montgomery_form(q, power);
    }
}

/// Entry r · columns + c: psi^(-c (2 reverse(r) + 1)).
fn twist(q: &Modulus, psi: u32, columns: usize, to: &mut [i32]) {
    let bits = (to.len() / columns).ilog2();
    // psi has order 2N, so its inverse is psi^(2N - 1).
    let inverse = q.pow(psi, 2 * to.len() as u64 - 1);
    for (r, row) in to.chunks_mut(columns).enumerate() {
        let base = q.pow(inverse, 2 * reversed(r, bits) as u64 + 1);
        for (word, power) in row.iter_mut().zip(powers(q, base, columns)) {
            *word = montgomery_form(q, power);
        }
    }
}

/// Entry 2^t + k: psi^(-2 k N / 2^(t + 1)). Entry 0 is not read.
fn inverse(q: &Modulus, psi: u32, n: usize, to: &mut [i32]) {
    let inverse = q.pow(psi, 2 * n as u64 - 1);
    let mut first = 1;
    while first < to.len() {
        let base = q.pow(inverse, (n / first) as u64);
        for (word, power) in to[first..2 * first].iter_mut().zip(powers(q, base, first)) {
            *word = montgomery_form(q, power);
        }
        first *= 2;
    }
}

/// Entry r: psi^(-r columns) / N.
fn untwist(q: &Modulus, psi: u32, n: usize, to: &mut [i32]) {
    let columns = n / to.len();
    let base = q.pow(psi, (2 * n - columns) as u64);
    // N is a power of two and q an odd prime.
    let scale = q.inv(n as u32).unwrap_or(0);
    for (word, power) in to.iter_mut().zip(powers(q, base, n / columns)) {
        *word = montgomery_form(q, q.mul(power, scale));
    }
}
