//! Which sets a profile has, found by name, by shape or by id.

use super::ParameterSet;
use crate::params::chain::Chain;
use crate::params::levelled::{self, LevelledShape};
use crate::params::{tables, ParameterError, Profile, SecretKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Families by the name of their profile and their ring.
type Families = BTreeMap<(&'static str, u32), Arc<Vec<ParameterSet>>>;

const FULL_LOG_N: u32 = 16;
const TOY_LOG_N: u32 = 12;
const HAMMING_WEIGHT: u32 = 192;
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
    pub(super) fn known(profile: Profile, log_n: u32) -> Arc<Vec<ParameterSet>> {
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
}
