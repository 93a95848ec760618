//! A client and a server with keys from a seed: every run and machine has the same.

use heron_runtime::backend::gpu::{Device, DeviceError, Gpu, GpuPoly};
use heron_runtime::bootstrap::{requirements, Kind, Tuning};
use heron_runtime::ckks::encoding::{Complex, Encoder};
use heron_runtime::ckks::{Basis, Ciphertext, Evaluator, Plaintext, Transfer};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource};
use heron_runtime::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Rotations in one hoisting.
pub const HOISTED: i64 = 8;

pub struct Lab {
    pub context: Arc<RlweContext>,
    pub random: RandomSource,
    pub cpu: Evaluator,
    /// Made once: a client does not encrypt the same twice alike.
    inputs: BTreeMap<(Level, u64), Ciphertext>,
    encoder: Encoder,
    client: ClientKey,
}

/// Fails where there is no GPU, before anything is made for it.
pub fn present() -> Outcome {
    #[cfg(not(feature = "simulator"))]
    heron_runtime::backend::gpu::cuda::count()?;
    Ok(())
}

/// A GPU; with the feature `simulator` its simulator, to try this program.
fn device(log_n: u32) -> Result<Arc<dyn Device>, DeviceError> {
    #[cfg(feature = "simulator")]
    {
        let _ = log_n;
        Ok(Arc::new(
            heron_runtime::backend::gpu::simulator::Simulator::new(1),
        ))
    }
    #[cfg(not(feature = "simulator"))]
    Ok(Arc::new(heron_runtime::backend::gpu::cuda::Cuda::first(
        log_n,
    )?))
}

impl Lab {
    /// With the keys of everything that is checked and timed.
    pub fn new(profile: &str) -> Outcome<Lab> {
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
        let bottom = params.bootstrap_level();
        let mut lab = Lab::with(params, &request)?;
        let levels = [Level(top.0 / 2), top].map(|level| [(level, 1), (level, 2)]);
        for (level, seed) in levels
            .into_iter()
            .flatten()
            .chain([(bottom, 3), (bottom, 4)])
        {
            lab.inputs.insert((level, seed), lab.encrypt(level, seed)?);
        }
        Ok(lab)
    }

    /// With nothing but a ring.
    pub fn without_keys(profile: &str) -> Outcome<Lab> {
        Lab::with(ParameterSet::new(profile.parse()?)?, &KeyRequest::new())
    }

    fn with(params: ParameterSet, request: &KeyRequest) -> Outcome<Lab> {
        let context = RlweContext::new(params)?;
        let random = RandomSource::from_seed([5; 32]);
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let keys = Arc::new(client.evaluation_keys(request, &random.derive("keys", &[]))?);
        Ok(Lab {
            encoder: Encoder::for_ring(context.ring())?,
            cpu: Evaluator::new(Arc::clone(&context), keys),
            inputs: BTreeMap::new(),
            context,
            client,
            random,
        })
    }

    /// An encrypted vector.
    pub fn input(&self, level: Level, seed: u64) -> Outcome<Ciphertext> {
        let known = self.inputs.get(&(level, seed));
        known
            .cloned()
            .ok_or_else(|| format!("no input {seed} at level {}", level.0).into())
    }

    /// The same server on a GPU.
    pub fn on_gpu(&self, keys: bool) -> Outcome<Evaluator<Gpu>> {
        let context = &self.context;
        let gpu = Gpu::new(device(context.params().log_n())?, Arc::clone(context))?;
        if keys {
            gpu.hold_keys(self.cpu.keys().iter())?;
        }
        eprintln!(
            "INFO  {}, {} MiB of keys",
            gpu.device_name(),
            gpu.key_bytes() >> 20
        );
        Ok(Evaluator::on(
            gpu,
            Arc::clone(context),
            Arc::clone(self.cpu.shared_keys()),
        ))
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

    pub fn slots(&self, seed: u64) -> Vec<f64> {
        let value = |i: usize| ((i as f64 * 3.0 + seed as f64) * 0.519).cos();
        (0..self.encoder.slots()).map(value).collect()
    }

    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }
}

pub fn upload(gpu: &Evaluator<Gpu>, ct: &Ciphertext) -> Ciphertext<GpuPoly> {
    gpu.backend().bring(ct.clone())
}
