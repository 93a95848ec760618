//! What bootstrapping takes of memory, computed from the shapes of its matrices.

use super::kind::{stages, Kind, StageId};
use super::linear::{Steps, MIN_LOG_RUN};
use super::scales::{Rows, Tuning};
use super::BootstrapError;
use crate::ckks::encoding::SlotTransform;
use heron_schedule::params::{Level, ParameterSet};
use std::collections::BTreeSet;

/// Polynomials that a step has alive at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Limbs of each.
    pub limbs: u64,
    /// Bytes of all.
    pub bytes: u64,
}

/// Bytes of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Encoded diagonals, kept from [`super::Bootstrapper::new`] on: one word per run of equal ones.
    pub matrices: u64,
    /// What each linear map works on, besides its input.
    pub work: Vec<Work>,
}

/// What bootstraps of these kinds take; nothing for no kinds.
///
/// # Errors
/// A parameter set without the rows, or a period out of range.
pub fn footprint(
    params: &ParameterSet,
    tuning: Tuning,
    kinds: &[Kind],
) -> Result<Footprint, BootstrapError> {
    let mut found = Footprint::default();
    if kinds.is_empty() {
        return Ok(found);
    }
    let rows = Rows::new(params, tuning)?;
    let log_n = params.log_n();
    let transform = SlotTransform::new(log_n - 1)?;
    let mut seen: BTreeSet<StageId> = BTreeSet::new();
    for kind in kinds {
        kind.check(params)?;
        let (cts, stc) = stages(params, &rows, *kind);
        for (stage, &row) in cts.iter().zip(&rows.cts).chain(stc.iter().zip(&rows.stc)) {
            if !seen.insert(*stage) {
                continue;
            }
            let map = stage.build(&transform);
            let extended = extended_limbs(params, row)?;
            let log_run = log_n - (map.log_slots() + 1);
            let log_words = match log_run >= MIN_LOG_RUN {
                true => log_n - log_run,
                false => log_n,
            };
            found.matrices += (4 * map.len() as u64 * extended) << log_words;
            let offsets: Vec<i64> = map.iter().map(|(o, _)| o).collect();
            let (babies, giants) = Steps::new(&offsets).counts();
            // Babies beside the digits they are made of, then beside the giant steps' sums.
            let digits = params.digits().len() as u64;
            let pairs = 2 * (babies as u64) + digits.max(2 * giants as u64);
            found.work.push(Work {
                limbs: extended,
                bytes: (4 * pairs * extended) << log_n,
            });
        }
    }
    Ok(found)
}

/// Limbs of a row and the special ones.
fn extended_limbs(params: &ParameterSet, row: Level) -> Result<u64, BootstrapError> {
    Ok((params.limbs(row)?.len() + params.special().len()) as u64)
}
