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
use num_bigint::{BigInt, BigUint};
use rayon::prelude::*;
use std::sync::Arc;

/// Tables of one transition between limb sets.
pub struct Rescale {
    leaving: Vec<LimbId>,
    /// `-remainder / prod(Out)` on all limbs of `lo`; absent when no limb leaves.
    extension: Option<Arc<Extension>>,
    /// `prod(In) mod q` per leaving limb.
    leaving_factor: Vec<u32>,
    /// Per limb of `lo`: `prod(In) / prod(Out) mod q` for limbs of `hi`, `None` for an entering limb.
    kept_factor: Vec<Option<u32>>,
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
        assert_eq!(a.form(), Form::Evaluation, "rescaling reads values");
        let tables = self.rescale(a.limbs(), lo)?;
        let n = self.degree();
        let mut result = RnsPoly::scratch(self, lo, Form::Evaluation);

        if let Some(extension) = &tables.extension {
            let mut remainder = a.select(&tables.leaving);
            self.to_coefficient(&mut remainder);
            let rows: Vec<&[u32]> = (0..remainder.limb_count())
                .map(|i| remainder.limb(i))
                .collect();
            let multipliers: Vec<u32> = match factor {
                None => tables.leaving_factor.clone(),
                Some(c) => {
                    let residues = self.residues(c, &tables.leaving);
                    tables
                        .leaving
                        .iter()
                        .zip(&tables.leaving_factor)
                        .zip(residues)
                        .map(|((&l, &f), c)| self.modulus(l).mul(f, c))
                        .collect()
                }
            };
            extension.run(self, Some(&multipliers), &rows, result.data_mut());
        }

        let constants = factor.map(|c| self.residues(c, lo));
        let divided = tables.extension.is_some();
        result
            .data_mut()
            .par_chunks_mut(n)
            .enumerate()
            .for_each(|(position, to)| {
                let id = lo[position];
                let modulus = *self.modulus(id);
                if divided {
                    self.ntt_table(id).forward(to);
                } else {
                    to.fill(0);
                }
                if let Some(kept) = tables.kept_factor[position] {
                    let kept = modulus.shoup(
                        constants
                            .as_ref()
                            .map_or(kept, |c| modulus.mul(kept, c[position])),
                    );
                    let from = a.limb(a.require(id));
                    kernels::add_scaled(self.instruction_set(), modulus.value(), to, from, kept);
                }
            });
        Ok(result)
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
