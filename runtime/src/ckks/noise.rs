//! Predicted errors, per operation, of a slot. Each is a standard deviation in slots; [`NoiseModel::bound`] turns it into what no slot exceeds.
//!
//! A coefficient error of variance v is a slot error of variance N·v in all (N/2 in each part); divided by the scale it is an error of
//! the message. Model: coefficient errors independent, secrets of the set's distribution.

use crate::rlwe::{RlweContext, RowLimbs};
use heron_schedule::params::{Scale, SecretKind};

/// Standard deviation of the errors of encryptions and keys.
const SIGMA: f64 = crate::ring::sampling::SIGMA;

/// Predicts errors for one parameter set.
pub struct NoiseModel<'a> {
    context: &'a RlweContext,
}

impl<'a> NoiseModel<'a> {
    /// A model of this set.
    pub fn new(context: &'a RlweContext) -> Self {
        Self { context }
    }

    fn degree(&self) -> f64 {
        self.context.ring().degree() as f64
    }

    /// Expected square of the norm of the main secret.
    fn secret_weight(&self) -> f64 {
        match self.context.params().secret() {
            SecretKind::UniformTernary => self.degree() * 2.0 / 3.0,
            SecretKind::SparseTernary { hamming_weight } => f64::from(hamming_weight),
        }
    }

    /// Slot error of independent coefficient errors of this variance at this scale.
    fn in_slots(&self, variance: f64, scale: Scale) -> f64 {
        (self.degree() * variance).sqrt() / scale.to_f64()
    }

    /// What no slot of N/2 exceeds but with probability below 2^-20.
    ///
    /// A rounding error of the second polynomial reaches the message times the secret, and the secret's value varies from slot to slot
    /// as much as the error's does. So a slot's error is a product of two complex Gaussians, with P(|xy| > t) = 2t·K₁(2t), about
    /// sqrt(πt)·e^(-2t): a heavier tail than a Gaussian's, which a bound of a few standard deviations misses.
    pub fn bound(&self, standard_deviation: f64) -> f64 {
        let target = (self.degree() / 2.0).ln() + 20.0 * std::f64::consts::LN_2;
        let tail = |t: f64| (target + 0.5 * (std::f64::consts::PI * t).ln()) / 2.0;
        // The iteration contracts by 1/(4t); a few rounds are exact enough.
        let t = (0..8).fold(target, |t, _| tail(t));
        standard_deviation * t
    }

    /// Rounding each coefficient to an integer.
    pub fn encoding(&self, scale: Scale) -> f64 {
        self.in_slots(1.0 / 12.0, scale)
    }

    /// Encryption under the secret, encoding included.
    pub fn encryption(&self, scale: Scale) -> f64 {
        self.in_slots(SIGMA * SIGMA + 1.0 / 12.0, scale)
    }

    /// Encryption under the public key, encoding included.
    pub fn public_encryption(&self, scale: Scale) -> f64 {
        let terms = self.degree() * 2.0 / 3.0 + self.secret_weight() + 1.0;
        self.in_slots(SIGMA * SIGMA * terms + 1.0 / 12.0, scale)
    }

    /// One division with rounding of both polynomials; `scale` is that of the result.
    pub fn division(&self, scale: Scale) -> f64 {
        self.in_slots((self.secret_weight() + 1.0) / 12.0, scale)
    }

    /// Coefficient variance of Σ digit·e before the division by P, over P².
    fn key_variance(&self, row: &RowLimbs) -> f64 {
        let log2 = |limbs: &[crate::ring::LimbId]| -> f64 {
            limbs
                .iter()
                .map(|&l| f64::from(self.context.ring().prime(l)).log2())
                .sum()
        };
        let special = log2(&row.extended[row.limbs.len()..]);
        row.digits
            .iter()
            .map(|d| {
                let ratio = 2f64.powf(2.0 * (log2(&d.limbs) - special));
                self.degree() / 12.0 * SIGMA * SIGMA * ratio
            })
            .sum()
    }

    /// A key switch at a row, division by P included; `scale` is that of the ciphertext.
    pub fn key_switch(&self, row: &RowLimbs, scale: Scale) -> f64 {
        let rounding = (self.secret_weight() + 1.0) / 12.0;
        self.in_slots(self.key_variance(row) + rounding, scale)
    }

    /// A product relinearised and rescaled in one division: `scale` is that of the result, `ratio` = product scale / result scale.
    pub fn relinearise_and_rescale(&self, row: &RowLimbs, ratio: f64, scale: Scale) -> f64 {
        let rounding = (self.secret_weight() + 1.0) / 12.0;
        self.in_slots(self.key_variance(row) / (ratio * ratio) + rounding, scale)
    }

    /// Independent errors together.
    pub fn together(parts: &[f64]) -> f64 {
        parts.iter().map(|p| p * p).sum::<f64>().sqrt()
    }
}
