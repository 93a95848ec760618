//! Where the elements of a value sit in the slots of its ciphertexts.

use std::borrow::Cow;
use std::fmt;

/// An element number (row-major in the value's shape) or nothing.
pub type Cell = Option<u32>;

/// How slots are cut up, the same for a whole program.
///
/// A ciphertext has `slots` slots; `batch` inputs lie side by side in neighbouring slots, so that there are
/// `slots / batch` *virtual* slots: slot = virtual · batch + lane of the batch. A virtual slot is
/// (window · tokens + token) · window_lanes + lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots of a ciphertext: a power of two.
    pub slots: usize,
    /// Inputs side by side: a power of two.
    pub batch: usize,
    /// Number of tokens, padded to a power of two.
    pub tokens: usize,
    /// Lanes of one window: a power of two.
    pub lanes: usize,
}

impl Geometry {
    /// Virtual slots of a ciphertext.
    pub fn virtual_slots(&self) -> usize {
        self.slots / self.batch
    }

    /// Virtual slots of one window of all tokens.
    pub fn window(&self) -> usize {
        self.tokens * self.lanes
    }

    /// Windows of a ciphertext.
    pub fn windows(&self) -> usize {
        self.virtual_slots() / self.window()
    }

    /// (window, token, lane) of a virtual slot.
    pub fn place(&self, slot: usize) -> (usize, usize, usize) {
        let block = slot / self.lanes;
        (block / self.tokens, block % self.tokens, slot % self.lanes)
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slots {} = {} windows x {} tokens x {} lanes x batch {}",
            self.slots,
            self.windows(),
            self.tokens,
            self.lanes,
            self.batch
        )
    }
}

/// For each ciphertext and virtual slot the element held. All ciphertexts of a value have one period (a power of two that
/// divides the virtual slots); the slots repeat with it. A slot that holds no element holds *something* in [-1, 1],
/// gentle beyond; no linear map reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    cells: Vec<Vec<Cell>>,
    note: Cow<'static, str>,
}

impl Layout {
    /// A layout from the cells of each ciphertext, all of one power-of-two length; the period is reduced as far as the cells
    /// allow. `note` is for the printed graph.
    pub fn new(mut cells: Vec<Vec<Cell>>, note: impl Into<Cow<'static, str>>) -> Self {
        let note = note.into();
        let mut period = cells.first().map_or(1, Vec::len);
        while period > 1
            && cells
                .iter()
                .all(|c| c[..period / 2] == c[period / 2..period])
        {
            period /= 2;
            for c in &mut cells {
                c.truncate(period);
            }
        }
        Layout { cells, note }
    }

    /// Number of ciphertexts.
    pub fn ciphertexts(&self) -> usize {
        self.cells.len()
    }

    /// Virtual slots after which the slots repeat.
    pub fn period(&self) -> usize {
        self.cells.first().map_or(1, Vec::len)
    }

    /// The element in virtual slot `slot` (taken modulo the period) of ciphertext `ciphertext`.
    pub fn cell(&self, ciphertext: usize, slot: usize) -> Cell {
        let cells = self.cells.get(ciphertext)?;
        cells.get(slot & (cells.len() - 1)).copied().flatten()
    }

    /// The cells of a ciphertext, one period.
    pub fn cells(&self, ciphertext: usize) -> &[Cell] {
        self.cells.get(ciphertext).map_or(&[], Vec::as_slice)
    }

    /// Remark for the printed graph.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// (ciphertext, slot) of every copy of every element, within one period, of the slots that `keep` chooses.
    pub fn holders(&self, keep: impl Fn(usize) -> bool) -> Holders {
        let held = || {
            self.cells.iter().enumerate().flat_map(|(c, cells)| {
                let slots = cells.iter().enumerate();
                slots.filter_map(move |(slot, cell)| cell.map(|e| (e, c, slot)))
            })
        };
        let count = held().map(|(e, _, _)| e as usize + 1).max().unwrap_or(0);
        let mut first = vec![0u32; count + 1];
        for (e, _, slot) in held() {
            first[e as usize + 1] += u32::from(keep(slot));
        }
        for e in 0..count {
            first[e + 1] += first[e];
        }
        let mut next = first.clone();
        let mut places = vec![(0, 0); first[count] as usize];
        for (e, c, slot) in held() {
            if keep(slot) {
                let at = &mut next[e as usize];
                places[*at as usize] = (c as u32, slot as u32);
                *at += 1;
            }
        }
        Holders { first, places }
    }

    /// Whether the elements agree in all slots where both layouts hold one, and neither has more ciphertexts or holds
    /// an element where the other has none.
    pub fn same_cells(&self, other: &Layout) -> bool {
        self.cells == other.cells
    }

    /// Whether no slot holds an element: partial results that only later sums give a meaning.
    pub fn is_unnamed(&self) -> bool {
        self.cells.iter().flatten().all(Option::is_none)
    }

    /// The same places holding other elements: `f(element)`; ciphertexts that become equal collapse into one.
    pub fn map(&self, note: &'static str, f: impl Fn(u32) -> u32) -> Layout {
        let mut cells: Vec<Vec<Cell>> = self
            .cells
            .iter()
            .map(|c| c.iter().map(|e| e.map(&f)).collect())
            .collect();
        if cells.iter().all(|c| Some(c) == cells.first()) {
            cells.truncate(1);
        }
        Layout::new(cells, note)
    }

    /// Number of different elements held.
    pub fn elements(&self) -> usize {
        let mut all: Vec<u32> = self.cells.iter().flatten().flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }
}

/// Where each element of a layout is.
#[derive(Clone, Debug)]
pub struct Holders {
    /// Element e is at `places[first[e]..first[e + 1]]`.
    first: Vec<u32>,
    places: Vec<(u32, u32)>,
}

impl Holders {
    /// (ciphertext, slot) of every copy of an element.
    pub fn of(&self, element: u32) -> &[(u32, u32)] {
        let e = element as usize;
        match (self.first.get(e), self.first.get(e + 1)) {
            (Some(&from), Some(&to)) => &self.places[from as usize..to as usize],
            _ => &[],
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ct[{}] {} period {}",
            self.ciphertexts(),
            self.note,
            self.period()
        )
    }
}
