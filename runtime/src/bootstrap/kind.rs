//! What is bootstrapped, which matrices that takes, and the keys.

use super::linear::Steps;
use super::scales::{Rows, Tuning};
use super::stages::{group, Groups};
use super::BootstrapError;
use crate::bootstrap::diagonals::Diagonals;
use crate::ckks::encoding::SlotTransform;
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest};
use heron_schedule::params::{Level, ParameterSet};
use std::fmt;

/// A way to bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One ciphertext with real slots, all of them: one EvalMod, since half of the coefficients are nobody's.
    Full,
    /// One ciphertext with complex slots: two EvalMods.
    Complex,
    /// Two real ciphertexts a and b as a + i·b: two EvalMods for both.
    ComplexPair,
    /// One ciphertext with real slots that repeat with period 2^log_slots ≤ N/4: one EvalMod, smaller matrices.
    Sparse {
        /// Base-two logarithm of the period.
        log_slots: u32,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Full => write!(f, "full slots"),
            Kind::Complex => write!(f, "complex slots"),
            Kind::ComplexPair => write!(f, "a pair of real ciphertexts"),
            Kind::Sparse { log_slots } => write!(f, "slots of period 2^{log_slots}"),
        }
    }
}

impl Kind {
    /// A number of its own.
    pub(super) fn number(self) -> u64 {
        match self {
            Kind::Full => 0,
            Kind::Complex => 1,
            Kind::ComplexPair => 2,
            Kind::Sparse { log_slots } => 3 + u64::from(log_slots),
        }
    }

    /// Base-two logarithm of the number of slots that are transformed.
    pub fn log_slots(&self, params: &ParameterSet) -> u32 {
        match self {
            Kind::Full | Kind::Complex | Kind::ComplexPair => params.log_n() - 1,
            Kind::Sparse { log_slots } => *log_slots,
        }
    }

    pub(crate) fn check(&self, params: &ParameterSet) -> Result<(), BootstrapError> {
        let most = params.log_n() - 2;
        match self {
            Kind::Sparse { log_slots } if !(1..=most).contains(log_slots) => {
                Err(BootstrapError::Period {
                    most,
                    found: *log_slots,
                })
            }
            _ => Ok(()),
        }
    }

    /// Left rotations, added up one after the other, that project a raised ciphertext onto the subring of its slots' period.
    pub(crate) fn trace(&self, params: &ParameterSet) -> Vec<i64> {
        let range = self.log_slots(params)..params.log_n() - 1;
        range.map(|k| 1i64 << k).collect()
    }
}

/// One matrix of the circuit, by what it is: kinds share those that are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StageId {
    pub inverse: bool,
    /// Position in the order of application.
    pub position: usize,
    pub first: u32,
    pub last: u32,
    /// The number of slots where it shows: the map wraps.
    pub log_slots: Option<u32>,
}

impl StageId {
    /// The matrix itself.
    pub fn build(&self, transform: &SlotTransform) -> Diagonals {
        let log_slots = self.log_slots.unwrap_or(transform.log_slots());
        group(transform, self.first, self.last, log_slots, self.inverse)
    }
}

/// The matrices of CoeffsToSlots and SlotsToCoeffs for a kind, in the order of application.
pub(crate) fn stages(
    params: &ParameterSet,
    rows: &Rows,
    kind: Kind,
) -> (Vec<StageId>, Vec<StageId>) {
    let log_slots = kind.log_slots(params);
    let list = |inverse: bool, count: usize| -> Vec<StageId> {
        let groups = Groups::whole(params.log_n() - 1, count as u32).truncated(log_slots);
        let mut ranges = groups.ranges();
        if inverse {
            ranges.reverse();
        }
        let stage = |(position, (first, last)): (usize, (u32, u32))| {
            let wraps = last == log_slots && first <= last;
            StageId {
                inverse,
                position,
                first,
                last,
                log_slots: wraps.then_some(log_slots),
            }
        };
        ranges.into_iter().enumerate().map(stage).collect()
    };
    (list(true, rows.cts.len()), list(false, rows.stc.len()))
}

/// The keys that bootstraps of these kinds use, each with its rows, besides what the program itself needs.
///
/// # Errors
/// A parameter set without the rows, or a period out of range.
pub fn requirements(
    params: &ParameterSet,
    tuning: Tuning,
    kinds: &[Kind],
) -> Result<KeyRequest, BootstrapError> {
    let mut request = KeyRequest::new();
    if kinds.is_empty() {
        return Ok(request);
    }
    let rows = Rows::new(params, tuning)?;
    let log_n = params.log_n();
    let transform = SlotTransform::new(log_n - 1)?;
    request.add(KeyKind::DenseToSparse, Level(0));
    request.add(KeyKind::SparseToDense, params.top());
    for &row in &rows.eval_mod {
        request.add(KeyKind::Relinearisation, row);
    }
    let conjugation = KeyKind::Galois(GaloisElement::conjugation(log_n));
    request.add(conjugation, rows.split());
    for kind in kinds {
        kind.check(params)?;
        let (cts, stc) = stages(params, &rows, *kind);
        let all = cts.iter().zip(&rows.cts).chain(stc.iter().zip(&rows.stc));
        for (stage, &row) in all {
            let offsets: Vec<i64> = stage.build(&transform).iter().map(|(o, _)| o).collect();
            Steps::new(&offsets).request(log_n, row, &mut request);
        }
        let mut rotate = |step: i64, row| {
            let element = GaloisElement::rotation(step, log_n);
            request.add(KeyKind::Galois(element), row);
        };
        for step in kind.trace(params) {
            rotate(step, rows.trace());
        }
    }
    Ok(request)
}
