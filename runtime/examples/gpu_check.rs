//! For a machine with a GPU: everything at full size against the CPU, bit for bit. `gpu_check [PROFILE]` prints JSON lines and fails on the
//! first difference. `runtime/gpu/check.sh` calls it.

use heron_runtime::backend::gpu::cuda::Cuda;
use heron_runtime::backend::gpu::{Gpu, GpuPoly};
use heron_runtime::backend::Backend;
use heron_runtime::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use heron_runtime::ckks::encoding::{Complex, Encoder};
use heron_runtime::ckks::{Basis, Ciphertext, Evaluator, Plaintext, RotationStep, Transfer};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource, RnsPoly};
use heron_runtime::rlwe::{KeyKind, RlweContext};
use heron_schedule::params::{Level, ParameterSet};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Rotations in one hoisting.
const HOISTED: i64 = 8;

struct Lab {
    context: Arc<RlweContext>,
    encoder: Encoder,
    client: ClientKey,
    random: RandomSource,
    cpu: Evaluator,
    gpu: Evaluator<Gpu>,
}

impl Lab {
    /// Keys from a seed: every run and machine has the same.
    fn new(profile: &str) -> Outcome<Lab> {
        let params = ParameterSet::new(profile.parse()?)?;
        let (log_n, top) = (params.log_n(), params.top_usable());
        let mut request = requirements(&params, Tuning::STANDARD, &[Kind::Full])?;
        for level in [top, Level(top.0 / 2)] {
            request.add(KeyKind::Relinearisation, level);
            request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), level);
            for step in 1..=HOISTED {
                request.add(KeyKind::Galois(GaloisElement::rotation(step, log_n)), level);
            }
        }
        let context = RlweContext::new(params)?;
        let random = RandomSource::from_seed([5; 32]);
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let keys = Arc::new(client.evaluation_keys(&request, &random.derive("keys", &[]))?);
        let device = Cuda::first(log_n)?;
        let backend = Gpu::new(Arc::new(device), Arc::clone(&context))?;
        eprintln!(
            "{}: {} keys, {} MiB",
            backend.device_name(),
            keys.len(),
            keys.bytes() >> 20
        );
        Ok(Lab {
            encoder: Encoder::for_ring(context.ring())?,
            cpu: Evaluator::new(Arc::clone(&context), Arc::clone(&keys)),
            gpu: Evaluator::on(backend, Arc::clone(&context), keys),
            context,
            client,
            random,
        })
    }

    fn encrypt(&self, level: Level, seed: u64) -> Outcome<Ciphertext> {
        let value = |i: usize| ((i as f64 + seed as f64) * 0.377).sin();
        let slots: Vec<Complex> = (0..self.encoder.slots())
            .map(|i| Complex::new(value(i), 0.0))
            .collect();
        let scale = self.context.params().scale(level)?;
        let encoder = &self.encoder;
        let plain = Plaintext::encode(&self.context, encoder, &slots, level, scale, Basis::Row)?;
        let random = self.random.derive("encrypt", &[seed]);
        Ok(self.client.encrypt(&plain, &random)?)
    }

    fn upload(&self, ct: &Ciphertext) -> Ciphertext<GpuPoly> {
        self.gpu.backend().bring(ct.clone())
    }

    /// Prints one line, and fails if the residues differ.
    fn compare(&self, what: &str, found: &[GpuPoly], expected: &[RnsPoly]) -> Outcome {
        let mut same = found.len() == expected.len();
        for (found, expected) in found.iter().zip(expected) {
            same &= self.gpu.backend().fetch(found)? == *expected;
        }
        println!(
            "{{\"check\":\"{what}\",\"log2_n\":{},\"same\":{same}}}",
            self.context.params().log_n()
        );
        match same {
            true => Ok(()),
            false => Err(format!("{what}: the GPU's residues differ from the CPU's").into()),
        }
    }

    fn same(&self) -> Outcome {
        let ring = self.context.ring();
        let (cpu, gpu) = (self.cpu.backend(), self.gpu.backend());
        let all = ring.all_limbs();
        let mut expected = RnsPoly::zero(ring, &all, heron_runtime::ring::Form::Coefficient);
        for (position, &limb) in all.iter().enumerate() {
            let random = self.random.derive("residues", &[position as u64]);
            random.uniform_limb(ring.prime(limb), expected.limb_mut(position));
        }
        let mut found = gpu.upload(&expected);
        cpu.to_evaluation(&mut expected);
        gpu.to_evaluation(&mut found);
        self.compare("forward transform", &[found.clone()], &[expected.clone()])?;
        cpu.to_coefficient(&mut expected);
        gpu.to_coefficient(&mut found);
        self.compare("backward transform", &[found], &[expected])?;

        let top = self.context.params().top_usable();
        for level in [Level(top.0 / 2), top] {
            let (a, b) = (self.encrypt(level, 1)?, self.encrypt(level, 2)?);
            let (da, db) = (self.upload(&a), self.upload(&b));
            let at = |what: &str| format!("{what} at level {}", level.0);
            macro_rules! check {
                ($what:literal, $method:ident($($cpu:expr, $gpu:expr);*)) => {{
                    let expected = self.cpu.$method($($cpu),*)?;
                    let found = self.gpu.$method($($gpu),*)?;
                    self.compare(&at($what), found.polys(), expected.polys())?;
                }};
            }
            check!("product", mul_rescale(&a, &da; &b, &db));
            check!("rotation", rotate(&a, &da; RotationStep(3), RotationStep(3)));
            check!("conjugate", conjugate(&a, &da));
            check!("rescaling", rescale(&a, &da));
            check!("adjustment", adjust(&a, &da; Level(1), Level(1); 0.5, 0.5));
            let steps: Vec<RotationStep> = (1..=HOISTED).map(RotationStep).collect();
            let expected = self.cpu.rotate_hoisted(&a, &steps)?;
            let found = self.gpu.rotate_hoisted(&da, &steps)?;
            for (found, expected) in found.iter().zip(&expected) {
                self.compare(&at("hoisted rotation"), found.polys(), expected.polys())?;
            }
        }
        let a = self.encrypt(self.context.params().bootstrap_level(), 3)?;
        let kinds = [Kind::Full];
        let on_cpu = Bootstrapper::new(&self.context, cpu, Tuning::STANDARD, &kinds)?;
        let expected = on_cpu.full(&self.cpu, &a, top)?;
        drop(on_cpu);
        let on_gpu = Bootstrapper::new(&self.context, gpu, Tuning::STANDARD, &kinds)?;
        let found = on_gpu.full(&self.gpu, &self.upload(&a), top)?;
        self.compare("bootstrap", found.polys(), expected.polys())
    }
}

fn main() -> ExitCode {
    let profile = std::env::args().nth(1).unwrap_or_else(|| "secure".into());
    match Lab::new(&profile).and_then(|lab| lab.same()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
