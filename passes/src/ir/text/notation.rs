//! How numbers, names and constants are written.

use std::fmt::Write;

use super::cursor::is_bare;
use crate::ir::shape::Matrix;
use crate::ir::weight::Weight;

/// The shortest decimal that reads back to the same number.
pub fn number(x: f64) -> String {
    let text = format!("{x:?}");
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_string(),
        None => text,
    }
}

/// A name, in quotes where it needs them.
pub fn name(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_string();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Short or full; in the full form it collects the constants.
#[derive(Debug, Default)]
pub struct Notation {
    /// The constants written so far; `None` in the short form.
    constants: Option<String>,
    /// Name of the value whose operation is being written: its constants carry it.
    value: String,
}

impl Notation {
    /// Rounded numbers, no constants.
    pub fn short() -> Self {
        Self::default()
    }

    /// Exact numbers, constants by name.
    pub fn full() -> Self {
        Notation {
            constants: Some(String::new()),
            value: String::new(),
        }
    }

    /// Whether this is the full form.
    pub fn is_full(&self) -> bool {
        self.constants.is_some()
    }

    /// Constants from here on belong to this value.
    pub fn enter(&mut self, value: &str) {
        self.value = value.to_string();
    }

    /// The section of constants, empty if there are none.
    pub fn section(self) -> String {
        match self.constants {
            Some(text) if !text.is_empty() => format!("constants {{\n{text}}}\n"),
            _ => String::new(),
        }
    }

    /// A number with `digits` decimals, or exact.
    pub fn number(&self, x: f64, digits: usize) -> String {
        if self.is_full() {
            number(x)
        } else {
            format!("{x:.digits$}")
        }
    }

    /// A number with an exponent and `digits` decimals, or exact.
    pub fn scientific(&self, x: f64, digits: usize) -> String {
        if self.is_full() {
            number(x)
        } else {
            format!("{x:.digits$e}")
        }
    }

    /// The size of a matrix, or its name.
    pub fn matrix(&mut self, role: &str, m: &Matrix) -> String {
        if !self.is_full() {
            return format!("{}x{}", m.rows, m.cols);
        }
        self.constant(role, |text| {
            // Writing to a string cannot fail.
            let _ = write!(text, "matrix {}x{}", m.rows, m.cols);
            for row in m.data.chunks(m.cols.max(1)) {
                text.push_str("\n   ");
                write_runs(text, row);
            }
        })
    }

    /// The size of the matrix of a linear map, or its name.
    pub fn weight(&mut self, role: &str, w: &Weight) -> String {
        match w {
            Weight::Dense(m) => self.matrix(role, m),
            _ if self.is_full() => self.matrix(role, &w.dense()),
            _ => format!("{}x{}", w.rows(), w.cols()),
        }
    }

    /// The size of a vector, or its name: a matrix of one row.
    pub fn vector(&mut self, role: &str, v: &[f64]) -> String {
        if !self.is_full() {
            return format!("1x{}", v.len());
        }
        self.constant(role, |text| {
            let _ = write!(text, "matrix 1x{}", v.len());
            write_runs(text, v);
        })
    }

    /// The number of whole numbers, or their name.
    pub fn integers(&mut self, role: &str, numbers: &[i64]) -> String {
        if !self.is_full() {
            return numbers.len().to_string();
        }
        self.constant(role, |text| {
            let _ = write!(text, "integers {}", numbers.len());
            write_integers(text, numbers);
        })
    }

    /// Writes a constant and returns its name (the value's, a dot, and `role`); `write` puts what follows its `=`.
    pub fn constant(&mut self, role: &str, write: impl FnOnce(&mut String)) -> String {
        let reference = if self.value.is_empty() {
            format!("@{}", name(role))
        } else {
            format!("@{}", name(&format!("{}.{role}", self.value)))
        };
        if let Some(text) = &mut self.constants {
            text.push_str("  ");
            text.push_str(&reference);
            text.push_str(" = ");
            write(text);
            text.push('\n');
        }
        reference
    }
}

/// Numbers with a blank before each; four equal ones or more as `x*count`.
pub(in crate::ir) fn write_runs(text: &mut String, numbers: &[f64]) {
    for run in numbers.chunk_by(|a, b| a.to_bits() == b.to_bits()) {
        let one = number(run.first().copied().unwrap_or(0.0));
        if run.len() >= 4 {
            let _ = write!(text, " {one}*{}", run.len());
        } else {
            run.iter().for_each(|_| {
                text.push(' ');
                text.push_str(&one);
            });
        }
    }
}

/// Whole numbers with a blank before each; ascending ones as `first..last`, equal ones as `x*count`.
pub(in crate::ir) fn write_integers(text: &mut String, numbers: &[i64]) {
    let mut rest = numbers;
    while let [first, ..] = rest {
        let rising = 1 + rest
            .windows(2)
            .take_while(|w| w[0].checked_add(1) == Some(w[1]))
            .count();
        let equal = rest.iter().take_while(|x| *x == first).count();
        let (length, item) = if rising >= 3 {
            let last = rest.get(rising - 1).unwrap_or(first);
            (rising, format!(" {first}..{last}"))
        } else if equal >= 3 {
            (equal, format!(" {first}*{equal}"))
        } else {
            (1, format!(" {first}"))
        };
        text.push_str(&item);
        rest = rest.get(length..).unwrap_or(&[]);
    }
}
