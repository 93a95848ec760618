//! Dense products of f64 matrices, for the evaluators and for folding maps into each other.
//!
//! The arithmetic is that of the `matrixmultiply` crate: fast, and the same on every run of one machine. The last bits may
//! differ between machines, which is why everything printed is rounded.

/// A matrix inside a slice: element (r, c) is at `start + r · rows + c · cols`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strides {
    /// Place of element (0, 0).
    pub start: usize,
    /// Step from row to row.
    pub rows: usize,
    /// Step from column to column.
    pub cols: usize,
}

impl Strides {
    /// Row by row from the beginning, `cols` columns.
    pub(crate) fn dense(cols: usize) -> Strides {
        Strides {
            start: 0,
            rows: cols,
            cols: 1,
        }
    }

    /// Whether a matrix of `rows` × `cols` with these strides lies inside `length` numbers.
    fn fits(&self, rows: usize, cols: usize, length: usize) -> bool {
        rows == 0 || cols == 0 || {
            let last = self.start + (rows - 1) * self.rows + (cols - 1) * self.cols;
            last < length
        }
    }
}

/// out += a · b with a (m × k), b (k × n), out (m × n). What does not lie inside its slice is left out: nothing is added.
pub(crate) fn add_product(
    (m, k, n): (usize, usize, usize),
    (a, sa): (&[f64], Strides),
    (b, sb): (&[f64], Strides),
    (out, so): (&mut [f64], Strides),
) {
    let fits = sa.fits(m, k, a.len()) && sb.fits(k, n, b.len()) && so.fits(m, n, out.len());
    debug_assert!(fits, "a matrix leaves its slice");
    if !fits || m == 0 || n == 0 || k == 0 {
        return;
    }
    // SAFETY: every element that is read or written lies inside its slice, as checked above, and `out` is borrowed
    // mutably, so that it does not overlap with `a` or `b`. Strides of existing slices fit isize.
    unsafe {
        matrixmultiply::dgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr().add(sa.start),
            sa.rows as isize,
            sa.cols as isize,
            b.as_ptr().add(sb.start),
            sb.rows as isize,
            sb.cols as isize,
            1.0,
            out.as_mut_ptr().add(so.start),
            so.rows as isize,
            so.cols as isize,
        );
    }
}

/// out += a · b, all row by row: a has k columns, b and out n.
pub(crate) fn multiply_into(a: &[f64], b: &[f64], k: usize, n: usize, out: &mut [f64]) {
    let m = a.len().checked_div(k).unwrap_or(0);
    let (sa, sb) = (Strides::dense(k), Strides::dense(n));
    add_product((m, k, n), (a, sa), (b, sb), (out, sb));
}

/// Per head the products of queries and keys, row by row: out\[head, i, j\] = Σ_x q\[i, head·h + x\] · k\[j, head·h + x\].
pub(crate) fn head_scores(q: &[f64], k: &[f64], heads: usize, cols: usize) -> Vec<f64> {
    let h = cols / heads.max(1);
    let (rows, keys) = (
        q.len().checked_div(cols).unwrap_or(0),
        k.len().checked_div(cols).unwrap_or(0),
    );
    let mut out = vec![0.0; heads * rows * keys];
    for head in 0..heads {
        let sq = Strides {
            start: head * h,
            rows: cols,
            cols: 1,
        };
        let sk = Strides {
            start: head * h,
            rows: 1,
            cols,
        };
        let so = Strides {
            start: head * rows * keys,
            rows: keys,
            cols: 1,
        };
        add_product((rows, h, keys), (q, sq), (k, sk), (&mut out, so));
    }
    out
}

/// Per head the products of weights and values: out\[i, head·h + x\] = Σ_j p\[head, i, j\] · v\[j, head·h + x\].
pub(crate) fn head_values(
    p: &[f64],
    v: &[f64],
    heads: usize,
    (rows, keys, cols): (usize, usize, usize),
) -> Vec<f64> {
    let h = cols / heads.max(1);
    let mut out = vec![0.0; rows * cols];
    for head in 0..heads {
        let sp = Strides {
            start: head * rows * keys,
            rows: keys,
            cols: 1,
        };
        let sv = Strides {
            start: head * h,
            rows: cols,
            cols: 1,
        };
        add_product((rows, keys, h), (p, sp), (v, sv), (&mut out, sv));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: usize) -> Vec<f64> {
        (0..n)
            .map(|i| (((i + seed) * 37 % 101) as f64 - 50.0) / 50.0)
            .collect()
    }

    #[test]
    fn products_equal_sums_written_out() {
        let (m, k, n) = (7, 33, 19);
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut out = numbers(m * n, 3);
        let before = out.clone();
        multiply_into(&a, &b, k, n, &mut out);
        for i in 0..m {
            for j in 0..n {
                let sum: f64 = (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum();
                let difference = (out[i * n + j] - before[i * n + j] - sum).abs();
                assert!(difference < 1e-13, "{difference}");
            }
        }
    }

    #[test]
    fn heads_are_column_groups() {
        let (rows, keys, heads, h) = (5, 6, 2, 3);
        let cols = heads * h;
        let (q, k) = (numbers(rows * cols, 1), numbers(keys * cols, 2));
        let s = head_scores(&q, &k, heads, cols);
        let o = head_values(&s, &k, heads, (rows, keys, cols));
        for head in 0..heads {
            for i in 0..rows {
                for j in 0..keys {
                    let dot: f64 = (head * h..(head + 1) * h)
                        .map(|x| q[i * cols + x] * k[j * cols + x])
                        .sum();
                    assert!((s[(head * rows + i) * keys + j] - dot).abs() < 1e-13);
                }
                for x in head * h..(head + 1) * h {
                    let sum: f64 = (0..keys)
                        .map(|j| s[(head * rows + i) * keys + j] * k[j * cols + x])
                        .sum();
                    assert!((o[i * cols + x] - sum).abs() < 1e-13);
                }
            }
        }
    }
}
