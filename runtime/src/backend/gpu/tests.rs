//! The kernels, in the simulator, against the CPU: the same residues, limb by limb. Toy rings: not secure.

mod batches;
mod encoding;
mod linear_sums;
mod measured;
mod operations;
mod pipes;
mod plans;
mod programs;
mod recordings;
mod switches;

use super::simulator::{Build, Simulator};
use super::Gpu;
use crate::backend::{Backend, Cpu};
use crate::ring::{LimbId, RnsPoly};
use crate::rlwe::RlweContext;
use heron_schedule::params::{ParameterSet, Profile};
use std::sync::Arc;

/// A ring on both machines.
struct Both {
    context: Arc<RlweContext>,
    cpu: Cpu,
    gpu: Gpu,
}

impl Both {
    fn new(log_n: u32, seed: u64) -> Both {
        Both::built(log_n, Build::Plain, seed)
    }

    fn built(log_n: u32, build: Build, seed: u64) -> Both {
        let params = ParameterSet::with_ring(Profile::ToySecure, log_n).expect("profile");
        let context = RlweContext::new(params).expect("context");
        let device = Simulator::with(build, seed, 1 << 40);
        Both {
            cpu: Cpu::new(Arc::clone(&context)),
            gpu: Gpu::new(Arc::new(device), Arc::clone(&context)).expect("tables"),
            context,
        }
    }

    /// Limbs of the whole chain in an order of its own: every so many.
    fn limbs(&self, first: usize, count: usize) -> Vec<LimbId> {
        let all = self.context.ring().all_limbs();
        (0..count)
            .map(|i| all[(first + 7 * i) % all.len()])
            .collect()
    }
}

/// Fails unless a polynomial of the device is this one, and says where they differ.
#[track_caller]
fn assert_same(what: &str, gpu: &Gpu, found: &<Gpu as Backend>::Poly, expected: &RnsPoly) {
    if let Err(difference) = same(gpu, found, expected) {
        panic!("{what}: {difference}");
    }
}

fn same(gpu: &Gpu, found: &<Gpu as Backend>::Poly, expected: &RnsPoly) -> Result<(), String> {
    let found = gpu.fetch(found).map_err(|e| e.to_string())?;
    if found.limbs() != expected.limbs() || found.form() != expected.form() {
        return Err(format!("{found:?} where {expected:?} is expected"));
    }
    let words = found.data().iter().zip(expected.data());
    match words.enumerate().find(|(_, (a, b))| a != b) {
        None => Ok(()),
        Some((i, (a, b))) => {
            let (limb, word) = (i / found.degree(), i % found.degree());
            Err(format!(
                "limb {limb}, word {word}: {a} where the CPU has {b}"
            ))
        }
    }
}
