//! W · X for a plaintext W of 128 × 128 and an encrypted X of 128 × (slots/128) in one ciphertext: what other libraries are asked to do too.
//!
//! Slot r · columns + c holds X[r][c], so that a rotation by k · columns brings row r + k to row r, and diagonal k holds W[r][r + k] once
//! per column. Baby steps share one decomposition.

use super::{Lab, Measurement, Place};
use crate::ckks::encoding::Complex;
use crate::ckks::transfer::Brought;
use crate::ckks::{
    Ciphertext, CkksError, DiagonalSource, EncodeOnDemand, EncodedDiagonals, GiantStep,
    LinearOutput, LinearTerm, RotationStep, Transfer,
};
use crate::ring::GaloisElement;
use crate::rlwe::{KeyKind, KeyRequest};
use std::time::Instant;

/// Rows and columns of W.
const ROWS: usize = 128;
/// No slot of the product may be further from the product of the reals: values are sums of 128 products of sizes up to 1 and 1/128, and
/// encryption and encoding at scale 2^40 leave about 2^-24 of error in the worst of 32768 slots.
const LARGEST_ERROR: f64 = 1.0 / (1 << 20) as f64;

fn columns(place: &Place) -> usize {
    place.params.slots() / ROWS
}

/// The map with `babies` rotations by one row and up; diagonal number `giant · babies + baby`.
fn map(babies: usize, columns: usize) -> LinearOutput {
    let babies = babies.clamp(1, ROWS);
    let step = |rows: usize| RotationStep((rows * columns) as i64);
    let giants = (0..ROWS).step_by(babies).map(|giant| GiantStep {
        step: step(giant),
        terms: (0..babies.min(ROWS - giant))
            .map(|baby| LinearTerm {
                source: 0,
                baby: step(baby),
                diagonal: giant + baby,
            })
            .collect(),
    });
    LinearOutput {
        giants: giants.collect(),
    }
}

pub(super) fn add_keys(request: &mut KeyRequest, place: &Place) {
    let map = map(place.matrix.unwrap_or(1), columns(place));
    let babies = map.giants.iter().flat_map(|g| &g.terms).map(|t| t.baby);
    let giants = map.giants.iter().map(|g| g.step);
    for RotationStep(step) in babies.chain(giants).filter(|s| s.0 != 0) {
        let element = GaloisElement::rotation(step, place.params.log_n());
        request.add(KeyKind::Galois(element), place.level);
    }
}

/// W by rows, and how its diagonals lie in slots.
struct Matrix {
    values: Vec<f64>,
    babies: usize,
    columns: usize,
}

impl Matrix {
    /// The slots of a diagonal, moved right by its giant step, which will move the sum left.
    fn diagonal(&self, index: usize) -> Vec<Complex> {
        let giant = index / self.babies * self.babies;
        let entry = |row: usize| {
            let row = (row + ROWS - giant) % ROWS;
            let value = self.values.get(row * ROWS + (row + index) % ROWS);
            Complex::new(value.copied().unwrap_or_default(), 0.0)
        };
        (0..ROWS)
            .flat_map(|row| std::iter::repeat_n(entry(row), self.columns))
            .collect()
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        let mut product = vec![0.0; x.len()];
        for (row, sums) in self
            .values
            .chunks(ROWS)
            .zip(product.chunks_mut(self.columns))
        {
            for (w, x) in row.iter().zip(x.chunks(self.columns)) {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += w * x);
            }
        }
        product
    }
}

impl<B: Transfer> Lab<B> {
    /// With diagonals encoded beforehand, which takes `encode_s` once, and with diagonals encoded as they are used.
    pub(super) fn matrix<E: From<CkksError>>(
        &self,
        babies: usize,
        wanted: &dyn Fn(&str) -> bool,
        report: &mut dyn FnMut(&Measurement) -> Result<(), E>,
    ) -> Result<(), E> {
        let (beforehand, in_passing) = ("matrix_128", "matrix_128_encode");
        if !wanted(beforehand) && !wanted(in_passing) {
            return Ok(());
        }
        let columns = columns(&self.place);
        let outputs = [map(babies, columns)];
        let matrix = Matrix {
            values: self
                .uniform("matrix", ROWS * ROWS)
                .iter()
                .map(|w| w / ROWS as f64)
                .collect(),
            babies: babies.clamp(1, ROWS),
            columns,
        };
        let x = self.uniform("x", ROWS * columns);
        let backend = self.evaluator.backend();
        let source = backend.bring(self.encrypt(&self.plaintext(&x)?, "x")?);
        let expected = matrix.times(&x);
        let params = self.context.params();
        let scale = params
            .plaintext_scale(self.level())
            .map_err(CkksError::from)?;
        let multiply = |diagonals: &dyn DiagonalSource<B::Poly>| {
            self.evaluator.linear(&[&source], &outputs, diagonals)
        };
        let mut measure = |op, diagonals: &dyn DiagonalSource<B::Poly>, encode: Option<f64>| {
            let error = self.error(&multiply(diagonals)?, &expected)?;
            let mut m = self.time(op, || multiply(diagonals))?;
            m.extra.push(("babies", babies as f64));
            m.extra.push(("giants", ROWS.div_ceil(babies) as f64));
            m.extra.push(("error", error));
            m.extra.extend(encode.map(|seconds| ("encode_s", seconds)));
            report(&m)
        };
        if wanted(in_passing) {
            let source = EncodeOnDemand {
                context: &self.context,
                encoder: &self.encoder,
                scale,
                slots: |index| Some(matrix.diagonal(index)),
            };
            measure(in_passing, &Brought::new(backend, &source, false), None)?;
        }
        if wanted(beforehand) {
            let started = Instant::now();
            let encode = |index| self.encoder.encode(&matrix.diagonal(index), scale);
            let encoded = (0..ROWS).map(encode).collect::<Result<_, _>>();
            let encoded = encoded.map_err(CkksError::from)?;
            let context = std::sync::Arc::clone(&self.context);
            let encoded = EncodedDiagonals::new(context, encoded, scale, false);
            let kept = Brought::new(backend, &encoded, true);
            // The first product makes the residues, which are kept for the others.
            drop(multiply(&kept)?);
            let encode = started.elapsed().as_secs_f64();
            measure(beforehand, &kept, Some(encode))?;
        }
        Ok(())
    }

    /// The largest distance of a slot of the product to what it should be.
    fn error(&self, product: &[Ciphertext<B::Poly>], expected: &[f64]) -> Result<f64, CkksError> {
        let shape = |what, found| CkksError::Shape {
            op: "product of matrices",
            what,
            expected: 1,
            found,
        };
        let [product] = product else {
            return Err(shape("number of ciphertexts", product.len()));
        };
        let log_slots = self.context.params().log_n() - 1;
        let product = self.evaluator.backend().fetch_back(product)?;
        let found = self
            .client
            .decrypt_slots(&self.encoder, &product, log_slots)?;
        let errors = found.iter().zip(expected);
        let error = errors.fold(0.0, |worst: f64, (a, b)| worst.max((a.re - b).abs()));
        match error <= LARGEST_ERROR {
            true => Ok(error),
            false => {
                let units = error / LARGEST_ERROR;
                Err(shape(
                    "error of a slot in units of its bound, rounded up",
                    units.ceil() as usize,
                ))
            }
        }
    }
}
