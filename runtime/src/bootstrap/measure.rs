//! How good and how fast a bootstrap is: real keys, random slots, errors after decryption. For the bench and for `heron bench bootstrap`.

use super::{requirements, BootstrapError, Bootstrapper, Kind, Tuning};
use crate::backend::gpu::DeviceError;
use crate::backend::Cpu;
use crate::ckks::encoding::{Complex, Encoder};
use crate::ckks::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, Transfer};
use crate::client::ClientKey;
use crate::ring::RandomSource;
use crate::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{log2_interval_failure, Interval64, Level, ParameterSet, SecretKind};
use std::sync::Arc;
use std::time::Instant;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Real slots uniform in [-1, 1].
    Real,
    /// Complex slots, both parts uniform in [-1, 1].
    Complex,
}

/// One measurement. Precision is -log2 of the error of a slot (its absolute value for complex slots).
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Kind of bootstrap.
    pub kind: Kind,
    /// Real or complex.
    pub slots: Slots,
    /// Number of independent slots per bootstrap.
    pub count: usize,
    /// Bootstraps measured.
    pub vectors: usize,
    /// -log2 of the mean error.
    pub mean_bits: f64,
    /// -log2 of the worst error of any slot of any vector.
    pub worst_bits: f64,
    /// Median of the times of one bootstrap.
    pub median_seconds: f64,
    /// Shortest time.
    pub least_seconds: f64,
    /// Levels left until the next bootstrap.
    pub levels_after: u8,
    /// Bits of modulus the levels left take up.
    pub usable_bits: f64,
    /// -log2 of the mean error after one multiplication per level left; every product compared with the plaintext's.
    pub bits_after_products: f64,
}

/// A client, a server and a bootstrapper in one, for measuring.
pub struct Bench<B: Transfer = Cpu> {
    context: Arc<RlweContext>,
    encoder: Encoder,
    client: ClientKey,
    evaluator: Evaluator<B>,
    bootstrapper: Bootstrapper<B>,
    random: RandomSource,
    /// Size of all evaluation keys but those of the products that prove the levels.
    pub key_bytes: u64,
    /// Number of evaluation keys.
    pub keys: usize,
    /// Seconds to generate them.
    pub keygen_seconds: f64,
    /// Seconds to prepare the circuit.
    pub prepare_seconds: f64,
}

impl Bench {
    /// Generates keys for these kinds and prepares the circuit.
    ///
    /// # Errors
    /// A parameter set without bootstrapping.
    pub fn new(
        params: ParameterSet,
        tuning: Tuning,
        kinds: &[Kind],
        random: RandomSource,
    ) -> Result<Bench, BootstrapError> {
        Bench::on(params, tuning, kinds, random, |context| {
            Ok(Cpu::new(Arc::clone(context)))
        })
    }
}

impl<B: Transfer> Bench<B> {
    /// As [`Bench::new`], on the backend that `machine` makes for the ring.
    ///
    /// # Errors
    /// A parameter set without bootstrapping, or no such machine.
    pub fn on(
        params: ParameterSet,
        tuning: Tuning,
        kinds: &[Kind],
        random: RandomSource,
        machine: impl FnOnce(&Arc<RlweContext>) -> Result<B, DeviceError>,
    ) -> Result<Bench<B>, BootstrapError> {
        let context = RlweContext::new(params)?;
        let backend = machine(&context).map_err(CkksError::from)?;
        let encoder = Encoder::for_ring(context.ring())?;
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let mut request = requirements(context.params(), tuning, kinds)?;
        let mut products = KeyRequest::new();
        for level in 1..=context.params().top_usable().0 {
            products.add(KeyKind::Relinearisation, Level(level));
        }
        request.merge(&products);
        let start = Instant::now();
        let keys = client.evaluation_keys(&request, &random.derive("keys", &[]))?;
        let keygen_seconds = start.elapsed().as_secs_f64();
        let (key_bytes, count) = (keys.bytes(), keys.len());
        let evaluator = Evaluator::on(backend, Arc::clone(&context), Arc::new(keys));
        let start = Instant::now();
        let bootstrapper = Bootstrapper::new(&context, evaluator.backend(), tuning, kinds)?;
        settle(evaluator.backend())?;
        Ok(Bench {
            prepare_seconds: start.elapsed().as_secs_f64(),
            context,
            encoder,
            client,
            evaluator,
            bootstrapper,
            random,
            key_bytes,
            keys: count,
            keygen_seconds,
        })
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        self.evaluator.backend()
    }

    /// The parameter set.
    pub fn params(&self) -> &ParameterSet {
        self.context.params()
    }

    /// log2 of the probability that any coefficient leaves EvalMod's interval in `bootstraps` bootstraps, for any message.
    pub fn failure_probability_log2(&self, bootstraps: u64) -> f64 {
        failure_probability_log2(self.params(), self.bootstrapper.tuning(), bootstraps)
    }

    /// Bootstraps `vectors` random vectors of one kind, at least one.
    ///
    /// # Errors
    /// A kind that was not prepared.
    pub fn measure(
        &self,
        kind: Kind,
        slots: Slots,
        vectors: usize,
    ) -> Result<Measurement, BootstrapError> {
        let params = self.params();
        let (top, log_slots) = (self.bootstrapper.rows().out, kind.log_slots(params));
        let mut errors = Errors::default();
        let mut times = Vec::new();
        let mut after = f64::NAN;
        for vector in 0..vectors.max(1) {
            let seed = vector as u64;
            let (a, b) = (
                self.values(log_slots, slots, 2 * seed),
                self.values(log_slots, slots, 2 * seed + 1),
            );
            let ct = self.encrypt(&a, 2 * seed)?;
            let backend = self.evaluator.backend();
            let start;
            let (mut results, ev) = (Vec::new(), &self.evaluator);
            match kind {
                Kind::Full => {
                    settle(backend)?;
                    start = Instant::now();
                    results.push((self.bootstrapper.full(ev, &ct, top)?, &a));
                }
                Kind::Complex => {
                    settle(backend)?;
                    start = Instant::now();
                    results.push((self.bootstrapper.complex(ev, &ct, top)?, &a));
                }
                Kind::Sparse { log_slots } => {
                    settle(backend)?;
                    start = Instant::now();
                    results.push((self.bootstrapper.sparse(ev, &ct, log_slots, top)?, &a));
                }
                Kind::ComplexPair => {
                    let other = self.encrypt(&b, 2 * seed + 1)?;
                    settle(backend)?;
                    start = Instant::now();
                    let (first, second) = self.bootstrapper.pair(ev, &ct, &other, top)?;
                    results.push((first, &a));
                    results.push((second, &b));
                }
            }
            settle(backend)?;
            times.push(start.elapsed().as_secs_f64());
            for (ct, expected) in &results {
                errors.add(&self.decrypt(ct, log_slots)?, expected, slots);
            }
            if vector == 0 {
                if let Some((ct, expected)) = results.pop() {
                    after = self.products(ct, expected, log_slots, slots)?;
                }
            }
        }
        times.sort_by(f64::total_cmp);
        let bottom = self.bootstrapper.rows().input;
        let bits = params.row(top)?.log2_modulus - params.row(bottom)?.log2_modulus;
        Ok(Measurement {
            kind,
            slots,
            count: 1 << log_slots,
            vectors: vectors.max(1),
            mean_bits: -(errors.sum / errors.count).log2(),
            worst_bits: -errors.worst.log2(),
            median_seconds: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
            least_seconds: times.first().copied().unwrap_or(f64::NAN),
            levels_after: top.0.saturating_sub(bottom.0),
            usable_bits: bits,
            bits_after_products: after,
        })
    }

    /// Median and shortest time of bootstrapping `count` ciphertexts of real slots at once, over `runs` runs after one that is not timed.
    ///
    /// # Errors
    /// If [`Kind::Full`] was not prepared.
    pub fn together(&self, count: usize, runs: usize) -> Result<(f64, f64), BootstrapError> {
        let (backend, top) = (self.backend(), self.bootstrapper.rows().out);
        let log_slots = Kind::Full.log_slots(self.params());
        let each = (0..count as u64).map(|i| {
            let values = self.values(log_slots, Slots::Real, i);
            self.encrypt(&values, i)
        });
        let cts = each.collect::<Result<Vec<_>, _>>()?;
        let cts: Vec<_> = cts.iter().collect();
        let mut times = Vec::new();
        for run in 0..=runs.max(1) {
            settle(backend)?;
            let start = Instant::now();
            let results = self
                .bootstrapper
                .each(&self.evaluator, &cts, Kind::Full, top)?;
            settle(backend)?;
            if run > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
            drop(results);
        }
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied();
        Ok((
            median.unwrap_or(f64::NAN),
            times.first().copied().unwrap_or(f64::NAN),
        ))
    }

    /// Time of each step of one full bootstrap by the caller's clock: SlotsToCoeffs, ModRaise with its two key switches, CoeffsToSlots
    /// with the conjugation, EvalMod.
    ///
    /// # Errors
    /// If [`Kind::Full`] was not prepared.
    pub fn phases(
        &self,
        clock: &dyn Fn() -> f64,
    ) -> Result<[(&'static str, f64); 4], BootstrapError> {
        let log_slots = Kind::Full.log_slots(self.params());
        let ct = self.encrypt(&self.values(log_slots, Slots::Real, 0), 0)?;
        let (b, ev) = (&self.bootstrapper, &self.evaluator);
        let mut last = clock();
        let mut lap = || -> Result<f64, BootstrapError> {
            settle(ev.backend())?;
            let now = clock();
            Ok(now - std::mem::replace(&mut last, now))
        };
        let bottom = b.slots_to_coeffs(ev, vec![ct], Kind::Full)?;
        let stc = lap()?;
        let raised = b.mod_raise(ev, bottom)?;
        let raise = lap()?;
        let slots = b.coeffs_to_slots(ev, raised, Kind::Full)?;
        let real = b.real_part(ev, &slots)?;
        drop(slots);
        let cts = lap()?;
        b.reduce(ev, real)?;
        Ok([
            ("slots_to_coeffs", stc),
            ("mod_raise", raise),
            ("coeffs_to_slots", cts),
            ("eval_mod", lap()?),
        ])
    }

    /// Multiplies the result by fresh vectors until no level is left.
    fn products(
        &self,
        mut ct: Ciphertext<B::Poly>,
        expected: &[Complex],
        log_slots: u32,
        slots: Slots,
    ) -> Result<f64, BootstrapError> {
        let mut expected = expected.to_vec();
        while ct.level() > self.bootstrapper.rows().input {
            let level = ct.level();
            // Factors of size one, so that the values do not fade.
            let factor: Vec<Complex> = self
                .values(log_slots, Slots::Real, 1000 + u64::from(level.0))
                .iter()
                .map(|v| Complex::new(if v.re < 0.0 { -1.0 } else { 1.0 }, 0.0))
                .collect();
            let other = self.encrypt_at(&factor, level, 1000 + u64::from(level.0))?;
            ct = self.evaluator.mul_rescale(&ct, &other)?;
            for (e, f) in expected.iter_mut().zip(&factor) {
                *e = Complex::new(e.re * f.re, e.im * f.re);
            }
        }
        let mut errors = Errors::default();
        errors.add(&self.decrypt(&ct, log_slots)?, &expected, slots);
        Ok(-(errors.sum / errors.count).log2())
    }

    fn values(&self, log_slots: u32, slots: Slots, seed: u64) -> Vec<Complex> {
        const RANGE: u32 = (1 << 28) - 57;
        let mut words = vec![0u32; 2 << log_slots];
        self.random
            .derive("slots", &[seed])
            .uniform_limb(RANGE, &mut words);
        let unit = |w: u32| f64::from(w) / f64::from(RANGE) * 2.0 - 1.0;
        let value = |w: &[u32]| match (w, slots) {
            ([re, ..], Slots::Real) => Complex::new(unit(*re), 0.0),
            ([re, im], Slots::Complex) => Complex::new(unit(*re), unit(*im)),
            _ => Complex::default(),
        };
        words.chunks(2).map(value).collect()
    }

    /// Slots of a ciphertext that was brought back.
    fn decrypt(
        &self,
        ct: &Ciphertext<B::Poly>,
        log_slots: u32,
    ) -> Result<Vec<Complex>, BootstrapError> {
        let back = self.evaluator.backend().fetch_back(ct);
        let back = back.map_err(CkksError::from)?;
        Ok(self.client.decrypt_slots(&self.encoder, &back, log_slots)?)
    }

    fn encrypt(&self, slots: &[Complex], seed: u64) -> Result<Ciphertext<B::Poly>, BootstrapError> {
        self.encrypt_at(slots, self.bootstrapper.rows().input, seed)
    }

    fn encrypt_at(
        &self,
        slots: &[Complex],
        level: Level,
        seed: u64,
    ) -> Result<Ciphertext<B::Poly>, BootstrapError> {
        let scale = self.params().scale(level)?;
        let message = Plaintext::encode(
            &self.context,
            &self.encoder,
            slots,
            level,
            scale,
            Basis::Row,
        )?;
        let random = self.random.derive("encrypt", &[seed]);
        let fresh = self.client.encrypt(&message, &random)?;
        Ok(self.evaluator.backend().bring(fresh))
    }
}

fn settle<B: Transfer>(backend: &B) -> Result<(), BootstrapError> {
    Ok(backend.settle().map_err(CkksError::from)?)
}

/// log2 of the probability that any coefficient leaves EvalMod's interval in `bootstraps` full bootstraps, whatever the messages.
pub fn failure_probability_log2(params: &ParameterSet, tuning: Tuning, bootstraps: u64) -> f64 {
    let weight = match params.ephemeral_secret() {
        SecretKind::SparseTernary { hamming_weight } => hamming_weight,
        SecretKind::UniformTernary => return 0.0,
    };
    let interval = Interval64(64 * tuning.cosine.range + 1);
    log2_interval_failure(weight, interval, 1 << params.log_n(), bootstraps).0
}

#[derive(Default)]
struct Errors {
    sum: f64,
    worst: f64,
    count: f64,
}

impl Errors {
    fn add(&mut self, found: &[Complex], expected: &[Complex], slots: Slots) {
        for (a, b) in found.iter().zip(expected) {
            let error = match slots {
                Slots::Real => (a.re - b.re).abs(),
                Slots::Complex => (a.re - b.re).hypot(a.im - b.im),
            };
            self.sum += error;
            self.worst = self.worst.max(error);
            self.count += 1.0;
        }
    }
}
