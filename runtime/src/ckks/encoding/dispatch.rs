//! One body, compiled for several instruction sets.
//!
//! The bodies are plain Rust: additions, subtractions and products of f64 or integers. Wider registers change how many values are worked on
//! at once, never an operation on a value, and rustc contracts nothing into fused operations; so the copies agree to the bit.

/// Which copy to run; tests go through all the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstructionSet {
    /// What the target guarantees.
    Baseline,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, DQ, VL and BW.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// Those this machine can run, best last.
    pub fn available() -> Vec<InstructionSet> {
        #[allow(unused_mut)]
        let mut sets = vec![InstructionSet::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx2") {
                sets.push(InstructionSet::Avx2);
            }
            if std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512dq")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("avx512bw")
            {
                sets.push(InstructionSet::Avx512);
            }
        }
        sets
    }

    /// The best this machine can run.
    pub fn best() -> InstructionSet {
        static BEST: std::sync::OnceLock<InstructionSet> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| {
            let sets = InstructionSet::available();
            sets.last().copied().unwrap_or(InstructionSet::Baseline)
        })
    }
}

/// Defines `name(set, arguments…)`, which runs the inline-always function `body` compiled for `set`.
macro_rules! dispatched {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$meta])*
        pub(super) fn $name(set: $crate::ckks::encoding::dispatch::InstructionSet, $($arg: $type),*) {
            use $crate::ckks::encoding::dispatch::InstructionSet;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) { $body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
            fn avx512($($arg: $type),*) { $body($($arg),*) }
            match set {
                InstructionSet::Baseline => $body($($arg),*),
                // SAFETY: a set other than the baseline comes from `InstructionSet::available`, which detected its features.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(super) use dispatched;
