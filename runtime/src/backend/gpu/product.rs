//! Launches of sums of products.

use super::arguments::{
    ProductArgs, SharedProductsArgs, ABSENT, MAX_ALIKE, MAX_LIMBS, MAX_SHARED, MAX_SUMS, MAX_TERMS,
};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::poly::GpuPoly;
use crate::backend::{Pairs, Triple};
use crate::ring::{Form, LimbId};
use bytemuck::Zeroable;

/// Threads of a block, at most.
const THREADS: u32 = 256;

/// (a, b, c): a·b and, where there is a c, a·c are summed.
pub(super) type Term<'a> = (&'a GpuPoly, &'a GpuPoly, Option<&'a GpuPoly>);

/// Where the limbs of a result are in operands; most operands share one layout.
pub(super) struct Layouts<'a> {
    pub limbs: &'a [LimbId],
    pub rows: Vec<Vec<u16>>,
}

impl Layouts<'_> {
    /// Number of the layout of a polynomial, whose limbs must include the result's.
    pub(super) fn of(&mut self, poly: &GpuPoly) -> usize {
        assert_eq!(
            poly.form,
            Form::Evaluation,
            "products are taken in evaluation form"
        );
        let row: Vec<u16> = self.limbs.iter().map(|&l| poly.require(l) as u16).collect();
        self.rows.iter().position(|r| *r == row).unwrap_or_else(|| {
            self.rows.push(row);
            self.rows.len() - 1
        })
    }

    /// All layouts, one after the other; something where there is none.
    pub(super) fn list(&self) -> Vec<u16> {
        match self.rows.is_empty() {
            true => vec![ABSENT],
            false => self.rows.concat(),
        }
    }
}

impl Gpu {
    /// Σ a·b to `low`, and Σ a·c to `high` if there is one, both polynomials on `limbs` to be overwritten.
    pub(super) fn products(
        &self,
        terms: &[Term<'_>],
        limbs: &[LimbId],
        low: &GpuPoly,
        high: Option<&GpuPoly>,
    ) -> Result<(), DeviceError> {
        let ring = self.ring_context();
        let n = ring.degree();
        let threads = THREADS.min(n as u32 / 4);
        // No term: one launch that writes zeros.
        let none: &[Term<'_>] = &[];
        let some: Vec<&[Term<'_>]> = match terms.is_empty() {
            true => vec![none],
            false => terms.chunks(MAX_TERMS).collect(),
        };
        for (start, chunk) in limbs.chunks(MAX_LIMBS).enumerate() {
            let first = start * MAX_LIMBS * n;
            for (number, terms) in some.iter().enumerate() {
                let mut layouts = Layouts {
                    limbs: chunk,
                    rows: Vec::new(),
                };
                let mut args = ProductArgs {
                    primes: self.tables().ring().primes,
                    low: self.place(low)?.plus(first).0,
                    high: match high {
                        Some(high) => self.place(high)?.plus(first).0,
                        None => Address::default().0,
                    },
                    log_n: ring.log_n(),
                    terms: terms.len() as u32,
                    limbs: chunk.len() as u32,
                    accumulate: u32::from(number > 0),
                    ..ProductArgs::zeroed()
                };
                for (i, (a, b, c)) in terms.iter().enumerate() {
                    (args.a[i], args.b[i]) = (self.place(a)?.0, self.place(b)?.0);
                    args.a_layout[i] = layouts.of(a) as u8;
                    args.b_layout[i] = layouts.of(b) as u8;
                    if let Some(c) = c {
                        args.c[i] = self.place(c)?.0;
                        args.c_layout[i] = layouts.of(c) as u8;
                    }
                    args.run[i] = (n / a.degree).ilog2() as u8;
                }
                for (i, limb) in chunk.iter().enumerate() {
                    args.prime[i] = limb.0;
                }
                args.layouts = self.tables().list(&layouts.list())?.0;
                let grid = [n as u32 / 4 / threads, chunk.len() as u32, 1];
                let halves = 1 + usize::from(high.is_some());
                let read: usize = terms.iter().map(|(a, _, _)| a.degree + halves * n).sum();
                let written = halves * n * (1 + usize::from(number > 0));
                let moves = chunk.len() * (read + written);
                // SAFETY: layouts name limbs that the operands have; the results are on `limbs`.
                unsafe { self.launch("heron_inner_products", grid, threads, 0, moves, &args)? };
            }
        }
        Ok(())
    }
}

/// Right-hand factors, and for each sum the left-hand factor it has with them.
struct Shared<'a> {
    b: &'a GpuPoly,
    c: &'a GpuPoly,
    left: [Option<&'a GpuPoly>; MAX_SUMS],
}

/// The terms of at most [`MAX_SUMS`] sums, by what they share.
fn shared<'a>(sums: &[Vec<Triple<'a, GpuPoly>>]) -> Vec<Shared<'a>> {
    let mut found: Vec<Shared<'a>> = Vec::new();
    for (s, sum) in sums.iter().enumerate() {
        for &(a, b, c) in sum {
            let same = |p: &&mut Shared<'_>| {
                p.left[s].is_none() && std::ptr::eq(p.b, b) && std::ptr::eq(p.c, c)
            };
            match found.iter_mut().find(same) {
                Some(pair) => pair.left[s] = Some(a),
                None => {
                    let mut left = [None; MAX_SUMS];
                    left[s] = Some(a);
                    found.push(Shared { b, c, left });
                }
            }
        }
    }
    found
}

/// The pairs of one ciphertext's sums, and where the sums go.
type Summed<'a> = (Vec<Shared<'a>>, &'a [(GpuPoly, GpuPoly)]);

/// Whether sums of two ciphertexts have the same left-hand factors, and right-hand ones with their limbs at the same places.
fn is_like((pairs, sums): &Summed<'_>, (others, more): &Summed<'_>) -> bool {
    let same = |a: Option<&GpuPoly>, b: Option<&GpuPoly>| match (a, b) {
        (Some(a), Some(b)) => std::ptr::eq(a, b),
        (None, None) => true,
        _ => false,
    };
    let each = |(a, b): (&Shared<'_>, &Shared<'_>)| {
        let left = a.left.iter().zip(b.left);
        a.b.limbs == b.b.limbs
            && a.c.limbs == b.c.limbs
            && left.into_iter().all(|(a, b)| same(*a, b))
    };
    let counts = (pairs.len(), sums.len()) == (others.len(), more.len());
    counts && pairs.iter().zip(others).all(each)
}

impl Gpu {
    /// For each ciphertext (Σ a·b, Σ a·c) for each sum, on `limbs`: what the sums share is read once for every [`MAX_SUMS`] of them, what the
    /// ciphertexts share once for every [`MAX_ALIKE`].
    pub(super) fn shared_products(
        &self,
        ciphertexts: &[Vec<Vec<Triple<'_, GpuPoly>>>],
        limbs: &[LimbId],
    ) -> Result<Vec<Pairs<GpuPoly>>, DeviceError> {
        let one = || self.scratch(limbs, Form::Evaluation);
        let results = ciphertexts.iter().map(|sums| {
            let pairs = sums.iter().map(|_| Ok((one()?, one()?)));
            pairs.collect()
        });
        let results = results.collect::<Result<Vec<Pairs<GpuPoly>>, DeviceError>>()?;
        let most = ciphertexts.iter().map(Vec::len).max().unwrap_or(0);
        for first in (0..most).step_by(MAX_SUMS) {
            let part = |length: usize| first.min(length)..(first + MAX_SUMS).min(length);
            let each = ciphertexts.iter().zip(&results).map(|(sums, results)| {
                let range = part(sums.len());
                (shared(&sums[range.clone()]), &results[range])
            });
            let each: Vec<Summed<'_>> = each.collect();
            for alike in each.chunk_by(is_like) {
                for alike in alike.chunks(MAX_ALIKE) {
                    self.shared_chunks(alike, limbs)?;
                }
            }
        }
        Ok(results)
    }

    fn shared_chunks(&self, alike: &[Summed<'_>], limbs: &[LimbId]) -> Result<(), DeviceError> {
        let pairs = alike.first().map_or(0, |(pairs, _)| pairs.len());
        for (start, chunk) in limbs.chunks(MAX_LIMBS).enumerate() {
            // No pair: one launch that writes zeros.
            for number in 0..pairs.div_ceil(MAX_SHARED).max(1) {
                let first = number * MAX_SHARED;
                let pairs = first..pairs.min(first + MAX_SHARED);
                self.launch_shared(alike, pairs, (start * MAX_LIMBS, chunk))?;
            }
        }
        Ok(())
    }

    /// Some of the pairs, on some of the limbs; what is not the first of the pairs is added.
    fn launch_shared(
        &self,
        alike: &[Summed<'_>],
        range: std::ops::Range<usize>,
        (first, limbs): (usize, &[LimbId]),
    ) -> Result<(), DeviceError> {
        let ring = self.ring_context();
        let n = ring.degree();
        let mut layouts = Layouts {
            limbs,
            rows: Vec::new(),
        };
        let mut args = SharedProductsArgs {
            primes: self.tables().ring().primes,
            log_n: ring.log_n(),
            pairs: range.len() as u32,
            limbs: limbs.len() as u32,
            accumulate: u32::from(range.start > 0),
            batch: alike.len() as u32,
            ..SharedProductsArgs::zeroed()
        };
        for (ciphertext, (pairs, results)) in alike.iter().enumerate() {
            for (s, (low, high)) in results.iter().enumerate() {
                args.low[ciphertext][s] = self.place(low)?.plus(first * n).0;
                args.high[ciphertext][s] = self.place(high)?.plus(first * n).0;
            }
            for (t, pair) in pairs[range.clone()].iter().enumerate() {
                args.b[t][ciphertext] = self.place(pair.b)?.0;
                args.c[t][ciphertext] = self.place(pair.c)?.0;
            }
        }
        let mut left = 0;
        let pairs = alike.first().map(|(pairs, _)| &pairs[range]);
        for (t, pair) in pairs.into_iter().flatten().enumerate() {
            args.b_layout[t] = layouts.of(pair.b) as u8;
            args.c_layout[t] = layouts.of(pair.c) as u8;
            for (s, a) in pair.left.iter().enumerate() {
                let Some(a) = a else { continue };
                left += a.degree;
                args.a[t][s] = self.place(a)?.0;
                args.a_layout[t][s] = layouts.of(a) as u8;
                args.run[t][s] = (n / a.degree).ilog2() as u8;
            }
        }
        for (prime, limb) in args.prime.iter_mut().zip(limbs) {
            *prime = limb.0;
        }
        args.layouts = self.tables().list(&layouts.list())?.0;
        let share = (alike.len() as u32).next_power_of_two();
        let threads = (THREADS / share).min(n as u32 / 4);
        let grid = [n as u32 / 4 / threads, limbs.len() as u32, 1];
        let all = threads * alike.len() as u32;
        let sums: usize = alike.iter().map(|(_, results)| results.len()).sum();
        let written = 2 * n * sums * (1 + args.accumulate as usize);
        let right = 2 * n * args.pairs as usize * alike.len();
        let moves = limbs.len() * (left + right + written);
        // SAFETY: layouts name limbs that the operands have; the results are on all limbs.
        unsafe { self.launch("heron_shared_products", grid, all, 0, moves, &args) }
    }
}
