//! Rotations and conjugation, one by one and hoisted, and the two key switches of sparse-secret encapsulation.

use super::multiply::two;
use super::{Ciphertext, CkksError, Evaluator, RotationStep};
use crate::backend::{Backend, Decomposition, Switch};
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, RowLimbs};
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
        let row = self.row(a.level)?;
        let (_, c1) = two("rotate", a)?;
        let moving = steps.iter().any(|&s| self.rotation_element(s).value() != 1);
        let digits = match moving {
            true => Some(self.backend.decompose(c1, row)?),
            false => None,
        };
        steps
            .iter()
            .map(|&step| match (&digits, self.rotation_element(step)) {
                (Some(digits), g) if g.value() != 1 => self.switch_and_permute(a, digits, g, row),
                _ => Ok(a.clone()),
            })
            .collect()
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
        let (_, c1) = two("rotate", a)?;
        if g.value() == 1 {
            return Ok(a.clone());
        }
        let row = self.row(a.level)?;
        let digits = self.backend.decompose(c1, row)?;
        self.switch_and_permute(a, &digits, g, row)
    }

    fn switch_and_permute(
        &self,
        a: &Ciphertext<B::Poly>,
        digits: &Decomposition<'_, B::Poly>,
        g: GaloisElement,
        row: &RowLimbs,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let (c0, _) = two("rotate", a)?;
        let key = self.keys.get(KeyKind::Galois(g))?;
        let switch = Switch {
            key,
            addends: [Some(c0), None],
            element: Some(g),
            lo: &row.limbs,
        };
        let (low, high) = self.backend.switch_and_divide(digits, switch, row)?;
        Ok(Ciphertext {
            polys: vec![low, high],
            level: a.level,
            scale: a.scale,
        })
    }

    /// A level-0 ciphertext under the ephemeral sparse secret. Source: eprint 2022/024.
    ///
    /// # Errors
    /// Not at level 0, or no dense-to-sparse key.
    pub fn switch_to_sparse(
        &self,
        a: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let op = "switch to the sparse secret";
        super::evaluator::same_level(op, Level(0), a.level)?;
        let row = self.context.encapsulation();
        self.switch_secret(a, KeyKind::DenseToSparse, row)
    }

    /// A ciphertext under the ephemeral secret back under the main one, at the top row.
    ///
    /// # Errors
    /// Not at the top row, or no sparse-to-dense key.
    pub fn switch_to_dense(
        &self,
        a: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        self.switch_secret(a, KeyKind::SparseToDense, self.row(a.level)?)
    }

    fn switch_secret(
        &self,
        a: &Ciphertext<B::Poly>,
        kind: KeyKind,
        row: &RowLimbs,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let (c0, c1) = two("switch secrets", a)?;
        let key = self.keys.get(kind)?;
        let digits = self.backend.decompose(c1, row)?;
        let switch = Switch {
            key,
            addends: [Some(c0), None],
            element: None,
            lo: &row.limbs,
        };
        let (low, high) = self.backend.switch_and_divide(&digits, switch, row)?;
        Ok(Ciphertext {
            polys: vec![low, high],
            level: a.level,
            scale: a.scale,
        })
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
