//! Launches of sums of products.

use super::arguments::{ProductArgs, ABSENT, MAX_LIMBS, MAX_TERMS};
use super::core::Gpu;
use super::device::{Address, DeviceError};
use super::poly::GpuPoly;
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
