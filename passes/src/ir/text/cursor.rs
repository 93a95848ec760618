//! Reads text token by token, and says where it went wrong.

use crate::ir::shape::{Interval, Shape};

/// Text that is not what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}; graphs are written by --dump-ir, compare with such a file")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What may stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// Most numbers of one constant, and most elements of one value.
pub const MOST: usize = 1 << 28;

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

/// Characters of names that need no quotes.
pub(super) fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

impl<'t> Cursor<'t> {
    /// At the start of a text.
    pub fn new(text: &'t str) -> Self {
        Cursor { text, at: 0 }
    }

    /// Number of bytes before this place.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The same text at another offset, which must come from [`Cursor::offset`].
    pub fn moved(&self, at: usize) -> Self {
        Cursor { at, ..*self }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.text.len().saturating_sub(self.at)
    }

    /// Passes blanks and comments.
    pub fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// An error here.
    pub fn fail(&self, expected: impl Into<String>) -> ParseError {
        let mut here = *self;
        here.skip();
        let rest = here.rest();
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(i, c)| c.is_whitespace() || matches!(c, ',' | '{' | '}') || *i > 32)
            .map_or(rest.len(), |(i, _)| i);
        let found = match &rest[..end] {
            "" => "the end of the text".to_string(),
            token => format!("`{}`", token.escape_debug()),
        };
        here.fail_with(expected, found)
    }

    /// An error here, about something already read.
    pub fn fail_with(&self, expected: impl Into<String>, found: impl Into<String>) -> ParseError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// Passes `symbol` if it comes next.
    pub fn try_symbol(&mut self, symbol: &str) -> bool {
        self.skip();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    /// Passes `symbol`.
    pub fn symbol(&mut self, symbol: &str) -> Result<(), ParseError> {
        if self.try_symbol(symbol) {
            Ok(())
        } else {
            Err(self.fail(format!("`{symbol}`")))
        }
    }

    /// Whether `c` comes next.
    pub fn next_is(&self, c: char) -> bool {
        let mut ahead = *self;
        ahead.skip();
        ahead.rest().starts_with(c)
    }

    fn take(&mut self, keep: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// The word that comes next, without passing it; empty if none does.
    pub fn peek_word(&self) -> &'t str {
        let mut ahead = *self;
        ahead.skip();
        ahead.take(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// A word: letters, digits and `_`.
    pub fn word(&mut self, what: &str) -> Result<&'t str, ParseError> {
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.fail(what));
        }
        self.skip();
        self.at += word.len();
        Ok(word)
    }

    /// Passes `word` if it comes next.
    pub fn try_keyword(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.skip();
            self.at += word.len();
        }
        found
    }

    /// Passes `word`.
    pub fn keyword(&mut self, word: &str) -> Result<(), ParseError> {
        if self.try_keyword(word) {
            Ok(())
        } else {
            Err(self.fail(format!("`{word}`")))
        }
    }

    /// A comma and `word`, as before most parameters of an operation.
    pub fn parameter(&mut self, word: &str) -> Result<(), ParseError> {
        self.symbol(",")?;
        self.keyword(word)
    }

    /// Passes a comma and `word` if they come next.
    pub fn try_parameter(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.try_symbol(",") && ahead.try_keyword(word);
        if found {
            *self = ahead;
        }
        found
    }

    /// A name, bare or in quotes.
    pub fn name(&mut self, what: &str) -> Result<String, ParseError> {
        self.skip();
        let start = *self;
        if !self.rest().starts_with('"') {
            return match self.take(is_bare) {
                "" => Err(start.fail(what)),
                bare => Ok(bare.to_string()),
            };
        }
        self.at += 1;
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(name);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => name.push('\n'),
                    Some((_, c)) => name.push(c),
                    None => break,
                },
                '\n' => break,
                c => name.push(c),
            }
        }
        Err(start.fail_with("a closing `\"` on the same line", "none"))
    }

    /// A name after `sign` (`%` or `@`).
    pub fn signed_name(&mut self, sign: char, what: &str) -> Result<String, ParseError> {
        self.skip();
        let start = *self;
        if !self.rest().starts_with(sign) {
            return Err(start.fail(what));
        }
        self.at += 1;
        if self.rest().starts_with(char::is_whitespace) {
            return Err(start.fail(what));
        }
        self.name(what)
    }

    /// A number: decimal, `inf` or `NaN`.
    pub fn number(&mut self, what: &str) -> Result<f64, ParseError> {
        self.skip();
        let start = *self;
        let rest = self.rest().as_bytes();
        let mut end = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
        if rest.get(end).is_some_and(u8::is_ascii_alphabetic) {
            while rest.get(end).is_some_and(u8::is_ascii_alphabetic) {
                end += 1;
            }
        } else {
            while let Some(c) = rest.get(end) {
                let exponent = matches!(c, b'e' | b'E');
                if !(c.is_ascii_digit() || *c == b'.' || exponent) {
                    break;
                }
                end += 1;
                if exponent && matches!(rest.get(end), Some(b'+' | b'-')) {
                    end += 1;
                }
            }
        }
        let token = self.rest().get(..end).unwrap_or("");
        match token.parse() {
            Ok(x) => {
                self.at += end;
                Ok(x)
            }
            Err(_) => Err(start.fail(what)),
        }
    }

    /// A whole number that fits `T`.
    pub fn integer<T: TryFrom<i64>>(&mut self, what: &str) -> Result<T, ParseError> {
        self.skip();
        let start = *self;
        let negative = self.rest().starts_with('-');
        self.at += usize::from(negative);
        let digits = self.take(|c| c.is_ascii_digit());
        let value = digits.parse::<i64>().ok();
        let value = value.map(|x| if negative { -x } else { x });
        value
            .and_then(|x| T::try_from(x).ok())
            .ok_or_else(|| start.fail(what))
    }

    /// A count of 1 to 2^28.
    pub fn count(&mut self, what: &str) -> Result<usize, ParseError> {
        let start = *self;
        let n: usize = self.integer(what)?;
        if n == 0 || n > MOST {
            return Err(start.fail(format!("{what} of 1 to {MOST}")));
        }
        Ok(n)
    }

    /// Numbers between brackets, separated by blanks.
    pub fn numbers(&mut self, what: &str) -> Result<Vec<f64>, ParseError> {
        self.symbol("[")?;
        let mut all = Vec::new();
        while !self.try_symbol("]") {
            all.push(self.number(what)?);
        }
        Ok(all)
    }

    /// Counts between brackets, separated by commas.
    pub fn counts(&mut self, what: &str) -> Result<Vec<usize>, ParseError> {
        let start = *self;
        self.symbol("[")?;
        let mut all: Vec<usize> = Vec::new();
        let mut size = 1usize;
        while !self.try_symbol("]") {
            if !all.is_empty() {
                self.symbol(",")?;
            }
            let n = self.count(what)?;
            size = size.saturating_mul(n);
            all.push(n);
        }
        if size > MOST {
            return Err(start.fail(format!("{what} of at most {MOST} elements")));
        }
        Ok(all)
    }

    /// `[lo, hi]`.
    pub fn interval(&mut self) -> Result<Interval, ParseError> {
        self.symbol("[")?;
        let lo = self.number("the lower end of an interval")?;
        self.symbol(",")?;
        let hi = self.number("the upper end of an interval")?;
        self.symbol("]")?;
        Ok(Interval { lo, hi })
    }

    /// `[4,4]`, `[2h,4,4]`, `[2h,4]` or `[4]`.
    pub fn shape(&mut self) -> Result<Shape, ParseError> {
        const WHAT: &str = "a size of a shape";
        let start = *self;
        self.symbol("[")?;
        let first = self.count(WHAT)?;
        let heads = self.try_symbol("h");
        let mut sizes = vec![first];
        while self.try_symbol(",") {
            sizes.push(self.count(WHAT)?);
        }
        self.symbol("]")?;
        let shape = match (heads, &sizes[..]) {
            (true, &[heads, rows, keys]) => Shape::Scores { heads, rows, keys },
            (true, &[heads, rows]) => Shape::PerHead { heads, rows },
            (false, &[rows, cols]) => Shape::Matrix { rows, cols },
            (false, &[rows]) => Shape::PerRow { rows },
            _ => {
                return Err(start.fail("[rows,cols], [heads h,rows,keys], [heads h,rows] or [rows]"))
            }
        };
        let elements = sizes.iter().fold(1usize, |n, s| n.saturating_mul(*s));
        if elements > MOST {
            return Err(start.fail(format!("a shape of at most {MOST} elements")));
        }
        Ok(shape)
    }

    /// Passes `{`, and everything up to the `}` that belongs to it.
    pub fn skip_block(&mut self) -> Result<(), ParseError> {
        let start = *self;
        self.symbol("{")?;
        let mut depth = 1usize;
        while depth > 0 {
            self.skip();
            let Some(c) = self.rest().chars().next() else {
                return Err(start.fail_with("a `}` that closes this block", "none"));
            };
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                '"' => {
                    self.name("a string")?;
                    continue;
                }
                _ => {}
            }
            self.at += c.len_utf8();
        }
        Ok(())
    }

    /// Passes everything up to the next `sign` or `}`; `true` at a `sign`.
    pub fn seek(&mut self, sign: char) -> Result<bool, ParseError> {
        let start = *self;
        loop {
            self.skip();
            match self.rest().chars().next() {
                Some('"') => {
                    self.name("a string")?;
                }
                Some('}') => return Ok(false),
                Some(c) if c == sign => return Ok(true),
                Some(c) => self.at += c.len_utf8(),
                None => return Err(start.fail_with("a closing `}`", "none")),
            }
        }
    }

    /// Whether nothing is left.
    pub fn end(&mut self) -> Result<(), ParseError> {
        self.skip();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.fail("the end of the text"))
        }
    }
}
