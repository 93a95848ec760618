//! Two sources of plaintexts: encoded when asked for, and kept.

use super::encoding::{Complex, EncodedPolynomial, Encoder};
use super::linear::DiagonalSource;
use super::{Basis, CkksError, Plaintext};
use crate::ring::RnsPoly;
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, Scale};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Encodes slot vectors when asked for them: little memory, one transform per use.
pub struct EncodeOnDemand<'a, F> {
    /// Parameters and ring.
    pub context: &'a RlweContext,
    /// The encoder of that ring.
    pub encoder: &'a Encoder,
    /// Scale of all diagonals.
    pub scale: Scale,
    /// The slots of a diagonal by its number; `None` if there is no such diagonal.
    pub slots: F,
}

impl<F> DiagonalSource<RnsPoly> for EncodeOnDemand<'_, F>
where
    F: Fn(usize) -> Option<Vec<Complex>> + Sync,
{
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext>, CkksError> {
        let slots = (self.slots)(index).ok_or(CkksError::Shape {
            op: "linear",
            what: "number of a diagonal without slots",
            expected: 0,
            found: index,
        })?;
        Plaintext::encode(self.context, self.encoder, &slots, level, self.scale, basis)
            .map(Arc::new)
    }
}

/// Residues by diagonal and where they are used.
type Residues = BTreeMap<(usize, Level, Basis), Arc<Plaintext>>;

/// Encoded polynomials, reduced to residues at first use; the residues are kept if `keep` says so (2^18 bytes per limb and diagonal at
/// N = 2^16).
pub struct EncodedDiagonals {
    context: Arc<RlweContext>,
    scale: Scale,
    encoded: Vec<EncodedPolynomial>,
    kept: Option<Mutex<Residues>>,
}

impl EncodedDiagonals {
    /// Diagonals encoded at `scale`, in order.
    pub fn new(
        context: Arc<RlweContext>,
        encoded: Vec<EncodedPolynomial>,
        scale: Scale,
        keep: bool,
    ) -> Self {
        Self {
            context,
            scale,
            encoded,
            kept: keep.then(Mutex::default),
        }
    }

    /// Forgets kept residues.
    pub fn release(&self) {
        if let Some(Ok(mut kept)) = self.kept.as_ref().map(Mutex::lock) {
            kept.clear();
        }
    }
}

impl DiagonalSource<RnsPoly> for EncodedDiagonals {
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext>, CkksError> {
        let key = (index, level, basis);
        if let Some(Ok(kept)) = self.kept.as_ref().map(Mutex::lock) {
            if let Some(plaintext) = kept.get(&key) {
                return Ok(Arc::clone(plaintext));
            }
        }
        let encoded = self.encoded.get(index).ok_or(CkksError::Shape {
            op: "linear",
            what: "number of a diagonal",
            expected: self.encoded.len(),
            found: index,
        })?;
        let plaintext = Plaintext::from_encoded(&self.context, encoded, level, self.scale, basis)?;
        let plaintext = Arc::new(plaintext);
        if let Some(Ok(mut kept)) = self.kept.as_ref().map(Mutex::lock) {
            kept.insert(key, Arc::clone(&plaintext));
        }
        Ok(plaintext)
    }

    fn words(&self, _: usize) -> Option<usize> {
        self.kept.as_ref().map(|_| 0)
    }
}
