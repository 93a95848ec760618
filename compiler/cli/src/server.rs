//! The server's half in one place: a schedule, evaluation keys, and what runs the one under the other.

use crate::console::Progress;
use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use heron_runtime::backend::gpu::Gpu;
use heron_runtime::backend::{Backend, Cpu};
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Ciphertext, Evaluator, Transfer};
use heron_runtime::exec::key_request::program_keys;
use heron_runtime::exec::observe::Observed;
use heron_runtime::exec::refresh::{bootstrap_keys, Refresher};
use heron_runtime::exec::rehearse::device_needs;
use heron_runtime::exec::rns::Rns;
use heron_runtime::exec::{walk, ExecError, Timing};
use heron_runtime::rlwe::{KeyRequest, KeySet, RlweContext};
use heron_schedule::params::ParameterSet;
use heron_schedule::proto::Program;
use heron_schedule::Schedule;
use std::sync::Arc;

/// Every evaluation key a schedule uses: its own and bootstrapping's.
pub fn key_request(program: &Program, params: &ParameterSet) -> Outcome<KeyRequest> {
    let mut request = program_keys(program, params)?;
    request.merge(&bootstrap_keys(program, params)?);
    Ok(request)
}

/// Runs one schedule under one client's evaluation keys.
pub struct Server {
    schedule: Schedule,
    encoder: Encoder,
    engine: Engine,
}

enum Engine {
    Cpu(Prepared<Cpu>),
    Gpu(Prepared<Gpu>),
}

/// Keys and bootstrapping on one machine.
struct Prepared<B: Backend> {
    evaluator: Evaluator<B>,
    refresher: Refresher<B>,
}

/// What looks at every result: the instruction's position, the result's number, the ciphertext.
pub type Watch<'a> = &'a mut dyn FnMut(usize, usize, &Ciphertext) -> Result<(), ExecError>;

impl Server {
    /// Checks that the keys cover the schedule, and prepares bootstrapping on a machine.
    pub fn new(
        schedule: Schedule,
        context: Arc<RlweContext>,
        keys: KeySet,
        machine: Machine,
    ) -> Outcome<Server> {
        for (kind, rows) in key_request(schedule.program(), schedule.params())?.iter() {
            let key = keys.get(kind).map_err(|_| {
                Failure::new(
                    "mismatch",
                    format!("the server keys hold no {kind} key, which the schedule uses; make keys with this schedule's client file"),
                )
            })?;
            for row in rows {
                let limbs = &context.row(row)?.limbs;
                if !limbs.iter().all(|l| key.limbs().contains(l)) {
                    return Err(Failure::new(
                        "mismatch",
                        format!("the {kind} key does not reach level {row}, where the schedule uses it; make keys with this schedule's client file"),
                    ));
                }
            }
        }
        let encoder = Encoder::for_ring(context.ring())
            .map_err(|e| Failure::new("malformed", e.to_string()))?;
        let (program, keys) = (schedule.program(), Arc::new(keys));
        let engine = match machine {
            Machine::Cpu(cpu) => Engine::Cpu(Prepared::new(cpu, context, keys, program)?),
            Machine::Gpu(gpu) => Engine::Gpu(Prepared::new(gpu, context, keys, program)?),
        };
        if let Engine::Gpu(engine) = &engine {
            // What does not fit is said now, not after hours.
            engine.rehearse(&schedule, &encoder)?;
        }
        Ok(Server {
            schedule,
            encoder,
            engine,
        })
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// One run: by port, then ciphertext.
    pub fn run(
        &self,
        inputs: Vec<Vec<Ciphertext>>,
        progress: &mut Progress,
    ) -> Outcome<(Vec<Vec<Ciphertext>>, Timing)> {
        match &self.engine {
            Engine::Cpu(engine) => engine.run(self, inputs, progress, None),
            Engine::Gpu(engine) => engine.run(self, inputs, progress, None),
        }
    }

    /// One run, every result of every instruction shown to `watch`.
    pub fn run_observed(
        &self,
        inputs: Vec<Vec<Ciphertext>>,
        progress: &mut Progress,
        watch: Watch<'_>,
    ) -> Outcome<(Vec<Vec<Ciphertext>>, Timing)> {
        match &self.engine {
            Engine::Cpu(engine) => engine.run(self, inputs, progress, Some(watch)),
            Engine::Gpu(engine) => engine.run(self, inputs, progress, Some(watch)),
        }
    }
}

impl Prepared<Gpu> {
    /// Refuses what does not fit the device, and brings the keys there if all of them do: a run does not wait for them then.
    fn rehearse(&self, schedule: &Schedule, encoder: &Encoder) -> Outcome {
        let needs = device_needs(schedule, &self.evaluator, encoder, &self.refresher)?;
        let (gpu, keys) = (self.evaluator.backend(), self.evaluator.keys());
        if needs.bytes - needs.keys + keys.bytes() <= gpu.total_bytes() {
            gpu.hold_keys(keys.iter())?;
        }
        Ok(())
    }
}

impl<B: Transfer> Prepared<B> {
    fn new(
        backend: B,
        context: Arc<RlweContext>,
        keys: Arc<KeySet>,
        program: &Program,
    ) -> Outcome<Self> {
        let evaluator = Evaluator::on(backend, context, keys);
        let refresher = Refresher::new(program, &evaluator)?;
        // What bootstrapping uploads must have found room.
        evaluator.backend().settle()?;
        Ok(Prepared {
            evaluator,
            refresher,
        })
    }

    fn run(
        &self,
        server: &Server,
        inputs: Vec<Vec<Ciphertext>>,
        progress: &mut Progress,
        mut watch: Option<Watch<'_>>,
    ) -> Outcome<(Vec<Vec<Ciphertext>>, Timing)> {
        progress.restart();
        let place = self.evaluator.backend();
        let bring = |port: Vec<Ciphertext>| port.into_iter().map(|ct| place.bring(ct)).collect();
        let inputs = inputs.into_iter().map(bring).collect();
        let refresher = self.refresher.with(&self.evaluator);
        let mut rns = Rns::new(
            &server.schedule,
            &self.evaluator,
            &server.encoder,
            &refresher,
            inputs,
        )?;
        let alone = watch.is_none();
        let mut observed = Observed::new(&mut rns, |index, number, ct: &Ciphertext<B::Poly>| {
            let failed = |what: String| ExecError::Evaluator(what);
            place.settle().map_err(|e| failed(e.to_string()))?;
            match &mut watch {
                None => Ok(()),
                Some(watch) => {
                    let ct = place.fetch_back(ct).map_err(|e| failed(e.to_string()))?;
                    watch(index, number, &ct)
                }
            }
        });
        // Who watches is shown results in the order of the program.
        if alone {
            observed = observed.in_batches();
        }
        let timing = walk(server.schedule.program(), &mut observed, &mut |p| {
            progress.step(p.index, p.total, p.layer);
        });
        // A device that failed says more than the instruction that noticed.
        place.settle()?;
        let timing = timing?;
        let outputs = rns.into_outputs()?;
        let fetch = |port: &Vec<Ciphertext<B::Poly>>| {
            let each = port.iter().map(|ct| Ok(place.fetch_back(ct)?));
            each.collect::<Outcome<Vec<Ciphertext>>>()
        };
        let outputs = outputs.iter().map(fetch).collect::<Outcome<Vec<_>>>()?;
        Ok((outputs, timing))
    }
}
