//! The CPU's fused runs against the single operations that they stand for, bit for bit. Toy ring: not secure.

use super::compose;
use super::{Backend, LinearProduct, LinearSource, Rotation, Switch, Triple};
use crate::ckks::testing::{step, Lab};
use crate::ring::RnsPoly;
use crate::rlwe::KeyKind;
use heron_schedule::params::Level;

const STEPS: [i64; 3] = [1, 5, -3];

fn residues(pairs: &[(RnsPoly, RnsPoly)]) -> Vec<(Vec<u32>, Vec<u32>)> {
    let words = |p: &RnsPoly| p.data().to_vec();
    pairs.iter().map(|(a, b)| (words(a), words(b))).collect()
}

#[test]
fn fused_key_switches_and_sums_equal_the_single_operations_bit_for_bit() {
    for level in [Level(2), Level(6)] {
        let lab = Lab::toy(&[level], &STEPS);
        let backend = lab.evaluator.backend();
        let row = lab.context.row(level).expect("row");
        let source = lab.encrypt(&lab.slots(1), level, 1);
        let [c0, c1] = source.polys() else {
            panic!("a fresh ciphertext has two polynomials");
        };
        let rotations: Vec<Rotation<'_>> = STEPS
            .iter()
            .map(|&s| {
                let element = lab.evaluator.rotation_element(step(s));
                let key = lab.evaluator.keys().get(KeyKind::Galois(element));
                Rotation {
                    element,
                    key: key.expect("key"),
                }
            })
            .collect();

        let digits = backend.decompose(c1, row).expect("digits");
        let fused = backend
            .rotated_products(&digits, c0, &rotations, row)
            .expect("products");
        let single =
            compose::rotated_products(backend, &digits, c0, &rotations, row).expect("products");
        assert_eq!(residues(&fused), residues(&single));

        let (mut sum, mut other) = (fused[1].clone(), fused[1].clone());
        let pair = (&fused[0].0, c1);
        backend
            .switch_and_add(pair, rotations[2], row, &mut sum)
            .expect("switch");
        compose::switch_and_add(backend, pair, rotations[2], row, &mut other).expect("switch");
        assert_eq!(residues(&[sum]), residues(&[other]));

        let below = lab.context.row(Level(level.0 - 1)).expect("row");
        for lo in [&row.limbs, &below.limbs] {
            for (addends, element) in [
                ([None, None], None),
                ([Some(c0), None], Some(rotations[0].element)),
                ([Some(c0), Some(c1)], None),
            ] {
                let switch = || Switch {
                    key: rotations[0].key,
                    addends,
                    element,
                    lo,
                };
                let fused = backend.switch_and_divide(&digits, switch(), row);
                let single = compose::switch_and_divide(backend, &digits, switch(), row);
                assert_eq!(
                    residues(&[fused.expect("switch")]),
                    residues(&[single.expect("switch")])
                );
            }
        }

        let sums: Vec<Vec<Triple<'_, RnsPoly>>> = vec![
            vec![
                (&fused[0].0, &fused[1].0, &fused[1].1),
                (&fused[0].1, &fused[2].0, &fused[2].1),
            ],
            vec![(&fused[2].0, &fused[1].0, &fused[1].1)],
        ];
        assert_eq!(
            residues(&backend.sums(&sums, row)),
            residues(&compose::sums(backend, &sums, row))
        );

        let (still, moved) = (None, |i: usize| Some(rotations[i]));
        let linear_source = |digits, rotations| LinearSource {
            pair: (c0, c1),
            digits,
            rotations,
        };
        let sources = [
            linear_source(Some(digits.clone()), vec![moved(1), still, moved(0)]),
            linear_source(None, vec![still]),
            linear_source(None, vec![moved(2), moved(2)]),
        ];
        let product = |source, rotation, plaintext| LinearProduct {
            source,
            rotation,
            plaintext,
        };
        let sums: Vec<Vec<LinearProduct<'_, RnsPoly>>> = vec![
            vec![
                product(0, 0, &fused[0].0),
                product(2, 1, &fused[0].1),
                product(1, 0, &fused[2].0),
            ],
            (0..260).map(|i| product(0, i % 3, &fused[1].0)).collect(),
            Vec::new(),
        ];
        let fused = backend.rotated_sums(&sources, &sums, row);
        let single = compose::rotated_sums(backend, &sources, &sums, row);
        assert_eq!(
            residues(&fused.expect("sums")),
            residues(&single.expect("sums"))
        );
    }
}
