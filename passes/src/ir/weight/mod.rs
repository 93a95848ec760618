//! The matrix of a linear map: numbers, or what they are made of. A matrix of a model stays where the model keeps it ([`Stored`]) while
//! passes scale, centre, choose and sign its rows and columns; what is applied to it is a few vectors.
//!
//! Small matrices are numbers always: there a dense form costs nothing and is easier to read.

mod choice;
mod numbers;
mod products;
mod stored;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shape::Matrix;

pub use choice::Choice;
pub use numbers::{Bind, Numbered, Numbers};
pub use stored::Stored;

/// Elements from which on a matrix is kept by what it is made of, and vectors of a linear map by the elements they take.
pub const LARGE: usize = 1 << 16;
/// Numbers decoded at once where a matrix is read from one end to the other.
const PANEL: usize = 1 << 20;

/// The matrix of a linear map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Weight {
    /// Its numbers.
    Dense(Matrix),
    /// One number per column.
    Choice(Choice),
    /// I − 11ᵀ/n: takes the mean off.
    Centring(usize),
    /// Numbers kept elsewhere, and what is done to them.
    Stored(Stored),
}

impl From<Matrix> for Weight {
    fn from(m: Matrix) -> Weight {
        Weight::Dense(m)
    }
}

/// Equal elements, whatever they are made of.
impl PartialEq for Weight {
    fn eq(&self, other: &Weight) -> bool {
        if self.size() != other.size() {
            return false;
        }
        match (self, other) {
            (Weight::Dense(a), Weight::Dense(b)) => return a.data == b.data,
            (Weight::Centring(_), Weight::Centring(_)) => return true,
            (Weight::Stored(a), Weight::Stored(b)) if a.same_make(b) => return true,
            _ => {}
        }
        let (rows, cols) = self.size();
        let step = (PANEL / cols.max(1)).clamp(1, 64);
        (0..rows).step_by(step).all(|from| {
            let range = from..(from + step).min(rows);
            self.panel(range.clone()) == other.panel(range)
        })
    }
}

impl Weight {
    /// The unit matrix.
    pub fn identity(n: usize) -> Weight {
        Weight::diagonal(&vec![1.0; n])
    }

    /// A diagonal matrix.
    pub fn diagonal(factors: &[f64]) -> Weight {
        Weight::choice(Choice {
            rows: factors.len(),
            from: (0..factors.len() as u32).collect(),
            factor: factors.to_vec(),
        })
    }

    /// One number per column; as numbers where they are few.
    pub fn choice(choice: Choice) -> Weight {
        let small = choice.rows * choice.from.len() < LARGE;
        let weight = Weight::Choice(choice);
        match small {
            true => Weight::Dense(weight.dense()),
            false => weight,
        }
    }

    /// I − 11ᵀ/n.
    pub fn centring(n: usize) -> Weight {
        match n * n < LARGE {
            true => Weight::Dense(Weight::Centring(n).dense()),
            false => Weight::Centring(n),
        }
    }

    /// All numbers of a base of `cols` columns as they are; `None` if they are no whole rows.
    pub fn stored(base: Arc<dyn Numbers>, cols: usize) -> Option<Weight> {
        let rows = base.len().checked_div(cols)?;
        (rows * cols == base.len()).then_some(Weight::Stored(Stored {
            base,
            base_cols: cols,
            rows,
            cols,
            pick: None,
            factor: 1.0,
            row: None,
            col: None,
            mean: None,
        }))
    }

    /// (rows, columns).
    pub fn size(&self) -> (usize, usize) {
        match self {
            Weight::Dense(m) => (m.rows, m.cols),
            Weight::Choice(c) => (c.rows, c.from.len()),
            Weight::Centring(n) => (*n, *n),
            Weight::Stored(s) => (s.rows, s.cols),
        }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.size().0
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.size().1
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.rows() * self.cols()
    }

    /// Whether what it is made of fits together: lengths, and numbers that are finite where they are few.
    pub fn well_formed(&self) -> bool {
        let finite = |v: &[f64]| v.iter().all(|x| x.is_finite());
        match self {
            Weight::Dense(m) => m.data.len() == m.rows * m.cols && finite(&m.data),
            Weight::Choice(c) => {
                c.from.len() == c.factor.len()
                    && c.from.iter().all(|r| (*r as usize) < c.rows)
                    && finite(&c.factor)
            }
            Weight::Centring(n) => *n > 0,
            Weight::Stored(s) => s.well_formed(),
        }
    }

    /// The rows in `range`, one after the other.
    pub fn panel(&self, range: Range<usize>) -> Vec<f64> {
        let mut out = vec![0.0; range.len() * self.cols()];
        self.read(range, &mut out);
        out
    }

    /// Writes the rows in `range`, one after the other.
    fn read(&self, range: Range<usize>, out: &mut [f64]) {
        let cols = self.cols();
        match self {
            Weight::Dense(m) => out.copy_from_slice(&m.data[range.start * cols..range.end * cols]),
            Weight::Choice(choice) => {
                out.fill(0.0);
                for (c, (from, factor)) in choice.from.iter().zip(&choice.factor).enumerate() {
                    if range.contains(&(*from as usize)) {
                        out[(*from as usize - range.start) * cols + c] = *factor;
                    }
                }
            }
            Weight::Centring(n) => {
                out.fill(-1.0 / *n as f64);
                for r in range.clone() {
                    out[(r - range.start) * cols + r] = 1.0 - 1.0 / *n as f64;
                }
            }
            Weight::Stored(s) => s.panel(range, out),
        }
    }

    /// Element (r, c).
    pub fn at(&self, r: usize, c: usize) -> f64 {
        match self {
            Weight::Dense(m) => m.at(r, c),
            Weight::Stored(s) => s.at(r, c),
            Weight::Choice(choice) => match choice.from[c] as usize == r {
                true => choice.factor[c],
                false => 0.0,
            },
            Weight::Centring(n) => f64::from(u8::from(r == c)) - 1.0 / *n as f64,
        }
    }

    /// Calls `f` with the first row and the numbers of some rows at a time.
    pub fn for_panels(&self, mut f: impl FnMut(usize, &[f64])) {
        let cols = self.cols();
        let step = (PANEL / cols.max(1)).clamp(1, self.rows().max(1));
        let mut panel = vec![0.0; step * cols];
        for from in (0..self.rows()).step_by(step) {
            let rows = from..(from + step).min(self.rows());
            let panel = &mut panel[..rows.len() * cols];
            self.read(rows, panel);
            f(from, panel);
        }
    }

    /// All numbers.
    pub fn dense(&self) -> Matrix {
        Matrix {
            rows: self.rows(),
            cols: self.cols(),
            data: self.panel(0..self.rows()),
        }
    }

    /// Every element times `factor`.
    pub fn scale(&mut self, factor: f64) {
        match self {
            Weight::Dense(m) => m.data.iter_mut().for_each(|x| *x *= factor),
            Weight::Choice(c) => c.factor.iter_mut().for_each(|x| *x *= factor),
            Weight::Stored(s) => s.factor *= factor,
            Weight::Centring(_) if factor == 1.0 => {}
            Weight::Centring(_) => {
                let mut dense = self.dense();
                dense.data.iter_mut().for_each(|x| *x *= factor);
                *self = Weight::Dense(dense);
            }
        }
    }

    /// Largest sum of squares of a column.
    pub fn largest_column_square(&self) -> f64 {
        let mut columns = vec![0.0; self.cols()];
        self.for_panels(|_, panel| {
            for row in panel.chunks_exact(columns.len().max(1)) {
                let pairs = columns.iter_mut().zip(row);
                pairs.for_each(|(sum, x)| *sum += x * x);
            }
        });
        columns.into_iter().fold(0.0, f64::max)
    }

    /// Whether column `c` holds a number other than 0. Columns of numbers kept elsewhere are taken not to be empty.
    pub fn uses(&self, c: usize) -> bool {
        match self {
            Weight::Dense(m) => (0..m.rows).any(|r| m.at(r, c) != 0.0),
            Weight::Choice(choice) => choice.factor[c] != 0.0,
            Weight::Centring(_) => true,
            Weight::Stored(s) => s.col.as_ref().is_none_or(|col| col[c] != 0.0),
        }
    }

    /// Puts the columns that `other` uses in place of those here.
    pub fn take_columns(&mut self, other: &Weight) {
        if let (Weight::Stored(a), Weight::Stored(b)) = (&*self, other) {
            if let Some(made) = a.with_columns(b) {
                *self = Weight::Stored(made);
                return;
            }
        }
        let mut dense = self.dense();
        let used: Vec<usize> = (0..other.cols()).filter(|c| other.uses(*c)).collect();
        other.for_panels(|from, panel| {
            for (i, row) in panel.chunks_exact(dense.cols.max(1)).enumerate() {
                let to = &mut dense.data[(from + i) * dense.cols..];
                used.iter().for_each(|c| to[*c] = row[*c]);
            }
        });
        *self = Weight::Dense(dense);
    }

    /// Puts `bind`'s numbers in place of those kept elsewhere; fails with those that it does not know.
    pub fn rebase(&mut self, bind: &mut Bind<'_>) -> Result<(), Arc<dyn Numbers>> {
        if let Weight::Stored(s) = self {
            s.base = bind(&s.base).ok_or_else(|| Arc::clone(&s.base))?;
        }
        Ok(())
    }
}
