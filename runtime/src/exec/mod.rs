//! Execution of schedules at ciphertext height: one [`walk`], several executors.
//!
//! [`clear`] runs a schedule on plain slot vectors with modelled noise, [`trace`] follows levels and scales only, [`rns`] is the real one.
//! [`observe`] looks into a run, [`timing`] says where its time went.
//! [`ports`] is the client's side: from inputs to slots and back.

pub mod clear;
mod folding;
pub mod key_request;
pub mod noise;
pub mod observe;
pub mod ports;
pub mod refresh;
pub mod rehearse;
pub mod rns;
#[cfg(test)]
mod same_bits;
#[cfg(test)]
mod tests;
pub mod timing;
pub mod together;
pub mod trace;
mod walk;

pub use timing::{Kind, KindTime, Parts, Timing};
pub use walk::{walk, Progress};

use crate::backend::gpu::DeviceError;
use heron_schedule::params::ParameterError;
use heron_schedule::proto::{Bootstrap, Combine, Input, Linear, MulSum, Output, Rotate};
use heron_schedule::{VerifyError, WeightsError};
use thiserror::Error;
use together::{Factors, Member};

/// Why a schedule stopped.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The schedule contradicts itself.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A plaintext vector could not be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A level or scale the parameters do not have.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The inputs given are not those of the schedule.
    #[error("inputs: {0}")]
    Inputs(String),
    /// An instruction failed.
    #[error("instruction {index} (layer `{layer}`): {reason}")]
    Instruction {
        /// Its position from 0.
        index: usize,
        /// The layer it belongs to.
        layer: String,
        /// What was expected and found.
        reason: String,
    },
    /// The device refused.
    #[error(transparent)]
    Device(DeviceError),
    /// An operation of the evaluator was refused.
    #[error("{0}")]
    Evaluator(String),
}

/// What a schedule can be run on. A `Ct` is one ciphertext, or what stands for it; steps are left rotations in slots.
pub trait Executor {
    /// A ciphertext, or what stands for it.
    type Ct;

    /// Called before each instruction with its position and layer.
    fn begin(&mut self, _index: usize, _layer: u32) {}
    /// A ciphertext of an input.
    fn input(&mut self, op: &Input) -> Result<Self::Ct, ExecError>;
    /// Hands a ciphertext of an output over.
    fn output(&mut self, op: &Output, source: &Self::Ct) -> Result<(), ExecError>;
    /// Results of a linear step, one level below its sources; `sources` in the order of `op.src`.
    fn linear(&mut self, op: &Linear, sources: &[&Self::Ct]) -> Result<Vec<Self::Ct>, ExecError>;
    /// A combination at `op.level_out`; `sources` in the order of `op.term`.
    fn combine(&mut self, op: &Combine, sources: &[&Self::Ct]) -> Result<Self::Ct, ExecError>;
    /// A sum of products, relinearised and rescaled; `pairs` in the order of `op.pair`.
    fn mul_sum(
        &mut self,
        op: &MulSum,
        pairs: &[(&Self::Ct, &Self::Ct)],
    ) -> Result<Self::Ct, ExecError>;
    /// Rotations of one source, in the order of `op.out`.
    fn rotate(&mut self, op: &Rotate, source: &Self::Ct) -> Result<Vec<Self::Ct>, ExecError>;
    /// A bootstrap: as many results as sources.
    fn bootstrap(
        &mut self,
        op: &Bootstrap,
        sources: &[&Self::Ct],
    ) -> Result<Vec<Self::Ct>, ExecError>;
    /// Most instructions of one kind that are worth running together: 1 where that gains nothing.
    fn together(&self) -> usize {
        1
    }
    /// [`Executor::mul_sum`] of several instructions at one level.
    fn mul_sum_each(
        &mut self,
        batch: &[Member<'_, MulSum, Vec<Factors<'_, Self::Ct>>>],
    ) -> Result<Vec<Self::Ct>, ExecError> {
        let each = batch.iter();
        each.map(|m| self.mul_sum(m.op, &m.sources)).collect()
    }
    /// [`Executor::rotate`] of several instructions at one level, by the same steps.
    fn rotate_each(
        &mut self,
        batch: &[Member<'_, Rotate, &Self::Ct>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        let each = batch.iter();
        each.map(|m| self.rotate(m.op, m.sources)).collect()
    }
    /// [`Executor::bootstrap`] of several instructions, of one kind and to one level.
    fn bootstrap_each(
        &mut self,
        batch: &[Member<'_, Bootstrap, Vec<&Self::Ct>>],
    ) -> Result<Vec<Vec<Self::Ct>>, ExecError> {
        let each = batch.iter();
        each.map(|m| self.bootstrap(m.op, &m.sources)).collect()
    }
    /// What was measured inside instructions since the last call; the walk books it apart.
    fn take_parts(&mut self) -> Parts {
        Parts::default()
    }
}
