//! Limb-wise arithmetic, parallel over limbs.
//!
//! A right-hand operand may hold more limbs than the left one, in any order: operands are matched by [`LimbId`].
//! Mismatched forms or missing limbs are bugs of the caller and panic.

use super::context::{LimbId, RingContext};
use super::kernels;
use super::poly::{Form, RnsPoly};
use super::words::LINE;
use num_bigint::BigInt;
use rayon::prelude::*;

/// Most pairs an [`RingContext::inner_product`] may sum: 240 products below 2^56 stay under `2^64 - 2^60`, the limit of the reduction.
pub const MAX_PAIRS: usize = 240;

/// Words of a limb worked on at a time where factors are shared or expanded: with eight shared pairs a block takes half a megabyte.
const SHARED_BLOCK: usize = 8192;

/// Words of one operand of each pair that are worked on together where sums of products share operands: a quarter of a megabyte, of which
/// half is read again.
const SHARED_WORDS: usize = 1 << 15;

/// Both halves of some polynomials, limb by limb: entry e holds limb e of each.
pub(crate) type LimbColumns<'a> = Vec<Vec<(&'a mut [u32], &'a mut [u32])>>;

/// The limbs of pairs of `limbs` limbs of n words each.
pub(crate) fn limb_columns(
    pairs: &mut [(RnsPoly, RnsPoly)],
    n: usize,
    limbs: usize,
) -> LimbColumns<'_> {
    let mut columns: LimbColumns<'_> = (0..limbs)
        .map(|_| Vec::with_capacity(pairs.len()))
        .collect();
    for (low, high) in pairs {
        let low = low.data_mut().chunks_mut(n);
        let halves = low.zip(high.data_mut().chunks_mut(n));
        for (column, pair) in columns.iter_mut().zip(halves) {
            column.push(pair);
        }
    }
    columns
}

impl RingContext {
    /// Coefficients to values, in place; nothing to do in evaluation form.
    pub fn to_evaluation(&self, a: &mut RnsPoly) {
        if a.form() == Form::Coefficient {
            self.each_limb(a, |id, limb| self.ntt_table(id).forward(limb));
            a.set_form(Form::Evaluation);
        }
    }

    /// Values to coefficients, in place; nothing to do in coefficient form.
    pub fn to_coefficient(&self, a: &mut RnsPoly) {
        if a.form() == Form::Evaluation {
            self.each_limb(a, |id, limb| self.ntt_table(id).inverse(limb));
            a.set_form(Form::Coefficient);
        }
    }

    /// Coefficients to values for one bare limb of N words.
    pub fn limb_to_evaluation(&self, id: LimbId, limb: &mut [u32]) {
        assert_eq!(limb.len(), self.degree());
        self.ntt_table(id).forward(limb);
    }

    /// Values to coefficients for one bare limb of N words.
    pub fn limb_to_coefficient(&self, id: LimbId, limb: &mut [u32]) {
        assert_eq!(limb.len(), self.degree());
        self.ntt_table(id).inverse(limb);
    }

    /// `a += b`.
    pub fn add_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        self.zip_limbs(a, b, |id, x, y| {
            kernels::add(self.instruction_set(), self.prime(id), x, y);
        });
    }

    /// `a -= b`.
    pub fn sub_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        self.zip_limbs(a, b, |id, x, y| {
            kernels::sub(self.instruction_set(), self.prime(id), x, y);
        });
    }

    /// `a = -a`.
    pub fn neg_assign(&self, a: &mut RnsPoly) {
        self.each_limb(a, |id, limb| {
            kernels::neg(self.instruction_set(), self.prime(id), limb);
        });
    }

    /// `a *= b`, both in evaluation form.
    pub fn mul_assign(&self, a: &mut RnsPoly, b: &RnsPoly) {
        assert_eq!(
            a.form(),
            Form::Evaluation,
            "products are taken in evaluation form"
        );
        self.zip_limbs(a, b, |id, x, y| {
            kernels::mul(self.instruction_set(), self.reducer(id), x, y);
        });
    }

    /// `a * b` on the limbs of `a`, both in evaluation form.
    pub fn mul(&self, a: &RnsPoly, b: &RnsPoly) -> RnsPoly {
        self.inner_product(&[(a, b)], a.limbs())
    }

    /// `acc += a * b` on the limbs of `acc`, all in evaluation form.
    pub fn mul_acc(&self, acc: &mut RnsPoly, a: &RnsPoly, b: &RnsPoly) {
        assert!(
            [acc.form(), a.form(), b.form()]
                .iter()
                .all(|&f| f == Form::Evaluation),
            "products are taken in evaluation form"
        );
        let (limbs, n) = (acc.limbs().to_vec(), self.degree());
        acc.data_mut()
            .par_chunks_mut(n)
            .zip(&limbs)
            .for_each(|(sum, &id)| {
                let (x, y) = (a.limb(a.require(id)), b.limb(b.require(id)));
                kernels::mul_acc(self.instruction_set(), self.reducer(id), sum, x, y);
            });
    }

    /// The sum of all products `a * b` on `limbs`: 64-bit sums, one reduction at the end. Evaluation form.
    ///
    /// # Panics
    /// If there are more than [`MAX_PAIRS`] pairs, or a pair lacks a limb or is in coefficient form.
    pub fn inner_product(&self, pairs: &[(&RnsPoly, &RnsPoly)], limbs: &[LimbId]) -> RnsPoly {
        let product = self.inner_products(&[pairs], limbs).pop();
        product.unwrap_or_else(|| RnsPoly::zero(self, limbs, Form::Evaluation))
    }

    /// Several [`RingContext::inner_product`]: what they share is read from memory once.
    ///
    /// # Panics
    /// As [`RingContext::inner_product`].
    pub fn inner_products(
        &self,
        sums: &[&[(&RnsPoly, &RnsPoly)]],
        limbs: &[LimbId],
    ) -> Vec<RnsPoly> {
        let most = sums.iter().map(|s| s.len()).max().unwrap_or(0);
        assert!(most <= MAX_PAIRS, "{most} pairs; at most {MAX_PAIRS}");
        let evaluated = |p: &RnsPoly| p.form() == Form::Evaluation;
        assert!(
            sums.iter()
                .flat_map(|s| s.iter())
                .all(|(a, b)| evaluated(a) && evaluated(b)),
            "products are taken in evaluation form"
        );
        let n = self.degree();
        let pairs: usize = sums.iter().map(|s| s.len()).sum();
        let block = match sums.len() {
            1 => n,
            _ => (SHARED_WORDS / pairs.next_power_of_two()).clamp(LINE, n),
        };
        let scratch = |_: &&[_]| RnsPoly::scratch(self, limbs, Form::Evaluation);
        let mut results: Vec<RnsPoly> = sums.iter().map(scratch).collect();
        let mut columns: Vec<Vec<&mut [u32]>> = limbs.iter().map(|_| Vec::new()).collect();
        for result in &mut results {
            let limbs = result.data_mut().chunks_mut(n);
            columns.iter_mut().zip(limbs).for_each(|(c, l)| c.push(l));
        }
        columns
            .into_par_iter()
            .zip(limbs)
            .for_each(|(mut column, &id)| {
                let piece = |p: &RnsPoly| p.require(id);
                let whole: Vec<Vec<(&[u32], &[u32])>> = sums
                    .iter()
                    .map(|pairs| {
                        let limbs = pairs.iter();
                        limbs
                            .map(|(a, b)| (a.limb(piece(a)), b.limb(piece(b))))
                            .collect()
                    })
                    .collect();
                for start in (0..n).step_by(block) {
                    let range = start..start + block;
                    for (pairs, to) in whole.iter().zip(&mut column) {
                        let rows: Vec<(&[u32], &[u32])> = pairs
                            .iter()
                            .map(|(a, b)| (&a[range.clone()], &b[range.clone()]))
                            .collect();
                        let to = &mut to[range.clone()];
                        kernels::inner_product(self.instruction_set(), self.reducer(id), to, &rows);
                    }
                }
            });
        results
    }

    /// Two inner products sharing their left factors, as in a key switch: `(sum a b, sum a c)` over triples `(a, b, c)`, on `limbs`.
    /// A left factor may be [`RnsPoly::compressed`].
    ///
    /// # Panics
    /// As [`RingContext::inner_product`].
    pub fn inner_product_pair(
        &self,
        triples: &[(&RnsPoly, &RnsPoly, &RnsPoly)],
        limbs: &[LimbId],
    ) -> (RnsPoly, RnsPoly) {
        let mut pairs = self.inner_product_pairs(&[triples], limbs).into_iter();
        pairs.next().unwrap_or_else(|| {
            let zero = || RnsPoly::zero(self, limbs, Form::Evaluation);
            (zero(), zero())
        })
    }

    /// Several [`RingContext::inner_product_pair`]: what they share is read from memory once.
    ///
    /// # Panics
    /// As [`RingContext::inner_product`].
    pub fn inner_product_pairs(
        &self,
        sums: &[&[(&RnsPoly, &RnsPoly, &RnsPoly)]],
        limbs: &[LimbId],
    ) -> Vec<(RnsPoly, RnsPoly)> {
        let most = sums.iter().map(|s| s.len()).max().unwrap_or(0);
        assert!(most <= MAX_PAIRS, "{most} triples; at most {MAX_PAIRS}");
        let evaluated = |p: &RnsPoly| p.form() == Form::Evaluation;
        assert!(
            sums.iter()
                .flat_map(|s| s.iter())
                .all(|(a, b, c)| evaluated(a) && evaluated(b) && evaluated(c)),
            "products are taken in evaluation form"
        );
        let n = self.degree();
        let compressed = |a: &RnsPoly| a.degree() < n;
        let any_compressed = sums
            .iter()
            .flat_map(|s| s.iter())
            .any(|(a, _, _)| compressed(a));
        // Shared factors and expanded runs of a block stay in the second-level cache.
        let block = match any_compressed || sums.len() > 1 {
            true => n.min(SHARED_BLOCK),
            false => n,
        };
        let scratch = || RnsPoly::scratch(self, limbs, Form::Evaluation);
        let mut results: Vec<_> = sums.iter().map(|_| (scratch(), scratch())).collect();
        limb_columns(&mut results, n, limbs.len())
            .into_par_iter()
            .zip(limbs)
            .for_each(|(mut column, &id)| {
                let mut expanded = vec![0u32; if any_compressed { block * most } else { 0 }];
                for start in (0..n).step_by(block) {
                    let range = start..start + block;
                    let piece = |p: &'_ RnsPoly| p.require(id);
                    for (triples, to) in sums.iter().zip(&mut column) {
                        let runs = expanded.chunks_mut(block);
                        for ((a, _, _), run) in triples.iter().zip(runs) {
                            if compressed(a) {
                                a.expand_limb(piece(a), n, start, run);
                            }
                        }
                        let rows: Vec<(&[u32], &[u32], &[u32])> = triples
                            .iter()
                            .enumerate()
                            .map(|(i, (a, b, c))| {
                                let a = match compressed(a) {
                                    true => &expanded[i * block..(i + 1) * block],
                                    false => &a.limb(piece(a))[range.clone()],
                                };
                                (
                                    a,
                                    &b.limb(piece(b))[range.clone()],
                                    &c.limb(piece(c))[range.clone()],
                                )
                            })
                            .collect();
                        let to = (&mut to.0[range.clone()], &mut to.1[range.clone()]);
                        self.limb_inner_product_pair(id, to, &rows);
                    }
                }
            });
        results
    }

    /// The two inner products of [`RingContext::inner_product_pair`] for one bare limb: `to = sum a (b, c)` over triples `(a, b, c)`.
    ///
    /// # Panics
    /// If lengths differ, are no multiple of 16, or there are more than [`MAX_PAIRS`] triples.
    pub fn limb_inner_product_pair(
        &self,
        id: LimbId,
        to: (&mut [u32], &mut [u32]),
        triples: &[(&[u32], &[u32], &[u32])],
    ) {
        kernels::inner_product_pair(self.instruction_set(), self.reducer(id), to, triples);
    }

    /// `to += from * factor` for one bare limb, `factor` below the prime.
    ///
    /// # Panics
    /// If lengths differ or are no multiple of 16.
    pub fn limb_add_scaled(&self, id: LimbId, to: &mut [u32], from: &[u32], factor: u32) {
        let q = self.modulus(id);
        kernels::add_scaled(self.instruction_set(), q.value(), to, from, q.shoup(factor));
    }

    /// Multiplies the limb at each storage position by its own constant (any 32-bit word, reduced first).
    ///
    /// # Panics
    /// If there is not one constant per limb.
    pub fn mul_scalar_assign(&self, a: &mut RnsPoly, constants: &[u32]) {
        assert_eq!(constants.len(), a.limb_count(), "one constant per limb");
        let (limbs, n) = (a.limbs().to_vec(), self.degree());
        a.data_mut()
            .par_chunks_mut(n)
            .zip(limbs)
            .zip(constants)
            .for_each(|((limb, id), &c)| {
                let q = *self.modulus(id);
                let factor = q.shoup(c);
                kernels::scale_in_place(self.instruction_set(), q.value(), limb, factor);
            });
    }

    /// `a *= factor` for any integer.
    pub fn mul_integer_assign(&self, a: &mut RnsPoly, factor: &BigInt) {
        let constants = self.residues(factor, a.limbs());
        self.mul_scalar_assign(a, &constants);
    }

    /// Adds the constant polynomial whose residue at each storage position is given (reduced first).
    ///
    /// # Panics
    /// If there is not one constant per limb.
    pub fn add_scalar_assign(&self, a: &mut RnsPoly, constants: &[u32]) {
        assert_eq!(constants.len(), a.limb_count(), "one constant per limb");
        let (limbs, n, form) = (a.limbs().to_vec(), self.degree(), a.form());
        a.data_mut()
            .par_chunks_mut(n)
            .zip(limbs)
            .zip(constants)
            .for_each(|((limb, id), &c)| {
                let q = *self.modulus(id);
                let c = q.reduce_u64(u64::from(c));
                match form {
                    Form::Coefficient => limb[0] = q.add(limb[0], c),
                    Form::Evaluation => {
                        kernels::add_constant(self.instruction_set(), q.value(), limb, c);
                    }
                }
            });
    }

    /// `a += constant` for any integer.
    pub fn add_integer_assign(&self, a: &mut RnsPoly, constant: &BigInt) {
        let constants = self.residues(constant, a.limbs());
        self.add_scalar_assign(a, &constants);
    }

    /// Residues in `[0, q)` of an integer, one per limb.
    pub fn residues(&self, x: &BigInt, limbs: &[LimbId]) -> Vec<u32> {
        limbs
            .iter()
            .map(|&id| {
                let q = BigInt::from(self.prime(id));
                let r = ((x % &q) + &q) % &q;
                // r < q < 2^28 always fits; zero keeps the function total.
                u32::try_from(r).unwrap_or(0)
            })
            .collect()
    }

    /// Calls `f` on every limb in parallel.
    pub(crate) fn each_limb(&self, a: &mut RnsPoly, f: impl Fn(LimbId, &mut [u32]) + Sync) {
        assert_eq!(a.degree(), self.degree(), "polynomial of another ring");
        let (limbs, n) = (a.limbs().to_vec(), self.degree());
        a.data_mut()
            .par_chunks_mut(n)
            .zip(limbs)
            .for_each(|(limb, id)| f(id, limb));
    }

    fn zip_limbs(
        &self,
        a: &mut RnsPoly,
        b: &RnsPoly,
        f: impl Fn(LimbId, &mut [u32], &[u32]) + Sync,
    ) {
        assert_eq!(a.form(), b.form(), "operands in different forms");
        self.each_limb(a, |id, x| f(id, x, b.limb(b.require(id))));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_poly, small_context};
    use super::*;

    #[test]
    fn sums_of_products_taken_together_are_those_of_single_products() {
        let ring = small_context(10, 2);
        let limbs = ring.all_limbs();
        let polys: Vec<RnsPoly> = (0..6)
            .map(|seed| random_poly(&ring, &limbs, Form::Evaluation, seed))
            .collect();
        // 40 pairs in all: more than one block.
        let pairs = |from: usize, many: usize| -> Vec<(&RnsPoly, &RnsPoly)> {
            let each = (from..from + many).map(|i| (&polys[i % 6], &polys[i * 5 % 6]));
            each.collect()
        };
        let sums = [pairs(0, 12), pairs(3, 27), pairs(1, 1), Vec::new()];
        let borrowed: Vec<&[(&RnsPoly, &RnsPoly)]> = sums.iter().map(Vec::as_slice).collect();
        let found = ring.inner_products(&borrowed, &limbs);
        for (pairs, found) in sums.iter().zip(&found) {
            let mut expected = RnsPoly::zero(&ring, &limbs, Form::Evaluation);
            for (a, b) in pairs {
                let mut product = (*a).clone();
                ring.mul_assign(&mut product, b);
                ring.add_assign(&mut expected, &product);
            }
            assert!(found == &expected);
            assert!(ring.inner_product(pairs, &limbs) == expected);
        }
    }
}
