//! Ciphertexts and plaintexts: residues with a level and an exact scale.

use super::encoding::{Complex, EncodedPolynomial, Encoder};
use super::{CkksError, Transfer};
use crate::ring::{LimbId, RnsPoly};
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, Scale};

/// Slots to the left: slot i of the result is slot i + step of the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RotationStep(pub i64);

/// `polys[0] + polys[1]·s (+ polys[2]·s²)` is scale · message + noise modulo the row's modulus; evaluation form, on the row's limbs.
#[derive(Clone, Debug)]
pub struct Ciphertext<P = RnsPoly> {
    pub(crate) polys: Vec<P>,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
}

impl<P> Ciphertext<P> {
    /// A ciphertext over two polynomials (or three, before relinearisation) in evaluation form on the limbs of `level`.
    pub fn from_parts(polys: Vec<P>, level: Level, scale: Scale) -> Self {
        Self {
            polys,
            level,
            scale,
        }
    }
    /// The polynomials.
    pub fn polys(&self) -> &[P] {
        &self.polys
    }
    /// The polynomials, given up.
    pub fn into_polys(self) -> Vec<P> {
        self.polys
    }
    /// Its row of the level table.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Its exact scale.
    pub fn scale(&self) -> Scale {
        self.scale
    }
    /// Declares another scale: the message is reinterpreted, multiplied by old scale over new.
    pub fn set_scale(&mut self, scale: Scale) {
        self.scale = scale;
    }
}

/// An encoded vector, in evaluation form, on the limbs of a row and perhaps the special limbs too.
#[derive(Clone, Debug)]
pub struct Plaintext<P = RnsPoly> {
    pub(crate) poly: P,
    pub(crate) level: Level,
    pub(crate) scale: Scale,
}

impl<P> Plaintext<P> {
    /// A plaintext over a polynomial in evaluation form on (at least) the limbs of `level`.
    pub fn from_parts(poly: P, level: Level, scale: Scale) -> Self {
        Self { poly, level, scale }
    }
    /// The polynomial.
    pub fn poly(&self) -> &P {
        &self.poly
    }
    /// Its row of the level table.
    pub fn level(&self) -> Level {
        self.level
    }
    /// Its exact scale.
    pub fn scale(&self) -> Scale {
        self.scale
    }
}

/// Shorter runs of equal words than 2^this are not worth expanding.
const MIN_LOG_RUN: u32 = 2;

/// log2 of the words that one of a compressed plaintext stands for, by that of the distance between its coefficients.
fn log_run(log_stride: u32, context: &RlweContext) -> u32 {
    let log_run = log_stride.min(context.ring().largest_log_run());
    match log_run < MIN_LOG_RUN {
        true => 0,
        false => log_run,
    }
}

/// The same for slots with a period, a power of two.
pub(crate) fn compressed_log_run(context: &RlweContext, period: usize) -> u32 {
    let log_stride = context.ring().log_n() - 1 - period.trailing_zeros();
    log_run(log_stride, context)
}

/// Which limbs a plaintext is wanted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Basis {
    /// The row's limbs: for sums, and products with ciphertexts.
    Row,
    /// The row's limbs and the special limbs: for products inside a key switch.
    Extended,
}

impl Plaintext<RnsPoly> {
    /// Encodes slots (N/2, or a smaller power of two that repeats) at a level and scale, in evaluation form.
    ///
    /// # Errors
    /// A level that does not exist, or slots that cannot be encoded.
    pub fn encode(
        context: &RlweContext,
        encoder: &Encoder,
        slots: &[Complex],
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        Self::from_encoded(context, &encoder.encode(slots, scale)?, level, scale, basis)
    }

    /// As [`Plaintext::encode`], of real slots.
    ///
    /// # Errors
    /// A level that does not exist, or slots that cannot be encoded.
    pub fn encode_real(
        context: &RlweContext,
        encoder: &Encoder,
        slots: &[f64],
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        let encoded = encoder.encode_real(slots, scale)?;
        Self::from_encoded(context, &encoded, level, scale, basis)
    }

    /// As [`Plaintext::encode_real`], compressed where fewer than N/2 slots repeat: for products in [`crate::ckks::Evaluator::linear`] only.
    /// Costs as much less as the slots are fewer.
    ///
    /// # Errors
    /// A level that does not exist, or slots that cannot be encoded.
    pub fn encode_real_compressed(
        context: &RlweContext,
        encoder: &Encoder,
        slots: &[f64],
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        let encoded = encoder.encode_real(slots, scale)?;
        Self::compressed(context, &encoded, level, scale, basis)
    }

    /// As [`Plaintext::encode_real_compressed`], of complex slots.
    ///
    /// # Errors
    /// A level that does not exist, or slots that cannot be encoded.
    pub fn encode_compressed(
        context: &RlweContext,
        encoder: &Encoder,
        slots: &[Complex],
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        let encoded = encoder.encode(slots, scale)?;
        Self::compressed(context, &encoded, level, scale, basis)
    }

    fn compressed(
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        let log_run = log_run(encoded.log_stride(), context);
        let limbs = limbs(context, level, basis)?;
        let poly = residues(context, encoded, limbs, log_run)?;
        Ok(Self { poly, level, scale })
    }

    /// Residues of an encoded polynomial (kept compact until it is needed) on the limbs of a row, in evaluation form.
    ///
    /// # Errors
    /// A level that does not exist, or a polynomial of another ring.
    pub fn from_encoded(
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Result<Self, CkksError> {
        let poly = residues(context, encoded, limbs(context, level, basis)?, 0)?;
        Ok(Self { poly, level, scale })
    }
}

impl<P: 'static> Plaintext<P> {
    /// [`Plaintext::from_encoded`] where a backend makes the residues; compressed where that is wanted and fewer than N/2 slots repeat.
    ///
    /// # Errors
    /// A level that does not exist, or a polynomial of another ring.
    pub fn made_on<B: Transfer<Poly = P>>(
        backend: &B,
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        (level, scale): (Level, Scale),
        basis: Basis,
        compress: bool,
    ) -> Result<Self, CkksError> {
        let each = Self::made_each_on(
            backend,
            context,
            std::slice::from_ref(encoded),
            (level, scale),
            basis,
            compress,
        )?;
        super::batch::only("encode", each)
    }

    /// [`Plaintext::made_on`] of several polynomials.
    ///
    /// # Errors
    /// As [`Plaintext::made_on`].
    pub fn made_each_on<B: Transfer<Poly = P>>(
        backend: &B,
        context: &RlweContext,
        encoded: &[EncodedPolynomial],
        (level, scale): (Level, Scale),
        basis: Basis,
        compress: bool,
    ) -> Result<Vec<Self>, CkksError> {
        let run = |encoded: &EncodedPolynomial| match compress {
            true => log_run(encoded.log_stride(), context),
            false => 0,
        };
        let limbs = limbs(context, level, basis)?;
        let each: Vec<_> = encoded.iter().map(|e| (e, run(e))).collect();
        let polys = backend.encode_each(context, &each, limbs)?.into_iter();
        Ok(polys.map(|poly| Self { poly, level, scale }).collect())
    }
}

fn limbs(context: &RlweContext, level: Level, basis: Basis) -> Result<&[LimbId], CkksError> {
    let row = context.row(level)?;
    Ok(match basis {
        Basis::Row => &row.limbs,
        Basis::Extended => &row.extended,
    })
}

/// The values of an encoded polynomial on `limbs`, each standing for 2^log_run of them.
///
/// # Errors
/// A polynomial of another ring.
pub(super) fn residues(
    context: &RlweContext,
    encoded: &EncodedPolynomial,
    limbs: &[LimbId],
    log_run: u32,
) -> Result<RnsPoly, CkksError> {
    let ring = context.ring();
    if log_run == 0 || encoded.log_n() != ring.log_n() {
        let mut poly = encoded.to_poly(ring, limbs)?;
        ring.to_evaluation(&mut poly);
        return Ok(poly);
    }
    let poly = ring.evaluate_in_power(limbs, log_run, |id, words| {
        encoded.reduce_power_into(ring.prime(id), log_run, words);
    });
    Ok(poly.map_err(crate::rlwe::RlweError::from)?)
}
