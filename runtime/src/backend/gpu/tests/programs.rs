//! Ciphertext operations, linear maps, bootstraps and a whole schedule.

use super::super::{Gpu, GpuPoly};
use super::switches::{assert_equal, device_evaluator, upload};
use crate::backend::Backend;
use crate::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use crate::ckks::encoding::Complex;
use crate::ckks::testing::{step, Lab};
use crate::ckks::{
    Basis, Ciphertext, CkksError, DiagonalSource, EncodeOnDemand, GiantStep, LinearOutput,
    LinearTerm, Plaintext,
};
use crate::exec::key_request::program_keys;
use crate::exec::observe::Observed;
use crate::exec::ports::pack;
use crate::exec::refresh::{bootstrap_keys, Refresher};
use crate::exec::rns::Rns;
use crate::exec::walk;
use crate::ring::GaloisElement;
use crate::rlwe::KeyKind;
use heron_schedule::params::{Level, ParameterSet, Profile};
use heron_schedule::sample::{sample, SAMPLE_BATCH, SAMPLE_ELEMENTS};
use heron_schedule::Schedule;
use std::collections::BTreeMap;
use std::sync::Arc;

const LEVEL: Level = Level(6);
const STEPS: [i64; 5] = [1, 2, 3, 5, 8];

/// Diagonals encoded by the host.
struct Uploaded<'a, S>(&'a Gpu, &'a S);

impl<S: DiagonalSource<crate::ring::RnsPoly>> DiagonalSource<<Gpu as Backend>::Poly>
    for Uploaded<'_, S>
{
    fn diagonal(
        &self,
        index: usize,
        level: Level,
        basis: Basis,
    ) -> Result<Arc<Plaintext<<Gpu as Backend>::Poly>>, CkksError> {
        let plain = self.1.diagonal(index, level, basis)?;
        let poly = self.0.upload(plain.poly());
        Ok(Arc::new(Plaintext::from_parts(
            poly,
            plain.level(),
            plain.scale(),
        )))
    }
}

#[test]
fn ciphertext_operations_linear_maps_and_bootstraps_equal_the_cpus() {
    let params = ParameterSet::with_ring(Profile::ToySecure, 10).expect("profile");
    let kinds = [Kind::Full, Kind::ComplexPair, Kind::Sparse { log_slots: 6 }];
    let mut request = requirements(&params, Tuning::STANDARD, &kinds).expect("keys");
    request.add(KeyKind::Relinearisation, LEVEL);
    let log_n = params.log_n();
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), LEVEL);
    for k in STEPS {
        request.add(KeyKind::Galois(GaloisElement::rotation(k, log_n)), LEVEL);
    }
    let lab = Lab::with_keys(params, &request);
    let (cpu, on_gpu) = (&lab.evaluator, device_evaluator(&lab, 4));
    let gpu = on_gpu.backend();
    let (a, b) = (
        lab.encrypt(&lab.slots(1), LEVEL, 1),
        lab.encrypt(&lab.slots(2), LEVEL, 2),
    );
    let (da, db) = (upload(gpu, &a), upload(gpu, &b));
    macro_rules! check {
        ($what:literal, $found:expr, $expected:expr) => {
            assert_equal($what, gpu, &$found.expect($what), &$expected.expect($what))
        };
    }
    check!(
        "a product",
        on_gpu.mul_rescale(&da, &db),
        cpu.mul_rescale(&a, &b)
    );
    check!(
        "a sum of products",
        on_gpu.mul_sum(&[(&da, &db), (&db, &db)], 2, 0.25),
        cpu.mul_sum(&[(&a, &b), (&b, &b)], 2, 0.25)
    );
    check!(
        "a rotation",
        on_gpu.rotate(&da, step(3)),
        cpu.rotate(&a, step(3))
    );
    check!("a conjugate", on_gpu.conjugate(&da), cpu.conjugate(&a));
    check!("a rescaling", on_gpu.rescale(&da), cpu.rescale(&a));
    check!(
        "an adjustment",
        on_gpu.adjust(&da, Level(3), 0.5),
        cpu.adjust(&a, Level(3), 0.5)
    );
    let steps = STEPS.map(step);
    let found = on_gpu.rotate_hoisted(&db, &steps).expect("rotates");
    let expected = cpu.rotate_hoisted(&b, &steps).expect("rotates");
    for (found, expected) in found.iter().zip(&expected) {
        assert_equal("a hoisted rotation", gpu, found, expected);
    }
    let diagonals = EncodeOnDemand {
        context: &lab.context,
        encoder: &lab.encoder,
        scale: lab.context.params().plaintext_scale(LEVEL).expect("scale"),
        // One of full length, one that repeats.
        slots: |i| Some(lab.slots(10 + i as u64)[..lab.encoder.slots() >> (4 * (i & 1))].to_vec()),
    };
    let term = |source, baby, diagonal| LinearTerm {
        source,
        baby: step(baby),
        diagonal,
    };
    let giant = |k, terms| GiantStep {
        step: step(k),
        terms,
    };
    let map = [LinearOutput {
        giants: vec![
            giant(0, vec![term(0, 0, 0), term(0, 1, 1), term(1, 3, 2)]),
            giant(8, vec![term(0, 2, 3), term(1, 0, 4), term(1, 5, 5)]),
        ],
    }];
    let found = on_gpu.linear(&[&da, &db], &map, &Uploaded(gpu, &diagonals));
    let expected = cpu.linear(&[&a, &b], &map, &diagonals);
    assert_equal(
        "a linear map",
        gpu,
        &found.expect("maps")[0],
        &expected.expect("maps")[0],
    );

    let tuning = Tuning::STANDARD;
    let on_host = Bootstrapper::new(&lab.context, cpu.backend(), tuning, &kinds).expect("prepares");
    let prepared = Bootstrapper::new(&lab.context, gpu, tuning, &kinds).expect("prepares");
    let top = lab.context.params().top_usable();
    check!(
        "a full bootstrap",
        prepared.full(&on_gpu, &da, top),
        on_host.full(cpu, &a, top)
    );
    check!(
        "a sparse bootstrap",
        prepared.sparse(&on_gpu, &db, 6, top),
        on_host.sparse(cpu, &b, 6, top)
    );
    let found = prepared.pair(&on_gpu, &da, &db, LEVEL).expect("bootstraps");
    let expected = on_host.pair(cpu, &a, &b, LEVEL).expect("bootstraps");
    assert_equal("a pair bootstrap's first", gpu, &found.0, &expected.0);
    assert_equal("a pair bootstrap's second", gpu, &found.1, &expected.1);
}

/// Level, scale and all residues of a ciphertext.
fn hash(ct: &Ciphertext) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?} {:?}", ct.level(), ct.scale()).as_bytes());
    for poly in ct.polys() {
        hasher.update(format!("{poly:?}").as_bytes());
        hasher.update(bytemuck::cast_slice(poly.data()));
    }
    hasher.finalize()
}

/// Runs a schedule on the CPU and in the simulator, and compares every result of every instruction. `inputs`: slots by port and ciphertext.
fn assert_same_results(schedule: &Schedule, inputs: &[Vec<Vec<f64>>], seed: u64) -> usize {
    let (program, params) = (schedule.program(), schedule.params());
    let mut request = program_keys(program, params).expect("keys");
    if !program.bootstraps.is_empty() {
        request.merge(&bootstrap_keys(program, params).expect("keys"));
    }
    let lab = Lab::with_keys(params.clone(), &request);
    let encrypted = program.inputs.iter().zip(inputs).map(|(port, vectors)| {
        let each = vectors.iter().enumerate().map(|(i, vector)| {
            let slots: Vec<Complex> = vector.iter().map(|&x| Complex::new(x, 0.0)).collect();
            lab.encrypt(&slots, Level(port.level as u8), i as u64)
        });
        each.collect()
    });
    let encrypted: Vec<Vec<Ciphertext>> = encrypted.collect();

    let mut expected = Vec::new();
    let refresher = Refresher::new(program, &lab.evaluator).expect("bootstrapping");
    let refreshing = refresher.with(&lab.evaluator);
    let started = std::time::Instant::now();
    let inputs = encrypted.clone();
    let mut rns =
        Rns::new(schedule, &lab.evaluator, &lab.encoder, &refreshing, inputs).expect("inputs fit");
    let mut observed = Observed::new(&mut rns, |index, number, ct: &Ciphertext| {
        expected.push(((index, number), hash(ct)));
        Ok(())
    });
    walk(program, &mut observed, &mut |_| ()).expect("runs");
    println!("on the CPU: {:.1} s", started.elapsed().as_secs_f64());

    let on_gpu = device_evaluator(&lab, seed);
    let gpu = on_gpu.backend();
    let refresher = Refresher::new(program, &on_gpu).expect("bootstrapping");
    let refreshing = refresher.with(&on_gpu);
    let started = std::time::Instant::now();
    let bring = |port: &Vec<Ciphertext>| port.iter().map(|ct| upload(gpu, ct)).collect();
    let inputs = encrypted.iter().map(bring).collect();
    let mut rns =
        Rns::new(schedule, &on_gpu, &lab.encoder, &refreshing, inputs).expect("inputs fit");
    // In another order where instructions run together.
    let mut results: BTreeMap<(usize, usize), blake3::Hash> = expected.iter().copied().collect();
    assert_eq!(results.len(), expected.len());
    let observed = Observed::new(&mut rns, |index, number, ct: &Ciphertext<GpuPoly>| {
        let expected = results
            .remove(&(index, number))
            .expect("one of the results");
        let polys = ct.polys().iter().map(|p| gpu.fetch(p).expect("is there"));
        let found = Ciphertext::from_parts(polys.collect(), ct.level(), ct.scale());
        assert_eq!(
            hash(&found),
            expected,
            "result {number} of instruction {index} is {found:?}"
        );
        Ok(())
    });
    walk(program, &mut observed.in_batches(), &mut |_| ()).expect("runs");
    assert!(results.is_empty());
    println!("in the simulator: {:.1} s", started.elapsed().as_secs_f64());
    let distinct: std::collections::BTreeSet<_> =
        expected.iter().map(|(_, h)| h.as_bytes()).collect();
    assert!(distinct.len() > expected.len() / 2, "results repeat");
    expected.len()
}

/// The sample of the schedule crate uses every instruction.
#[test]
fn every_result_of_a_schedule_equals_the_cpus() {
    let schedule = sample(Profile::Toy).expect("sample");
    let value = |lane: usize, i: usize| ((lane * 8 + i) as f64 * 0.377).rem_euclid(2.0) - 1.0;
    let inputs: Vec<Vec<f64>> = (0..SAMPLE_BATCH)
        .map(|lane| (0..SAMPLE_ELEMENTS).map(|i| value(lane, i)).collect())
        .collect();
    let lanes: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let port = &schedule.program().inputs[0];
    let slots = schedule.params().slots();
    let packed = pack(port, None, SAMPLE_BATCH, slots, &lanes).expect("packs");
    let results = assert_same_results(&schedule, &[packed], 5);
    assert!(results > 5, "{results} results");
}

/// A compiled model, from the file that HERON_SCHEDULE names: `runtime/gpu/simulate.sh` compiles one and names it.
#[test]
#[ignore = "needs the file of a compiled schedule, and minutes"]
fn every_result_of_a_compiled_model_equals_the_cpus() {
    let path = std::env::var_os("HERON_SCHEDULE").expect("HERON_SCHEDULE names a schedule");
    let schedule = Schedule::open(std::path::Path::new(&path)).expect("opens");
    let slots = schedule.params().slots();
    let ports = schedule.program().inputs.iter();
    let values = |seed: usize| {
        let value = move |i: usize| ((seed * 31 + i) as f64 * 0.377).rem_euclid(1.0);
        (0..slots).map(value).collect()
    };
    let inputs: Vec<Vec<Vec<f64>>> = ports
        .map(|port| (0..port.ciphertexts.len()).map(values).collect())
        .collect();
    let results = assert_same_results(&schedule, &inputs, 6);
    println!("{results} ciphertexts are the same");
    assert!(results >= schedule.program().instructions.len() / 2);
}
