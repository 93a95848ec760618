//! Ciphertexts and plaintexts: residues with a level and an exact scale.

use crate::ring::RnsPoly;
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
