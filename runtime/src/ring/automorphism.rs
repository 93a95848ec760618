//! Galois automorphisms `X -> X^g`.

use super::context::{cached, RingContext};
use super::poly::{Form, RnsPoly};
use super::simd::{with_vectors, InstructionSet};
use rayon::prelude::*;
use std::sync::Arc;

/// An odd exponent `g` modulo 2N, naming the automorphism `X -> X^g`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GaloisElement(u32);

impl GaloisElement {
    /// The element `g mod 2N`, or `None` for even `g`.
    pub fn new(g: u64, log_n: u32) -> Option<Self> {
        (g % 2 == 1).then_some(Self((g % (2u64 << log_n)) as u32))
    }

    /// Rotation of the slots by `steps` to the left (slot `i` takes the value of slot `i + steps`): `5^steps mod 2N`.
    pub fn rotation(steps: i64, log_n: u32) -> Self {
        let mask = (2u64 << log_n) - 1;
        // 5 has order N/2 modulo 2N.
        let mut exponent = steps.rem_euclid(1i64 << (log_n - 1)) as u64;
        let (mut g, mut power) = (1u64, 5u64);
        while exponent > 0 {
            if exponent & 1 == 1 {
                g = (g * power) & mask;
            }
            power = (power * power) & mask;
            exponent >>= 1;
        }
        Self(g as u32)
    }

    /// Complex conjugation of the slots: `2N - 1`.
    pub fn conjugation(log_n: u32) -> Self {
        Self(((2u64 << log_n) - 1) as u32)
    }

    /// The exponent.
    pub fn value(self) -> u32 {
        self.0
    }

    /// The automorphism that undoes this one.
    pub fn inverse(self, log_n: u32) -> Self {
        // Newton's iteration doubles the correct low bits of an inverse modulo a power of two.
        let g = self.0;
        let mut x = g;
        for _ in 0..5 {
            x = x.wrapping_mul(2u32.wrapping_sub(g.wrapping_mul(x)));
        }
        Self(x & ((2u64 << log_n) - 1) as u32)
    }

    /// This automorphism after `other`.
    pub fn compose(self, other: Self, log_n: u32) -> Self {
        Self(((u64::from(self.0) * u64::from(other.0)) & ((2u64 << log_n) - 1)) as u32)
    }
}

impl RingContext {
    /// The polynomial `a(X^g)`, in the form of `a`.
    pub fn automorphism(&self, a: &RnsPoly, g: GaloisElement) -> RnsPoly {
        let mut result = RnsPoly::scratch(self, a.limbs(), a.form());
        let n = self.degree();
        match a.form() {
            Form::Evaluation => {
                let blocks = self.block_permutation(g);
                result
                    .data_mut()
                    .par_chunks_mut(n)
                    .zip(a.data().par_chunks(n))
                    .for_each(|(to, from)| blocks.apply(self.instruction_set(), to, from));
            }
            Form::Coefficient => {
                let limbs = a.limbs();
                result
                    .data_mut()
                    .par_chunks_mut(n)
                    .zip(a.data().par_chunks(n))
                    .zip(limbs)
                    .for_each(|((to, from), &id)| {
                        let modulus = self.modulus(id);
                        let mut exponent = 0usize;
                        for &word in from {
                            let sign_flips = exponent & n != 0;
                            to[exponent & (n - 1)] =
                                if sign_flips { modulus.neg(word) } else { word };
                            exponent = (exponent + g.value() as usize) & (2 * n - 1);
                        }
                    });
            }
        }
        result
    }

    /// The table of [`RingContext::evaluation_permutation`] in the form the kernels use, cached.
    pub(crate) fn block_permutation(&self, g: GaloisElement) -> Arc<BlockPermutation> {
        cached(self.permutation_cache(), &g.value(), || {
            BlockPermutation::new(self.log_n(), g)
        })
    }

    /// Table `source` with `a(X^g)[i] = a[source[i]]` in evaluation form; the same for every limb.
    pub fn evaluation_permutation(&self, g: GaloisElement) -> Vec<u32> {
        (0..self.degree() as u32)
            .map(|i| source_index(self.log_n(), g, i))
            .collect()
    }
}

/// Where word `i` of an automorphism's result comes from, in evaluation form.
fn source_index(log_n: u32, g: GaloisElement, i: u32) -> u32 {
    let reverse = |i: u32| i.reverse_bits() >> (32 - log_n);
    // Word i is the value at psi^point, and a(X^g) there is a at psi^(g point).
    let point = 2 * u64::from(reverse(i)) + 1;
    let image = (point * u64::from(g.value())) & ((2u64 << log_n) - 1);
    reverse(((image - 1) / 2) as u32)
}

/// Words that an automorphism in evaluation form keeps together.
pub(super) const RUN: usize = 16;

/// An automorphism in evaluation form as a permutation of runs of 16 words, each with one of at most 16 orders inside. Bit-reversed order makes
/// it so: the low bits of a word's index are the high bits of its exponent, and multiplication by g carries from low bits to high.
pub(crate) struct BlockPermutation {
    /// Per run of the result: source run times 16, plus the number of its order.
    runs: Vec<u32>,
    /// Per run of the source: where it goes, times 16, plus the number of its order.
    targets: Vec<u32>,
    orders: Vec<[u32; RUN]>,
}

impl BlockPermutation {
    fn new(log_n: u32, g: GaloisElement) -> Self {
        let mut orders: Vec<[u32; RUN]> = Vec::new();
        let runs: Vec<u32> = (0..1u32 << (log_n - 4))
            .map(|run| {
                let sources: [u32; RUN] =
                    std::array::from_fn(|l| source_index(log_n, g, 16 * run + l as u32));
                let order = sources.map(|s| s % 16);
                let number = orders.iter().position(|o| *o == order).unwrap_or_else(|| {
                    orders.push(order);
                    orders.len() - 1
                });
                sources[0] / 16 * 16 + number as u32
            })
            .collect();
        let mut targets = vec![0; runs.len()];
        for (to, &from) in (0u32..).zip(&runs) {
            targets[from as usize / RUN] = to * RUN as u32 + from % RUN as u32;
        }
        Self {
            runs,
            targets,
            orders,
        }
    }

    /// Per run of the source: where it goes, times 16, plus the number of its order.
    pub(super) fn targets(&self) -> &[u32] {
        &self.targets
    }

    /// The orders inside runs: word l of a run of the result is word `order[l]` of the source's run.
    pub(super) fn orders(&self) -> &[[u32; RUN]] {
        &self.orders
    }

    pub(crate) fn apply(&self, set: InstructionSet, to: &mut [u32], from: &[u32]) {
        assert!(to.len() == RUN * self.runs.len() && from.len() == to.len());
        let (runs, orders) = (&self.runs[..], &self.orders[..]);
        with_vectors!(
            set,
            fn kernel<V>(runs: &[u32], orders: &[[u32; RUN]], to: &mut [u32], from: &[u32]) {
                for (to, &run) in to.chunks_exact_mut(RUN).zip(runs) {
                    let source = &from[run as usize & !15..][..RUN];
                    let order = &orders[run as usize & 15];
                    // SAFETY: all three have 16 words; compiled with the set.
                    unsafe { V::permute_run(source.as_ptr(), to.as_mut_ptr(), order.as_ptr()) }
                }
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{random_poly, small_context};
    use super::*;

    #[test]
    fn both_forms_give_the_same_automorphism() {
        let context = small_context(11, 3);
        for g in [
            GaloisElement::rotation(1, 11),
            GaloisElement::rotation(-37, 11),
            GaloisElement::conjugation(11),
        ] {
            let a = random_poly(&context, &context.all_limbs(), Form::Coefficient, 5);
            let mut direct = context.automorphism(&a, g);
            let mut evaluated = a.clone();
            context.to_evaluation(&mut evaluated);
            let permuted = context.automorphism(&evaluated, g);
            context.to_evaluation(&mut direct);
            assert!(direct == permuted);
            assert!(context.automorphism(&permuted, g.inverse(11)) == evaluated);
        }
    }

    #[test]
    fn rotations_compose_additively() {
        let log_n = 12;
        let sum =
            GaloisElement::rotation(5, log_n).compose(GaloisElement::rotation(-9, log_n), log_n);
        assert_eq!(sum, GaloisElement::rotation(-4, log_n));
        assert_eq!(
            GaloisElement::rotation(1 << 11, log_n),
            GaloisElement::rotation(0, log_n)
        );
        assert_eq!(GaloisElement::new(4, log_n), None);
    }

    #[test]
    fn runs_of_sixteen_give_the_permutation_of_words_on_every_instruction_set() {
        for log_n in [8, 11, 16] {
            let n = 1u32 << log_n;
            let from: Vec<u32> = (0..n).collect();
            for g in [
                GaloisElement::rotation(1, log_n),
                GaloisElement::rotation(77, log_n),
                GaloisElement::conjugation(log_n),
            ] {
                let expected: Vec<u32> = (0..n).map(|i| source_index(log_n, g, i)).collect();
                let permutation = BlockPermutation::new(log_n, g);
                assert!(
                    permutation.orders.len() <= RUN,
                    "{} orders",
                    permutation.orders.len()
                );
                for set in InstructionSet::all_available() {
                    let mut to = vec![0; n as usize];
                    permutation.apply(set, &mut to, &from);
                    assert!(to == expected, "N = 2^{log_n}, {g:?}, {set:?}");
                }
            }
        }
    }
}
