//! Products of ciphertexts, relinearisation, and both merged with the division that follows.

use super::batch::{only, ProductSum};
use super::evaluator::{same_level, same_scale};
use super::{Ciphertext, CkksError, Evaluator};
use crate::backend::Backend;
use heron_schedule::params::Scale;

/// The two factors of a product.
pub type Operands<'a, P> = (&'a Ciphertext<P>, &'a Ciphertext<P>);

impl<B: Backend> Evaluator<B> {
    /// a · b as three polynomials: multiply without relinearisation. The scales are multiplied.
    ///
    /// # Errors
    /// Operands at different levels, or not of two polynomials.
    pub fn mul(
        &self,
        a: &Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        self.tensor_sum(&[(a, b)])
    }

    /// Σ a·b over the pairs as three polynomials, with one reduction per residue. All at one level, all products at one scale.
    ///
    /// # Errors
    /// No pair or more than 64, operands at different levels or scales, or not of two polynomials.
    pub fn tensor_sum(
        &self,
        pairs: &[Operands<B::Poly>],
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let op = "multiply";
        let Some((first, _)) = pairs.first().filter(|_| pairs.len() <= 64) else {
            return Err(CkksError::Shape {
                op,
                what: "number of pairs",
                expected: 64,
                found: pairs.len(),
            });
        };
        let mut scale: Option<Scale> = None;
        for (a, b) in pairs {
            same_level(op, first.level, a.level)?;
            same_level(op, first.level, b.level)?;
            let product = a.scale.times(b.scale).ok_or(CkksError::ScaleRange { op })?;
            same_scale(op, *scale.get_or_insert(product), product)?;
        }
        let parts = pairs
            .iter()
            .map(|(a, b)| Ok((two(op, a)?, two(op, b)?)))
            .collect::<Result<Vec<_>, CkksError>>()?;
        let limbs = &self.row(first.level)?.limbs;
        let constant: Vec<_> = parts.iter().map(|((a, _), (b, _))| (*a, *b)).collect();
        let linear: Vec<_> = parts
            .iter()
            .flat_map(|((a0, a1), (b0, b1))| [(*a0, *b1), (*a1, *b0)])
            .collect();
        let square: Vec<_> = parts.iter().map(|((_, a), (_, b))| (*a, *b)).collect();
        Ok(Ciphertext {
            polys: self
                .backend
                .inner_products(&[&constant, &linear, &square], limbs),
            level: first.level,
            scale: scale.ok_or(CkksError::ScaleRange { op })?,
        })
    }

    /// Three polynomials back to two, at the same level.
    ///
    /// # Errors
    /// No relinearisation key, or none for this row.
    pub fn relinearise(&self, a: Ciphertext<B::Poly>) -> Result<Ciphertext<B::Poly>, CkksError> {
        let op = "relinearise";
        let (level, scale) = (a.level, a.scale);
        let row = self.row(level)?;
        let polys = only(op, self.relinearised(op, vec![a], row, &row.limbs)?)?;
        Ok(Ciphertext {
            polys,
            level,
            scale,
        })
    }

    /// Relinearisation and rescaling with one division for both: from QP straight to the next row.
    ///
    /// # Errors
    /// At level 0, or without a relinearisation key for this row.
    pub fn relinearise_and_rescale(
        &self,
        a: Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let results = self.relinearise_and_rescale_each(vec![a])?;
        only("relinearise and rescale", results)
    }

    /// factor · Σ a·b + constant, relinearised once and rescaled: operands at one level, the result one below. The factor comes before
    /// the division, whose rounding it does not multiply.
    ///
    /// # Errors
    /// As [`Evaluator::tensor_sum`] and [`Evaluator::relinearise_and_rescale`].
    pub fn mul_sum(
        &self,
        pairs: &[Operands<B::Poly>],
        factor: i64,
        constant: f64,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        let sum = ProductSum {
            pairs: pairs.to_vec(),
            factor,
            constant,
        };
        only("multiply", self.mul_sum_each(&[sum])?)
    }

    /// a · b, relinearised and rescaled.
    ///
    /// # Errors
    /// As [`Evaluator::mul_sum`].
    pub fn mul_rescale(
        &self,
        a: &Ciphertext<B::Poly>,
        b: &Ciphertext<B::Poly>,
    ) -> Result<Ciphertext<B::Poly>, CkksError> {
        self.mul_sum(&[(a, b)], 1, 0.0)
    }
}

pub(crate) fn two<'a, P>(
    op: &'static str,
    a: &'a Ciphertext<P>,
) -> Result<(&'a P, &'a P), CkksError> {
    match a.polys.as_slice() {
        [c0, c1] => Ok((c0, c1)),
        polys => Err(CkksError::Degree {
            op,
            expected: 2,
            found: polys.len(),
            remedy: "relinearise first",
        }),
    }
}

pub(super) fn three<P>(op: &'static str, a: Ciphertext<P>) -> Result<[P; 3], CkksError> {
    <[P; 3]>::try_from(a.polys).map_err(|polys| CkksError::Degree {
        op,
        expected: 3,
        found: polys.len(),
        remedy: "multiply first",
    })
}
