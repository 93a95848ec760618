//! What operations cost: one table, in seconds, for choosing between plans and for the estimate in the report.
//!
//! A model of the CPU backend at N = 2^16 on two threads: number-theoretic transforms of one limb, and passes over one limb
//! counted in them. Replace the constants at the top by measurements; every choice follows.

/// One transform of one limb of 2^16 coefficients, seconds.
const TRANSFORM: f64 = 0.30e-3;
/// One multiply-accumulate pass over one limb, in transforms.
const PASS: f64 = 0.2;
/// Encoding a vector into slots before its transforms, in transforms.
const ENCODE: f64 = 4.0;
/// Limbs of one digit of key switching, and special limbs.
const DIGIT: usize = 10;
const SPECIAL: usize = 11;
/// Seconds of a bootstrap to the top level: full slots (one or two real ciphertexts), and sparse slots.
const BOOTSTRAP_FULL: f64 = 6.0;
const BOOTSTRAP_SPARSE: f64 = 3.6;
/// Share of a bootstrap that is saved per level that its result is lower.
const BOOTSTRAP_PER_LEVEL: f64 = 0.01;

/// Shared part of hoisted rotations, in full rotations.
pub const HOISTING: f64 = 0.35;
/// One hoisted rotation, in full rotations.
pub const HOISTED: f64 = 0.6;

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
    fn ring(&self) -> f64 {
        f64::powi(2.0, self.log_n as i32 - 16)
    }

    /// One key switch at `level`.
    pub fn key_switch(&self, level: u32) -> f64 {
        let l = limbs(level);
        let digits = l.div_ceil(DIGIT);
        let transforms = l + digits * (l + SPECIAL) + 2 * (SPECIAL + l);
        let passes = 2 * digits * (l + SPECIAL) + 6 * (l + SPECIAL);
        self.ring() * TRANSFORM * (transforms as f64 + PASS * passes as f64)
    }

    /// One product with a plaintext at `level`, encoding included.
    pub fn plaintext_product(&self, level: u32) -> f64 {
        let l = limbs(level) as f64;
        self.ring() * TRANSFORM * (ENCODE + l + 2.0 * PASS * l)
    }

    /// One product of ciphertexts without relinearisation.
    pub fn product(&self, level: u32) -> f64 {
        self.ring() * TRANSFORM * PASS * 4.0 * limbs(level) as f64
    }

    /// Going from `level` to the row below.
    pub fn rescale(&self, level: u32) -> f64 {
        self.ring() * TRANSFORM * 2.0 * (3 + limbs(level)) as f64
    }

    /// One linear combination term at `level`.
    pub fn combine(&self, level: u32) -> f64 {
        self.ring() * TRANSFORM * PASS * 2.0 * limbs(level) as f64
    }

    /// One bootstrap to `level_out`.
    pub fn bootstrap(&self, kind: BootstrapKind, level_out: u32) -> f64 {
        let saved = BOOTSTRAP_PER_LEVEL * f64::from(self.top.saturating_sub(level_out));
        let base = match kind {
            BootstrapKind::Full | BootstrapKind::ComplexPair => BOOTSTRAP_FULL,
            BootstrapKind::Sparse { .. } => BOOTSTRAP_SPARSE,
        };
        self.ring() * base * (1.0 - saved)
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
