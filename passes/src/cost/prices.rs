//! Prices of the targets that schedules are made for.

use super::ChainCost;
use std::sync::LazyLock;

/// Limbs of the levels that prices are given for: 4, 8, 12 and 16.
pub(super) const LIMBS: [f64; 4] = [8.0, 14.0, 20.0, 26.0];
/// A price at these levels, milliseconds.
pub(super) type Measured = [f64; 4];
/// The level that bootstraps of the chain begin at.
pub(super) const BOOTSTRAP_FROM: u32 = 3;
/// Share of a bootstrap that is saved per level that its result is lower.
pub(super) const BOOTSTRAP_PER_LEVEL: f64 = 0.001;

/// What a schedule is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Two cores with AVX-512.
    #[default]
    Cpu,
    /// One NVIDIA H200.
    Cuda,
}

impl Target {
    /// The word for it in commands, reports and texts of graphs.
    pub fn name(self) -> &'static str {
        match self {
            Target::Cpu => "cpu",
            Target::Cuda => "cuda",
        }
    }

    /// Where its prices come from, for the report.
    pub fn basis(self) -> &'static str {
        self.prices().basis
    }

    /// Whether its prices were measured; otherwise they are a model's.
    pub fn is_measured(self) -> bool {
        self.prices().measured
    }

    pub(super) fn prices(self) -> &'static Prices {
        static GPU: LazyLock<Prices> = LazyLock::new(modelled);
        match self {
            Target::Cpu => &CPU,
            Target::Cuda => &GPU,
        }
    }
}

/// Prices of one target at N = 2^16 on [`ChainCost::BOOTSTRAPPED`].
pub(super) struct Prices {
    /// Where they come from.
    basis: &'static str,
    measured: bool,
    /// One rotation.
    pub rotate: Measured,
    /// One more rotation of a source that is decomposed already.
    pub hoisted_rotation: Measured,
    /// One product, relinearised and rescaled.
    pub multiply: Measured,
    /// Each further product in its sum.
    pub product: Measured,
    /// Going down to the row below; from further above it costs no more.
    pub adjust: Measured,
    /// One addition.
    pub add: Measured,
    /// Linear maps: one product with its plaintext, encoding included,
    pub plaintext_product: Measured,
    /// the same with a plaintext that repeats after 256 slots,
    pub compact_product: Measured,
    /// one rotation of a source,
    pub linear_baby: Measured,
    /// one rotation of a sum,
    pub linear_giant: Measured,
    /// decomposing a source,
    pub linear_source: Measured,
    /// and dividing a result.
    pub linear_result: Measured,
    /// By chain, ascending: `paper` (3 digits), `secure` (4), and the deep one that `secure` may choose (6).
    pub bootstraps: [BootstrapPrices; 3],
    /// One transform of a limb, and one product of a limb of residues with a constant or a limb of a key: their ratio is what counts.
    pub transform: f64,
    pub residues: f64,
}

/// A bootstrap to the top level.
pub(super) struct BootstrapPrices {
    /// Levels between bootstraps of the chain.
    pub levels: f64,
    /// Full slots, one real ciphertext.
    pub full: f64,
    /// A pair of them.
    pub pair: f64,
    /// Slots that repeat with a period of 2^10.
    pub sparse: f64,
    /// What each doubling of the period adds.
    pub doubling: f64,
}

#[cfg(test)]
impl Prices {
    pub(super) fn of_operations(&self) -> [&Measured; 12] {
        [
            &self.rotate,
            &self.hoisted_rotation,
            &self.multiply,
            &self.product,
            &self.adjust,
            &self.add,
            &self.plaintext_product,
            &self.compact_product,
            &self.linear_baby,
            &self.linear_giant,
            &self.linear_source,
            &self.linear_result,
        ]
    }
}

/// Milliseconds of wall time on two threads with the parameters of `secure` (4 digits, 12 special limbs), measured on 2026-11-22 on a two-core
/// machine with AVX-512, medians of two runs:
/// ```text
/// RAYON_NUM_THREADS=2 target/release/examples/prices secure 4 8 12 16
/// RAYON_NUM_THREADS=2 cargo bench -p heron-runtime --bench bootstrap -- secure/9 3 full pair sparse14 sparse10    # and secure/13, secure/15
/// ```
/// (the first is built by `cargo build --release -p heron-runtime --example prices`). What one giant step costs is taken from its maps with compact
/// plaintexts; `product` and `add` are within the noise and of 2026-11-21. To re-measure, replace the numbers; every choice follows.
static CPU: Prices = Prices {
    basis: "measured on two cores with AVX-512",
    measured: true,
    rotate: [6.1, 9.6, 16.9, 22.0],
    hoisted_rotation: [4.7, 6.5, 9.7, 13.4],
    multiply: [7.5, 12.5, 21.2, 28.7],
    product: [0.15, 0.20, 0.30, 0.47],
    adjust: [2.3, 3.5, 4.5, 5.6],
    add: [0.8, 1.3, 1.8, 2.4],
    plaintext_product: [3.1, 3.2, 4.4, 5.2],
    compact_product: [0.18, 0.20, 0.30, 0.33],
    linear_baby: [1.4, 2.5, 3.4, 4.3],
    linear_giant: [7.0, 13.0, 17.5, 21.0],
    linear_source: [2.0, 4.0, 6.5, 9.0],
    linear_result: [2.8, 6.0, 8.5, 11.0],
    bootstraps: [
        BootstrapPrices {
            levels: 9.0,
            full: 1_558.0,
            pair: 1_846.0,
            sparse: 1_335.0,
            doubling: 15.0,
        },
        BootstrapPrices {
            levels: 13.0,
            full: 1_942.0,
            pair: 2_388.0,
            sparse: 1_770.0,
            doubling: 40.0,
        },
        BootstrapPrices {
            levels: 15.0,
            full: 2_408.0,
            pair: 2_848.0,
            sparse: 1_858.0,
            doubling: 59.0,
        },
    ],
    transform: 0.164,
    residues: 0.024,
};

/// One transform of a limb of 2^16 words on an H200: the first gate that the project set itself (`gpu-ckks.md`, section 6).
const GPU_TRANSFORM: f64 = 0.45e-3;
/// One product of a limb with a constant or another: 2^16 wide multiply-adds at half of 1.48e13 a second (section 2).
const GPU_RESIDUES: f64 = 9e-6;
/// One limb of 256 KiB read or written at 4.3 TB/s.
const GPU_MOVED: f64 = 61e-6;
/// One kernel of a captured graph.
const GPU_LAUNCH: f64 = 2e-3;

/// A model of an H200, to be replaced by measurements: every operation is its transforms, its products, the limbs that it must move and its
/// launches, as `gpu-ckks.md` counts them; bootstraps are those of the CPU times the ratio of rotations at the highest level.
fn modelled() -> Prices {
    let chain = ChainCost::BOOTSTRAPPED;
    let price = |f: &dyn Fn(usize) -> f64| LIMBS.map(|l| f(l as usize));
    let transforms = |count: usize| GPU_TRANSFORM * count as f64;
    let residues = |count: usize| GPU_RESIDUES * count as f64;
    let moved = |count: usize| GPU_MOVED * count as f64;
    let launches = |count: usize| GPU_LAUNCH * count as f64;
    let source = |l: usize| {
        let k = chain.key_switch(l);
        transforms(k.decomposing) + residues(k.converted) + launches(2)
    };
    let result = |l: usize| {
        let k = chain.key_switch(l);
        transforms(k.dividing) + residues(k.divided) + launches(3)
    };
    // The key once, the digits, and both halves of what comes out.
    let product = |l: usize| {
        let k = chain.key_switch(l);
        let extended = l + chain.special;
        residues(k.key) + moved(k.key + k.key / 2 + 2 * extended) + launches(1)
    };
    let rotate = |l: usize| source(l) + product(l) + result(l);
    let at_the_top = rotate(26) / CPU.rotate[3];
    let bootstrap = |of: &BootstrapPrices| BootstrapPrices {
        levels: of.levels,
        full: of.full * at_the_top,
        pair: of.pair * at_the_top,
        sparse: of.sparse * at_the_top,
        doubling: of.doubling * at_the_top,
    };
    Prices {
        basis: "modelled for one H200 from its arithmetic and memory, not measured",
        measured: false,
        rotate: price(&rotate),
        hoisted_rotation: price(&|l| product(l) + result(l)),
        // Two limbs more are divided out together with P.
        multiply: price(&|l| rotate(l) + transforms(4) + moved(7 * l) + launches(1)),
        product: price(&|l| moved(4 * l) + launches(1)),
        adjust: price(&|l| transforms(2 * l + 4) + moved(4 * l) + launches(3)),
        add: price(&|l| moved(6 * l) + launches(1)),
        plaintext_product: price(&|l| {
            let extended = l + chain.special;
            transforms(extended) + moved(4 * extended) + launches(2)
        }),
        // Its words are made in a ring of 512; rotated sources are read once for several sums.
        compact_product: price(&|l| {
            let extended = l + chain.special;
            residues(2 * extended) + moved(extended)
        }),
        linear_baby: price(&product),
        linear_giant: price(&|l| source(l) + product(l)),
        linear_source: price(&source),
        linear_result: price(&result),
        bootstraps: CPU.bootstraps.each_ref().map(bootstrap),
        transform: GPU_TRANSFORM,
        residues: GPU_RESIDUES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modelled_h200_is_tens_to_hundreds_of_times_as_fast_as_two_cores() {
        let gpu = Target::Cuda.prices();
        for (cpu, gpu) in CPU.of_operations().into_iter().zip(gpu.of_operations()) {
            for (cpu, gpu) in cpu.iter().zip(gpu) {
                assert!((20.0..1000.0).contains(&(cpu / gpu)), "{cpu} and {gpu}");
            }
        }
        assert!(Target::Cpu.is_measured() && !Target::Cuda.is_measured());
    }
}
