//! Rotations and conjugation, one by one and hoisted, and the two key switches of sparse-secret encapsulation.

use super::batch::only;
use super::{Ciphertext, CkksError, Evaluator, RotationStep};
use crate::backend::Backend;
use crate::ring::GaloisElement;

use heron_schedule::params::Level;

impl<B: Backend> Evaluator<B> {
    /// The automorphism of a rotation.
    pub fn rotation_element(&self, step: RotationStep) -> GaloisElement {
        GaloisElement::rotation(step.0, self.context.params().log_n())
    }

    /// Slot i of the result is slot i + step.
    ///
    /// # Errors
    /// No key for this step at this row.
    pub fn rotate(
        &self,
        a: &Ciphertext<B::Poly>,
        step: RotationStep,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        self.automorphism(a, self.rotation_element(step))
    }

    /// Several rotations of one ciphertext: it is decomposed once. Bit for bit what [`Evaluator::rotate`] gives for each.
    ///
    /// # Errors
    /// No key for one of the steps at this row.
    pub fn rotate_hoisted(
        &self,
        a: &Ciphertext<B::Poly>,
        steps: &[RotationStep],
    ) -> Result<Vec<Ciphertext<B::Poly>>, CkksError> {
        only("rotate", self.rotate_hoisted_each(&[a], steps)?)
    }

    /// Complex conjugates of the slots.
    ///
    /// # Errors
    /// No conjugation key at this row.
    pub fn conjugate(&self, a: &Ciphertext<B::Poly>) -> Result<Ciphertext<B::Poly>, CkksError> {
        let g = GaloisElement::conjugation(self.context.params().log_n());
        self.automorphism(a, g)
    }

    /// The ciphertext of m(X^g).
    ///
    /// # Errors
    /// No key for `g` at this row.
    pub fn automorphism(
        &self,
        a: &Ciphertext<B::Poly>,
        g: GaloisElement,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        only("rotate", self.automorphism_each(&[a], g)?)
    }

    /// A level-0 ciphertext under the ephemeral sparse secret. Source: eprint 2022/024.
    ///
    /// # Errors
    /// Not at level 0, or no dense-to-sparse key.
    pub fn switch_to_sparse(
        &self,
        a: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        only(
            "switch to the sparse secret",
            self.switch_to_sparse_each(&[a])?,
        )
    }

    /// A ciphertext under the ephemeral secret back under the main one, at the top row.
    ///
    /// # Errors
    /// Not at the top row, or no sparse-to-dense key.
    pub fn switch_to_dense(
        &self,
        a: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        only(
            "switch to the dense secret",
            self.switch_to_dense_each(&[a])?,
        )
    }

    /// ModRaise: reads a ciphertext modulo the larger modulus of a higher row, by the exact centred lift. The plaintext becomes
    /// m + q·I with I small when the secret is sparse; scale and residues modulo the old limbs stay.
    ///
    /// # Errors
    /// A target that does not contain the limbs of the ciphertext.
    pub fn raise_modulus(
        &self,
        a: &Ciphertext<B::Poly>,
        to: Level,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let target = &self.row(to)?.limbs;
        let polys = a
            .polys
            .iter()
            .map(|p| {
                let mut coefficients = p.clone();
                self.backend.to_coefficient(&mut coefficients);
                let mut raised = self.backend.extend(&coefficients, target)?;
                self.backend.to_evaluation(&mut raised);
                Ok(raised)
            })
            .collect::<Result<_, CkksError>>()?;
        Ok(Ciphertext {
            polys,
            level: to,
            scale: a.scale,
        })
    }
}
