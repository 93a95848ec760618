//! The operations that switch keys, on several ciphertexts at once: a backend may read a key once for all of them. Results are those of the
//! single operations, bit for bit, which are batches of one.

use super::evaluator::same_level;
use super::multiply::{three, two};
use super::{Ciphertext, CkksError, Evaluator, Operands, RotationStep};
use crate::backend::{Backend, Decomposition, Switch};
use crate::ring::{GaloisElement, LimbId};
use crate::rlwe::{KeyKind, RowLimbs};
use heron_schedule::params::Level;

/// factor · Σ a·b + constant.
pub struct ProductSum<'a, P> {
    /// The pairs (a, b).
    pub pairs: Vec<Operands<'a, P>>,
    /// The factor.
    pub factor: i64,
    /// The constant, in every slot.
    pub constant: f64,
}

type Cts<P> = Vec<Ciphertext<P>>;

impl<B: Backend> Evaluator<B> {
    /// [`Evaluator::rotate`] of ciphertexts at one level by one step.
    ///
    /// # Errors
    /// Operands at different levels, or no key for this step at their row.
    pub fn rotate_each(
        &self,
        cts: &[&Ciphertext<B::Poly>],
        step: RotationStep,
    ) -> Result<Cts<B::Poly>, CkksError> {
        self.automorphism_each(cts, self.rotation_element(step))
    }

    /// [`Evaluator::conjugate`] of ciphertexts at one level.
    ///
    /// # Errors
    /// Operands at different levels, or no conjugation key at their row.
    pub fn conjugate_each(&self, cts: &[&Ciphertext<B::Poly>]) -> Result<Cts<B::Poly>, CkksError> {
        let g = GaloisElement::conjugation(self.context.params().log_n());
        self.automorphism_each(cts, g)
    }

    /// [`Evaluator::automorphism`] of ciphertexts at one level.
    ///
    /// # Errors
    /// Operands at different levels, or no key for `g` at their row.
    pub fn automorphism_each(
        &self,
        cts: &[&Ciphertext<B::Poly>],
        g: GaloisElement,
    ) -> Result<Cts<B::Poly>, CkksError> {
        let Some(first) = cts.first() else {
            return Ok(Vec::new());
        };
        if g.value() == 1 {
            return Ok(cts.iter().map(|&a| a.clone()).collect());
        }
        let row = self.row(first.level)?;
        let kind = KeyKind::Galois(g);
        self.switched("rotate", cts, kind, Some(g), row)
    }

    /// [`Evaluator::switch_to_sparse`] of level-0 ciphertexts.
    ///
    /// # Errors
    /// Not at level 0, or no dense-to-sparse key.
    pub fn switch_to_sparse_each(
        &self,
        cts: &[&Ciphertext<B::Poly>],
    ) -> Result<Cts<B::Poly>, CkksError> {
        let op = "switch to the sparse secret";
        for a in cts {
            same_level(op, Level(0), a.level)?;
        }
        let row = self.context.encapsulation();
        self.switched(op, cts, KeyKind::DenseToSparse, None, row)
    }

    /// [`Evaluator::switch_to_dense`] of ciphertexts at the top row.
    ///
    /// # Errors
    /// Not at the top row, or no sparse-to-dense key.
    pub fn switch_to_dense_each(
        &self,
        cts: &[&Ciphertext<B::Poly>],
    ) -> Result<Cts<B::Poly>, CkksError> {
        let Some(first) = cts.first() else {
            return Ok(Vec::new());
        };
        let row = self.row(first.level)?;
        let op = "switch to the dense secret";
        self.switched(op, cts, KeyKind::SparseToDense, None, row)
    }

    /// [`Evaluator::rotate_hoisted`] of ciphertexts at one level by the same steps.
    ///
    /// # Errors
    /// Operands at different levels, or no key for one of the steps at their row.
    pub fn rotate_hoisted_each(
        &self,
        cts: &[&Ciphertext<B::Poly>],
        steps: &[RotationStep],
    ) -> Result<Vec<Cts<B::Poly>>, CkksError> {
        let op = "rotate";
        let Some(first) = cts.first() else {
            return Ok(Vec::new());
        };
        let (row, halves) = (self.row(first.level)?, halves(op, cts)?);
        let moving = steps.iter().any(|&s| self.rotation_element(s).value() != 1);
        let digits = match moving {
            true => self.digits(&halves, row)?,
            false => Vec::new(),
        };
        let mut results: Vec<Cts<B::Poly>> = cts.iter().map(|_| Vec::new()).collect();
        for &step in steps {
            let g = self.rotation_element(step);
            let turned = match g.value() {
                1 => cts.iter().map(|&a| a.clone()).collect(),
                _ => self.switch_and_permute(cts, &digits, KeyKind::Galois(g), Some(g), row)?,
            };
            for (results, turned) in results.iter_mut().zip(turned) {
                results.push(turned);
            }
        }
        Ok(results)
    }

    /// Ciphertexts of one level under the main secret, after the automorphism if there is one.
    fn switched(
        &self,
        op: &'static str,
        cts: &[&Ciphertext<B::Poly>],
        kind: KeyKind,
        element: Option<GaloisElement>,
        row: &RowLimbs,
    ) -> Result<Cts<B::Poly>, CkksError> {
        let digits = self.digits(&halves(op, cts)?, row)?;
        self.switch_and_permute(cts, &digits, kind, element, row)
    }

    fn digits<'a>(
        &self,
        halves: &[(&'a B::Poly, &'a B::Poly)],
        row: &RowLimbs,
    ) -> Result<Vec<Decomposition<'a, B::Poly>>, CkksError> {
        let high: Vec<&B::Poly> = halves.iter().map(|&(_, c1)| c1).collect();
        Ok(self.backend.decompose_each(&high, row)?)
    }

    /// `digits`: those of the ciphertexts' second halves.
    fn switch_and_permute(
        &self,
        cts: &[&Ciphertext<B::Poly>],
        digits: &[Decomposition<'_, B::Poly>],
        kind: KeyKind,
        element: Option<GaloisElement>,
        row: &RowLimbs,
    ) -> Result<Cts<B::Poly>, CkksError> {
        let key = self.keys.get(kind)?;
        let switches = digits.iter().zip(cts).map(|(digits, a)| {
            let switch = Switch {
                key,
                addends: [a.polys.first(), None],
                element,
                lo: &row.limbs,
            };
            (digits, switch)
        });
        let switches: Vec<_> = switches.collect();
        let pairs = self.backend.switch_and_divide_each(&switches, row)?;
        let with = |(a, (low, high)): (&&Ciphertext<B::Poly>, _)| Ciphertext {
            polys: vec![low, high],
            level: a.level,
            scale: a.scale,
        };
        Ok(cts.iter().zip(pairs).map(with).collect())
    }

    /// [`Evaluator::relinearise_and_rescale`] of products at one level.
    ///
    /// # Errors
    /// Operands at different levels, at level 0, or without a relinearisation key for their row.
    pub fn relinearise_and_rescale_each(
        &self,
        products: Cts<B::Poly>,
    ) -> Result<Cts<B::Poly>, CkksError> {
        let op = "relinearise and rescale";
        let Some(from) = products.first().map(|a| a.level) else {
            return Ok(Vec::new());
        };
        let mut places = Vec::with_capacity(products.len());
        for a in &products {
            same_level(op, from, a.level)?;
            places.push(self.rescaled(op, a.level, a.scale)?);
        }
        let (row, below) = (self.row(from)?, Level(from.0.saturating_sub(1)));
        let polys = self.relinearised(op, products, row, &self.row(below)?.limbs)?;
        let with = |(polys, (level, scale))| Ciphertext {
            polys,
            level,
            scale,
        };
        Ok(polys.into_iter().zip(places).map(with).collect())
    }

    /// The two polynomials of each product, divided by what `lo` lacks of the row.
    pub(super) fn relinearised(
        &self,
        op: &'static str,
        products: Cts<B::Poly>,
        row: &RowLimbs,
        lo: &[LimbId],
    ) -> Result<Vec<Vec<B::Poly>>, CkksError> {
        let products = products.into_iter().map(|a| three(op, a));
        let products = products.collect::<Result<Vec<[B::Poly; 3]>, _>>()?;
        let key = self.keys.get(KeyKind::Relinearisation)?;
        let c2: Vec<&B::Poly> = products.iter().map(|[_, _, c2]| c2).collect();
        let digits: Vec<Decomposition<'_, B::Poly>> = self.backend.decompose_each(&c2, row)?;
        let switches: Vec<_> = digits
            .iter()
            .zip(&products)
            .map(|(digits, [c0, c1, _])| {
                let switch = Switch {
                    key,
                    addends: [Some(c0), Some(c1)],
                    element: None,
                    lo,
                };
                (digits, switch)
            })
            .collect();
        let pairs = self.backend.switch_and_divide_each(&switches, row)?;
        Ok(pairs.into_iter().map(|(a, b)| vec![a, b]).collect())
    }

    /// [`Evaluator::mul_sum`] of several sums, all at one level.
    ///
    /// # Errors
    /// As [`Evaluator::mul_sum`], or operands at different levels.
    pub fn mul_sum_each(
        &self,
        sums: &[ProductSum<'_, B::Poly>],
    ) -> Result<Cts<B::Poly>, CkksError> {
        let products = sums.iter().map(|sum| {
            let mut product = self.tensor_sum(&sum.pairs)?;
            if sum.factor != 1 {
                self.mul_integer_assign(&mut product, sum.factor);
            }
            Ok(product)
        });
        let products = products.collect::<Result<Vec<_>, CkksError>>()?;
        let mut results = self.relinearise_and_rescale_each(products)?;
        for (result, sum) in results.iter_mut().zip(sums) {
            if sum.constant != 0.0 {
                self.add_constant_assign(result, sum.constant)?;
            }
        }
        Ok(results)
    }
}

/// The two polynomials of each ciphertext.
///
/// # Errors
/// Ciphertexts at different levels, or not of two polynomials.
fn halves<'a, P>(
    op: &'static str,
    cts: &[&'a Ciphertext<P>],
) -> Result<Vec<(&'a P, &'a P)>, CkksError> {
    let mut halves = Vec::with_capacity(cts.len());
    for (a, first) in cts.iter().zip(cts.first().into_iter().cycle()) {
        same_level(op, first.level, a.level)?;
        halves.push(two(op, a)?);
    }
    Ok(halves)
}

/// The one result of a batch of one.
///
/// # Errors
/// Another number of results.
pub fn only<T>(op: &'static str, results: Vec<T>) -> Result<T, CkksError> {
    <[T; 1]>::try_from(results)
        .map(|[result]| result)
        .map_err(|results| CkksError::Shape {
            op,
            what: "results of a batch of one",
            expected: 1,
            found: results.len(),
        })
}
