use std::any::Any;

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
