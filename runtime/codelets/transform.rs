//! The loops of number-theoretic transforms with 256-bit vectors (`ring::ntt::avx2`): what is computed, and at which addresses.
//!
//! Each loop is a function with the arguments named at its head, in the registers of the System V calling convention.

use super::block::{at, Block, Operand};
use super::order;
use super::residue::{Constants, Residue, Shoup, Writer, VECTOR};

/// Rows that fit the registers, beside what is computed with them.
const ROWS: usize = 8;
/// Bytes of a square.
const SQUARE: usize = ROWS * VECTOR;
/// Canonical words.
const CANONICAL: (f64, f64) = (0.0, 1.0);
/// The size of words between the passes of a forward transform, in q; and of an inverse one.
const FORWARD: f64 = 5.4;
const INVERSE: f64 = 2.0;
/// The factor of the last sums of an inverse transform, after the twiddles of a pass; that of the last differences takes a twiddle's place.
const SUM_FACTOR: usize = 8;

fn within(size: f64) -> (f64, f64) {
    (-size, size)
}

/// A butterfly: rows i and j and the number of the twiddle (heap order, from 1).
type Butterfly = (usize, usize, usize);

/// The stages of a network of four or of eight rows.
fn stages(rows: usize) -> &'static [&'static [Butterfly]] {
    match rows {
        ROWS => &[
            &[(0, 4, 1), (1, 5, 1), (2, 6, 1), (3, 7, 1)],
            &[(0, 2, 2), (1, 3, 2), (4, 6, 3), (5, 7, 3)],
            &[(0, 1, 4), (2, 3, 5), (4, 5, 6), (6, 7, 7)],
        ],
        _ => &[&[(0, 2, 1), (1, 3, 1)], &[(0, 1, 2), (2, 3, 3)]],
    }
}

/// The butterflies of one stage of all networks of so many rows that the registers hold.
fn butterflies(rows: usize, stage: usize) -> impl Iterator<Item = Butterfly> {
    let networks = (0..ROWS).step_by(rows);
    networks.flat_map(move |first| {
        let network = stages(rows)[stage].iter();
        network.map(move |&(i, j, t)| (i + first, j + first, t))
    })
}

/// What a network multiplies by: the product of a word and twiddle t.
type Multiply<'a> = &'a dyn Fn(&mut Writer, Residue, usize) -> Residue;

/// One stage: row j is multiplied, then rows become their sum and difference.
fn forward_stage(
    w: &mut Writer,
    (rows, stage): (usize, usize),
    x: &mut [Residue],
    multiply: Multiply<'_>,
) {
    for (i, j, t) in butterflies(rows, stage) {
        let product = multiply(w, x[j], t);
        (x[i], x[j]) = (w.sum(x[i], product), w.difference(x[i], product));
    }
}

/// The inverse of a stage: rows become their sum and difference, then the difference is multiplied, by the twiddles of the stage in reverse.
fn inverse_stage(
    w: &mut Writer,
    (rows, stage): (usize, usize),
    x: &mut [Residue],
    multiply: Multiply<'_>,
) {
    for (i, j, t) in butterflies(rows, stage) {
        let difference = w.difference(x[j], x[i]);
        x[i] = w.sum(x[i], x[j]);
        x[j] = multiply(w, difference, 3 * (1 << stage) - 1 - t);
    }
}

/// The stages of an inverse network but for the first `left`. Sums double with each: before the last they are brought nearer to zero.
fn inverse_network(
    w: &mut Writer,
    rows: usize,
    x: &mut [Residue],
    left: usize,
    multiply: Multiply<'_>,
) {
    for stage in (left..stages(rows).len()).rev() {
        inverse_stage(w, (rows, stage), x, multiply);
        if stage == 1 {
            w.near_zero(x, 4.0);
        }
    }
}

/// Transposes an 8 by 8 matrix of words.
fn transpose(b: &mut Block, rows: &mut [Residue]) {
    let mut exchange = |i: usize, j: usize, low: [&'static str; 2], halves: Option<[u8; 2]>| {
        let mut one = |which: usize| {
            let mut operands = vec![Operand::from(rows[i].word), rows[j].word.into()];
            operands.extend(halves.map(|h| Operand::Immediate(h[which])));
            b.make(low[which], operands)
        };
        (rows[i].word, rows[j].word) = (one(0), one(1));
    };
    for (i, j) in [(0, 1), (2, 3), (4, 5), (6, 7)] {
        exchange(i, j, ["vpunpckldq", "vpunpckhdq"], None);
    }
    for (i, j) in [(0, 2), (1, 3), (4, 6), (5, 7)] {
        exchange(i, j, ["vpunpcklqdq", "vpunpckhqdq"], None);
    }
    for (i, j) in [(0, 4), (1, 5), (2, 6), (3, 7)] {
        exchange(i, j, ["vperm2i128"; 2], Some([0x20, 0x31]));
    }
    rows.swap(1, 2);
    rows.swap(5, 6);
    // Every vector has words of every row now.
    let all = rows.iter().map(|row| row.range);
    let all = all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    for (row, range) in rows.iter_mut().zip(all.into_iter().cycle()) {
        row.range = range;
    }
}

/// The text of a loop: what comes before it, its body, what each turn adds to which register, and the register that counts turns.
fn looped(before: &[String], block: &Block, steps: &[(&str, isize)], turns: &str) -> String {
    let mut lines = before.to_vec();
    lines.extend([".p2align 5".into(), "2:".into()]);
    lines.extend(order::print(&order::order(block)));
    lines.extend(steps.iter().map(|(r, bytes)| format!("add {r}, {bytes}")));
    lines.extend([format!("sub {turns}, 1"), "jnz 2b".into()]);
    lines.extend(["vzeroupper".into(), "ret".into()]);
    lines.join("\n") + "\n"
}

/// The arguments of a pass: from, to, the bytes between rows, constants, and the number of turns.
const FROM: &str = "rdi";
const TO: &str = "rsi";
const STRIDE: &str = "rdx";
const CONSTANTS: Constants = Constants("rcx");
const TURNS: &str = "r8";
/// Three, five and seven times the stride.
const THREE_STRIDES: &str = "r9";
const FIVE_STRIDES: &str = "r10";
const SEVEN_STRIDES: &str = "r11";

/// The place of a row: networks of eight rows fill the registers, of four rows two go together, side by side.
fn place(base: &str, rows: usize, index: usize) -> Operand {
    let row = match index % rows {
        0 => base.to_string(),
        3 => format!("{base} + {THREE_STRIDES}"),
        5 => format!("{base} + {FIVE_STRIDES}"),
        6 => format!("{base} + 2 * {THREE_STRIDES}"),
        7 => format!("{base} + {SEVEN_STRIDES}"),
        k => format!("{base} + {k} * {STRIDE}"),
    };
    at(&row, VECTOR * (index / rows))
}

fn load_rows(w: &mut Writer, rows: usize, range: (f64, f64)) -> Vec<Residue> {
    let all = 0..ROWS;
    all.map(|index| w.load(place(FROM, rows, index), range))
        .collect()
}

/// Stores the rows and prints the loop of a pass.
fn pass(mut w: Writer, rows: usize, x: &[Residue]) -> String {
    for (index, x) in x.iter().enumerate() {
        w.block.store(place(TO, rows, index), x.word);
    }
    let multiples = [
        format!("lea {THREE_STRIDES}, [{STRIDE} + 2 * {STRIDE}]"),
        format!("lea {FIVE_STRIDES}, [{STRIDE} + 4 * {STRIDE}]"),
        format!("lea {SEVEN_STRIDES}, [{THREE_STRIDES} + 4 * {STRIDE}]"),
    ];
    let columns = (VECTOR * ROWS / rows) as isize;
    looped(
        &multiples,
        &w.block,
        &[(FROM, columns), (TO, columns)],
        TURNS,
    )
}

/// A strided pass of two or three stages; canonical words come into the first.
fn forward_pass(rows: usize, first: bool) -> String {
    let mut w = Writer::new(CONSTANTS);
    let range = if first { CANONICAL } else { within(FORWARD) };
    let mut x = load_rows(&mut w, rows, range);
    let multiply = |w: &mut Writer, x: Residue, t: usize| w.shoup(x, CONSTANTS.factor(t));
    // Row 0 is what sums begin with. Networks of two stages leave room for more.
    for first in (0..ROWS).step_by(rows) {
        let size = if rows == ROWS { 1.0 } else { 3.0 };
        w.near_zero(&mut x[first..=first], size);
    }
    for stage in 0..stages(rows).len() {
        forward_stage(&mut w, (rows, stage), &mut x, &multiply);
    }
    assert!(x.iter().all(|x| x.range.1.max(-x.range.0) <= FORWARD));
    pass(w, rows, &x)
}

/// The inverse of a strided pass; the last of a transform multiplies by a factor, to canonical words.
fn inverse_pass(rows: usize, last: bool) -> String {
    let mut w = Writer::new(CONSTANTS);
    let mut x = load_rows(&mut w, rows, within(INVERSE));
    let multiply = |w: &mut Writer, x: Residue, t: usize| w.shoup(x, CONSTANTS.factor(t));
    if last {
        inverse_network(&mut w, rows, &mut x, 1, &multiply);
        let scale = |w: &mut Writer, x: Residue, t: usize| w.scaled(x, CONSTANTS.factor(t));
        inverse_stage(&mut w, (rows, 0), &mut x, &scale);
        for first in (0..ROWS).step_by(rows) {
            for x in &mut x[first..first + rows / 2] {
                *x = scale(&mut w, *x, SUM_FACTOR);
            }
        }
    } else {
        inverse_network(&mut w, rows, &mut x, 0, &multiply);
        w.near_zero(&mut x, INVERSE);
    }
    pass(w, rows, &x)
}

/// The product with twiddle `t` of a square's rows, from the entries of its level in the table of pairs.
fn by_row(w: &mut Writer, pairs: [&str; 3], x: Residue, t: usize) -> Residue {
    let level = t.ilog2() as usize;
    let place = 8 * (t - (1 << level));
    let quotient = w.broadcast(pairs[level], place);
    let factor = Shoup {
        quotients: [quotient.clone(), quotient],
        value: w.broadcast(pairs[level], place + 4),
    };
    w.shoup(x, factor)
}

/// Bytes of a square's twiddles by lane: the first three of a network in the form of Shoup, quotients and values, the other four in that of
/// Montgomery.
const LANES_TABLE: usize = 10 * VECTOR;

/// The product with twiddle `t` of a square's lanes.
fn by_lane(w: &mut Writer, lanes: &str, x: Residue, t: usize) -> Residue {
    if t > 3 {
        return w.montgomery(x, (lanes, VECTOR * (t + 2)));
    }
    let place = 2 * VECTOR * (t - 1);
    let factor = Shoup {
        quotients: [at(lanes, place), at(lanes, place + 4)],
        value: at(lanes, place + VECTOR),
    };
    w.shoup(x, factor)
}

/// The last six stages on squares of 64 words, in place: along rows, transposed along lanes, and to canonical words.
///
/// Arguments: the words, the number of squares, the table of pairs (quotient, value) at the first square's entry, at twice and at four times
/// that entry, the lanes' twiddles; and on the stack the constants.
fn forward_squares() -> String {
    let (words, turns, pairs) = ("rdi", "rsi", ["rdx", "rcx", "r8"]);
    let (lanes, constants) = ("r9", "rax");
    let mut w = Writer::new(Constants(constants));
    let rows = 0..ROWS;
    let mut x: Vec<Residue> = rows
        .map(|k| w.load(at(words, VECTOR * k), within(FORWARD)))
        .collect();
    let by_row = |w: &mut Writer, x: Residue, t: usize| by_row(w, pairs, x, t);
    w.near_zero(&mut x[..1], 1.0);
    for stage in 0..3 {
        forward_stage(&mut w, (ROWS, stage), &mut x, &by_row);
    }
    transpose(&mut w.block, &mut x);
    w.near_zero(&mut x[..1], 1.0);
    x[0] = w.raise(x[0], 3);
    let by_lane = |w: &mut Writer, x: Residue, t: usize| by_lane(w, lanes, x, t);
    // Shoup's products are above zero, nearly. Where the sums that become results take one off, q is added: so all end above zero.
    let taken_off: [&[usize]; 3] = [&[4], &[2, 6], &[]];
    for (stage, taken_off) in taken_off.into_iter().enumerate() {
        forward_stage(&mut w, (ROWS, stage), &mut x, &by_lane);
        for &j in taken_off {
            x[j] = w.raise(x[j], 1);
        }
    }
    x = x.into_iter().map(|x| w.canonical(x)).collect();
    transpose(&mut w.block, &mut x);
    for (k, x) in x.iter().enumerate() {
        w.block.store(at(words, VECTOR * k), x.word);
    }
    let before = [format!("mov {constants}, [rsp + 8]")];
    let steps = [
        (words, SQUARE as isize),
        (pairs[0], 8),
        (pairs[1], 16),
        (pairs[2], 32),
        (lanes, LANES_TABLE as isize),
    ];
    looped(&before, &w.block, &steps, turns)
}

/// The first six stages of an inverse transform on squares of 64 canonical words: transposed along lanes, then along rows.
///
/// Arguments: from, to, the number of squares, the table of pairs at the first square's mirrored entry, at twice and at four times that entry;
/// and on the stack the lanes' twiddles and the constants. Tables are read backwards.
fn inverse_squares() -> String {
    let (from, to, turns, pairs) = ("rdi", "rsi", "rdx", ["rcx", "r8", "r9"]);
    let (lanes, constants) = ("r10", "rax");
    let mut w = Writer::new(Constants(constants));
    // Rows in reverse become lanes in reverse, as the mirrored twiddles are.
    let rows = (0..ROWS).rev();
    let mut x: Vec<Residue> = rows
        .map(|k| w.load(at(from, VECTOR * k), CANONICAL))
        .collect();
    transpose(&mut w.block, &mut x);
    let by_lane = |w: &mut Writer, x: Residue, t: usize| by_lane(w, lanes, x, t);
    inverse_network(&mut w, ROWS, &mut x, 0, &by_lane);
    w.near_zero(&mut x, INVERSE);
    transpose(&mut w.block, &mut x);
    x.reverse();
    let by_row = |w: &mut Writer, x: Residue, t: usize| by_row(w, pairs, x, t);
    inverse_network(&mut w, ROWS, &mut x, 0, &by_row);
    w.near_zero(&mut x, INVERSE);
    for (k, x) in x.iter().enumerate() {
        w.block.store(at(to, VECTOR * k), x.word);
    }
    let before = [
        format!("mov {lanes}, [rsp + 8]"),
        format!("mov {constants}, [rsp + 16]"),
    ];
    let steps = [
        (from, SQUARE as isize),
        (to, SQUARE as isize),
        (pairs[0], -8),
        (pairs[1], -16),
        (pairs[2], -32),
        (lanes, -(LANES_TABLE as isize)),
    ];
    looped(&before, &w.block, &steps, turns)
}

/// The loops and their names.
pub fn loops() -> Vec<(&'static str, String)> {
    vec![
        ("forward_first8", forward_pass(8, true)),
        ("forward_first4", forward_pass(4, true)),
        ("forward_later8", forward_pass(8, false)),
        ("forward_later4", forward_pass(4, false)),
        ("forward_squares", forward_squares()),
        ("inverse_squares", inverse_squares()),
        ("inverse_later8", inverse_pass(8, false)),
        ("inverse_later4", inverse_pass(4, false)),
        ("inverse_last8", inverse_pass(8, true)),
        ("inverse_last4", inverse_pass(4, true)),
    ]
}
