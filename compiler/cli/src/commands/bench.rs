//! `heron bench`: JSON lines, one measurement each.

use super::print_text;
use crate::args::{Bench, BenchKind, ServerBackend};
use crate::client::Client;
use crate::console::{peak_bytes, set_threads, warn_if_insecure, Progress};
use crate::failure::{Failure, Outcome};
use crate::server::{key_request, Server};
use heron_runtime::backend::{Backend, Switch};
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Basis, Ciphertext, Evaluator, Plaintext, RotationStep};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource};
use heron_runtime::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet};
use heron_schedule::Schedule;
use serde_json::{json, Value};
use std::sync::Arc;
use std::time::Instant;

/// Runs the command.
pub fn run(args: &Bench) -> Outcome {
    if args.backend == ServerBackend::Cuda {
        return Err(Failure::not_yet("the CUDA backend", "use --backend cpu"));
    }
    set_threads(args.threads);
    match args.what {
        BenchKind::Ops => ops(args),
        BenchKind::Bootstrap => super::bench_bootstrap::run(args),
        BenchKind::Model => model(args),
    }
}

/// Prints one line.
pub fn line(value: &Value) -> Outcome {
    print_text(&format!("{value}\n"))
}

struct Lab {
    evaluator: Evaluator,
    encoder: Encoder,
    key: ClientKey,
    random: RandomSource,
    seconds: f64,
}

fn ops(args: &Bench) -> Outcome {
    let params = ParameterSet::new(args.profile)?;
    warn_if_insecure(&params);
    let level = params.top_usable();
    let log_n = params.log_n();
    let mut request = KeyRequest::new();
    request.add(KeyKind::Relinearisation, level);
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), level);
    for step in 1..=8 {
        request.add(KeyKind::Galois(GaloisElement::rotation(step, log_n)), level);
    }
    let context = RlweContext::new(params)?;
    let random = RandomSource::from_entropy()?;
    let key = ClientKey::generate(Arc::clone(&context), &random.derive("client key", &[]));
    let keys = key.evaluation_keys(&request, &random.derive("evaluation keys", &[]))?;
    let lab = Lab {
        evaluator: Evaluator::new(context, Arc::new(keys)),
        encoder: Encoder::new(log_n).map_err(|e| Failure::new("malformed", e.to_string()))?,
        key,
        random,
        seconds: args.seconds.clamp(0.01, 60.0),
    };
    lab.measure_all(level)
}

impl Lab {
    fn plaintext(&self, slots: &[f64], level: Level) -> Outcome<Plaintext> {
        let context = self.evaluator.context();
        let scale = context.params().scale(level)?;
        let encoder = &self.encoder;
        Ok(Plaintext::encode_real(
            context,
            encoder,
            slots,
            level,
            scale,
            Basis::Row,
        )?)
    }

    /// Repeats `work` for the time asked for, at least three times, and prints the median.
    fn time<T>(&self, op: &str, level: Level, mut work: impl FnMut() -> Outcome<T>) -> Outcome {
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < 3 || begin.elapsed().as_secs_f64() < self.seconds {
            let started = Instant::now();
            let result = work()?;
            times.push(started.elapsed().as_secs_f64());
            drop(result);
        }
        times.sort_by(f64::total_cmp);
        let params = self.evaluator.context().params();
        line(&json!({
            "bench": "ops",
            "op": op,
            "backend": "cpu",
            "threads": rayon::current_num_threads(),
            "log2_n": params.log_n(),
            "level": level.0,
            "limbs": params.limbs(level)?.len(),
            "median_s": times.get(times.len() / 2),
            "min_s": times.first(),
            "runs": times.len(),
        }))
    }

    fn measure_all(&self, level: Level) -> Outcome {
        let evaluator = &self.evaluator;
        let backend = evaluator.backend();
        let slots: Vec<f64> = (0..self.encoder.slots())
            .map(|i| (i as f64 * 0.618).fract() * 2.0 - 1.0)
            .collect();
        let plain = self.plaintext(&slots, level)?;
        let a: Ciphertext = self.key.encrypt(&plain, &self.random.derive("a", &[]))?;
        let b: Ciphertext = self.key.encrypt(&plain, &self.random.derive("b", &[]))?;
        let Some(poly) = a.polys().first() else {
            return Err(Failure::new(
                "malformed",
                "a ciphertext without polynomials",
            ));
        };
        let mut coefficients = poly.clone();
        backend.to_coefficient(&mut coefficients);
        self.time("ntt_forward", level, || {
            let mut p = coefficients.clone();
            backend.to_evaluation(&mut p);
            Ok(p)
        })?;
        self.time("ntt_inverse", level, || {
            let mut p = poly.clone();
            backend.to_coefficient(&mut p);
            Ok(p)
        })?;
        self.time("add", level, || Ok(evaluator.add(&a, &b)?))?;
        self.time("multiply_plain", level, || {
            let mut c = a.clone();
            evaluator.mul_plain_assign(&mut c, &plain)?;
            Ok(c)
        })?;
        self.time("multiply", level, || Ok(evaluator.mul_rescale(&a, &b)?))?;
        let mut product = a.clone();
        evaluator.mul_plain_assign(&mut product, &plain)?;
        self.time("rescale", level, || Ok(evaluator.rescale(&product)?))?;
        self.time("rotate", level, || {
            Ok(evaluator.rotate(&a, RotationStep(1))?)
        })?;
        let steps: Vec<RotationStep> = (1..=8).map(RotationStep).collect();
        self.time("rotate_hoisted", level, || {
            Ok(evaluator.rotate_hoisted(&a, &steps)?)
        })?;
        self.time("conjugate", level, || Ok(evaluator.conjugate(&a)?))?;
        self.time("encode", level, || self.plaintext(&slots, level))?;
        self.time("encrypt", level, || {
            Ok(self.key.encrypt(&plain, &self.random.derive("c", &[]))?)
        })?;
        let log_slots = evaluator.context().params().log_n() - 1;
        self.time("decrypt", level, || {
            Ok(self.key.decrypt_slots(&self.encoder, &a, log_slots)?)
        })?;
        let row = evaluator.context().row(level)?;
        let key = evaluator.keys().get(KeyKind::Relinearisation)?;
        self.time("key_switch", level, || {
            let digits = backend.decompose(poly.clone(), row)?;
            let switch = Switch {
                key,
                addends: [None, None],
                element: None,
                lo: &row.limbs,
            };
            Ok(backend.switch_and_divide(&digits, switch, row)?)
        })
    }
}

fn model(args: &Bench) -> Outcome {
    let Some(path) = &args.schedule else {
        return Err(Failure::new(
            "mismatch",
            "bench model needs a schedule: heron bench model X.heron",
        ));
    };
    let schedule = Schedule::open(path)?;
    warn_if_insecure(schedule.params());
    let (program, params) = (schedule.program().clone(), schedule.params().clone());
    let context = RlweContext::new(params.clone())?;
    let random = RandomSource::from_entropy()?;
    let key = ClientKey::generate(Arc::clone(&context), &random.derive("client key", &[]));
    let request = key_request(&program, &params)?;
    let keys = key.evaluation_keys(&request, &random.derive("evaluation keys", &[]))?;
    let key_bytes = keys.bytes();
    let client = Client::new(&program, &key)?;
    let server = Server::new(schedule, context, keys)?;
    // Zeros for inputs: the time does not depend on the values.
    let slots: Vec<Vec<Vec<f64>>> = program
        .inputs
        .iter()
        .map(|p| {
            p.ciphertexts
                .iter()
                .map(|_| vec![0.0; params.slots()])
                .collect()
        })
        .collect();
    let (_, timing) = server.run(client.encrypt(0, &slots)?, &mut Progress::new(true))?;
    line(&json!({
        "bench": "model",
        "model": program.name,
        "backend": "cpu",
        "threads": rayon::current_num_threads(),
        "log2_n": params.log_n(),
        "inputs_per_run": program.batch,
        "seconds": timing.seconds,
        "by_kind": super::by_kind(&timing),
        "peak_bytes": peak_bytes(),
        "key_bytes": key_bytes,
    }))
}
