//! The circuit on encrypted toys (not secure), each step against its f64 oracle.

use super::scales::Tuning;
use super::{requirements, Bootstrapper, Kind};
use crate::ckks::encoding::{Complex, Encoder};
use crate::ckks::{Ciphertext, Evaluator, Plaintext};
use crate::client::ClientKey;
use crate::ring::RandomSource;
use crate::rlwe::RlweContext;
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

struct Lab {
    context: Arc<RlweContext>,
    encoder: Encoder,
    client: ClientKey,
    evaluator: Evaluator,
    bootstrapper: Bootstrapper,
    random: RandomSource,
}

impl Lab {
    fn new(log_n: u32, kinds: &[Kind]) -> Lab {
        Lab::tuned(log_n, kinds, Tuning::STANDARD)
    }

    fn tuned(log_n: u32, kinds: &[Kind], tuning: Tuning) -> Lab {
        let params = ParameterSet::with_ring(Profile::ToySecure, log_n).unwrap();
        let context = RlweContext::new(params).unwrap();
        let random = RandomSource::from_seed([3; 32]);
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let request = requirements(context.params(), tuning, kinds).unwrap();
        let keys = client
            .evaluation_keys(&request, &random.derive("keys", &[]))
            .unwrap();
        let evaluator = Evaluator::new(Arc::clone(&context), Arc::new(keys));
        let bootstrapper = Bootstrapper::new(&context, evaluator.backend(), tuning, kinds).unwrap();
        Lab {
            encoder: Encoder::new(log_n).unwrap(),
            context,
            client,
            evaluator,
            bootstrapper,
            random,
        }
    }

    /// 2^log_slots values with both parts uniform in [-size, size].
    fn values(&self, log_slots: u32, size: f64, seed: u64) -> Vec<Complex> {
        let mut words = vec![0u32; 2 << log_slots];
        let q = (1 << 28) - 57;
        self.random
            .derive("slots", &[seed])
            .uniform_limb(q, &mut words);
        let unit = |w: u32| size * (f64::from(w) / f64::from(q) * 2.0 - 1.0);
        words
            .chunks(2)
            .map(|w| Complex::new(unit(w[0]), unit(w[1])))
            .collect()
    }

    fn encrypt(&self, slots: &[Complex], level: Level, seed: u64) -> Ciphertext {
        let ring = self.context.ring();
        let scale = self.context.params().scale(level).unwrap();
        let limbs = &self.context.row(level).unwrap().limbs;
        let mut poly = self
            .encoder
            .encode_to_poly(ring, limbs, slots, scale)
            .unwrap();
        ring.to_evaluation(&mut poly);
        let message = Plaintext::from_parts(poly, level, scale);
        self.client
            .encrypt(&message, &self.random.derive("encrypt", &[seed]))
            .unwrap()
    }

    fn decrypt(&self, ct: &Ciphertext, log_slots: u32) -> Vec<Complex> {
        let (poly, scale) = self.client.decrypt(ct).unwrap();
        self.encoder
            .decode_poly(self.context.ring(), &poly, scale, log_slots)
            .unwrap()
    }
}

fn real(values: &[Complex]) -> Vec<Complex> {
    values.iter().map(|v| Complex::new(v.re, 0.0)).collect()
}

fn imaginary(values: &[Complex]) -> Vec<Complex> {
    values.iter().map(|v| Complex::new(v.im, 0.0)).collect()
}

/// Largest and root-mean-square distance.
fn distance(a: &[Complex], b: &[Complex]) -> (f64, f64) {
    assert_eq!(a.len(), b.len());
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a.re - b.re).powi(2) + (a.im - b.im).powi(2));
    let squares: Vec<f64> = squares.collect();
    let worst = squares.iter().fold(0f64, |m, &s| m.max(s)).sqrt();
    let mean = squares.iter().sum::<f64>() / squares.len() as f64;
    (worst, mean.sqrt())
}

/// Root mean square of a slot's error by the parameter sheet: 2^-39.4 of q0 per coefficient at N = 2^16, smaller with the square root of N,
/// times sqrt(N) for both parts and the ratio; and the sine's cubic term for messages of a random slots' coefficients.
fn predicted_rms(lab: &Lab, size: f64) -> f64 {
    let n = f64::from(1u32 << lab.context.params().log_n());
    let ratio = lab.bootstrapper.plan().ratio;
    let noise = 2f64.powf(-39.4) * (n / 65536.0).sqrt() * n.sqrt() * ratio;
    // Coefficients of size · sqrt(2/3) / sqrt(n/2) · sqrt(1/2): Gaussian, E c^6 = 15.
    let c = size * (2.0 / 3.0 / n).sqrt();
    let cubic =
        std::f64::consts::TAU.powi(2) / 6.0 * 15f64.sqrt() * c.powi(3) / ratio.powi(2) * n.sqrt();
    noise.hypot(cubic)
}

fn check(what: &str, lab: &Lab, got: &[Complex], expected: &[Complex], size: f64) {
    let (worst, rms) = distance(got, expected);
    let predicted = predicted_rms(lab, size);
    println!(
        "{what}: rms 2^{:.2} (predicted 2^{:.2}), worst 2^{:.2} (bound 2^{:.2})",
        rms.log2(),
        predicted.log2(),
        worst.log2(),
        (8.0 * predicted).log2()
    );
    assert!(
        rms < 2.5 * predicted,
        "{what}: {rms:e} against {predicted:e}"
    );
    assert!(worst < 8.0 * predicted, "{what}: {worst:e}");
}

#[test]
fn full_bootstrap_returns_the_slots_at_the_highest_usable_level() {
    let lab = Lab::new(11, &[Kind::Full]);
    let top = lab.context.params().top_usable();
    let values = lab.values(10, 1.0, 1);
    let ct = lab.encrypt(&values, Level(0), 1);
    let out = lab.bootstrapper.full(&lab.evaluator, &ct, top).unwrap();
    assert_eq!(
        (out.level(), out.scale()),
        (top, lab.context.params().scale(top).unwrap())
    );
    check("full, complex", &lab, &lab.decrypt(&out, 10), &values, 1.0);
}
