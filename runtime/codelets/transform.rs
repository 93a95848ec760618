//! The loops of number-theoretic transforms (`ring::ntt::codelets`): what is computed, and at which addresses.
//!
//! Each loop is a function with the arguments named at its head, in the registers of the System V calling convention.

use super::block::{at, Operand, Vectors};
use super::network::{
    begin_network, forward_stage, inverse_network, inverse_stage, stages, transpose,
};
use super::order;
use super::residue::{Constants, Residue, Shoup, Writer};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Canonical words.
const CANONICAL: (f64, f64) = (0.0, 1.0);
/// The size of words between the passes of an inverse transform, in q.
const INVERSE: f64 = 2.0;

/// A square's twiddles by lane that are in the form of Shoup, quotients and values: the first of a network. The others are in that of
/// Montgomery.
const SHOUP_LANES: usize = 3;

impl Vectors {
    /// Bytes of a square.
    const fn square(self) -> usize {
        self.rows() * self.bytes()
    }

    /// The size of words between the passes of a forward transform, in q.
    const fn forward(self) -> f64 {
        match self {
            Self::Narrow => 5.4,
            Self::Wide => 6.6,
        }
    }

    /// The size that row 0 begins a network of so many rows with, in q, so that words end within [`Vectors::forward`]: shorter ones leave room
    /// for more.
    const fn begin(self, rows: usize) -> f64 {
        match (self, rows) {
            (Self::Narrow, 8) => 1.0,
            (Self::Narrow, _) | (Self::Wide, 8) => 3.0,
            (Self::Wide, 16) => 1.6,
            (Self::Wide, _) => 4.0,
        }
    }

    /// How many squares ahead a square fetches what is read once: 3 KB of words.
    const fn ahead(self) -> usize {
        match self {
            Self::Narrow => 10,
            Self::Wide => 3,
        }
    }

    /// Bytes of a square's twiddles by lane.
    const fn lanes_table(self) -> usize {
        (self.rows() - 1 + SHOUP_LANES) * self.bytes()
    }
}

fn within(size: f64) -> (f64, f64) {
    (-size, size)
}

/// The text of a loop: what comes before it, its body, what each turn adds to which register, and the register that counts turns. Registers
/// of the caller that it needs are saved before and given back after it.
fn looped(
    (saved, before): (&[&str], &[String]),
    w: &Writer,
    steps: &[(&str, isize)],
    turns: &str,
) -> String {
    let mut lines: Vec<String> = saved.iter().map(|r| format!("push {r}")).collect();
    lines.extend(w.mask());
    lines.extend_from_slice(before);
    lines.extend(w.kept());
    lines.extend([".p2align 5".into(), "2:".into()]);
    let ordered = order::order(&w.block, w.registers());
    lines.extend(order::print(w.vectors(), &ordered, w.registers()));
    lines.extend(steps.iter().map(|(r, bytes)| format!("add {r}, {bytes}")));
    lines.extend([format!("sub {turns}, 1"), "jnz 2b".into()]);
    lines.extend(saved.iter().rev().map(|r| format!("pop {r}")));
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
/// Rows 8 and on of sixteen.
const FROM_EIGHTH: &str = "rax";
const TO_EIGHTH: &str = "rbx";

/// The place of a row, so many turns later: sixteen rows fill the registers of 512-bit vectors, eight those of 256-bit ones; of fewer, some
/// networks go together, side by side.
fn place(
    vectors: Vectors,
    (base, eighth): (&str, &str),
    (rows, index): (usize, usize),
    later: usize,
) -> Operand {
    let row = index % rows;
    let base = if row < 8 { base } else { eighth };
    let address = match row % 8 {
        0 => base.to_string(),
        3 => format!("{base} + {THREE_STRIDES}"),
        5 => format!("{base} + {FIVE_STRIDES}"),
        6 => format!("{base} + 2 * {THREE_STRIDES}"),
        7 => format!("{base} + {SEVEN_STRIDES}"),
        k => format!("{base} + {k} * {STRIDE}"),
    };
    let column = index / rows + later * vectors.rows() / rows;
    at(&address, vectors.bytes() * column)
}

fn load_rows(w: &mut Writer, rows: usize, range: (f64, f64)) -> Vec<Residue> {
    let vectors = w.vectors();
    let place = |index| place(vectors, (FROM, FROM_EIGHTH), (rows, index), 0);
    let all = 0..vectors.rows();
    all.map(|index| w.load(place(index), range)).collect()
}

/// Fetches rows two lines ahead: those of a whole transform are not in the caches, and more of them than the processor follows by itself.
fn fetch_rows(w: &mut Writer, rows: usize) {
    let vectors = w.vectors();
    let later = 2 * LINE / vectors.bytes();
    for index in 0..vectors.rows() {
        let line = place(vectors, (FROM, FROM_EIGHTH), (rows, index), later);
        w.block.prefetch(line);
    }
}

/// Stores the rows and prints the loop of a pass.
fn pass(mut w: Writer, rows: usize, x: &[Residue]) -> String {
    let vectors = w.vectors();
    for (index, x) in x.iter().enumerate() {
        let to = place(vectors, (TO, TO_EIGHTH), (rows, index), 0);
        w.block.store(to, x.word);
    }
    let mut before = vec![
        format!("lea {THREE_STRIDES}, [{STRIDE} + 2 * {STRIDE}]"),
        format!("lea {FIVE_STRIDES}, [{STRIDE} + 4 * {STRIDE}]"),
        format!("lea {SEVEN_STRIDES}, [{THREE_STRIDES} + 4 * {STRIDE}]"),
    ];
    let columns = (vectors.bytes() * vectors.rows() / rows) as isize;
    let mut steps = vec![(FROM, columns), (TO, columns)];
    let mut saved = Vec::new();
    if rows > 8 {
        saved.push(TO_EIGHTH);
        before.extend([
            format!("lea {FROM_EIGHTH}, [{FROM} + 8 * {STRIDE}]"),
            format!("lea {TO_EIGHTH}, [{TO} + 8 * {STRIDE}]"),
        ]);
        steps.extend([(FROM_EIGHTH, columns), (TO_EIGHTH, columns)]);
    }
    looped((&saved, &before), &w, &steps, TURNS)
}

/// A strided pass; canonical words come into the first.
fn forward_pass(vectors: Vectors, rows: usize, first: bool) -> String {
    let mut w = Writer::new(vectors, CONSTANTS);
    let size = vectors.forward();
    let range = if first { CANONICAL } else { within(size) };
    let mut x = load_rows(&mut w, rows, range);
    let multiply = |w: &mut Writer, x: Residue, t: usize| {
        let factor = w.factor(t);
        w.shoup(x, factor)
    };
    for network in x.chunks_mut(rows) {
        begin_network(&mut w, network, vectors.begin(rows));
    }
    for stage in 0..stages(rows) {
        forward_stage(&mut w, (rows, stage), &mut x, &multiply);
    }
    let largest = x
        .iter()
        .map(|x| x.range.1.max(-x.range.0))
        .fold(0.0, f64::max);
    assert!(largest <= size, "{largest}");
    if first {
        fetch_rows(&mut w, rows);
    }
    pass(w, rows, &x)
}

/// The inverse of a strided pass; the last of a transform multiplies by a factor, to canonical words.
fn inverse_pass(vectors: Vectors, rows: usize, last: bool) -> String {
    let mut w = Writer::new(vectors, CONSTANTS);
    let mut x = load_rows(&mut w, rows, within(INVERSE));
    let multiply = |w: &mut Writer, x: Residue, t: usize| {
        let factor = w.factor(t);
        w.shoup(x, factor)
    };
    if last {
        inverse_network(&mut w, rows, &mut x, 1, &multiply);
        let scale = |w: &mut Writer, x: Residue, t: usize| {
            let factor = w.factor(t);
            w.scaled(x, factor)
        };
        inverse_stage(&mut w, (rows, 0), &mut x, &scale);
        // The factor of the last sums comes after a pass's twiddles; that of the last differences takes a twiddle's place.
        for network in x.chunks_mut(rows) {
            for x in &mut network[..rows / 2] {
                *x = scale(&mut w, *x, vectors.rows());
            }
        }
    } else {
        inverse_network(&mut w, rows, &mut x, 0, &multiply);
        w.near_zero(&mut x, INVERSE);
    }
    pass(w, rows, &x)
}

/// Where the tables of squares are: pairs (quotient, value) at the first square's entry, at twice, four times and eight times that entry, and
/// the square's twiddles by lane.
struct Tables {
    pairs: [&'static str; 4],
    lanes: &'static str,
}

impl Tables {
    /// Levels of twiddles by row.
    fn levels(vectors: Vectors) -> usize {
        stages(vectors.rows())
    }

    /// Loads the registers from the argument (`ring::ntt::codelets::Tables`): four pointers to pairs, those to lanes and to constants.
    fn load(&self, vectors: Vectors, argument: &str, constants: &str) -> Vec<String> {
        let levels = Self::levels(vectors);
        let pairs = self.pairs[..levels].iter().enumerate();
        // The argument's register may be one of them: it comes last.
        let mut all: Vec<(&str, usize)> = pairs.map(|(i, r)| (*r, 8 * i)).collect();
        all.extend([(self.lanes, 32), (constants, 40)]);
        all.sort_by_key(|(register, _)| *register == argument);
        let load = |(register, place)| format!("mov {register}, [{argument} + {place}]");
        all.into_iter().map(load).collect()
    }

    /// What a square adds to them; pairs are read forwards or backwards.
    fn steps(&self, vectors: Vectors, sign: isize) -> Vec<(&'static str, isize)> {
        let pairs = self.pairs[..Self::levels(vectors)].iter().enumerate();
        let mut steps: Vec<_> = pairs.map(|(i, r)| (*r, sign * (8 << i))).collect();
        steps.push((self.lanes, vectors.lanes_table() as isize));
        steps
    }

    /// The product with twiddle `t` of a square's rows.
    fn by_row(&self, w: &mut Writer, x: Residue, t: usize) -> Residue {
        let level = t.ilog2() as usize;
        let factor = w.pair(self.pairs[level], 8 * (t - (1 << level)));
        w.shoup(x, factor)
    }

    /// The product with twiddle `t` of a square's lanes. They lie in the order that a transform reads them in: from 1 on forwards, back to 1 in an
    /// inverse one.
    fn by_lane(&self, w: &mut Writer, x: Residue, t: usize, forward: bool) -> Residue {
        let vectors = w.vectors();
        let (last, shoup) = (vectors.rows() - 1, SHOUP_LANES);
        let first_vector = match (forward, t <= shoup) {
            (true, true) => 2 * (t - 1),
            (true, false) => t - 1 + shoup,
            (false, true) => last - shoup + 2 * (shoup - t),
            (false, false) => last - t,
        };
        let first = vectors.bytes() * first_vector;
        if t > shoup {
            return w.montgomery(x, (self.lanes, first));
        }
        let factor = Shoup {
            quotients: [at(self.lanes, first), at(self.lanes, first + 4)],
            value: at(self.lanes, first + vectors.bytes()),
        };
        w.shoup(x, factor)
    }
}

/// Brings what a later square reads to the caches, so many bytes of each.
fn fetch(w: &mut Writer, base: &str, bytes: usize) {
    let first = w.vectors().ahead() * bytes;
    for line in (0..bytes).step_by(LINE) {
        w.block.prefetch(at(base, first + line));
    }
}

/// The last stages on squares, in place: along rows if so, transposed along lanes, and to canonical words.
///
/// Arguments: the words, the number of squares, and the tables.
fn forward_squares(vectors: Vectors, along_rows: bool) -> String {
    let (words, turns, argument) = ("rdi", "rsi", "rdx");
    let tables = Tables {
        pairs: ["rdx", "rcx", "r8", "r10"],
        lanes: "r9",
    };
    let constants = "rax";
    let mut w = Writer::new(vectors, Constants(constants));
    let rows = vectors.rows();
    let place = |k: usize| at(words, vectors.bytes() * k);
    let load = |k| w.load(place(k), within(vectors.forward()));
    let mut x: Vec<Residue> = (0..rows).map(load).collect();
    let by_row = |w: &mut Writer, x: Residue, t: usize| tables.by_row(w, x, t);
    if along_rows {
        begin_network(&mut w, &mut x, vectors.begin(rows));
        for stage in 0..stages(rows) {
            forward_stage(&mut w, (rows, stage), &mut x, &by_row);
        }
    }
    transpose(&mut w.block, &mut x);
    begin_network(&mut w, &mut x, 1.0);
    // Shoup's products are above zero, nearly. Where the sums that become results take one off, q is added: so all end above zero, and below
    // 8q. With 512-bit vectors 16q will do.
    let (raised, taken_off): (usize, [&[usize]; 3]) = match vectors {
        Vectors::Narrow => (3, [&[4], &[2, 6], &[]]),
        Vectors::Wide => (6, [&[]; 3]),
    };
    x[0] = w.raise(x[0], raised);
    let by_lane = |w: &mut Writer, x: Residue, t: usize| tables.by_lane(w, x, t, true);
    for stage in 0..stages(rows) {
        forward_stage(&mut w, (rows, stage), &mut x, &by_lane);
        for &j in taken_off.get(stage).copied().unwrap_or(&[]) {
            x[j] = w.raise(x[j], 1);
        }
    }
    fetch(&mut w, tables.lanes, vectors.lanes_table());
    w.canonical(&mut x);
    transpose(&mut w.block, &mut x);
    for (k, x) in x.iter().enumerate() {
        w.block.store(place(k), x.word);
    }
    let before = tables.load(vectors, argument, constants);
    let mut steps = vec![(words, vectors.square() as isize)];
    steps.extend(tables.steps(vectors, 1));
    looped((&[], &before), &w, &steps, turns)
}

/// The first stages of an inverse transform on squares of canonical words: transposed along lanes, then along rows.
///
/// Arguments: from, to, the number of squares, and the tables: pairs at the first square's mirrored entry, which are read backwards.
fn inverse_squares(vectors: Vectors) -> String {
    let (from, to, turns, argument) = ("rdi", "rsi", "rdx", "rcx");
    let tables = Tables {
        pairs: ["rcx", "r8", "r9", "r11"],
        lanes: "r10",
    };
    let constants = "rax";
    let mut w = Writer::new(vectors, Constants(constants));
    let rows = vectors.rows();
    let place = |base: &str, k: usize| at(base, vectors.bytes() * k);
    let load = |k| w.load(place(from, k), CANONICAL);
    let mut x: Vec<Residue> = (0..rows).map(load).collect();
    transpose(&mut w.block, &mut x);
    let by_lane = |w: &mut Writer, x: Residue, t: usize| tables.by_lane(w, x, t, false);
    fetch(&mut w, tables.lanes, vectors.lanes_table());
    fetch(&mut w, from, vectors.square());
    inverse_network(&mut w, rows, &mut x, 0, &by_lane);
    w.near_zero(&mut x, INVERSE);
    transpose(&mut w.block, &mut x);
    let by_row = |w: &mut Writer, x: Residue, t: usize| tables.by_row(w, x, t);
    inverse_network(&mut w, rows, &mut x, 0, &by_row);
    w.near_zero(&mut x, INVERSE);
    for (k, x) in x.iter().enumerate() {
        w.block.store(place(to, k), x.word);
    }
    let before = tables.load(vectors, argument, constants);
    let mut steps = vec![
        (from, vectors.square() as isize),
        (to, vectors.square() as isize),
    ];
    steps.extend(tables.steps(vectors, -1));
    looped((&[], &before), &w, &steps, turns)
}

/// The loops and their names.
pub fn loops() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (vectors, name) in [(Vectors::Narrow, "narrow"), (Vectors::Wide, "wide")] {
        let mut add = |what: &str, text: String| all.push((format!("{name}_{what}"), text));
        let lengths = [4, 8, 16].into_iter();
        for rows in lengths.filter(|&rows| rows <= vectors.rows()) {
            for (kind, first) in [("first", true), ("later", false)] {
                let text = forward_pass(vectors, rows, first);
                add(&format!("forward_{kind}{rows}"), text);
            }
            for (kind, last) in [("later", false), ("last", true)] {
                let text = inverse_pass(vectors, rows, last);
                add(&format!("inverse_{kind}{rows}"), text);
            }
        }
        add("forward_squares", forward_squares(vectors, true));
        add("inverse_squares", inverse_squares(vectors));
    }
    // After 52-bit multiply-adds along rows.
    let lanes = forward_squares(Vectors::Wide, false);
    all.push(("wide_forward_lanes".into(), lanes));
    all
}
