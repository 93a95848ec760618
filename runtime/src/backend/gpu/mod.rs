//! The GPU: every operation as launches of the kernels in `runtime/kernels`, on a [`device::Device`]. Residues are those of the CPU, bit for
//! bit. Two devices run the same kernel source: CUDA, found at run time, and (feature `simulator`) a simulator on the host for tests.

mod arguments;
mod backend;
pub mod compile;
mod core;
pub mod cuda;
pub mod device;
mod divide;
mod encode;
mod keys;
#[cfg(test)]
mod launch_tests;
pub mod limits;
mod linear_sums;
mod memory;
mod offsets;
mod order;
pub mod pipes;
pub mod planner;
mod pointwise;
mod poly;
mod product;
mod recording;
mod rotated_sums;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod source;
mod switch;
mod tables;
#[cfg(all(test, feature = "simulator"))]
mod tests;
mod touches;
mod transform;

pub use core::Gpu;
pub use device::{Device, DeviceError, KernelTime};
pub(crate) use encode::{alike, Integers, Places, TOGETHER};
pub use poly::GpuPoly;
pub use recording::Recordings;
