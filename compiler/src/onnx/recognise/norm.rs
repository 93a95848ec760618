//! LayerNormalization and RMSNormalization, in one node or many.
//!
//! Many nodes: d · (f Σ d² + ε)^(-1/2) over groups of L elements, where d is x − mean(x) or x itself.

use std::collections::HashMap;

use heron_passes::ir::shape::{LayerKind, Shape};
use heron_passes::ir::tensor::TensorOp;

use super::{Lowerer, Placed, Step};
use crate::onnx::expr::{Fun, Kind};
use crate::onnx::view::{Co, Sym, NONE};

/// A normalisation found in many nodes.
pub(super) struct Found {
    /// [G, L].
    pub(super) x: Sym,
    pub(super) l: usize,
    pub(super) epsilon: f64,
    pub(super) centre: bool,
    /// The expression is this times the normalised value.
    pub(super) factor: f64,
    /// For each element of the expression, its place in [G, L].
    pub(super) place: Vec<u32>,
    pub(super) nodes: Vec<u32>,
}

impl Lowerer<'_> {
    /// Recognises `e` = p · (…)^(-1/2).
    pub(super) fn find_norm(&self, e: u32) -> Option<Found> {
        let Kind::Mul(a, b) = &self.get(e).kind else {
            return None;
        };
        self.norm_of(e, a, b).or_else(|| self.norm_of(e, b, a))
    }

    fn norm_of(&self, e: u32, p: &Sym, q: &Sym) -> Option<Found> {
        let root = q.single()?;
        let Kind::Un(Fun::Pow(power), v) = &self.get(root).kind else {
            return None;
        };
        let mq = q.mul.uniform()?;
        if *power != -0.5 || q.add.uniform() != Some(0.0) {
            return None;
        }
        let sum = v.single()?;
        let (cv, ev) = (v.mul.uniform()?, v.add.uniform()?);
        let Kind::Sum { a, l } = &self.get(sum).kind else {
            return None;
        };
        let square = a.single()?;
        let Kind::Un(Fun::Pow(2.0), d) = &self.get(square).kind else {
            return None;
        };
        let ca = a.mul.uniform()?;
        if a.add.uniform() != Some(0.0) || (0..a.len()).any(|i| a.at(i).0 == NONE) {
            return None;
        }
        // The elements d in the order of the groups.
        let index: Vec<u32> = (0..a.len()).map(|i| a.at(i).1).collect();
        let groups = a.len() / l;
        let d = d.gather(vec![groups, *l], &index);
        let mut where_is = HashMap::new();
        for i in 0..d.len() {
            if d.at(i).0 == NONE || where_is.insert(d.at(i), i).is_some() {
                return None;
            }
        }
        let n = p.len();
        let mut place = Vec::with_capacity(n);
        let mut ratio = None;
        for i in 0..n {
            let &k = where_is.get(&p.at(i))?;
            let (rx, g) = q.at(i);
            if rx != root || v.at(g as usize) != (sum, (k / l) as u32) {
                return None;
            }
            let r = if d.mul.at(k) != 0.0 {
                p.mul.at(i) / d.mul.at(k)
            } else {
                return None;
            };
            let r = *ratio.get_or_insert(r);
            let close = |x: f64, y: f64| (x - y).abs() <= 1e-12 * (x.abs() + y.abs());
            if !close(p.mul.at(i), r * d.mul.at(k)) || !close(p.add.at(i), r * d.add.at(k)) {
                return None;
            }
            place.push(k as u32);
        }
        let kappa = cv * ca * *l as f64;
        if kappa <= 0.0 || ev < 0.0 || n != d.len() {
            return None;
        }
        let mut factor = ratio? * mq / kappa.sqrt();
        let mut epsilon = ev / kappa;
        let mut nodes = vec![root, sum, square, e];
        let mut x = d.clone();
        let mut centre = false;
        if let Some((u, m, inner)) = self.centred(&d, *l) {
            x = u;
            centre = true;
            factor *= m.signum();
            epsilon /= m * m;
            nodes.extend(inner);
        }
        Some(Found {
            x,
            l: *l,
            epsilon,
            centre,
            factor,
            place,
            nodes,
        })
    }

    /// If d = m (u − mean(u)) row by row: u, m and the expressions of the mean.
    fn centred(&self, d: &Sym, l: usize) -> Option<(Sym, f64, Vec<u32>)> {
        let e = d.single()?;
        let Kind::Add(a, b) = &self.get(e).kind else {
            return None;
        };
        let m = d.mul.uniform()?;
        if d.add.uniform() != Some(0.0) || m == 0.0 {
            return None;
        }
        let index: Vec<u32> = (0..d.len()).map(|i| d.at(i).1).collect();
        let shape = d.shape.clone();
        let (a, b) = (a.gather(shape.clone(), &index), b.gather(shape, &index));
        for (u, w) in [(&a, &b), (&b, &a)] {
            let Some(sum) = w.single() else { continue };
            let Kind::Sum { a: rows, l: width } = &self.get(sum).kind else {
                continue;
            };
            let mean = w.mul.uniform().map(|x| x * l as f64);
            let minus_one = mean.is_some_and(|x| (x + 1.0).abs() < 1e-6);
            if *width != l || !minus_one || w.add.uniform() != Some(0.0) {
                continue;
            }
            let groups = u.len() / l;
            let fits = (0..groups).all(|g| {
                let (_, s) = w.at(g * l);
                (0..l).all(|j| {
                    let (i, k) = (g * l + j, s as usize * l + j);
                    w.at(i).1 == s
                        && u.at(i) == rows.at(k)
                        && u.mul.at(i) == rows.mul.at(k)
                        && u.add.at(i) == rows.add.at(k)
                })
            });
            if fits {
                return Some((u.clone(), m, vec![e, sum]));
            }
        }
        None
    }

    /// Adds the block; the result is [G, L] in the order of x.
    pub(super) fn norm_block(
        &mut self,
        e: u32,
        x: &Sym,
        l: usize,
        epsilon: f64,
        centre: bool,
        factor: f64,
        nodes: &[u32],
    ) -> Step<Placed> {
        let cols = l;
        let (gamma, beta) = (vec![1.0; cols], vec![0.0; cols]);
        let value = self.add_norm(e, x, gamma, beta, epsilon, centre, nodes)?;
        let mut p = self.whole(value, x.len(), cols);
        p.factor = factor;
        Ok(p)
    }

    fn add_norm(
        &mut self,
        e: u32,
        x: &Sym,
        gamma: Vec<f64>,
        beta: Vec<f64>,
        epsilon: f64,
        centre: bool,
        nodes: &[u32],
    ) -> Step<heron_passes::ir::graph::ValueId> {
        let value = self.matrix(x)?;
        let (rows, cols) = (x.shape[0], x.shape[1]);
        let kind = if centre {
            LayerKind::LayerNorm
        } else {
            LayerKind::RmsNorm
        };
        self.count(kind.name());
        let layer = self.layer(e, "", kind, nodes);
        Ok(self.graph.add(
            &self.value_name(e),
            TensorOp::LayerNorm {
                gamma,
                beta,
                epsilon,
                centre,
            },
            &[value],
            Shape::Matrix { rows, cols },
            layer,
        ))
    }

    /// A view of a normalisation whose factors and summands are gamma and beta: the block with them, and the view
    /// without them.
    pub(super) fn norm_view(&mut self, view: &Sym, e: u32) -> Step<Option<(Placed, Sym)>> {
        if view.mul.uniform() == Some(1.0) && view.add.uniform() == Some(0.0) {
            return Ok(None);
        }
        let (x, l, epsilon, centre, factor, place, nodes) = match &self.get(e).kind {
            Kind::Norm {
                a,
                l,
                epsilon,
                centre,
            } => (a.clone(), *l, *epsilon, *centre, 1.0, None, vec![]),
            Kind::Mul(..) => match self.find_norm(e) {
                Some(f) => (
                    f.x,
                    f.l,
                    f.epsilon,
                    f.centre,
                    f.factor,
                    Some(f.place),
                    f.nodes,
                ),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let mut gamma = vec![None; l];
        let mut beta = vec![0.0; l];
        let pos = |k: u32| match &place {
            Some(p) => p[k as usize],
            None => k,
        };
        for i in 0..view.len() {
            let (b, k) = view.at(i);
            if b == NONE {
                return Ok(None);
            }
            let c = pos(k) as usize % l;
            let (m, a) = (view.mul.at(i) * factor, view.add.at(i));
            if gamma[c].is_some() && (gamma[c], beta[c]) != (Some(m), a) {
                return Ok(None);
            }
            gamma[c] = Some(m);
            beta[c] = a;
        }
        let Some(gamma) = gamma.into_iter().collect::<Option<Vec<f64>>>() else {
            return Ok(None);
        };
        let known = self.norms.get(&e).and_then(|list| {
            list.iter()
                .find(|(g, b, _)| *g == gamma && *b == beta)
                .map(|x| x.2)
        });
        let value = match known {
            Some(v) => v,
            None => {
                let v =
                    self.add_norm(e, &x, gamma.clone(), beta.clone(), epsilon, centre, &nodes)?;
                self.norms.entry(e).or_default().push((gamma, beta, v));
                v
            }
        };
        let n = x.len();
        let placed = Placed {
            value,
            cols: l,
            pos: std::rc::Rc::new((0..n as u32).map(pos).collect()),
            factor: 1.0,
        };
        let mut plain = view.clone();
        plain.mul = Co::All(1.0);
        plain.add = Co::All(0.0);
        Ok(Some((placed, plain)))
    }
}
