//! One encoder layer of a compiled model, encrypted. Plain harness:
//! `cargo bench -p heron-runtime --bench encoder -- MODEL.heron [PREFIX] [RUNS]`; one JSON line.
//!
//! The layer is all instructions whose layer's name begins with PREFIX, `blocks.0` unless said otherwise; what the model does before it
//! runs too but does not count, what it does after it is left out. Keys and matrices of bootstrapping are made beforehand, plaintexts
//! are encoded as they are used, as a server does. RAYON_NUM_THREADS is the number of threads.

use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Basis, Ciphertext, Evaluator, Plaintext};
use heron_runtime::client::ClientKey;
use heron_runtime::exec::key_request::program_keys;
use heron_runtime::exec::refresh::{bootstrap_keys, Refresher};
use heron_runtime::exec::rns::Rns;
use heron_runtime::exec::{walk, Kind};
use heron_runtime::ring::RandomSource;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::keys::{required_bootstraps, required_keys};
use heron_schedule::params::Level;
use heron_schedule::proto::{Instruction, Program};
use heron_schedule::Schedule;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let Some(path) = arguments.next() else {
        eprintln!("encoder: skipped; it needs a schedule: cargo bench -p heron-runtime --bench encoder -- MODEL.heron [PREFIX] [RUNS]");
        return Ok(());
    };
    let prefix = arguments.next().unwrap_or_else(|| "blocks.0".into());
    let runs: usize = arguments.next().as_deref().unwrap_or("1").parse()?;
    let schedule = Schedule::open(path.as_ref())?;
    // Inside the pool: from outside, each parallel loop costs two context switches.
    let pool = rayon::ThreadPoolBuilder::new().build()?;
    pool.install(|| measure(&schedule, &prefix, runs).map_err(|e| e.to_string()))?;
    Ok(())
}

/// Whether an instruction belongs to the layer: `blocks.1` is not part of `blocks.10`.
fn is_inside(program: &Program, instruction: &Instruction, prefix: &str) -> bool {
    let layer = program.layers.get(instruction.layer as usize);
    let rest = layer.and_then(|l| l.name.strip_prefix(prefix));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The program up to the last instruction of the layer, with the keys and bootstraps of that much.
fn up_to(program: &Program, slots: usize, prefix: &str) -> Result<Program, Box<dyn Error>> {
    let instructions = &program.instructions;
    let last = instructions
        .iter()
        .rposition(|i| is_inside(program, i, prefix));
    let Some(last) = last else {
        let names: Vec<&str> = program.layers.iter().map(|l| l.name.as_str()).collect();
        let names = names.join(", ");
        return Err(format!("no layer's name begins with `{prefix}`; there are {names}").into());
    };
    let mut part = program.clone();
    part.instructions.truncate(last + 1);
    part.keys = required_keys(&part, slots);
    part.bootstraps = required_bootstraps(&part);
    Ok(part)
}

fn measure(schedule: &Schedule, prefix: &str, runs: usize) -> Result<(), Box<dyn Error>> {
    let params = schedule.params();
    let program = up_to(schedule.program(), params.slots(), prefix)?;
    let context = RlweContext::new(params.clone())?;
    let random = RandomSource::from_entropy()?;
    let client = ClientKey::generate(Arc::clone(&context), &random.derive("client", &[]));
    let mut request = program_keys(&program, params)?;
    request.merge(&bootstrap_keys(&program, params)?);
    let keys = client.evaluation_keys(&request, &random.derive("keys", &[]))?;
    let key_bytes = keys.bytes();
    let encoder = Encoder::new(params.log_n())?;
    let evaluator = Evaluator::new(Arc::clone(&context), Arc::new(keys));
    let refresher = Refresher::new(&program, &evaluator)?;
    let refresher = refresher.with(&evaluator);
    // Zeros: the time does not depend on the values.
    let zeros = vec![0.0; encoder.slots()];
    let mut inputs: Vec<Vec<Ciphertext>> = Vec::new();
    for (number, port) in program.inputs.iter().enumerate() {
        let level = Level(port.level.try_into()?);
        let scale = params.scale(level)?;
        let zero = Plaintext::encode_real(&context, &encoder, &zeros, level, scale, Basis::Row)?;
        let encrypt = |index| client.encrypt(&zero, &random.derive("c", &[number as u64, index]));
        let indices = 0..port.ciphertexts.len() as u64;
        inputs.push(indices.map(encrypt).collect::<Result<_, _>>()?);
    }
    let inside = |index: usize| {
        let instruction = program.instructions.get(index);
        instruction.is_some_and(|i| is_inside(&program, i, prefix))
    };
    let mut found: Vec<(f64, BTreeMap<Kind, f64>)> = Vec::new();
    for _ in 0..runs.max(1) {
        let mut rns = Rns::new(schedule, &evaluator, &encoder, &refresher, inputs.clone())?;
        let mut by_kind: BTreeMap<Kind, f64> = BTreeMap::new();
        let mut running: Option<(Kind, Instant)> = None;
        walk(&program, &mut rns, &mut |p| {
            if let Some((kind, begun)) = running.take() {
                *by_kind.entry(kind).or_default() += begun.elapsed().as_secs_f64();
            }
            running = inside(p.index).then(|| (p.kind, Instant::now()));
        })?;
        // The last instruction is one of the layer's.
        if let Some((kind, begun)) = running.take() {
            *by_kind.entry(kind).or_default() += begun.elapsed().as_secs_f64();
        }
        found.push((by_kind.values().sum(), by_kind));
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, by_kind) = &found[found.len() / 2];
    let kinds: Vec<String> = by_kind
        .iter()
        .map(|(kind, seconds)| format!("\"{}\":{seconds:.3}", kind.name()))
        .collect();
    println!(
        "{{\"bench\":\"encoder_layer\",\"model\":{:?},\"layer\":{prefix:?},\"backend\":\"cpu\",\"threads\":{},\"log2_n\":{},\"inputs_per_run\":{},\
         \"instructions\":{},\"median_s\":{median:.3},\"min_s\":{:.3},\"runs\":{},\"by_kind\":{{{}}},\"key_bytes\":{key_bytes}}}",
        program.name,
        rayon::current_num_threads(),
        params.log_n(),
        program.batch,
        (0..program.instructions.len()).filter(|&i| inside(i)).count(),
        found[0].0,
        found.len(),
        kinds.join(","),
    );
    Ok(())
}
