//! The Paterson–Stockmeyer split of EvalMod's polynomial, at its least depth.
//!
//! p = q·T_16 + r with deg q ≤ 14, deg r ≤ 15; q = q_1·T_8 + q_a·T_4 + q_b; r = r_1·T_8 + r_a·T_4 + r_b; r_1 = s_a·T_4 + s_b.
//! With T_1 at depth 0, T_2 at 1, T_3 and T_4 at 2, T_8 at 3 and T_16 at 4:
//! - leaves that get multiplied (q_1, q_a, s_a, r_a: constants times T_1..T_4) are rescaled to depth 3;
//! - leaves that are only added (q_b, s_b, r_b) are multiplied by integers at the product's scale, which costs no depth;
//! - q and r_1 reach depth 4, and p = q·T_16 + r_1·T_8 + r_a·T_4 + r_b depth 5.
//!
//! Eight products of ciphertexts besides the powers' five, and sums of products share one relinearisation: three.
//! Source of the method in Chebyshev form: eprint 2018/1043.

/// Coefficients of T_0, T_1, … of a polynomial of low degree.
pub type Leaf = Vec<f64>;

/// See the module's documentation; the names are those used there.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Multiplies T_8 in the factor of T_16; degree at most 4.
    pub q1: Leaf,
    /// Multiplies T_4 in the factor of T_16; degree at most 3.
    pub qa: Leaf,
    /// Added in the factor of T_16; degree at most 3.
    pub qb: Leaf,
    /// Multiplies T_4 in the factor of T_8; degree at most 3.
    pub sa: Leaf,
    /// Added in the factor of T_8; degree at most 3.
    pub sb: Leaf,
    /// Multiplies T_4; degree at most 3.
    pub ra: Leaf,
    /// Added; degree at most 3.
    pub rb: Leaf,
}

impl Split {
    /// Splits Σ c_k T_k. `None` unless the degree is 16 to 28: above, q_1 would need T_5 or more.
    pub fn new(coefficients: &[f64]) -> Option<Split> {
        if !(17..=29).contains(&coefficients.len()) {
            return None;
        }
        let (q, r) = divide(coefficients, 16);
        let (q1, q0) = divide(&q, 8);
        let (qa, qb) = divide(&q0, 4);
        let (r1, r0) = divide(&r, 8);
        let (sa, sb) = divide(&r1, 4);
        let (ra, rb) = divide(&r0, 4);
        Some(Split {
            q1,
            qa,
            qb,
            sa,
            sb,
            ra,
            rb,
        })
    }
}

/// Quotient and remainder by T_m in Chebyshev form, for degree below 2m: T_(m+k) = 2·T_m·T_k - T_(m-k).
fn divide(coefficients: &[f64], m: usize) -> (Leaf, Leaf) {
    let mut remainder: Leaf = coefficients.iter().take(m).copied().collect();
    remainder.resize(m, 0.0);
    let mut quotient = Vec::new();
    for (k, &c) in coefficients.iter().skip(m).enumerate() {
        quotient.push(if k == 0 { c } else { 2.0 * c });
        if k > 0 {
            if let Some(r) = remainder.get_mut(m - k) {
                *r -= c;
            }
        }
    }
    (quotient, remainder)
}

#[cfg(test)]
mod tests {
    use super::super::cosine::{chebyshev, Cosine};
    use super::*;

    #[test]
    fn parts_recombine_to_the_polynomial() {
        let coefficients = Cosine::STANDARD.coefficients();
        let s = Split::new(&coefficients).unwrap();
        assert!(s.q1.len() <= 5);
        for leaf in [&s.qa, &s.qb, &s.sa, &s.sb, &s.ra, &s.rb] {
            assert!(leaf.len() <= 4);
        }
        let mut worst = 0f64;
        for i in 0..=100 {
            let u = f64::from(i) / 50.0 - 1.0;
            let t = |k: usize| {
                let mut unit = vec![0.0; k + 1];
                unit[k] = 1.0;
                chebyshev(&unit, u)
            };
            let at = |leaf: &Leaf| chebyshev(leaf, u);
            let q = at(&s.q1) * t(8) + at(&s.qa) * t(4) + at(&s.qb);
            let r1 = at(&s.sa) * t(4) + at(&s.sb);
            let p = q * t(16) + r1 * t(8) + at(&s.ra) * t(4) + at(&s.rb);
            worst = worst.max((p - chebyshev(&coefficients, u)).abs());
        }
        // Leaves reach sizes of a few units; f64 rounds each sum of them.
        assert!(worst < 1e-13, "{worst:e}, bound 1e-13");
    }

    #[test]
    fn degrees_outside_sixteen_to_twenty_eight_are_refused() {
        assert!(Split::new(&[1.0; 16]).is_none());
        assert!(Split::new(&[1.0; 30]).is_none());
    }
}
