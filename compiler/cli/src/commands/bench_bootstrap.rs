//! `heron bench bootstrap`: precision, time, levels, keys and memory of real bootstraps of random slots.

use super::bench::line;
use crate::args::Bench as Args;
use crate::console::{peak_bytes, warn_if_insecure};
use crate::failure::{Failure, Outcome};
use crate::machine;
use heron_runtime::bootstrap::measure::{Bench, Slots};
use heron_runtime::bootstrap::{BootstrapError, Kind, Tuning};
use heron_runtime::ckks::Transfer;
use heron_runtime::ring::RandomSource;
use heron_schedule::params::ParameterSet;
use serde_json::json;

impl From<BootstrapError> for Failure {
    fn from(e: BootstrapError) -> Self {
        match e {
            BootstrapError::Ckks(e) => e.into(),
            BootstrapError::Rlwe(e) => e.into(),
            BootstrapError::Parameters(e) => e.into(),
            e => Failure::new("malformed", e.to_string()),
        }
    }
}

/// Ciphertexts bootstrapped at once.
const BATCHES: [usize; 2] = [4, 8];

/// Vectors per measurement.
const VECTORS: usize = 10;

/// Real slots, complex slots, and pairs of real ciphertexts, all slots in use.
pub fn run(args: &Args) -> Outcome {
    let params = ParameterSet::new(args.profile)?;
    warn_if_insecure(&params);
    let kinds = [Kind::Full, Kind::Complex, Kind::ComplexPair];
    let random = RandomSource::from_entropy()?;
    match machine::on_gpu(args.backend, &params)? {
        true => {
            let tuning = Tuning::STANDARD;
            measure(
                args,
                &Bench::on(params, tuning, &kinds, random, machine::gpu)?,
            )
        }
        false => measure(args, &Bench::new(params, Tuning::STANDARD, &kinds, random)?),
    }
}

fn measure<B: Transfer>(args: &Args, bench: &Bench<B>) -> Outcome {
    let cases = [
        ("full", Kind::Full, Slots::Real, "real"),
        ("complex", Kind::Complex, Slots::Complex, "complex"),
        ("complex_pair", Kind::ComplexPair, Slots::Real, "real"),
    ];
    for (name, kind, slots, values) in cases {
        let m = bench.measure(kind, slots, VECTORS)?;
        let mut found = json!({
            "bench": "bootstrap",
            "kind": name,
            "values": values,
            "profile": args.profile.name(),
            "backend": B::NAME,
            "threads": rayon::current_num_threads(),
            "log2_n": bench.params().log_n(),
            "batch": 1,
            "slots": m.count,
            "vectors": m.vectors,
            "levels_after": m.levels_after,
            "usable_bits": m.usable_bits,
            "precision_bits_mean": m.mean_bits,
            "precision_bits_worst": m.worst_bits,
            "bits_after_products": m.bits_after_products,
            "median_s": m.median_seconds,
            "min_s": m.least_seconds,
            "peak_bytes": peak_bytes(),
            "key_bytes": bench.key_bytes,
        });
        if let Some((device, bytes)) = bench.backend().device() {
            found["device"] = json!(device);
            found["device_bytes"] = json!(bytes);
        }
        line(&found)?;
    }
    // Several at once, where that is worth anything.
    for batch in BATCHES
        .into_iter()
        .filter(|&b| b <= bench.backend().together())
    {
        let (median, least) = bench.together(batch, VECTORS)?;
        line(&json!({
            "bench": "bootstrap",
            "kind": "full",
            "profile": args.profile.name(),
            "backend": B::NAME,
            "threads": rayon::current_num_threads(),
            "log2_n": bench.params().log_n(),
            "batch": batch,
            "median_s": median,
            "min_s": least,
            "each_s": median / batch as f64,
            "device": bench.backend().device().map(|(name, _)| name),
            "device_bytes": bench.backend().device().map(|(_, bytes)| bytes),
        }))?;
    }
    Ok(())
}
