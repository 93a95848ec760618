//! Encryption under the secret or the public key, decryption.

use super::keygen::{check, ClientKey};
use super::secret::SecretPoly;
use crate::ckks::encoding::{Complex, Encoder};
use crate::ckks::{Ciphertext, CkksError, Plaintext};
use crate::ring::{Form, LimbId, RandomSource, RnsPoly};
use crate::rlwe::{RlweContext, RlweError};
use heron_schedule::params::{Level, Scale};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Limbs decryption reads at most: about 190 bits, beyond any message times scale.
const READ_LIMBS: usize = 8;

/// Encryptions of zero anybody may add messages to: (-a·s + e, a) modulo one row.
pub struct PublicKey {
    context: Arc<RlweContext>,
    level: Level,
    b: RnsPoly,
    a: RnsPoly,
    encryptions: AtomicU64,
}

impl ClientKey {
    /// Encrypts under the secret: c0 = -a·s + e + m with fresh a and e, also when `random` has served before. The error is 3.2 per
    /// coefficient.
    ///
    /// # Errors
    /// A plaintext of another context, or a row whose modulus is too large for the secret.
    pub fn encrypt(
        &self,
        message: &Plaintext,
        random: &RandomSource,
    ) -> Result<Ciphertext, CkksError> {
        let limbs = self.context.row(message.level())?.limbs.clone();
        let (mut c0, c1) = self.zero_encryption(&limbs, random)?;
        self.context.ring().add_assign(&mut c0, message.poly());
        Ok(Ciphertext::from_parts(
            vec![c0, c1],
            message.level(),
            message.scale(),
        ))
    }

    fn zero_encryption(
        &self,
        limbs: &[LimbId],
        random: &RandomSource,
    ) -> Result<(RnsPoly, RnsPoly), RlweError> {
        check(&self.context, limbs, &[], self.context.params().secret())?;
        let ring = self.context.ring();
        let number = self.encryptions.fetch_add(1, Ordering::Relaxed);
        let random = random.derive("encryption", &[number]);
        let a =
            random
                .derive("encryption, public part", &[])
                .uniform(ring, limbs, Form::Evaluation);
        let error = random
            .derive("encryption, error", &[])
            .gaussian(ring.degree());
        let mut b = RnsPoly::from_signed(ring, limbs, &error);
        ring.to_evaluation(&mut b);
        let secret = self.secret.main_on(ring, limbs);
        let product = SecretPoly(ring.mul(&a, &secret.0));
        ring.sub_assign(&mut b, &product.0);
        Ok((b, a))
    }

    /// The public key for encrypting at a row.
    ///
    /// # Errors
    /// A row that does not exist, or whose modulus is too large for the secret.
    pub fn public_key(&self, level: Level, random: &RandomSource) -> Result<PublicKey, RlweError> {
        let limbs = self.context.row(level)?.limbs.clone();
        let (b, a) = self.zero_encryption(&limbs, random)?;
        Ok(PublicKey {
            context: Arc::clone(&self.context),
            level,
            b,
            a,
            encryptions: AtomicU64::new(0),
        })
    }

    /// Decrypts and decodes 2^log_slots slots.
    ///
    /// # Errors
    /// A ciphertext of another context, or more slots than N/2.
    pub fn decrypt_slots(
        &self,
        encoder: &Encoder,
        ciphertext: &Ciphertext,
        log_slots: u32,
    ) -> Result<Vec<Complex>, CkksError> {
        let (poly, scale) = self.decrypt(ciphertext)?;
        Ok(encoder.decode_poly(self.context.ring(), &poly, scale, log_slots)?)
    }

    /// c0 + c1·s (+ c2·s²) in coefficient form, on the first limbs of the row: scale · message + noise, to be decoded at the scale returned.
    ///
    /// # Errors
    /// A ciphertext of another context.
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<(RnsPoly, Scale), CkksError> {
        let ring = self.context.ring();
        let row = self.context.row(ciphertext.level())?;
        let limbs = &row.limbs[..row.limbs.len().min(READ_LIMBS)];
        let secret = self.secret.main_on(ring, limbs);
        // Horner: ((c2)·s + c1)·s + c0.
        let mut parts = ciphertext.polys().iter().rev();
        let mut sum = match parts.next() {
            Some(last) => last.select(limbs),
            None => RnsPoly::zero(ring, limbs, Form::Evaluation),
        };
        for part in parts {
            ring.mul_assign(&mut sum, &secret.0);
            ring.add_assign(&mut sum, part);
        }
        ring.to_coefficient(&mut sum);
        Ok((sum, ciphertext.scale()))
    }
}

impl PublicKey {
    /// The row it encrypts at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Encrypts without the secret: v·(b, a) + (e0 + m, e1), v ternary. The error is about 3.2 · sqrt(2N/3 + h) per coefficient.
    ///
    /// # Errors
    /// A plaintext at another level.
    pub fn encrypt(
        &self,
        message: &Plaintext,
        random: &RandomSource,
    ) -> Result<Ciphertext, CkksError> {
        crate::ckks::evaluator::same_level("encrypt", self.level, message.level())?;
        let ring = self.context.ring();
        let n = ring.degree();
        let limbs = self.b.limbs();
        let number = self.encryptions.fetch_add(1, Ordering::Relaxed);
        let random = random.derive("public-key encryption", &[number]);
        let mask = random.derive("encryption, mask", &[]).ternary(n);
        let mask = SecretPoly::evaluate(ring, limbs, &mask);
        let noise = |label| {
            let error = random.derive(label, &[]).gaussian(n);
            SecretPoly::evaluate(ring, limbs, &error)
        };
        let mut c0 = ring.mul(&self.b, &mask.0);
        ring.add_assign(&mut c0, &noise("encryption, error 0").0);
        ring.add_assign(&mut c0, message.poly());
        let mut c1 = ring.mul(&self.a, &mask.0);
        ring.add_assign(&mut c1, &noise("encryption, error 1").0);
        Ok(Ciphertext::from_parts(
            vec![c0, c1],
            message.level(),
            message.scale(),
        ))
    }
}
