//! Products: of two matrices, kept by what they are made of where that can be, and of rows of numbers with a matrix.

use super::Weight;
use crate::ir::product::{add_product, Strides};
use crate::ir::shape::Matrix;

impl Weight {
    /// self · other.
    pub fn then(&self, other: &Weight) -> Weight {
        let made = match (self, other) {
            (Weight::Stored(s), Weight::Choice(c)) => Some(s.columns(&c.from, &c.factor)),
            (Weight::Choice(c), Weight::Stored(s)) => c.diagonal().map(|f| s.rows_times(f)),
            (Weight::Stored(s), Weight::Centring(_)) => s.centred(),
            _ => None,
        };
        if let (Weight::Choice(a), Weight::Choice(b)) = (self, other) {
            return Weight::choice(a.columns(b));
        }
        if let Some(stored) = made {
            return Weight::Stored(stored);
        }
        let cols = other.cols();
        let mut data = vec![0.0; self.rows() * cols];
        match (self, other) {
            (_, Weight::Centring(n)) => {
                data = self.panel(0..self.rows());
                for row in data.chunks_exact_mut(*n) {
                    let mean = row.iter().sum::<f64>() / *n as f64;
                    row.iter_mut().for_each(|x| *x -= mean);
                }
            }
            (_, Weight::Choice(choice)) => {
                let own = self.panel(0..self.rows());
                let rows = data.chunks_exact_mut(cols.max(1));
                for (out, row) in rows.zip(own.chunks_exact(self.cols().max(1))) {
                    let picks = choice.from.iter().zip(&choice.factor);
                    for (o, (from, factor)) in out.iter_mut().zip(picks) {
                        *o = row[*from as usize] * factor;
                    }
                }
            }
            (Weight::Choice(choice), _) => {
                for (c, (from, factor)) in choice.from.iter().zip(&choice.factor).enumerate() {
                    let row = other.panel(c..c + 1);
                    let at = *from as usize * cols;
                    let out = data[at..at + cols].iter_mut();
                    out.zip(row).for_each(|(o, x)| *o += factor * x);
                }
            }
            _ => other.add_product(&self.panel(0..self.rows()), self.rows(), &mut data),
        }
        Weight::Dense(Matrix {
            rows: self.rows(),
            cols,
            data,
        })
    }

    /// out += x · self for a row-major x of `rows` rows.
    pub fn add_product(&self, x: &[f64], rows: usize, out: &mut [f64]) {
        let (k, n) = self.size();
        match self {
            Weight::Dense(m) => {
                let shape = (rows, k, n);
                let (a, b) = (Strides::dense(k), Strides::dense(n));
                add_product(shape, (&x[..rows * k], a), (&m.data, b), (out, b));
            }
            Weight::Choice(choice) => {
                for (out, row) in out.chunks_exact_mut(n.max(1)).zip(x.chunks_exact(k.max(1))) {
                    let picks = choice.from.iter().zip(&choice.factor);
                    for (o, (from, factor)) in out.iter_mut().zip(picks) {
                        *o += row[*from as usize] * factor;
                    }
                }
            }
            Weight::Centring(n) => {
                for (out, row) in out.chunks_exact_mut(*n).zip(x.chunks_exact(*n)) {
                    let mean = row.iter().sum::<f64>() / *n as f64;
                    let both = out.iter_mut().zip(row);
                    both.for_each(|(o, x)| *o += x - mean);
                }
            }
            Weight::Stored(s) => s.add_product(x, rows, out),
        }
    }
}
