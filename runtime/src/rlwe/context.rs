//! A parameter set with its ring: which limbs, digits and special limbs each row of the level table works on.

use super::RlweError;
use crate::arith::primes;
use crate::ring::{InstructionSet, LimbId, RingContext, RingError};
use heron_schedule::params::{self, Level, ParameterSet};
use std::sync::Arc;

/// A key-switching digit at some row: the limbs of it that are alive, and where they are extended to.
#[derive(Clone, Debug)]
pub struct LiveDigit {
    /// Number of the digit in the parameter set.
    pub index: usize,
    /// Its live limbs.
    pub limbs: Vec<LimbId>,
    /// The row's other limbs, then the special limbs.
    pub others: Vec<LimbId>,
}

/// The limbs of one row, for arithmetic and for key switching.
#[derive(Clone, Debug)]
pub struct RowLimbs {
    /// The row.
    pub level: Level,
    /// Limbs alive, ascending.
    pub limbs: Vec<LimbId>,
    /// Limbs alive, then the special limbs: the basis QP of key switching at this row.
    pub extended: Vec<LimbId>,
    /// The digits with a live limb, ascending.
    pub digits: Vec<LiveDigit>,
    /// P modulo each limb of `extended` (0 on the special limbs).
    pub special_product: Vec<u32>,
}

/// Everything below the keys: parameters, ring and per-row limb lists. Built once per process and shared.
#[derive(Debug)]
pub struct RlweContext {
    params: ParameterSet,
    ring: Arc<RingContext>,
    rows: Vec<RowLimbs>,
    special: Vec<LimbId>,
    encapsulation: RowLimbs,
    roots: Vec<u32>,
}

/// The ring's name for a limb of the parameter set: both index the same list of primes.
pub fn ring_limbs(limbs: &[params::LimbId]) -> Vec<LimbId> {
    limbs.iter().map(|l| LimbId(l.0)).collect()
}

impl RlweContext {
    /// Builds the ring of a parameter set (tables of about 1 MiB per prime at N = 2^16).
    ///
    /// # Errors
    /// If the set's primes do not fit its ring.
    pub fn new(params: ParameterSet) -> Result<Arc<Self>, RlweError> {
        Self::with_instruction_set(params, InstructionSet::detect())
    }

    /// As [`RlweContext::new`], on a given instruction set, or on the portable code where the machine lacks it. Results do not depend on it.
    ///
    /// # Errors
    /// As [`RlweContext::new`].
    pub fn with_instruction_set(
        params: ParameterSet,
        set: InstructionSet,
    ) -> Result<Arc<Self>, RlweError> {
        let ring = RingContext::with_instruction_set(params.log_n(), params.primes(), set)?;
        let special = ring_limbs(params.special());
        let digits: Vec<Vec<LimbId>> = params.digits().iter().map(|d| ring_limbs(d)).collect();
        let rows = params
            .rows()
            .iter()
            .enumerate()
            .map(|(level, row)| {
                let limbs = ring_limbs(&row.limbs);
                row_limbs(&ring, Level(level as u8), &limbs, &special, &digits)
            })
            .collect::<Vec<_>>();
        let base = rows.first().map(|r| r.limbs.clone()).unwrap_or_default();
        let encapsulation = row_limbs(
            &ring,
            Level(0),
            &base,
            &ring_limbs(params.encapsulation()),
            std::slice::from_ref(&base),
        );
        let order = 2u32 << params.log_n();
        let roots = ring
            .all_limbs()
            .iter()
            .enumerate()
            .map(|(index, &l)| {
                primes::primitive_root(ring.modulus(l), order).ok_or(RingError::Prime {
                    index,
                    q: ring.prime(l),
                    order,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            roots,
            params,
            ring,
            rows,
            special,
            encapsulation,
        }))
    }

    /// The parameter set.
    pub fn params(&self) -> &ParameterSet {
        &self.params
    }

    /// The ring; its limb `i` is the set's prime `i`.
    pub fn ring(&self) -> &RingContext {
        &self.ring
    }

    /// The limbs of a row.
    ///
    /// # Errors
    /// If the table has no such row.
    pub fn row(&self, level: Level) -> Result<&RowLimbs, RlweError> {
        self.rows
            .get(usize::from(level.0))
            .ok_or(RlweError::NoSuchRow {
                found: level,
                rows: self.rows.len(),
            })
    }

    /// The primitive 2N-th root psi of a limb: word i of its evaluation form is the value at psi^(2 bitrev(i) + 1). 0 for no limb.
    pub fn root(&self, limb: LimbId) -> u32 {
        self.roots.get(limb.index()).copied().unwrap_or(0)
    }

    /// psi^(N/2) of each limb: the value of X^(N/2) at the first evaluation point.
    pub fn imaginary_roots(&self, limbs: &[LimbId]) -> Vec<u32> {
        let half = self.ring.degree() as u64 / 2;
        limbs
            .iter()
            .map(|&l| self.ring.modulus(l).pow(self.root(l), half))
            .collect()
    }

    /// The limbs of P.
    pub fn special(&self) -> &[LimbId] {
        &self.special
    }

    /// Row 0 with the encapsulation limbs in the place of P, as one digit: where the dense-to-sparse key lives.
    pub fn encapsulation(&self) -> &RowLimbs {
        &self.encapsulation
    }
}

fn row_limbs(
    ring: &RingContext,
    level: Level,
    limbs: &[LimbId],
    special: &[LimbId],
    digits: &[Vec<LimbId>],
) -> RowLimbs {
    let extended: Vec<LimbId> = limbs.iter().chain(special).copied().collect();
    let digits = digits
        .iter()
        .enumerate()
        .filter_map(|(index, digit)| {
            let (own, others): (Vec<LimbId>, Vec<LimbId>) =
                extended.iter().partition(|l| digit.contains(l));
            (!own.is_empty()).then_some(LiveDigit {
                index,
                limbs: own,
                others,
            })
        })
        .collect();
    let special_product = extended
        .iter()
        .map(|&l| {
            let modulus = ring.modulus(l);
            special.iter().fold(1, |acc, &p| {
                modulus.mul(acc, ring.prime(p) % modulus.value())
            })
        })
        .collect();
    RowLimbs {
        level,
        limbs: limbs.to_vec(),
        extended,
        digits,
        special_product,
    }
}
