//! Matrices that stay where the model keeps them: what passes do to rows and columns is kept beside, as a few vectors.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Numbered, Numbers, Weight};
use crate::ir::product::{add_product, Strides};

/// Numbers that one thread reads at a time.
const BLOCK: usize = 1 << 16;
/// Columns and rows of what a product reads at a time: 4 MiB, held in the last cache.
const COLUMNS: usize = 2048;
const ROWS: usize = 256;

/// Element (r, c) is factor · row\[r\] · col\[c\] · (base\[r, pick\[c\]\] − mean\[r\]); what is `None` changes nothing.
#[derive(Clone, Debug)]
pub struct Stored {
    /// `rows × base_cols` numbers, row by row.
    pub base: Arc<dyn Numbers>,
    /// Columns of the base.
    pub base_cols: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// The column of the base for each column.
    pub pick: Option<Arc<[u32]>>,
    /// One for all elements.
    pub factor: f64,
    /// One per row.
    pub row: Option<Arc<[f64]>>,
    /// One per column.
    pub col: Option<Arc<[f64]>>,
    /// One per row.
    pub mean: Option<Arc<[f64]>>,
}

impl Stored {
    pub(super) fn well_formed(&self) -> bool {
        let fits = |v: &Option<Arc<[f64]>>, n: usize| {
            v.as_ref()
                .is_none_or(|v| v.len() == n && v.iter().all(|x| x.is_finite()))
        };
        let picks = match &self.pick {
            None => self.cols == self.base_cols,
            Some(p) => p.len() == self.cols && p.iter().all(|c| (*c as usize) < self.base_cols),
        };
        picks
            && self.rows.checked_mul(self.base_cols) == Some(self.base.len())
            && self.factor.is_finite()
            && fits(&self.row, self.rows)
            && fits(&self.col, self.cols)
            && fits(&self.mean, self.rows)
    }

    /// Whether two matrices are made of the same numbers in the same way.
    pub(super) fn same_make(&self, other: &Stored) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
            && (self.base_cols, &self.pick) == (other.base_cols, &other.pick)
            && (self.factor, &self.row) == (other.factor, &other.row)
            && (&self.col, &self.mean) == (&other.col, &other.mean)
    }

    /// Whether columns of both are columns of one matrix, up to their factors.
    pub fn same_rows(&self, other: &Stored) -> bool {
        Arc::ptr_eq(&self.base, &other.base)
            && (self.base_cols, self.factor) == (other.base_cols, other.factor)
            && (&self.row, &self.mean) == (&other.row, &other.mean)
    }

    /// The column of the base that column `c` is.
    pub fn picked(&self, c: usize) -> u32 {
        self.pick.as_ref().map_or(c as u32, |p| p[c])
    }

    /// The factor of column `c`.
    pub fn column_factor(&self, c: usize) -> f64 {
        self.col.as_ref().map_or(1.0, |col| col[c])
    }

    pub(super) fn at(&self, r: usize, c: usize) -> f64 {
        let mut x = [0.0];
        let at = r * self.base_cols + self.picked(c) as usize;
        self.base.fill(at, &mut x);
        self.row_factor(r)
            * self.column_factor(c)
            * (x[0] - self.mean.as_ref().map_or(0.0, |m| m[r]))
    }

    fn row_factor(&self, r: usize) -> f64 {
        self.factor * self.row.as_ref().map_or(1.0, |row| row[r])
    }

    /// The rows in `range`, one after the other.
    pub(super) fn panel(&self, range: Range<usize>, out: &mut [f64]) {
        let share = (BLOCK / self.cols.max(1)).max(1);
        let parts = out.par_chunks_mut(share * self.cols.max(1)).enumerate();
        parts.for_each(|(part, out)| {
            let from = range.start + part * share;
            let rows = from..(from + share).min(range.end);
            self.block(rows, 0..self.cols, out, &mut Vec::new());
        });
    }

    /// The columns `cols` of the rows in `rows`, row by row. `whole` is room for a row as it is kept.
    fn block(&self, rows: Range<usize>, cols: Range<usize>, out: &mut [f64], whole: &mut Vec<f64>) {
        for (r, out) in rows.zip(out.chunks_exact_mut(cols.len().max(1))) {
            let start = r * self.base_cols;
            match &self.pick {
                None => self.base.fill(start + cols.start, out),
                Some(pick) => {
                    whole.resize(self.base_cols, 0.0);
                    self.base.fill(start, whole);
                    let both = out.iter_mut().zip(&pick[cols.clone()]);
                    both.for_each(|(o, c)| *o = whole[*c as usize]);
                }
            }
            let (factor, mean) = (self.row_factor(r), self.mean.as_ref().map_or(0.0, |m| m[r]));
            match &self.col {
                Some(col) => {
                    let both = out.iter_mut().zip(&col[cols.clone()]);
                    both.for_each(|(x, c)| *x = factor * c * (*x - mean));
                }
                None if factor != 1.0 || mean != 0.0 => {
                    out.iter_mut().for_each(|x| *x = factor * (*x - mean));
                }
                None => {}
            }
        }
    }

    /// out += x · self for a row-major x of `rows` rows. Each thread reads and multiplies columns of its own; the sums do not depend on
    /// how many threads there are.
    pub(super) fn add_product(&self, x: &[f64], rows: usize, out: &mut [f64]) {
        let (k, n) = (self.rows, self.cols);
        let firsts: Vec<usize> = (0..n).step_by(COLUMNS).collect();
        let parts: Vec<Vec<f64>> = firsts
            .par_iter()
            .map(|&first| {
                let cols = first..(first + COLUMNS).min(n);
                let (width, mut whole) = (cols.len(), Vec::new());
                let mut sums = vec![0.0; rows * width];
                let mut block = vec![0.0; ROWS.min(k) * width];
                for from in (0..k).step_by(ROWS) {
                    let some = ROWS.min(k - from);
                    let block = &mut block[..some * width];
                    self.block(from..from + some, cols.clone(), block, &mut whole);
                    let a = Strides {
                        start: from,
                        rows: k,
                        cols: 1,
                    };
                    let b = Strides::dense(width);
                    add_product((rows, some, width), (x, a), (block, b), (&mut sums, b));
                }
                sums
            })
            .collect();
        for (first, sums) in firsts.into_iter().zip(parts) {
            let width = COLUMNS.min(n - first);
            for (out, sums) in out.chunks_exact_mut(n).zip(sums.chunks_exact(width)) {
                let both = out[first..].iter_mut().zip(sums);
                both.for_each(|(o, s)| *o += s);
            }
        }
    }

    /// Column c of the result is `factor[c]` times column `from[c]`.
    pub fn columns(&self, from: &[u32], factor: &[f64]) -> Stored {
        let col: Vec<f64> = from
            .iter()
            .zip(factor)
            .map(|(c, f)| f * self.column_factor(*c as usize))
            .collect();
        let pick: Vec<u32> = from.iter().map(|c| self.picked(*c as usize)).collect();
        let straight =
            pick.len() == self.base_cols && pick.iter().zip(0u32..).all(|(p, c)| *p == c);
        Stored {
            cols: from.len(),
            pick: (!straight).then(|| pick.into()),
            col: col.iter().any(|f| *f != 1.0).then(|| col.into()),
            ..self.clone()
        }
    }

    pub(super) fn rows_times(&self, factors: &[f64]) -> Stored {
        Stored {
            row: Some(times(&self.row, factors)),
            ..self.clone()
        }
    }

    /// Rows less their means, where columns have no factors.
    pub(super) fn centred(&self) -> Option<Stored> {
        if self.col.is_some() {
            return None;
        }
        let mut mean = Vec::with_capacity(self.rows);
        let plain = Weight::Stored(Stored {
            factor: 1.0,
            row: None,
            ..self.clone()
        });
        plain.for_panels(|_, panel| {
            let rows = panel.chunks_exact(self.cols.max(1));
            mean.extend(rows.map(|row| row.iter().sum::<f64>() / self.cols as f64));
        });
        let before = self.mean.iter().flat_map(|m| m.iter());
        mean.iter_mut().zip(before).for_each(|(m, b)| *m += b);
        Some(Stored {
            mean: Some(mean.into()),
            ..self.clone()
        })
    }

    /// The columns that `other` uses in place of those here, if both are columns of one matrix.
    pub(super) fn with_columns(&self, other: &Stored) -> Option<Stored> {
        if !self.same_rows(other) || self.cols != other.cols {
            return None;
        }
        let taken = |c: usize| match other.column_factor(c) != 0.0 {
            true => other,
            false => self,
        };
        Some(Stored {
            pick: Some((0..self.cols).map(|c| taken(c).picked(c)).collect()),
            col: Some((0..self.cols).map(|c| taken(c).column_factor(c)).collect()),
            ..self.clone()
        })
    }
}

/// a · b, where what is `None` is 1.
fn times(a: &Option<Arc<[f64]>>, b: &[f64]) -> Arc<[f64]> {
    match a {
        None => b.into(),
        Some(a) => a.iter().zip(b).map(|(x, y)| x * y).collect(),
    }
}

/// What of a [`Stored`] matrix is written: its base by number.
#[derive(Serialize, Deserialize)]
struct Written {
    base: Numbered,
    size: (usize, usize, usize),
    pick: Option<Vec<u32>>,
    factor: f64,
    row: Option<Vec<f64>>,
    col: Option<Vec<f64>>,
    mean: Option<Vec<f64>>,
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let base = self.base.as_any().downcast_ref::<Numbered>();
        let base = base.ok_or_else(|| S::Error::custom("numbers that were given no number"))?;
        let list = |v: &Option<Arc<[f64]>>| v.as_ref().map(|v| v.to_vec());
        Written {
            base: *base,
            size: (self.rows, self.base_cols, self.cols),
            pick: self.pick.as_ref().map(|p| p.to_vec()),
            factor: self.factor,
            row: list(&self.row),
            col: list(&self.col),
            mean: list(&self.mean),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let w = Written::deserialize(deserializer)?;
        let (rows, base_cols, cols) = w.size;
        let stored = Stored {
            base: Arc::new(w.base),
            base_cols,
            rows,
            cols,
            pick: w.pick.map(Into::into),
            factor: w.factor,
            row: w.row.map(Into::into),
            col: w.col.map(Into::into),
            mean: w.mean.map(Into::into),
        };
        match stored.well_formed() {
            true => Ok(stored),
            false => Err(D::Error::custom("a matrix whose parts do not fit")),
        }
    }
}
