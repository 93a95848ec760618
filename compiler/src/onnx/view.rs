//! Values while the graph is run: constants, or affine views of expressions, element by element.
//!
//! Reshapes, transposes, slices, concatenations, expansions and multiplications by or additions of constants never make a new
//! expression: they change the view. So head splitting, rotary embeddings and masks are seen as what they do.

use std::rc::Rc;

use super::nd::{count, expand_index, Nd};

/// In place of an expression: the element is the constant of the view.
pub(super) const NONE: u32 = u32::MAX;

/// One number per element, or one for all.
#[derive(Clone, Debug)]
pub(super) enum Co {
    All(f64),
    Each(Rc<Vec<f64>>),
}

impl Co {
    pub(super) fn at(&self, i: usize) -> f64 {
        match self {
            Co::All(x) => *x,
            Co::Each(v) => v[i],
        }
    }

    /// The number if it is the same for all elements.
    pub(super) fn uniform(&self) -> Option<f64> {
        match self {
            Co::All(x) => Some(*x),
            Co::Each(v) => {
                let first = *v.first()?;
                v.iter().all(|&x| x == first).then_some(first)
            }
        }
    }

    pub(super) fn from_vec(v: Vec<f64>) -> Co {
        match v.first() {
            Some(&f) if v.iter().all(|&x| x == f) => Co::All(f),
            _ => Co::Each(Rc::new(v)),
        }
    }

    fn gather(&self, index: &[u32]) -> Co {
        match self {
            Co::All(x) => Co::All(*x),
            Co::Each(v) => Co::from_vec(index.iter().map(|&i| v[i as usize]).collect()),
        }
    }

    fn zip(&self, other: &Co, n: usize, f: impl Fn(f64, f64) -> f64) -> Co {
        match (self, other) {
            (Co::All(a), Co::All(b)) => Co::All(f(*a, *b)),
            _ => Co::from_vec((0..n).map(|i| f(self.at(i), other.at(i))).collect()),
        }
    }

    pub(super) fn same(&self, other: &Co) -> bool {
        match (self, other) {
            (Co::All(a), Co::All(b)) => a == b,
            (Co::Each(a), Co::Each(b)) => Rc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

/// Which element of which expression each element reads.
#[derive(Clone, Debug)]
pub(super) enum At {
    /// The elements of one expression in their order.
    Whole(u32),
    /// (expression, element) or ([`NONE`], 0).
    Map(Rc<Vec<(u32, u32)>>),
}

/// Element i is `mul_i · expression(at_i) + add_i`.
#[derive(Clone, Debug)]
pub(super) struct Sym {
    pub(super) shape: Vec<usize>,
    pub(super) at: At,
    pub(super) mul: Co,
    pub(super) add: Co,
}

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Const(Nd),
    Sym(Sym),
}

impl Val {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Val::Const(c) => &c.shape,
            Val::Sym(s) => &s.shape,
        }
    }

    /// A new value made of elements of this one.
    pub(super) fn gather(&self, shape: Vec<usize>, index: &[u32]) -> Val {
        match self {
            Val::Const(c) => Val::Const(Nd::new(
                shape,
                index.iter().map(|&i| c.data[i as usize]).collect(),
                c.integer,
            )),
            Val::Sym(s) => s.gather(shape, index).into_val(),
        }
    }

    /// The same elements under another shape of equal size.
    pub(super) fn reshape(&self, shape: Vec<usize>) -> Val {
        let mut v = self.clone();
        match &mut v {
            Val::Const(c) => c.shape = shape,
            Val::Sym(s) => s.shape = shape,
        }
        v
    }

    pub(super) fn expand(&self, to: &[usize]) -> Option<Val> {
        if self.shape() == to {
            return Some(self.clone());
        }
        let index = expand_index(self.shape(), to)?;
        Some(self.gather(to.to_vec(), &index))
    }

    /// A constant as a view without expressions, so that it can be concatenated with others.
    pub(super) fn to_sym(&self) -> Sym {
        match self {
            Val::Sym(s) => s.clone(),
            Val::Const(c) => Sym {
                shape: c.shape.clone(),
                at: At::Map(Rc::new(vec![(NONE, 0); c.data.len()])),
                mul: Co::All(0.0),
                add: Co::from_vec(c.data.to_vec()),
            },
        }
    }
}

impl Sym {
    /// All elements of an expression.
    pub(super) fn whole(expr: u32, shape: Vec<usize>) -> Sym {
        Sym {
            shape,
            at: At::Whole(expr),
            mul: Co::All(1.0),
            add: Co::All(0.0),
        }
    }

    pub(super) fn len(&self) -> usize {
        count(&self.shape)
    }

    pub(super) fn at(&self, i: usize) -> (u32, u32) {
        match &self.at {
            At::Whole(e) => (*e, i as u32),
            At::Map(m) => m[i],
        }
    }

    pub(super) fn gather(&self, shape: Vec<usize>, index: &[u32]) -> Sym {
        Sym {
            shape,
            at: At::Map(Rc::new(
                index.iter().map(|&i| self.at(i as usize)).collect(),
            )),
            mul: self.mul.gather(index),
            add: self.add.gather(index),
        }
    }

    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Sym {
        let mut s = self.clone();
        s.shape = shape;
        s
    }

    pub(super) fn into_val(self) -> Val {
        if let At::Map(m) = &self.at {
            if m.iter().all(|&(e, _)| e == NONE) {
                let data = (0..self.len()).map(|i| self.add.at(i)).collect();
                return Val::Const(Nd::new(self.shape, data, false));
            }
        }
        Val::Sym(self)
    }

    /// Every element times `c` (of equal size); elements times 0 become constants.
    pub(super) fn times(&self, c: &Co) -> Sym {
        let n = self.len();
        let mut s = self.clone();
        s.mul = self.mul.zip(c, n, |a, b| a * b);
        s.add = self
            .add
            .zip(c, n, |a, b| if b == 0.0 { 0.0 } else { a * b });
        let has_zero = match c {
            Co::All(x) => *x == 0.0,
            Co::Each(v) => v.contains(&0.0),
        };
        if has_zero {
            s.at = At::Map(Rc::new(
                (0..n)
                    .map(|i| {
                        if c.at(i) == 0.0 {
                            (NONE, 0)
                        } else {
                            self.at(i)
                        }
                    })
                    .collect(),
            ));
        }
        s
    }

    /// Every element plus `c` (of equal size).
    pub(super) fn plus(&self, c: &Co) -> Sym {
        let mut s = self.clone();
        s.add = self.add.zip(c, self.len(), |a, b| a + b);
        s
    }

    /// The expression read by every element that is not constant, if there is exactly one.
    pub(super) fn single(&self) -> Option<u32> {
        match &self.at {
            At::Whole(e) => Some(*e),
            At::Map(m) => {
                let mut found = None;
                for &(e, _) in m.iter().filter(|(e, _)| *e != NONE) {
                    if *found.get_or_insert(e) != e {
                        return None;
                    }
                }
                found
            }
        }
    }

    /// The expressions read, in order of their numbers.
    pub(super) fn exprs(&self) -> Vec<u32> {
        match &self.at {
            At::Whole(e) => vec![*e],
            At::Map(m) => {
                let set: std::collections::BTreeSet<u32> =
                    m.iter().map(|p| p.0).filter(|&e| e != NONE).collect();
                set.into_iter().collect()
            }
        }
    }

    /// The expression, if element i reads its element i for every i (`size` is its number of elements).
    pub(super) fn identity(&self, size: usize) -> Option<u32> {
        match &self.at {
            At::Whole(e) => Some(*e),
            At::Map(m) => {
                let e = m.first()?.0;
                (e != NONE
                    && m.len() == size
                    && m.iter()
                        .enumerate()
                        .all(|(i, &(x, k))| x == e && k as usize == i))
                .then_some(e)
            }
        }
    }

    /// This view with `inner` in place of its expression, of which `inner` has the size.
    pub(super) fn over(&self, inner: &Sym) -> Sym {
        let n = self.len();
        if matches!(self.at, At::Whole(_)) && inner.len() == n {
            return inner
                .reshaped(self.shape.clone())
                .times(&self.mul)
                .plus(&self.add);
        }
        let read = |i: usize| self.at(i).1 as usize;
        let none = |i: usize| self.at(i).0 == NONE;
        let pick = |f: &dyn Fn(usize) -> f64| Co::from_vec((0..n).map(f).collect());
        Sym {
            shape: self.shape.clone(),
            at: At::Map(Rc::new(
                (0..n)
                    .map(|i| {
                        if none(i) {
                            (NONE, 0)
                        } else {
                            inner.at(read(i))
                        }
                    })
                    .collect(),
            )),
            mul: pick(&|i| {
                if none(i) {
                    0.0
                } else {
                    self.mul.at(i) * inner.mul.at(read(i))
                }
            }),
            add: pick(&|i| {
                let own = self.add.at(i);
                if none(i) {
                    own
                } else {
                    self.mul.at(i) * inner.add.at(read(i)) + own
                }
            }),
        }
    }

    /// As [`Sym::over`], the factors and summands of this view left out.
    pub(super) fn over_plain(&self, inner: &Sym) -> Sym {
        let mut plain = self.clone();
        plain.mul = Co::All(1.0);
        plain.add = Co::All(0.0);
        plain.over(inner)
    }

    /// Same elements, whatever the factors.
    pub(super) fn same_places(&self, other: &Sym) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match (&self.at, &other.at) {
            (At::Whole(a), At::Whole(b)) => a == b,
            (At::Map(a), At::Map(b)) if Rc::ptr_eq(a, b) => true,
            _ => (0..self.len()).all(|i| self.at(i) == other.at(i)),
        }
    }

    /// Same elements with the same factors and summands.
    pub(super) fn same(&self, other: &Sym) -> bool {
        self.same_places(other) && self.mul.same(&other.mul) && self.add.same(&other.add)
    }
}
