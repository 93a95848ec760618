//! Matrices of a program by what they are made of, and the plaintext vectors that take their elements.
//!
//! Element (r, c) is factor · row\[r\] · col\[c\] · (base\[r, pick\[c\]\] − mean\[r\]). Layers of one shape share their vectors, which say which
//! elements they take; the matrix is named by the instruction.

use std::path::Path;

use crate::base::{Base, FloatKind};
use crate::proto::{self, BiasRef, Plaintext, Program};
use crate::verify::VerifyError;
use crate::weights::{Weights, WeightsError};

/// Bounds the elements of one matrix, so that numbers of elements fit the format.
const MAX_ELEMENTS: usize = 1 << 30;

/// A matrix of a program. Cheap to read from; its base stays where it is.
#[derive(Clone, Debug)]
pub struct Matrix {
    base: Base,
    base_cols: usize,
    rows: usize,
    cols: usize,
    pick: Option<Vec<u32>>,
    factor: f64,
    row: Option<Vec<f64>>,
    col: Option<Vec<f64>>,
    mean: Option<Vec<f64>>,
}

/// Consecutive slots that hold elements of equal distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first slot.
    pub slot: usize,
    /// How many slots.
    pub count: usize,
    /// The element in the first slot, row by row.
    pub element: usize,
    /// From element to element.
    pub step: i64,
}

/// The runs of a vector as the format keeps them: slot, count, element and step of each.
pub fn runs(vector: &Plaintext) -> impl Iterator<Item = Run> + '_ {
    vector.run.chunks_exact(4).map(|r| Run {
        slot: r[0].max(0) as usize,
        count: r[1].max(0) as usize,
        element: r[2].max(0) as usize,
        step: i64::from(r[3]),
    })
}

/// One more than the largest element that a vector takes. Fails where its runs do not describe slots of a vector.
pub fn reach(index: u32, vector: &Plaintext) -> Result<usize, WeightsError> {
    let bad = WeightsError::Runs { index };
    let numbers = &vector.run;
    if !numbers.len().is_multiple_of(4) || vector.offset != 0 || vector.single {
        return Err(bad);
    }
    let mut least = 0;
    let mut reach = 0;
    for (run, r) in runs(vector).zip(numbers.chunks_exact(4)) {
        let end = run.slot.checked_add(run.count);
        let far = i64::try_from(run.count).ok().map(|n| n - 1);
        let last = far.and_then(|n| run.step.checked_mul(n)?.checked_add(run.element as i64));
        let last = last.and_then(|l| usize::try_from(l).ok());
        let (Some(end), Some(last)) = (end, last) else {
            return Err(bad);
        };
        let fits = r[..3].iter().all(|x| *x >= 0) && run.count > 0 && run.slot >= least;
        if !fits || end > vector.length as usize {
            return Err(bad);
        }
        least = end;
        reach = reach.max(run.element + 1).max(last + 1);
    }
    Ok(reach)
}

impl Matrix {
    /// The matrices of a program. Fails where one contradicts itself or what it is made of.
    pub fn read_all(program: &Program, weights: &Weights) -> Result<Vec<Matrix>, VerifyError> {
        let each = program.matrices.iter().enumerate();
        each.map(|(number, m)| Matrix::read(number, m, program, weights))
            .collect()
    }

    fn read(
        number: usize,
        m: &proto::Matrix,
        program: &Program,
        weights: &Weights,
    ) -> Result<Matrix, VerifyError> {
        let refuse = |reason: String| VerifyError::Program(format!("matrix {number}: {reason}"));
        let base = weights.bases().get(m.base as usize).cloned();
        let base = base.ok_or_else(|| refuse(format!("base {} does not exist", m.base)))?;
        let (rows, cols, base_cols) = (m.rows as usize, m.cols as usize, m.base_cols as usize);
        let elements = rows.checked_mul(cols).filter(|n| *n <= MAX_ELEMENTS);
        if rows.checked_mul(base_cols) != Some(base.len()) || elements.is_none_or(|n| n == 0) {
            return Err(refuse(format!(
                "{rows} x {cols} of a base of {base_cols} columns and {} numbers",
                base.len()
            )));
        }
        let pick = (!m.pick.is_empty()).then(|| m.pick.clone());
        let picked = match &pick {
            Some(p) => p.len() == cols && p.iter().all(|c| (*c as usize) < base_cols),
            None => cols == base_cols,
        };
        if !picked || !m.factor.is_finite() {
            return Err(refuse("its columns or its factor do not fit".into()));
        }
        let vector = |v: &Option<BiasRef>, n: usize| -> Result<Option<Vec<f64>>, VerifyError> {
            let Some(v) = v else { return Ok(None) };
            let values = weights.vector(&program.plaintexts, v.plaintext)?;
            match values.len() == n {
                true => Ok(Some(values)),
                false => Err(refuse(format!(
                    "{n} factors expected, found {}",
                    values.len()
                ))),
            }
        };
        Ok(Matrix {
            base_cols,
            rows,
            cols,
            pick,
            factor: m.factor,
            row: vector(&m.row, rows)?,
            col: vector(&m.col, cols)?,
            mean: vector(&m.mean, rows)?,
            base,
        })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }

    /// Element (r, c); NaN outside.
    pub fn at(&self, r: usize, c: usize) -> f64 {
        let of = |v: &Option<Vec<f64>>, i: usize, none: f64| match v {
            Some(v) => v.get(i).copied().unwrap_or(f64::NAN),
            None => none,
        };
        let pick = match &self.pick {
            Some(p) => p.get(c).map_or(usize::MAX, |c| *c as usize),
            None => c,
        };
        let at = r.saturating_mul(self.base_cols).saturating_add(pick);
        let x = self.base.get(at) - of(&self.mean, r, 0.0);
        self.factor * of(&self.row, r, 1.0) * of(&self.col, c, 1.0) * x
    }

    /// The numbers of a vector that takes elements of this matrix.
    pub fn vector(&self, entry: &Plaintext) -> Vec<f64> {
        let mut out = vec![0.0; entry.length as usize];
        let cols = self.cols as i64;
        for run in runs(entry) {
            let (mut r, mut c) = (run.element / self.cols, run.element % self.cols);
            // Steps of whole rows and columns: a division for each element would take longer than all the rest.
            let (down, right) = (
                run.step.div_euclid(cols),
                run.step.rem_euclid(cols) as usize,
            );
            for x in out.iter_mut().skip(run.slot).take(run.count) {
                *x = self.at(r, c);
                c += right;
                if c >= self.cols {
                    c -= self.cols;
                    r += 1;
                }
                r = r.wrapping_add_signed(down as isize);
            }
        }
        out
    }
}

/// The kind of a base, as a program names it.
pub fn kind_of(base: &proto::Base) -> Option<FloatKind> {
    FloatKind::from_number(base.kind)
}

/// The name by which a file is found from the folder of a schedule: relative where it lies below.
pub fn file_name(file: &Path, folder: &Path) -> String {
    // The folder of a bare name is empty, and means the current one.
    let absolute =
        |p: &Path| std::path::absolute(Path::new(".").join(p)).unwrap_or(p.to_path_buf());
    let (file, folder) = (absolute(file), absolute(folder));
    let relative = file.strip_prefix(&folder).unwrap_or(&file);
    relative.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_from_the_folder_of_the_schedule_however_that_is_given() {
        let name = |file: &str, folder: &str| file_name(Path::new(file), Path::new(folder));
        assert_eq!(name("w.bin", ""), "w.bin");
        assert_eq!(name("w.bin", "."), "w.bin");
        assert_eq!(name("./w.bin", ""), "w.bin");
        assert_eq!(name("models/w.bin", "models"), "w.bin");
        assert_eq!(name("models/w.bin", "models/"), "w.bin");
        assert_eq!(name("models/w.bin", ""), "models/w.bin");
        // Files elsewhere keep their place.
        assert_eq!(name("/data/w.bin", "/models"), "/data/w.bin");
    }
}
