//! The same residues on every instruction set and for every number of threads, at the height of operations: keys, encryptions, single
//! operations, bootstraps and a whole schedule. Toy rings: not secure.

use super::key_request::program_keys;
use super::observe::Observed;
use super::ports::pack;
use super::refresh::{bootstrap_keys, Refresher};
use super::rns::Rns;
use super::walk;
use crate::bootstrap::{requirements, Bootstrapper, Kind, Tuning};
use crate::ckks::encoding::Complex;
use crate::ckks::testing::{step, Lab};
use crate::ckks::{Ciphertext, EncodeOnDemand, GiantStep, LinearOutput, LinearTerm};
use crate::ring::{GaloisElement, InstructionSet};
use crate::rlwe::{KeyKind, KeyRequest, RlweContext};
use heron_schedule::params::{Level, ParameterSet, Profile};
use heron_schedule::sample::{sample, SAMPLE_BATCH, SAMPLE_ELEMENTS};

const THREADS: [usize; 2] = [1, 2];

/// Where the operations are tried: digits are alive in part.
const LEVEL: Level = Level(6);
const STEPS: [i64; 5] = [1, 2, 3, 5, 8];

/// What a run made, in the order it made it: a name and the hash of its bits.
#[derive(Default)]
struct Record(Vec<(String, blake3::Hash)>);

impl Record {
    fn words<'a>(&mut self, what: String, words: impl IntoIterator<Item = &'a [u32]>) {
        let mut hasher = blake3::Hasher::new();
        for words in words {
            hasher.update(bytemuck::cast_slice(words));
        }
        self.0.push((what, hasher.finalize()));
    }

    fn ciphertext(&mut self, what: &str, ct: &Ciphertext) {
        self.words(what.into(), ct.polys().iter().map(|p| p.data()));
    }

    fn keys(&mut self, lab: &Lab) {
        for key in lab.evaluator.keys().iter() {
            self.words(format!("the {} key", key.kind()), [key.words()]);
        }
    }

    fn slots(&mut self, what: &str, slots: &[Complex]) {
        let bits = slots.iter().flat_map(|z| [z.re.to_bits(), z.im.to_bits()]);
        let bytes: Vec<u8> = bits.flat_map(u64::to_le_bytes).collect();
        self.0.push((what.into(), blake3::hash(&bytes)));
    }
}

fn lab(params: ParameterSet, set: InstructionSet, request: &KeyRequest) -> Lab {
    let context = RlweContext::with_instruction_set(params, set).expect("context");
    assert_eq!(context.ring().instruction_set(), set, "the set was forced");
    Lab::with_context(context, request)
}

/// Single operations, linear maps and each kind of bootstrap.
fn operations(set: InstructionSet, record: &mut Record) {
    let params = ParameterSet::with_ring(Profile::ToySecure, 11).expect("profile");
    let kinds = [
        Kind::Full,
        Kind::Complex,
        Kind::ComplexPair,
        Kind::Sparse { log_slots: 6 },
    ];
    let mut request = requirements(&params, Tuning::STANDARD, &kinds).expect("keys");
    request.add(KeyKind::Relinearisation, LEVEL);
    let log_n = params.log_n();
    request.add(KeyKind::Galois(GaloisElement::conjugation(log_n)), LEVEL);
    for k in STEPS {
        request.add(KeyKind::Galois(GaloisElement::rotation(k, log_n)), LEVEL);
    }
    let lab = lab(params, set, &request);
    record.keys(&lab);
    let (x, y) = (lab.slots(1), lab.slots(2));
    let (a, b) = (lab.encrypt(&x, LEVEL, 1), lab.encrypt(&y, LEVEL, 2));
    record.ciphertext("an encryption", &a);
    let evaluator = &lab.evaluator;
    let product = evaluator.mul_rescale(&a, &b).expect("multiplies");
    record.ciphertext("a product", &product);
    let sum = evaluator
        .mul_sum(&[(&a, &b), (&b, &b)], 2, 0.25)
        .expect("multiplies");
    record.ciphertext("a sum of products", &sum);
    let turned = evaluator.rotate(&a, step(3)).expect("rotates");
    record.ciphertext("a rotation", &turned);
    let conjugate = evaluator.conjugate(&a).expect("conjugates");
    record.ciphertext("a conjugate", &conjugate);
    let many = evaluator
        .rotate_hoisted(&b, &STEPS.map(step))
        .expect("rotates");
    for (k, ct) in STEPS.iter().zip(&many) {
        record.ciphertext(&format!("the hoisted rotation by {k}"), ct);
    }
    let lowered = evaluator.adjust(&a, Level(3), 0.5).expect("lowers");
    record.ciphertext("an adjustment", &lowered);
    let scale = lab.context.params().plaintext_scale(LEVEL).expect("scale");
    let diagonals = EncodeOnDemand {
        context: &lab.context,
        encoder: &lab.encoder,
        scale,
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
    let mapped = evaluator.linear(&[&a, &b], &map, &diagonals).expect("maps");
    record.ciphertext("a linear map", &mapped[0]);
    record.slots("decrypted slots", &lab.decrypt(&mapped[0]));
    let prepared = Bootstrapper::new(&lab.context, evaluator.backend(), Tuning::STANDARD, &kinds);
    let prepared = prepared.expect("prepares");
    let top = lab.context.params().top_usable();
    let full = prepared.full(evaluator, &a, top).expect("bootstraps");
    record.ciphertext("a full bootstrap", &full);
    let complex = prepared.complex(evaluator, &a, top).expect("bootstraps");
    record.ciphertext("a complex bootstrap", &complex);
    let pair = prepared.pair(evaluator, &a, &b, LEVEL).expect("bootstraps");
    record.ciphertext("a pair bootstrap's first", &pair.0);
    record.ciphertext("a pair bootstrap's second", &pair.1);
    let sparse = prepared.sparse(evaluator, &b, 6, top).expect("bootstraps");
    record.ciphertext("a sparse bootstrap", &sparse);
}

/// The sample of the schedule crate, which uses every instruction: each result of each, and what is decrypted.
fn schedule(set: InstructionSet, record: &mut Record) {
    let schedule = sample(Profile::Toy).expect("sample");
    let (program, params) = (schedule.program(), schedule.params());
    let mut request = program_keys(program, params).expect("keys");
    request.merge(&bootstrap_keys(program, params).expect("keys"));
    let lab = lab(params.clone(), set, &request);
    record.keys(&lab);
    let value = |lane: usize, i: usize| ((lane * 8 + i) as f64 * 0.377).rem_euclid(2.0) - 1.0;
    let inputs: Vec<Vec<f64>> = (0..SAMPLE_BATCH)
        .map(|lane| (0..SAMPLE_ELEMENTS).map(|i| value(lane, i)).collect())
        .collect();
    let lanes: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let port = &program.inputs[0];
    let packed = pack(port, None, SAMPLE_BATCH, params.slots(), &lanes).expect("packs");
    let slots: Vec<Complex> = packed[0].iter().map(|&x| Complex::new(x, 0.0)).collect();
    let encrypted = lab.encrypt(&slots, Level(port.level as u8), 1);
    let refresher = Refresher::new(program, &lab.evaluator).expect("bootstrapping");
    let refreshing = refresher.with(&lab.evaluator);
    let inputs = vec![vec![encrypted]];
    let mut rns =
        Rns::new(&schedule, &lab.evaluator, &lab.encoder, &refreshing, inputs).expect("inputs fit");
    let mut observed = Observed::new(&mut rns, |index, number, ct: &Ciphertext| {
        record.ciphertext(
            &format!("result {number} of the schedule's instruction {index}"),
            ct,
        );
        Ok(())
    });
    walk(program, &mut observed, &mut |_| ()).expect("runs");
    let outputs = rns.into_outputs().expect("written");
    record.slots("the schedule's output", &lab.decrypt(&outputs[0][0]));
}

fn run(set: InstructionSet, threads: usize) -> Record {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().expect("threads").install(|| {
        assert_eq!(rayon::current_num_threads(), threads);
        let mut record = Record::default();
        operations(set, &mut record);
        schedule(set, &mut record);
        record
    })
}

/// What the machine has, asked of the machine and not of the code under test.
fn sets_of_the_machine() -> Vec<InstructionSet> {
    #[allow(unused_mut)]
    let mut sets = vec![InstructionSet::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            sets.push(InstructionSet::Avx2);
        }
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if wide {
            sets.push(InstructionSet::Avx512);
        }
        if wide && is_x86_feature_detected!("avx512ifma") {
            sets.push(InstructionSet::Avx512Ifma);
            if has_matrix_unit() {
                sets.push(InstructionSet::Avx512Amx);
            }
        }
    }
    sets
}

/// Whether the processor says that it has AMX for bytes and the system that it supports its registers (`ARCH_GET_XCOMP_SUPP`, bit 18).
#[cfg(target_arch = "x86_64")]
fn has_matrix_unit() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut supported = 0u64;
    #[cfg(target_os = "linux")]
    // SAFETY: the system writes one word.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, 0x1021, &raw mut supported);
    }
    flags.contains(" amx_int8") && supported & 1 << 18 != 0
}

#[test]
fn every_instruction_set_and_thread_count_gives_the_same_residues() {
    let sets = sets_of_the_machine();
    assert_eq!(InstructionSet::all_available(), sets);
    let mut first: Option<Record> = None;
    for &set in &sets {
        for threads in THREADS {
            let started = std::time::Instant::now();
            let found = run(set, threads);
            println!(
                "forced {set:?}, {threads} threads: {} results in {:.2} s",
                found.0.len(),
                started.elapsed().as_secs_f64()
            );
            let Some(expected) = &first else {
                first = Some(found);
                continue;
            };
            assert_eq!(
                found.0.len(),
                expected.0.len(),
                "{set:?}, {threads} threads"
            );
            for ((what, hash), (_, expected)) in found.0.iter().zip(&expected.0) {
                assert_eq!(
                    hash, expected,
                    "{what} differs on {set:?} with {threads} threads from {:?} with {} threads",
                    sets[0], THREADS[0]
                );
            }
        }
    }
    // Nothing above was empty or the same by accident.
    let record = first.expect("at least the portable code ran");
    let distinct: std::collections::BTreeSet<&[u8]> = record
        .0
        .iter()
        .map(|(_, h)| h.as_bytes().as_slice())
        .collect();
    assert!(distinct.len() > record.0.len() / 2 && record.0.len() > 40);
}
