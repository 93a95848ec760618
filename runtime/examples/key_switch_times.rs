//! Times of key-switching operations: `key_switch_times [profile] [levels...]`. Set RAYON_NUM_THREADS for the number of threads.

use heron_runtime::backend::Backend;
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Basis, Evaluator, Plaintext, RotationStep};
use heron_runtime::client::ClientKey;
use heron_runtime::ring::{GaloisElement, RandomSource};
use heron_runtime::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Scale};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Processor time of all threads in milliseconds, from Linux' scheduler statistics: on a shared machine it says more than the clock.
fn processor_ms() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanoseconds: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum();
    nanoseconds / 1e6
}

fn time<T>(name: &str, level: Level, runs: u32, mut f: impl FnMut() -> T) {
    drop(f());
    let before = processor_ms();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            drop(f());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let processor = (processor_ms() - before) / f64::from(runs);
    times.sort_by(f64::total_cmp);
    println!(
        "{name:28} {level:>4}  min {:8.2} ms  median {:8.2} ms  processor {processor:8.2} ms",
        times[0],
        times[times.len() / 2]
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let profile = arguments.next().unwrap_or_else(|| "secure".into());
    let params = ParameterSet::new(profile.parse()?)?;
    let mut levels: Vec<Level> = arguments
        .map(|a| a.parse().map(Level))
        .collect::<Result<_, _>>()?;
    if levels.is_empty() {
        levels = vec![Level(1), Level(5), params.top_usable(), params.top()];
    }
    let log_n = params.log_n();
    let context = RlweContext::new(params)?;
    let encoder = Encoder::new(log_n)?;
    let random = RandomSource::from_entropy()?;
    let client = ClientKey::generate(Arc::clone(&context), &random);
    let steps: Vec<RotationStep> = (1..=4).map(RotationStep).collect();
    for level in levels {
        let mut request = KeyRequest::new();
        request.add(KeyKind::Relinearisation, level);
        for s in &steps {
            request.add(KeyKind::Galois(GaloisElement::rotation(s.0, log_n)), level);
        }
        let start = Instant::now();
        let keys =
            client.evaluation_keys(&request, &random.derive("keys", &[u64::from(level.0)]))?;
        println!(
            "{} keys, {} MiB: {:.2} s",
            keys.len(),
            keys.bytes() >> 20,
            start.elapsed().as_secs_f64()
        );
        let evaluator = Evaluator::new(Arc::clone(&context), Arc::new(keys));
        let scale = Scale::power_of_two(40).ok_or("scale")?;
        let slots = vec![0.5; encoder.slots()];
        let plaintext =
            Plaintext::encode_real(&context, &encoder, &slots, level, scale, Basis::Row)?;
        let c = client.encrypt(&plaintext, &random.derive("c", &[u64::from(level.0)]))?;
        let row = context.row(level)?;
        let backend = evaluator.backend();
        let c1 = &c.polys()[1];
        let digits = backend.decompose(c1, row)?;
        let key = evaluator
            .keys()
            .get(KeyKind::Galois(GaloisElement::rotation(1, log_n)))?;
        let (low, _) = backend.key_product(&digits, key, row)?;
        time("encode and transform", level, 5, || {
            Plaintext::encode_real(&context, &encoder, &slots, level, scale, Basis::Extended)
        });
        time("to coefficients", level, 9, || {
            let mut p = c1.clone();
            backend.to_coefficient(&mut p);
            p
        });
        time("decompose", level, 9, || backend.decompose(c1, row));
        time("key product", level, 9, || {
            backend.key_product(&digits, key, row)
        });
        time("divide by P", level, 9, || {
            backend.divide_and_round(&low, &row.limbs, None)
        });
        time("automorphism", level, 9, || {
            backend.automorphism(c1, GaloisElement::rotation(1, log_n))
        });
        time("plaintext products (8)", level, 9, || {
            backend.inner_product(&[(c1, plaintext.poly()); 8], &row.limbs)
        });
        time("add", level, 9, || evaluator.add(&c, &c));
        time("rotate", level, 9, || evaluator.rotate(&c, steps[0]));
        time("rotate hoisted (4)", level, 5, || {
            evaluator.rotate_hoisted(&c, &steps)
        });
        if level.0 > 0 {
            time("rescale", level, 9, || evaluator.rescale(&c));
            time("multiply", level, 9, || evaluator.mul_rescale(&c, &c));
        }
    }
    Ok(())
}
