//! What operations cost: one table per target, in seconds, for choosing between plans and for the estimate in the report.
//!
//! Prices ([`prices`]) are milliseconds at N = 2^16 on one chain of moduli. Between the levels they are given for they are linear in the
//! number of limbs; other rings scale with N·log N, other chains as their key switches do.

pub mod folding;
pub mod prices;

use crate::ir::packed::{is_free, Kernel};
use prices::{Measured, Prices, Target, BOOTSTRAP_FROM, BOOTSTRAP_PER_LEVEL, LIMBS};

/// Special limbs of key switching, and limbs of a digit, of the chain that prices are given for.
const SPECIAL: usize = 12;
const DIGIT: usize = 12;

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
    /// Sources, products with whole and with compact plaintexts, rotations of sources and of sums, and results of a linear map, one level
    /// above the result.
    pub linear: [f64; 6],
    /// Sums of products with one relinearisation and rescaling each, and the products beyond one in each, one level above.
    pub multiplications: [f64; 2],
    /// Sources that are rotated, and rotations beyond one of each.
    pub rotations: [f64; 2],
    /// Additions and adjustments.
    pub combinations: [f64; 2],
    /// Conjugations of the sums of a linear map.
    pub conjugations: f64,
}

impl Work {
    fn add(&mut self, other: &Work) {
        let add = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.linear, &other.linear);
        add(&mut self.multiplications, &other.multiplications);
        add(&mut self.rotations, &other.rotations);
        add(&mut self.combinations, &other.combinations);
        self.conjugations += other.conjugations;
    }

    /// Counts the operations of a kernel with a result of `ciphertexts` ciphertexts.
    pub fn of(kernel: &Kernel, ciphertexts: usize) -> Self {
        let n = ciphertexts as f64;
        match kernel {
            Kernel::Input { .. } => Work::default(),
            Kernel::Linear(outs) => {
                let mut work = Work::default();
                folding::parts(outs).iter().for_each(|p| work.add(&p.work));
                work
            }
            Kernel::Rotate { steps } => {
                let real = steps.iter().filter(|s| **s != 0).count() as f64;
                let sources = n / steps.len().max(1) as f64;
                Work {
                    rotations: [sources * real.min(1.0), sources * (real - 1.0).max(0.0)],
                    ..Work::default()
                }
            }
            Kernel::MulSum { pairs, .. } => {
                let products: usize = pairs.iter().map(Vec::len).sum();
                Work {
                    multiplications: [n, products as f64 - n],
                    ..Work::default()
                }
            }
            Kernel::Combine { coefficients, .. } => {
                let scaled = coefficients.iter().filter(|c| !is_free(**c)).count();
                Work {
                    combinations: [coefficients.len(), scaled].map(|c| n * c as f64),
                    ..Work::default()
                }
            }
        }
    }
}

/// What prices depend on besides ring degree and level: how moduli are made of limbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainCost {
    /// One limb a level instead of three for two.
    pub one_limb_levels: bool,
    /// Special limbs of key switching.
    pub special: usize,
    /// Limbs of a key-switching digit.
    pub digit: usize,
    /// The level that bootstraps begin at, where there are rows for bootstrapping.
    pub bootstrap_from: Option<u32>,
}

impl ChainCost {
    /// The chain that prices were measured on.
    pub const BOOTSTRAPPED: ChainCost = ChainCost {
        one_limb_levels: false,
        special: SPECIAL,
        digit: DIGIT,
        bootstrap_from: Some(BOOTSTRAP_FROM),
    };

    /// Limbs of row `level` of the level table.
    pub fn limbs(&self, level: u32) -> usize {
        match self.one_limb_levels {
            true => level as usize + 2,
            false => limbs(level),
        }
    }

    /// What one key switch of `l` limbs does.
    fn key_switch(&self, l: usize) -> KeySwitch {
        let p = self.special;
        let full = l / self.digit.max(1);
        let rest = l % self.digit.max(1);
        let digits = full + usize::from(rest > 0);
        KeySwitch {
            decomposing: digits * (l + p),
            converted: full * self.digit * (l + p - self.digit.min(l)) + rest * (l + p - rest),
            key: 2 * digits * (l + p),
            dividing: 2 * (p + l),
            divided: 2 * p * l,
        }
    }

    /// What operations cost on this chain over what they cost on the one that prices are for, at as many limbs: taken to be the ratio of
    /// the key switches, which all the dear ones consist of.
    fn ratio(&self, prices: &Prices, level: u32) -> f64 {
        let l = self.limbs(level);
        let cost = |chain: &ChainCost| {
            let k = chain.key_switch(l);
            prices.transform * (k.decomposing + k.dividing) as f64
                + prices.residues * (k.converted + k.key + k.divided) as f64
        };
        cost(self) / cost(&ChainCost::BOOTSTRAPPED)
    }
}

/// A key switch, counted in limbs of N residues.
#[derive(Clone, Copy, Debug)]
struct KeySwitch {
    /// Transforms, back and forth, that make the digits.
    decomposing: usize,
    /// Products that extend the digits.
    converted: usize,
    /// Limbs of the key, each multiplied by one of a digit.
    key: usize,
    /// Transforms that divide by P.
    dividing: usize,
    /// Products that do.
    divided: usize,
}

/// The cost table for a ring degree and a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostTable {
    /// log2 of the ring degree.
    pub log_n: u32,
    /// Highest usable level.
    pub top: u32,
    /// How moduli are made of limbs.
    pub chain: ChainCost,
    /// What runs the schedule.
    pub target: Target,
}

/// Limbs of row `level` of the level table (two levels are three limbs).
pub fn limbs(level: u32) -> usize {
    let l = level as usize;
    3 * (l / 2) + if l.is_multiple_of(2) { 2 } else { 4 }
}

impl CostTable {
    /// Prices for the chain that can bootstrap.
    pub fn bootstrapped(log_n: u32, top: u32) -> CostTable {
        CostTable {
            log_n,
            top,
            chain: ChainCost::BOOTSTRAPPED,
            target: Target::Cpu,
        }
    }

    fn prices(&self) -> &'static Prices {
        self.target.prices()
    }

    /// Limbs of row `level` of the level table.
    pub fn limbs(&self, level: u32) -> usize {
        self.chain.limbs(level)
    }

    /// Milliseconds at N = 2^16 as seconds of this ring.
    fn seconds(&self, milliseconds: f64) -> f64 {
        let log_n = f64::from(self.log_n);
        f64::exp2(log_n - 16.0) * log_n / 16.0 * milliseconds / 1e3
    }

    /// Seconds at `level`: linear in the limbs between the levels measured and beyond them.
    fn at(&self, price: &Measured, level: u32) -> f64 {
        let l = self.limbs(level) as f64;
        let i = LIMBS[1..3].iter().filter(|m| l > **m).count();
        let slope = (price[i + 1] - price[i]) / (LIMBS[i + 1] - LIMBS[i]);
        // Below the lowest measured level prices do not fall under half of it.
        let measured = (price[i] + slope * (l - LIMBS[i])).max(price[0] / 2.0);
        self.seconds(measured * self.chain.ratio(self.prices(), level))
    }

    /// One rotation at `level`.
    pub fn key_switch(&self, level: u32) -> f64 {
        self.at(&self.prices().rotate, level)
    }

    /// One product with a plaintext at `level`, encoding included, on the limbs of key switching too.
    pub fn plaintext_product(&self, level: u32) -> f64 {
        self.at(&self.prices().plaintext_product, level)
    }

    /// One linear combination term at `level`.
    pub fn combine(&self, level: u32) -> f64 {
        self.at(&self.prices().add, level)
    }

    /// A kernel whose result of `ciphertexts` ciphertexts is at `level`.
    pub fn kernel(&self, kernel: &Kernel, ciphertexts: usize, level: u32) -> f64 {
        self.work(&Work::of(kernel, ciphertexts), level)
    }

    /// Counted operations with their result at `level`.
    pub fn work(&self, work: &Work, level: u32) -> f64 {
        let [sources, products, compact, babies, giants, results] = work.linear;
        let [multiplications, more] = work.multiplications;
        let [rotated, hoisted] = work.rotations;
        let [additions, adjustments] = work.combinations;
        let prices = self.prices();
        let above = [
            (sources, &prices.linear_source),
            (products, &prices.plaintext_product),
            (compact, &prices.compact_product),
            (babies, &prices.linear_baby),
            (giants, &prices.linear_giant),
            (results, &prices.linear_result),
            (multiplications, &prices.multiply),
            (more, &prices.product),
            (adjustments, &prices.adjust),
        ];
        let here = [
            (rotated + work.conjugations, &prices.rotate),
            (hoisted, &prices.hoisted_rotation),
            (additions, &prices.add),
        ];
        let price = |list: &[(f64, &Measured)], level| -> f64 {
            let counted = list.iter().filter(|(count, _)| *count > 0.0);
            counted.map(|(count, p)| count * self.at(p, level)).sum()
        };
        price(&above, level + 1) + price(&here, level)
    }

    /// Bringing `ciphertexts` ciphertexts down to `level` from above.
    pub fn adjustment(&self, ciphertexts: usize, level: u32) -> f64 {
        ciphertexts as f64 * self.at(&self.prices().adjust, level + 1)
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
        let of = |p: &prices::BootstrapPrices| match kind {
            BootstrapKind::Full => p.full,
            BootstrapKind::ComplexPair => p.pair,
            // Shorter periods than measured save no more.
            BootstrapKind::Sparse { log_slots } => {
                p.sparse + p.doubling * f64::from(log_slots.saturating_sub(10))
            }
        };
        let from = self.chain.bootstrap_from.unwrap_or(0);
        let levels = f64::from(self.top.saturating_sub(from));
        // Linear between the chains measured; no chain is shorter or longer but in tests.
        let [a, b, c] = &self.prices().bootstraps;
        let (low, high) = if levels <= b.levels { (a, b) } else { (b, c) };
        let share = ((levels - low.levels) / (high.levels - low.levels)).clamp(0.0, 1.0);
        let base = of(low) + share * (of(high) - of(low));
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
    fn one_limb_levels_and_small_rings_cost_less() {
        let chain = |one_limb_levels, special, digit| ChainCost {
            one_limb_levels,
            special,
            digit,
            bootstrap_from: None,
        };
        let at = |log_n, chain| {
            let t = CostTable {
                log_n,
                top: 10,
                chain,
                target: Target::Cpu,
            };
            t.key_switch(8)
        };
        assert!(at(14, chain(true, 4, 3)) < at(15, chain(true, 4, 3)));
        assert!(at(15, chain(true, 6, 6)) < at(15, chain(false, 6, 6)));
    }

    #[test]
    fn every_operation_costs_more_at_a_higher_level() {
        for target in [Target::Cpu, Target::Cuda] {
            let mut t = CostTable::bootstrapped(16, 16);
            t.target = target;
            for l in 1..=17 {
                for price in t.prices().of_operations() {
                    assert!(t.at(price, l) >= t.at(price, l - 1) && t.at(price, l - 1) > 0.0);
                }
            }
            for l in 1..=16 {
                let full = |l| t.bootstrap(BootstrapKind::Full, l);
                assert!(full(l) > full(l - 1));
            }
        }
    }

    #[test]
    fn measured_levels_have_their_measured_prices() {
        let t = CostTable::bootstrapped(16, 16);
        for (i, level) in [4, 8, 12, 16].into_iter().enumerate() {
            assert_eq!(limbs(level) as f64, LIMBS[i]);
            assert!((t.key_switch(level) * 1e3 - t.prices().rotate[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn repeating_bundles_go_alone_only_where_that_costs_less_than_pairs() {
        let t = CostTable::bootstrapped(16, 16);
        assert_eq!(
            t.bundle_kind(1 << 14, 1),
            BootstrapKind::Sparse { log_slots: 14 }
        );
        assert_eq!(t.bundle_kind(1 << 14, 2), BootstrapKind::Full);
        assert_eq!(
            (t.bundle_count(1 << 14, 4), t.bundle_count(1 << 15, 3)),
            (2, 2)
        );
    }
}
