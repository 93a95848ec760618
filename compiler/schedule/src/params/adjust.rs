//! Going down the level table: which limbs leave and enter, and the constant that moves level and scale in one pass.

use super::{Level, LimbId, ParameterError, ParameterSet, Scale};
use num_bigint::{BigInt, BigUint, Sign};

/// How a ciphertext goes from one row to a lower one: multiply by the product of `entering`, divide (centred) by the product of `leaving`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescaleStep {
    /// Limbs divided out, ascending.
    pub leaving: Vec<LimbId>,
    /// Limbs of the lower row that were not alive; their residues are 0 after multiplying by their product. Ascending.
    pub entering: Vec<LimbId>,
    /// Limbs of the lower row.
    pub target: Vec<LimbId>,
}

/// A multiplication by a constant and a drop of one or more levels in one pass; see [`ParameterSet::adjust_constant`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// Level of the operand.
    pub from: Level,
    /// Level of the result.
    pub to: Level,
    /// Limbs of `from` to work on; the others are dropped first (no arithmetic). Contains `step.leaving`. Ascending.
    pub working: Vec<LimbId>,
    /// What to divide by and what enters, from `working` to the limbs of `to`.
    pub step: RescaleStep,
    /// Multiply by this before the step.
    pub constant: BigInt,
}

impl Adjustment {
    /// constant · Π entering modulo a prime: multiplying the working residues by it covers constant and step's multiplication at once.
    pub fn multiplier_residue(&self, params: &ParameterSet, prime: u32) -> u32 {
        let entering = params.product(&self.step.entering).unwrap_or_default();
        let residue = (self.constant.magnitude() * entering) % prime;
        let r = residue.iter_u32_digits().next().unwrap_or(0);
        if self.constant.sign() == Sign::Minus && r != 0 {
            prime - r
        } else {
            r
        }
    }

    /// constant · Π entering modulo each working limb, in the order of `working`.
    pub fn multiplier_residues(&self, params: &ParameterSet) -> Vec<u32> {
        self.working
            .iter()
            .filter_map(|&l| params.prime(l))
            .map(|p| self.multiplier_residue(params, p))
            .collect()
    }
}

/// Centred remainders are taken over at most this many limbs at once.
const MOST_LEAVING: usize = 4;

impl ParameterSet {
    /// The step from a row to the one below it.
    pub fn rescale_step(&self, level: Level) -> Result<RescaleStep, ParameterError> {
        let below = level
            .0
            .checked_sub(1)
            .map(Level)
            .ok_or(ParameterError::LevelRange {
                what: "a rescaling to the level below exists",
                found: level,
                lowest: Level(1),
                highest: self.top(),
            })?;
        let high = self.limbs(level)?;
        let low = self.limbs(below)?;
        Ok(RescaleStep {
            leaving: without(high, low),
            entering: without(low, high),
            target: low.to_vec(),
        })
    }

    /// The scale after going from `from` one row down, given the scale of a product at `from`: scale · Q_{from-1}/Q_from.
    pub fn rescaled(&self, level: Level, scale: Scale) -> Result<Scale, ParameterError> {
        let step = self.rescale_step(level)?;
        let of = |limbs: &[LimbId]| self.product(limbs).unwrap_or_default();
        scale
            .times_ratio(&of(&step.entering), &of(&step.leaving))
            .ok_or(ParameterError::Malformed {
                reason: "a scale leaves its bounds",
            })
    }

    /// What brings a ciphertext at the canonical scale of `from` to `factor` times its message at the canonical scale of the lower level
    /// `to`: keep the limbs of `from` that `to` shares and a few that leave (the smallest set of two to four, fewest first, that gives the
    /// constant 40 bits; at scale 2^27 of one to four and 27 bits), multiply by `constant`, multiply in what enters, divide out what leaves.
    ///
    /// |factor realised - factor| ≤ 2^-40.75 (2^-27.5 at scale 2^27). The result must fit: |factor · message| below the head-room of `to`.
    pub fn adjust_constant(
        &self,
        from: Level,
        to: Level,
        factor: f64,
    ) -> Result<Adjustment, ParameterError> {
        self.adjust_between(from, self.scale(from)?, to, self.scale(to)?, factor)
    }

    /// [`ParameterSet::adjust_constant`] between scales of the caller's choice, for bootstrapping's rows.
    pub fn adjust_between(
        &self,
        from: Level,
        from_scale: Scale,
        to: Level,
        to_scale: Scale,
        factor: f64,
    ) -> Result<Adjustment, ParameterError> {
        if to >= from {
            return Err(ParameterError::NotDownwards { from, to });
        }
        let refuse = |reason| ParameterError::Adjust {
            from,
            to,
            factor,
            reason,
        };
        let (high, low) = (self.limbs(from)?, self.limbs(to)?);
        let entering = without(low, high);
        let entering_product = self.product(&entering).unwrap_or_default();
        let candidates = without(high, low);
        let ratio = to_scale
            .over(from_scale)
            .ok_or(refuse("the scales are too far apart"))?;
        let unit = |leaving: &BigUint| ratio.times_ratio(leaving, &entering_product);
        // An adjustment's constant for factor 1 has at least this size, 2^39.75 at scale 2^40: so the factor really applied is within
        // 2^-40.75 of the one asked for, below the noise a rescaling adds to a message of size 1. At scale 2^27 one limb may have to do,
        // and scales drift further.
        let (smallest_unit, fewest) = match self.default_scale_log2() {
            bits if bits < 28 => (f64::from(bits) - 0.5, 1),
            bits => (f64::from(bits) - 0.25, 2),
        };
        let leaving = (fewest..=MOST_LEAVING)
            .find_map(|size| {
                self.smallest_sufficient(&candidates, size, |product| {
                    unit(product).is_some_and(|u| u.log2() >= smallest_unit)
                })
            })
            .ok_or(refuse(
                "no four limbs that leave give the constant the bits of the scale",
            ))?;
        let leaving_product = self.product(&leaving).unwrap_or_default();
        let constant = unit(&leaving_product)
            .and_then(|u| u.scaled_integer(factor))
            .ok_or(refuse("expected a finite factor"))?;
        let mut working: Vec<LimbId> = high
            .iter()
            .filter(|l| low.contains(l) || leaving.contains(l))
            .copied()
            .collect();
        working.sort_unstable();
        let modulus = self.product(&working).unwrap_or_default();
        if constant.bits() + 1 >= modulus.bits() {
            return Err(refuse("the constant does not fit the modulus"));
        }
        Ok(Adjustment {
            from,
            to,
            working,
            step: RescaleStep {
                leaving,
                entering,
                target: low.to_vec(),
            },
            constant,
        })
    }

    /// The subset of `size` candidates with the smallest product that is `enough`; among equal products, the first in order.
    fn smallest_sufficient(
        &self,
        candidates: &[LimbId],
        size: usize,
        enough: impl Fn(&BigUint) -> bool,
    ) -> Option<Vec<LimbId>> {
        let primes: Vec<u128> = candidates
            .iter()
            .filter_map(|&l| self.prime(l))
            .map(u128::from)
            .collect();
        // `enough` is monotone in the product, so only products below the best so far need asking.
        let mut best: Option<(u128, Vec<usize>)> = None;
        let mut chosen: Vec<usize> = (0..size).collect();
        while chosen.last().is_some_and(|&last| last < primes.len()) {
            let product: u128 = chosen.iter().map(|&i| primes[i]).product();
            if best.as_ref().is_none_or(|(p, _)| product < *p) && enough(&BigUint::from(product)) {
                best = Some((product, chosen.clone()));
            }
            // Next combination in lexicographic order; the last index runs past the end when there is none.
            let mut i = size - 1;
            while i > 0 && chosen[i] + (size - i) >= primes.len() {
                i -= 1;
            }
            chosen[i] += 1;
            for j in i + 1..size {
                chosen[j] = chosen[j - 1] + 1;
            }
        }
        best.map(|(_, indices)| indices.into_iter().map(|i| candidates[i]).collect())
    }
}

fn without(these: &[LimbId], those: &[LimbId]) -> Vec<LimbId> {
    these
        .iter()
        .filter(|l| !those.contains(l))
        .copied()
        .collect()
}
