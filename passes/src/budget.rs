//! How large the errors of approximations may be, and how far ranges are widened beyond calibration.

use crate::ir::shape::Interval;

/// Largest errors of single approximations, and how far ranges are widened beyond calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Relative error of 1/z.
    pub reciprocal: f64,
    /// Relative error of 1/√z.
    pub inverse_sqrt: f64,
    /// Error of a row of a plain softmax: Σ over keys of |weight − softmax|.
    pub softmax: f64,
    /// Absolute error of an activation, relative to its largest output.
    pub activation: f64,
    /// Positive statistics (denominators, variances) are divided by this below.
    pub widen_below: f64,
    /// Positive statistics are multiplied by this above.
    pub widen_above: f64,
    /// Arguments of activations are widened by this share of their interval's length, at each end.
    pub widen_activation: f64,
    /// Values of unseen inputs may be this many times as large as calibrated ones: variances its square, sums of s^p its p-th power.
    pub beyond: f64,
    /// Largest degree of ReLU, whose error falls with 0.14/degree only; below 2^(levels between bootstraps).
    pub relu_degree: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            reciprocal: 1e-3,
            inverse_sqrt: 3e-4,
            softmax: 4e-3,
            activation: 3e-4,
            widen_below: 1.35,
            widen_above: 1.5,
            widen_activation: 0.12,
            beyond: 1.0,
            relu_degree: 511,
        }
    }
}

impl Budget {
    /// The default for a chain with this many levels between bootstraps.
    pub fn for_levels(levels: usize) -> Budget {
        Budget {
            relu_degree: (1 << levels.clamp(2, 10)) - 1,
            ..Budget::default()
        }
    }

    /// The same for ranges that were seen on this many inputs. The largest of n draws of a heavy tail grows with a power of n, so a range
    /// from few inputs is widened by what more would have added. The exponent is chosen to cover what was measured on one model: of 24 layers
    /// of 16 heads calibrated on one prompt, another prompt exceeded the largest denominator, a sum of s^4, up to 2.2 times
    /// (`docs/large-models.md`).
    pub fn for_inputs(self, inputs: usize) -> Budget {
        let share = ENOUGH_INPUTS as f64 / inputs.clamp(1, ENOUGH_INPUTS) as f64;
        Budget {
            beyond: share.powf(TAIL),
            ..self
        }
    }

    /// Where a positive statistic may lie that was seen in an interval, a sum of `power`-th powers.
    pub(crate) fn statistic(&self, seen: Interval, power: u32) -> Interval {
        let beyond = self.beyond.powi(power as i32);
        Interval::new(
            seen.lo / (self.widen_below * beyond),
            seen.hi * self.widen_above * beyond,
        )
    }

    /// Where the argument of a function may lie that was seen in an interval, taken as at least `shortest` long.
    pub(crate) fn argument(&self, seen: Interval, shortest: f64) -> Interval {
        let length = (seen.hi - seen.lo).max(shortest);
        let margin = (self.widen_activation + (self.beyond - 1.0) / 2.0) * length;
        Interval::new(seen.lo - margin, seen.hi + margin)
    }

    /// The same margins with every error divided by `factor`.
    pub fn tightened(&self, factor: f64) -> Budget {
        Budget {
            reciprocal: self.reciprocal / factor,
            inverse_sqrt: self.inverse_sqrt / factor,
            softmax: self.softmax / factor,
            activation: self.activation / factor,
            ..*self
        }
    }
}

/// With this many inputs the margins of [`Budget`] suffice.
const ENOUGH_INPUTS: usize = 32;
/// Exponent with which the largest magnitude grows with the number of inputs.
const TAIL: f64 = 0.075;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_thirty_two_inputs_get_the_plain_margins() {
        let seen = Interval::new(0.5, 2.0);
        for inputs in [32, 33, 1000] {
            let budget = Budget::default().for_inputs(inputs);
            assert_eq!(budget, Budget::default());
        }
        assert_eq!(Budget::default().statistic(seen, 4).hi, 3.0);
        assert_eq!(Budget::default().argument(seen, 1e-6).hi, 2.0 + 0.12 * 1.5);
    }

    #[test]
    fn ranges_of_fewer_inputs_are_widened_more_and_higher_powers_more_again() {
        let seen = Interval::new(0.001, 0.383);
        let hi = |inputs, power| {
            Budget::default()
                .for_inputs(inputs)
                .statistic(seen, power)
                .hi
        };
        assert!(hi(1, 4) > hi(2, 4) && hi(2, 4) > hi(16, 4) && hi(16, 4) > hi(32, 4));
        assert!(hi(1, 8) > hi(1, 4) && hi(1, 4) > hi(1, 2));
        // Layer 19 of the 1.4 G model: seen up to 0.383 on one prompt, 0.837 on another.
        assert!(hi(32, 4) < 0.837 && hi(1, 4) > 1.5 * 0.837);
    }

    #[test]
    fn arguments_of_activations_seen_on_one_input_are_widened_on_both_sides() {
        let (few, many) = (Budget::default().for_inputs(1), Budget::default());
        let seen = Interval::new(-4.7, 5.3);
        let (few, many) = (few.argument(seen, 1e-6), many.argument(seen, 1e-6));
        assert!(few.lo < many.lo - 1.0 && few.hi > many.hi + 1.0);
    }
}
