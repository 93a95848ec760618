//! What holds of every chain without bootstrapping.

use super::*;
use num_bigint::BigUint;
use std::collections::BTreeSet;

fn every() -> Vec<ParameterSet> {
    static MADE: std::sync::OnceLock<Vec<ParameterSet>> = std::sync::OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> Vec<ParameterSet> {
    let secure = (13..=17).flat_map(|n| ParameterSet::family(Profile::Secure, n));
    let toys = ParameterSet::family(Profile::ToyLevelled, 10);
    secure
        .chain(toys)
        .filter(|set| !set.can_bootstrap())
        .collect()
}

#[test]
fn every_key_of_every_levelled_set_is_within_the_table_under_a_uniform_secret() {
    let mut secure = 0;
    for set in every() {
        assert_eq!(set.secret(), SecretKind::UniformTernary);
        assert!(set.encapsulation().is_empty());
        let shape = set.levelled_shape().unwrap();
        println!(
            "2^{} {}x{} bits, digits of {}: log QP {:.1}, top scale 2^{:.3}",
            set.log_n(),
            set.top_usable().0,
            shape.bits.log2(),
            shape.digit_limbs,
            set.log2_qp(),
            set.scale(set.top_usable()).unwrap().log2()
        );
        if set.is_insecure() {
            continue;
        }
        secure += 1;
        let limit = modulus_limit(set.log_n(), SecretKind::UniformTernary).unwrap();
        assert!(set.log2_qp() <= f64::from(limit));
        assert!(matches!(
            check_key(set.log_n(), set.log2_qp(), set.secret()),
            Ok(SecurityBits(bits)) if bits >= 128.0
        ));
        // Another level would not fit, or there is no prime for it.
        let room = f64::from(limit) - set.log2_qp();
        let levels = set.top_usable().0;
        assert!(
            room < 81.0 || levels == 40 || set.log_n() == 17,
            "{room} bits unused"
        );
    }
    assert!(secure > 50, "{secure} sets");
}

#[test]
fn levelled_moduli_are_distinct_primes_that_split_in_their_ring() {
    for set in every() {
        let distinct: BTreeSet<_> = set.primes().iter().collect();
        assert_eq!(distinct.len(), set.primes().len());
        for &p in set.primes() {
            let small = (2..).take_while(|d| d * d <= p).any(|d| p % d == 0);
            assert!(
                !small && p < 1 << 28 && (p - 1) % (2 << set.log_n()) == 0,
                "{p}"
            );
        }
    }
}

#[test]
fn rows_digits_and_special_primes_of_levelled_sets_fit_together() {
    for set in every() {
        let shape = set.levelled_shape().unwrap();
        let union: BTreeSet<_> = set.limbs(set.top()).unwrap().iter().copied().collect();
        let digits: BTreeSet<_> = set.digits().concat().into_iter().collect();
        assert_eq!(union, digits, "the top row holds every limb of the chain");
        assert!(set.special().iter().all(|l| !union.contains(l)));
        let usable = usize::from(set.top_usable().0);
        assert!(set.rows().len() - usable - 1 <= 1);
        for (level, row) in set.rows().iter().enumerate() {
            assert!(row.limbs.iter().all(|l| union.contains(l)));
            assert_eq!(row.modulus(), &set.product(&row.limbs).unwrap());
            if level <= usable {
                assert_eq!(row.limbs.len(), shape.bits.limbs(level as u32));
            }
        }
        let p = set.log2_product(set.special()).unwrap();
        for (row, digit) in set.rows()[..=usable]
            .iter()
            .flat_map(|row| set.digits().iter().map(move |digit| (row, digit)))
        {
            let alive = digit.iter().copied().filter(|l| row.limbs.contains(l));
            let alive: Vec<LimbId> = alive.collect();
            assert!(alive.len() <= usize::from(shape.digit_limbs));
            let excess = p - set.log2_product(&alive).unwrap();
            assert!(
                excess >= 3.0,
                "{shape:?}: P exceeds a digit by 2^{excess} only"
            );
        }
    }
}

#[test]
fn scales_of_levelled_sets_stay_near_their_power_and_products_meet_them() {
    for set in every() {
        let bits = set.default_scale_log2();
        for l in 0..=set.top_usable().0 {
            let d = set.scale(Level(l)).unwrap();
            let drift = (d.log2() - f64::from(bits)).abs();
            assert!(drift < 0.26, "2^{} level {l}: drift {drift}", set.log_n());
            assert!(set.headroom_bits(Level(l)).unwrap() > 10.5);
            if l > 0 {
                for factor in [d, set.plaintext_scale(Level(l)).unwrap()] {
                    let below = set.rescaled(Level(l), d.times(factor).unwrap()).unwrap();
                    assert!(below.agrees_with(set.scale(Level(l - 1)).unwrap()));
                }
            }
        }
        let zero = set.scale(Level(0)).unwrap().log2() - f64::from(bits);
        assert!(zero.abs() < 2f64.powi(-9), "D_0 is off by 2^{zero}");
    }
}

#[test]
fn rescaling_a_levelled_row_is_exact_division_by_the_ratio_of_moduli() {
    for set in every() {
        for l in 1..=set.top_usable().0 {
            let step = set.rescale_step(Level(l)).unwrap();
            let of = |limbs: &[LimbId]| set.product(limbs).unwrap();
            let (high, low): (&BigUint, &BigUint) = (
                set.row(Level(l)).unwrap().modulus(),
                set.row(Level(l - 1)).unwrap().modulus(),
            );
            assert_eq!(high * of(&step.entering), low * of(&step.leaving));
        }
    }
}

#[test]
fn adjustments_between_all_rows_of_a_levelled_set_keep_the_bits_of_the_scale() {
    for set in every() {
        for from in 1..=set.top_usable().0 {
            for to in (0..from).filter(|to| from - to <= 2 || *to == 0) {
                let a = set.adjust_constant(Level(from), Level(to), 1.0).unwrap();
                let bits = a.constant.bits() as u32 + 1;
                assert!(
                    bits + 1 >= set.default_scale_log2(),
                    "{from} to {to}: {bits} bits"
                );
            }
        }
    }
}

#[test]
fn files_name_levelled_sets_by_id_and_nothing_else_passes() {
    let mut ids = BTreeSet::new();
    for set in every().into_iter().filter(|s| s.log_n() <= 13) {
        assert!(ids.insert(set.id()), "two sets of one id");
        let name = set.profile().name();
        let found = ParameterSet::from_id(name, set.log_n(), &set.id()).unwrap();
        assert_eq!(found.levelled_shape(), set.levelled_shape());
        let bytes = set.to_bytes();
        assert_eq!(ParameterSet::from_bytes(&bytes).unwrap().id(), set.id());
        // The same id under another ring, another profile, or one bit away.
        for log_n in [12, 14, 18] {
            if log_n != set.log_n() {
                assert!(ParameterSet::from_id(name, log_n, &set.id()).is_err());
            }
        }
        for other in ["paper", "standard", "toy"] {
            assert!(ParameterSet::from_id(other, set.log_n(), &set.id()).is_err());
        }
        for i in (0..bytes.len()).step_by(211) {
            let mut changed = bytes.clone();
            changed[i] ^= 1;
            if let Ok(other) = ParameterSet::from_bytes(&changed) {
                assert!(set.is_insecure() && other.log_n() != set.log_n());
            }
        }
    }
}

#[test]
fn levelled_sets_are_refused_outside_their_rings_and_profiles() {
    let shape = LevelledShape {
        bits: LevelBits::Forty,
        digit_limbs: 4,
    };
    for (profile, log_n) in [
        (Profile::Secure, 12),
        (Profile::Secure, 18),
        (Profile::Paper, 15),
        (Profile::Toy, 12),
        (Profile::ToyLevelled, 7),
    ] {
        assert!(ParameterSet::levelled(profile, log_n, shape).is_err());
    }
    let wide = LevelledShape {
        bits: LevelBits::Forty,
        digit_limbs: 12,
    };
    assert!(matches!(
        ParameterSet::levelled(Profile::Secure, 13, wide),
        Err(ParameterError::NoLevels { .. })
    ));
    let odd = LevelledShape {
        bits: LevelBits::Forty,
        digit_limbs: 7,
    };
    assert!(ParameterSet::levelled(Profile::Secure, 15, odd).is_err());
}

#[test]
fn the_ids_of_levelled_sets_are_those_of_the_files_already_written() {
    let mut all = blake3::Hasher::new();
    every().iter().for_each(|set| {
        all.update(&set.id());
    });
    let found = all.finalize().to_hex();
    assert_eq!(
        found.as_str().get(..16),
        Some(KNOWN),
        "a changed id breaks every file made before"
    );
}

const KNOWN: &str = "77dc875937b5f164";
