//! A ring with its whole chain of primes and every table the operations need.

use super::automorphism::BlockPermutation;
use super::error::RingError;
use super::extension::Extension;
use super::ntt::NttTable;
use super::rescale::Rescale;
use super::simd::{InstructionSet, Reducer};
use crate::arith::{primes, Modulus};
use num_bigint::BigUint;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Smallest supported log2 N.
pub const MIN_LOG_DEGREE: u32 = 8;
/// Largest supported log2 N.
pub const MAX_LOG_DEGREE: u32 = 17;

/// A limb: an index into the chain of a [`RingContext`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimbId(pub u16);

impl LimbId {
    /// The index as a `usize`.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Transforms of smaller rings, by degree and limb.
pub(crate) type SmallTables = Cache<(u32, LimbId), NttTable>;
type Cache<K, V> = Mutex<BTreeMap<K, Arc<V>>>;

/// `Z_Q[X]/(X^N + 1)` for every product Q of primes of one chain (ciphertext, special and encapsulation primes alike).
/// Built once and shared; tables for pairs of limb sets are made on first use and kept.
pub struct RingContext {
    log_n: u32,
    set: InstructionSet,
    reducers: Vec<Reducer>,
    moduli: Vec<Modulus>,
    ntt: Vec<NttTable>,
    extensions: Cache<(Vec<LimbId>, Vec<LimbId>, bool), Extension>,
    rescales: Cache<(Vec<LimbId>, Vec<LimbId>), Rescale>,
    permutations: Cache<u32, BlockPermutation>,
    small_ntt: SmallTables,
}

impl std::fmt::Debug for RingContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "RingContext(N = 2^{}, {} limbs)",
            self.log_n,
            self.moduli.len()
        )
    }
}

impl RingContext {
    /// The ring of degree `2^log_n` with the given chain; [`LimbId`] `i` names `primes[i]`.
    ///
    /// # Errors
    /// If the degree is out of range, or an entry is not a prime below 2^28 with `q = 1 mod 2N`, or occurs twice.
    pub fn new(log_n: u32, primes: &[u32]) -> Result<Arc<Self>, RingError> {
        Self::with_instruction_set(log_n, primes, InstructionSet::detect())
    }

    /// As [`RingContext::new`], on a given instruction set, or on the portable code where the machine lacks it. Results do not depend on it.
    ///
    /// # Errors
    /// As [`RingContext::new`].
    pub fn with_instruction_set(
        log_n: u32,
        primes: &[u32],
        set: InstructionSet,
    ) -> Result<Arc<Self>, RingError> {
        let set = if set.is_available() {
            set
        } else {
            InstructionSet::Portable
        };
        if !(MIN_LOG_DEGREE..=MAX_LOG_DEGREE).contains(&log_n) {
            return Err(RingError::Degree {
                log_n,
                min: MIN_LOG_DEGREE,
                max: MAX_LOG_DEGREE,
            });
        }
        let order = 2u32 << log_n;
        let mut seen = BTreeSet::new();
        let mut moduli = Vec::with_capacity(primes.len());
        for (index, &q) in primes.iter().enumerate() {
            let modulus = Modulus::new(q).filter(|_| primes::is_prime(q) && (q - 1) % order == 0);
            moduli.push(modulus.ok_or(RingError::Prime { index, q, order })?);
            if !seen.insert(q) {
                return Err(RingError::Duplicate { index, q });
            }
        }
        if moduli.len() > usize::from(u16::MAX) {
            return Err(RingError::UnknownLimb {
                limb: LimbId(u16::MAX),
                count: moduli.len(),
            });
        }
        let ntt = moduli
            .par_iter()
            .enumerate()
            .map(|(index, modulus)| {
                NttTable::new(log_n, modulus, set).ok_or(RingError::Prime {
                    index,
                    q: modulus.value(),
                    order,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            log_n,
            set,
            reducers: moduli.iter().map(Reducer::new).collect(),
            moduli,
            ntt,
            extensions: Mutex::default(),
            rescales: Mutex::default(),
            permutations: Mutex::default(),
            small_ntt: Mutex::default(),
        }))
    }

    /// The instruction set of the kernels.
    pub fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    /// log2 N.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// N.
    pub fn degree(&self) -> usize {
        1 << self.log_n
    }

    /// Number of primes in the chain.
    pub fn limb_count(&self) -> usize {
        self.moduli.len()
    }

    /// All limbs of the chain, in order.
    pub fn all_limbs(&self) -> Vec<LimbId> {
        (0..self.moduli.len()).map(|i| LimbId(i as u16)).collect()
    }

    /// The limb whose prime is `q`.
    pub fn limb_of_prime(&self, q: u32) -> Option<LimbId> {
        self.moduli
            .iter()
            .position(|m| m.value() == q)
            .map(|i| LimbId(i as u16))
    }

    /// The modulus of a limb.
    ///
    /// # Panics
    /// If the limb is not of this chain; check names that come from a file with [`RingContext::check_limbs`].
    #[inline]
    pub fn modulus(&self, limb: LimbId) -> &Modulus {
        &self.moduli[limb.index()]
    }

    /// The prime of a limb.
    ///
    /// # Panics
    /// If the limb is not of this chain.
    pub fn prime(&self, limb: LimbId) -> u32 {
        self.modulus(limb).value()
    }

    /// Whether all limbs exist.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn check_limbs(&self, limbs: &[LimbId]) -> Result<(), RingError> {
        match limbs.iter().find(|l| l.index() >= self.moduli.len()) {
            Some(&limb) => Err(RingError::UnknownLimb {
                limb,
                count: self.moduli.len(),
            }),
            None => Ok(()),
        }
    }

    /// Product of the primes of `limbs`.
    pub fn product(&self, limbs: &[LimbId]) -> BigUint {
        limbs
            .iter()
            .map(|&l| BigUint::from(self.prime(l)))
            .product()
    }

    pub(crate) fn reducer(&self, limb: LimbId) -> &Reducer {
        &self.reducers[limb.index()]
    }

    pub(crate) fn ntt_table(&self, limb: LimbId) -> &NttTable {
        &self.ntt[limb.index()]
    }

    pub(crate) fn extension_cache(&self) -> &Cache<(Vec<LimbId>, Vec<LimbId>, bool), Extension> {
        &self.extensions
    }

    pub(crate) fn rescale_cache(&self) -> &Cache<(Vec<LimbId>, Vec<LimbId>), Rescale> {
        &self.rescales
    }

    pub(crate) fn small_ntt_cache(&self) -> &SmallTables {
        &self.small_ntt
    }

    pub(crate) fn permutation_cache(&self) -> &Cache<u32, BlockPermutation> {
        &self.permutations
    }
}

/// Looks `key` up, or builds it outside the lock: two threads may build the same table, which is harmless as both are equal.
pub(crate) fn cached<K: Ord + Clone, V>(
    cache: &Cache<K, V>,
    key: &K,
    build: impl FnOnce() -> V,
) -> Arc<V> {
    if let Ok(map) = cache.lock() {
        if let Some(found) = map.get(key) {
            return Arc::clone(found);
        }
    }
    let built = Arc::new(build());
    match cache.lock() {
        Ok(mut map) => Arc::clone(map.entry(key.clone()).or_insert(built)),
        Err(_) => built,
    }
}
