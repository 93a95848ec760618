//! Re-derives every claim made about the parameter sets.

use super::*;
use num_bigint::{BigInt, BigUint, Sign};
use std::collections::BTreeSet;

fn all() -> Vec<ParameterSet> {
    // `levelled_tests` is about the others.
    let ring = |p: Profile| if p.is_toy() { 12 } else { 16 };
    Profile::ALL
        .into_iter()
        .flat_map(|p| ParameterSet::bootstrapping(p, ring(p)))
        .collect()
}

fn is_prime(n: u64) -> bool {
    n > 1
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}

fn big(set: &ParameterSet, limbs: &[LimbId]) -> BigUint {
    set.product(limbs).unwrap()
}

#[test]
fn all_moduli_are_distinct_primes_one_modulo_two_to_the_17_below_two_to_the_28() {
    for set in all() {
        let distinct: BTreeSet<_> = set.primes().iter().collect();
        assert_eq!(distinct.len(), set.primes().len());
        for &p in set.primes() {
            assert!(
                p < 1 << 28 && p % (1 << 17) == 1 && is_prime(u64::from(p)),
                "{p}"
            );
        }
    }
}

#[test]
fn rows_follow_the_ladder() {
    let [a, b] = [786433, 1179649];
    for set in all() {
        let n = set.top_usable().0;
        assert_eq!(set.bootstrap_level(), Level(3));
        assert_eq!(set.rows().len(), usize::from(n) + 1 + 8 + 3);
        for (i, row) in set.rows().iter().enumerate() {
            let expected = match i as u8 {
                0 => RowKind::Base,
                l if l <= 3 => RowKind::SlotsToCoeffs,
                l if l <= n => RowKind::Usable,
                l if l <= n + 8 => RowKind::EvalMod,
                _ => RowKind::CoeffsToSlots,
            };
            assert_eq!(row.kind, expected);
            assert!(row.limbs.windows(2).all(|w| w[0] < w[1]));
        }
        for i in 1..=n {
            let step = set.rescale_step(Level(i)).unwrap();
            let primes =
                |l: &[LimbId]| l.iter().map(|&l| set.prime(l).unwrap()).collect::<Vec<_>>();
            let (few, many) = (primes(&step.entering), primes(&step.leaving));
            if i % 2 == 1 {
                assert_eq!(few.len(), 1, "row {i} gives its A and B for one D");
                assert!(many.len() == 3 && many.contains(&a) && many.contains(&b));
            } else {
                assert_eq!(few, [a, b], "row {i} gives two mains and its D for A and B");
                assert_eq!(many.len(), 3);
            }
        }
    }
}

#[test]
fn each_prime_of_each_row_is_alive_in_the_top_row_and_none_is_special() {
    for set in all() {
        let top: BTreeSet<_> = set.limbs(set.top()).unwrap().iter().collect();
        let special: BTreeSet<_> = set.special().iter().collect();
        assert!(top.is_disjoint(&special));
        for row in set.rows() {
            assert!(row.limbs.iter().all(|l| top.contains(l)));
            assert_eq!(row.modulus(), &big(&set, &row.limbs));
        }
        let digits: Vec<_> = set.digits().concat();
        assert_eq!(digits, top.into_iter().copied().collect::<Vec<_>>());
        assert_eq!(digits.len() + special.len(), set.primes().len());
        assert!(set.encapsulation().iter().all(|l| special.contains(l)));
    }
}

#[test]
fn every_digit_is_smaller_than_the_special_modulus_by_eight_bits() {
    for set in all() {
        let p = set.log2_product(set.special()).unwrap();
        for row in set.rows() {
            for digit in set.digits() {
                let live: Vec<_> = digit
                    .iter()
                    .filter(|l| row.limbs.contains(l))
                    .copied()
                    .collect();
                let excess = p - set.log2_product(&live).unwrap();
                assert!(excess >= 8.0, "{}: {excess}", set.profile());
            }
        }
    }
}

#[test]
fn the_moduli_are_as_large_as_stated_and_within_the_security_table() {
    for (profile, qp, limit, levels) in [
        (Profile::Secure, 1598.789, 1600.0, 16),
        (Profile::Paper, 1494.618, 1555.0, 12),
        (Profile::Standard, 1598.789, 1747.0, 16),
    ] {
        let set = ParameterSet::new(profile).unwrap();
        assert!((set.log2_qp() - qp).abs() < 1e-3 && set.log2_qp() <= limit);
        assert!((108.3..108.7).contains(&set.log2_encapsulation()));
        assert_eq!(set.top_usable(), Level(levels));
        assert!(matches!(
            set.check_key(set.log2_qp(), set.secret()),
            Ok(KeySecurity::Secure(SecurityBits(bits))) if bits >= 130.0
        ));
        assert!(set
            .check_key(set.log2_qp(), set.ephemeral_secret())
            .is_err());
        assert!(set.check_key(1748.0, set.secret()).is_err());
    }
}

#[test]
fn secure_may_choose_among_chains_with_more_levels_and_more_digits() {
    let sets: Vec<ParameterSet> = ParameterSet::bootstrapping(Profile::Secure, 16).collect();
    let shape = |s: &ParameterSet| (s.levels_between_bootstraps(), s.digits().len());
    let shapes: Vec<_> = sets.iter().map(shape).collect();
    assert_eq!(shapes, [(13, 4), (9, 3), (15, 6)]);
    for set in sets {
        assert!(set.log2_qp() <= 1600.0, "{}", set.log2_qp());
        let name = set.profile().name();
        assert_eq!(
            ParameterSet::from_id(name, 16, &set.id()).unwrap().id(),
            set.id()
        );
    }
    assert_eq!(ParameterSet::bootstrapping(Profile::Paper, 16).count(), 1);
    assert_eq!(
        ParameterSet::bootstrapping(Profile::ToyLevelled, 12).count(),
        0
    );
}

#[test]
fn toys_are_marked_insecure_and_would_fail_the_table() {
    for profile in Profile::ALL.into_iter().filter(|p| p.is_toy()) {
        for log_n in [8, 10, 11, 12, 16] {
            let set = ParameterSet::with_ring(profile, log_n).unwrap();
            assert!(set.is_insecure());
            let answer = set.check_key(set.log2_qp(), set.secret());
            assert_eq!(answer, Ok(KeySecurity::MarkedInsecure));
            if log_n < 16 {
                assert!(check_key(log_n, set.log2_qp(), set.secret()).is_err());
            }
        }
    }
    for (profile, log_n) in [
        (Profile::Secure, 15),
        (Profile::Paper, 12),
        (Profile::Toy, 7),
        (Profile::Toy, 17),
    ] {
        assert!(matches!(
            ParameterSet::with_ring(profile, log_n),
            Err(ParameterError::RingSize { .. })
        ));
    }
}

/// numerator/denominator of D_l to a thousand bits below the point; exact fractions would double in size with each level.
fn exact_scales(set: &ParameterSet) -> Vec<(BigUint, BigUint)> {
    let top = match set.rows().len() {
        24 => "1208707418181442828119745",
        28 => "1208957373005712865703800",
        _ => "1208897110058658516984486",
    };
    let one = BigUint::from(1u8) << 1000u32;
    let mut s = top.parse::<BigUint>().unwrap() << 960u32;
    let mut out = vec![(s.clone(), one.clone())];
    for l in (1..=set.top_usable().0).rev() {
        let q = |l: u8| set.row(Level(l)).unwrap().modulus().clone();
        s = &s * &s * q(l - 1) / (q(l) * &one);
        out.push((s.clone(), one.clone()));
    }
    out.reverse();
    out
}

#[test]
fn canonical_scales_are_exact_to_a_hundred_bits_and_drift_less_than_two_to_the_minus_10_8() {
    for set in all() {
        for (l, (num, den)) in exact_scales(&set).iter().enumerate() {
            let scale = set.scale(Level(l as u8)).unwrap();
            let (mantissa, exponent) = scale.to_parts();
            let approx = BigInt::from(mantissa) * BigInt::from(den.clone());
            let exact = BigInt::from(num.clone()) << exponent.unsigned_abs();
            assert!(exponent < 0);
            let difference = (approx - &exact).magnitude().clone();
            let bits = exact.bits() as i64 - difference.bits() as i64;
            assert!(
                bits >= 100,
                "{} level {l}: {bits} bits, expected 100",
                set.profile()
            );
            let drift = (scale.to_f64() / 2f64.powi(40) - 1.0).abs();
            assert!(
                drift < 2f64.powf(-10.8),
                "level {l}: drift 2^{}",
                drift.log2()
            );
            assert_eq!(scale.to_f64().round(), {
                let q: BigUint = (num + (den >> 1u32)) / den;
                q.iter_u64_digits().next().unwrap() as f64
            });
        }
        let zero = set.scale(Level(0)).unwrap().to_f64() / 2f64.powi(40) - 1.0;
        assert!(zero.abs() < 2f64.powi(-60), "D_0 is 2^40 but for {zero:e}");
        assert!(set.scale(Level(set.top_usable().0 + 1)).is_err());
    }
}

#[test]
fn products_and_plaintext_products_meet_at_the_canonical_scale() {
    for set in all() {
        for l in 1..=set.top_usable().0 {
            let d = set.scale(Level(l)).unwrap();
            let p = set.plaintext_scale(Level(l)).unwrap();
            for product in [d.times(d).unwrap(), d.times(p).unwrap()] {
                let below = set.rescaled(Level(l), product).unwrap();
                assert!(below.agrees_with(set.scale(Level(l - 1)).unwrap()));
            }
        }
        assert!(set.plaintext_scale(Level(0)).is_err());
    }
}

#[test]
fn headroom_is_at_least_eleven_bits_and_grows() {
    for set in all() {
        let mut last = 11.4;
        for l in 0..=set.top_usable().0 {
            let bits = set.headroom_bits(Level(l)).unwrap();
            assert!(
                bits > last,
                "level {l}: {bits} bits, expected more than {last}"
            );
            last = bits + 39.0;
        }
    }
}

/// (value · constant · Π entering - centred remainder) / Π leaving on integers, as the runtime does it on residues.
fn apply(set: &ParameterSet, a: &Adjustment, value: &BigInt) -> BigInt {
    let m = BigInt::from(big(set, &a.step.entering));
    let d = BigInt::from(big(set, &a.step.leaving));
    let x = value * &a.constant * m;
    let half = &d >> 1;
    let floor = |n: BigInt, d: &BigInt| {
        let q = &n / d;
        if n.sign() == Sign::Minus && &q * d != n {
            q - 1
        } else {
            q
        }
    };
    floor(x + half, &d)
}

#[test]
fn adjustments_reach_the_scale_of_each_lower_level() {
    for set in all() {
        for from in 1..=set.top_usable().0 {
            for to in 0..from {
                for factor in [1.0, -0.75, 3.0e-3, 500.0] {
                    let a = set.adjust_constant(Level(from), Level(to), factor).unwrap();
                    let (high, low) = (
                        set.limbs(Level(from)).unwrap(),
                        set.limbs(Level(to)).unwrap(),
                    );
                    assert!((2..=3).contains(&a.step.leaving.len()), "{a:?}");
                    assert!(a.working.iter().all(|l| high.contains(l)));
                    let mut reached: Vec<_> = a
                        .working
                        .iter()
                        .filter(|l| !a.step.leaving.contains(l))
                        .copied()
                        .collect();
                    reached.extend(&a.step.entering);
                    reached.sort_unstable();
                    assert_eq!(reached, low);
                    let message = 0.9f64;
                    let value = set
                        .scale(Level(from))
                        .unwrap()
                        .scaled_integer(message)
                        .unwrap();
                    let got = apply(&set, &a, &value);
                    let target = set.scale(Level(to)).unwrap();
                    let want = target.scaled_integer(message * factor).unwrap();
                    let error = (&got - &want)
                        .magnitude()
                        .iter_u64_digits()
                        .next()
                        .unwrap_or(0) as f64
                        / 2f64.powi(40);
                    // Rounding of the value (times the factor), of the constant, of the quotient and of the comparison value.
                    let bound = (0.5 * factor.abs() + 2f64.powf(-0.7) + 1.0) / 2f64.powi(40) * 1.01;
                    assert!(
                        error <= bound,
                        "{from} to {to} by {factor}: error {error:e}, bound {bound:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_adjustments_multiplier_is_its_constant_times_what_enters() {
    let set = ParameterSet::new(Profile::Secure).unwrap();
    for (from, to, factor) in [(11, 10, -1.0), (11, 3, 0.5), (4, 2, -2.0)] {
        let a = set.adjust_constant(Level(from), Level(to), factor).unwrap();
        let m = &a.constant * BigInt::from(big(&set, &a.step.entering));
        for (&limb, r) in a.working.iter().zip(a.multiplier_residues(&set)) {
            let p = set.prime(limb).unwrap();
            assert!(r < p);
            assert_eq!((&m - BigInt::from(r)) % BigInt::from(p), BigInt::ZERO);
        }
    }
}

#[test]
fn adjustments_refuse_to_go_up_or_by_nonsense() {
    let set = ParameterSet::new(Profile::Secure).unwrap();
    let adjust = |from, to, factor| set.adjust_constant(Level(from), Level(to), factor);
    assert!(matches!(
        adjust(3, 3, 1.0),
        Err(ParameterError::NotDownwards { .. })
    ));
    assert!(matches!(
        adjust(3, 4, 1.0),
        Err(ParameterError::NotDownwards { .. })
    ));
    assert!(matches!(
        adjust(3, 2, f64::NAN),
        Err(ParameterError::Adjust { .. })
    ));
    assert!(matches!(
        adjust(3, 2, 1e300),
        Err(ParameterError::Adjust { .. })
    ));
    assert!(matches!(
        adjust(17, 2, 1.0),
        Err(ParameterError::LevelRange { .. })
    ));
    assert!(set.row(Level(28)).is_err() && set.row(Level(255)).is_err());
    assert!(set.rescale_step(Level(0)).is_err());
}

#[test]
fn bytes_return_the_same_set_and_a_changed_bit_never_does() {
    let mut ids = BTreeSet::new();
    for set in all() {
        let bytes = set.to_bytes();
        assert_eq!(ParameterSet::from_bytes(&bytes).unwrap().id(), set.id());
        assert!(ids.insert(set.id()));
        // Each refusal builds every set of the family: all bytes of the head, some of the rest.
        for i in (0..bytes.len()).filter(|i| *i < 40 || i % 29 == 0) {
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[i] ^= bit;
                // A toy's ring dimension changed by one bit can be another toy; nothing else may pass.
                if let Ok(other) = ParameterSet::from_bytes(&changed) {
                    assert!(
                        set.is_insecure() && other.log_n() != set.log_n(),
                        "byte {i}"
                    );
                    assert_ne!(other.id(), set.id());
                }
            }
            if i % 7 == 0 {
                assert!(ParameterSet::from_bytes(&bytes[..i]).is_err());
            }
        }
        let name = set.profile().name();
        assert!(ParameterSet::from_id(name, set.log_n(), &set.id()).is_ok());
        assert!(matches!(
            ParameterSet::from_id(name, set.log_n(), &[0; 32]),
            Err(ParameterError::IdMismatch { .. })
        ));
        assert!(ParameterSet::from_id(name, set.log_n(), &[]).is_err());
    }
    assert!(ParameterSet::from_id("tiny", 12, &[]).is_err());
}

#[test]
fn the_ids_are_those_of_the_files_already_written() {
    let id = |p| ParameterSet::new(p).unwrap().id()[..4].to_vec();
    for (profile, expected) in KNOWN_IDS {
        assert_eq!(
            id(profile),
            expected,
            "{profile}: a changed id breaks every file made before"
        );
    }
}

const KNOWN_IDS: [(Profile, [u8; 4]); 4] = [
    (Profile::Secure, [169, 47, 152, 48]),
    (Profile::Paper, [143, 98, 6, 23]),
    (Profile::Standard, [86, 149, 155, 250]),
    (Profile::Toy, [130, 216, 147, 52]),
];
