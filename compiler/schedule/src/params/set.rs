//! `ParameterSet`: a profile in a ring, with its level table.

use super::chain::Chain;
use super::levelled::{self, LevelledShape};
use super::{
    check_key, tables, KeySecurity, Level, LimbId, ParameterError, Profile, RowKind, Scale,
    SecretKind, SecurityError,
};
use num_bigint::BigUint;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

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

/// Families by the name of their profile and their ring.
type Families = BTreeMap<(&'static str, u32), Arc<Vec<ParameterSet>>>;

const FULL_LOG_N: u32 = 16;
const TOY_LOG_N: u32 = 12;
const HAMMING_WEIGHT: u32 = 192;
const EPHEMERAL_HAMMING_WEIGHT: u32 = 32;
/// The ring whose limit the chains of `toy-levelled` are derived for.
const TOY_LEVELLED_AS: u32 = 15;
/// The chain `toy-levelled` stands for where none is named.
const TOY_LEVELLED: LevelledShape = LevelledShape {
    bits: levelled::LevelBits::Forty,
    digit_limbs: 6,
};

impl ParameterSet {
    /// The profile in its own ring: N = 2^16, or 2^12 for the toys.
    pub fn new(profile: Profile) -> Result<ParameterSet, ParameterError> {
        let log_n = if profile.is_toy() {
            TOY_LOG_N
        } else {
            FULL_LOG_N
        };
        Self::with_ring(profile, log_n)
    }

    /// The profile in a ring of dimension 2^log_n: 16 for the secure profiles, 8 to 16 for the toys (which stay marked insecure).
    /// Fails also when any key the set implies is below 128 bits and the set is not marked insecure.
    pub fn with_ring(profile: Profile, log_n: u32) -> Result<ParameterSet, ParameterError> {
        let expected = match (profile.is_toy(), log_n) {
            (true, 8..=16) | (false, FULL_LOG_N) => "",
            (true, _) => "8 to 2^16",
            (false, _) => "16",
        };
        if !expected.is_empty() {
            return Err(ParameterError::RingSize {
                profile,
                expected,
                found: log_n,
            });
        }
        let sparse = SecretKind::SparseTernary {
            hamming_weight: HAMMING_WEIGHT,
        };
        let (chain, secret) = match profile {
            Profile::ToyLevelled => return Self::levelled(profile, log_n, TOY_LEVELLED),
            Profile::Secure | Profile::ToySecure => (&tables::SECURE, sparse),
            Profile::Paper | Profile::Toy => (&tables::PAPER, sparse),
            Profile::Standard | Profile::ToyStandard => {
                (&tables::SECURE, SecretKind::UniformTernary)
            }
        };
        Self::checked(profile, log_n, secret, chain)
    }

    /// The sets with bootstrapping that the profile may choose from, its own first: `secure` and `toy-secure` also have chains with fewer
    /// levels between bootstraps and fewer key-switching digits, and with more of both.
    pub fn bootstrapping(profile: Profile, log_n: u32) -> impl Iterator<Item = ParameterSet> {
        let named = Self::with_ring(profile, log_n).ok();
        let named = named.filter(ParameterSet::can_bootstrap);
        let others = match (profile, named.is_some()) {
            (Profile::Secure | Profile::ToySecure, true) => vec![&tables::PAPER, &tables::DEEP],
            _ => Vec::new(),
        };
        let secret = SecretKind::SparseTernary {
            hamming_weight: HAMMING_WEIGHT,
        };
        let others = others.into_iter();
        let others =
            others.filter_map(move |chain| Self::checked(profile, log_n, secret, chain).ok());
        named.into_iter().chain(others)
    }

    fn checked(
        profile: Profile,
        log_n: u32,
        secret: SecretKind,
        chain: &Chain<'_>,
    ) -> Result<ParameterSet, ParameterError> {
        let set = Self::build(profile, log_n, secret, chain, None)?;
        set.check_key(set.log2_qp(), set.secret)?;
        set.check_key(set.log2_encapsulation(), set.ephemeral_secret())?;
        Ok(set)
    }

    /// A chain without bootstrapping: profile `secure` in rings of 2^13 to 2^17, `toy-levelled` (marked insecure) in rings of 2^8 to 2^16.
    /// Fails where the shape does not exist, or is below 128 bits and not marked insecure.
    pub fn levelled(
        profile: Profile,
        log_n: u32,
        shape: LevelledShape,
    ) -> Result<ParameterSet, ParameterError> {
        let (expected, as_in) = match profile {
            Profile::Secure => ("13 to 2^17", log_n),
            Profile::ToyLevelled if (8..=16).contains(&log_n) => ("", TOY_LEVELLED_AS),
            _ => ("8 to 2^16", 0),
        };
        if !levelled::RINGS.contains(&as_in) {
            return Err(ParameterError::RingSize {
                profile,
                expected,
                found: log_n,
            });
        }
        let secret = SecretKind::UniformTernary;
        let set = levelled::chain(as_in, shape)?
            .with(|chain| Self::build(profile, log_n, secret, chain, Some(shape)))?;
        set.check_key(set.log2_qp(), set.secret)?;
        Ok(set)
    }

    /// Every set a file of this profile and ring may name: the profile's own chain, others with bootstrapping, then those without.
    pub fn family(profile: Profile, log_n: u32) -> impl Iterator<Item = ParameterSet> {
        // `toy-levelled` has no bootstrapping: its own is one of those without.
        let own = Self::with_ring(profile, log_n).ok();
        let own = own.filter(|set| !set.can_bootstrap());
        let named = Self::bootstrapping(profile, log_n).chain(own);
        let levelled = LevelledShape::all()
            .filter(move |shape| profile != Profile::ToyLevelled || *shape != TOY_LEVELLED)
            .filter_map(move |shape| Self::levelled(profile, log_n, shape).ok());
        named.chain(levelled)
    }

    /// The family, made once: it takes some milliseconds, and files ask for it.
    fn known(profile: Profile, log_n: u32) -> Arc<Vec<ParameterSet>> {
        static KNOWN: Mutex<Families> = Mutex::new(BTreeMap::new());
        let make = || Arc::new(Self::family(profile, log_n).collect());
        match KNOWN.lock() {
            Ok(mut known) => {
                let entry = known.entry((profile.name(), log_n));
                Arc::clone(entry.or_insert_with(make))
            }
            Err(_) => make(),
        }
    }

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

    /// The set a file names, provided its id is the one this version computes.
    pub fn from_id(profile: &str, log_n: u32, id: &[u8]) -> Result<ParameterSet, ParameterError> {
        let profile: Profile = profile.parse()?;
        let known = Self::known(profile, log_n);
        if let Some(set) = known.iter().find(|set| set.id() == id) {
            return Ok(set.clone());
        }
        let hex = |b: &[u8]| b.iter().take(4).map(|x| format!("{x:02x}")).collect();
        let expected = match known.first() {
            Some(set) => hex(&set.id()),
            // Says which rings the profile has.
            None => return Self::with_ring(profile, log_n),
        };
        Err(ParameterError::IdMismatch {
            profile,
            found: hex(id),
            expected,
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

    /// The canonical encoding: every field that two parties must agree on, little-endian, lists preceded by their length as u16.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        let name = self.profile.name().as_bytes();
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.push(self.log_n as u8);
        out.push(u8::from(self.is_insecure()));
        for secret in [self.secret, self.ephemeral_secret()] {
            let weight = match secret {
                SecretKind::UniformTernary => u32::MAX,
                SecretKind::SparseTernary { hamming_weight } => hamming_weight,
            };
            out.extend_from_slice(&weight.to_le_bytes());
        }
        out.extend_from_slice(&self.sigma().to_le_bytes());
        out.extend_from_slice(&(self.primes.len() as u16).to_le_bytes());
        for p in &self.primes {
            out.extend_from_slice(&p.to_le_bytes());
        }
        let mut list = |limbs: &[LimbId]| {
            out.extend_from_slice(&(limbs.len() as u16).to_le_bytes());
            for l in limbs {
                out.extend_from_slice(&l.0.to_le_bytes());
            }
        };
        self.digits.iter().for_each(|d| list(d));
        list(&[]);
        list(&self.special);
        list(&self.encapsulation);
        self.rows.iter().for_each(|row| list(&row.limbs));
        list(&[]);
        out.extend(self.rows.iter().map(|row| row.kind as u8));
        out.push(self.top_usable().0);
        out.extend_from_slice(&self.scale_top_times_2_40.to_le_bytes());
        out
    }

    /// The inverse of [`ParameterSet::to_bytes`]: rebuilds the set by its name and insists on equal bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<ParameterSet, ParameterError> {
        let malformed = |reason| ParameterError::Malformed { reason };
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(malformed("expected the magic of a parameter set"))?;
        let (&length, rest) = rest
            .split_first()
            .ok_or(malformed("ends before the profile"))?;
        let name = rest
            .get(..usize::from(length))
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(malformed("expected the profile's name"))?;
        let log_n = *rest
            .get(usize::from(length))
            .ok_or(malformed("ends before the ring dimension"))?;
        let profile: Profile = name.parse()?;
        let log_n = u32::from(log_n);
        let known = Self::known(profile, log_n);
        if known.is_empty() {
            // Says which rings the profile has.
            return Self::with_ring(profile, log_n);
        }
        known
            .iter()
            .find(|set| set.to_bytes() == bytes)
            .cloned()
            .ok_or(malformed(
                "differs from the sets of the profile of that name",
            ))
    }

    /// BLAKE3 of the canonical encoding, under its own context.
    pub fn id(&self) -> [u8; 32] {
        blake3::derive_key("heron 2026-11 parameter set v1", &self.to_bytes())
    }
}

const MAGIC: &[u8] = b"heron parameters 1\0";

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
