//! Lazy residues: words of 32 bits, eight to a vector, that represent residues modulo a prime q below 2^28, with the range they lie in.
//!
//! Words are signed and of a size up to 8q unless said otherwise. The range is known when the loop is written, so what it needs to stay
//! inside is put where it is needed, and a loop that could leave it is not printed.

use super::block::{at, Block, Operand, Value};
use std::collections::HashMap;

/// Bytes of a vector.
pub const VECTOR: usize = 32;
/// Words are of at most this size, in q: then below 2^31.
const SIZE: f64 = 8.0;

/// Where the constants of a prime are: an address in a register, and their places after it (`ring::ntt::avx2::Constants`).
#[derive(Clone, Copy)]
pub struct Constants(pub &'static str);

impl Constants {
    /// q times 1, 2, 3, 4 or 8.
    fn multiple(self, multiple: usize) -> Operand {
        let place = match multiple {
            8 => 4,
            multiple => multiple - 1,
        };
        at(self.0, VECTOR * place)
    }

    /// `q^-1 mod 2^32`.
    fn inverse(self) -> Operand {
        at(self.0, VECTOR * 5)
    }

    /// Factor `t` (from 1) of a pass.
    pub fn factor(self, t: usize) -> Shoup {
        let quotient = VECTOR * (6 + 2 * (t - 1));
        Shoup {
            quotients: [at(self.0, quotient), at(self.0, quotient)],
            value: at(self.0, quotient + VECTOR),
        }
    }
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
}

/// Writes expressions on residues into a block.
pub struct Writer {
    pub block: Block,
    pub constants: Constants,
    /// Words in all lanes, by address.
    broadcasts: HashMap<String, Value>,
}

impl Writer {
    pub fn new(constants: Constants) -> Self {
        Self {
            block: Block::default(),
            constants,
            broadcasts: HashMap::new(),
        }
    }

    fn residue(word: Value, range: (f64, f64)) -> Residue {
        let residue = Residue { word, range };
        assert!(
            residue.size() <= SIZE,
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
        let word = self
            .block
            .two("vpaddd", x.word, self.constants.multiple(multiple));
        let by = multiple as f64;
        Self::residue(word, (x.range.0 + by, x.range.1 + by))
    }

    /// `x` less a multiple of q.
    fn lower(&mut self, x: Residue, multiple: usize) -> Residue {
        let word = self
            .block
            .two("vpsubd", x.word, self.constants.multiple(multiple));
        let by = multiple as f64;
        Self::residue(word, (x.range.0 - by, x.range.1 - by))
    }

    /// Moves the high words of `even` into the even lanes of `odd`.
    fn join_high(&mut self, even: Value, odd: Value) -> Value {
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
        let multiple = self
            .block
            .two("vpmulld", quotient, self.constants.multiple(1));
        self.block.two("vpsubd", product, multiple)
    }

    /// `x w mod q`. The quotient is off by at most 1/2, which moves the product of an x of size `B q` by `B q/2^33` of q: by B/32 at most, q being
    /// below 2^28.
    pub fn shoup(&mut self, x: Residue, factor: Shoup) -> Residue {
        let word = self.shoup_word("vpmuldq", x.word, factor);
        let off = x.size() / 32.0;
        Self::residue(word, (-off, 1.0 + off))
    }

    /// `x w 2^-32 mod q` for words w in `[0, q)` at an address, after which a word more may be read: odd words are loaded in the place of even ones.
    /// The product of an x of size `B q` is below `B q^2`, and the multiple of q that cancels its low half of size at most `2^31 q`.
    pub fn montgomery(&mut self, x: Residue, (base, place): (&str, usize)) -> Residue {
        let odd = self.odd_lanes(x.word);
        let even = self.block.two("vpmuldq", x.word, at(base, place));
        let odd = self.block.two("vpmuldq", odd, at(base, place + 4));
        let [even, odd] = [even, odd].map(|t| {
            let k = self.block.two("vpmuludq", t, self.constants.inverse());
            let multiple = self.block.two("vpmuldq", k, self.constants.multiple(1));
            self.block.two("vpsubq", t, multiple)
        });
        let word = self.join_high(even, odd);
        let size = 0.5 + x.size() / 16.0;
        Self::residue(word, (-size, size))
    }

    /// Takes multiples of q off each word until its size is at most `size`, 1 or more: one that brings the middle of its range near zero, then those with
    /// the sign of the word.
    pub fn near_zero(&mut self, words: &mut [Residue], size: f64) {
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
                    let constant = self.constants.multiple(multiple);
                    let constant = *loaded.get_or_insert_with(|| self.block.load(constant));
                    let signed = self.block.two("vpsignd", constant, x.word);
                    let word = self.block.two("vpsubd", x.word, signed);
                    let left = after(x, multiple);
                    *x = Self::residue(word, (-left, left));
                }
            }
        }
        assert!(
            words.iter().all(|x| x.size() <= size),
            "a size that words are not brought to"
        );
    }

    /// From `[0, 2 multiple q)` to `[0, multiple q)`; unsigned words.
    fn fold(&mut self, x: Value, multiple: usize) -> Value {
        let less = self
            .block
            .two("vpsubd", x, self.constants.multiple(multiple));
        self.block.two("vpminud", x, less)
    }

    /// `x mod q`, canonical, of a word that is not negative.
    pub fn canonical(&mut self, x: Residue) -> Residue {
        assert!(x.range.0 >= 0.0, "a word may be negative: {:?}", x.range);
        let mut word = x.word;
        for multiple in [4, 2, 1] {
            word = self.fold(word, multiple);
        }
        Self::residue(word, (0.0, 1.0))
    }

    /// `x w mod q`, canonical, by a factor for unsigned words.
    pub fn scaled(&mut self, x: Residue, factor: Shoup) -> Residue {
        // Any unsigned word has its product below 2q.
        let above = self.block.two("vpaddd", x.word, self.constants.multiple(8));
        let word = self.shoup_word("vpmuludq", above, factor);
        Self::residue(self.fold(word, 1), (0.0, 1.0))
    }
}
