//! Networks of butterflies on rows that the registers hold, and the transposition of a square.

use super::block::{Block, Operand, Vectors};
use super::residue::{Residue, Writer};

impl Vectors {
    /// Rows that fit the registers, beside what is computed with them.
    pub const fn rows(self) -> usize {
        self.lanes()
    }
}

/// A butterfly: rows i and j and the number of the twiddle (heap order, from 1).
type Butterfly = (usize, usize, usize);

/// The stages of a network of four, eight or sixteen rows.
pub fn stages(rows: usize) -> usize {
    rows.ilog2() as usize
}

/// The butterflies of one stage of all networks of so many rows that the registers hold.
fn butterflies(vectors: Vectors, (rows, stage): (usize, usize)) -> impl Iterator<Item = Butterfly> {
    let apart = rows >> (stage + 1);
    let networks = (0..vectors.rows()).step_by(rows);
    networks.flat_map(move |first| {
        let groups = 0..1usize << stage;
        groups.flat_map(move |group| {
            let rows = (0..apart).map(move |k| first + 2 * apart * group + k);
            rows.map(move |i| (i, i + apart, (1 << stage) + group))
        })
    })
}

/// What a network multiplies by: the product of a word and twiddle t.
pub type Multiply<'a> = &'a dyn Fn(&mut Writer, Residue, usize) -> Residue;

/// One stage: row j is multiplied, then rows become their sum and difference.
pub fn forward_stage(
    w: &mut Writer,
    (rows, stage): (usize, usize),
    x: &mut [Residue],
    multiply: Multiply<'_>,
) {
    for (i, j, t) in butterflies(w.vectors(), (rows, stage)) {
        let product = multiply(w, x[j], t);
        (x[i], x[j]) = (w.sum(x[i], product), w.difference(x[i], product));
    }
}

/// The inverse of a stage: rows become their sum and difference, then the difference is multiplied, by the twiddles of the stage in reverse.
pub fn inverse_stage(
    w: &mut Writer,
    (rows, stage): (usize, usize),
    x: &mut [Residue],
    multiply: Multiply<'_>,
) {
    for (i, j, t) in butterflies(w.vectors(), (rows, stage)) {
        let difference = w.difference(x[j], x[i]);
        x[i] = w.sum(x[i], x[j]);
        x[j] = multiply(w, difference, 3 * (1 << stage) - 1 - t);
    }
}

/// The stages of an inverse network but for the first `left`. Sums double with each: they are brought nearer to zero.
pub fn inverse_network(
    w: &mut Writer,
    rows: usize,
    x: &mut [Residue],
    left: usize,
    multiply: Multiply<'_>,
) {
    for stage in (left..stages(rows)).rev() {
        inverse_stage(w, (rows, stage), x, multiply);
        if stage > 0 {
            w.near_zero(x, 4.0);
        }
    }
}

/// Transposes a square of words.
pub fn transpose(b: &mut Block, rows: &mut [Residue]) {
    type Exchange = [(&'static str, Option<u8>); 2];
    let apart = |distance: usize, count: usize| {
        let all = (0..count).filter(move |i| i & distance == 0);
        all.map(move |i| (i, i + distance))
    };
    let (count, vectors) = (rows.len(), b.vectors);
    let mut exchange = |distance: usize, low_high: Exchange| {
        for (i, j) in apart(distance, count) {
            let [low, high] = low_high.map(|(mnemonic, halves)| {
                let mut operands = vec![Operand::from(rows[i].word), rows[j].word.into()];
                operands.extend(halves.map(Operand::Immediate));
                b.make(mnemonic, operands)
            });
            (rows[i].word, rows[j].word) = (low, high);
        }
    };
    exchange(1, ["vpunpckldq", "vpunpckhdq"].map(|name| (name, None)));
    exchange(2, ["vpunpcklqdq", "vpunpckhqdq"].map(|name| (name, None)));
    match vectors {
        Vectors::Narrow => exchange(4, [0x20, 0x31].map(|half| ("vperm2i128", Some(half)))),
        Vectors::Wide => {
            for distance in [4, 8] {
                exchange(
                    distance,
                    [0x88, 0xdd].map(|half| ("vshufi32x4", Some(half))),
                );
            }
        }
    }
    for first in (0..rows.len()).step_by(4) {
        rows.swap(first + 1, first + 2);
    }
    // Every vector has words of every row now.
    let all = rows.iter().map(|row| row.range);
    let all = all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    for (row, range) in rows.iter_mut().zip(all.into_iter().cycle()) {
        row.range = range;
    }
}

/// Brings rows near zero: row 0, which all sums of a forward network begin with, to the size; the others so far that they are signed words when
/// they are multiplied, with a product of size 1.25 at most added in every stage before.
pub fn begin_network(w: &mut Writer, x: &mut [Residue], size: f64) {
    w.near_zero(&mut x[..1], size);
    for row in 1..x.len() {
        let stages_before = stages(x.len()) - 1 - row.ilog2() as usize;
        w.near_zero(&mut x[row..=row], 8.0 - 1.25 * stages_before as f64);
    }
}
