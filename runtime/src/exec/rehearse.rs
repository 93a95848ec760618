//! What a schedule needs of a GPU's memory, found before it runs: the same walk on a device that computes nothing.

use super::key_request::program_keys;
use super::refresh::{bootstrap_keys, Refresher};
use super::rns::Rns;
use super::{walk, ExecError, Progress};
use crate::backend::gpu::planner::Planner;
use crate::backend::gpu::{DeviceError, Gpu, KernelTime};
use crate::backend::Backend;
use crate::ckks::encoding::Encoder;
use crate::ckks::{Ciphertext, Evaluator};
use crate::client::imagined_keys;
use crate::ring::Form;
use crate::rlwe::RlweContext;
use heron_schedule::params::Level;
use heron_schedule::Schedule;
use std::fmt;
use std::sync::Arc;

/// The memory of one run on a device, with the instruction that has most of it in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNeeds {
    /// Bytes of everything at its peak, all keys kept: tables, keys, bootstrapping's matrices, ciphertexts and what instructions work on.
    pub bytes: u64,
    /// Bytes of bootstrapping's matrices among them.
    pub matrices: u64,
    /// Bytes of the keys among them. They can be brought again and again instead, one after the other, which takes time.
    pub keys: u64,
    /// The instruction at the peak.
    pub instruction: usize,
    /// Its layer.
    pub layer: String,
}

impl fmt::Display for DeviceNeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / 2f64.powi(30);
        write!(
            f,
            "{:.3} GiB of the device's memory, {:.3} of them keys and {:.3} bootstrapping's matrices, most at instruction {} (layer `{}`)",
            gib(self.bytes),
            gib(self.keys),
            gib(self.matrices),
            self.instruction,
            self.layer
        )
    }
}

/// Fewer ciphertexts worked on at once take less memory.
const TOGETHER: [usize; 4] = [8, 4, 2, 1];

/// Rehearses a schedule for the GPU of `evaluator`, on which the refresher is prepared and nothing else is. Where memory is short the GPU is told
/// to work on fewer ciphertexts at once.
///
/// # Errors
/// A run that does not fit the device even one by one, with keys that make room for one another: what it needs in all, and what to change.
pub fn device_needs(
    schedule: &Schedule,
    evaluator: &Evaluator<Gpu>,
    encoder: &Encoder,
    refresher: &Refresher<Gpu>,
) -> Result<DeviceNeeds, ExecError> {
    let gpu = evaluator.backend();
    let rehearse = |total: u64, together: usize| {
        let device = Planner::new(total, gpu.shared_limit());
        let context = Arc::clone(evaluator.context());
        let rehearsal = Gpu::new(Arc::new(device), Arc::clone(&context))?;
        rehearsal.limit_together(together);
        let keys = Arc::clone(evaluator.shared_keys());
        let matrices = gpu.used_bytes().saturating_sub(rehearsal.used_bytes());
        let rehearsal = Evaluator::on(rehearsal, context, keys);
        let needs = walked(schedule, &rehearsal, encoder, refresher)?;
        Ok::<_, ExecError>(DeviceNeeds {
            bytes: needs.bytes + matrices,
            matrices,
            ..needs
        })
    };
    let total = gpu.total_bytes();
    let most = gpu.most_together();
    let mut least = None;
    for together in TOGETHER.into_iter().filter(|&t| t <= most) {
        let needs = rehearse(u64::MAX / 2, together)?;
        let room = total.saturating_sub(needs.matrices);
        if needs.bytes <= total || rehearse(room, together).is_ok() {
            gpu.limit_together(together);
            return Ok(needs);
        }
        least = Some(needs);
    }
    let needs = least.map(|n| n.to_string()).unwrap_or_default();
    Err(DeviceError::Plan { needs, total }.into())
}

/// Memory and shared memory of a block of the GPU that is imagined where there is none: an H200.
const IMAGINED: (u64, u32) = (139 << 30, 227 << 10);

/// What one run of a schedule would start and move on a GPU, by kernel, and the memory it would take, without a GPU and without keys.
///
/// # Errors
/// A schedule that an H200 cannot run.
pub fn imagined_run(schedule: &Schedule) -> Result<(DeviceNeeds, Vec<KernelTime>), ExecError> {
    let (program, params) = (schedule.program(), schedule.params());
    let mut request = program_keys(program, params)?;
    request.merge(&bootstrap_keys(program, params)?);
    let context = RlweContext::new(params.clone())?;
    let keys = imagined_keys(&context, &request)?;
    let encoder = Encoder::for_ring(context.ring()).map_err(crate::ckks::CkksError::from)?;
    let (total, shared) = IMAGINED;
    let gpu = Gpu::new(Arc::new(Planner::new(total, shared)), Arc::clone(&context))?;
    let evaluator = Evaluator::on(gpu, context, Arc::new(keys));
    let refresher = Refresher::new(program, &evaluator)?;
    let run = || walked(schedule, &evaluator, &encoder, &refresher);
    let (needs, launches) = evaluator.backend().timed(run)?;
    Ok((needs?, launches))
}

impl From<DeviceError> for ExecError {
    fn from(error: DeviceError) -> Self {
        ExecError::Device(error)
    }
}

fn walked(
    schedule: &Schedule,
    evaluator: &Evaluator<Gpu>,
    encoder: &Encoder,
    refresher: &Refresher<Gpu>,
) -> Result<DeviceNeeds, ExecError> {
    let (program, gpu) = (schedule.program(), evaluator.backend());
    let mut inputs = Vec::with_capacity(program.inputs.len());
    for port in &program.inputs {
        let level = Level(u8::try_from(port.level).unwrap_or(u8::MAX));
        let limbs = &evaluator.context().row(level)?.limbs;
        let scale = schedule.params().scale(level)?;
        let one = || gpu.zero(limbs, Form::Evaluation);
        let each = port.ciphertexts.iter();
        let each = each.map(|_| Ciphertext::from_parts(vec![one(), one()], level, scale));
        inputs.push(each.collect());
    }
    let refreshing = refresher.with(evaluator);
    let mut rns = Rns::new(schedule, evaluator, encoder, &refreshing, inputs)?;
    rns.imagine(Gpu::imagined);
    // Before each instruction what the ones before it took; the peak belongs to the last that raised it.
    let mut peak = (0, 0, String::new());
    let mut last = (0, String::new());
    let mut raised = |upto: u64, now: (usize, String)| {
        if upto > peak.0 {
            peak = (upto, last.0, last.1.clone());
        }
        last = now;
    };
    let walked = walk(program, &mut rns, &mut |p: Progress<'_>| {
        raised(gpu.most_bytes(), (p.index, p.layer.into()));
    });
    raised(gpu.most_bytes(), Default::default());
    if let Some(error) = gpu.failure() {
        return Err(error.clone().into());
    }
    walked?;
    drop(rns);
    Ok(DeviceNeeds {
        bytes: peak.0,
        matrices: 0,
        keys: gpu.key_bytes(),
        instruction: peak.1,
        layer: peak.2,
    })
}
