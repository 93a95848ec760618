//! chebyshev-plan: a polynomial in the Chebyshev basis → products and combinations of least depth.
//! before   p(u) = Σ c_k T_k(u), degree d
//! after    T_{a+b} = 2 T_a T_b - T_{a-b};   p = Σ_i q_i T_{m_i} + Σ_k r_k T_k, the products in one sum, one relinearisation
//! Error    none.    Depth  ⌈log2(d + 1)⌉, coefficients included.
//! Source   Paterson–Stockmeyer, SIAM J. Comput. 2 (1973); in the Chebyshev basis: eprint 2018/1043.

use std::collections::BTreeMap;

/// Σ products + Σ coefficient · T_k + constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// q · T_m, all in one relinearisation.
    pub products: Vec<(Sum, usize)>,
    /// (k, coefficient of T_k), k ≥ 1.
    pub linear: Vec<(usize, f64)>,
    /// Constant term.
    pub constant: f64,
}

/// A polynomial as sums of products.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Top of the tree.
    pub root: Sum,
    /// Levels from u to the result.
    pub depth: u32,
    /// Relinearisations in all, those of the T_k included.
    pub products: usize,
}

/// Levels of T_k.
pub fn power_depth(k: usize) -> u32 {
    k.max(1).next_power_of_two().trailing_zeros()
}

/// The factors of T_k: T_k = 2 T_a T_b − T_{a−b} with a ≥ b, for k ≥ 2.
pub fn factors(k: usize) -> (usize, usize) {
    (k.div_ceil(2), k / 2)
}

/// The plan of least depth, and among those of fewest products.
pub fn plan(coefficients: &[f64]) -> Plan {
    let mut c = coefficients.to_vec();
    while c.len() > 1 && c.last() == Some(&0.0) {
        c.pop();
    }
    let depth = c.len().next_power_of_two().trailing_zeros();
    let mut best: Option<Plan> = None;
    for babies in 0..=depth.max(1) {
        let Some(root) = split(&c, depth, babies) else {
            continue;
        };
        let mut powers = BTreeMap::new();
        let own = count(&root, &mut powers);
        let products = own + powers.len();
        if best.as_ref().is_none_or(|b| products < b.products) {
            best = Some(Plan {
                root,
                depth,
                products,
            });
        }
    }
    best.unwrap_or(Plan {
        root: Sum {
            products: Vec::new(),
            linear: Vec::new(),
            constant: c.first().copied().unwrap_or(0.0),
        },
        depth,
        products: 0,
    })
}

/// Counts relinearised sums; notes the powers they need.
fn count(sum: &Sum, powers: &mut BTreeMap<usize, ()>) -> usize {
    let mut n = usize::from(!sum.products.is_empty());
    for (q, m) in &sum.products {
        need(*m, powers);
        n += count(q, powers);
    }
    for (k, _) in &sum.linear {
        need(*k, powers);
    }
    n
}

fn need(k: usize, powers: &mut BTreeMap<usize, ()>) {
    if k >= 2 && powers.insert(k, ()).is_none() {
        let (a, b) = factors(k);
        need(a, powers);
        need(b, powers);
        if a > b {
            need(a - b, powers);
        }
    }
}

/// `c` in at most `budget` levels, adding up T_k directly below degree 2^babies; `None` where that is too deep.
fn split(c: &[f64], budget: u32, babies: u32) -> Option<Sum> {
    let mut rest = c.to_vec();
    let mut products = Vec::new();
    loop {
        while rest.len() > 1 && rest.last() == Some(&0.0) {
            rest.pop();
        }
        let degree = rest.len() - 1;
        let direct = degree < 1 << babies
            || rest
                .iter()
                .enumerate()
                .all(|(k, c)| *c == 0.0 || k <= 1 || k.is_power_of_two());
        let shallow = rest
            .iter()
            .enumerate()
            .skip(1)
            .all(|(k, c)| *c == 0.0 || power_depth(k) < budget);
        if direct && shallow {
            let linear = rest
                .iter()
                .enumerate()
                .skip(1)
                .filter(|(_, c)| **c != 0.0)
                .map(|(k, c)| (k, *c))
                .collect();
            return Some(Sum {
                products,
                linear,
                constant: rest[0],
            });
        }
        if degree < 2 || budget == 0 {
            return None;
        }
        // Largest power of two not above the degree: rest = q T_m + r.
        let m = (degree + 1).next_power_of_two() / 2;
        if power_depth(m) + 1 > budget {
            return None;
        }
        let mut q = vec![0.0; degree - m + 1];
        let mut r = rest[..m].to_vec();
        q[0] = rest[m];
        for k in m + 1..=degree {
            q[k - m] = 2.0 * rest[k];
            r[2 * m - k] -= rest[k];
        }
        if q.len() == 1 {
            // c T_m belongs to the linear part; keep it there by planning the rest and appending.
            let mut sum = split(&r, budget, babies)?;
            sum.linear.push((m, q[0]));
            products.append(&mut sum.products);
            return Some(Sum { products, ..sum });
        }
        products.push((split(&q, budget - 1, babies)?, m));
        rest = r;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chebyshev(k: usize, u: f64) -> f64 {
        (k as f64 * u.acos()).cos()
    }

    fn value(sum: &Sum, u: f64) -> f64 {
        let products: f64 = sum
            .products
            .iter()
            .map(|(q, m)| value(q, u) * chebyshev(*m, u))
            .sum();
        let linear: f64 = sum.linear.iter().map(|(k, c)| c * chebyshev(*k, u)).sum();
        products + linear + sum.constant
    }

    fn depth(sum: &Sum) -> u32 {
        let products = sum
            .products
            .iter()
            .map(|(q, m)| 1 + depth(q).max(power_depth(*m)));
        let linear = sum.linear.iter().map(|(k, _)| 1 + power_depth(*k));
        products.chain(linear).max().unwrap_or(0)
    }

    #[test]
    fn plans_compute_the_polynomial_in_least_depth() {
        for degree in 1..=63usize {
            let c: Vec<f64> = (0..=degree)
                .map(|k| ((k * 37 + degree * 11) % 19) as f64 / 19.0 - 0.45)
                .collect();
            let p = plan(&c);
            assert!((1 << p.depth) > degree && (1 << p.depth) <= 2 * degree.max(1));
            assert!(depth(&p.root) <= p.depth, "degree {degree}");
            for i in 0..=20 {
                let u = i as f64 / 10.0 - 1.0;
                let expected: f64 = c.iter().enumerate().map(|(k, c)| c * chebyshev(k, u)).sum();
                let found = value(&p.root, u);
                let bound = 1e-12 * c.iter().map(|c| c.abs()).sum::<f64>();
                assert!(
                    (found - expected).abs() <= bound,
                    "degree {degree} at {u}: {found} {expected}, bound {bound}"
                );
            }
        }
    }

    #[test]
    fn products_grow_like_the_square_root_of_the_degree() {
        let counts = [1, 2, 3, 7, 15, 31, 63].map(|d| {
            let c: Vec<f64> = (0..=d).map(|k| 0.3f64.powi(k)).collect();
            plan(&c).products
        });
        assert_eq!(counts, [0, 1, 2, 4, 7, 10, 15]);
    }
}
