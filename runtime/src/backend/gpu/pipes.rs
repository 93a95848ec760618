//! What a device can do at most: words copied, operations of each pipe. The yardsticks of everything else.

use super::arguments::PipeArgs;
use super::core::Gpu;
use super::device::{DeviceError, KernelTime};
use super::pointwise::{Operands, Word};
use bytemuck::Zeroable;

/// Threads of a block.
const THREADS: u32 = 256;
/// Chains of a thread, as `kernels/pipes.cuh` has them.
const CHAINS: u32 = 8;
/// Times each thing is done after one that is not counted.
const RUNS: u64 = 10;
/// An odd number below 2^28.
const MODULUS: u32 = (1 << 28) - 57;

/// What one pipe does.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipe {
    /// Its name.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many a second.
    pub per_second: f64,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Blocks of the arithmetic pipes.
    pub blocks: u32,
    /// Steps of their chains.
    pub steps: u32,
    /// Bytes that are copied: more than any cache holds.
    pub copied: usize,
}

impl Effort {
    /// For a large GPU: some tens of milliseconds each.
    pub const FULL: Effort = Effort {
        blocks: 132 * 16,
        steps: 1 << 14,
        copied: 1 << 30,
    };
}

const ARITHMETIC: [(&str, &str, &str); 4] = [
    ("heron_pipe_high", "multiply_high", "operations"),
    ("heron_pipe_wide", "multiply_wide_add", "operations"),
    ("heron_pipe_double", "double_multiply_add", "operations"),
    ("heron_pipe_montgomery", "montgomery", "products"),
];

impl Gpu {
    /// Memory first, then the arithmetic.
    ///
    /// # Errors
    /// The first failure of the device.
    pub fn pipes(&self, effort: Effort) -> Result<Vec<Pipe>, DeviceError> {
        let mut pipes = vec![Pipe {
            name: "memory",
            unit: "bytes read and written",
            per_second: self.copied_per_second(effort.copied)?,
        }];
        for (kernel, name, unit) in ARITHMETIC {
            let threads = (effort.blocks * THREADS) as usize;
            let words = self.take(threads)?;
            let args = pipe_args(words.address().0, effort.steps);
            let launch = || {
                // SAFETY: there is a word for each thread.
                unsafe { self.launch(kernel, [effort.blocks, 1, 1], THREADS, 0, threads, &args) }
            };
            launch()?;
            let run = || (0..RUNS).try_for_each(|_| launch());
            let (ran, times) = self.timed(run)?;
            ran?;
            let each = threads as f64 * f64::from(CHAINS) * f64::from(effort.steps);
            pipes.push(Pipe {
                name,
                unit,
                per_second: each * RUNS as f64 / seconds(&times),
            });
        }
        Ok(pipes)
    }

    /// Bytes that a copy from memory to memory reads and writes in a second.
    ///
    /// # Errors
    /// The first failure of the device.
    pub fn copied_per_second(&self, bytes: usize) -> Result<f64, DeviceError> {
        let ring = self.ring_context();
        let (n, limb) = (ring.degree(), ring.all_limbs()[0]);
        let limbs = (bytes / (4 * n)).max(1);
        let (from, to) = (self.take(limbs * n)?, self.take(limbs * n)?);
        let copy = || -> Result<(), DeviceError> {
            let first: Vec<usize> = (0..limbs).step_by(LIMBS).collect();
            for first in first {
                let operands = Operands {
                    to: to.address().plus(first * n),
                    a: from.address().plus(first * n),
                    ..Operands::default()
                };
                let words = (0..LIMBS.min(limbs - first)).map(|i| Word::at(i, limb));
                // SAFETY: both buffers hold these limbs.
                unsafe { self.pointwise("heron_copy", operands, words)? };
            }
            Ok(())
        };
        copy()?;
        let (ran, times) = self.timed(|| (0..RUNS).try_for_each(|_| copy()))?;
        ran?;
        let moved: u64 = times.iter().map(|k| k.moves).sum();
        Ok(moved as f64 / seconds(&times))
    }
}

/// Limbs of one launch of a copy.
const LIMBS: usize = 128;

fn seconds(times: &[KernelTime]) -> f64 {
    times.iter().map(|k| k.seconds).sum()
}

fn pipe_args(to: u64, steps: u32) -> PipeArgs {
    let inverse = (0..5).fold(MODULUS, |x, _| {
        x.wrapping_mul(2u32.wrapping_sub(MODULUS.wrapping_mul(x)))
    });
    PipeArgs {
        to,
        steps,
        q: MODULUS,
        q_inverse: inverse,
        ..PipeArgs::zeroed()
    }
}
