//! What operations cost: one table, in seconds, for choosing between plans and for the estimate in the report.
//!
//! Processor times measured with `cargo run --release -p heron-runtime --example key_switch_times secure` and `cargo bench -p heron-runtime --bench
//! bootstrap -- secure` at N = 2^16 on one machine, divided by what two threads gain. Other rings scale with N. To
//! re-measure, replace the constants below; every choice follows.

use crate::ir::packed::print::linear_counts;
use crate::ir::packed::{is_free, Kernel};

/// What two threads gain over one.
const SPEEDUP: f64 = 1.8;
/// One rotation or relinearisation at levels 0 to 11, milliseconds.
const KEY_SWITCH: [f64; 12] = [
    8.0, 8.9, 9.8, 10.6, 13.5, 17.0, 19.0, 21.5, 24.0, 28.5, 33.0, 39.0,
];
/// Encoding a vector, and what each limb adds.
const ENCODE: f64 = 2.2;
const ENCODE_LIMB: f64 = 0.17;
/// A pass of multiply and add over one limb of a ciphertext.
const PASS: f64 = 0.01;
/// Rescaling: per limb.
const RESCALE_LIMB: f64 = 0.36;
/// An addition: per limb.
const ADD_LIMB: f64 = 0.08;
/// Special limbs of key switching.
const SPECIAL: usize = 11;
/// A bootstrap to the top level: full slots (one or two real ciphertexts), and sparse slots.
const BOOTSTRAP_FULL: f64 = 7_700.0;
const BOOTSTRAP_SPARSE: f64 = 5_600.0;
/// Share of a bootstrap that is saved per level that its result is lower.
const BOOTSTRAP_PER_LEVEL: f64 = 0.001;

/// Shared part of hoisted rotations, in full rotations.
pub const HOISTING: f64 = 0.3;
/// One hoisted rotation with its division, in full rotations.
pub const HOISTED: f64 = 0.6;
/// One rotated source of a linear map, left undivided (double hoisting).
pub const BABY: f64 = 0.12;
/// One rotated sum of a linear map.
pub const GIANT: f64 = 0.6;

/// How a bundle may be bootstrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootstrapKind {
    /// One ciphertext with full slots.
    Full,
    /// Two ciphertexts in one.
    ComplexPair,
    /// Slots that repeat with a period of 2^log_slots, at most half of the slots.
    Sparse {
        /// Logarithm of the period in slots.
        log_slots: u32,
    },
}

/// What a kernel does, counted: independent of levels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Key switches one level above the result, in full rotations.
    pub key_switches_above: f64,
    /// Products with plaintexts, one level above.
    pub plaintext_products: f64,
    /// Products of ciphertexts without relinearisation, one level above.
    pub products: f64,
    /// Rescalings from one level above.
    pub rescalings: f64,
    /// Key switches at the level of the result, in full rotations.
    pub key_switches: f64,
    /// Terms of linear combinations.
    pub terms: f64,
}

impl Work {
    /// Counts the operations of a kernel with a result of `ciphertexts` ciphertexts.
    pub fn of(kernel: &Kernel, ciphertexts: usize) -> Self {
        let n = ciphertexts as f64;
        match kernel {
            Kernel::Input { .. } => Work::default(),
            Kernel::Linear(outs) => {
                let (products, babies, giants) = linear_counts(outs);
                Work {
                    key_switches_above: if babies > 0 { HOISTING } else { 0.0 }
                        + BABY * babies as f64
                        + GIANT * giants as f64
                        + HOISTING * n,
                    plaintext_products: products as f64,
                    rescalings: n,
                    ..Work::default()
                }
            }
            Kernel::Rotate { steps } => {
                let real = steps.iter().filter(|s| **s != 0).count() as f64;
                let sources = n / steps.len().max(1) as f64;
                Work {
                    key_switches: sources * (HOISTING + HOISTED * real),
                    ..Work::default()
                }
            }
            Kernel::MulSum { pairs, .. } => {
                let products: usize = pairs.iter().map(Vec::len).sum();
                Work {
                    products: products as f64,
                    key_switches_above: n,
                    rescalings: n,
                    ..Work::default()
                }
            }
            Kernel::Combine { coefficients, .. } => {
                let scaled = coefficients.iter().filter(|c| !is_free(**c)).count();
                Work {
                    terms: n * coefficients.len() as f64,
                    rescalings: n * scaled as f64,
                    ..Work::default()
                }
            }
        }
    }
}

/// The cost table for a ring degree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostTable {
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Highest usable level.
    pub top: u32,
}

/// Limbs of row `level` of the level table (two levels are three limbs).
pub fn limbs(level: u32) -> usize {
    let l = level as usize;
    3 * (l / 2) + if l.is_multiple_of(2) { 2 } else { 4 }
}

impl CostTable {
    fn seconds(&self, milliseconds: f64) -> f64 {
        f64::powi(2.0, self.log_n as i32 - 16) * milliseconds / 1e3 / SPEEDUP
    }

    /// One key switch at `level`.
    pub fn key_switch(&self, level: u32) -> f64 {
        let last = KEY_SWITCH.len() - 1;
        let known = KEY_SWITCH[(level as usize).min(last)];
        let beyond = level.saturating_sub(last as u32);
        self.seconds(known * (1.0 + 0.15 * f64::from(beyond)))
    }

    /// One product with a plaintext at `level`, encoding included, on the limbs of key switching too.
    pub fn plaintext_product(&self, level: u32) -> f64 {
        let l = (limbs(level) + SPECIAL) as f64;
        self.seconds(ENCODE + (ENCODE_LIMB + PASS) * l)
    }

    /// One product of ciphertexts without relinearisation.
    pub fn product(&self, level: u32) -> f64 {
        self.seconds(PASS * 4.0 * limbs(level) as f64)
    }

    /// Going from `level` to the row below.
    pub fn rescale(&self, level: u32) -> f64 {
        self.seconds(RESCALE_LIMB * limbs(level) as f64)
    }

    /// One linear combination term at `level`.
    pub fn combine(&self, level: u32) -> f64 {
        self.seconds(ADD_LIMB * limbs(level) as f64)
    }

    /// A kernel whose result of `ciphertexts` ciphertexts is at `level`.
    pub fn kernel(&self, kernel: &Kernel, ciphertexts: usize, level: u32) -> f64 {
        self.work(&Work::of(kernel, ciphertexts), level)
    }

    /// Counted operations with their result at `level`.
    pub fn work(&self, work: &Work, level: u32) -> f64 {
        let above = |count: f64, price: fn(&Self, u32) -> f64| match count > 0.0 {
            true => count * price(self, level + 1),
            false => 0.0,
        };
        above(work.key_switches_above, Self::key_switch)
            + above(work.plaintext_products, Self::plaintext_product)
            + above(work.products, Self::product)
            + above(work.rescalings, Self::rescale)
            + work.key_switches * self.key_switch(level)
            + work.terms * self.combine(level)
    }

    /// Bringing `ciphertexts` ciphertexts down to `level` from above.
    pub fn adjustment(&self, ciphertexts: usize, level: u32) -> f64 {
        ciphertexts as f64 * self.combine(level)
    }

    /// How a bundle of `ciphertexts` is bootstrapped whose slots repeat with `period` slots: where half of the slots are enough, each
    /// ciphertext alone, unless pairs of all slots cost less.
    pub fn bundle_kind(&self, period: usize, ciphertexts: usize) -> BootstrapKind {
        let log_slots = period.max(2).ilog2();
        let sparse = BootstrapKind::Sparse { log_slots };
        let price = |kind| self.bundle_of(kind, ciphertexts, self.top);
        if log_slots + 2 <= self.log_n && price(sparse) <= price(BootstrapKind::Full) {
            sparse
        } else {
            BootstrapKind::Full
        }
    }

    /// Seconds for bootstrapping a bundle to `level_out`, by the kind that costs least.
    pub fn bundle(&self, period: usize, ciphertexts: usize, level_out: u32) -> f64 {
        self.bundle_of(
            self.bundle_kind(period, ciphertexts),
            ciphertexts,
            level_out,
        )
    }

    /// Bootstraps of a bundle, by the kind that costs least.
    pub fn bundle_count(&self, period: usize, ciphertexts: usize) -> usize {
        match self.bundle_kind(period, ciphertexts) {
            BootstrapKind::Full | BootstrapKind::ComplexPair => ciphertexts.div_ceil(2),
            BootstrapKind::Sparse { .. } => ciphertexts,
        }
    }

    /// Seconds for bootstrapping a bundle to `level_out`: full ones in pairs, the last alone if their number is odd.
    pub fn bundle_of(&self, kind: BootstrapKind, ciphertexts: usize, level_out: u32) -> f64 {
        match kind {
            BootstrapKind::Full | BootstrapKind::ComplexPair => {
                (ciphertexts / 2) as f64 * self.bootstrap(BootstrapKind::ComplexPair, level_out)
                    + (ciphertexts % 2) as f64 * self.bootstrap(BootstrapKind::Full, level_out)
            }
            kind => ciphertexts as f64 * self.bootstrap(kind, level_out),
        }
    }

    /// One bootstrap to `level_out`.
    pub fn bootstrap(&self, kind: BootstrapKind, level_out: u32) -> f64 {
        let saved = BOOTSTRAP_PER_LEVEL * f64::from(self.top.saturating_sub(level_out));
        let base = match kind {
            BootstrapKind::Full | BootstrapKind::ComplexPair => BOOTSTRAP_FULL,
            BootstrapKind::Sparse { .. } => BOOTSTRAP_SPARSE,
        };
        self.seconds(base * (1.0 - saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limbs_follow_the_period_two_ladder() {
        let rows: Vec<usize> = (0..=11).map(limbs).collect();
        assert_eq!(rows, [2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19]);
    }

    #[test]
    fn every_operation_costs_more_at_a_higher_level() {
        let t = CostTable { log_n: 16, top: 11 };
        for l in 1..=11 {
            assert!(t.key_switch(l) > t.key_switch(l - 1));
            assert!(t.plaintext_product(l) > t.plaintext_product(l - 1));
            assert!(t.bootstrap(BootstrapKind::Full, l) > t.bootstrap(BootstrapKind::Full, l - 1));
        }
    }
}
