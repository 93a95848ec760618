//! What a launch may ask for, checked before it is started: a driver only says "invalid value".

use super::device::{DeviceError, Launch};

/// Blocks of a grid in each direction, on every architecture (CUDA C++ Programming Guide, technical specifications).
pub const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// Threads of a block: what `kernels/device.cuh` promises the compiler of every kernel.
pub const MOST_THREADS: u32 = 256;

/// Bytes of arguments that every driver takes; those of CUDA 12.1 and later take 32,764.
pub const MOST_ARGUMENTS: usize = 4096;

/// Shared memory of a multiprocessor that each of its blocks takes besides its own.
pub const SHARED_OF_A_BLOCK: u32 = 1 << 10;

/// Refuses what no device takes, or one whose blocks may have so many bytes of shared memory does not.
///
/// # Errors
/// [`DeviceError::Launch`] with what is too much.
pub fn check(launch: &Launch<'_>, shared: u32) -> Result<(), DeviceError> {
    let [x, y, z] = launch.grid;
    let [most_x, most_y, most_z] = MOST_BLOCKS;
    let counts = [
        ("blocks along x", x as usize, most_x as usize),
        ("blocks along y", y as usize, most_y as usize),
        ("blocks along z", z as usize, most_z as usize),
        (
            "threads of a block",
            launch.threads as usize,
            MOST_THREADS as usize,
        ),
        (
            "bytes of shared memory of a block",
            launch.shared as usize,
            shared as usize,
        ),
        ("bytes of arguments", launch.arguments.len(), MOST_ARGUMENTS),
    ];
    match counts.into_iter().find(|(_, found, most)| found > most) {
        None => Ok(()),
        Some((what, found, most)) => Err(DeviceError::Launch {
            kernel: launch.kernel.into(),
            what: format!("{found} {what} where at most {most} can be"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_beyond_a_limit_is_refused_by_what_is_too_much() {
        let most = Launch {
            kernel: "heron_add",
            grid: MOST_BLOCKS,
            threads: MOST_THREADS,
            shared: 1000,
            arguments: &[0; MOST_ARGUMENTS],
            moves: 0,
        };
        check(&most, 1000).expect("at the limits");
        let refused = |launch: Launch<'_>| check(&launch, 1000).expect_err("beyond").to_string();
        let [x, y, z] = MOST_BLOCKS;
        let beyond = [
            refused(Launch {
                grid: [x + 1, 1, 1],
                ..most
            }),
            refused(Launch {
                grid: [1, y + 1, 1],
                ..most
            }),
            refused(Launch {
                grid: [1, 1, z + 1],
                ..most
            }),
            refused(Launch {
                threads: MOST_THREADS + 1,
                ..most
            }),
            refused(Launch {
                shared: 1001,
                ..most
            }),
            refused(Launch {
                arguments: &[0; MOST_ARGUMENTS + 1],
                ..most
            }),
        ];
        let told = [
            "along x",
            "along y",
            "along z",
            "threads",
            "shared",
            "arguments",
        ];
        for (message, what) in beyond.iter().zip(told) {
            assert!(message.contains(what), "{message}");
        }
    }
}
