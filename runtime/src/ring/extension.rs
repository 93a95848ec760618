//! Basis extension: residues modulo some primes become residues modulo others.
//!
//! For `x` modulo `D = q_1 ... q_k`, with `y_i = x (D/q_i)^-1 mod q_i`, the integer `sum y_i D/q_i - u D` is the representative
//! of `x` nearest zero when `u = round(sum y_i/q_i)`: exact and centred, not the approximate conversion that leaves a multiple of
//! `D` (compare Halevi, Polyakov, Shoup 2018/117, who compute `u` in floating point).
//!
//! `u` is found in fixed point: `y_i/q_i` is `y_i * round(2^57/q_i)`, off by at most `2^-30`, so `u` is right unless `x/D` is within
//! `k 2^-30` of a half; there the result is the other neighbour, still a lift of size at most `(1/2 + k 2^-30) D`. The rule is
//! part of the meaning of the operation: every back end computes the same `u`.

use super::context::{cached, LimbId, RingContext};
use super::error::RingError;
use super::matrix;
use super::poly::{Form, RnsPoly};
use super::simd::Reducer;
#[cfg(target_arch = "x86_64")]
use super::tiles::Tiles;
use crate::arith::Modulus;
use rayon::prelude::*;
use std::sync::Arc;

/// Most source limbs: 64 products below 2^56 and 64 terms of the quotient fit their words.
pub const MAX_SOURCE_LIMBS: usize = 64;
/// Fraction bits of the fixed-point quotient.
pub const QUOTIENT_BITS: u32 = 57;

/// Tables to carry residues from one set of limbs to another.
pub struct Extension {
    source: Vec<LimbId>,
    /// `(D/q_i)^-1 mod q_i`.
    pub(crate) cofactor_inverse: Vec<u32>,
    /// `round(2^57 / q_i)`, below 2^57.
    pub(crate) reciprocal: Vec<u64>,
    pub(crate) columns: Vec<Column>,
    /// The columns as a matrix unit reads them, where there is one and it pays.
    #[cfg(target_arch = "x86_64")]
    tiles: Option<Tiles>,
}

/// How one target prime `p` receives the sum.
pub(crate) struct Column {
    pub reducer: Reducer,
    /// Multipliers of `y_i` modulo `p`, times 2^32 for the Montgomery reduction of the sum.
    pub weights: Vec<u32>,
    /// Multiplier of `u` modulo `p`, times 2^32.
    pub correction: u32,
}

impl Extension {
    /// `divided = false`: the result is the lift itself. `divided = true`: the result is `-lift / D mod p`, for which `p` must not divide `D`.
    pub(crate) fn new(
        context: &RingContext,
        source: &[LimbId],
        target: &[LimbId],
        divided: bool,
    ) -> Result<Self, RingError> {
        context.check_limbs(source)?;
        context.check_limbs(target)?;
        let distinct = source
            .iter()
            .enumerate()
            .all(|(i, l)| !source[..i].contains(l));
        if source.is_empty() || source.len() > MAX_SOURCE_LIMBS || !distinct {
            return Err(RingError::Source {
                count: source.len(),
                max: MAX_SOURCE_LIMBS,
            });
        }
        let primes: Vec<u32> = source.iter().map(|&l| context.prime(l)).collect();
        let product_without = |modulus: &Modulus, skipped: Option<usize>| {
            primes
                .iter()
                .enumerate()
                .filter(|&(i, _)| Some(i) != skipped)
                .fold(1, |product, (_, &q)| {
                    modulus.mul(product, modulus.reduce_u64(u64::from(q)))
                })
        };
        let cofactor_inverse = source
            .iter()
            .enumerate()
            .map(|(i, &l)| {
                let modulus = context.modulus(l);
                // Distinct primes: the cofactor is invertible.
                modulus.inv(product_without(modulus, Some(i))).unwrap_or(0)
            })
            .collect();
        let reciprocal = primes
            .iter()
            .map(|&q| ((1u64 << QUOTIENT_BITS) + u64::from(q) / 2) / u64::from(q))
            .collect();
        let columns: Vec<Column> = target
            .iter()
            .map(|&l| {
                let modulus = *context.modulus(l);
                let reducer = *context.reducer(l);
                let weight = |i: usize| {
                    if divided {
                        let inverse = modulus
                            .inv(modulus.reduce_u64(u64::from(primes[i])))
                            .unwrap_or(0);
                        modulus.neg(inverse)
                    } else {
                        product_without(&modulus, Some(i))
                    }
                };
                let correction = if divided {
                    1
                } else {
                    modulus.neg(product_without(&modulus, None))
                };
                let radix = modulus.reduce_u64(1 << 32);
                Column {
                    reducer,
                    weights: (0..primes.len())
                        .map(|i| modulus.mul(weight(i), radix))
                        .collect(),
                    correction: modulus.mul(correction, radix),
                }
            })
            .collect();
        Ok(Self {
            source: source.to_vec(),
            cofactor_inverse,
            #[cfg(target_arch = "x86_64")]
            tiles: Tiles::new(context.instruction_set(), &columns),
            reciprocal,
            columns,
        })
    }

    /// Limbs the residues come from.
    pub fn source(&self) -> &[LimbId] {
        &self.source
    }

    /// What source residues are multiplied by before [`Extension::run`]: the inverse cofactors, times `multipliers`.
    pub(crate) fn source_factors(
        &self,
        context: &RingContext,
        multipliers: Option<&[u32]>,
    ) -> Vec<u32> {
        let with = |(i, &inverse): (usize, &u32)| {
            let extra = multipliers.map_or(1, |m| m[i]);
            context.modulus(self.source[i]).mul(inverse, extra)
        };
        self.cofactor_inverse.iter().enumerate().map(with).collect()
    }

    /// Writes the target rows, N words each, from the source rows times [`Extension::source_factors`].
    pub(crate) fn run(&self, context: &RingContext, scaled: &[&[u32]], target: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = &self.tiles {
            tiles.run(
                (&self.reciprocal, &self.columns),
                scaled,
                target,
                context.degree(),
            );
            return;
        }
        matrix::run(
            context.instruction_set(),
            &self.reciprocal,
            &self.columns,
            scaled,
            target,
            context.degree(),
        );
    }
}

impl RingContext {
    /// The tables for a pair of limb sets, cached.
    ///
    /// # Errors
    /// If a limb does not exist, or the source is empty, repeats a limb, or exceeds [`MAX_SOURCE_LIMBS`].
    pub fn extension(
        &self,
        source: &[LimbId],
        target: &[LimbId],
    ) -> Result<Arc<Extension>, RingError> {
        self.extension_of(source, target, false)
    }

    pub(crate) fn extension_of(
        &self,
        source: &[LimbId],
        target: &[LimbId],
        divided: bool,
    ) -> Result<Arc<Extension>, RingError> {
        let key = (source.to_vec(), target.to_vec(), divided);
        if let Ok(map) = self.extension_cache().lock() {
            if let Some(found) = map.get(&key) {
                return Ok(Arc::clone(found));
            }
        }
        let built = Extension::new(self, source, target, divided)?;
        Ok(cached(self.extension_cache(), &key, || built))
    }

    /// The centred lift of `a` (coefficient form, all its limbs) as residues modulo `target`, in coefficient form.
    ///
    /// # Errors
    /// As [`RingContext::extension`].
    ///
    /// # Panics
    /// If `a` is in evaluation form.
    pub fn extend(&self, a: &RnsPoly, target: &[LimbId]) -> Result<RnsPoly, RingError> {
        assert_eq!(
            a.form(),
            Form::Coefficient,
            "a basis extension reads coefficients"
        );
        let tables = self.extension(a.limbs(), target)?;
        let mut scaled = a.clone();
        self.mul_scalar_assign(&mut scaled, &tables.source_factors(self, None));
        self.extend_scaled(&scaled, a.limbs(), target)
    }

    /// [`RingContext::extend`] of some limbs of a polynomial that are already multiplied by the inverse cofactors
    /// ([`Extension::source_factors`]).
    ///
    /// # Errors
    /// As [`RingContext::extension`], or if `scaled` lacks a source limb.
    pub(crate) fn extend_scaled(
        &self,
        scaled: &RnsPoly,
        source: &[LimbId],
        target: &[LimbId],
    ) -> Result<RnsPoly, RingError> {
        let tables = self.extension(source, target)?;
        let rows = source
            .iter()
            .map(|&limb| {
                scaled.limb_of(limb).ok_or(RingError::MissingLimb {
                    limb,
                    held: scaled.limb_count(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut result = RnsPoly::scratch(self, target, Form::Coefficient);
        tables.run(self, &rows, result.data_mut());
        Ok(result)
    }

    /// The coefficients of some limbs of `a`, which is in evaluation form, each times its factor.
    ///
    /// # Panics
    /// If `a` lacks a limb or is in coefficient form.
    pub(crate) fn scaled_coefficients(
        &self,
        a: &RnsPoly,
        limbs: &[LimbId],
        factors: &[u32],
    ) -> RnsPoly {
        assert_eq!(a.form(), Form::Evaluation, "values become coefficients");
        let mut result = RnsPoly::scratch(self, limbs, Form::Coefficient);
        let each = limbs.par_iter().zip(factors);
        result
            .data_mut()
            .par_chunks_mut(self.degree())
            .zip(each)
            .for_each(|(to, (&id, &factor))| {
                let from = a.limb(a.require(id));
                self.ntt_table(id).inverse_scaled(from, to, factor);
            });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{centred, random_poly, reconstruct, residue, small_context};
    use super::*;

    #[test]
    fn extension_is_the_exact_centred_lift() {
        let context = small_context(11, 24);
        let limbs = context.all_limbs();
        for k in [1, 2, 5, 12] {
            let (source, target) = (&limbs[24 - k..], &limbs[..9]);
            let a = random_poly(&context, source, Form::Coefficient, k as u64);
            let extended = context.extend(&a, target).unwrap();
            let product = context.product(source);
            for j in 0..context.degree() {
                let lift = centred(&reconstruct(&context, &a, j), &product);
                for (position, &id) in target.iter().enumerate() {
                    assert_eq!(
                        extended.limb(position)[j],
                        residue(&lift, context.prime(id)),
                        "k = {k}, j = {j}"
                    );
                }
            }
        }
    }

    /// `cases`: numbers of source and of target limbs.
    fn assert_sets_extend_alike(log_n: u32, cases: &[(usize, usize)]) {
        use super::super::testing::sheet_primes;
        use super::super::{InstructionSet, Words};
        let primes: Vec<u32> = sheet_primes().into_iter().step_by(4).take(60).collect();
        let contexts: Vec<_> = InstructionSet::all_available()
            .into_iter()
            .map(|set| RingContext::with_instruction_set(log_n, &primes, set).unwrap())
            .collect();
        let l = contexts[0].all_limbs();
        for &(k, targets) in cases {
            for divided in [false, true] {
                let (source, target) = (&l[..k], &l[k..k + targets]);
                let a = random_poly(&contexts[0], source, Form::Coefficient, k as u64);
                let rows: Vec<&[u32]> = (0..k).map(|i| a.limb(i)).collect();
                let extend = |context: &std::sync::Arc<RingContext>| {
                    let mut to = Words::zeroed(targets << log_n);
                    let tables = context.extension_of(source, target, divided).unwrap();
                    tables.run(context, &rows, &mut to);
                    to
                };
                let expected = extend(&contexts[0]);
                for context in &contexts[1..] {
                    let set = context.instruction_set();
                    let alike = *extend(context) == *expected;
                    assert!(alike, "{set:?}, {k} to {targets}, {divided}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_extends_any_number_of_limbs_alike() {
        // Rows of sixteen and what is left; as many sources as one tile of bytes and two take, one less and one more.
        let one = [(1, 20), (7, 1), (8, 16), (9, 17), (14, 33), (15, 43)];
        let two = [(16, 43), (17, 1), (30, 16), (31, 29), (32, 3)];
        assert_sets_extend_alike(10, &one);
        assert_sets_extend_alike(10, &two);
    }

    #[test]
    fn every_instruction_set_extends_past_the_caches_alike() {
        assert_sets_extend_alike(14, &[(15, 43), (17, 41)]);
    }

    #[test]
    fn extension_keeps_limbs_common_to_both_sides() {
        let context = small_context(11, 6);
        let limbs = context.all_limbs();
        let a = random_poly(&context, &limbs[..4], Form::Coefficient, 9);
        let extended = context.extend(&a, &limbs[1..6]).unwrap();
        for position in 0..3 {
            assert_eq!(extended.limb(position), a.limb(position + 1));
        }
    }

    #[test]
    fn repeated_or_unknown_source_limbs_are_refused() {
        let context = small_context(11, 3);
        let l = LimbId;
        assert!(matches!(
            context.extension(&[l(0), l(0)], &[l(1)]),
            Err(RingError::Source { count: 2, .. })
        ));
        assert!(matches!(
            context.extension(&[], &[l(1)]),
            Err(RingError::Source { count: 0, .. })
        ));
        assert!(matches!(
            context.extension(&[l(0)], &[l(7)]),
            Err(RingError::UnknownLimb { .. })
        ));
    }
}
