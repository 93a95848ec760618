//! How fast the operations on ciphertexts are: real keys, real ciphertexts, wall time. For the bench and for `heron bench ops`.
//!
//! Run it inside the rayon pool it is to measure: from outside, each parallel loop costs two context switches.

mod clock;
mod matrix;
mod ops;
mod place;
#[cfg(test)]
mod tests;

pub use place::{places, Place};

use super::encoding::Encoder;
use super::{Basis, Ciphertext, CkksError, Evaluator, Plaintext, Transfer};
use crate::backend::gpu::{DeviceError, KernelTime};
use crate::backend::Cpu;
use crate::client::ClientKey;
use crate::ring::RandomSource;
use crate::rlwe::{KeyRequest, RlweContext};
use heron_schedule::params::Level;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

/// Least number of runs of what is timed, besides one that is not.
const FEWEST_RUNS: usize = 3;

/// Most runs that do not wait for one another.
const IN_A_ROW: usize = 16;

/// The times of one operation.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Its name in the lines.
    pub op: &'static str,
    /// The backend that ran it: the client's operations are the CPU's, wherever the others run.
    pub backend: &'static str,
    /// Median wall time of one run in seconds.
    pub median_seconds: f64,
    /// Shortest wall time in seconds.
    pub least_seconds: f64,
    /// Least processor time of all threads in one run in seconds, where the system says.
    pub processor_seconds: Option<f64>,
    /// Runs timed.
    pub runs: usize,
    /// Further fields of the line.
    pub extra: Vec<(&'static str, f64)>,
}

/// A client and a server at one place, with the keys of what is measured there.
pub struct Lab<B: Transfer = Cpu> {
    place: Place,
    context: Arc<RlweContext>,
    encoder: Encoder,
    client: ClientKey,
    evaluator: Evaluator<B>,
    random: RandomSource,
    seconds: f64,
}

impl Lab {
    /// Makes the keys of what is measured at `place`, where each thing will be repeated for about `seconds`.
    ///
    /// # Errors
    /// A level that the place's chain does not have.
    pub fn new(place: Place, seconds: f64, random: RandomSource) -> Result<Lab, CkksError> {
        Lab::on(place, seconds, random, |context| {
            Ok(Cpu::new(Arc::clone(context)))
        })
    }
}

impl<B: Transfer> Lab<B> {
    /// As [`Lab::new`], on the backend that `machine` makes for the place's ring.
    ///
    /// # Errors
    /// A level that the place's chain does not have, or no such machine.
    pub fn on(
        place: Place,
        seconds: f64,
        random: RandomSource,
        machine: impl FnOnce(&Arc<RlweContext>) -> Result<B, DeviceError>,
    ) -> Result<Lab<B>, CkksError> {
        let mut request = KeyRequest::new();
        ops::add_keys(&mut request, &place);
        if place.matrix.is_some() {
            matrix::add_keys(&mut request, &place);
        }
        let context = RlweContext::new(place.params.clone())?;
        let backend = machine(&context)?;
        let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
        let keys = client.evaluation_keys(&request, &random.derive("keys", &[]))?;
        Ok(Lab {
            encoder: Encoder::new(context.params().log_n())?,
            evaluator: Evaluator::on(backend, Arc::clone(&context), Arc::new(keys)),
            place,
            context,
            client,
            random,
            seconds: seconds.clamp(0.01, 60.0),
        })
    }

    /// Measures everything whose name is wanted and hands each measurement to `report` as soon as it is made.
    ///
    /// # Errors
    /// What an operation or `report` refuses, or a product of matrices beyond its bound.
    pub fn measure<E: From<CkksError>>(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        report: &mut dyn FnMut(&Measurement) -> Result<(), E>,
    ) -> Result<(), E> {
        self.ops(wanted, report)?;
        match self.place.matrix {
            Some(babies) => self.matrix(babies, wanted, report),
            None => Ok(()),
        }
    }

    /// A measurement as a JSON object on one line.
    ///
    /// # Errors
    /// A level that the place's chain does not have.
    pub fn line(&self, m: &Measurement) -> Result<String, CkksError> {
        let params = self.context.params();
        let (level, row) = (self.place.level, params.row(self.place.level)?);
        let chain = match params.can_bootstrap() {
            true => "bootstrapping",
            false => "levelled",
        };
        let mut line = format!(
            "{{\"bench\":\"ops\",\"op\":\"{}\",\"backend\":\"{}\",\"threads\":{},\"log2_n\":{},\"level\":{},\"limbs\":{},\
             \"log_q\":{:.1},\"digits\":{},\"special_limbs\":{},\"chain\":\"{chain}\",\"median_s\":{:.9},\"min_s\":{:.9},\"runs\":{}",
            m.op,
            m.backend,
            rayon::current_num_threads(),
            params.log_n(),
            level.0,
            row.limbs.len(),
            row.log2_modulus,
            self.context.row(level)?.digits.len(),
            params.special().len(),
            m.median_seconds,
            m.least_seconds,
            m.runs,
        );
        let processor = m
            .processor_seconds
            .map(|s| ("cpu_s", (s * 1e9).round() / 1e9));
        for (name, value) in processor.iter().chain(&m.extra) {
            // Writing to a string cannot fail.
            let _ = write!(line, ",\"{name}\":{value}");
        }
        let device = self.evaluator.backend().device();
        if let Some((device, bytes)) = device.filter(|_| m.backend == B::NAME) {
            let _ = write!(line, ",\"device\":\"{device}\",\"device_bytes\":{bytes}");
        }
        line.push('}');
        Ok(line)
    }

    fn level(&self) -> Level {
        self.place.level
    }

    /// Repeats `work` for the time asked for, at least three times, each time until the backend is done.
    fn time<T>(
        &self,
        op: &'static str,
        mut work: impl FnMut() -> Result<T, CkksError>,
    ) -> Result<Measurement, CkksError> {
        let backend = self.evaluator.backend();
        drop(work()?);
        backend.settle()?;
        let (mut times, mut least) = (Vec::new(), None);
        let begin = Instant::now();
        while times.len() < FEWEST_RUNS || begin.elapsed().as_secs_f64() < self.seconds {
            let (started, before) = (Instant::now(), clock::processor_seconds());
            let result = work()?;
            backend.settle()?;
            let after = clock::processor_seconds();
            times.push(started.elapsed().as_secs_f64());
            let spent = after.zip(before).map(|(after, before)| after - before);
            least = spent.map(|s| least.map_or(s, |l: f64| l.min(s)));
            drop(result);
        }
        times.sort_by(f64::total_cmp);
        let extra = self.on_device(times.len().min(IN_A_ROW), &mut || work().map(drop))?;
        Ok(Measurement {
            op,
            backend: B::NAME,
            median_seconds: times[times.len() / 2],
            least_seconds: times[0],
            processor_seconds: least,
            runs: times.len(),
            extra,
        })
    }

    /// On a device: the time of each of several runs that do not wait for one another, and what one starts, moves and takes there.
    fn on_device(
        &self,
        runs: usize,
        work: &mut dyn FnMut() -> Result<(), CkksError>,
    ) -> Result<Vec<(&'static str, f64)>, CkksError> {
        let backend = self.evaluator.backend();
        if backend.device().is_none() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        for _ in 0..runs {
            work()?;
        }
        backend.settle()?;
        let in_a_row = started.elapsed().as_secs_f64() / runs as f64;
        let mut done = Ok(());
        let kernels = backend.by_kernel(&mut || done = work())?;
        done?;
        let sum = |f: fn(&KernelTime) -> f64| kernels.iter().map(f).sum::<f64>();
        Ok(vec![
            ("in_a_row_s", in_a_row),
            ("launches", sum(|k| k.launches as f64)),
            ("moves_bytes", sum(|k| k.moves as f64)),
            ("kernels_s", sum(|k| k.seconds)),
        ])
    }

    fn plaintext(&self, slots: &[f64]) -> Result<Plaintext, CkksError> {
        let level = self.level();
        let scale = self.context.params().scale(level)?;
        Plaintext::encode_real(
            &self.context,
            &self.encoder,
            slots,
            level,
            scale,
            Basis::Row,
        )
    }

    /// As the client does it: on the host.
    fn encrypt(&self, plaintext: &Plaintext, name: &str) -> Result<Ciphertext, CkksError> {
        let random = self.random.derive(name, &[u64::from(self.level().0)]);
        self.client.encrypt(plaintext, &random)
    }

    /// Values uniform in [-1, 1].
    fn uniform(&self, name: &str, count: usize) -> Vec<f64> {
        const RANGE: u32 = (1 << 28) - 57;
        let mut words = vec![0u32; count];
        self.random
            .derive(name, &[])
            .uniform_limb(RANGE, &mut words);
        let unit = |&w: &u32| f64::from(w) / f64::from(RANGE) * 2.0 - 1.0;
        words.iter().map(unit).collect()
    }
}
