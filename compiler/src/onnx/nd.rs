//! Constants: dense arrays of f64 (integers and booleans included, exact to 2^53).

use std::cell::OnceCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use heron_passes::ir::shape::Matrix;
use heron_passes::ir::weight::{Weight, LARGE};
use heron_schedule::base::Base;

use crate::numbers::ModelNumbers;

/// The elements of a constant. Those of a large weight are decoded when they are first looked at; most never are.
#[derive(Clone, Debug)]
pub(super) struct Data(Rc<Elements>);

#[derive(Debug)]
struct Elements {
    base: Option<Base>,
    decoded: OnceCell<Rc<Vec<f64>>>,
}

impl Data {
    /// The numbers of a file; worth it from [`LARGE`] on.
    pub(super) fn stored(base: Base) -> Data {
        Data(Rc::new(Elements {
            base: Some(base),
            decoded: OnceCell::new(),
        }))
    }

    /// All elements, decoded.
    pub(super) fn rc(&self) -> &Rc<Vec<f64>> {
        self.0.decoded.get_or_init(|| {
            let base = self.0.base.as_ref();
            let mut all = vec![0.0; base.map_or(0, Base::len)];
            base.iter().for_each(|b| b.fill(0, &mut all));
            Rc::new(all)
        })
    }

    /// The elements as a matrix of `cols` columns: large ones stay where they are.
    pub(super) fn weight(&self, rows: usize, cols: usize) -> Weight {
        let base = self.0.base.as_ref().filter(|b| b.len() >= LARGE);
        let kept = base.and_then(|b| Weight::stored(Arc::new(ModelNumbers(b.clone())), cols));
        kept.unwrap_or_else(|| {
            let data = self.to_vec();
            Matrix { rows, cols, data }.into()
        })
    }
}

impl From<Vec<f64>> for Data {
    fn from(all: Vec<f64>) -> Data {
        Data(Rc::new(Elements {
            base: None,
            decoded: OnceCell::from(Rc::new(all)),
        }))
    }
}

impl Deref for Data {
    type Target = Vec<f64>;

    fn deref(&self) -> &Vec<f64> {
        self.rc()
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        Rc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

/// A constant array, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Nd {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
    /// Whether the type is an integer or boolean one: division truncates.
    pub(super) integer: bool,
}

impl Nd {
    pub(super) fn new(shape: Vec<usize>, data: Vec<f64>, integer: bool) -> Nd {
        Nd {
            shape,
            data: data.into(),
            integer,
        }
    }

    pub(super) fn ints(values: &[usize]) -> Nd {
        Nd::new(
            vec![values.len()],
            values.iter().map(|&v| v as f64).collect(),
            true,
        )
    }

    /// The values as integers; casts saturate, which is what `INT64_MAX` as an end of a slice wants.
    pub(super) fn as_ints(&self) -> Vec<i64> {
        self.data.iter().map(|&x| x as i64).collect()
    }

    /// The value if all elements are equal.
    pub(super) fn uniform(&self) -> Option<f64> {
        let first = *self.data.first()?;
        self.data.iter().all(|&x| x == first).then_some(first)
    }
}

/// Number of elements.
pub(super) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Strides of a row-major array.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut s = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        s[i] = s[i + 1] * shape[i + 1];
    }
    s
}

/// Element numbers visited by a strided walk: `offset + Σ i_k·step_k` over a box, row-major.
pub(super) fn walk(shape: &[usize], steps: &[isize], offset: isize) -> Vec<u32> {
    let n = count(shape);
    let mut out = Vec::with_capacity(n);
    let mut at = vec![0usize; shape.len()];
    let mut place = offset;
    for _ in 0..n {
        out.push(place as u32);
        for k in (0..shape.len()).rev() {
            at[k] += 1;
            place += steps[k];
            if at[k] < shape[k] {
                break;
            }
            place -= steps[k] * shape[k] as isize;
            at[k] = 0;
        }
    }
    out
}

/// Shape to which two shapes broadcast, by numpy's rule.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |s: &[usize], i: usize| {
        if i + s.len() < rank {
            1
        } else {
            s[i + s.len() - rank]
        }
    };
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Element numbers that broadcast an array of shape `from` to shape `to`; `None` if it does not broadcast.
pub(super) fn expand_index(from: &[usize], to: &[usize]) -> Option<Vec<u32>> {
    if from.len() > to.len() {
        return None;
    }
    let own = strides(from);
    let lead = to.len() - from.len();
    let mut steps = vec![0isize; to.len()];
    for (i, &d) in from.iter().enumerate() {
        if d == to[lead + i] {
            steps[lead + i] = own[i] as isize;
        } else if d != 1 {
            return None;
        }
    }
    Some(walk(to, &steps, 0))
}
