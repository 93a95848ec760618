//! Rational rescaling: multiply by the limbs that enter, divide by the limbs that leave, round to nearest.
//!
//! From the row `hi` to the row `lo`, with `In = lo \ hi`, `Out = hi \ lo` and an optional integer factor `c`, a polynomial `x` becomes
//! `round(x c prod(In) / prod(Out))`. Entering limbs start at zero, because `x prod(In)` is divisible by their primes
//! (Samardzic et al.; Cheddar 2407.13055). The remainder modulo `prod(Out)` is centred and lifted exactly, then subtracted before the
//! exact division. With `Out` the special limbs and `In` empty this is the ModDown of hybrid key switching (Han, Ki 2019/688).

use super::context::{cached, LimbId, RingContext};
use super::error::RingError;
use super::extension::Extension;
use super::kernels;
use super::poly::{Form, RnsPoly};
use super::pool::Buffer;
use super::words::{opposite, SETS};
use num_bigint::{BigInt, BigUint};
use rayon::prelude::*;
use std::sync::Arc;

/// Tables of one transition between limb sets.
pub struct Rescale {
    leaving: Vec<LimbId>,
    /// `-remainder / prod(Out)` on all limbs of `lo`; absent when no limb leaves.
    pub(crate) extension: Option<Arc<Extension>>,
    /// `prod(In) mod q` per leaving limb.
    leaving_factor: Vec<u32>,
    /// Per limb of `lo`: `prod(In) / prod(Out) mod q` for limbs of `hi`, `None` for an entering limb.
    pub(crate) kept_factor: Vec<Option<u32>>,
}

impl Rescale {
    fn new(context: &RingContext, hi: &[LimbId], lo: &[LimbId]) -> Result<Self, RingError> {
        context.check_limbs(hi)?;
        context.check_limbs(lo)?;
        let leaving: Vec<LimbId> = hi.iter().copied().filter(|l| !lo.contains(l)).collect();
        let entering: Vec<LimbId> = lo.iter().copied().filter(|l| !hi.contains(l)).collect();
        let extension = if leaving.is_empty() {
            None
        } else {
            Some(context.extension_of(&leaving, lo, true)?)
        };
        let product_mod = |limbs: &[LimbId], id: LimbId| {
            let modulus = context.modulus(id);
            limbs.iter().fold(1, |product, &l| {
                modulus.mul(product, modulus.reduce_u64(u64::from(context.prime(l))))
            })
        };
        let leaving_factor = leaving.iter().map(|&l| product_mod(&entering, l)).collect();
        let kept_factor = lo
            .iter()
            .map(|&l| {
                hi.contains(&l).then(|| {
                    let modulus = context.modulus(l);
                    // l is not a leaving limb, so the product of those is invertible.
                    modulus.mul(
                        product_mod(&entering, l),
                        modulus.inv(product_mod(&leaving, l)).unwrap_or(0),
                    )
                })
            })
            .collect();
        Ok(Self {
            leaving,
            extension,
            leaving_factor,
            kept_factor,
        })
    }

    /// The limbs divided out.
    pub fn leaving(&self) -> &[LimbId] {
        &self.leaving
    }

    /// What the coefficients of the leaving limbs are multiplied by before [`Rescale::corrections`].
    pub(crate) fn leaving_factors(
        &self,
        context: &RingContext,
        factor: Option<&BigInt>,
    ) -> Vec<u32> {
        let residues = factor.map(|c| context.residues(c, &self.leaving));
        let multiplier = |(i, (&l, &f)): (usize, (&LimbId, &u32))| match &residues {
            None => f,
            Some(residues) => context.modulus(l).mul(f, residues[i]),
        };
        let leaving = self.leaving.iter().zip(&self.leaving_factor);
        let multipliers: Vec<u32> = leaving.enumerate().map(multiplier).collect();
        match &self.extension {
            None => Vec::new(),
            Some(extension) => extension.source_factors(context, Some(&multipliers)),
        }
    }

    /// Minus the centred remainder over the divisor, on the limbs of `lo` (coefficients), from the scaled coefficients of the leaving limbs.
    fn corrections(&self, context: &RingContext, remainder: &RnsPoly, to: &mut [u32]) {
        if let Some(extension) = &self.extension {
            let limbs = 0..remainder.limb_count();
            let rows: Vec<&[u32]> = limbs.map(|i| remainder.limb(i)).collect();
            extension.run(context, &rows, to);
        }
    }

    /// The values of a limb's corrections, from their coefficients.
    fn evaluate(&self, context: &RingContext, id: LimbId, from: &[u32], to: &mut [u32]) {
        match &self.extension {
            Some(_) => context.ntt_table(id).forward_from(from, to),
            None => to.fill(0),
        }
    }

    /// Finishes one limb: from its correction to the quotient, `value` being what is divided on that limb (not read where it enters).
    fn finish(
        &self,
        context: &RingContext,
        (position, id): (usize, LimbId),
        constant: Option<u32>,
        value: Option<&[u32]>,
        to: &mut [u32],
    ) {
        match &self.extension {
            Some(_) => context.ntt_table(id).forward(to),
            None => to.fill(0),
        }
        if let (Some(kept), Some(from)) = (self.kept_factor[position], value) {
            let modulus = context.modulus(id);
            let kept = modulus.shoup(constant.map_or(kept, |c| modulus.mul(kept, c)));
            let set = context.instruction_set();
            kernels::add_scaled(set, modulus.value(), to, from, kept);
        }
    }
}

/// Limb by limb, the same limb of each polynomial.
fn each_limb_of(
    polys: &mut [RnsPoly],
    n: usize,
) -> impl IndexedParallelIterator<Item = (usize, Vec<&mut [u32]>)> {
    let limbs = polys.first().map_or(0, RnsPoly::limb_count);
    let mut columns: Vec<Vec<&mut [u32]>> = (0..limbs).map(|_| Vec::new()).collect();
    for poly in polys {
        let limbs = poly.data_mut().chunks_mut(n);
        columns.iter_mut().zip(limbs).for_each(|(c, l)| c.push(l));
    }
    columns.into_par_iter().enumerate()
}

/// The limbs of two polynomials, side by side.
fn limb_pairs(
    (low, high): &mut (RnsPoly, RnsPoly),
    n: usize,
) -> impl Iterator<Item = (&mut [u32], &mut [u32])> {
    let low = low.data_mut().chunks_mut(n);
    low.zip(high.data_mut().chunks_mut(n))
}

/// A limb of a quotient before it is finished: factor times the dividend's limb, plus the correction.
pub(crate) struct Kept<'a> {
    /// The limb's position among those of the dividend, and what its residues are multiplied by; none where the limb enters.
    pub from: Option<(usize, u32)>,
    /// Minus the centred remainders over the divisor, in evaluation form; none where they are in place already.
    pub corrections: Option<[&'a [u32]; 2]>,
}

impl RingContext {
    /// The tables from row `hi` to row `lo`, cached.
    ///
    /// # Errors
    /// If a limb does not exist or more limbs leave than one basis extension takes.
    pub fn rescale(&self, hi: &[LimbId], lo: &[LimbId]) -> Result<Arc<Rescale>, RingError> {
        let key = (hi.to_vec(), lo.to_vec());
        if let Ok(map) = self.rescale_cache().lock() {
            if let Some(found) = map.get(&key) {
                return Ok(Arc::clone(found));
            }
        }
        let built = Rescale::new(self, hi, lo)?;
        Ok(cached(self.rescale_cache(), &key, || built))
    }

    /// `round(a * factor * prod(lo \ hi) / prod(hi \ lo))` on the limbs `lo`, where `hi` are the limbs of `a`; evaluation form in and out.
    /// The quotient is the nearest integer, except that a remainder within `k 2^-30` of one half (relative; `k` leaving limbs) may round
    /// either way, the same way everywhere (see [`super::extension`]).
    ///
    /// # Errors
    /// As [`RingContext::rescale`].
    ///
    /// # Panics
    /// If `a` is in coefficient form.
    pub fn divide_and_round(
        &self,
        a: &RnsPoly,
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<RnsPoly, RingError> {
        let [result] = self.divide_and_round_all([a], lo, factor)?;
        Ok(result)
    }

    /// [`RingContext::divide_and_round`] of several polynomials on the same limbs, limb by limb so that they share tables.
    ///
    /// # Errors
    /// As [`RingContext::rescale`].
    ///
    /// # Panics
    /// If one is in coefficient form or their limbs differ.
    pub fn divide_and_round_all<const K: usize>(
        &self,
        polys: [&RnsPoly; K],
        lo: &[LimbId],
        factor: Option<&BigInt>,
    ) -> Result<[RnsPoly; K], RingError> {
        let hi = polys.first().map_or(lo, |a| a.limbs());
        for a in polys {
            assert_eq!(a.form(), Form::Evaluation, "rescaling reads values");
            assert_eq!(a.limbs(), hi, "polynomials on the same limbs");
        }
        let tables = self.rescale(hi, lo)?;
        let mut results = polys.map(|_| RnsPoly::scratch(self, lo, Form::Evaluation));
        let factors = tables.leaving_factors(self, factor);
        for (a, result) in polys.iter().zip(&mut results) {
            let remainder = self.scaled_coefficients(a, &tables.leaving, &factors);
            tables.corrections(self, &remainder, result.data_mut());
        }
        let constants = factor.map(|c| self.residues(c, lo));
        each_limb_of(&mut results, self.degree()).for_each(|(position, column)| {
            let id = lo[position];
            let constant = constants.as_ref().map(|c| c[position]);
            for (to, a) in column.into_iter().zip(polys) {
                tables.finish(self, (position, id), constant, a.limb_of(id), to);
            }
        });
        Ok(results)
    }

    /// [`RingContext::divide_and_round_all`] of two polynomials on `hi` that are made limb by limb: `leave` writes a limb that is divided out
    /// (by its position in `hi`), `keep` finishes one of `lo`, from what [`Kept`] says to its two places, which hold the corrections
    /// unless it is to read those `apart`.
    ///
    /// # Errors
    /// As [`RingContext::rescale`].
    pub(crate) fn divide_and_round_made(
        &self,
        (hi, lo): (&[LimbId], &[LimbId]),
        apart: bool,
        leave: impl Fn(usize, &mut [u32], &mut [u32]) + Sync,
        keep: impl Fn(LimbId, Kept<'_>, (&mut [u32], &mut [u32])) + Sync,
    ) -> Result<(RnsPoly, RnsPoly), RingError> {
        let tables = self.rescale(hi, lo)?;
        let n = self.degree();
        let both = |limbs: &[LimbId], form| {
            let one = || RnsPoly::scratch(self, limbs, form);
            (one(), one())
        };
        // What is divided out comes first; the other limbs are made when their corrections are there, so that nothing of them is stored.
        let mut remainders = both(&tables.leaving, Form::Coefficient);
        let factors = tables.leaving_factors(self, None);
        let leaving = tables.leaving.iter().zip(factors);
        let jobs: Vec<_> = leaving.zip(limb_pairs(&mut remainders, n)).collect();
        jobs.into_par_iter()
            .for_each(|((&id, factor), (low, high))| {
                let mut made = Buffer::scratch(2 * n);
                let (first, second) = made.split_at_mut(n);
                let position = hi.iter().position(|&l| l == id);
                position.into_iter().for_each(|e| leave(e, first, second));
                let table = self.ntt_table(id);
                table.inverse_scaled(first, low, factor);
                table.inverse_scaled(second, high, factor);
            });
        let mut corrections = both(lo, Form::Evaluation);
        tables.corrections(self, &remainders.0, corrections.0.data_mut());
        tables.corrections(self, &remainders.1, corrections.1.data_mut());
        drop(remainders);
        let at = |position: usize| {
            let index = hi.iter().position(|&l| l == lo[position]);
            index.zip(tables.kept_factor[position])
        };
        let jobs: Vec<_> = limb_pairs(&mut corrections, n).collect();
        jobs.into_par_iter()
            .enumerate()
            .for_each(|(position, (low, high))| {
                let (id, from) = (lo[position], at(position));
                if !apart {
                    tables.finish(self, (position, id), None, None, low);
                    tables.finish(self, (position, id), None, None, high);
                    let corrections = None;
                    keep(id, Kept { from, corrections }, (low, high));
                    return;
                }
                // Values stay in the second-level cache until the limb is made where the coefficients were.
                let mut values = Buffer::scratch(2 * (n + SETS));
                let (first, second) = values.split_at_mut(n + SETS);
                let (first, second) = (opposite(first, low), opposite(second, high));
                tables.evaluate(self, id, low, first);
                tables.evaluate(self, id, high, second);
                let corrections = Some([&*first, &*second]);
                keep(id, Kept { from, corrections }, (low, high));
            });
        Ok(corrections)
    }

    /// `prod(lo \ hi) / prod(hi \ lo)` as (numerator, denominator): what [`RingContext::divide_and_round`] multiplies values by.
    pub fn rescale_ratio(&self, hi: &[LimbId], lo: &[LimbId]) -> (BigUint, BigUint) {
        let without = |from: &[LimbId], other: &[LimbId]| {
            let kept: Vec<LimbId> = from
                .iter()
                .copied()
                .filter(|l| !other.contains(l))
                .collect();
            self.product(&kept)
        };
        (without(lo, hi), without(hi, lo))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{centred, random_poly, reconstruct, residue, small_context};
    use super::*;

    /// Nearest integer to a/b for b > 0 and odd (no ties).
    fn nearest(a: &BigInt, b: &BigInt) -> BigInt {
        let doubled: BigInt = a * 2 + b;
        let divisor: BigInt = b * 2;
        let quotient = &doubled / &divisor;
        if (&doubled % &divisor) < BigInt::ZERO {
            quotient - 1
        } else {
            quotient
        }
    }

    #[test]
    fn rescaling_equals_the_exact_rounded_quotient() {
        let context = small_context(11, 14);
        let l: Vec<LimbId> = context.all_limbs();
        let rows: [(&[LimbId], Vec<LimbId>, Option<BigInt>); 5] = [
            (&l[..6], l[..5].to_vec(), None),
            (
                &l[..8],
                l[..4].to_vec(),
                Some(BigInt::from(12_345_678_901_234i64)),
            ),
            (&l[2..9], [&l[3..6], &l[10..12]].concat(), None),
            (
                &l[2..9],
                vec![l[1], l[13], l[4], l[3]],
                Some(BigInt::from(-77)),
            ),
            (&l[..3], l[..5].to_vec(), Some(BigInt::from(5))),
        ];
        for (hi, lo, factor) in rows {
            let a = random_poly(&context, hi, Form::Evaluation, 3);
            let mut scaled = context.divide_and_round(&a, &lo, factor.as_ref()).unwrap();
            context.to_coefficient(&mut scaled);
            let mut coefficients = a.clone();
            context.to_coefficient(&mut coefficients);
            let (numerator, denominator) = context.rescale_ratio(hi, &lo);
            let multiplier = BigInt::from(numerator) * factor.clone().unwrap_or(BigInt::from(1));
            for j in (0..context.degree()).step_by(3) {
                let x = centred(
                    &reconstruct(&context, &coefficients, j),
                    &context.product(hi),
                );
                let expected = nearest(&(x * &multiplier), &BigInt::from(denominator.clone()));
                for (position, &id) in lo.iter().enumerate() {
                    assert_eq!(
                        scaled.limb(position)[j],
                        residue(&expected, context.prime(id)),
                        "lo {lo:?}, j {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_instruction_set_or_thread_count() {
        use super::super::testing::sheet_primes;
        use super::super::{GaloisElement, InstructionSet};
        let primes: Vec<u32> = sheet_primes().into_iter().step_by(16).collect();
        let mut expected: Option<[RnsPoly; 4]> = None;
        for set in InstructionSet::all_available() {
            for threads in [1, 3] {
                let context = RingContext::with_instruction_set(12, &primes, set).unwrap();
                assert_eq!(context.instruction_set(), set);
                let l = context.all_limbs();
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                let results = pool.install(|| {
                    let a = random_poly(&context, &l[..11], Form::Evaluation, 8);
                    let rescaled = context
                        .divide_and_round(&a, &l[5..13], Some(&BigInt::from(-991)))
                        .unwrap();
                    let mut coefficients = a.clone();
                    context.to_coefficient(&mut coefficients);
                    let extended = context.extend(&coefficients, &l[9..16]).unwrap();
                    let rotated = context.automorphism(&a, GaloisElement::rotation(9, 12));
                    let (mut sum, other) = context
                        .inner_product_pair(&[(&a, &rotated, &a), (&rotated, &a, &a)], &l[2..9]);
                    context.add_assign(&mut sum, &other);
                    [rescaled, extended, rotated, sum]
                });
                match &expected {
                    None => expected = Some(results),
                    Some(first) => assert!(*first == results, "{set:?}, {threads} threads"),
                }
            }
        }
    }
}
