//! Products of ciphertexts, relinearisation, and both merged with the division that follows.

use super::evaluator::{same_level, same_scale};
use super::{Ciphertext, CkksError, Evaluator};
use crate::backend::{Backend, Switch};
use crate::ring::LimbId;
use crate::rlwe::{KeyKind, RowLimbs};
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
            polys: [constant, linear, square]
                .iter()
                .map(|pairs| self.backend.inner_product(pairs, limbs))
                .collect(),
            level: first.level,
            scale: scale.ok_or(CkksError::ScaleRange { op })?,
        })
    }

    /// Three polynomials back to two, at the same level.
    ///
    /// # Errors
    /// No relinearisation key, or none for this row.
    pub fn relinearise(&self, a: Ciphertext<B::Poly>) -> Result<Ciphertext<B::Poly>, CkksError> {
        let (level, scale) = (a.level, a.scale);
        let row = self.row(level)?;
        let polys = self.relinearised("relinearise", a, row, &row.limbs)?;
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
        let op = "relinearise and rescale";
        let row = self.row(a.level)?;
        let (level, scale) = self.rescaled(op, a.level, a.scale)?;
        Ok(Ciphertext {
            polys: self.relinearised(op, a, row, &self.row(level)?.limbs)?,
            level,
            scale,
        })
    }

    /// The two polynomials of a product, divided by what `lo` lacks of the row.
    fn relinearised(
        &self,
        op: &'static str,
        a: Ciphertext<B::Poly>,
        row: &RowLimbs,
        lo: &[LimbId],
    ) -> Result<Vec<B::Poly>, CkksError> {
        let Some([c0, c1, c2]) = three(a)? else {
            return Err(not_three(op));
        };
        let digits = self.backend.decompose(&c2, row)?;
        let switch = Switch {
            key: self.keys.get(KeyKind::Relinearisation)?,
            addends: [Some(&c0), Some(&c1)],
            element: None,
            lo,
        };
        let (low, high) = self.backend.switch_and_divide(&digits, switch, row)?;
        Ok(vec![low, high])
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
        let mut product = self.tensor_sum(pairs)?;
        if factor != 1 {
            self.mul_integer_assign(&mut product, factor);
        }
        let mut result = self.relinearise_and_rescale(product)?;
        if constant != 0.0 {
            self.add_constant_assign(&mut result, constant)?;
        }
        Ok(result)
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

fn three<P>(a: Ciphertext<P>) -> Result<Option<[P; 3]>, CkksError> {
    Ok(<[P; 3]>::try_from(a.polys).ok())
}

fn not_three(op: &'static str) -> CkksError {
    CkksError::Degree {
        op,
        expected: 3,
        found: 2,
        remedy: "multiply first",
    }
}
