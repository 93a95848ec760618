//! Rows and exact scales of the circuit: each step's plaintext scales are chosen so that it ends where the next one wants to begin.
//!
//! With t = message + q0·I after ModRaise, read at scale q0 (value t/q0), and all matrices with entries of size 1:
//! ```text
//! SlotsToCoeffs   · ΠP / ΠQ             from the canonical scale of the bootstrap level to that of row 0: coefficients are the values
//! CoeffsToSlots   q0 · ΠP / ΠQ          value n' · w (n' slots used), w the coefficients of t/q0
//! v + conj v      the same scale        value 2n'·(N/2n') Re w   (N/2n' copies are summed by the trace), declared to be y = Re w / half_width
//! EvalMod         sin(2π t/q0)          declared to be the message: 2π/ratio of it, ratio = q0 / scale of row 0
//! ```
//! P are the stages' plaintext scales, Q the moduli divided out. No constant is ever multiplied into matrix entries: it is a choice of scale.
//! EvalMod's scales are chosen backwards from the canonical one of the highest usable row.

use super::cosine::Cosine;
use super::BootstrapError;
use heron_schedule::params::{Level, ParameterSet, RowKind, Scale};
use num_bigint::BigUint;

/// Choices of the circuit that trade precision, range and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The polynomial of EvalMod.
    pub cosine: Cosine,
    /// log2 of the scale of T_4(u) less that of the EvalMod rows, in units of 1/16: what is above 0 doubles with each power.
    pub power_excess: u32,
}

impl Tuning {
    /// The circuit as measured for `secure` and `paper`.
    pub const STANDARD: Tuning = Tuning {
        cosine: Cosine::STANDARD,
        power_excess: 8,
    };
}

/// The rows of each step in the order of application: `cts[i]` is where CoeffsToSlots' stage i multiplies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The level of what is bootstrapped.
    pub input: Level,
    /// Where SlotsToCoeffs' stages multiply, down to row 1.
    pub stc: Vec<Level>,
    /// Where CoeffsToSlots' stages multiply.
    pub cts: Vec<Level>,
    /// Where EvalMod's products are: y, u and T_2, …, the doublings.
    pub eval_mod: Vec<Level>,
    /// The level of the result.
    pub out: Level,
}

impl Rows {
    /// The rows of a parameter set, checked against the circuit's depth.
    pub fn new(params: &ParameterSet, tuning: Tuning) -> Result<Rows, BootstrapError> {
        let of = |kind: RowKind| -> Vec<Level> {
            let rows = params.rows().iter().enumerate().rev();
            rows.filter(|(_, row)| row.kind == kind)
                .map(|(l, _)| Level(l as u8))
                .collect()
        };
        let rows = Rows {
            input: params.bootstrap_level(),
            stc: of(RowKind::SlotsToCoeffs),
            cts: of(RowKind::CoeffsToSlots),
            eval_mod: of(RowKind::EvalMod),
            out: params.top_usable(),
        };
        let expect = |kind, expected, found: &[Level]| {
            if found.len() == expected {
                return Ok(());
            }
            Err(BootstrapError::Rows {
                kind,
                expected,
                found: found.len(),
            })
        };
        expect("CoeffsToSlots", 3, &rows.cts)?;
        expect(
            "EvalMod",
            6 + tuning.cosine.doublings as usize,
            &rows.eval_mod,
        )?;
        expect("SlotsToCoeffs", 3, &rows.stc)?;
        Ok(rows)
    }

    /// Where real and imaginary parts are separated: below CoeffsToSlots.
    pub fn split(&self) -> Level {
        self.eval_mod.first().copied().unwrap_or(Level(0))
    }

    /// Where the copies of a sparse ciphertext are summed: before CoeffsToSlots' last stage, which makes parts of one period differ.
    pub fn trace(&self) -> Level {
        self.cts.last().copied().unwrap_or(Level(0))
    }
}

/// Every scale of the circuit that is a choice; the others follow.
#[derive(Clone, Debug)]
pub struct ScalePlan {
    /// Plaintext scales of SlotsToCoeffs' stages, in order.
    pub stc: Vec<Scale>,
    /// What the raised ciphertext is read at: q0.
    pub raised: Scale,
    /// Plaintext scales of CoeffsToSlots' stages, in order.
    pub cts: Vec<Scale>,
    /// Scale of y = (t/q0 - 1/4) / half_width.
    pub y: Scale,
    /// Scale of the polynomial's value.
    pub value: Scale,
    /// Scale of sin(2π t/q0) after the doublings: read at the canonical scale of the highest usable row, it is the message.
    pub sine: Scale,
    /// q0 over the scale of row 0: about 2^12.5.
    pub ratio: f64,
}

const RANGE: BootstrapError = BootstrapError::Circuit {
    what: "a scale leaves its bounds",
};

/// 2^(sixteenths/16), to 2^-12: scales are choices, so what matters is that every machine makes the same one.
fn power(sixteenths: i64) -> Result<Scale, BootstrapError> {
    // 2^(k/16) · 2^12, rounded.
    const STEPS: [u32; 16] = [
        4096, 4277, 4467, 4664, 4871, 5087, 5312, 5547, 5793, 6049, 6317, 6597, 6889, 7194, 7512,
        7845,
    ];
    let (whole, part) = (sixteenths.div_euclid(16), sixteenths.rem_euclid(16));
    let step = BigUint::from(STEPS.get(part as usize).copied().unwrap_or(4096));
    Scale::from_ratio(&step, &BigUint::from(1u8), whole as i32 - 12).ok_or(RANGE)
}

fn sixteenths(log2: f64) -> i64 {
    (log2 * 16.0).round() as i64
}

/// Splits `total` into equal plaintext scales but for the last, which makes the product exact.
fn spread(total: Scale, count: usize) -> Result<Vec<Scale>, BootstrapError> {
    let mut left = total;
    let mut scales = Vec::with_capacity(count);
    for i in 0..count {
        if i + 1 == count {
            scales.push(left);
        } else {
            let part = power(sixteenths(total.log2() / count as f64))?;
            left = left.over(part).ok_or(RANGE)?;
            scales.push(part);
        }
    }
    Ok(scales)
}

impl ScalePlan {
    /// Scales for any number of used slots.
    pub fn new(
        params: &ParameterSet,
        rows: &Rows,
        tuning: Tuning,
    ) -> Result<ScalePlan, BootstrapError> {
        // Q of a step: scale · Q(level - 1)/Q(level) = scale / Q.
        let step = |level: Level| -> Result<Scale, BootstrapError> {
            let one = params.rescaled(level, Scale::ONE)?;
            Scale::ONE.over(one).ok_or(RANGE)
        };
        let product = |levels: &[Level]| {
            levels
                .iter()
                .try_fold(Scale::ONE, |p, &l| p.times(step(l)?).ok_or(RANGE))
        };
        let bottom = params.scale(Level(0))?;
        let base = params.row(Level(0))?.modulus().clone();
        let raised = Scale::from_ratio(&base, &BigUint::from(1u8), 0).ok_or(RANGE)?;
        let stc_total = bottom
            .times(product(&rows.stc)?)
            .and_then(|s| s.over(params.scale(rows.input).ok()?))
            .ok_or(RANGE)?;

        // T_4(u) is y² divided and squared twice more: walk back from the scale it should have.
        let bits = |i: usize| -> Result<f64, BootstrapError> {
            Ok(step(*rows.eval_mod.get(i).ok_or(RANGE)?)?.log2())
        };
        let target = bits(3)? + f64::from(tuning.power_excess) / 16.0;
        let t2 = (target + bits(2)?) / 2.0;
        let u = (t2 + bits(1)?) / 2.0;
        let y = power(sixteenths((u + bits(0)?) / 2.0))?;

        // value n'·(N/2n')·2·w = N·w, for any number of used slots.
        let half_width = Scale::from_f64(tuning.cosine.half_width()).ok_or(RANGE)?;
        let gain = Scale::power_of_two(params.log_n() as i32)
            .and_then(|n| n.times(half_width))
            .ok_or(RANGE)?;
        let cts_total = y
            .times(product(&rows.cts)?)
            .and_then(|s| s.over(gain)?.over(raised))
            .ok_or(RANGE)?;

        // sin(2π m/q0) = (2π/q0)·m for the integer m = message · scale of row 0.
        let tau = Scale::from_f64(std::f64::consts::TAU).ok_or(RANGE)?;
        let sine = params
            .scale(rows.out)?
            .times(raised)
            .and_then(|s| s.over(tau.times(bottom)?))
            .ok_or(RANGE)?;
        // Each doubling squares the scale and divides by its row: square roots, exact to f64's rounding, lead back to the value.
        let mut value = sine.to_f64();
        for &level in rows.eval_mod.iter().skip(6).rev() {
            value = (value * step(level)?.to_f64()).sqrt();
        }
        Ok(ScalePlan {
            stc: spread(stc_total, rows.stc.len())?,
            raised,
            cts: spread(cts_total, rows.cts.len())?,
            y,
            value: Scale::from_f64(value).ok_or(RANGE)?,
            sine,
            ratio: raised.over(bottom).ok_or(RANGE)?.to_f64(),
        })
    }
}
