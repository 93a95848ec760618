//! Key generation: the client's key and the evaluation keys a schedule asks for, each at the limbs it is used at and no other.

use super::secret::{SecretKey, SecretPoly};
use crate::ring::{LimbId, RandomSource, RingContext, Words};
use crate::rlwe::{KeyKind, KeyRequest, KeySet, KeySwitchingKey, KeyWords, RlweContext, RlweError};
use heron_schedule::params::{KeySecurity, Level, SecretKind};
use rayon::prelude::*;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;

/// What a client holds: the secrets, and the public identifier by which keys and ciphertexts are matched.
pub struct ClientKey {
    pub(super) context: Arc<RlweContext>,
    pub(super) secret: SecretKey,
    pub(super) key_id: [u8; 32],
    /// Encryptions so far, so that one source of randomness never serves two of them alike.
    pub(super) encryptions: AtomicU64,
}

/// Context string of key identifiers (BLAKE3 `derive_key`).
const KEY_ID_CONTEXT: &str = "heron 2026-11 key id v1";

impl ClientKey {
    /// Draws a key. `random` is used for nothing else.
    pub fn generate(context: Arc<RlweContext>, random: &RandomSource) -> Self {
        let secret = SecretKey::generate(&context, random);
        let nonce = random.public_seed("key id", &[]);
        let mut hashed = context.params().id().to_vec();
        hashed.extend_from_slice(&nonce);
        Self {
            key_id: blake3::derive_key(KEY_ID_CONTEXT, &hashed),
            context,
            secret,
            encryptions: AtomicU64::new(0),
        }
    }

    /// Identifier of this key; says nothing about the secret.
    pub fn key_id(&self) -> &[u8; 32] {
        &self.key_id
    }

    /// The parameters and ring it is for.
    pub fn context(&self) -> &Arc<RlweContext> {
        &self.context
    }

    /// Generates the evaluation keys asked for. Each is checked against the security table with its own modulus and secret.
    ///
    /// # Errors
    /// A key below 128 bits, a row that does not exist, or an encapsulation key at a row where it may not exist.
    pub fn evaluation_keys(
        &self,
        request: &KeyRequest,
        random: &RandomSource,
    ) -> Result<KeySet, RlweError> {
        let mut keys = KeySet::new();
        self.each_evaluation_key(request, random, |key| {
            keys.insert(key);
            Ok::<_, RlweError>(())
        })?;
        Ok(keys)
    }

    /// As [`ClientKey::evaluation_keys`], handing over one key at a time: they need not be in memory together.
    ///
    /// # Errors
    /// As there, and what `take` fails with.
    pub fn each_evaluation_key<E: From<RlweError>>(
        &self,
        request: &KeyRequest,
        random: &RandomSource,
        mut take: impl FnMut(KeySwitchingKey) -> Result<(), E>,
    ) -> Result<(), E> {
        let ring = self.context.ring();
        let chain = self.context.row(self.context.params().top())?.limbs.clone();
        let all: Vec<LimbId> = chain
            .iter()
            .chain(self.context.special())
            .copied()
            .collect();
        let main = self.secret.main_on(ring, &all);
        for (kind, rows) in request.iter() {
            let rows: Vec<Level> = rows.collect();
            let plan = KeyPlan::new(&self.context, kind, &rows)?;
            let key = match kind {
                KeyKind::Relinearisation => {
                    let square = main.square(ring);
                    plan.generate(&self.context, &square, &main, random)?
                }
                KeyKind::Galois(g) => {
                    let target = main.automorphism(ring, g.inverse(ring.log_n()));
                    plan.generate(&self.context, &main, &target, random)?
                }
                KeyKind::DenseToSparse => {
                    let limbs = &self.context.encapsulation().extended;
                    let target = self.secret.ephemeral_on(ring, limbs);
                    plan.generate(&self.context, &main, &target, random)?
                }
                KeyKind::SparseToDense => {
                    let source = self.secret.ephemeral_on(ring, &chain);
                    plan.generate(&self.context, &source, &main, random)?
                }
            };
            take(key)?;
        }
        Ok(())
    }
}

/// Keys of the shapes that a request leads to, all zero: they encrypt nothing, for rehearsals. Memory that nobody reads takes no pages.
///
/// # Errors
/// As [`ClientKey::evaluation_keys`].
pub fn imagined_keys(context: &RlweContext, request: &KeyRequest) -> Result<KeySet, RlweError> {
    let mut keys = KeySet::new();
    for (kind, rows) in request.iter() {
        let plan = KeyPlan::new(context, kind, &rows.collect::<Vec<Level>>())?;
        keys.insert(plan.with_words(context, plan.zeros(context))?);
    }
    Ok(keys)
}

/// The shape of one key: its limbs and digits, already checked.
struct KeyPlan {
    kind: KeyKind,
    limbs: Vec<LimbId>,
    special: Vec<LimbId>,
    digits: Vec<Vec<LimbId>>,
}

impl KeyPlan {
    fn new(context: &RlweContext, kind: KeyKind, rows: &[Level]) -> Result<Self, RlweError> {
        let params = context.params();
        let top = params.top();
        let not_allowed = |allowed, found| RlweError::KeyNotAllowed {
            kind,
            allowed,
            found,
        };
        if matches!(kind, KeyKind::DenseToSparse | KeyKind::SparseToDense)
            && !params.can_bootstrap()
        {
            let found = rows.first().copied().unwrap_or(Level(0));
            return Err(not_allowed("parameters with bootstrapping", found));
        }
        let (limbs, special, digits, secret) = match kind {
            KeyKind::DenseToSparse => {
                if let Some(&found) = rows.iter().find(|r| **r != Level(0)) {
                    return Err(not_allowed("row @0, with the encapsulation limbs,", found));
                }
                let row = context.encapsulation();
                let special: Vec<LimbId> = row.extended[row.limbs.len()..].to_vec();
                let digits = vec![row.limbs.clone()];
                (
                    row.limbs.clone(),
                    special,
                    digits,
                    params.ephemeral_secret(),
                )
            }
            _ => {
                if kind == KeyKind::SparseToDense {
                    if let Some(&found) = rows.iter().find(|r| **r != top) {
                        return Err(not_allowed("the top row", found));
                    }
                }
                let mut limbs: Vec<LimbId> = Vec::new();
                for &row in rows {
                    limbs.extend(&context.row(row)?.limbs);
                }
                limbs.sort_unstable();
                limbs.dedup();
                let digits = params
                    .digits()
                    .iter()
                    .map(|d| {
                        crate::rlwe::context::ring_limbs(d)
                            .into_iter()
                            .filter(|l| limbs.contains(l))
                            .collect::<Vec<_>>()
                    })
                    .filter(|d| !d.is_empty())
                    .collect();
                (limbs, context.special().to_vec(), digits, params.secret())
            }
        };
        check(context, &limbs, &special, secret)?;
        Ok(Self {
            kind,
            limbs,
            special,
            digits,
        })
    }

    /// b_j = -a_j · to + e_j + P · g_j · from, and a_j.
    fn generate(
        &self,
        context: &RlweContext,
        from: &SecretPoly,
        to: &SecretPoly,
        random: &RandomSource,
    ) -> Result<KeySwitchingKey, RlweError> {
        let ring = context.ring();
        let n = ring.degree();
        let order: Vec<LimbId> = self.limbs.iter().chain(&self.special).copied().collect();
        let mut words = self.zeros(context);
        let name = match self.kind {
            KeyKind::Relinearisation => [0, 1],
            KeyKind::Galois(g) => [1, u64::from(g.value())],
            KeyKind::DenseToSparse => [2, 1],
            KeyKind::SparseToDense => [3, 1],
        };
        for (j, digit) in words.chunks_mut(2 * order.len() * n).enumerate() {
            let index = [name[0], name[1], j as u64];
            let public = random.derive("evaluation key, public part", &index);
            let error = random.derive("evaluation key, error", &index).gaussian(n);
            let (b, a) = digit.split_at_mut(order.len() * n);
            b.par_chunks_mut(n)
                .zip(a.par_chunks_mut(n))
                .zip(&order)
                .for_each(|((b, a), &id)| {
                    let q = *ring.modulus(id);
                    public.uniform_limb(q.value(), a);
                    for (b, &e) in b.iter_mut().zip(error.iter()) {
                        *b = q.reduce_i64(i64::from(e));
                    }
                    ring.limb_to_evaluation(id, b);
                    let to = to.0.limb_of(id).unwrap_or(&[]);
                    for ((b, &a), &to) in b.iter_mut().zip(a.iter()).zip(to) {
                        *b = q.sub(*b, q.mul(a, to));
                    }
                    if self.digits[j].contains(&id) {
                        let p = self
                            .special
                            .iter()
                            .fold(1, |p, &l| q.mul(p, ring.prime(l) % q.value()));
                        let p = q.shoup(p);
                        let from = from.0.limb_of(id).unwrap_or(&[]);
                        for (b, &from) in b.iter_mut().zip(from) {
                            *b = q.add(*b, q.mul_shoup(from, p));
                        }
                    }
                });
        }
        self.with_words(context, words)
    }

    fn zeros(&self, context: &RlweContext) -> Words {
        let limbs = self.limbs.len() + self.special.len();
        let degree = context.ring().degree();
        Words::zeroed(KeySwitchingKey::word_count(
            degree,
            limbs,
            self.digits.len(),
        ))
    }

    fn with_words(
        &self,
        context: &RlweContext,
        words: Words,
    ) -> Result<KeySwitchingKey, RlweError> {
        KeySwitchingKey::from_parts(
            self.kind,
            context.ring().degree(),
            self.limbs.clone(),
            self.special.clone(),
            self.digits.clone(),
            KeyWords::Owned(words),
        )
    }
}

/// Refuses a key whose modulus is too large for its secret.
pub(super) fn check(
    context: &RlweContext,
    limbs: &[LimbId],
    special: &[LimbId],
    secret: SecretKind,
) -> Result<KeySecurity, RlweError> {
    let ring: &RingContext = context.ring();
    let log2_modulus = limbs
        .iter()
        .chain(special)
        .map(|&l| f64::from(ring.prime(l)).log2())
        .sum();
    Ok(context.params().check_key(log2_modulus, secret)?)
}
