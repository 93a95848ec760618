//! The plaintext-linear steps of the poly graph, element by element, for `linear-lowering`.

use crate::ir::shape::Matrix;
use crate::ir::tensor::{Linear, LinearTerm, RowMap};
use crate::ir::weight::{Choice, Weight, LARGE};
use crate::linear_lowering::{Contribution, ElementMap};

/// Columns of a weight, as elements of a result read them.
enum Columns<'a> {
    /// The weight transposed: columns are far apart in a wide matrix.
    Dense(Matrix),
    /// One number per column.
    Choice(&'a Choice),
}

/// A large matrix, of which a map says which elements it takes, not which numbers they are.
struct ByElement<'a> {
    weight: &'a Weight,
    /// The row of the operand that each row of the result reads, where it is not its own.
    rows: Option<Vec<u32>>,
}

/// Σ terms + bias of a [`Linear`].
pub struct AffineMap<'a> {
    linear: &'a Linear,
    in_cols: usize,
    out_cols: usize,
    neighbours: f64,
    /// Weights of the terms.
    columns: Vec<Columns<'a>>,
    /// The only weight, where it is large and nothing else is done to the elements.
    by_element: Option<ByElement<'a>>,
}

/// The row that each row of a matrix chooses, if it does nothing else.
fn chosen_rows(mix: &Matrix) -> Option<Vec<u32>> {
    let one = |row: &[f64]| {
        let mut held = row.iter().zip(0u32..).filter(|(x, _)| **x != 0.0);
        match (held.next(), held.next()) {
            (Some((1.0, at)), None) => Some(at),
            _ => None,
        }
    };
    mix.data.chunks_exact(mix.cols.max(1)).map(one).collect()
}

impl<'a> ByElement<'a> {
    fn new(linear: &'a Linear) -> Option<ByElement<'a>> {
        let [term] = &linear.terms[..] else {
            return None;
        };
        let numbers = matches!(term.weight, Weight::Dense(_) | Weight::Stored(_));
        if !numbers || term.weight.elements() < LARGE || term.post.is_some() {
            return None;
        }
        let rows = match &term.rows {
            RowMap::Identity => None,
            RowMap::Mix(mix) => Some(chosen_rows(mix)?),
        };
        let weight = &term.weight;
        Some(ByElement { weight, rows })
    }
}

impl<'a> AffineMap<'a> {
    /// `in_cols`: columns of the operand; `out_cols`: of the result; `neighbours` as in [`ElementMap::neighbours`].
    pub fn new(
        linear: &'a Linear,
        (in_cols, out_cols): (usize, usize),
        neighbours: f64,
    ) -> AffineMap<'a> {
        let by_element = ByElement::new(linear);
        let terms = linear.terms.iter().filter(|_| by_element.is_none());
        let columns = terms.map(|t| match &t.weight {
            Weight::Choice(choice) => Columns::Choice(choice),
            weight => Columns::Dense(weight.dense().transposed()),
        });
        let columns = columns.collect();
        AffineMap {
            linear,
            in_cols,
            out_cols,
            neighbours,
            columns,
            by_element,
        }
    }
}

impl ElementMap for AffineMap<'_> {
    fn neighbours(&self) -> f64 {
        self.neighbours
    }

    fn key(&self) -> Option<Vec<u64>> {
        let by = self.by_element.as_ref()?;
        let mut key = vec![3, self.in_cols as u64, self.out_cols as u64];
        let rows = by.rows.iter().flatten();
        key.push(self.neighbours.to_bits());
        key.extend(rows.map(|r| u64::from(*r)));
        Some(key)
    }

    fn matrix(&self) -> Option<&Weight> {
        self.by_element.as_ref().map(|by| by.weight)
    }

    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        let e = element as usize;
        let (row, col) = (e / self.out_cols, e % self.out_cols);
        if let Some(by) = &self.by_element {
            let in_row = match &by.rows {
                None => row,
                Some(rows) => rows.get(row).map_or(row, |r| *r as usize),
            };
            out.extend((0..self.in_cols).map(|k| Contribution {
                source: 0,
                element: (in_row * self.in_cols + k) as u32,
                coefficient: (k * self.out_cols + col + 1) as f64,
            }));
            return;
        }
        let mut put = |in_row: usize, factor: f64, columns: &Columns| {
            let columns = match columns {
                Columns::Dense(columns) => columns,
                Columns::Choice(choice) => {
                    if choice.factor[col] != 0.0 {
                        out.push(Contribution {
                            source: 0,
                            element: (in_row * self.in_cols) as u32 + choice.from[col],
                            coefficient: factor * choice.factor[col],
                        });
                    }
                    return;
                }
            };
            let column = &columns.data[col * columns.cols..(col + 1) * columns.cols];
            for (k, &w) in column.iter().enumerate().take(self.in_cols) {
                if w != 0.0 {
                    out.push(Contribution {
                        source: 0,
                        element: (in_row * self.in_cols + k) as u32,
                        coefficient: factor * w,
                    });
                }
            }
        };
        for (term, columns) in self.linear.terms.iter().zip(&self.columns) {
            let post = term.post.as_ref().map_or(1.0, |p| p.at(row, col));
            if post == 0.0 {
                continue;
            }
            match &term.rows {
                RowMap::Identity => put(row, post, columns),
                RowMap::Mix(mix) => {
                    for r in 0..mix.cols {
                        let m = mix.at(row, r);
                        if m != 0.0 {
                            put(r, post * m, columns);
                        }
                    }
                }
            }
        }
    }

    fn bias(&self, element: u32) -> f64 {
        let e = element as usize;
        match &self.linear.bias {
            None => 0.0,
            Some(b) if b.rows == 1 => b.at(0, e % self.out_cols),
            Some(b) => b.at(e / self.out_cols, e % self.out_cols),
        }
    }

    fn row_uniform(&self) -> Option<(usize, usize)> {
        // The bias is added slot by slot and need not be the same for all rows.
        let same = |t: &LinearTerm| t.rows == RowMap::Identity && t.post.is_none();
        self.linear
            .terms
            .iter()
            .all(same)
            .then_some((self.in_cols, self.out_cols))
    }
}

/// Σ over the columns of a row, times `scale`, plus `shift`.
pub struct ColumnSumMap {
    /// Columns of the operand.
    pub cols: usize,
    /// Factor.
    pub scale: f64,
    /// Added afterwards.
    pub shift: f64,
}

impl ElementMap for ColumnSumMap {
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        out.extend((0..self.cols).map(|k| Contribution {
            source: 0,
            element: element * self.cols as u32 + k as u32,
            coefficient: self.scale,
        }));
    }

    fn bias(&self, _: u32) -> f64 {
        self.shift
    }

    fn row_uniform(&self) -> Option<(usize, usize)> {
        Some((self.cols, 1))
    }
}

/// Σ over the keys of a head and row, times `scale`, plus `shift`. Scores are numbered (head · rows + row) · keys + key.
pub struct KeySumMap<'a> {
    /// Keys of the operand.
    pub keys: usize,
    /// Factor.
    pub scale: f64,
    /// Added afterwards.
    pub shift: f64,
    /// (rows × keys), the same for every head.
    pub weights: Option<&'a Matrix>,
}

/// The weight of a score, the same for every head; 1 without weights.
fn weight(weights: Option<&Matrix>, element: u32) -> f64 {
    weights.map_or(1.0, |w| {
        let at = element as usize % w.data.len().max(1);
        w.data.get(at).copied().unwrap_or(0.0)
    })
}

impl ElementMap for KeySumMap<'_> {
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        out.extend((0..self.keys).map(|k| {
            let score = element * self.keys as u32 + k as u32;
            Contribution {
                source: 0,
                element: score,
                coefficient: self.scale * weight(self.weights, score),
            }
        }));
    }

    fn bias(&self, _: u32) -> f64 {
        self.shift
    }
}

/// Scores from the products of their features: partial product x of score e is element e · width + x, of operand
/// number `source(e)`; masked scores are 0.
pub struct PackScores<'a> {
    /// Features of a head.
    pub width: usize,
    /// (rows × keys) of 0 and 1.
    pub mask: Option<&'a Matrix>,
}

impl ElementMap for PackScores<'_> {
    fn key(&self) -> Option<Vec<u64>> {
        let mask = self.mask.into_iter().flat_map(|m| &m.data);
        let mut key = vec![1, self.width as u64];
        key.extend(mask.map(|x| x.to_bits()));
        Some(key)
    }

    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        let factor = weight(self.mask, element);
        if factor != 0.0 {
            out.extend((0..self.width).map(|x| Contribution {
                source: 0,
                element: element * self.width as u32 + x as u32,
                coefficient: factor,
            }));
        }
    }

    fn bias(&self, _: u32) -> f64 {
        0.0
    }
}

/// Sums of `inner` neighbouring features: part y of score e is element e · parts + y, made of partial products as in [`PackScores`].
pub struct SumFeatures {
    /// Features of a head.
    pub width: usize,
    /// Features of a part.
    pub inner: usize,
}

impl ElementMap for SumFeatures {
    fn key(&self) -> Option<Vec<u64>> {
        Some(vec![2, self.width as u64, self.inner as u64])
    }

    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        let parts = self.width.div_ceil(self.inner);
        let (score, y) = (element as usize / parts, element as usize % parts);
        let features = y * self.inner..self.width.min((y + 1) * self.inner);
        out.extend(features.map(|x| Contribution {
            source: 0,
            element: (score * self.width + x) as u32,
            coefficient: 1.0,
        }));
    }

    fn bias(&self, _: u32) -> f64 {
        0.0
    }
}

/// Scores times their weights.
pub struct WeightScores<'a> {
    /// (rows × keys), the same for every head.
    pub weights: &'a Matrix,
}

impl ElementMap for WeightScores<'_> {
    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        out.push(Contribution {
            source: 0,
            element,
            coefficient: weight(Some(self.weights), element),
        });
    }

    fn bias(&self, _: u32) -> f64 {
        0.0
    }
}

/// Every element as it is, for conversions and broadcasts.
pub struct Copy;

impl ElementMap for Copy {
    fn key(&self) -> Option<Vec<u64>> {
        Some(vec![0])
    }

    fn contributions(&self, element: u32, out: &mut Vec<Contribution>) {
        out.push(Contribution {
            source: 0,
            element,
            coefficient: 1.0,
        });
    }

    fn bias(&self, _: u32) -> f64 {
        0.0
    }
}
