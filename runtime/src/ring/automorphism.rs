//! Galois automorphisms `X -> X^g`.

use super::context::{cached, RingContext};
use super::poly::{Form, RnsPoly};
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
                let source = self.evaluation_permutation(g);
                result
                    .data_mut()
                    .par_chunks_mut(n)
                    .zip(a.data().par_chunks(n))
                    .for_each(|(to, from)| {
                        for (word, &j) in to.iter_mut().zip(source.iter()) {
                            *word = from[j as usize];
                        }
                    });
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

    /// Table `source` with `a(X^g)[i] = a[source[i]]` in evaluation form; the same for every limb, cached.
    pub fn evaluation_permutation(&self, g: GaloisElement) -> Arc<Vec<u32>> {
        cached(self.permutation_cache(), &g.value(), || {
            let (n, log_n) = (self.degree() as u32, self.log_n());
            let reverse = |i: u32| i.reverse_bits() >> (32 - log_n);
            (0..n)
                .map(|i| {
                    let point = 2 * reverse(i) + 1;
                    let image = (u64::from(point) * u64::from(g.value())) & (2 * u64::from(n) - 1);
                    reverse(((image - 1) / 2) as u32)
                })
                .collect()
        })
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
}
