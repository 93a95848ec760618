//! Linear maps on slots as sums of rotated, multiplied copies: the diagonals of a matrix, by offset.

use crate::ckks::encoding::{Complex, StageDiagonal};
use std::collections::BTreeMap;

/// A linear map on n slots: output i is Σ over offsets o of `diagonal[o][i]` · input (i + o mod n).
/// Diagonals that are zero everywhere are left out. Offsets are in 0..n where the map contains the stage of the largest stride (both ways
/// around are one), and as small as they come, with their sign, otherwise: so they stay few multiples of one stride.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagonals {
    log_slots: u32,
    wraps: bool,
    by_offset: BTreeMap<i64, Vec<Complex>>,
}

impl Diagonals {
    /// The identity on 2^log_slots slots.
    pub fn identity(log_slots: u32) -> Self {
        let ones = vec![Complex::new(1.0, 0.0); 1 << log_slots];
        Self {
            log_slots,
            wraps: false,
            by_offset: BTreeMap::from([(0, ones)]),
        }
    }

    /// One butterfly stage, every entry times `factor`.
    pub fn from_stage(log_slots: u32, stage: &[StageDiagonal], factor: f64) -> Self {
        let half = 1i64 << (log_slots - 1);
        let mut map = Self {
            log_slots,
            wraps: stage.iter().any(|d| d.offset.abs() == half),
            by_offset: BTreeMap::new(),
        };
        for diagonal in stage {
            let sum = map.diagonal_mut(diagonal.offset);
            for (s, v) in sum.iter_mut().zip(&diagonal.values) {
                *s = add(*s, Complex::new(v.re * factor, v.im * factor));
            }
        }
        map
    }

    /// Base-two logarithm of the number of slots.
    pub fn log_slots(&self) -> u32 {
        self.log_slots
    }

    /// Offsets and their diagonals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &[Complex])> {
        self.by_offset.iter().map(|(&o, d)| (o, d.as_slice()))
    }

    /// Number of diagonals.
    pub fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// Whether this is the zero map.
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }

    fn diagonal_mut(&mut self, offset: i64) -> &mut Vec<Complex> {
        let n = 1usize << self.log_slots;
        let offset = match self.wraps {
            true => offset.rem_euclid(n as i64),
            false => offset,
        };
        self.by_offset
            .entry(offset)
            .or_insert_with(|| vec![Complex::default(); n])
    }

    /// The map that applies `first`, then `self`. Entries are sums over pairs of offsets in ascending order, so the same on every machine.
    pub fn after(&self, first: &Diagonals) -> Diagonals {
        let n = 1usize << self.log_slots;
        let mut product = Diagonals {
            log_slots: self.log_slots,
            wraps: self.wraps || first.wraps,
            by_offset: BTreeMap::new(),
        };
        for (&outer, a) in &self.by_offset {
            for (&inner, b) in &first.by_offset {
                let sum = product.diagonal_mut(outer + inner);
                for (i, s) in sum.iter_mut().enumerate() {
                    let b = b[position(i, outer, n)];
                    // Butterflies are half zeros; skipping them keeps -0 and rounding out of exact entries.
                    if !is_zero(a[i]) && !is_zero(b) {
                        *s = add(*s, mul(a[i], b));
                    }
                }
            }
        }
        product
            .by_offset
            .retain(|_, d| d.iter().any(|&v| !is_zero(v)));
        product
    }

    /// The same map on 2^log_slots slots (at least as many as now), for inputs that repeat with the present period or, where the map
    /// does not wrap, for any.
    pub fn repeated(&self, log_slots: u32) -> Diagonals {
        let n = 1usize << log_slots;
        let repeat = |d: &Vec<Complex>| d.iter().copied().cycle().take(n).collect();
        Diagonals {
            log_slots,
            wraps: self.wraps,
            by_offset: self
                .by_offset
                .iter()
                .map(|(&o, d)| (o, repeat(d)))
                .collect(),
        }
    }

    /// The map applied in f64, the oracle of the encrypted one.
    pub fn apply(&self, input: &[Complex]) -> Vec<Complex> {
        let n = 1usize << self.log_slots;
        let mut output = vec![Complex::default(); n];
        for (&offset, diagonal) in &self.by_offset {
            for (i, (out, &d)) in output.iter_mut().zip(diagonal).enumerate() {
                *out = add(*out, mul(d, input[position(i, offset, n)]));
            }
        }
        output
    }
}

/// i + offset modulo n, a power of two.
fn position(i: usize, offset: i64, n: usize) -> usize {
    (i as i64 + offset) as usize & (n - 1)
}

fn is_zero(z: Complex) -> bool {
    z.re == 0.0 && z.im == 0.0
}

pub(crate) fn add(a: Complex, b: Complex) -> Complex {
    Complex::new(a.re + b.re, a.im + b.im)
}

pub(crate) fn mul(a: Complex, b: Complex) -> Complex {
    Complex::new(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re)
}
