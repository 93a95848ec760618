//! Primality and roots of unity for 32-bit moduli, deterministic.

use super::modulus::Modulus;

/// Whether `n` is prime: Miller-Rabin with bases 2, 3, 5, 7, which decides every `n < 3,215,031,751` (Pomerance, Selfridge, Wagstaff 1980);
/// base 11 extends it past 2^32 (Jaeschke 1993).
pub fn is_prime(n: u32) -> bool {
    if n < 2 {
        return false;
    }
    for p in [2u32, 3, 5, 7, 11, 13] {
        if n.is_multiple_of(p) {
            return n == p;
        }
    }
    let wide = u64::from(n);
    let pow = |mut b: u64, mut e: u32| {
        let mut r = 1u64;
        while e > 0 {
            if e & 1 == 1 {
                r = r * b % wide;
            }
            b = b * b % wide;
            e >>= 1;
        }
        r
    };
    let twos = (n - 1).trailing_zeros();
    'bases: for base in [2u64, 3, 5, 7, 11] {
        let mut x = pow(base, (n - 1) >> twos);
        if x == 1 || x == wide - 1 {
            continue;
        }
        for _ in 1..twos {
            x = x * x % wide;
            if x == wide - 1 {
                continue 'bases;
            }
        }
        return false;
    }
    true
}

/// The smallest generator of the multiplicative group modulo the prime `q`.
pub fn smallest_generator(modulus: &Modulus) -> u32 {
    let order = modulus.value() - 1;
    let mut factors = Vec::new();
    let mut rest = order;
    let mut p = 2;
    while p * p <= rest {
        if rest.is_multiple_of(p) {
            factors.push(p);
            while rest.is_multiple_of(p) {
                rest /= p;
            }
        }
        p += 1;
    }
    if rest > 1 {
        factors.push(rest);
    }
    (2..modulus.value())
        .find(|&g| {
            factors
                .iter()
                .all(|&f| modulus.pow(g, u64::from(order / f)) != 1)
        })
        // Only q = 3 has no generator in 2..q other than 2, which the search finds; a composite q would end here.
        .unwrap_or(1)
}

/// The primitive `order`-th root of unity `g^((q-1)/order)`, `g` the smallest generator; `None` unless `order` divides `q - 1`.
/// The choice is part of the meaning of evaluation form: every machine must make the same one.
pub fn primitive_root(modulus: &Modulus, order: u32) -> Option<u32> {
    let group = modulus.value() - 1;
    if order == 0 || !group.is_multiple_of(order) {
        return None;
    }
    Some(modulus.pow(smallest_generator(modulus), u64::from(group / order)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primality_agrees_with_trial_division() {
        for n in (0..20_000u32).chain(268_300_000..268_302_000) {
            let naive = n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| n % d != 0);
            assert_eq!(is_prime(n), naive, "{n}");
        }
        assert!(!is_prime(3_215_031_751) && !is_prime(u32::MAX) && is_prime(4_294_967_291));
    }

    #[test]
    fn primitive_root_has_exact_order() {
        for q in [786_433, 5_767_169] {
            let m = Modulus::new(q).unwrap();
            let root = primitive_root(&m, 1 << 17).unwrap();
            assert_eq!(m.pow(root, 1 << 16), q - 1);
        }
        assert_eq!(
            primitive_root(&Modulus::new(268_369_921).unwrap(), 11),
            None
        );
    }
}
