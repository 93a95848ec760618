//! `heron keygen`, `encrypt`, `run`, `decrypt`: the four processes of a real deployment.

use super::by_kind;
use crate::args::{Decrypt, Encrypt, Keygen, Run};
use crate::breakdown::{by_layer_kind, by_primitive, table};
use crate::client::Client;
use crate::console::{on_threads, peak_bytes, peak_line, warn_if_insecure, Progress};
use crate::failure::{At, Failure, Outcome};
use crate::inputs::{left_interval_warning, left_intervals, InputSet, OutputSet};
use crate::machine::{self, Machine};
use crate::memory::run_bytes;
use crate::server::{key_request, Server};
use heron_compiler::npz;
use heron_runtime::ckks::file::{CiphertextFile, FileKind, PortCiphertext, PortGroup};
use heron_runtime::ckks::Ciphertext;
use heron_runtime::client::ClientKey;
use heron_runtime::exec::Timing;
use heron_runtime::ring::RandomSource;
use heron_runtime::rlwe::format::server_keys;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::proto::Port;
use heron_schedule::{ClientSchedule, Schedule};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// `heron keygen`: evaluation keys first, so that a secret key on disk always has its counterpart.
pub fn keygen(args: &Keygen, quiet: bool) -> Outcome {
    let client = ClientSchedule::open(&args.client)?;
    warn_if_insecure(client.params());
    let mut progress = Progress::new(quiet);
    let request = key_request(client.program(), client.params()).at(&args.client)?;
    if args.client_key.exists() {
        let message = "exists already and is never replaced: what it decrypts would be lost; choose another name";
        return Err(Failure::new("io", message).at(&args.client_key));
    }
    progress.note(&format!("making {} evaluation keys", request.len()));
    let context = RlweContext::new(client.params().clone())?;
    let random = RandomSource::from_entropy()?;
    let key = ClientKey::generate(Arc::clone(&context), &random.derive("client key", &[]));
    let keys = key.evaluation_keys(&request, &random.derive("evaluation keys", &[]))?;
    server_keys::write(&args.server_keys, &context, key.key_id(), &keys).at(&args.server_keys)?;
    key.write(&args.client_key).at(&args.client_key)?;
    progress.note(&format!(
        "{} evaluation keys, {:.1} MiB",
        keys.len(),
        keys.bytes() as f64 / f64::from(1 << 20)
    ));
    Ok(())
}

fn open_client(path: &Path, key: &Path) -> Outcome<(ClientSchedule, ClientKey)> {
    let client = ClientSchedule::open(path)?;
    warn_if_insecure(client.params());
    let context = RlweContext::new(client.params().clone())?;
    let key = ClientKey::read(key, context).at(key)?;
    Ok((client, key))
}

fn group(
    port: &Port,
    run: usize,
    batch: u32,
    count: usize,
    unit: f64,
    cts: Vec<Ciphertext>,
) -> PortGroup {
    let ciphertexts = port.ciphertexts.iter().zip(cts);
    let virtual_slots = |ct: &Ciphertext| {
        let n = ct
            .polys()
            .first()
            .map_or(0, |p| p.data().len() / p.limbs().len().max(1));
        n / 2 / batch.max(1) as usize
    };
    PortGroup {
        port: port.name.clone(),
        sequence: run as u64,
        batch,
        count: count as u32,
        shape: port.shape.clone(),
        unit,
        ciphertexts: ciphertexts
            .map(|(map, ciphertext)| PortCiphertext {
                elements: map
                    .element
                    .iter()
                    .copied()
                    .cycle()
                    .take(virtual_slots(&ciphertext))
                    .collect(),
                ciphertext,
            })
            .collect(),
    }
}

/// `heron encrypt`.
pub fn encrypt(args: &Encrypt) -> Outcome {
    let (schedule, key) = open_client(&args.client, &args.client_key)?;
    let program = schedule.program();
    let arrays = npz::read(&args.input)?;
    let inputs = InputSet::new(program, schedule.weights(), &arrays, args.limit).at(&args.input)?;
    let client = Client::new(program, &key)?;
    let mut groups = Vec::new();
    for (run, range) in inputs.runs(program.batch).into_iter().enumerate() {
        let count = range.len();
        let slots = inputs
            .pack(program, schedule.weights(), schedule.params(), range)
            .at(&args.input)?;
        let encrypted = client.encrypt(run, &slots)?;
        for (port, cts) in program.inputs.iter().zip(encrypted) {
            groups.push(group(
                port,
                run,
                program.batch,
                count,
                1.0 / port.factor,
                cts,
            ));
        }
    }
    let file = CiphertextFile {
        key_id: *key.key_id(),
        schedule_id: schedule.id(),
        groups,
    };
    file.write(&args.output, FileKind::Inputs, key.context())
        .at(&args.output)
}

/// The groups of one run, in the order of the ports, with the number of lanes in use.
fn groups_of_run(
    ports: &[Port],
    groups: &[PortGroup],
    run: u64,
    batch: u32,
) -> Outcome<(Vec<Vec<Ciphertext>>, usize)> {
    let mut found = Vec::new();
    let mut count = None;
    for port in ports {
        let mut of_port = groups
            .iter()
            .filter(|g| g.sequence == run && g.port == port.name);
        let (group, extra) = (of_port.next(), of_port.next());
        let group = group.filter(|g| {
            extra.is_none() && g.batch == batch && g.ciphertexts.len() == port.ciphertexts.len()
        });
        let group = group.ok_or_else(|| {
            Failure::new(
                "mismatch",
                format!(
                    "run {run}: `{}` needs {} ciphertexts with {batch} lanes, once",
                    port.name,
                    port.ciphertexts.len()
                ),
            )
        })?;
        if *count.get_or_insert(group.count) != group.count {
            return Err(Failure::new(
                "mismatch",
                format!("run {run}: ports of different numbers of inputs"),
            ));
        }
        found.push(
            group
                .ciphertexts
                .iter()
                .map(|c| c.ciphertext.clone())
                .collect(),
        );
    }
    Ok((found, count.unwrap_or(0) as usize))
}

fn sequences(file: &CiphertextFile) -> Vec<u64> {
    let mut runs: Vec<u64> = file.groups.iter().map(|g| g.sequence).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

/// `heron run`: nothing here has, or could use, a secret key.
pub fn run(args: &Run, quiet: bool) -> Outcome {
    machine::check(args.backend)?;
    if args.checkpoint.is_some() {
        return Err(Failure::not_yet("--checkpoint", "run without it"));
    }
    on_threads(args.threads, || run_on_pool(args, quiet))
}

fn run_on_pool(args: &Run, quiet: bool) -> Outcome {
    let schedule = Schedule::open(&args.schedule)?;
    warn_if_insecure(schedule.params());
    let mut progress = Progress::new(quiet);
    let context = RlweContext::new(schedule.params().clone())?;
    let (keys, key_id) = server_keys::read(&args.server_keys, &context).at(&args.server_keys)?;
    let file = CiphertextFile::read(&args.input, FileKind::Inputs, &context).at(&args.input)?;
    file.require(&key_id, &schedule.id()).at(&args.input)?;
    let machine = Machine::choose(args.backend, &context, &mut progress)?;
    let server = Server::new(schedule, Arc::clone(&context), keys, machine);
    let server = server.at(&args.server_keys)?;
    let program = server.schedule().program();
    let mut groups = Vec::new();
    let mut timing = Timing::default();
    let runs = sequences(&file);
    for (number, &run) in runs.iter().enumerate() {
        progress.note(&format!("run {} of {}", number + 1, runs.len()));
        let (inputs, count) =
            groups_of_run(&program.inputs, &file.groups, run, program.batch).at(&args.input)?;
        let (outputs, spent) = server.run(inputs, &mut progress)?;
        timing.merge(&spent);
        for (port, cts) in program.outputs.iter().zip(outputs) {
            groups.push(group(
                port,
                run as usize,
                program.batch,
                count,
                port.factor,
                cts,
            ));
        }
    }
    let result = CiphertextFile {
        key_id,
        schedule_id: server.schedule().id(),
        groups,
    };
    result
        .write(&args.output, FileKind::Outputs, &context)
        .at(&args.output)?;
    let (peak, estimated) = (peak_bytes(), run_bytes(program, context.params()));
    let (layers, primitives) = (by_layer_kind(program, &timing), by_primitive(&timing));
    progress.note(table(&layers, &primitives).trim_end());
    if let Some(path) = &args.profile_out {
        let profile = json!({
            "runs": runs.len(),
            "seconds": timing.seconds,
            "by_kind": by_kind(&timing),
            "by_primitive": primitives,
            "by_layer_kind": layers,
            "peak_bytes": peak,
            "estimated_peak_bytes": estimated,
        });
        let text = format!("{profile:#}\n");
        heron_schedule::atomic::write_bytes(path, false, text.as_bytes()).at(path)?;
    }
    progress.note(&format!(
        "{:.1} s, {}",
        timing.seconds,
        peak_line(peak, Some(estimated))
    ));
    Ok(())
}

/// `heron decrypt`.
pub fn decrypt(args: &Decrypt) -> Outcome {
    let (schedule, key) = open_client(&args.client, &args.client_key)?;
    let program = schedule.program();
    let file =
        CiphertextFile::read(&args.input, FileKind::Outputs, key.context()).at(&args.input)?;
    file.require(key.key_id(), &schedule.id()).at(&args.input)?;
    let client = Client::new(program, &key)?;
    let mut outputs = OutputSet::new(program);
    for run in sequences(&file) {
        let (ports, count) =
            groups_of_run(&program.outputs, &file.groups, run, program.batch).at(&args.input)?;
        let slots = ports
            .iter()
            .map(|cts| client.decrypt(cts))
            .collect::<Outcome<Vec<_>>>()?;
        outputs.extend(program, &slots, count)?;
    }
    outputs.apply_heads(program, schedule.weights())?;
    for (input, (name, worst)) in left_intervals(program, &outputs) {
        eprintln!("{}", left_interval_warning(input, &name, worst));
    }
    npz::write(&args.output, &outputs.to_arrays(program))?;
    Ok(())
}
