//! Pieces of linear maps: summands of elements, maps of rows, biases.

use std::ops::Deref;

use heron_passes::ir::shape::Matrix;
use heron_passes::ir::tensor::RowMap;

/// One summand of an element of a view: factor × base[m, n].
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) element: u32,
    pub(super) factor: f64,
}

/// The summands of one element: most elements have one, and there are millions of elements.
#[derive(Clone)]
pub(super) enum Parts {
    /// One summand, kept in place.
    One(Part),
    /// None or several.
    Several(Vec<Part>),
}

impl Parts {
    /// No summands.
    pub(super) fn none() -> Parts {
        Parts::Several(Vec::new())
    }

    /// Adds a summand; factors of the same element are added up.
    pub(super) fn add(&mut self, part: Part) {
        match self {
            Parts::One(p) if p.element == part.element => p.factor += part.factor,
            Parts::One(p) => *self = Parts::Several(vec![*p, part]),
            Parts::Several(all) if all.is_empty() => *self = Parts::One(part),
            Parts::Several(all) => match all.iter_mut().find(|p| p.element == part.element) {
                Some(p) => p.factor += part.factor,
                None => all.push(part),
            },
        }
    }

    /// The same summands of other elements.
    pub(super) fn moved(&self, to: impl Fn(u32) -> u32) -> Parts {
        let moved = |p: &Part| Part {
            element: to(p.element),
            ..*p
        };
        match self {
            Parts::One(p) => Parts::One(moved(p)),
            Parts::Several(all) => Parts::Several(all.iter().map(moved).collect()),
        }
    }
}

impl Deref for Parts {
    type Target = [Part];

    fn deref(&self) -> &[Part] {
        match self {
            Parts::One(p) => std::slice::from_ref(p),
            Parts::Several(all) => all,
        }
    }
}

/// A row map from the row read by each output row (`None` reads nothing).
pub(super) fn row_map(rows: &[Option<usize>], from: usize) -> RowMap {
    let identity = rows.len() == from && rows.iter().enumerate().all(|(t, r)| *r == Some(t));
    if identity {
        return RowMap::Identity;
    }
    let mut m = Matrix::zeros(rows.len(), from);
    for (t, r) in rows.iter().enumerate() {
        if let Some(r) = r {
            m.data[t * from + r] = 1.0;
        }
    }
    RowMap::Mix(m)
}

/// The summands that a column of a view has in any of its rows: column of the base, and which of those that read it.
pub(super) fn slots_of(
    parts: &[Parts],
    t: usize,
    c: usize,
    col: usize,
    n: usize,
) -> Vec<(usize, usize)> {
    let mut slots: Vec<(usize, usize)> = Vec::new();
    for r in 0..t {
        let here = &parts[r * c + col];
        for (i, p) in here.iter().enumerate() {
            let j = p.element as usize % n;
            let nth = here[..i]
                .iter()
                .filter(|q| q.element as usize % n == j)
                .count();
            if !slots.contains(&(j, nth)) {
                slots.push((j, nth));
            }
        }
    }
    slots
}

/// A bias without rows that repeat; `None` if it is zero.
pub(super) fn shrink_bias(bias: Vec<f64>, rows: usize, cols: usize) -> Option<Matrix> {
    if bias.iter().all(|&b| b == 0.0) {
        return None;
    }
    if bias.chunks(cols).all(|r| r == &bias[..cols]) {
        return Some(Matrix {
            rows: 1,
            cols,
            data: bias[..cols].to_vec(),
        });
    }
    Some(Matrix {
        rows,
        cols,
        data: bias,
    })
}
