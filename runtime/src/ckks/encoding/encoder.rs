//! Encoding and decoding vectors of slots.

use super::crt::Garner;
use super::{Complex, EncodedPolynomial, EncodingError, SlotTransform};
use crate::ring::{InstructionSet, LimbId, RingContext, RnsPoly};
use heron_schedule::params::Scale;

/// Encodes and decodes for one ring. Immutable; share it between threads, one vector per thread.
pub struct Encoder {
    log_n: u32,
    set: InstructionSet,
    transform: SlotTransform,
}

impl Encoder {
    /// Tables for the ring of dimension 2^log_n, 3 ≤ log_n ≤ 17.
    pub fn new(log_n: u32) -> Result<Encoder, EncodingError> {
        Self::with_instruction_set(log_n, InstructionSet::detect())
    }

    /// The encoder of a ring, on the ring's instruction set.
    ///
    /// # Errors
    /// None for a ring that exists.
    pub fn for_ring(ring: &RingContext) -> Result<Encoder, EncodingError> {
        Self::with_instruction_set(ring.log_n(), ring.instruction_set())
    }

    /// As [`Encoder::new`], on a given instruction set, or on the portable code where the machine lacks it. Results do not depend on it.
    fn with_instruction_set(log_n: u32, set: InstructionSet) -> Result<Encoder, EncodingError> {
        let set = match set.is_available() {
            true => set,
            false => InstructionSet::Portable,
        };
        if !(3..=17).contains(&log_n) {
            return Err(EncodingError::RingSize { found: log_n });
        }
        Ok(Encoder {
            log_n,
            set,
            transform: SlotTransform::new(log_n - 1)?,
        })
    }

    /// Base-two logarithm of the ring dimension.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// N/2, the most slots a vector may have.
    pub fn slots(&self) -> usize {
        1 << (self.log_n - 1)
    }

    /// The transform between coefficients and slots, for building it homomorphically.
    pub fn transform(&self) -> &SlotTransform {
        &self.transform
    }

    /// Encodes 2^k ≤ N/2 complex slots; fewer than N/2 repeat periodically (a polynomial in X^(N/2^(k+1))).
    /// A slot of the result differs from value · scale by at most N/2 · (1/2 + 2^-50 · largest coefficient); for
    /// random values about sqrt(N/12).
    pub fn encode(
        &self,
        slots: &[Complex],
        scale: Scale,
    ) -> Result<EncodedPolynomial, EncodingError> {
        let re = slots.iter().map(|z| z.re).collect();
        let im = slots.iter().map(|z| z.im).collect();
        self.encode_parts(re, im, scale, self.set)
    }

    /// [`Encoder::encode`] of real slots.
    pub fn encode_real(
        &self,
        slots: &[f64],
        scale: Scale,
    ) -> Result<EncodedPolynomial, EncodingError> {
        let im = vec![0.0; slots.len()];
        self.encode_parts(slots.to_vec(), im, scale, self.set)
    }

    pub(super) fn encode_parts(
        &self,
        mut re: Vec<f64>,
        mut im: Vec<f64>,
        scale: Scale,
        set: InstructionSet,
    ) -> Result<EncodedPolynomial, EncodingError> {
        self.transform.check_length(re.len())?;
        check_finite(&re)?;
        check_finite(&im)?;
        self.transform.inverse_parts(set, &mut re, &mut im);
        re.append(&mut im);
        let log_stride = self.log_n - re.len().trailing_zeros();
        EncodedPolynomial::round(self.log_n, log_stride, re, scale.to_f64(), set)
    }

    /// Encodes the same value in every slot: re + im·X^(N/2), each part times the exact scale, rounded half to even once.
    pub fn encode_constant(
        &self,
        value: Complex,
        scale: Scale,
    ) -> Result<EncodedPolynomial, EncodingError> {
        let parts = vec![constant(value.re, scale)?, constant(value.im, scale)?];
        Ok(EncodedPolynomial::from_integers(
            self.log_n,
            self.log_n - 1,
            parts,
        ))
    }

    /// Encodes and reduces: residues on `limbs` in coefficient form.
    pub fn encode_to_poly(
        &self,
        ring: &RingContext,
        limbs: &[LimbId],
        slots: &[Complex],
        scale: Scale,
    ) -> Result<RnsPoly, EncodingError> {
        self.encode(slots, scale)?.to_poly(ring, limbs)
    }

    /// [`Encoder::encode_to_poly`] of real slots.
    pub fn encode_real_to_poly(
        &self,
        ring: &RingContext,
        limbs: &[LimbId],
        slots: &[f64],
        scale: Scale,
    ) -> Result<RnsPoly, EncodingError> {
        self.encode_real(slots, scale)?.to_poly(ring, limbs)
    }

    /// Decodes 2^log_slots slots from residues in coefficient form: `limbs[i]` are the N residues modulo `primes[i]`, at most 32 of them.
    /// Coefficients outside the subring of 2^log_slots slots are ignored, which projects a noisy polynomial onto it.
    pub fn decode(
        &self,
        limbs: &[&[u32]],
        primes: &[u32],
        scale: Scale,
        log_slots: u32,
    ) -> Result<Vec<Complex>, EncodingError> {
        if limbs.len() != primes.len() {
            return Err(EncodingError::Residues {
                what: "limbs and primes differ in number",
                expected: primes.len(),
                found: limbs.len(),
            });
        }
        let n = 1usize << self.log_n;
        if let Some(limb) = limbs.iter().find(|limb| limb.len() != n) {
            return Err(EncodingError::Residues {
                what: "a limb has the wrong number of residues",
                expected: n,
                found: limb.len(),
            });
        }
        if log_slots >= self.log_n {
            return Err(EncodingError::SlotCount {
                found: 1usize.checked_shl(log_slots).unwrap_or(usize::MAX),
                most: self.slots(),
            });
        }
        for (limb, &p) in limbs.iter().zip(primes) {
            if limb.iter().any(|&r| r >= p) {
                return Err(EncodingError::Modulus { found: p });
            }
        }
        let garner = Garner::new(primes)?;
        let scale = scale.to_f64();
        let count = 1usize << log_slots;
        let stride = n >> (log_slots + 1);
        let part = |first: usize| -> Vec<f64> {
            (first..first + count)
                .map(|k| garner.centred_over(limbs.iter().map(|limb| limb[k * stride]), scale))
                .collect()
        };
        let (mut re, mut im) = (part(0), part(count));
        self.transform.forward_parts(self.set, &mut re, &mut im);
        Ok(re
            .into_iter()
            .zip(im)
            .map(|(re, im)| Complex { re, im })
            .collect())
    }

    /// [`Encoder::decode`] of a polynomial in coefficient form.
    pub fn decode_poly(
        &self,
        ring: &RingContext,
        poly: &RnsPoly,
        scale: Scale,
        log_slots: u32,
    ) -> Result<Vec<Complex>, EncodingError> {
        if poly.form() != crate::ring::Form::Coefficient {
            return Err(EncodingError::EvaluationForm);
        }
        ring.check_limbs(poly.limbs())?;
        let primes: Vec<u32> = poly.limbs().iter().map(|&l| ring.prime(l)).collect();
        let limbs: Vec<&[u32]> = (0..poly.limb_count()).map(|i| poly.limb(i)).collect();
        self.decode(&limbs, &primes, scale, log_slots)
    }
}

/// round(value · scale), half to even, as an integer below 2^126.
fn constant(value: f64, scale: Scale) -> Result<i128, EncodingError> {
    let integer = scale
        .scaled_integer(value)
        .ok_or(EncodingError::NotFinite {
            slot: 0,
            found: value,
        })?;
    match i128::try_from(&integer) {
        Ok(v) if v.unsigned_abs() < 1 << 126 => Ok(v),
        _ => Err(EncodingError::TooLarge {
            scale_log2: scale.log2(),
            coefficient_log2: integer.bits() as f64,
        }),
    }
}

fn check_finite(values: &[f64]) -> Result<(), EncodingError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(slot) => Err(EncodingError::NotFinite {
            slot,
            found: values[slot],
        }),
    }
}
