//! Where ciphertexts are computed on: the CPU, or a GPU if one is found.

use crate::args::{BackendChoice, ServerBackend};
use crate::console::Progress;
use crate::failure::{Failure, Outcome};
use heron_runtime::backend::gpu::{cuda, DeviceError, Gpu};
use heron_runtime::backend::Cpu;
use heron_runtime::rlwe::RlweContext;
use heron_schedule::params::ParameterSet;
use std::sync::Arc;

/// Whether a GPU of this ring was asked for and is there: for work that makes its own contexts.
pub fn on_gpu(asked: ServerBackend, params: &ParameterSet) -> Outcome<bool> {
    let absent = asked == ServerBackend::Auto && cuda::count().is_err();
    if asked == ServerBackend::Cpu || absent {
        return Ok(false);
    }
    let context = RlweContext::new(params.clone())?;
    let chosen = Machine::choose(asked, &context, &mut Progress::new(true))?;
    Ok(matches!(chosen, Machine::Gpu(_)))
}

/// A machine that was asked for and is there.
pub enum Machine {
    /// This processor.
    Cpu(Cpu),
    /// The first GPU.
    Gpu(Gpu),
}

impl From<DeviceError> for Failure {
    fn from(e: DeviceError) -> Self {
        Failure::new("resource", e.to_string())
    }
}

/// `--backend` of the commands that may also run on plain vectors, which is not asked here.
pub fn server_backend(choice: BackendChoice) -> ServerBackend {
    match choice {
        BackendChoice::Cuda => ServerBackend::Cuda,
        BackendChoice::Cpu => ServerBackend::Cpu,
        BackendChoice::Auto | BackendChoice::Clear => ServerBackend::Auto,
    }
}

/// Refuses `--backend cuda` where there is no GPU, before anything is read or made.
pub fn check(asked: ServerBackend) -> Outcome {
    if asked == ServerBackend::Cuda {
        cuda::count()?;
    }
    Ok(())
}

impl Machine {
    /// The machine asked for. `auto` is a GPU that works, else the CPU.
    pub fn choose(
        asked: ServerBackend,
        context: &Arc<RlweContext>,
        progress: &mut Progress,
    ) -> Outcome<Machine> {
        let cpu = || Machine::Cpu(Cpu::new(Arc::clone(context)));
        match asked {
            ServerBackend::Cpu => Ok(cpu()),
            ServerBackend::Cuda => Ok(Machine::Gpu(gpu(context)?)),
            ServerBackend::Auto => match gpu(context) {
                Ok(gpu) => {
                    progress.note(&format!("on {}", gpu.device_name()));
                    Ok(Machine::Gpu(gpu))
                }
                Err(DeviceError::Absent(_)) => Ok(cpu()),
                Err(error) => {
                    progress.note(&format!("on the CPU, as the GPU cannot be used: {error}"));
                    Ok(cpu())
                }
            },
        }
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Machine::Cpu(_) => "cpu",
            Machine::Gpu(_) => "cuda",
        }
    }
}

/// The first GPU, for a ring.
pub fn gpu(context: &Arc<RlweContext>) -> Result<Gpu, DeviceError> {
    let device = cuda::Cuda::first(context.ring().log_n())?;
    Gpu::new(Arc::new(device), Arc::clone(context))
}
