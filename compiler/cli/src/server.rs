//! The server's half in one place: a schedule, evaluation keys, and what runs the one under the other.

use crate::console::Progress;
use crate::failure::{Failure, Outcome};
use heron_runtime::ckks::encoding::Encoder;
use heron_runtime::ckks::{Ciphertext, Evaluator};
use heron_runtime::exec::key_request::program_keys;
use heron_runtime::exec::observe::Observed;
use heron_runtime::exec::refresh::{bootstrap_keys, Refresher};
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
    evaluator: Evaluator,
    encoder: Encoder,
    refresher: Refresher,
}

impl Server {
    /// Checks that the keys cover the schedule, and prepares bootstrapping.
    pub fn new(schedule: Schedule, context: Arc<RlweContext>, keys: KeySet) -> Outcome<Server> {
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
        let evaluator = Evaluator::new(context, Arc::new(keys));
        let refresher = Refresher::new(schedule.program(), &evaluator)?;
        Ok(Server {
            schedule,
            evaluator,
            encoder,
            refresher,
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
        self.run_observed(inputs, progress, &mut |_, _, _| Ok(()))
    }

    /// One run, every result of every instruction shown to `watch`.
    pub fn run_observed(
        &self,
        inputs: Vec<Vec<Ciphertext>>,
        progress: &mut Progress,
        watch: &mut dyn FnMut(usize, usize, &Ciphertext) -> Result<(), ExecError>,
    ) -> Outcome<(Vec<Vec<Ciphertext>>, Timing)> {
        progress.restart();
        let refresher = self.refresher.with(&self.evaluator);
        let mut rns = Rns::new(
            &self.schedule,
            &self.evaluator,
            &self.encoder,
            &refresher,
            inputs,
        )?;
        let mut observed = Observed::new(&mut rns, watch);
        let timing = walk(self.schedule.program(), &mut observed, &mut |p| {
            progress.step(p.index, p.total, p.layer);
        })?;
        Ok((rns.into_outputs()?, timing))
    }
}
