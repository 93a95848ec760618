//! Where ciphertexts are computed on: the CPU, or a GPU if one is found.

use crate::args::{BackendChoice, ServerBackend};
use crate::console::Progress;
use crate::failure::{Failure, Outcome};
use heron_runtime::backend::gpu::{cuda, DeviceError, Gpu};
use heron_runtime::backend::{Backend, Cpu};
use heron_runtime::ckks::Ciphertext;
use heron_runtime::rlwe::RlweContext;
use std::sync::Arc;

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

fn gpu(context: &Arc<RlweContext>) -> Result<Gpu, DeviceError> {
    let device = cuda::Cuda::first(context.ring().log_n())?;
    Gpu::new(Arc::new(device), Arc::clone(context))
}

/// A backend that a schedule can run on: ciphertexts come from files and go to files.
pub trait Place: Backend {
    /// Brings a ciphertext there.
    fn bring(&self, ciphertext: Ciphertext) -> Ciphertext<Self::Poly>;
    /// Brings a ciphertext back.
    fn fetch_back(&self, ciphertext: &Ciphertext<Self::Poly>) -> Outcome<Ciphertext>;
    /// Waits for what was started, so that time is counted where it is spent.
    fn settle(&self) -> Result<(), DeviceError>;
}

impl Place for Cpu {
    fn bring(&self, ciphertext: Ciphertext) -> Ciphertext {
        ciphertext
    }
    fn fetch_back(&self, ciphertext: &Ciphertext) -> Outcome<Ciphertext> {
        Ok(ciphertext.clone())
    }
    fn settle(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Place for Gpu {
    fn bring(&self, ct: Ciphertext) -> Ciphertext<Self::Poly> {
        let polys = ct.polys().iter().map(|p| self.upload(p)).collect();
        Ciphertext::from_parts(polys, ct.level(), ct.scale())
    }
    fn fetch_back(&self, ct: &Ciphertext<Self::Poly>) -> Outcome<Ciphertext> {
        let polys = ct.polys().iter().map(|p| self.fetch(p));
        let polys = polys.collect::<Result<_, _>>()?;
        Ok(Ciphertext::from_parts(polys, ct.level(), ct.scale()))
    }
    fn settle(&self) -> Result<(), DeviceError> {
        Gpu::settle(self)
    }
}
