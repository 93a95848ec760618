//! Files come back, damage is refused, counts equal what one counts by hand.

use crate::container::{ClientSchedule, Schedule};
use crate::params::Profile;
use crate::proto::{instruction::Op, Giant, Program};
use crate::recount::{recount, OperationCounts};
use crate::sample::{sample, sample_program};
use crate::text::Text;
use crate::verify::verify;

fn altered(change: impl FnOnce(&mut Program)) -> Result<(), String> {
    let (mut program, weights) = sample_program(Profile::Toy).expect("sample");
    change(&mut program);
    verify(&program, &weights)
        .map(|_| ())
        .map_err(|e| e.to_string())
}

fn op(program: &mut Program, at: usize) -> &mut Op {
    program.instructions[at].op.as_mut().expect("an operation")
}

#[test]
fn the_sample_verifies_and_comes_back_from_its_bytes() {
    let schedule = sample(Profile::Toy).expect("sample");
    let bytes = schedule.to_bytes();
    let back = Schedule::from_bytes(&bytes).expect("reads");
    assert_eq!(back.program(), schedule.program());
    assert_eq!(back.id(), schedule.id());
    assert_eq!(back.to_bytes(), bytes);
    let client = ClientSchedule::from_bytes(&bytes).expect("client part");
    assert_eq!(client.id(), schedule.id());
    let again = ClientSchedule::from_bytes(&client.to_bytes()).expect("client file");
    assert_eq!(again.program(), client.program());
    assert!(again.program().instructions.is_empty());
    assert!(again.weights().bytes().is_empty());
    assert!(Schedule::from_bytes(&client.to_bytes()).is_err());
}

#[test]
fn a_saved_file_is_mapped_and_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.heron");
    let schedule = sample(Profile::Toy).expect("sample");
    schedule.save(&path).expect("saves");
    let back = Schedule::open(&path).expect("opens");
    assert_eq!(back.weights().bytes(), schedule.weights().bytes());
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
}

#[test]
fn every_single_byte_change_and_truncation_is_refused() {
    let bytes = sample(Profile::Toy).expect("sample").to_bytes();
    let used = bytes.len();
    for at in (0..used).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Schedule::from_bytes(&damaged).is_err(), "byte {at}");
        assert!(Schedule::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_record_comes_back_has_no_part_in_the_id_and_is_guarded_byte_by_byte() {
    let plain = sample(Profile::Toy).expect("sample");
    for length in [1usize, 8, 13] {
        let record: Vec<u8> = (0..length).map(|i| i as u8 + 1).collect();
        let schedule = plain.clone().with_record(record.clone());
        let bytes = schedule.to_bytes();
        let read = Schedule::from_bytes(&bytes).expect("reads");
        assert_eq!(read.record(), record);
        assert_eq!(read.id(), plain.id());
        assert_eq!(read.weights().bytes(), plain.weights().bytes());
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.heron");
        schedule.save(&path).expect("saves");
        assert_eq!(Schedule::open(&path).expect("opens").record(), record);
        let tail = bytes.len() - length - 8..bytes.len();
        for at in (0..256).chain(tail) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Schedule::from_bytes(&damaged).is_err(), "byte {at}");
        }
        assert!(Schedule::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
    assert!(plain.record().is_empty());
}

#[test]
fn verify_names_what_is_wrong() {
    type Change = Box<dyn FnOnce(&mut Program)>;
    let cases: Vec<(&str, Change)> = vec![
        (
            "holds nothing",
            Box::new(|p| drop(p.instructions.remove(1))),
        ),
        ("not among the keys", Box::new(|p| drop(p.keys.pop()))),
        ("listed at", Box::new(|p| p.keys[1].level.push(9))),
        (
            "is at level",
            Box::new(|p| match op(p, 2) {
                Op::MulSum(m) => m.level_in = 7,
                _ => unreachable!(),
            }),
        ),
        (
            "not among the keys",
            Box::new(|p| match op(p, 4) {
                Op::Rotate(r) => r.out[0].step = 5,
                _ => unreachable!(),
            }),
        ),
        (
            "leave the weights section",
            Box::new(|p| p.plaintexts[2].offset = 1 << 40),
        ),
        (
            "integer up to 256",
            Box::new(|p| match op(p, 3) {
                Op::Combine(c) => c.term[1].coefficient = 0.3,
                _ => unreachable!(),
            }),
        ),
        (
            "writes r9",
            Box::new(|p| match op(p, 0) {
                Op::Input(i) => i.dst = 9,
                _ => unreachable!(),
            }),
        ),
        (
            "top usable level",
            Box::new(|p| match op(p, 6) {
                Op::Bootstrap(b) => b.level_out = 30,
                _ => unreachable!(),
            }),
        ),
        ("batch 3", Box::new(|p| p.batch = 3)),
        ("registers", Box::new(|p| p.registers = u32::MAX)),
        ("layer 17", Box::new(|p| p.instructions[0].layer = 17)),
        ("never written", Box::new(|p| drop(p.instructions.pop()))),
        (
            "unknown parameter profile",
            Box::new(|p| {
                if let Some(x) = &mut p.parameters {
                    x.profile = "huge".into()
                }
            }),
        ),
        ("list of bootstraps", Box::new(|p| p.bootstraps.clear())),
        (
            "holds element 99",
            Box::new(|p| p.inputs[0].ciphertexts[0].element[3] = 99),
        ),
        (
            "have a slot",
            Box::new(|p| p.outputs[0].ciphertexts[0].element[3] = 0),
        ),
        ("no operation", Box::new(|p| p.instructions[4].op = None)),
        (
            "no body 7 of 1",
            Box::new(|p| match op(p, 1) {
                Op::Linear(l) => l.out[0].body = 7,
                _ => unreachable!(),
            }),
        ),
        (
            "no result has body 1",
            Box::new(|p| p.bodies.push(p.bodies[0].clone())),
        ),
        (
            "linear maps of 536870912 terms",
            Box::new(|p| {
                let term = p.bodies[0].giant[0].term[0];
                p.bodies[0].giant = vec![Giant {
                    step: 0,
                    term: vec![term; 1 << 14],
                }];
                match op(p, 1) {
                    Op::Linear(l) => l.out = vec![l.out[0]; 1 << 15],
                    _ => unreachable!(),
                }
            }),
        ),
    ];
    assert_eq!(altered(|_| ()), Ok(()));
    for (expected, change) in cases {
        let found = altered(change).expect_err(expected);
        assert!(
            found.contains(expected),
            "expected {expected:?} in {found:?}"
        );
    }
}

#[test]
fn recount_finds_what_one_counts_by_hand() {
    let (program, _) = sample_program(Profile::Toy).expect("sample");
    let found = recount(&program, 2048);
    let expected = OperationCounts {
        ct_ct_multiply: 2,
        ct_pt_multiply: 3 + 1,
        rotate: 1 + 1 + 1,
        conjugate: 0,
        relinearize: 2,
        rescale: 1 + 1 + 1 + 1,
        add: 2 + 1 + 1 + 1 + 1,
        bootstrap: 1,
    };
    assert_eq!(found.operations, expected);
    assert_eq!(found.multiplicative_depth, 3);
    assert_eq!(found.bootstraps_by_kind, [1, 0, 0]);
    assert_eq!(found.peak_registers, 3);
    let layer = &found.layers[1];
    assert_eq!(
        (layer.depth(), layer.level_in, layer.level_out),
        (1, Some(6), Some(5))
    );
}

#[test]
fn the_text_form_is_stable() {
    let (program, _) = sample_program(Profile::Toy).expect("sample");
    let text = Text(&program).to_string();
    assert!(
        text.contains("002 mulsum  r2 <- r1*r1 -0.250000 @6>5"),
        "{text}"
    );
    assert!(
        text.contains("r1 = [s0<<0*p0,s0<<4*p1]<<0 [s0<<0*p2]<<8 + p3"),
        "{text}"
    );
    assert!(
        text.contains("006 boot    r0 <- r2 @5>8 full  free r2"),
        "{text}"
    );
}
