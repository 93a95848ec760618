//! The security table: how large a modulus each (ring, secret) pair bears at 128 classical bits, sigma 3.2.
//!
//! Uniform ternary: "Security Guidelines for Implementing Homomorphic Encryption", eprint 2024/463 (for 2^14 the lower of two
//! published values, for 2^17 three bits less than published, as the estimate at 3523 is 127.9). Sparse secrets have no standard table: the h = 192 bounds are this project's estimate (primal hybrid attack,
//! MATZOV cost: 128 bits at log QP = 1639 for N = 2^16, 810 for 2^15) less a margin of about 3 bits of security; h = 32 is the ephemeral
//! secret of sparse-secret encapsulation (eprint 2022/024), whose key lives modulo q0 and two primes only (estimate: 172 bits).

use thiserror::Error;

/// How the coefficients of a secret are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretKind {
    /// Each coefficient uniform in {-1, 0, 1}.
    UniformTernary,
    /// Exactly this many coefficients are ±1, the rest 0.
    SparseTernary {
        /// Number of non-zero coefficients.
        hamming_weight: u32,
    },
}

impl std::fmt::Display for SecretKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretKind::UniformTernary => write!(f, "uniform ternary"),
            SecretKind::SparseTernary { hamming_weight } => {
                write!(f, "sparse ternary, hamming weight {hamming_weight}")
            }
        }
    }
}

/// An estimate of the work of the best known attack, as a base-two logarithm.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct SecurityBits(pub f64);

/// What the check says about a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeySecurity {
    /// Within the table: at least 128 bits.
    Secure(SecurityBits),
    /// The parameter set is marked insecure; nothing was checked.
    MarkedInsecure,
}

/// Why a key may not exist.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SecurityError {
    /// The modulus exceeds the table's bound.
    #[error(
        "a key over a modulus of {found:.2} bits in the ring of dimension 2^{log_n} with a {secret} secret is below 128 bits of \
         security: expected at most {limit} bits; use a larger ring or fewer levels"
    )]
    ModulusTooLarge {
        /// Base-two logarithm of the ring dimension.
        log_n: u32,
        /// The secret's distribution.
        secret: SecretKind,
        /// Base-two logarithm of the key's modulus.
        found: f64,
        /// Largest value the table allows.
        limit: u32,
    },
    /// The table has no row for this ring and secret.
    #[error(
        "no security estimate for a {secret} secret in the ring of dimension 2^{log_n}: known are uniform ternary for 2^10 to 2^17, \
         hamming weight 192 for 2^15 and 2^16, hamming weight 32 for 2^16"
    )]
    Unknown {
        /// Base-two logarithm of the ring dimension.
        log_n: u32,
        /// The secret's distribution.
        secret: SecretKind,
    },
    /// The modulus is not a positive finite number of bits.
    #[error("a key's modulus must be a positive number of bits; found {found}")]
    NotANumber {
        /// What was passed.
        found: f64,
    },
}

/// A row of the table: the bound, and points (log2 modulus, security bits) of the estimate, descending in modulus.
struct Row {
    log_n: u32,
    secret: SecretKind,
    limit: u32,
    estimate: &'static [(f64, f64)],
}

const SPARSE_192: SecretKind = SecretKind::SparseTernary {
    hamming_weight: 192,
};
const SPARSE_32: SecretKind = SecretKind::SparseTernary { hamming_weight: 32 };

const fn uniform(log_n: u32, limit: u32) -> Row {
    Row {
        log_n,
        secret: SecretKind::UniformTernary,
        limit,
        estimate: &[],
    }
}

const TABLE: &[Row] = &[
    uniform(10, 26),
    uniform(11, 53),
    uniform(12, 106),
    uniform(13, 214),
    uniform(14, 430),
    uniform(15, 868),
    uniform(16, 1747),
    uniform(17, 3520),
    Row {
        log_n: 15,
        secret: SPARSE_192,
        limit: 790,
        estimate: &[(810.0, 128.0), (768.0, 134.0)],
    },
    Row {
        log_n: 16,
        secret: SPARSE_192,
        limit: 1600,
        estimate: &[(1639.0, 128.0), (1546.0, 134.5)],
    },
    Row {
        log_n: 16,
        secret: SPARSE_32,
        limit: 121,
        estimate: &[(121.0, 172.0)],
    },
];

/// The largest log2 modulus (a whole number of bits) of a key in this ring under this secret, if the table knows the pair.
pub fn modulus_limit(log_n: u32, secret: SecretKind) -> Option<u32> {
    find(log_n, secret).map(|row| row.limit)
}

fn find(log_n: u32, secret: SecretKind) -> Option<&'static Row> {
    TABLE
        .iter()
        .find(|row| row.log_n == log_n && row.secret == secret)
}

/// Checks one key: its ring, the base-two logarithm of the whole modulus its samples are published under, its secret.
/// Every generated key is checked, not only the scheme's: a key of the ephemeral secret at a wrong level has broken other libraries.
pub fn check_key(
    log_n: u32,
    log2_modulus: f64,
    secret: SecretKind,
) -> Result<SecurityBits, SecurityError> {
    if !(log2_modulus.is_finite() && log2_modulus > 0.0) {
        return Err(SecurityError::NotANumber {
            found: log2_modulus,
        });
    }
    let row = find(log_n, secret).ok_or(SecurityError::Unknown { log_n, secret })?;
    if log2_modulus > f64::from(row.limit) {
        return Err(SecurityError::ModulusTooLarge {
            log_n,
            secret,
            found: log2_modulus,
            limit: row.limit,
        });
    }
    Ok(SecurityBits(estimate(row, log2_modulus)))
}

/// Interpolated linearly between computed points; below the smallest modulus computed, that point's value stands (a smaller
/// modulus is never weaker). For uniform secrets bits · modulus is nearly constant (124.7 bits computed at 1793 for 2^16, 128 at 1747).
fn estimate(row: &Row, log2_modulus: f64) -> f64 {
    match row.estimate {
        [] => (128.0 * f64::from(row.limit) / log2_modulus).min(256.0),
        [(high, a), (low, b)] if log2_modulus > *low => {
            a + (b - a) * (high - log2_modulus) / (high - low)
        }
        [.., (_, bits)] => *bits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_beyond_any_row_is_refused() {
        for row in TABLE {
            let limit = f64::from(row.limit);
            let bits = check_key(row.log_n, limit, row.secret).unwrap();
            assert!(
                bits.0 >= 128.0,
                "2^{} {}: {} bits",
                row.log_n,
                row.secret,
                bits.0
            );
            for beyond in [limit + 1.0, limit + 0.001, 1e9] {
                assert!(matches!(
                    check_key(row.log_n, beyond, row.secret),
                    Err(SecurityError::ModulusTooLarge { .. })
                ));
            }
        }
    }

    #[test]
    fn unknown_secrets_and_rings_are_refused() {
        for (log_n, hamming_weight) in
            [(16, 64), (16, 191), (16, 0), (15, 32), (14, 192), (12, 192)]
        {
            assert!(matches!(
                check_key(log_n, 20.0, SecretKind::SparseTernary { hamming_weight }),
                Err(SecurityError::Unknown { .. })
            ));
        }
        for log_n in [0, 9, 18, 64] {
            assert!(check_key(log_n, 10.0, SecretKind::UniformTernary).is_err());
        }
        for bad in [f64::NAN, f64::INFINITY, 0.0, -3.0] {
            assert!(matches!(
                check_key(16, bad, SPARSE_192),
                Err(SecurityError::NotANumber { .. })
            ));
        }
    }

    #[test]
    fn a_smaller_modulus_is_never_weaker() {
        for row in TABLE {
            let mut last = f64::INFINITY;
            for i in 1..=200 {
                let bits = check_key(
                    row.log_n,
                    f64::from(row.limit) * f64::from(i) / 200.0,
                    row.secret,
                )
                .unwrap()
                .0;
                assert!(bits <= last, "{} > {last}", bits);
                last = bits;
            }
        }
    }
}
