//! The noise of encrypted evaluation: a standard deviation per operation, and a seeded generator. The `clear` executor adds it slot by
//! slot, and the compiler predicts by it how far results will be off.
//!
//! A polynomial with independent coefficients of standard deviation c has slots whose real parts have c·sqrt(N/2); a message carries it
//! divided by the scale. The coefficients of the formulas follow eprint 2016/421 (encryption, rescaling) and 2019/688 (key switching with
//! digits).

use crate::params::{Level, LimbId, ParameterError, ParameterSet, SecretKind};

/// Standard deviations of slot errors, in units of the message.
#[derive(Clone, Debug)]
pub struct NoiseModel {
    log_slots_root: f64,
    sigma: f64,
    rounding: f64,
    params: ParameterSet,
    bootstrap: f64,
}

/// Measured per bootstrap output at full slots, as a base-two logarithm of the standard deviation.
const LOG2_BOOTSTRAP: f64 = -23.9;

impl NoiseModel {
    /// The model of a parameter set.
    pub fn new(params: &ParameterSet) -> NoiseModel {
        let n = (1u64 << params.log_n()) as f64;
        let weight = match params.secret() {
            SecretKind::UniformTernary => n * 2.0 / 3.0,
            SecretKind::SparseTernary { hamming_weight } => f64::from(hamming_weight).min(n),
        };
        NoiseModel {
            log_slots_root: (n / 2.0).log2() / 2.0,
            sigma: params.sigma(),
            rounding: ((1.0 + weight) / 12.0).sqrt(),
            params: params.clone(),
            bootstrap: LOG2_BOOTSTRAP.exp2(),
        }
    }

    fn slots(&self, coefficient: f64, level: Level) -> Result<f64, ParameterError> {
        let scale = self.params.scale(level)?.log2();
        Ok(coefficient * (self.log_slots_root - scale).exp2())
    }

    /// Encryption under the secret key at a level.
    pub fn fresh(&self, level: Level) -> Result<f64, ParameterError> {
        self.slots(self.sigma, level)
    }

    /// Rescaling or adjusting that ends at a level: each part is rounded, and c1's rounding is multiplied by the secret.
    pub fn rescale(&self, level: Level) -> Result<f64, ParameterError> {
        self.slots(self.rounding, level)
    }

    /// Key switching at a level: σ·q_d/P·sqrt(N/12) for each digit alive, and the rounding of the division by P.
    pub fn key_switch(&self, level: Level) -> Result<f64, ParameterError> {
        let alive = self.params.limbs(level)?;
        let special = self.params.log2_product(self.params.special());
        let special = special.unwrap_or(0.0);
        let n = (1u64 << self.params.log_n()) as f64;
        let mut variance = self.rounding.powi(2);
        for digit in self.params.digits() {
            let limbs: Vec<LimbId> = digit
                .iter()
                .copied()
                .filter(|l| alive.contains(l))
                .collect();
            if limbs.is_empty() {
                continue;
            }
            let size = self.params.log2_product(&limbs).unwrap_or(0.0);
            variance += n / 12.0 * (self.sigma * (size - special).exp2()).powi(2);
        }
        self.slots(variance.sqrt(), level)
    }

    /// A bootstrap's output, whatever its level.
    pub fn bootstrap(&self) -> f64 {
        self.bootstrap
    }

    /// Rounding of a plaintext's coefficients to integers, at a level, relative to what it multiplies.
    pub fn encoding(&self, level: Level) -> Result<f64, ParameterError> {
        self.slots((1f64 / 12.0).sqrt(), level)
    }

    /// q0 over the scale of row 0, where SlotsToCoeffs has made coefficients of the slots.
    fn bootstrap_ratio(&self) -> Result<f64, ParameterError> {
        Ok((self.params.headroom_bits(Level(0))? + 1.0).exp2())
    }

    /// What the sine of a bootstrap leaves of the reduction modulo q0: (2π)²/6 = 6.6 times v³/ratio² for a value v, as a factor of v³.
    pub fn bootstrap_cubic(&self) -> Result<f64, ParameterError> {
        Ok(std::f64::consts::TAU.powi(2) / 6.0 * self.bootstrap_ratio()?.powi(-2))
    }

    /// Values beyond this size wrap when a bootstrap reads them at row 0.
    pub fn bootstrap_wrap(&self) -> Result<f64, ParameterError> {
        Ok(self.params.headroom_bits(Level(0))?.exp2())
    }

    /// What a bootstrap makes of a value, but for noise: ratio/2π · sin(2π v/ratio).
    pub fn bootstrapped(&self, value: f64) -> Result<f64, ParameterError> {
        let turn = std::f64::consts::TAU / self.bootstrap_ratio()?;
        Ok((value * turn).sin() / turn)
    }
}

/// A deterministic stream of (nearly) normal numbers: sums of twelve uniforms from SplitMix64, additions only, so the same everywhere.
#[derive(Clone, Debug)]
pub struct NoiseStream(u64);

impl NoiseStream {
    /// The stream of one result of one instruction.
    pub fn new(seed: u64, instruction: u64, result: u64) -> NoiseStream {
        let mut stream = NoiseStream(seed ^ 0x6865_726f_6e00_0000);
        for word in [instruction, result] {
            stream.0 = stream.word() ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        stream
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Mean 0, standard deviation 1, at most 6 in size.
    pub fn normal(&mut self) -> f64 {
        let mut sum = 0u64;
        for _ in 0..3 {
            let w = self.word();
            sum += (w & 0xffff) + ((w >> 16) & 0xffff) + ((w >> 32) & 0xffff) + (w >> 48);
        }
        sum as f64 / 65536.0 - 6.0 + 6.0 / 65536.0
    }

    /// Adds noise of a standard deviation to every value.
    pub fn add(&mut self, values: &mut [f64], deviation: f64) {
        if deviation > 0.0 {
            for v in values {
                *v += deviation * self.normal();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Profile;

    #[test]
    fn the_stream_has_mean_zero_and_deviation_one() {
        let mut stream = NoiseStream::new(1, 2, 3);
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = stream.normal();
            sum += x;
            squares += x * x;
        }
        let (mean, variance) = (sum / f64::from(n), squares / f64::from(n));
        println!("mean {mean:.5} (bound 0.016), variance {variance:.5} (1 ± 0.02)");
        assert!(mean.abs() < 0.016 && (variance - 1.0).abs() < 0.02);
        assert_ne!(
            NoiseStream::new(1, 2, 4).normal(),
            NoiseStream::new(1, 2, 3).normal()
        );
    }

    #[test]
    fn the_sine_takes_less_than_two_to_the_minus_22_from_values_in_one() {
        let params = ParameterSet::new(Profile::Secure).expect("parameters");
        let model = NoiseModel::new(&params);
        for v in [1.0, 0.5, -0.25] {
            let lost = v - model.bootstrapped(v).expect("level 0");
            let cubic = model.bootstrap_cubic().expect("level 0") * v.powi(3);
            println!("{v}: 2^{:.2}", lost.abs().log2());
            assert!(lost.abs() < 2f64.powi(-22) && (lost / cubic - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn secure_operations_stay_below_two_to_the_minus_28_and_bootstraps_dominate() {
        let params = ParameterSet::new(Profile::Secure).expect("parameters");
        let model = NoiseModel::new(&params);
        for l in 0..=params.top_usable().0 {
            let level = Level(l);
            for noise in [
                model.fresh(level),
                model.rescale(level),
                model.key_switch(level),
            ] {
                let bits = noise.expect("level").log2();
                assert!((-34.0..-28.0).contains(&bits), "level {l}: 2^{bits:.2}");
            }
        }
        assert!(model.bootstrap() > 2f64.powi(-28));
    }
}
