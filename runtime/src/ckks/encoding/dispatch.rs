//! One body, compiled for several instruction sets.
//!
//! The bodies are plain Rust: additions, subtractions and products of f64 or integers. Wider registers change how many values are worked on
//! at once, never an operation on a value, and rustc contracts nothing into fused operations; so the copies agree to the bit.

/// Defines `name(set, arguments…)`, which runs the inline-always function `body` compiled for `set`.
macro_rules! dispatched {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$meta])*
        pub(super) fn $name(set: $crate::ring::InstructionSet, $($arg: $type),*) {
            use $crate::ring::InstructionSet;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) { $body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
            fn avx512($($arg: $type),*) { $body($($arg),*) }
            match set {
                // SAFETY: whoever keeps a set checked that the machine has it: `Encoder`, `RingContext`, `InstructionSet::detect`.
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                set if set.is_avx512() => unsafe { avx512($($arg),*) },
                _ => $body($($arg),*),
            }
        }
    };
}
pub(super) use dispatched;
