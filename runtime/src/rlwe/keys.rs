//! Key-switching keys and the set of them a server holds. Their generation needs a secret and lives in `client`.

use super::RlweError;
use crate::ring::{GaloisElement, LimbId, Words};
use heron_schedule::params::Level;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// What a key switches from and to. `s` is the main secret, `t` the ephemeral one.
///
/// The key of an automorphism σ takes a ciphertext of `s` to one of `σ⁻¹(s)`; applying σ to the result leads back to `s`. So one
/// decomposition of the unpermuted ciphertext serves all rotations, and the permutation touches only two polynomials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// `s²` to `s`.
    Relinearisation,
    /// `s` to `σ⁻¹(s)`, for rotations and conjugation.
    Galois(GaloisElement),
    /// `s` to `t`, modulo row 0 and the encapsulation limbs only.
    DenseToSparse,
    /// `t` to `s`, at the top row.
    SparseToDense,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyKind::Relinearisation => write!(f, "relinearisation"),
            KeyKind::Galois(g) => write!(f, "automorphism X^{}", g.value()),
            KeyKind::DenseToSparse => write!(f, "dense-to-sparse"),
            KeyKind::SparseToDense => write!(f, "sparse-to-dense"),
        }
    }
}

/// Where a key's residues live.
pub enum KeyWords {
    /// In memory.
    Owned(Words),
    /// In a mapped `server.keys`, from this byte (a multiple of 4) on.
    Mapped {
        /// The file.
        map: Arc<memmap2::Mmap>,
        /// First byte.
        offset: usize,
        /// Number of words.
        words: usize,
    },
}

impl KeyWords {
    /// The residues.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            KeyWords::Owned(words) => words,
            // The reader checked offset and length against the file, and the alignment.
            KeyWords::Mapped { map, offset, words } => map
                .get(*offset..*offset + 4 * *words)
                .map(bytemuck::cast_slice)
                .unwrap_or(&[]),
        }
    }
}

/// A hybrid key-switching key (eprint 2019/688): for each digit j, `b_j = -a_j·to + e_j + P·g_j·from` and `a_j`, in evaluation form, with
/// `g_j` = 1 modulo the digit's limbs and 0 modulo the other chain limbs. It holds the union of the limbs of the rows it is used at, and
/// the special limbs: restricted to fewer chain limbs it is the key of a lower row.
pub struct KeySwitchingKey {
    kind: KeyKind,
    degree: usize,
    limbs: Vec<LimbId>,
    special: Vec<LimbId>,
    digits: Vec<Vec<LimbId>>,
    words: KeyWords,
    serial: u64,
}

/// Keys made by this process so far.
static SERIAL: AtomicU64 = AtomicU64::new(0);

impl KeySwitchingKey {
    /// A key over `words`, laid out `[digit][b, a][limb][N]` with the special limbs after the chain limbs.
    ///
    /// # Errors
    /// If the number of words is not digits · 2 · limbs · N.
    pub fn from_parts(
        kind: KeyKind,
        degree: usize,
        limbs: Vec<LimbId>,
        special: Vec<LimbId>,
        digits: Vec<Vec<LimbId>>,
        words: KeyWords,
    ) -> Result<Self, RlweError> {
        let expected = Self::word_count(degree, limbs.len() + special.len(), digits.len());
        let found = words.as_slice().len();
        if expected != found {
            return Err(RlweError::KeySize {
                kind,
                expected,
                found,
            });
        }
        Ok(Self {
            kind,
            degree,
            limbs,
            special,
            digits,
            words,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Words of a key of this shape.
    pub fn word_count(degree: usize, limbs: usize, digits: usize) -> usize {
        digits * 2 * limbs * degree
    }

    /// A number that no other key of this process has: what a device that keeps copies of keys knows them by.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// What it switches.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Chain limbs it holds, ascending.
    pub fn limbs(&self) -> &[LimbId] {
        &self.limbs
    }

    /// Its special limbs.
    pub fn special(&self) -> &[LimbId] {
        &self.special
    }

    /// For each digit, those of its limbs that the key holds.
    pub fn digits(&self) -> &[Vec<LimbId>] {
        &self.digits
    }

    /// All residues, `[digit][b, a][limb][N]`.
    pub fn words(&self) -> &[u32] {
        self.words.as_slice()
    }

    /// Size of the residues.
    pub fn bytes(&self) -> u64 {
        4 * self.words().len() as u64
    }

    /// Position in storage of a limb, special limbs after the chain's.
    pub fn position_of(&self, limb: LimbId) -> Option<usize> {
        self.limbs
            .iter()
            .chain(&self.special)
            .position(|&l| l == limb)
    }

    /// Number of the stored digit that contains a chain limb.
    pub fn digit_of(&self, limb: LimbId) -> Option<usize> {
        self.digits.iter().position(|d| d.contains(&limb))
    }

    /// Residues of `b` (half 0) or `a` (half 1) of a digit at a limb position. Empty when out of range.
    pub fn limb(&self, digit: usize, half: usize, position: usize) -> &[u32] {
        let limbs = self.limbs.len() + self.special.len();
        let start = ((digit * 2 + half) * limbs + position) * self.degree;
        self.words().get(start..start + self.degree).unwrap_or(&[])
    }
}

// Only the shape: a log has no use for megabytes of residues.
impl std::fmt::Debug for KeySwitchingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KeySwitchingKey({}, {} limbs, {} digits)",
            self.kind,
            self.limbs.len(),
            self.digits.len()
        )
    }
}

/// The evaluation keys of one client, by what they switch.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: BTreeMap<KeyKind, Arc<KeySwitchingKey>>,
}

impl KeySet {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a key.
    pub fn insert(&mut self, key: KeySwitchingKey) {
        self.keys.insert(key.kind(), Arc::new(key));
    }

    /// The key of a kind.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, kind: KeyKind) -> Result<&KeySwitchingKey, RlweError> {
        self.keys
            .get(&kind)
            .map(Arc::as_ref)
            .ok_or(RlweError::NoKey { kind })
    }

    /// All keys, in the order of their kinds.
    pub fn iter(&self) -> impl Iterator<Item = &KeySwitchingKey> {
        self.keys.values().map(Arc::as_ref)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Size of all residues.
    pub fn bytes(&self) -> u64 {
        self.iter().map(KeySwitchingKey::bytes).sum()
    }
}

/// Which keys to generate, each with the rows it is used at: a key exists at no limb it is not used at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRequest {
    rows: BTreeMap<KeyKind, std::collections::BTreeSet<Level>>,
}

impl KeyRequest {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a key of `kind` at `row` too.
    pub fn add(&mut self, kind: KeyKind, row: Level) {
        self.rows.entry(kind).or_default().insert(row);
    }

    /// Asks for everything `other` asks for.
    pub fn merge(&mut self, other: &KeyRequest) {
        for (kind, rows) in &other.rows {
            self.rows.entry(*kind).or_default().extend(rows);
        }
    }

    /// Kinds and their rows, in the order of the kinds.
    pub fn iter(&self) -> impl Iterator<Item = (KeyKind, impl Iterator<Item = Level> + '_)> + '_ {
        self.rows
            .iter()
            .map(|(kind, rows)| (*kind, rows.iter().copied()))
    }

    /// Number of keys asked for.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
