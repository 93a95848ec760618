//! The stages of the special transform, one at a time: the plain statement of the arithmetic that `fft.rs` performs in fewer passes.

use super::SlotTransform;

/// x[i] ↔ x[bit reversal of i].
pub(super) fn bit_reverse(x: &mut [f64]) {
    let n = x.len();
    if n < 2 {
        return;
    }
    let shift = usize::BITS - n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> shift;
        if i < j {
            x.swap(i, j);
        }
    }
}

/// S_2, S_4, …, S_n after the bit reversal.
pub(super) fn forward(tables: &SlotTransform, re: &mut [f64], im: &mut [f64]) {
    bit_reverse(re);
    bit_reverse(im);
    for log_len in 1..=re.len().trailing_zeros() {
        forward_stage(tables, log_len, re, im);
    }
}

/// T_n, …, T_4, T_2, the bit reversal, the factor 1/n.
pub(super) fn inverse(tables: &SlotTransform, re: &mut [f64], im: &mut [f64]) {
    for log_len in (1..=re.len().trailing_zeros()).rev() {
        inverse_stage(tables, log_len, re, im);
    }
    bit_reverse(re);
    bit_reverse(im);
    let factor = 1.0 / re.len() as f64;
    for x in re.iter_mut().chain(im) {
        *x *= factor;
    }
}

/// S_len with len = 2^log_len on every block.
#[inline(always)]
pub(super) fn forward_stage(tables: &SlotTransform, log_len: u32, re: &mut [f64], im: &mut [f64]) {
    let half = 1usize << (log_len - 1);
    let (wr, wi) = tables.stage(log_len);
    for (re, im) in re
        .chunks_exact_mut(2 * half)
        .zip(im.chunks_exact_mut(2 * half))
    {
        let (xr, yr) = re.split_at_mut(half);
        let (xi, yi) = im.split_at_mut(half);
        let (wr, wi, xi, yr, yi) = (
            &wr[..half],
            &wi[..half],
            &mut xi[..half],
            &mut yr[..half],
            &mut yi[..half],
        );
        for j in 0..half {
            let tr = wr[j] * yr[j] - wi[j] * yi[j];
            let ti = wr[j] * yi[j] + wi[j] * yr[j];
            yr[j] = xr[j] - tr;
            yi[j] = xi[j] - ti;
            xr[j] += tr;
            xi[j] += ti;
        }
    }
}

/// T_len with len = 2^log_len on every block.
#[inline(always)]
pub(super) fn inverse_stage(tables: &SlotTransform, log_len: u32, re: &mut [f64], im: &mut [f64]) {
    let half = 1usize << (log_len - 1);
    let (wr, wi) = tables.stage(log_len);
    for (re, im) in re
        .chunks_exact_mut(2 * half)
        .zip(im.chunks_exact_mut(2 * half))
    {
        let (xr, yr) = re.split_at_mut(half);
        let (xi, yi) = im.split_at_mut(half);
        let (wr, wi, xi, yr, yi) = (
            &wr[..half],
            &wi[..half],
            &mut xi[..half],
            &mut yr[..half],
            &mut yi[..half],
        );
        for j in 0..half {
            let (dr, di) = (xr[j] - yr[j], xi[j] - yi[j]);
            xr[j] += yr[j];
            xi[j] += yi[j];
            yr[j] = dr * wr[j] + di * wi[j];
            yi[j] = di * wr[j] - dr * wi[j];
        }
    }
}
