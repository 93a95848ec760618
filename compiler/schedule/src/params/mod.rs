//! Parameter sets: moduli, the level table, exact scales, key-switching digits, secrets and their security.
//!
//! A *level* is a row of a table: which limbs (residues modulo one prime below 2^28) are alive, and the exact scale. Going one row
//! down may drop limbs and bring new ones in (rational rescaling), so that a level costs about 40 bits whatever the word size.
//! `models/parameters/README.md` explains the chains; the tests beside this file check every claim made there.

mod adjust;
mod chain;
mod failure;
mod levelled;
#[cfg(test)]
mod levelled_tests;
mod scale;
mod security;
mod set;
mod tables;
#[cfg(test)]
mod tests;

pub use adjust::{Adjustment, RescaleStep};
pub use failure::{cannot_leave_interval, log2_interval_failure, Interval64, Log2Probability};
pub use levelled::{LevelBits, LevelledShape};
pub use scale::Scale;
pub use security::{
    check_key, modulus_limit, KeySecurity, SecretKind, SecurityBits, SecurityError,
};
pub use set::{ParameterSet, Row};

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A row of the level table. Rows up to the highest usable one carry messages of the program, and what is bootstrapped stops at
/// [`ParameterSet::bootstrap_level`]; rows above belong to bootstrapping alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level(pub u8);

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// An index into [`ParameterSet::primes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimbId(pub u16);

impl LimbId {
    /// The index as a number to subscript with.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What the rescaling that leaves a row downwards belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// Row 0: q0, no level left.
    Base,
    /// A level the program may use.
    Usable,
    /// SlotsToCoeffs, the first step of a bootstrap; a program may use it after its last bootstrap.
    SlotsToCoeffs,
    /// The polynomial that reduces modulo q0.
    EvalMod,
    /// CoeffsToSlots, the step of a bootstrap after the modulus is raised.
    CoeffsToSlots,
    /// Every limb of every row, where the highest usable row lacks some: keys may live there, no ciphertext ever does.
    Union,
}

/// A named choice of chain and secret. All but the toys claim 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// By need: N = 2^16, 13 levels between bootstraps, hamming weight 192, log QP ≤ 1600 with bootstrapping, or one of the chains without
    /// ([`LevelledShape`]) in rings of 2^13 to 2^17 under a uniform ternary secret. The default.
    Secure,
    /// N = 2^16, 9 levels between bootstraps, hamming weight 192, log QP ≤ 1555: the setting of the PowerSoftmax paper.
    Paper,
    /// The chain of `secure` under a uniform ternary secret, within the table of eprint 2024/463.
    Standard,
    /// The chain of `paper` in a small ring. INSECURE, for tests.
    Toy,
    /// The chain of `secure` in a small ring. INSECURE, for tests.
    ToySecure,
    /// The chain and secret of `standard` in a small ring. INSECURE, for tests.
    ToyStandard,
    /// The chains without bootstrapping that `secure` has at N = 2^15, in a small ring. INSECURE, for tests.
    ToyLevelled,
}

impl Profile {
    /// Every profile, in the order of the documentation.
    pub const ALL: [Profile; 7] = [
        Profile::Secure,
        Profile::Paper,
        Profile::Standard,
        Profile::Toy,
        Profile::ToySecure,
        Profile::ToyStandard,
        Profile::ToyLevelled,
    ];

    /// The name used on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Secure => "secure",
            Profile::Paper => "paper",
            Profile::Standard => "standard",
            Profile::Toy => "toy",
            Profile::ToySecure => "toy-secure",
            Profile::ToyStandard => "toy-standard",
            Profile::ToyLevelled => "toy-levelled",
        }
    }

    /// Whether sets of this profile are marked insecure.
    pub fn is_toy(self) -> bool {
        matches!(
            self,
            Profile::Toy | Profile::ToySecure | Profile::ToyStandard | Profile::ToyLevelled
        )
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = ParameterError;
    fn from_str(name: &str) -> Result<Self, ParameterError> {
        Profile::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| ParameterError::UnknownProfile {
                found: name.chars().take(40).collect(),
            })
    }
}

/// Why a parameter set, or something asked of one, was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ParameterError {
    /// No profile of that name.
    #[error("unknown parameter profile `{found}`; known are secure, paper, standard, toy, toy-secure, toy-standard, toy-levelled")]
    UnknownProfile {
        /// The name found, cut to 40 characters.
        found: String,
    },
    /// The profile does not exist in a ring of this size.
    #[error("profile `{profile}` needs a ring of dimension 2^{expected}; found 2^{found}")]
    RingSize {
        /// The profile asked for.
        profile: Profile,
        /// Allowed exponents, for example `16` or `8 to 16`.
        expected: &'static str,
        /// The exponent found.
        found: u32,
    },
    /// No chain without bootstrapping of this shape exists in this ring.
    #[error("no chain without bootstrapping of {}-bit levels and digits of {} limbs at N = 2^{log_n}: 128 bits of security leave no level", shape.bits.log2(), shape.digit_limbs)]
    NoLevels {
        /// Base-two logarithm of the ring dimension.
        log_n: u32,
        /// The shape asked for.
        shape: LevelledShape,
    },
    /// A file's parameters are not those this version of heron knows by that name.
    #[error(
        "the file's parameter set is not profile `{profile}` of this version (id {found}…, expected {expected}…); make the file again \
         with this version"
    )]
    IdMismatch {
        /// The profile named in the file.
        profile: Profile,
        /// First bytes of the id found, in hexadecimal.
        found: String,
        /// First bytes of the id expected.
        expected: String,
    },
    /// Bytes that are no parameter set.
    #[error("malformed parameter set: {reason}")]
    Malformed {
        /// What was expected.
        reason: &'static str,
    },
    /// The level is no row of the table.
    #[error("level {found} does not exist; profile `{profile}` has {expected} rows from 0")]
    NoSuchLevel {
        /// The profile of the set.
        profile: Profile,
        /// The level asked for.
        found: Level,
        /// Number of rows.
        expected: u8,
    },
    /// The level has no canonical scale, or there is no level below it.
    #[error("level {found} is outside {lowest} to {highest}, where {what}")]
    LevelRange {
        /// What only these levels have.
        what: &'static str,
        /// The level asked for.
        found: Level,
        /// Lowest allowed.
        lowest: Level,
        /// Highest allowed.
        highest: Level,
    },
    /// An adjustment that goes nowhere or upwards.
    #[error("adjust goes down: expected a target below level {from}, found level {to}")]
    NotDownwards {
        /// Level of the operand.
        from: Level,
        /// Level asked for.
        to: Level,
    },
    /// The factor of an adjustment is not finite, or its constant would not fit the modulus.
    #[error("adjust from level {from} to level {to} by {factor}: {reason}")]
    Adjust {
        /// Level of the operand.
        from: Level,
        /// Level asked for.
        to: Level,
        /// The factor asked for.
        factor: f64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Below 128 bits.
    #[error(transparent)]
    Security(#[from] SecurityError),
}
