//! `heron bench`: JSON lines, one measurement each.

use super::print_text;
use crate::args::{Bench, BenchKind};
use crate::breakdown::{by_layer_kind, by_primitive};
use crate::client::Client;
use crate::console::{on_threads, peak_bytes, warn_if_insecure, Progress};
use crate::failure::{Failure, Outcome};
use crate::machine::{self, Machine};
use crate::server::{key_request, Server};
use heron_runtime::ckks::measure::{places, Lab};
use heron_runtime::ckks::Transfer;
use heron_runtime::client::ClientKey;
use heron_runtime::ring::RandomSource;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::params::ParameterSet;
use heron_schedule::Schedule;
use serde_json::{json, Value};
use std::sync::Arc;

/// Runs the command.
pub fn run(args: &Bench) -> Outcome {
    machine::check(args.backend)?;
    on_threads(args.threads, || match args.what {
        BenchKind::Ops => ops(args),
        BenchKind::Bootstrap => super::bench_bootstrap::run(args),
        BenchKind::Model => model(args),
    })
}

/// Prints one line.
pub fn line(value: &Value) -> Outcome {
    print_text(&format!("{value}\n"))
}

fn ops(args: &Bench) -> Outcome {
    let params = ParameterSet::new(args.profile)?;
    warn_if_insecure(&params);
    let on_gpu = machine::on_gpu(args.backend, &params)?;
    for place in places(args.profile)? {
        let random = RandomSource::from_entropy()?;
        match on_gpu {
            true => measure(&Lab::on(place, args.seconds, random, machine::gpu)?)?,
            false => measure(&Lab::new(place, args.seconds, random)?)?,
        }
    }
    Ok(())
}

fn measure<B: Transfer>(lab: &Lab<B>) -> Outcome {
    lab.measure(&|_| true, &mut |m| -> Outcome {
        print_text(&format!("{}\n", lab.line(m)?))
    })
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
    let machine = Machine::choose(args.backend, &context, &mut Progress::new(true))?;
    let name = machine.name();
    let server = Server::new(schedule, context, keys, machine)?;
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
        "backend": name,
        "threads": rayon::current_num_threads(),
        "log2_n": params.log_n(),
        "inputs_per_run": program.batch,
        "seconds": timing.seconds,
        "by_kind": super::by_kind(&timing),
        "by_primitive": by_primitive(&timing),
        "by_layer_kind": by_layer_kind(&program, &timing),
        "peak_bytes": peak_bytes(),
        "key_bytes": key_bytes,
    }))
}
