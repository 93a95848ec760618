//! Randomness of keys and ciphertexts.
//!
//! A [`RandomSource`] is a 256-bit seed. Children are derived with BLAKE3 `derive_key` over (seed, label, index), so streams of different
//! purposes never meet and a parallel loop draws the same numbers on any thread count. Two expansions:
//! - public uniform polynomials (the `a` part of keys and ciphertexts): BLAKE3 extendable output in counter mode, several bytes per
//!   cycle, one child per limb;
//! - secrets and errors: AES-128 in counter mode (`tfhe-csprng`), which offers 128-bit security whatever the seed's length.

use super::context::{LimbId, RingContext};
use super::gaussian;
use super::poly::{Form, RnsPoly};
use rayon::prelude::*;
use tfhe_csprng::generators::{DefaultRandomGenerator, RandomGenerator};
use tfhe_csprng::seeders::Seed;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use gaussian::SIGMA;

/// Context string of every child seed (BLAKE3 `derive_key`).
const CHILD_CONTEXT: &str = "heron 2026 random source child v1";
/// Context string of a uniform limb stream.
const UNIFORM_CONTEXT: &str = "heron 2026 uniform limb v1";
/// Context string of an AES stream key.
const STREAM_CONTEXT: &str = "heron 2026 secret stream v1";

/// A seed from which independent streams are drawn. Neither `Debug` nor `Clone`: two holders of one seed would draw equal secrets.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RandomSource {
    seed: [u8; 32],
}

impl RandomSource {
    /// A source seeded by the operating system.
    ///
    /// # Errors
    /// If the operating system has no entropy to give.
    pub fn from_entropy() -> std::io::Result<Self> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|e| {
            std::io::Error::other(format!("no entropy from the operating system: {e}"))
        })?;
        Ok(Self { seed })
    }

    /// The source of a known seed: a published seed for the `a` part of a key, or a fixed one in a test.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    /// The child named by `label` and `index`; equal names give equal children.
    pub fn derive(&self, label: &str, index: &[u64]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CHILD_CONTEXT);
        hasher.update(&self.seed);
        hasher.update(&(label.len() as u64).to_le_bytes());
        hasher.update(label.as_bytes());
        for &i in index {
            hasher.update(&i.to_le_bytes());
        }
        let child = Self {
            seed: *hasher.finalize().as_bytes(),
        };
        hasher.zeroize();
        child
    }

    /// The child's seed, to be published: whoever has it draws the same uniform polynomials.
    pub fn public_seed(&self, label: &str, index: &[u64]) -> [u8; 32] {
        self.derive(label, index).seed
    }

    /// A polynomial uniform modulo the product of `limbs`, to be read in the form given. Each limb depends on the seed and its prime only,
    /// so dropping limbs commutes with drawing.
    pub fn uniform(&self, context: &RingContext, limbs: &[LimbId], form: Form) -> RnsPoly {
        let mut poly = RnsPoly::scratch(context, limbs, form);
        poly.data_mut()
            .par_chunks_mut(context.degree())
            .zip(limbs)
            .for_each(|(limb, &id)| {
                self.uniform_limb(context.prime(id), limb);
            });
        poly
    }

    /// Fills `limb` with residues uniform modulo `q`, by rejection: words below the largest multiple of `q` that fits 32 bits,
    /// reduced; at most one word in sixteen is refused.
    pub fn uniform_limb(&self, q: u32, limb: &mut [u32]) {
        let mut hasher = blake3::Hasher::new_derive_key(UNIFORM_CONTEXT);
        hasher.update(&self.seed);
        hasher.update(&q.to_le_bytes());
        let mut stream = hasher.finalize_xof();
        let quotient = (1u64 << 32) / u64::from(q);
        let limit = (quotient * u64::from(q)) as u32;
        let reciprocal = (u64::MAX / u64::from(q)) as u128;
        let mut bytes = [0u8; 8192];
        let mut filled = 0;
        while filled < limb.len() {
            stream.fill(&mut bytes);
            for chunk in bytes.chunks_exact(4) {
                if filled == limb.len() {
                    break;
                }
                let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
                let estimate = ((u128::from(word) * reciprocal) >> 64) as u32;
                let r = word.wrapping_sub(estimate.wrapping_mul(q));
                // A refused word is overwritten by the next one.
                limb[filled] = r.min(r.wrapping_sub(q));
                filled += usize::from(word < limit);
            }
        }
    }

    /// `n` coefficients uniform in {-1, 0, 1}.
    pub fn ternary(&self, n: usize) -> Zeroizing<Vec<i8>> {
        let mut stream = self.stream();
        let mut secret = Zeroizing::new(vec![0i8; n]);
        let mut filled = 0;
        while filled < n {
            let mut byte = stream.byte();
            for _ in 0..4 {
                let draw = byte & 3;
                byte >>= 2;
                if draw < 3 && filled < n {
                    secret[filled] = draw as i8 - 1;
                    filled += 1;
                }
            }
        }
        secret
    }

    /// `n` coefficients of which exactly `weight` are non-zero, each 1 or -1 with equal probability, positions uniform without
    /// repetition. The positions touched depend on the secret: not for use where an observer shares the cache.
    ///
    /// # Panics
    /// If `weight > n` or `n` is not a power of two below 2^32.
    pub fn sparse_ternary(&self, n: usize, weight: usize) -> Zeroizing<Vec<i8>> {
        assert!(
            n.is_power_of_two() && n < 1 << 32 && weight <= n,
            "weight {weight} of {n} coefficients"
        );
        let mut stream = self.stream();
        let mut secret = Zeroizing::new(vec![0i8; n]);
        let mut placed = 0;
        while placed < weight {
            let word = stream.word();
            // n is a power of two, so the low bits are a uniform position; the top bit is the sign.
            let position = word as usize & (n - 1);
            if secret[position] == 0 {
                secret[position] = 1 - 2 * (word >> 63) as i8;
                placed += 1;
            }
        }
        secret
    }

    /// `n` coefficients of the discrete Gaussian of standard deviation [`SIGMA`], in constant time per coefficient.
    pub fn gaussian(&self, n: usize) -> Zeroizing<Vec<i8>> {
        let mut stream = self.stream();
        let table = gaussian::table();
        let mut error = Zeroizing::new(vec![0i8; n]);
        for e in error.iter_mut() {
            let word = stream.word();
            *e = gaussian::sample(table, word, stream.byte());
        }
        error
    }

    fn stream(&self) -> SecretStream {
        let mut hasher = blake3::Hasher::new_derive_key(STREAM_CONTEXT);
        hasher.update(&self.seed);
        let mut key = [0u8; 16];
        hasher.finalize_xof().fill(&mut key);
        hasher.zeroize();
        let stream = SecretStream {
            generator: DefaultRandomGenerator::new(Seed(u128::from_le_bytes(key))),
        };
        key.zeroize();
        stream
    }
}

/// Words of AES-128 in counter mode.
struct SecretStream {
    generator: DefaultRandomGenerator,
}

impl SecretStream {
    fn byte(&mut self) -> u8 {
        // The generator's bound is 2^132 bytes; it cannot run dry.
        self.generator.next().unwrap_or_default()
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::small_context;
    use super::*;

    #[test]
    fn streams_depend_on_label_and_index_only() {
        let root = RandomSource::from_seed([7; 32]);
        let draw = |label: &str, index: &[u64]| root.derive(label, index).gaussian(64).to_vec();
        assert_eq!(draw("error", &[1, 2]), draw("error", &[1, 2]));
        assert_ne!(draw("error", &[1, 2]), draw("error", &[2, 1]));
        assert_ne!(draw("error", &[1]), draw("secret", &[1]));
        assert_eq!(
            RandomSource::from_seed(root.public_seed("a", &[3])).ternary(32),
            root.derive("a", &[3]).ternary(32)
        );
        let (x, y) = (
            RandomSource::from_entropy().unwrap(),
            RandomSource::from_entropy().unwrap(),
        );
        assert_ne!(x.ternary(64), y.ternary(64));
    }

    #[test]
    fn uniform_residues_pass_chi_square_and_commute_with_dropping() {
        let context = small_context(14, 4);
        let source = RandomSource::from_seed([1; 32]);
        let limbs = context.all_limbs();
        let poly = source.uniform(&context, &limbs, Form::Evaluation);
        assert!(
            source.uniform(&context, &limbs[2..], Form::Evaluation) == poly.select(&limbs[2..])
        );
        for (position, &id) in limbs.iter().enumerate() {
            let q = context.prime(id);
            let mut counts = [0f64; 64];
            for &word in poly.limb(position) {
                assert!(word < q);
                counts[(u64::from(word) * 64 / u64::from(q)) as usize] += 1.0;
            }
            let expected = context.degree() as f64 / 64.0;
            let chi: f64 = counts
                .iter()
                .map(|c| (c - expected).powi(2) / expected)
                .sum();
            // 63 degrees of freedom: mean 63, deviation 11.2; the bound is five deviations on either side.
            assert!(
                (7.0..119.0).contains(&chi),
                "q = {q}: chi-square {chi}, expected 63 +- 56"
            );
        }
    }

    #[test]
    fn ternary_and_gaussian_have_the_stated_moments() {
        let source = RandomSource::from_seed([2; 32]);
        let n = 1 << 17;
        let moments = |v: &[i8]| {
            let mean = v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
            (
                mean,
                v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / v.len() as f64,
            )
        };
        let root = (n as f64).sqrt();
        let (mean, square) = moments(&source.ternary(n));
        assert!(mean.abs() < 5.0 * 0.817 / root, "mean {mean}");
        assert!(
            (square - 2.0 / 3.0).abs() < 5.0 * 0.472 / root,
            "second moment {square}"
        );
        let errors = source.gaussian(n);
        let (mean, square) = moments(&errors);
        assert!(mean.abs() < 5.0 * SIGMA / root, "mean {mean}");
        // The variance of the square of a Gaussian is 2 sigma^4.
        assert!(
            (square - SIGMA * SIGMA).abs() < 5.0 * 1.4143 * SIGMA * SIGMA / root,
            "second moment {square}"
        );
        assert!(errors.iter().any(|&e| e.unsigned_abs() >= 12));
    }

    #[test]
    fn sparse_secrets_have_exact_weight() {
        for (weight, seed) in [(0, 0u8), (32, 1), (192, 2), (2048, 3)] {
            let secret = RandomSource::from_seed([seed; 32]).sparse_ternary(2048, weight);
            assert_eq!(secret.iter().filter(|&&s| s != 0).count(), weight);
            let sum: i32 = secret.iter().map(|&s| i32::from(s)).sum();
            assert!(
                f64::from(sum).abs() <= 5.0 * (weight as f64).sqrt(),
                "sum of signs {sum}"
            );
        }
    }
}
