//! Lazy residues: words of 32 bits, in the lanes of a vector, that represent residues modulo a prime q below 2^28, with the range they lie in.
//!
//! Words that may be negative are of a size up to 8q, others below 16q. The range is known when the loop is written, so what it needs to
//! stay inside is put where it is needed, and a loop that could leave it is not printed.

use super::block::{at, Block, Operand, Tied, Value, Vectors, EVEN_LANES};
use std::collections::HashMap;

/// Signed words are of at most this size, in q: then below 2^31.
const SIZE: f64 = 8.0;
/// Unsigned words are below this, in q.
const UNSIGNED: f64 = 16.0;

/// Where the constants of a prime are: an address in a register, and their places after it (`Constants` of `ring::ntt::avx2`, which has
/// them in all lanes of a vector each, and of `ring::ntt::avx512`, which has words).
#[derive(Clone, Copy)]
pub struct Constants(pub &'static str);

/// Bytes before what 512-bit vectors read.
mod place {
    pub const REMAINDERS: usize = 0;
    pub const MULTIPLES: usize = 128;
    pub const INVERSE: usize = 160;
    pub const SHIFT: usize = 164;
    pub const FACTORS: usize = 168;
}

/// A factor w in the form of Shoup: `w 2^32 / q` for even and for odd lanes (to the nearest integer for signed words, its floor for unsigned ones),
/// and w, of size below q/2 for signed words.
pub struct Shoup {
    pub quotients: [Operand; 2],
    pub value: Operand,
}

/// A lazy residue.
#[derive(Clone, Copy, Debug)]
pub struct Residue {
    pub word: Value,
    /// What the word is not below and not above, in q.
    pub range: (f64, f64),
}

impl Residue {
    fn size(self) -> f64 {
        self.range.1.max(-self.range.0)
    }

    fn assert_signed(self) {
        assert!(self.size() <= SIZE, "not a signed word: {:?}", self.range);
    }
}

/// Writes expressions on residues into a block.
pub struct Writer {
    pub block: Block,
    constants: &'static str,
    /// Words in all lanes, by address.
    broadcasts: HashMap<String, Value>,
    /// What 512-bit vectors keep in registers, the last ones.
    kept: Vec<String>,
}

impl Writer {
    pub fn new(vectors: Vectors, Constants(constants): Constants) -> Self {
        Self {
            block: Block::new(vectors),
            constants,
            broadcasts: HashMap::new(),
            kept: Vec::new(),
        }
    }

    pub fn vectors(&self) -> Vectors {
        self.block.vectors
    }

    /// Registers for the block's values.
    pub fn registers(&self) -> usize {
        self.vectors().registers() - self.kept.len()
    }

    /// Sets the mask, before the loop and before registers are given what they hold.
    pub fn mask(&self) -> Vec<String> {
        match self.vectors() {
            Vectors::Narrow => Vec::new(),
            Vectors::Wide => vec!["mov eax, 0x5555".into(), "kmovw k1, eax".into()],
        }
    }

    /// Loads what is kept in registers, before the loop.
    pub fn kept(&self) -> Vec<String> {
        let load = |(index, address)| {
            let register = self.kept_register(index);
            format!("vpbroadcastd {register}, dword ptr [{address}]")
        };
        self.kept.iter().enumerate().map(load).collect()
    }

    fn kept_register(&self, index: usize) -> String {
        let vectors = self.vectors();
        vectors.register(vectors.registers() - 1 - index)
    }

    /// The word at a place of the constants, in all lanes of a register that is kept for it.
    fn keep(&mut self, place: usize) -> Operand {
        let address = format!("{} + {place}", self.constants);
        let known = self.kept.iter().position(|kept| *kept == address);
        let index = known.unwrap_or_else(|| {
            self.kept.push(address);
            self.kept.len() - 1
        });
        Operand::Kept(self.kept_register(index))
    }

    /// q times 1, 2, 3, 4 or 8; with 512-bit vectors 1 to 8.
    fn multiple(&mut self, multiple: usize) -> Operand {
        match (self.vectors(), multiple) {
            (Vectors::Narrow, 8) => at(self.constants, 32 * 4),
            (Vectors::Narrow, multiple) => at(self.constants, 32 * (multiple - 1)),
            (Vectors::Wide, 1) => self.keep(place::MULTIPLES),
            (Vectors::Wide, multiple) => {
                let place = place::MULTIPLES + 4 * (multiple - 1);
                Operand::Everywhere(format!("{} + {place}", self.constants))
            }
        }
    }

    /// `q^-1 mod 2^32`.
    fn inverse(&mut self) -> Operand {
        match self.vectors() {
            Vectors::Narrow => at(self.constants, 32 * 5),
            Vectors::Wide => self.keep(place::INVERSE),
        }
    }

    /// Factor `t` (from 1) of a pass.
    pub fn factor(&mut self, t: usize) -> Shoup {
        match self.vectors() {
            Vectors::Narrow => {
                let quotient = 32 * (6 + 2 * (t - 1));
                Shoup {
                    quotients: [quotient; 2].map(|place| at(self.constants, place)),
                    value: at(self.constants, quotient + 32),
                }
            }
            Vectors::Wide => self.pair(self.constants, place::FACTORS + 8 * (t - 1)),
        }
    }

    /// The factor whose quotient and value are words at an address.
    pub fn pair(&mut self, base: &str, place: usize) -> Shoup {
        let quotient = self.broadcast(base, place);
        Shoup {
            quotients: [quotient.clone(), quotient],
            value: self.broadcast(base, place + 4),
        }
    }

    fn residue(word: Value, range: (f64, f64)) -> Residue {
        let residue = Residue { word, range };
        let unsigned = range.0 >= 0.0 && range.1 <= UNSIGNED;
        assert!(
            unsigned || residue.size() <= SIZE,
            "a word may leave its bits: {range:?}"
        );
        residue
    }

    pub fn load(&mut self, from: Operand, range: (f64, f64)) -> Residue {
        Self::residue(self.block.load(from), range)
    }

    /// The word at an address in all lanes, loaded once for all that read it.
    pub fn broadcast(&mut self, base: &str, place: usize) -> Operand {
        let address = format!("{base} + {place}");
        let load = || self.block.make("vpbroadcastd", vec![at(base, place)]);
        let word = *self.broadcasts.entry(address).or_insert_with(load);
        word.into()
    }

    pub fn sum(&mut self, a: Residue, b: Residue) -> Residue {
        let word = self.block.two("vpaddd", a.word, b.word);
        Self::residue(word, (a.range.0 + b.range.0, a.range.1 + b.range.1))
    }

    pub fn difference(&mut self, a: Residue, b: Residue) -> Residue {
        let word = self.block.two("vpsubd", a.word, b.word);
        Self::residue(word, (a.range.0 - b.range.1, a.range.1 - b.range.0))
    }

    /// `x` plus a multiple of q.
    pub fn raise(&mut self, x: Residue, multiple: usize) -> Residue {
        let multiples = self.multiple(multiple);
        let word = self.block.two("vpaddd", x.word, multiples);
        let by = multiple as f64;
        Self::residue(word, (x.range.0 + by, x.range.1 + by))
    }

    /// `x` less a multiple of q.
    fn lower(&mut self, x: Residue, multiple: usize) -> Residue {
        let multiples = self.multiple(multiple);
        let word = self.block.two("vpsubd", x.word, multiples);
        let by = multiple as f64;
        Self::residue(word, (x.range.0 - by, x.range.1 - by))
    }

    /// Moves the high words of `even` into the even lanes of `odd`.
    fn join_high(&mut self, even: Value, odd: Value) -> Value {
        if self.vectors() == Vectors::Wide {
            let tied = Tied {
                value: odd,
                mask: EVEN_LANES,
            };
            return self.block.over("vmovshdup", tied, vec![even.into()]);
        }
        let high = Operand::Immediate(0b11_11_01_01);
        let even = self.block.two("vpshufd", even, high);
        let odd_lanes = Operand::Immediate(0b1010_1010);
        self.block
            .make("vpblendd", vec![even.into(), odd.into(), odd_lanes])
    }

    fn odd_lanes(&mut self, x: Value) -> Value {
        self.block.two("vpsrlq", x, Operand::Immediate(32))
    }

    /// `x w - floor(x quotient / 2^32) q`, with products by `multiply`.
    fn shoup_word(&mut self, multiply: &'static str, x: Value, factor: Shoup) -> Value {
        let odd = self.odd_lanes(x);
        let [even_quotient, odd_quotient] = factor.quotients;
        let even = self.block.two(multiply, x, even_quotient);
        let odd = self.block.two(multiply, odd, odd_quotient);
        let product = self.block.two("vpmulld", x, factor.value);
        let quotient = self.join_high(even, odd);
        let q = self.multiple(1);
        let multiple = self.block.two("vpmulld", quotient, q);
        self.block.two("vpsubd", product, multiple)
    }

    /// `x w mod q`. The quotient is off by at most 1/2, which moves the product of an x of size `B q` by `B q/2^33` of q: by B/32 at most, q being
    /// below 2^28.
    pub fn shoup(&mut self, x: Residue, factor: Shoup) -> Residue {
        x.assert_signed();
        let word = self.shoup_word("vpmuldq", x.word, factor);
        let off = x.size() / 32.0;
        Self::residue(word, (-off, 1.0 + off))
    }

    /// `x w 2^-32 mod q` for words w in `[0, q)` at an address, after which a word more may be read: odd words are loaded in the place of even ones.
    /// The product of an x of size `B q` is below `B q^2`, and the multiple of q that cancels its low half of size at most `2^31 q`.
    pub fn montgomery(&mut self, x: Residue, (base, place): (&str, usize)) -> Residue {
        x.assert_signed();
        let odd = self.odd_lanes(x.word);
        let even = self.block.two("vpmuldq", x.word, at(base, place));
        let odd = self.block.two("vpmuldq", odd, at(base, place + 4));
        let [even, odd] = [even, odd].map(|t| {
            let (q, inverse) = (self.multiple(1), self.inverse());
            let k = self.block.two("vpmuludq", t, inverse);
            let multiple = self.block.two("vpmuldq", k, q);
            self.block.two("vpsubq", t, multiple)
        });
        let word = self.join_high(even, odd);
        let size = 0.5 + x.size() / 16.0;
        Self::residue(word, (-size, size))
    }

    /// Takes multiples of q off each word until its size is at most `size`, 1 or more.
    pub fn near_zero(&mut self, words: &mut [Residue], size: f64) {
        match self.vectors() {
            Vectors::Narrow => self.near_zero_by_signs(words, size),
            Vectors::Wide => {
                for x in words.iter_mut() {
                    *x = self.near_zero_by_minima(*x, size);
                }
            }
        }
        assert!(
            words.iter().all(|x| x.size() <= size),
            "a size that words are not brought to"
        );
    }

    /// One multiple that brings the middle of a word's range near zero, then those with the sign of the word.
    fn near_zero_by_signs(&mut self, words: &mut [Residue], size: f64) {
        for x in words.iter_mut().filter(|x| x.size() > size) {
            let middle = ((x.range.0 + x.range.1) / 2.0).round();
            if middle >= 1.0 {
                *x = self.lower(*x, middle as usize);
            }
        }
        for multiple in (1..=4).rev() {
            let after = |x: &Residue, multiple: usize| {
                let multiple = multiple as f64;
                multiple.max(x.size() - multiple)
            };
            let is_next = |x: &&mut Residue| {
                let best = (1..=4).min_by(|&a, &b| after(x, a).total_cmp(&after(x, b)));
                x.size() > size && best == Some(multiple)
            };
            let mut loaded = None;
            for x in words.iter_mut() {
                while is_next(&x) {
                    let constant = self.multiple(multiple);
                    let constant = *loaded.get_or_insert_with(|| self.block.load(constant));
                    let signed = self.block.two("vpsignd", constant, x.word);
                    let word = self.block.two("vpsubd", x.word, signed);
                    let left = after(x, multiple);
                    *x = Self::residue(word, (-left, left));
                }
            }
        }
    }

    /// The fewest steps of [`Step`].
    fn near_zero_by_minima(&mut self, x: Residue, size: f64) -> Residue {
        let steps = (0..=8).find_map(|operations| Step::path(x.range, size, operations));
        let steps = steps.expect("a size that words can be brought to");
        steps.into_iter().fold(x, |x, step| self.step(x, step))
    }

    fn step(&mut self, x: Residue, step: Step) -> Residue {
        let (add, multiple) = match step {
            Step::Move(by) if by > 0 => return self.raise(x, by as usize),
            Step::Move(by) => return self.lower(x, -by as usize),
            Step::AboveZero(multiple) => ("vpaddd", multiple),
            Step::Fold(multiple) => ("vpsubd", multiple),
        };
        let multiples = self.multiple(multiple);
        let other = self.block.two(add, x.word, multiples);
        let word = self.block.two("vpminud", x.word, other);
        Self::residue(word, (0.0, multiple as f64))
    }

    /// From `[0, 2 multiple q)` to `[0, multiple q)`; unsigned words.
    fn fold(&mut self, x: Value, multiple: usize) -> Value {
        let multiples = self.multiple(multiple);
        let less = self.block.two("vpsubd", x, multiples);
        self.block.two("vpminud", x, less)
    }

    /// `x mod q`, canonical, of words that are not negative; with 256-bit vectors below 8q.
    pub fn canonical(&mut self, words: &mut [Residue]) {
        let fine = |x: &Residue| x.range.0 >= 0.0;
        assert!(words.iter().all(fine), "a word may be negative");
        match self.vectors() {
            Vectors::Narrow => {
                for x in words {
                    x.assert_signed();
                    let word = [4, 2, 1]
                        .into_iter()
                        .fold(x.word, |word, m| self.fold(word, m));
                    *x = Self::residue(word, (0.0, 1.0));
                }
            }
            Vectors::Wide => self.remainders(words),
        }
    }

    /// Looks up the multiple of q to take off, up to one, by a word's five leading bits: those from that of q's first on.
    fn remainders(&mut self, words: &mut [Residue]) {
        let shift = self.broadcast(self.constants, place::SHIFT);
        let multiples = [0, 64].map(|bytes| at(self.constants, place::REMAINDERS + bytes));
        let [first, second] = multiples;
        let first = self.block.load(first);
        for x in words {
            let value = self.block.two("vpsrlvd", x.word, shift.clone());
            let tied = Tied { value, mask: "" };
            let operands = vec![first.into(), second.clone()];
            let multiple = self.block.over("vpermi2d", tied, operands);
            let below_two = self.block.two("vpsubd", x.word, multiple);
            *x = Self::residue(self.fold(below_two, 1), (0.0, 1.0));
        }
    }

    /// `x w mod q`, canonical, by a factor for unsigned words.
    pub fn scaled(&mut self, x: Residue, factor: Shoup) -> Residue {
        x.assert_signed();
        // Any unsigned word has its product below 2q.
        let most = self.multiple(8);
        let above = self.block.two("vpaddd", x.word, most);
        let word = self.shoup_word("vpmuludq", above, factor);
        Self::residue(self.fold(word, 1), (0.0, 1.0))
    }
}

/// What brings a word nearer to zero where there is an unsigned minimum, by multiples of q.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Adds: one operation.
    Move(isize),
    /// From within `[-m q, m q)` to `[0, m q)`: the lesser, unsigned, of a word and itself plus m q.
    AboveZero(usize),
    /// From within `[0, 2 m q)` to `[0, m q)`.
    Fold(usize),
}

impl Step {
    /// The steps from a range to a size with so many operations, if there are any.
    pub fn path(range: (f64, f64), size: f64, operations: usize) -> Option<Vec<Self>> {
        if range.1.max(-range.0) <= size {
            return Some(Vec::new());
        }
        let middle = ((range.0 + range.1) / 2.0).round();
        let least = range.1.max(-range.0).ceil();
        let above = (range.0 < 0.0 && least <= SIZE)
            .then_some((Self::AboveZero(least as usize), (0.0, least)));
        let half = (range.1 / 2.0).ceil();
        let fold = (range.0 >= 0.0).then_some((Self::Fold(half as usize), (0.0, half)));
        let moved = (range.0 - middle, range.1 - middle);
        let moved = (middle != 0.0).then_some((Self::Move(-middle as isize), moved));
        let all = [(1, moved), (2, above), (2, fold)];
        all.into_iter().find_map(|(cost, step)| {
            let (step, range) = step?;
            let rest = Self::path(range, size, operations.checked_sub(cost)?)?;
            Some([vec![step], rest].concat())
        })
    }
}
