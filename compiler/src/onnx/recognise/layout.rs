//! Where the elements of an expression lie in a matrix.

use std::rc::Rc;

use super::{Layout, Lowerer};
use crate::onnx::expr::Kind;
use crate::onnx::nd::count;
use crate::onnx::view::{Sym, NONE};

impl Lowerer<'_> {
    /// A view of an expression's shape as the matrix of a layout.
    pub(super) fn laid_out(&self, view: &Sym, layout: &Layout) -> Sym {
        let (rows, cols, pos) = (layout.0, layout.1, &layout.2);
        if pos.iter().enumerate().all(|(i, &p)| i == p as usize) {
            return view.reshaped(vec![rows, cols]);
        }
        let mut order = vec![0u32; pos.len()];
        for (i, &p) in pos.iter().enumerate() {
            order[p as usize] = i as u32;
        }
        view.gather(vec![rows, cols], &order)
    }

    /// The natural matrix of an expression: that of what it is computed from elementwise, else leading axes × last axis.
    pub(super) fn layout(&mut self, e: u32) -> Layout {
        if let Some(l) = self.layouts.get(&e) {
            return l.clone();
        }
        let expr = self.get(e).clone();
        let n = expr.len();
        let layout = match &expr.kind {
            Kind::MatSym { .. } => {
                let (b, m, c) = (expr.shape[0], expr.shape[1], expr.shape[2]);
                let pos = (0..n)
                    .map(|i| {
                        let (h, r, j) = (i / (m * c), i / c % m, i % c);
                        (r * b * c + h * c + j) as u32
                    })
                    .collect();
                Rc::new((m, b * c, pos))
            }
            Kind::Add(a, b) | Kind::Mul(a, b) => self
                .borrowed(a)
                .or_else(|| self.borrowed(b))
                .unwrap_or_else(|| canonical(&expr.shape)),
            Kind::Un(_, a) => self.borrowed(a).unwrap_or_else(|| canonical(&expr.shape)),
            _ => canonical(&expr.shape),
        };
        self.layouts.insert(e, layout.clone());
        layout
    }

    /// The layout of the expression under a view, if the view's elements fill whole rows and columns of it.
    fn borrowed(&mut self, view: &Sym) -> Option<Layout> {
        let e = view.single()?;
        let base = self.layout(e);
        let n = view.len();
        let mut places = Vec::with_capacity(n);
        for i in 0..n {
            let (x, k) = view.at(i);
            if x == NONE {
                return None;
            }
            let p = base.2[k as usize] as usize;
            places.push((p / base.1, p % base.1));
        }
        let rows = Ranks::of(places.iter().map(|p| p.0));
        let cols = Ranks::of(places.iter().map(|p| p.1));
        if rows.count * cols.count != n {
            return None;
        }
        let mut met = vec![false; n];
        let mut pos = Vec::with_capacity(n);
        for (r, c) in places {
            let p = rows.rank[r] * cols.count + cols.rank[c];
            if std::mem::replace(&mut met[p], true) {
                return None;
            }
            pos.push(p as u32);
        }
        Some(Rc::new((rows.count, cols.count, pos)))
    }
}

/// How many of the numbers that occur are below each: their places once the others are left out.
struct Ranks {
    count: usize,
    rank: Vec<usize>,
}

impl Ranks {
    fn of(numbers: impl Iterator<Item = usize>) -> Ranks {
        let mut occurs = Vec::new();
        for x in numbers {
            if x >= occurs.len() {
                occurs.resize(x + 1, false);
            }
            occurs[x] = true;
        }
        let mut count = 0;
        let rank = occurs
            .into_iter()
            .map(|occurs| {
                let below = count;
                count += usize::from(occurs);
                below
            })
            .collect();
        Ranks { count, rank }
    }
}

fn canonical(shape: &[usize]) -> Layout {
    let n = count(shape);
    let cols = shape.last().copied().unwrap_or(1).max(1);
    let (rows, cols) = if shape.len() < 2 {
        (1, n)
    } else {
        (n / cols, cols)
    };
    Rc::new((rows, cols, (0..n as u32).collect()))
}
