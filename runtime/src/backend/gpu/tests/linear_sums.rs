//! The sums of linear maps of several sources, whose rotations are never in memory: each is the CPU's.

use super::super::simulator::{Build, Simulator};
use super::super::{Gpu, GpuPoly};
use super::same;
use super::switches::upload;
use crate::backend::{Backend, Decomposition, LinearProduct, LinearSource, Rotation};
use crate::ckks::testing::{step, Lab};
use crate::ckks::Ciphertext;
use crate::ring::testing::random_poly;
use crate::ring::{Form, GaloisElement, RnsPoly};
use crate::rlwe::{KeyKind, KeyRequest, RowLimbs};
use heron_schedule::params::{Level, ParameterSet, Profile};
use std::sync::Arc;

const LEVEL: Level = Level(6);
const LOG_N: u32 = 10;

fn lab() -> Lab {
    let params = ParameterSet::with_ring(Profile::ToySecure, LOG_N).expect("profile");
    let mut request = KeyRequest::new();
    request.add(KeyKind::Galois(GaloisElement::conjugation(LOG_N)), LEVEL);
    for k in [5, -3] {
        request.add(KeyKind::Galois(GaloisElement::rotation(k, LOG_N)), LEVEL);
    }
    Lab::with_keys(params, &request)
}

/// The ciphertext as it is, two rotations and the conjugate.
fn rotations(lab: &Lab) -> [Option<Rotation<'_>>; 4] {
    let rotation = |element| {
        let key = lab.evaluator.keys().get(KeyKind::Galois(element));
        let key = key.expect("key");
        Some(Rotation { element, key })
    };
    let [right, left] = [5, -3].map(|k| lab.evaluator.rotation_element(step(k)));
    [
        rotation(right),
        None,
        rotation(left),
        rotation(GaloisElement::conjugation(LOG_N)),
    ]
}

/// Digits made by the CPU, in one run as the GPU's own.
fn brought<'a>(
    gpu: &Gpu,
    digits: &Decomposition<'_, RnsPoly>,
    original: &'a GpuPoly,
) -> Decomposition<'a, GpuPoly> {
    let words: Vec<&[u32]> = digits.digits.iter().map(RnsPoly::data).collect();
    let buffer = Arc::new(gpu.filled(&words.concat()).expect("room"));
    let mut offset = 0;
    let each = digits.digits.iter().map(|digit| {
        let poly = GpuPoly {
            buffer: Some(Arc::clone(&buffer)),
            offset,
            limbs: digit.limbs().into(),
            form: digit.form(),
            degree: digit.degree(),
            pending: None,
        };
        offset += digit.data().len();
        poly
    });
    Decomposition {
        original,
        digits: each.collect(),
    }
}

/// Diagonals of full length, in another order of their limbs, and ones that repeat.
fn diagonals(lab: &Lab, row: &RowLimbs) -> Vec<RnsPoly> {
    let ring = lab.context.ring();
    let mut reversed = row.extended.clone();
    reversed.reverse();
    let each = (0..6).map(|i| match i % 3 {
        0 => random_poly(ring, &row.extended, Form::Evaluation, i),
        1 => random_poly(ring, &reversed, Form::Evaluation, i),
        _ => {
            let fill = |_, words: &mut [u32]| words.fill(i as u32 + 1);
            let poly = ring.evaluate_in_power(&row.extended, i as u32 / 2, fill);
            poly.expect("a compressed polynomial")
        }
    });
    each.collect()
}

/// A map: for each source how many of the rotations it has, and for each sum its terms as (source, rotation, diagonal).
struct Map {
    rotations: Vec<usize>,
    sums: Vec<Vec<(usize, usize, usize)>>,
}

impl Map {
    /// So many sources with so many rotations each; sums of every rotation, of few, of none, and of one again and again.
    fn new(sources: usize, rotations: usize) -> Map {
        let each = (0..sources).flat_map(|s| (0..rotations).map(move |r| (s, r)));
        let each: Vec<(usize, usize)> = each.collect();
        let all = each.iter().enumerate();
        Map {
            rotations: vec![rotations; sources],
            sums: vec![
                all.clone().map(|(i, &(s, r))| (s, r, i % 6)).collect(),
                all.step_by(3).map(|(i, &(s, r))| (s, r, i % 5)).collect(),
                vec![],
                (0..131).map(|i| (sources - 1, 0, i % 4)).collect(),
            ],
        }
    }

    fn on<'a, P>(&self, diagonals: &'a [P]) -> Vec<Vec<LinearProduct<'a, P>>> {
        let product = |&(source, rotation, diagonal): &(usize, usize, usize)| LinearProduct {
            source,
            rotation,
            plaintext: &diagonals[diagonal],
        };
        let sums = self.sums.iter();
        sums.map(|sum| sum.iter().map(product).collect()).collect()
    }
}

/// Both polynomials of each ciphertext.
fn halves<P>(cts: &[Ciphertext<P>]) -> Vec<(&P, &P)> {
    let both = |ct| match Ciphertext::polys(ct) {
        [c0, c1] => (c0, c1),
        _ => panic!("a fresh ciphertext has two polynomials"),
    };
    cts.iter().map(both).collect()
}

/// Whether the device's sums are the CPU's, and its launches.
fn tried(lab: &Lab, map: &Map, build: Build, reorder: bool, given: bool) -> (bool, u64) {
    let row = lab.context.row(LEVEL).expect("row");
    let cpu = lab.evaluator.backend();
    let turns = rotations(lab);
    let sources = 0..map.rotations.len() as u64;
    let cts: Vec<Ciphertext> = sources
        .map(|i| lab.encrypt(&lab.slots(i), LEVEL, i))
        .collect();
    let pairs = halves(&cts);
    let digits = pairs.iter().map(|(_, c1)| cpu.decompose(c1, row));
    let digits: Vec<_> = digits.map(|d| d.expect("digits")).collect();
    let each = pairs.iter().zip(&digits).zip(&map.rotations);
    let on_host: Vec<LinearSource<'_, RnsPoly>> = each
        .map(|((&pair, digits), &count)| LinearSource {
            pair,
            digits: Some(digits.clone()),
            rotations: turns[..count].to_vec(),
        })
        .collect();
    let diagonals = diagonals(lab, row);
    let expected = cpu.rotated_sums(&on_host, &map.on(&diagonals), row);
    let expected = expected.expect("sums");

    let device = Arc::new(Simulator::with(build, 3, 1 << 40));
    let gpu = Gpu::new(Arc::clone(&device) as _, Arc::clone(&lab.context)).expect("tables");
    let mut moved: Vec<_> = cts.iter().map(|ct| upload(&gpu, ct)).collect();
    if reorder {
        let polys = moved[0].polys().iter().map(|p| {
            let mut limbs = gpu.limbs(p).to_vec();
            limbs.reverse();
            gpu.select(p, &limbs)
        });
        moved[0] = Ciphertext::from_parts(polys.collect(), LEVEL, moved[0].scale());
    }
    let pairs = halves(&moved);
    let each = pairs.iter().zip(&digits).zip(&map.rotations);
    let on_device: Vec<LinearSource<'_, GpuPoly>> = each
        .map(|((&pair, digits), &count)| LinearSource {
            pair,
            digits: given.then(|| brought(&gpu, digits, pair.1)),
            rotations: turns[..count].to_vec(),
        })
        .collect();
    let uploaded: Vec<GpuPoly> = diagonals.iter().map(|d| gpu.upload(d)).collect();
    let before = device.launches();
    let found = gpu.rotated_sums(&on_device, &map.on(&uploaded), row);
    let launches = device.launches() - before;
    let found = found.expect("sums");
    assert_eq!(found.len(), expected.len());
    let alike = found.iter().zip(&expected).all(|(found, expected)| {
        same(&gpu, &found.0, &expected.0).is_ok() && same(&gpu, &found.1, &expected.1).is_ok()
    });
    (alike, launches)
}

#[test]
fn sums_of_rotations_of_several_sources_equal_the_cpus_within_one_launch_and_beyond() {
    let lab = lab();
    // A sum of 131 terms takes a second launch.
    for (sources, rotations, launches) in [
        (1, 1, 2),
        (1, 4, 2),
        (6, 3, 2),
        // 52 rotated sources: 48 and 4.
        (13, 4, 3),
        // 17 sources: 16 as they are, the last with 15 rotated ones, two more.
        (17, 2, 4),
    ] {
        let map = Map::new(sources, rotations);
        let found = tried(&lab, &map, Build::Plain, false, true);
        let what = format!("{sources} sources, {rotations} rotations");
        assert_eq!(found, (true, launches), "{what}");
    }
}

#[test]
fn sources_that_cannot_share_a_launch_and_digits_that_are_not_there_change_no_sum() {
    let lab = lab();
    let map = Map::new(3, 3);
    assert!(tried(&lab, &map, Build::Plain, true, false).0);
    assert!(tried(&lab, &map, Build::Plain, false, false).0);
    // Nothing is rotated: there are no digits at all.
    let still = Map {
        rotations: vec![2, 2],
        sums: vec![vec![(0, 1, 0), (1, 1, 2)]],
    };
    assert!(tried(&lab, &still, Build::Plain, false, true).0);
}

#[test]
fn altered_kernels_of_sums_of_rotations_are_noticed() {
    let lab = lab();
    let map = Map::new(3, 3);
    for build in [Build::MixedBatch, Build::WithoutBarriers] {
        assert!(!tried(&lab, &map, build, false, true).0, "{build:?}");
    }
    // One source cannot be mixed up.
    assert!(tried(&lab, &Map::new(1, 3), Build::MixedBatch, false, true).0);
}
