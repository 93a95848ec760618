//! `ParameterSet`: a profile in a ring, with its level table.

mod encoding;
mod family;

use super::chain::Chain;
use super::levelled::LevelledShape;
use super::{
    check_key, KeySecurity, Level, LimbId, ParameterError, Profile, RowKind, Scale, SecretKind,
    SecurityError,
};
use num_bigint::BigUint;

/// One row of the level table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the row is for.
    pub kind: RowKind,
    /// Limbs alive, ascending in [`LimbId`], that is in order of first use from the bottom row.
    pub limbs: Vec<LimbId>,
    /// Base-two logarithm of the row's modulus.
    pub log2_modulus: f64,
    modulus: BigUint,
}

impl Row {
    /// The row's modulus, the product of its limbs.
    pub fn modulus(&self) -> &BigUint {
        &self.modulus
    }
}

/// Everything about one choice of parameters. Built by name only; what a file says is compared with what this version builds.
#[derive(Clone, Debug)]
pub struct ParameterSet {
    profile: Profile,
    log_n: u32,
    levelled: Option<LevelledShape>,
    secret: SecretKind,
    primes: Vec<u32>,
    rows: Vec<Row>,
    scales: Vec<Scale>,
    digits: Vec<Vec<LimbId>>,
    special: Vec<LimbId>,
    encapsulation: Vec<LimbId>,
    scale_top_times_2_40: u128,
}

const EPHEMERAL_HAMMING_WEIGHT: u32 = 32;

impl ParameterSet {
    fn build(
        profile: Profile,
        log_n: u32,
        secret: SecretKind,
        chain: &Chain<'_>,
        levelled: Option<LevelledShape>,
    ) -> Result<ParameterSet, ParameterError> {
        let ids = |xs: &[u16]| xs.iter().map(|&i| LimbId(i)).collect::<Vec<_>>();
        let product = |limbs: &[LimbId]| product(&chain_primes(chain, limbs));
        let rows: Vec<Row> = chain
            .rows
            .iter()
            .map(|(kind, limbs)| {
                let limbs = ids(limbs);
                Row {
                    kind: *kind,
                    log2_modulus: log2_product(&chain_primes(chain, &limbs)),
                    modulus: product(&limbs),
                    limbs,
                }
            })
            .collect();
        let mut next = 0u16;
        let digits = chain
            .digit_sizes
            .iter()
            .map(|&size| {
                let digit = (next..next + size as u16).map(LimbId).collect();
                next += size as u16;
                digit
            })
            .collect();
        let broken = ParameterError::Malformed {
            reason: "the built-in scales leave their bounds",
        };
        let top = BigUint::from(chain.scale_top_times_2_40);
        let mut scale = Scale::from_ratio(&top, &BigUint::from(1u8), -40).ok_or(broken.clone())?;
        let mut scales = vec![scale];
        for l in (1..=usize::from(chain.top_usable)).rev() {
            scale = scale
                .times(scale)
                .and_then(|s| s.times_ratio(&rows[l - 1].modulus, &rows[l].modulus))
                .ok_or(broken.clone())?;
            scales.push(scale);
        }
        scales.reverse();
        Ok(ParameterSet {
            profile,
            log_n,
            levelled,
            secret,
            primes: chain.primes.to_vec(),
            rows,
            scales,
            digits,
            special: ids(chain.special),
            encapsulation: ids(chain.encapsulation),
            scale_top_times_2_40: chain.scale_top_times_2_40,
        })
    }

    /// The shape of a chain without bootstrapping; `None` where the chain has rows for it.
    pub fn levelled_shape(&self) -> Option<LevelledShape> {
        self.levelled
    }
    /// Whether ciphertexts can be bootstrapped.
    pub fn can_bootstrap(&self) -> bool {
        self.levelled.is_none()
    }

    /// The profile this set was built from.
    pub fn profile(&self) -> Profile {
        self.profile
    }
    /// Base-two logarithm of the ring dimension N.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }
    /// N/2 complex values fit one ciphertext.
    pub fn slots(&self) -> usize {
        1 << (self.log_n - 1)
    }
    /// Whether the set is marked insecure: the ring is too small for the modulus, by intention.
    pub fn is_insecure(&self) -> bool {
        self.profile.is_toy()
    }
    /// All primes: the chain in order of first use from the bottom row, then the special primes. [`LimbId`] indexes this list.
    pub fn primes(&self) -> &[u32] {
        &self.primes
    }
    /// The prime of a limb; `None` for an index out of range.
    pub fn prime(&self, limb: LimbId) -> Option<u32> {
        self.primes.get(limb.index()).copied()
    }
    /// The level table, bottom-up.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
    /// One row of it.
    pub fn row(&self, level: Level) -> Result<&Row, ParameterError> {
        let missing = ParameterError::NoSuchLevel {
            profile: self.profile,
            found: level,
            expected: self.rows.len() as u8,
        };
        self.rows.get(usize::from(level.0)).ok_or(missing)
    }
    /// The limbs alive at a level.
    pub fn limbs(&self, level: Level) -> Result<&[LimbId], ParameterError> {
        Ok(&self.row(level)?.limbs)
    }
    /// The highest level a program may use: where bootstrapping leaves a ciphertext.
    pub fn top_usable(&self) -> Level {
        Level((self.scales.len() - 1) as u8)
    }
    /// The level that a bootstrap reads: SlotsToCoeffs, its first step, goes from here to row 0. 0 where there is no bootstrapping.
    pub fn bootstrap_level(&self) -> Level {
        let rows = self.rows.iter();
        Level(rows.filter(|r| r.kind == RowKind::SlotsToCoeffs).count() as u8)
    }
    /// Levels from the highest usable one to where a bootstrap begins; all of them where there is no bootstrapping.
    pub fn levels_between_bootstraps(&self) -> u8 {
        self.top_usable().0 - self.bootstrap_level().0
    }
    /// The highest row, where ModRaise leads.
    pub fn top(&self) -> Level {
        Level((self.rows.len() - 1) as u8)
    }
    /// The key-switching digits: a partition of the chain's limbs, none of P.
    pub fn digits(&self) -> &[Vec<LimbId>] {
        &self.digits
    }
    /// The limbs of P.
    pub fn special(&self) -> &[LimbId] {
        &self.special
    }
    /// The two limbs (of P) that, with row 0, make the modulus of the dense-to-sparse key. No other key is under the ephemeral secret.
    /// Empty where there is no bootstrapping.
    pub fn encapsulation(&self) -> &[LimbId] {
        &self.encapsulation
    }
    /// Distribution of the main secret.
    pub fn secret(&self) -> SecretKind {
        self.secret
    }
    /// Distribution of the ephemeral secret of ModRaise; of weight 0, that is none, where there is no bootstrapping.
    pub fn ephemeral_secret(&self) -> SecretKind {
        SecretKind::SparseTernary {
            hamming_weight: match self.levelled {
                None => EPHEMERAL_HAMMING_WEIGHT,
                Some(_) => 0,
            },
        }
    }
    /// Standard deviation of encryption noise.
    pub fn sigma(&self) -> f64 {
        3.2
    }
    /// The scale level 0 has: 2^40, or 2^27 where levels have 27 bits, up to the rounding of the top scale.
    pub fn default_scale_log2(&self) -> u32 {
        self.levelled.map_or(40, |shape| shape.bits.log2())
    }

    /// The canonical scale of a usable level: D_{l-1} = D_l² · Q_{l-1}/Q_l, from the top down.
    pub fn scale(&self, level: Level) -> Result<Scale, ParameterError> {
        let found = self.scales.get(usize::from(level.0)).copied();
        found.ok_or(ParameterError::LevelRange {
            what: "a canonical scale exists",
            found: level,
            lowest: Level(0),
            highest: self.top_usable(),
        })
    }

    /// The scale to encode a plaintext at, so that ciphertext × plaintext, rescaled from `level`, has the canonical scale of the level below:
    /// D_{l-1} · Q_l / (D_l · Q_{l-1}), which is D_l by construction.
    pub fn plaintext_scale(&self, level: Level) -> Result<Scale, ParameterError> {
        if level.0 == 0 {
            return Err(ParameterError::LevelRange {
                what: "a rescaling to the level below exists",
                found: level,
                lowest: Level(1),
                highest: self.top_usable(),
            });
        }
        self.scale(level)
    }

    /// Bits between a message of size 1 at the canonical scale and half the modulus: |message| < 2^this never wraps.
    pub fn headroom_bits(&self, level: Level) -> Result<f64, ParameterError> {
        Ok(self.row(level)?.log2_modulus - self.scale(level)?.log2() - 1.0)
    }

    /// Product of the primes of these limbs; `None` for an index out of range.
    pub fn product(&self, limbs: &[LimbId]) -> Option<BigUint> {
        limbs
            .iter()
            .map(|&l| self.prime(l))
            .collect::<Option<Vec<_>>>()
            .map(|primes| product(&primes))
    }

    /// Base-two logarithm of the product of these limbs; `None` for an index out of range.
    pub fn log2_product(&self, limbs: &[LimbId]) -> Option<f64> {
        limbs
            .iter()
            .map(|&l| self.prime(l))
            .collect::<Option<Vec<_>>>()
            .map(|primes| log2_product(&primes))
    }

    /// Base-two logarithm of the largest modulus any key of the main secret is published under.
    pub fn log2_qp(&self) -> f64 {
        log2_product(&self.primes)
    }

    /// Base-two logarithm of the modulus of the ephemeral secret's key: row 0 and the encapsulation limbs.
    pub fn log2_encapsulation(&self) -> f64 {
        let base = self.rows.first().map_or(0.0, |row| row.log2_modulus);
        base + self
            .log2_product(&self.encapsulation)
            .unwrap_or(f64::INFINITY)
    }

    /// Checks a key against the security table in this set's ring. A set marked insecure passes, and says so.
    pub fn check_key(
        &self,
        log2_modulus: f64,
        secret: SecretKind,
    ) -> Result<KeySecurity, SecurityError> {
        if self.is_insecure() {
            return Ok(KeySecurity::MarkedInsecure);
        }
        check_key(self.log_n, log2_modulus, secret).map(KeySecurity::Secure)
    }
}

fn chain_primes(chain: &Chain, limbs: &[LimbId]) -> Vec<u32> {
    limbs
        .iter()
        .filter_map(|l| chain.primes.get(l.index()).copied())
        .collect()
}

pub(super) fn product(primes: &[u32]) -> BigUint {
    primes.iter().fold(BigUint::from(1u8), |acc, &p| acc * p)
}

fn log2_product(primes: &[u32]) -> f64 {
    primes.iter().map(|&p| f64::from(p).log2()).sum()
}
