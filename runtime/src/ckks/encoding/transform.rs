//! The special transform and its factors.

use super::twiddles::UnitRoots;
use super::{fft, Complex, EncodingError};
use crate::ring::InstructionSet;

/// Twiddles of the special transform of every length up to 2^log_slots; the map itself is specified in the module's documentation.
pub struct SlotTransform {
    log_slots: u32,
    /// Stage len (2, 4, …) at len/2 - 1: the w_j of that stage, j < len/2. Stages do not depend on the length of the transform.
    re: Vec<f64>,
    im: Vec<f64>,
}

/// One diagonal of a stage as a matrix on slots: output i takes `values[i]` · input (i + offset mod slots).
#[derive(Clone, Debug, PartialEq)]
pub struct StageDiagonal {
    /// Distance from output to input position, a left rotation.
    pub offset: i64,
    /// One factor per output position.
    pub values: Vec<Complex>,
}

impl SlotTransform {
    /// Tables for transforms of up to 2^log_slots slots.
    pub fn new(log_slots: u32) -> Result<SlotTransform, EncodingError> {
        if !(1..=16).contains(&log_slots) {
            return Err(EncodingError::RingSize {
                found: log_slots + 1,
            });
        }
        let roots = UnitRoots::new(log_slots + 2);
        let slots = 1usize << log_slots;
        let (mut re, mut im) = (Vec::with_capacity(slots), Vec::with_capacity(slots));
        for log_len in 1..=log_slots {
            let order = 4u64 << log_len;
            let mut exponent = 1;
            for _ in 0..1 << (log_len - 1) {
                let w = roots.get(exponent << (log_slots - log_len));
                re.push(w.re);
                im.push(w.im);
                exponent = exponent * 5 % order;
            }
        }
        Ok(SlotTransform { log_slots, re, im })
    }

    /// Base-two logarithm of the largest transform.
    pub fn log_slots(&self) -> u32 {
        self.log_slots
    }

    /// The twiddles w_j of stage len = 2^log_len as (real parts, imaginary parts), j < len/2; empty beyond the largest stage.
    pub fn stage(&self, log_len: u32) -> (&[f64], &[f64]) {
        if !(1..=self.log_slots).contains(&log_len) {
            return (&[], &[]);
        }
        let half = 1usize << (log_len - 1);
        let range = half - 1..2 * half - 1;
        (&self.re[range.clone()], &self.im[range])
    }

    /// The stage S_len (`inverse` = false) or T_len/2 = S_len⁻¹ (`inverse` = true), len = 2^log_len, as the diagonals of a matrix on
    /// 2^log_slots slots, offsets 0, +len/2, -len/2. For len = slots the two outer ones are the same rotation and come as one.
    /// Empty unless 1 ≤ log_len ≤ log_slots ≤ the table's.
    pub fn stage_diagonals(
        &self,
        log_len: u32,
        log_slots: u32,
        inverse: bool,
    ) -> Vec<StageDiagonal> {
        if log_len < 1 || log_len > log_slots || log_slots > self.log_slots {
            return Vec::new();
        }
        let (wr, wi) = self.stage(log_len);
        let half = 1usize << (log_len - 1);
        let build = |offset: i64, entry: &dyn Fn(bool, Complex) -> Complex| StageDiagonal {
            offset,
            values: (0..1usize << log_slots)
                .map(|i| {
                    let j = i & (half - 1);
                    entry(i & half != 0, Complex::new(wr[j], wi[j]))
                })
                .collect(),
        };
        let zero = Complex::default();
        let one = Complex::new(1.0, 0.0);
        let scaled = |w: Complex, f: f64, g: f64| Complex::new(w.re * f, w.im * g);
        let main = build(0, &|upper, w| match (upper, inverse) {
            (false, false) => one,
            (true, false) => scaled(w, -1.0, -1.0),
            (false, true) => Complex::new(0.5, 0.0),
            (true, true) => scaled(w, -0.5, 0.5),
        });
        let right = build(half as i64, &|upper, w| match (upper, inverse) {
            (true, _) => zero,
            (false, false) => w,
            (false, true) => Complex::new(0.5, 0.0),
        });
        let mut left = build(-(half as i64), &|upper, w| match (upper, inverse) {
            (false, _) => zero,
            (true, false) => one,
            (true, true) => scaled(w, 0.5, -0.5),
        });
        if log_len == log_slots {
            // +half and -half are one rotation of the whole vector; each position is non-zero in exactly one of the two.
            for (i, (l, r)) in left.values.iter_mut().zip(&right.values).enumerate() {
                if i & half == 0 {
                    *l = *r;
                }
            }
            left.offset = half as i64;
            return vec![main, left];
        }
        vec![main, right, left]
    }

    /// Coefficients c_k (k < n) to slots, in place; the length is a power of two up to the table's.
    pub fn special_fft(&self, values: &mut [Complex]) -> Result<(), EncodingError> {
        self.through_parts(values, |re, im| {
            self.forward_parts(InstructionSet::detect(), re, im)
        })
    }

    /// Slots to coefficients c_k, in place: the inverse of [`SlotTransform::special_fft`].
    pub fn special_ifft(&self, values: &mut [Complex]) -> Result<(), EncodingError> {
        self.through_parts(values, |re, im| {
            self.inverse_parts(InstructionSet::detect(), re, im)
        })
    }

    fn through_parts(
        &self,
        values: &mut [Complex],
        run: impl Fn(&mut Vec<f64>, &mut Vec<f64>),
    ) -> Result<(), EncodingError> {
        self.check_length(values.len())?;
        let mut re: Vec<f64> = values.iter().map(|v| v.re).collect();
        let mut im: Vec<f64> = values.iter().map(|v| v.im).collect();
        run(&mut re, &mut im);
        for (v, (re, im)) in values.iter_mut().zip(re.into_iter().zip(im)) {
            *v = Complex { re, im };
        }
        Ok(())
    }

    pub(super) fn check_length(&self, found: usize) -> Result<(), EncodingError> {
        let most = 1 << self.log_slots;
        if found.is_power_of_two() && found <= most {
            Ok(())
        } else {
            Err(EncodingError::SlotCount { found, most })
        }
    }

    /// Special transform on separate real and imaginary parts, of one checked length.
    pub(super) fn forward_parts(&self, set: InstructionSet, re: &mut Vec<f64>, im: &mut Vec<f64>) {
        fft::forward(set, self, re, im);
    }

    /// Its inverse.
    pub(super) fn inverse_parts(&self, set: InstructionSet, re: &mut Vec<f64>, im: &mut Vec<f64>) {
        fft::inverse(set, self, re, im);
    }
}
