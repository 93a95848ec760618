//! Between the host, where clients encrypt and files are read, and the backend that computes.

use super::ciphertext::residues;
use super::encoding::{Coefficients, EncodedPolynomial};
use super::linear::DiagonalSource;
use super::{Basis, Ciphertext, CkksError, Plaintext};
use crate::backend::gpu::{
    alike, DeviceError, Gpu, GpuPoly, Integers, KernelTime, Places, TOGETHER,
};
use crate::backend::{Backend, Cpu};
use crate::ring::{LimbId, RnsPoly};
use crate::rlwe::{RlweContext, RlweError};
use heron_schedule::params::Level;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A backend with a way there and back, and with an end of what was started: for running schedules from files and for timing.
pub trait Transfer: Backend<Poly: 'static> {
    /// Its name in reports.
    const NAME: &'static str;

    /// Name of the device and the most bytes of it that were in use, if it has memory of its own.
    fn device(&self) -> Option<(String, u64)>;

    /// Brings a polynomial there.
    fn bring_poly(&self, poly: RnsPoly) -> Self::Poly;

    /// The values of an encoded polynomial on `limbs`, each standing for 2^log_run of them: at most as many as its coefficients' distance allows.
    ///
    /// # Errors
    /// A polynomial of another ring.
    fn encode(
        &self,
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        limbs: &[LimbId],
        log_run: u32,
    ) -> Result<Self::Poly, CkksError>;

    /// Polynomials that are worth encoding together: 1 where that gains nothing.
    fn encodes_together(&self) -> usize {
        1
    }

    /// [`Transfer::encode`] of several polynomials, each with its run.
    ///
    /// # Errors
    /// As [`Transfer::encode`].
    fn encode_each(
        &self,
        context: &RlweContext,
        encoded: &[(&EncodedPolynomial, u32)],
        limbs: &[LimbId],
    ) -> Result<Vec<Self::Poly>, CkksError> {
        let each = encoded.iter();
        each.map(|&(polynomial, log_run)| self.encode(context, polynomial, limbs, log_run))
            .collect()
    }

    /// Brings a ciphertext there.
    fn bring(&self, ct: Ciphertext) -> Ciphertext<Self::Poly> {
        let (level, scale) = (ct.level(), ct.scale());
        let polys = ct.into_polys().into_iter().map(|p| self.bring_poly(p));
        Ciphertext::from_parts(polys.collect(), level, scale)
    }

    /// Brings a plaintext there.
    fn bring_plaintext(&self, plain: Plaintext) -> Plaintext<Self::Poly> {
        Plaintext::from_parts(self.bring_poly(plain.poly), plain.level, plain.scale)
    }

    /// Brings a ciphertext back.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    fn fetch_back(&self, ciphertext: &Ciphertext<Self::Poly>) -> Result<Ciphertext, DeviceError>;

    /// Waits for what was started, so that time is counted where it is spent.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    fn settle(&self) -> Result<(), DeviceError>;

    /// What `work` takes of the device, by kernel. Without a device nothing is done.
    ///
    /// # Errors
    /// The first failure of the device, whenever it was.
    fn by_kernel(&self, work: &mut dyn FnMut()) -> Result<Vec<KernelTime>, DeviceError>;
}

impl Transfer for Cpu {
    const NAME: &'static str = "cpu";

    fn device(&self) -> Option<(String, u64)> {
        None
    }
    fn bring_poly(&self, poly: RnsPoly) -> RnsPoly {
        poly
    }
    fn encode(
        &self,
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        limbs: &[LimbId],
        log_run: u32,
    ) -> Result<RnsPoly, CkksError> {
        residues(context, encoded, limbs, log_run)
    }
    fn fetch_back(&self, ciphertext: &Ciphertext) -> Result<Ciphertext, DeviceError> {
        Ok(ciphertext.clone())
    }
    fn settle(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    fn by_kernel(&self, _: &mut dyn FnMut()) -> Result<Vec<KernelTime>, DeviceError> {
        Ok(Vec::new())
    }
}

impl Transfer for Gpu {
    const NAME: &'static str = "cuda";

    fn device(&self) -> Option<(String, u64)> {
        Some((self.device_name(), self.most_bytes()))
    }
    fn bring_poly(&self, poly: RnsPoly) -> Self::Poly {
        self.upload(&poly)
    }

    fn encode(
        &self,
        context: &RlweContext,
        encoded: &EncodedPolynomial,
        limbs: &[LimbId],
        log_run: u32,
    ) -> Result<Self::Poly, CkksError> {
        let made = self.encode_each(context, &[(encoded, log_run)], limbs)?;
        super::batch::only("encode", made)
    }

    fn encodes_together(&self) -> usize {
        TOGETHER
    }

    /// The device makes residues and values of the coefficients, which are a fraction of what they become: of those of one shape at once.
    fn encode_each(
        &self,
        context: &RlweContext,
        encoded: &[(&EncodedPolynomial, u32)],
        limbs: &[LimbId],
    ) -> Result<Vec<Self::Poly>, CkksError> {
        let ring = context.ring();
        ring.check_limbs(limbs).map_err(RlweError::from)?;
        let places = |&(polynomial, log_run): &(&EncodedPolynomial, u32)| Places {
            limbs,
            log_run,
            log_gap: polynomial.log_stride().saturating_sub(log_run),
        };
        let mut made: Vec<Option<GpuPoly>> = encoded.iter().map(|_| None).collect();
        let shapes = encoded.iter().map(|e| {
            let (integers, places) = (integers(e.0), places(e));
            let taken = e.0.log_n() == ring.log_n() && self.takes_integers(&integers, places);
            taken.then_some((integers.words(), places.log_run, places.log_gap))
        });
        let shapes: Vec<_> = shapes.collect();
        for numbers in alike(shapes.iter()) {
            if shapes[numbers[0]].is_none() {
                for i in numbers {
                    let (polynomial, log_run) = encoded[i];
                    let residues = residues(context, polynomial, limbs, log_run)?;
                    made[i] = Some(self.upload(&residues));
                }
                continue;
            }
            let all: Vec<Integers<'_>> = numbers.iter().map(|&i| integers(encoded[i].0)).collect();
            let values = self.values_of(&all, places(&encoded[numbers[0]]));
            for (i, poly) in numbers.into_iter().zip(values) {
                made[i] = Some(poly);
            }
        }
        Ok(made.into_iter().flatten().collect())
    }
    fn fetch_back(&self, ct: &Ciphertext<Self::Poly>) -> Result<Ciphertext, DeviceError> {
        let polys = ct.polys().iter().map(|p| self.fetch(p));
        let polys = polys.collect::<Result<_, _>>()?;
        Ok(Ciphertext::from_parts(polys, ct.level(), ct.scale()))
    }
    fn settle(&self) -> Result<(), DeviceError> {
        Gpu::settle(self)
    }
    fn by_kernel(&self, work: &mut dyn FnMut()) -> Result<Vec<KernelTime>, DeviceError> {
        Ok(self.timed(work)?.1)
    }
}

fn integers(encoded: &EncodedPolynomial) -> Integers<'_> {
    match encoded.coefficients() {
        Coefficients::Narrow(values) => Integers::Narrow(values),
        Coefficients::Wide(values) => Integers::Wide(values),
    }
}

impl From<DeviceError> for CkksError {
    fn from(error: DeviceError) -> Self {
        CkksError::Rlwe(error.into())
    }
}

/// Plaintexts on a backend by diagonal and where they are used.
type Kept<P> = BTreeMap<(usize, Level, Basis), Arc<Plaintext<P>>>;

/// Diagonals of the host, for a backend: brought there when asked for, and kept there if `kept` is there.
pub struct Brought<'a, B: Transfer> {
    backend: &'a B,
    source: &'a dyn DiagonalSource<RnsPoly>,
    kept: Option<Mutex<Kept<B::Poly>>>,
}

impl<'a, B: Transfer> Brought<'a, B> {
    /// The diagonals of `source`, kept after their first use or not.
    pub fn new(backend: &'a B, source: &'a dyn DiagonalSource<RnsPoly>, keep: bool) -> Self {
        Brought {
            backend,
            source,
            kept: keep.then(Mutex::default),
        }
    }
}

impl<B: Transfer> DiagonalSource<B::Poly> for Brought<'_, B> {
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext<B::Poly>>, CkksError> {
        let key = (index, level, basis);
        if let Some(Ok(kept)) = self.kept.as_ref().map(Mutex::lock) {
            if let Some(plaintext) = kept.get(&key) {
                return Ok(Arc::clone(plaintext));
            }
        }
        let plain = self.source.diagonal(index, level, basis)?;
        let plain = Arc::new(self.backend.bring_plaintext(Arc::unwrap_or_clone(plain)));
        if let Some(Ok(mut kept)) = self.kept.as_ref().map(Mutex::lock) {
            kept.insert(key, Arc::clone(&plain));
        }
        Ok(plain)
    }

    fn words(&self, index: usize) -> Option<usize> {
        match self.kept {
            Some(_) => Some(0),
            None => self.source.words(index),
        }
    }
}
