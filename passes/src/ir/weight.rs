//! The matrix of a linear map: numbers, or what they are made of. A matrix of a model stays where the model keeps it ([`Stored`]) while
//! passes scale, centre, choose and sign its rows and columns; what is applied to it is a few vectors.
//!
//! Small matrices are numbers always: there a dense form costs nothing and is easier to read.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::product::{add_product, Strides};
use super::shape::Matrix;

/// Elements from which on a matrix is kept by what it is made of, and vectors of a linear map by the elements they take.
pub const LARGE: usize = 1 << 16;
/// Numbers decoded at once where a matrix is read from one end to the other.
const PANEL: usize = 1 << 20;

/// Numbers kept elsewhere: the weights of a model file, for instance.
pub trait Numbers: Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads the numbers from `start` on, which must exist.
    fn fill(&self, start: usize, out: &mut [f64]);
    /// For whoever made them.
    fn as_any(&self) -> &dyn Any;
}

/// Gives other numbers for some; `None` for those it does not know.
pub type Bind<'a> = dyn FnMut(&Arc<dyn Numbers>) -> Option<Arc<dyn Numbers>> + 'a;

/// In place of numbers that somebody else keeps: what is written to a file and bound again after reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Which numbers.
    pub index: u32,
    /// How many there are.
    pub len: usize,
}

impl Numbers for Numbered {
    fn len(&self) -> usize {
        self.len
    }

    fn fill(&self, _: usize, out: &mut [f64]) {
        out.fill(f64::NAN);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

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

/// Column c holds `factor[c]` in row `from[c]` and nothing else: diagonal matrices, choices and signs of columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// Rows.
    pub rows: usize,
    /// One per column, below `rows`.
    pub from: Vec<u32>,
    /// One per column.
    pub factor: Vec<f64>,
}

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
        let cols = self.cols();
        let mut out = vec![0.0; range.len() * cols];
        match self {
            Weight::Dense(m) => out.copy_from_slice(&m.data[range.start * cols..range.end * cols]),
            Weight::Choice(choice) => {
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
            Weight::Stored(s) => s.panel(range, &mut out),
        }
        out
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
        let step = (PANEL / self.cols().max(1)).max(1);
        for from in (0..self.rows()).step_by(step) {
            f(from, &self.panel(from..(from + step).min(self.rows())));
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
            Weight::Stored(_) => self.for_panels(|from, panel| {
                let some = panel.len() / n.max(1);
                // As many rows for each thread; a row's sum does not depend on how many there are.
                let share = rows.div_ceil(rayon::current_num_threads()).max(1);
                let parts = out.par_chunks_mut(share * n).enumerate();
                parts.for_each(|(part, out)| {
                    let first = part * share;
                    let a = Strides {
                        start: first * k + from,
                        rows: k,
                        cols: 1,
                    };
                    let b = Strides::dense(n);
                    add_product((out.len() / n, some, n), (x, a), (panel, b), (out, b));
                });
            }),
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

impl Choice {
    fn columns(&self, other: &Choice) -> Choice {
        let picks = || other.from.iter().map(|c| *c as usize).zip(&other.factor);
        Choice {
            rows: self.rows,
            from: picks().map(|(c, _)| self.from[c]).collect(),
            factor: picks().map(|(c, f)| f * self.factor[c]).collect(),
        }
    }

    /// The factors, where column c takes row c and there are as many.
    fn diagonal(&self) -> Option<&[f64]> {
        let straight = self.from.iter().zip(0u32..).all(|(f, c)| *f == c);
        (straight && self.from.len() == self.rows).then_some(&self.factor)
    }
}

/// a · b, where what is `None` is 1.
fn times(a: &Option<Arc<[f64]>>, b: &[f64]) -> Arc<[f64]> {
    match a {
        None => b.into(),
        Some(a) => a.iter().zip(b).map(|(x, y)| x * y).collect(),
    }
}

impl Stored {
    fn well_formed(&self) -> bool {
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
    fn same_make(&self, other: &Stored) -> bool {
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

    fn at(&self, r: usize, c: usize) -> f64 {
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

    fn panel(&self, range: Range<usize>, out: &mut [f64]) {
        let mut whole = Vec::new();
        let base = match &self.pick {
            None => &mut *out,
            Some(_) => {
                whole.resize(range.len() * self.base_cols, 0.0);
                &mut whole[..]
            }
        };
        self.base.fill(range.start * self.base_cols, base);
        if let Some(pick) = &self.pick {
            let rows = whole.chunks_exact(self.base_cols.max(1));
            for (out, row) in out.chunks_exact_mut(self.cols.max(1)).zip(rows) {
                let both = out.iter_mut().zip(pick.iter());
                both.for_each(|(o, c)| *o = row[*c as usize]);
            }
        }
        for (r, out) in range.zip(out.chunks_exact_mut(self.cols.max(1))) {
            let (factor, mean) = (self.row_factor(r), self.mean.as_ref().map_or(0.0, |m| m[r]));
            match &self.col {
                Some(col) => {
                    let both = out.iter_mut().zip(col.iter());
                    both.for_each(|(x, c)| *x = factor * c * (*x - mean));
                }
                None if factor != 1.0 || mean != 0.0 => {
                    out.iter_mut().for_each(|x| *x = factor * (*x - mean));
                }
                None => {}
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

    fn rows_times(&self, factors: &[f64]) -> Stored {
        Stored {
            row: Some(times(&self.row, factors)),
            ..self.clone()
        }
    }

    /// Rows less their means, where columns have no factors.
    fn centred(&self) -> Option<Stored> {
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
    fn with_columns(&self, other: &Stored) -> Option<Stored> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Held(Vec<f64>);

    impl Numbers for Held {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn fill(&self, start: usize, out: &mut [f64]) {
            out.copy_from_slice(&self.0[start..start + out.len()]);
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    fn numbers(n: usize) -> Vec<f64> {
        (0..n)
            .map(|i| ((i * 37 % 101) as f64 - 50.0) / 32.0)
            .collect()
    }

    fn stored(rows: usize, cols: usize) -> Weight {
        Weight::stored(Arc::new(Held(numbers(rows * cols))), cols).expect("whole rows")
    }

    fn close(a: &Weight, b: &Matrix) {
        let a = a.dense();
        assert_eq!((a.rows, a.cols), (b.rows, b.cols));
        for (x, y) in a.data.iter().zip(&b.data) {
            assert!((x - y).abs() < 1e-12, "{x} for {y}");
        }
    }

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        let mut out = Matrix::zeros(a.rows, b.cols);
        for r in 0..a.rows {
            for c in 0..b.cols {
                out.data[r * b.cols + c] = (0..a.cols).map(|k| a.at(r, k) * b.at(k, c)).sum();
            }
        }
        out
    }

    /// Columns moved, signed and left out; a diagonal; centring; and scaling, in the order in which passes do it.
    #[test]
    fn what_is_done_to_a_stored_matrix_is_done_to_its_numbers() {
        let (rows, cols) = (5, 6);
        let choice = Weight::Choice(Choice {
            rows: cols,
            from: vec![3, 2, 2, 0],
            factor: vec![1.0, -1.0, 0.0, 0.5],
        });
        let diagonal = Weight::Choice(Choice {
            rows,
            from: (0..rows as u32).collect(),
            factor: vec![2.0, -1.0, 0.5, 3.0, 1.0],
        });
        let mut made = stored(rows, cols);
        let mut plain = made.dense();
        for other in [Weight::Centring(cols), choice] {
            plain = product(&plain, &other.dense());
            made = made.then(&other);
            close(&made, &plain);
        }
        plain = product(&diagonal.dense(), &plain);
        made = diagonal.then(&made);
        made.scale(0.25);
        plain.data.iter_mut().for_each(|x| *x *= 0.25);
        close(&made, &plain);
        assert!(matches!(made, Weight::Stored(_)));
        assert!((made.at(2, 1) - plain.at(2, 1)).abs() < 1e-12);
        assert!(made.uses(0) && !made.uses(2));
    }

    #[test]
    fn products_with_every_kind_of_matrix_equal_those_with_its_numbers() {
        let x = numbers(3 * 6);
        for weight in [
            stored(6, 4),
            Weight::Centring(6),
            Weight::diagonal(&[2.0; 6]),
        ] {
            let mut found = vec![1.0; 3 * weight.cols()];
            weight.add_product(&x, 3, &mut found);
            let left = Matrix {
                rows: 3,
                cols: 6,
                data: x.clone(),
            };
            let wanted = product(&left, &weight.dense());
            for (f, w) in found.iter().zip(&wanted.data) {
                assert!((f - w - 1.0).abs() < 1e-12, "{f} for {w} + 1");
            }
        }
    }

    #[test]
    fn matrices_are_equal_by_their_elements() {
        let a = stored(4, 4);
        assert_eq!(a, Weight::Dense(a.dense()));
        let mut b = a.clone();
        b.scale(2.0);
        assert_ne!(a, b);
    }

    #[test]
    fn parts_that_do_not_fit_are_no_matrix() {
        let Weight::Stored(good) = stored(4, 4) else {
            return;
        };
        let broken = [
            Stored {
                rows: 5,
                ..good.clone()
            },
            Stored {
                cols: 3,
                ..good.clone()
            },
            Stored {
                pick: Some([0, 1, 2, 4].into()),
                ..good.clone()
            },
            Stored {
                row: Some([1.0].into()),
                ..good.clone()
            },
            Stored {
                factor: f64::NAN,
                ..good.clone()
            },
        ];
        assert!(Weight::Stored(good).well_formed());
        for stored in broken {
            assert!(!Weight::Stored(stored).well_formed());
        }
    }
}
