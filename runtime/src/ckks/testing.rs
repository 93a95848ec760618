//! What tests share: a toy client with keys, random slots, measured errors. Not secure.

use super::encoding::{Complex, Encoder};
use super::{Basis, Ciphertext, Evaluator, Plaintext, RotationStep};
use crate::client::ClientKey;
use crate::ring::{GaloisElement, RandomSource};
use crate::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Profile, Scale};
use std::sync::Arc;

/// A client and its server in one.
pub(crate) struct Lab {
    pub context: Arc<RlweContext>,
    pub encoder: Encoder,
    pub client: ClientKey,
    pub evaluator: Evaluator,
    pub random: RandomSource,
}

impl Lab {
    /// The toy chain at N = 2^12 with relinearisation, conjugation and the given rotations at `rows`.
    pub fn toy(rows: &[Level], steps: &[i64]) -> Self {
        Self::new(Profile::Toy, rows, steps)
    }

    pub fn new(profile: Profile, rows: &[Level], steps: &[i64]) -> Self {
        let params = ParameterSet::new(profile).expect("profile");
        let log_n = params.log_n();
        let mut request = KeyRequest::new();
        for &row in rows {
            request.add(KeyKind::Relinearisation, row);
            request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), row);
            for &step in steps {
                request.add(KeyKind::Galois(GaloisElement::rotation(step, log_n)), row);
            }
        }
        Self::with_keys(params, &request)
    }

    pub fn with_keys(params: ParameterSet, request: &KeyRequest) -> Self {
        Self::with_context(RlweContext::new(params).expect("context"), request)
    }

    pub fn with_context(context: Arc<RlweContext>, request: &KeyRequest) -> Self {
        let random = RandomSource::from_seed([7; 32]);
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let keys = client
            .evaluation_keys(request, &random.derive("keys", &[]))
            .expect("keys");
        Self {
            encoder: Encoder::for_ring(context.ring()).expect("encoder"),
            evaluator: Evaluator::new(Arc::clone(&context), Arc::new(keys)),
            client,
            context,
            random,
        }
    }

    pub fn scale(&self, level: Level) -> Scale {
        self.context.params().scale(level).expect("canonical scale")
    }

    /// Slots with both parts uniform in [-1, 1], the same on every run.
    pub fn slots(&self, seed: u64) -> Vec<Complex> {
        let mut words = vec![0u32; 2 * self.encoder.slots()];
        let q = (1 << 28) - 57;
        self.random
            .derive("slots", &[seed])
            .uniform_limb(q, &mut words);
        let unit = |w: u32| f64::from(w) / f64::from(q) * 2.0 - 1.0;
        words
            .chunks(2)
            .map(|w| Complex::new(unit(w[0]), unit(w[1])))
            .collect()
    }

    pub fn plaintext(
        &self,
        slots: &[Complex],
        level: Level,
        scale: Scale,
        basis: Basis,
    ) -> Plaintext {
        Plaintext::encode(&self.context, &self.encoder, slots, level, scale, basis).expect("encode")
    }

    pub fn encrypt(&self, slots: &[Complex], level: Level, seed: u64) -> Ciphertext {
        let message = self.plaintext(slots, level, self.scale(level), Basis::Row);
        self.client
            .encrypt(&message, &self.random.derive("encrypt", &[seed]))
            .expect("encrypt")
    }

    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Vec<Complex> {
        let log_slots = self.context.params().log_n() - 1;
        self.client
            .decrypt_slots(&self.encoder, ciphertext, log_slots)
            .expect("decrypt")
    }

    /// Largest and root-mean-square distance of decrypted slots to what they should be.
    pub fn error(&self, ciphertext: &Ciphertext, expected: &[Complex]) -> Measured {
        let found = self.decrypt(ciphertext);
        let distances: Vec<f64> = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a.re - b.re).hypot(a.im - b.im))
            .collect();
        Measured {
            worst: distances.iter().fold(0.0, |m, d| d.max(m)),
            rms: (distances.iter().map(|d| d * d).sum::<f64>() / distances.len() as f64).sqrt(),
        }
    }
}

/// A measured error over the slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub worst: f64,
    pub rms: f64,
}

impl Measured {
    /// Prints measured and predicted, and fails if the measured error is beyond the bound.
    pub fn within(self, what: &str, predicted: f64) {
        println!(
            "{what}: worst 2^{:.2}, rms 2^{:.2}, predicted bound 2^{:.2}",
            self.worst.log2(),
            self.rms.log2(),
            predicted.log2()
        );
        assert!(self.worst <= predicted, "{what} beyond its bound");
        assert!(
            self.worst >= predicted / 4096.0,
            "{what}: bound so loose that it says nothing"
        );
    }
}

pub(crate) fn times(a: Complex, b: Complex) -> Complex {
    Complex::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
}

/// Slot i of the result is slot i + step.
pub(crate) fn rotated(slots: &[Complex], step: i64) -> Vec<Complex> {
    let n = slots.len() as i64;
    (0..n)
        .map(|i| slots[(i + step).rem_euclid(n) as usize])
        .collect()
}

pub(crate) fn step(k: i64) -> RotationStep {
    RotationStep(k)
}
