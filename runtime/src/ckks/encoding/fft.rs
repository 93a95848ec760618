//! The special transform in few passes over memory: two stages at a time, and the four shortest together with the bit reversal.
//! Per value the operations and their order are those of `stages.rs`.

use super::dispatch::dispatched;
use super::{stages, SlotTransform};

/// Blocks worked on side by side in the pass over the four shortest stages.
const LANES: usize = 8;
/// Length of the longest stage of that pass.
const BLOCK: usize = 16;
/// Position of bit-reversed k, 4 bits.
const REVERSED: [usize; BLOCK] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

type Block = [[f64; LANES]; BLOCK];

dispatched! {
    /// Coefficients to slots, in place.
    fn forward(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) = forward_body;
}
dispatched! {
    /// Slots to coefficients, in place.
    fn inverse(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) = inverse_body;
}

#[inline(always)]
fn forward_body(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) {
    let log_n = re.len().trailing_zeros();
    if re.len() < LANES * BLOCK {
        return stages::forward(tables, re, im);
    }
    short_stages_forward(tables, re, im);
    let mut log_len = BLOCK.trailing_zeros() + 1;
    while log_len < log_n {
        two_stages_forward(tables, log_len, re, im);
        log_len += 2;
    }
    if log_len == log_n {
        stages::forward_stage(tables, log_len, re, im);
    }
}

#[inline(always)]
fn inverse_body(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) {
    let mut log_len = re.len().trailing_zeros();
    if re.len() < LANES * BLOCK {
        return stages::inverse(tables, re, im);
    }
    let log_block = BLOCK.trailing_zeros();
    if (log_len - log_block) % 2 == 1 {
        stages::inverse_stage(tables, log_len, re, im);
        log_len -= 1;
    }
    while log_len > log_block {
        two_stages_inverse(tables, log_len, re, im);
        log_len -= 2;
    }
    short_stages_inverse(tables, re, im);
}

/// The four quarters of a block.
#[inline(always)]
fn quarters(x: &mut [f64]) -> [&mut [f64]; 4] {
    let quarter = x.len() / 4;
    let (low, high) = x.split_at_mut(2 * quarter);
    let (a, b) = low.split_at_mut(quarter);
    let (c, d) = high.split_at_mut(quarter);
    [a, b, c, d]
}

/// w · y.
#[inline(always)]
fn times(wr: f64, wi: f64, yr: f64, yi: f64) -> (f64, f64) {
    (wr * yr - wi * yi, wr * yi + wi * yr)
}

/// conj(w) · d.
#[inline(always)]
fn times_conjugate(wr: f64, wi: f64, dr: f64, di: f64) -> (f64, f64) {
    (dr * wr + di * wi, di * wr - dr * wi)
}

/// S_len and S_2len, len = 2^log_len.
#[inline(always)]
fn two_stages_forward(tables: &SlotTransform, log_len: u32, re: &mut [f64], im: &mut [f64]) {
    let q = 1usize << (log_len - 1);
    let (vr, vi) = tables.stage(log_len);
    let (wr, wi) = tables.stage(log_len + 1);
    let (vr, vi) = (&vr[..q], &vi[..q]);
    let (w0r, w0i, w1r, w1i) = (&wr[..q], &wi[..q], &wr[q..2 * q], &wi[q..2 * q]);
    for (re, im) in re.chunks_exact_mut(4 * q).zip(im.chunks_exact_mut(4 * q)) {
        let [ar, br, cr, dr] = quarters(re);
        let [ai, bi, ci, di] = quarters(im);
        let (ar, br, cr, dr) = (&mut ar[..q], &mut br[..q], &mut cr[..q], &mut dr[..q]);
        let (ai, bi, ci, di) = (&mut ai[..q], &mut bi[..q], &mut ci[..q], &mut di[..q]);
        for j in 0..q {
            let (tr, ti) = times(vr[j], vi[j], br[j], bi[j]);
            let (a1r, a1i, b1r, b1i) = (ar[j] + tr, ai[j] + ti, ar[j] - tr, ai[j] - ti);
            let (tr, ti) = times(vr[j], vi[j], dr[j], di[j]);
            let (c1r, c1i, d1r, d1i) = (cr[j] + tr, ci[j] + ti, cr[j] - tr, ci[j] - ti);
            let (tr, ti) = times(w0r[j], w0i[j], c1r, c1i);
            (ar[j], ai[j], cr[j], ci[j]) = (a1r + tr, a1i + ti, a1r - tr, a1i - ti);
            let (tr, ti) = times(w1r[j], w1i[j], d1r, d1i);
            (br[j], bi[j], dr[j], di[j]) = (b1r + tr, b1i + ti, b1r - tr, b1i - ti);
        }
    }
}

/// T_len and T_(len/2), len = 2^log_len.
#[inline(always)]
fn two_stages_inverse(tables: &SlotTransform, log_len: u32, re: &mut [f64], im: &mut [f64]) {
    let q = 1usize << (log_len - 2);
    let (vr, vi) = tables.stage(log_len - 1);
    let (wr, wi) = tables.stage(log_len);
    let (vr, vi) = (&vr[..q], &vi[..q]);
    let (w0r, w0i, w1r, w1i) = (&wr[..q], &wi[..q], &wr[q..2 * q], &wi[q..2 * q]);
    for (re, im) in re.chunks_exact_mut(4 * q).zip(im.chunks_exact_mut(4 * q)) {
        let [ar, br, cr, dr] = quarters(re);
        let [ai, bi, ci, di] = quarters(im);
        let (ar, br, cr, dr) = (&mut ar[..q], &mut br[..q], &mut cr[..q], &mut dr[..q]);
        let (ai, bi, ci, di) = (&mut ai[..q], &mut bi[..q], &mut ci[..q], &mut di[..q]);
        for j in 0..q {
            let (a1r, a1i) = (ar[j] + cr[j], ai[j] + ci[j]);
            let (c1r, c1i) = times_conjugate(w0r[j], w0i[j], ar[j] - cr[j], ai[j] - ci[j]);
            let (b1r, b1i) = (br[j] + dr[j], bi[j] + di[j]);
            let (d1r, d1i) = times_conjugate(w1r[j], w1i[j], br[j] - dr[j], bi[j] - di[j]);
            (ar[j], ai[j]) = (a1r + b1r, a1i + b1i);
            (br[j], bi[j]) = times_conjugate(vr[j], vi[j], a1r - b1r, a1i - b1i);
            (cr[j], ci[j]) = (c1r + d1r, c1i + d1i);
            (dr[j], di[j]) = times_conjugate(vr[j], vi[j], c1r - d1r, c1i - d1i);
        }
    }
}

/// Bit reversal of `i` among `count` (a power of two above 1).
#[inline(always)]
fn reverse(i: usize, count: usize) -> usize {
    i.reverse_bits() >> (usize::BITS - count.trailing_zeros())
}

/// Bit reversal, S_2, S_4, S_8, S_16.
#[inline(always)]
fn short_stages_forward(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) {
    let n = re.len();
    let blocks = n / BLOCK;
    let (mut out_re, mut out_im) = (vec![0.0; n], vec![0.0; n]);
    let (mut xr, mut xi): (Block, Block) = ([[0.0; LANES]; BLOCK], [[0.0; LANES]; BLOCK]);
    for first in (0..blocks).step_by(LANES) {
        for k in 0..BLOCK {
            let at = REVERSED[k] * blocks + first;
            xr[k].copy_from_slice(&re[at..at + LANES]);
            xi[k].copy_from_slice(&im[at..at + LANES]);
        }
        for log_len in 1..=4 {
            let (wr, wi) = tables.stage(log_len);
            let half = 1 << (log_len - 1);
            for x in 0..BLOCK {
                if x & half != 0 {
                    continue;
                }
                let (y, j) = (x + half, x & (half - 1));
                for l in 0..LANES {
                    let (tr, ti) = times(wr[j], wi[j], xr[y][l], xi[y][l]);
                    (xr[y][l], xi[y][l]) = (xr[x][l] - tr, xi[x][l] - ti);
                    (xr[x][l], xi[x][l]) = (xr[x][l] + tr, xi[x][l] + ti);
                }
            }
        }
        for l in 0..LANES {
            let at = reverse(first + l, blocks) * BLOCK;
            for (k, (re, im)) in out_re[at..at + BLOCK]
                .iter_mut()
                .zip(&mut out_im[at..at + BLOCK])
                .enumerate()
            {
                (*re, *im) = (xr[k][l], xi[k][l]);
            }
        }
    }
    (*re, *im) = (out_re, out_im);
}

/// T_16, T_8, T_4, T_2, the bit reversal, the factor 1/n.
#[inline(always)]
fn short_stages_inverse(tables: &SlotTransform, re: &mut Vec<f64>, im: &mut Vec<f64>) {
    let n = re.len();
    let blocks = n / BLOCK;
    let factor = 1.0 / n as f64;
    let (mut out_re, mut out_im) = (vec![0.0; n], vec![0.0; n]);
    let (mut xr, mut xi): (Block, Block) = ([[0.0; LANES]; BLOCK], [[0.0; LANES]; BLOCK]);
    for first in (0..blocks).step_by(LANES) {
        for l in 0..LANES {
            let at = reverse(first + l, blocks) * BLOCK;
            for (k, (re, im)) in re[at..at + BLOCK]
                .iter()
                .zip(&im[at..at + BLOCK])
                .enumerate()
            {
                (xr[k][l], xi[k][l]) = (*re, *im);
            }
        }
        for log_len in (1..=4).rev() {
            let (wr, wi) = tables.stage(log_len);
            let half = 1 << (log_len - 1);
            for x in 0..BLOCK {
                if x & half != 0 {
                    continue;
                }
                let (y, j) = (x + half, x & (half - 1));
                for l in 0..LANES {
                    let (dr, di) = (xr[x][l] - xr[y][l], xi[x][l] - xi[y][l]);
                    (xr[x][l], xi[x][l]) = (xr[x][l] + xr[y][l], xi[x][l] + xi[y][l]);
                    (xr[y][l], xi[y][l]) = times_conjugate(wr[j], wi[j], dr, di);
                }
            }
        }
        for k in 0..BLOCK {
            let at = REVERSED[k] * blocks + first;
            for l in 0..LANES {
                out_re[at + l] = xr[k][l] * factor;
                out_im[at + l] = xi[k][l] * factor;
            }
        }
    }
    (*re, *im) = (out_re, out_im);
}
