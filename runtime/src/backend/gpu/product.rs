//! Launches of sums of products.

use super::arguments::{
    ProductArgs, SharedProductsArgs, ABSENT, MAX_LIMBS, MAX_SHARED, MAX_SUMS, MAX_TERMS,
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
struct Layouts<'a> {
    limbs: &'a [LimbId],
    rows: Vec<Vec<u16>>,
}

impl Layouts<'_> {
    /// Number of the layout of a polynomial, whose limbs must include the result's.
    fn of(&mut self, poly: &GpuPoly) -> usize {
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
                let list = match layouts.rows.is_empty() {
                    true => vec![ABSENT],
                    false => layouts.rows.concat(),
                };
                args.layouts = self.tables().list(&list)?.0;
                let grid = [n as u32 / 4 / threads, chunk.len() as u32, 1];
                // SAFETY: layouts name limbs that the operands have; the results are on `limbs`.
                unsafe { self.launch("heron_inner_products", grid, threads, 0, &args)? };
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

impl Gpu {
    /// (Σ a·b, Σ a·c) for each sum, on `limbs`: what the sums share is read once for every [`MAX_SUMS`] of them.
    pub(super) fn shared_products(
        &self,
        sums: &[Vec<Triple<'_, GpuPoly>>],
        limbs: &[LimbId],
    ) -> Result<Pairs<GpuPoly>, DeviceError> {
        let one = || self.scratch(limbs, Form::Evaluation);
        let results = sums.iter().map(|_| Ok((one()?, one()?)));
        let results = results.collect::<Result<Pairs<GpuPoly>, DeviceError>>()?;
        for (sums, results) in sums.chunks(MAX_SUMS).zip(results.chunks(MAX_SUMS)) {
            let pairs = shared(sums);
            // No pair: one launch that writes zeros.
            let none: &[Shared<'_>] = &[];
            let some: Vec<&[Shared<'_>]> = match pairs.is_empty() {
                true => vec![none],
                false => pairs.chunks(MAX_SHARED).collect(),
            };
            for (start, chunk) in limbs.chunks(MAX_LIMBS).enumerate() {
                for (number, pairs) in some.iter().enumerate() {
                    let first = start * MAX_LIMBS;
                    self.launch_shared(pairs, results, (first, chunk), number > 0)?;
                }
            }
        }
        Ok(results)
    }

    fn launch_shared(
        &self,
        pairs: &[Shared<'_>],
        results: &[(GpuPoly, GpuPoly)],
        (first, limbs): (usize, &[LimbId]),
        accumulate: bool,
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
            pairs: pairs.len() as u32,
            limbs: limbs.len() as u32,
            accumulate: u32::from(accumulate),
            ..SharedProductsArgs::zeroed()
        };
        for (s, (low, high)) in results.iter().enumerate() {
            args.low[s] = self.place(low)?.plus(first * n).0;
            args.high[s] = self.place(high)?.plus(first * n).0;
        }
        for (t, pair) in pairs.iter().enumerate() {
            (args.b[t], args.c[t]) = (self.place(pair.b)?.0, self.place(pair.c)?.0);
            args.b_layout[t] = layouts.of(pair.b) as u8;
            args.c_layout[t] = layouts.of(pair.c) as u8;
            for (s, a) in pair.left.iter().enumerate() {
                let Some(a) = a else { continue };
                args.a[t][s] = self.place(a)?.0;
                args.a_layout[t][s] = layouts.of(a) as u8;
                args.run[t][s] = (n / a.degree).ilog2() as u8;
            }
        }
        for (prime, limb) in args.prime.iter_mut().zip(limbs) {
            *prime = limb.0;
        }
        let list = match layouts.rows.is_empty() {
            true => vec![ABSENT],
            false => layouts.rows.concat(),
        };
        args.layouts = self.tables().list(&list)?.0;
        let threads = THREADS.min(n as u32 / 4);
        let grid = [n as u32 / 4 / threads, limbs.len() as u32, 1];
        // SAFETY: layouts name limbs that the operands have; the results are on all limbs.
        unsafe { self.launch("heron_shared_products", grid, threads, 0, &args) }
    }
}
