//! The expression graph: what is left once constants and data movement are gone. Numbers increase from operands to users.

use std::rc::Rc;

use heron_schedule::client::{Function, Reduction};

use super::nd::{count, Data, Nd};
use super::view::{At, Co, Sym, Val, NONE};

/// Elementwise functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fun {
    /// x^p for a constant p; square roots, reciprocals and both together are powers too.
    Pow(f64),
    Abs,
    Erf,
    Tanh,
    Sigmoid,
    Exp,
    Log,
    Relu,
    /// Not below the first, not above the second.
    Clip(f64, f64),
}

impl Fun {
    /// The function in f64.
    pub(super) fn eval(self, x: f64) -> f64 {
        match self {
            Fun::Pow(p) if p == p.trunc() && p.abs() < 64.0 => x.powi(p as i32),
            Fun::Pow(p) => x.powf(p),
            Fun::Abs => x.abs(),
            Fun::Erf => libm::erf(x),
            Fun::Tanh => libm::tanh(x),
            Fun::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Fun::Exp => libm::exp(x),
            Fun::Log => x.ln(),
            Fun::Relu => x.max(0.0),
            Fun::Clip(lo, hi) => x.max(lo).min(hi),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Fun::Pow(-1.0) => "reciprocal",
            Fun::Pow(_) => "power",
            Fun::Abs => "absolute value",
            Fun::Erf => "erf",
            Fun::Tanh => "tanh",
            Fun::Sigmoid => "sigmoid",
            Fun::Exp => "exp",
            Fun::Log => "log",
            Fun::Relu => "relu",
            Fun::Clip(..) => "clip",
        }
    }
}

/// What the client can do with what the user gives; see [`heron_schedule::client::Operation`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClientOp {
    Apply(Function),
    /// Over the last axis of [G, L].
    Reduce(Reduction, usize),
    /// Along the last axis of [G, L].
    CumulativeSum(usize),
    /// Rows of a table: [ids, cols].
    Lookup {
        table: Rc<Vec<f64>>,
        cols: usize,
    },
}

/// An expression on encrypted values.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A graph input; `shape` without the batch axis is the user's.
    Input {
        name: String,
        user_shape: Vec<usize>,
        /// Token ids, masks: what is computed from them stays with the client.
        integer: bool,
    },
    /// Arithmetic that the client does.
    Client {
        op: ClientOp,
        args: Vec<Sym>,
    },
    /// Rows of a table (vocabulary × cols) chosen by ids: [ids, cols].
    Embed {
        table: Nd,
        ids: Sym,
    },
    /// [M, K] · constant [K, N].
    MatConst {
        a: Sym,
        w: Data,
        k: usize,
    },
    /// [B, M, K] · [B, K, N].
    MatSym {
        a: Sym,
        b: Sym,
        k: usize,
    },
    Add(Sym, Sym),
    Mul(Sym, Sym),
    Un(Fun, Sym),
    /// Sum over the last axis of [G, L].
    Sum {
        a: Sym,
        l: usize,
    },
    /// Maximum over the last axis of [G, L].
    Max {
        a: Sym,
    },
    /// Over the last axis of [G, L], without gamma and beta.
    Norm {
        a: Sym,
        l: usize,
        epsilon: f64,
        centre: bool,
    },
    /// Over the last axis of [G, L].
    Softmax {
        a: Sym,
        l: usize,
    },
}

/// One expression and the ONNX node that made it.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) node: usize,
}

impl Expr {
    pub(super) fn len(&self) -> usize {
        count(&self.shape)
    }

    /// The views it reads.
    pub(super) fn operands(&self) -> Vec<&Sym> {
        match &self.kind {
            Kind::Input { .. } => vec![],
            Kind::Embed { ids, .. } => vec![ids],
            Kind::Client { args, .. } => args.iter().collect(),
            Kind::MatSym { a, b, .. } | Kind::Add(a, b) | Kind::Mul(a, b) => vec![a, b],
            Kind::MatConst { a, .. }
            | Kind::Un(_, a)
            | Kind::Sum { a, .. }
            | Kind::Max { a }
            | Kind::Norm { a, .. }
            | Kind::Softmax { a, .. } => vec![a],
        }
    }
}

/// All expressions of a model.
#[derive(Debug, Default)]
pub(super) struct Exprs {
    pub(super) list: Vec<Expr>,
    /// The ONNX node being run.
    pub(super) node: usize,
    /// Expressions that the client computes.
    clients: Vec<u32>,
}

impl Exprs {
    /// Whether the client computes an expression: it depends on integer inputs only.
    fn is_client(&self, e: u32) -> bool {
        matches!(
            self.get(e).kind,
            Kind::Client { .. } | Kind::Embed { .. } | Kind::Input { integer: true, .. }
        )
    }

    fn all(&self, s: &Sym, test: impl Fn(u32) -> bool) -> bool {
        match &s.at {
            At::Whole(e) => test(*e),
            At::Map(m) => {
                let mut last = NONE;
                m.iter().all(|&(e, _)| {
                    let fine = e == last || e == NONE || test(e);
                    last = e;
                    fine
                })
            }
        }
    }

    /// Whether the client computes all elements of a view.
    pub(super) fn client_view(&self, s: &Sym) -> bool {
        self.all(s, |e| self.is_client(e))
    }

    /// Whether the client has all elements of a view: it computes them, or the user gives them.
    pub(super) fn given_view(&self, s: &Sym) -> bool {
        self.all(s, |e| {
            self.is_client(e) || matches!(self.get(e).kind, Kind::Input { .. })
        })
    }

    /// Whether a view of the client's values reads a table that the user's numbers choose from: weights beyond that, and functions
    /// other than sums and products, stay with the server.
    pub(super) fn embedded(&self, s: &Sym) -> bool {
        s.exprs().into_iter().any(|e| match &self.get(e).kind {
            Kind::Embed { .. } => true,
            Kind::Client { op, args } => {
                // Lookups in short tables of one number each (position buffers) are no embeddings.
                matches!(op, ClientOp::Lookup { cols, .. } if *cols > 1)
                    || args.iter().any(|a| self.embedded(a))
            }
            _ => false,
        })
    }

    /// An expression of the client; one that exists already is used again.
    pub(super) fn client(&mut self, shape: Vec<usize>, op: ClientOp, args: Vec<Sym>) -> Sym {
        for &e in &self.clients {
            if let Kind::Client { op: o, args: a } = &self.get(e).kind {
                let same = *o == op && a.len() == args.len();
                if same && a.iter().zip(&args).all(|(x, y)| x.same(y)) {
                    return Sym::whole(e, shape);
                }
            }
        }
        let s = self.push(shape, Kind::Client { op, args });
        self.clients.extend(s.single());
        s
    }

    /// A function of the client, elementwise on views of one shape.
    pub(super) fn client_apply(&mut self, f: Function, args: &[&Sym]) -> Sym {
        let shape = args.first().map(|a| a.shape.clone()).unwrap_or_default();
        let args = args.iter().map(|a| (*a).clone()).collect();
        self.client(shape, ClientOp::Apply(f), args)
    }

    pub(super) fn get(&self, e: u32) -> &Expr {
        &self.list[e as usize]
    }

    pub(super) fn push(&mut self, shape: Vec<usize>, kind: Kind) -> Sym {
        self.list.push(Expr {
            shape: shape.clone(),
            kind,
            node: self.node,
        });
        Sym::whole(self.list.len() as u32 - 1, shape)
    }

    /// a + b, of one shape.
    pub(super) fn add(&mut self, a: &Sym, b: &Sym) -> Val {
        let n = a.len();
        if (0..n).all(|i| a.at(i).0 == NONE || b.at(i).0 == NONE) {
            let pick = |i: usize| a.at(i).0 == NONE;
            let at = (0..n)
                .map(|i| if pick(i) { b.at(i) } else { a.at(i) })
                .collect();
            let mul = (0..n)
                .map(|i| if pick(i) { b.mul.at(i) } else { a.mul.at(i) })
                .collect();
            let add = (0..n).map(|i| a.add.at(i) + b.add.at(i)).collect();
            return Sym {
                shape: a.shape.clone(),
                at: At::Map(Rc::new(at)),
                mul: Co::from_vec(mul),
                add: Co::from_vec(add),
            }
            .into_val();
        }
        if a.same_places(b) {
            // The same elements twice: one view with summed factors.
            let mut s = a.clone();
            s.mul = Co::from_vec((0..n).map(|i| a.mul.at(i) + b.mul.at(i)).collect());
            s.add = Co::from_vec((0..n).map(|i| a.add.at(i) + b.add.at(i)).collect());
            return s.times(&Co::All(1.0)).into_val();
        }
        if self.client_view(a) && self.client_view(b) {
            return Val::Sym(self.client_apply(Function::Add, &[a, b]));
        }
        Val::Sym(self.push(a.shape.clone(), Kind::Add(a.clone(), b.clone())))
    }

    /// a · b, of one shape.
    pub(super) fn mul(&mut self, a: &Sym, b: &Sym) -> Val {
        let n = a.len();
        if (0..n).all(|i| a.at(i).0 == NONE || b.at(i).0 == NONE) {
            let flip = |i: usize| a.at(i).0 == NONE;
            let at = (0..n)
                .map(|i| if flip(i) { b.at(i) } else { a.at(i) })
                .collect();
            let factor = |i: usize| if flip(i) { a.add.at(i) } else { b.add.at(i) };
            let mul = (0..n).map(|i| factor(i) * if flip(i) { b.mul.at(i) } else { a.mul.at(i) });
            let add = (0..n).map(|i| factor(i) * if flip(i) { b.add.at(i) } else { a.add.at(i) });
            return Sym {
                shape: a.shape.clone(),
                at: At::Map(Rc::new(at)),
                mul: Co::from_vec(mul.collect()),
                add: Co::from_vec(add.collect()),
            }
            .times(&Co::All(1.0))
            .into_val();
        }
        if self.client_view(a) && self.client_view(b) && !(self.embedded(a) && self.embedded(b)) {
            return Val::Sym(self.client_apply(Function::Multiply, &[a, b]));
        }
        let (a, fa) = hoist(a);
        let (b, fb) = hoist(b);
        let product = if let Some((base, p)) = self.power_of(&a, &b) {
            self.pow(&base, p)
        } else {
            Val::Sym(self.push(a.shape.clone(), Kind::Mul(a.clone(), b.clone())))
        };
        match product {
            Val::Sym(s) => Val::Sym(s.times(&Co::All(fa * fb))),
            c => c,
        }
    }

    /// If a·b is a power of one view: that view and the exponent. Only powers with natural exponents are merged.
    fn power_of(&self, a: &Sym, b: &Sym) -> Option<(Sym, f64)> {
        let (xa, pa) = self.as_power(a);
        let (xb, pb) = self.as_power(b);
        let natural = |p: f64| p >= 1.0 && p == p.trunc();
        for (x, p) in [(a.clone(), 1.0), (xa, pa)] {
            for (y, q) in [(b.clone(), 1.0), (xb.clone(), pb)] {
                if natural(p) && natural(q) && x.same(&y) {
                    return Some((x, p + q));
                }
            }
        }
        None
    }

    /// A view as x^p with p ≠ 1 where it is one, else itself with p = 1.
    pub(super) fn as_power(&self, s: &Sym) -> (Sym, f64) {
        if let (Some(e), Some(m), Some(c)) = (s.single(), s.mul.uniform(), s.add.uniform()) {
            if let Kind::Un(Fun::Pow(p), x) = &self.get(e).kind {
                if m == 1.0 && c == 0.0 && (0..s.len()).all(|i| s.at(i).0 != NONE) {
                    let index: Vec<u32> = (0..s.len()).map(|i| s.at(i).1).collect();
                    return (x.gather(s.shape.clone(), &index), *p);
                }
            }
        }
        (s.clone(), 1.0)
    }

    /// x^p elementwise.
    pub(super) fn pow(&mut self, x: &Sym, p: f64) -> Val {
        if p == 1.0 {
            return Val::Sym(x.clone());
        }
        let mut x = x.clone();
        let mut p = p;
        let mut factor = 1.0;
        let even = |p: f64| p == 2.0 * (p / 2.0).trunc();
        // Factors of roots and reciprocals move out; those of natural powers stay (they are the scale of scores).
        let whole_number = p == p.trunc();
        if p < 1.0 {
            if let (Some(m), Some(0.0)) = (x.mul.uniform(), x.add.uniform()) {
                if m > 0.0 || whole_number {
                    factor = if m == 0.0 { 1.0 } else { Fun::Pow(p).eval(m) };
                    if m != 0.0 {
                        x.mul = Co::All(1.0);
                    }
                }
            }
        }
        let (base, q) = self.as_power(&x);
        if q != 1.0 && (whole_number || !(q == q.trunc() && even(q))) {
            x = base;
            p *= q;
        }
        if p == p.trunc() && even(p) {
            if let Some(inner) = self.inside_abs(&x) {
                x = inner;
            }
            x = additive_mask(&x);
        }
        if p == 1.0 {
            return Val::Sym(x.times(&Co::All(factor)));
        }
        let shape = x.shape.clone();
        Val::Sym(
            self.un_shared(Fun::Pow(p), x, shape)
                .times(&Co::All(factor)),
        )
    }

    /// Whether a view holds only even powers times positive numbers (and masked entries).
    pub(super) fn never_negative(&self, s: &Sym) -> bool {
        let even = s.single().is_some_and(|e| {
            matches!(self.get(e).kind, Kind::Un(Fun::Pow(p), _) if p == 2.0 * (p / 2.0).trunc())
        });
        even && (0..s.len()).all(|i| s.mul.at(i) >= 0.0 && s.add.at(i) >= 0.0)
    }

    /// The argument of |x|, for a plain view of it.
    fn inside_abs(&self, s: &Sym) -> Option<Sym> {
        let e = s.single()?;
        let Kind::Un(Fun::Abs, x) = &self.get(e).kind else {
            return None;
        };
        if s.add.uniform() != Some(0.0) {
            return None;
        }
        let n = s.len();
        let index: Vec<u32> = (0..n).map(|i| s.at(i).1).collect();
        let mut inner = x.gather(s.shape.clone(), &index).times(&s.mul);
        if (0..n).any(|i| s.at(i).0 == NONE) {
            let keep = (0..n).map(|i| f64::from(s.at(i).0 != NONE)).collect();
            inner = inner.times(&Co::from_vec(keep));
        }
        Some(inner)
    }

    /// An elementwise function; one that exists already is used again.
    pub(super) fn un_shared(&mut self, f: Fun, x: Sym, shape: Vec<usize>) -> Sym {
        let first = x.at(0);
        for (i, e) in self.list.iter().enumerate().rev().take(64) {
            if let Kind::Un(g, y) = &e.kind {
                if *g == f && y.len() == x.len() && y.at(0) == first && y.same(&x) {
                    return Sym::whole(i as u32, shape);
                }
            }
        }
        self.push(shape, Kind::Un(f, x))
    }
}

/// A view without its uniform factor, and that factor.
pub(super) fn hoist(s: &Sym) -> (Sym, f64) {
    match (s.mul.uniform(), s.add.uniform()) {
        (Some(m), Some(0.0)) if m != 0.0 && m != 1.0 => {
            let mut t = s.clone();
            t.mul = Co::All(1.0);
            (t, m)
        }
        _ => (s.clone(), 1.0),
    }
}

/// Before an even power an additive −∞ mask (any summand below −10^4) is meant to remove the entry: it becomes a zero.
fn additive_mask(s: &Sym) -> Sym {
    let masked = |i: usize| s.add.at(i) < -1e4;
    let n = s.len();
    if !(0..n).any(masked) {
        return s.clone();
    }
    let keep: Vec<f64> = (0..n).map(|i| f64::from(!masked(i))).collect();
    s.times(&Co::from_vec(keep))
}
