//! The secrets of a client. Nothing outside `client` may name these types' contents.

use crate::ring::{Form, GaloisElement, LimbId, RandomSource, RingContext, RnsPoly};
use crate::rlwe::RlweContext;
use heron_schedule::params::SecretKind;
use zeroize::{Zeroize, Zeroizing};

/// The main secret `s` and the ephemeral sparse secret `t`, as coefficients in {-1, 0, 1}. Wiped when dropped; neither `Debug` nor `Clone`.
pub struct SecretKey {
    main: Zeroizing<Vec<i8>>,
    ephemeral: Zeroizing<Vec<i8>>,
}

impl SecretKey {
    /// Draws both secrets with the distributions of the parameter set.
    pub fn generate(context: &RlweContext, random: &RandomSource) -> Self {
        let n = context.ring().degree();
        let draw = |kind: SecretKind, source: &RandomSource| match kind {
            SecretKind::UniformTernary => source.ternary(n),
            // A toy ring may be smaller than the weight asks for.
            SecretKind::SparseTernary { hamming_weight } => {
                source.sparse_ternary(n, (hamming_weight as usize).min(n / 2))
            }
        };
        let params = context.params();
        Self {
            main: draw(params.secret(), &random.derive("main secret", &[])),
            ephemeral: draw(
                params.ephemeral_secret(),
                &random.derive("ephemeral secret", &[]),
            ),
        }
    }

    /// Secrets read from a client key; `None` unless each has N coefficients in {-1, 0, 1}.
    pub(super) fn from_coefficients(
        degree: usize,
        main: Zeroizing<Vec<i8>>,
        ephemeral: Zeroizing<Vec<i8>>,
    ) -> Option<Self> {
        [&main, &ephemeral]
            .iter()
            .all(|s| s.len() == degree && s.iter().all(|c| (-1..=1).contains(c)))
            .then_some(Self { main, ephemeral })
    }

    pub(super) fn main(&self) -> &[i8] {
        &self.main
    }

    pub(super) fn ephemeral(&self) -> &[i8] {
        &self.ephemeral
    }

    /// `s` in evaluation form.
    pub(super) fn main_on(&self, ring: &RingContext, limbs: &[LimbId]) -> SecretPoly {
        SecretPoly::evaluate(ring, limbs, &self.main)
    }

    /// `t` in evaluation form.
    pub(super) fn ephemeral_on(&self, ring: &RingContext, limbs: &[LimbId]) -> SecretPoly {
        SecretPoly::evaluate(ring, limbs, &self.ephemeral)
    }
}

/// Residues of a secret, wiped when dropped: the buffer would otherwise be recycled with its contents.
pub(super) struct SecretPoly(pub(super) RnsPoly);

impl SecretPoly {
    /// Signed coefficients in evaluation form.
    pub(super) fn evaluate(ring: &RingContext, limbs: &[LimbId], coefficients: &[i8]) -> Self {
        let mut poly = RnsPoly::from_signed(ring, limbs, coefficients);
        ring.to_evaluation(&mut poly);
        debug_assert_eq!(poly.form(), Form::Evaluation);
        Self(poly)
    }

    pub(super) fn automorphism(&self, ring: &RingContext, g: GaloisElement) -> Self {
        Self(ring.automorphism(&self.0, g))
    }

    pub(super) fn square(&self, ring: &RingContext) -> Self {
        Self(ring.mul(&self.0, &self.0))
    }
}

impl Drop for SecretPoly {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
