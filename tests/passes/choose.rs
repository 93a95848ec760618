//! Parameters by need: shallow models get small rings, deep ones bootstrap, and what does not fit is refused with what would.

use heron_compiler::choose::{
    compile_by_need, compile_within, least_depth, Judge, Model as Wanted, Objective, Wish,
};
use heron_compiler::facts::ModelFacts;
use heron_compiler::pipeline::CompileError;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::pass::Manager;
use heron_schedule::params::{LevelBits, ParameterSet, Profile};
use heron_schedule::proto::Program;
use heron_schedule::Schedule;

use crate::packed_models::{blocks, linear_layer, Model};

/// Bytes as the ring degree, and noise as the bits of a level say.
struct Fixed {
    noise_at_27: f64,
}

impl Judge for Fixed {
    fn peak_bytes(&self, _: &Program, params: &ParameterSet) -> u64 {
        1 << (params.log_n() + 14)
    }

    fn error(&self, schedule: &Schedule) -> Option<f64> {
        let shape = schedule.params().levelled_shape()?;
        (shape.bits == LevelBits::TwentySeven).then_some(self.noise_at_27)
    }
}

const EXACT: Fixed = Fixed { noise_at_27: 0.0 };

fn wish() -> Wish {
    Wish {
        profile: Profile::Secure,
        objective: Objective::Latency,
        batch: None,
        inputs: None,
        max_memory: 16 << 30,
        tolerance: 1e-2,
    }
}

fn choose(poly: &PolyGraph, wish: &Wish, judge: &Fixed) -> Result<Schedule, CompileError> {
    let mut model = Wanted {
        graph: poly,
        output_shapes: &[],
        facts: &mut ModelFacts::default(),
        calibrated: None,
    };
    compile_by_need(&mut model, wish, judge, &mut Manager::new())
}

/// An MLP of `count` squares between dense layers.
fn squares(count: usize) -> PolyGraph {
    let mut m = Model::new("squares");
    let mut x = m.input("x", 1, 16);
    for i in 0..count {
        let y = m.dense(&format!("dense{i}"), x, 16);
        let shape = m.graph.node(y).shape;
        x = m.add(
            &format!("square{i}"),
            heron_passes::ir::poly::PolyOp::Multiply,
            &[y, y],
            shape,
        );
    }
    m.finish(x)
}

fn because(schedule: &Schedule) -> String {
    let facts: serde_json::Value = serde_json::from_slice(&schedule.program().report_json).unwrap();
    let text = &facts["parameters"]["chosen_because"];
    text.as_str().unwrap_or_default().to_string()
}

#[test]
fn shallow_models_run_levelled_on_the_smallest_ring_that_bears_them() {
    for (poly, largest) in [
        (linear_layer(1, 64, 32), 13),
        (squares(1), 13),
        (squares(4), 14),
        (squares(9), 15),
    ] {
        let schedule = choose(&poly, &wish(), &EXACT).unwrap();
        let params = schedule.params();
        println!("{}: {}", poly.name, because(&schedule));
        assert!(!params.can_bootstrap() && params.log_n() <= largest);
        assert!(schedule.program().bootstraps.is_empty());
        assert!(because(&schedule).contains("without bootstrapping"));
    }
}

#[test]
fn levels_of_27_bits_are_taken_only_where_their_noise_leaves_half_of_the_tolerance() {
    let poly = squares(2);
    for (noise, bits) in [
        (0.9 * 0.5e-2, LevelBits::TwentySeven),
        (1.1 * 0.5e-2, LevelBits::Forty),
        (f64::NAN, LevelBits::Forty),
    ] {
        let judge = Fixed { noise_at_27: noise };
        let schedule = choose(&poly, &wish(), &judge).unwrap();
        let shape = schedule.params().levelled_shape().unwrap();
        assert_eq!(shape.bits, bits, "noise {noise}");
        assert_eq!(
            because(&schedule).contains("refused"),
            bits == LevelBits::Forty
        );
    }
}

#[test]
fn deep_models_bootstrap_at_two_to_the_16() {
    let poly = blocks(8, 16, 4, 3);
    assert!(least_depth(&poly) > 40, "{}", least_depth(&poly));
    let schedule = choose(&poly, &wish(), &EXACT).unwrap();
    assert!(schedule.params().can_bootstrap() && schedule.params().log_n() == 16);
    assert!(!schedule.program().bootstraps.is_empty());
    assert!(because(&schedule).contains("with bootstrapping"));
}

#[test]
fn the_least_depth_is_never_more_than_that_of_the_packed_graph() {
    for poly in [squares(3), blocks(8, 16, 4, 1), linear_layer(4, 8, 8)] {
        let packed = crate::lower_packed::lower(&poly, 2048, None);
        let (least, packed) = (least_depth(&poly), packed.depth());
        println!("{}: {least} of {packed}", poly.name);
        assert!(least <= packed);
    }
}

#[test]
fn throughput_fills_the_slots_and_latency_takes_one_input() {
    let poly = squares(2);
    let throughput = Wish {
        objective: Objective::Throughput,
        ..wish()
    };
    assert_eq!(choose(&poly, &wish(), &EXACT).unwrap().program().batch, 1);
    let full = choose(&poly, &throughput, &EXACT).unwrap();
    assert!(full.program().batch >= 64, "{}", full.program().batch);
    // More lanes than inputs are worth nothing.
    let three = Wish {
        inputs: Some(3),
        ..throughput
    };
    let few = choose(&poly, &three, &EXACT).unwrap();
    assert!(few.params().log_n() <= full.params().log_n());
    assert!(few.program().batch >= 4);
    let asked = Wish {
        batch: Some(8),
        ..throughput
    };
    assert_eq!(choose(&poly, &asked, &EXACT).unwrap().program().batch, 8);
}

#[test]
fn too_little_memory_is_refused_with_the_need_and_a_smaller_ring_taken_where_it_fits() {
    // The judge says 2^27 bytes for N = 2^13.
    let poly = squares(1);
    let tight = Wish {
        max_memory: (1 << 27) - 1,
        ..wish()
    };
    match choose(&poly, &tight, &EXACT) {
        Err(CompileError::Infeasible(reason)) => {
            println!("{reason}");
            assert!(reason.contains("--max-memory") && reason.contains("0.12 GiB"));
        }
        other => panic!(
            "refusal expected, found {:?}",
            other.map(|s| s.params().log_n())
        ),
    }
    let enough = Wish {
        max_memory: 1 << 27,
        ..wish()
    };
    assert_eq!(choose(&poly, &enough, &EXACT).unwrap().params().log_n(), 13);
    let deep = Wish {
        max_memory: (1 << 30) - 1,
        ..wish()
    };
    assert!(matches!(
        choose(&blocks(8, 16, 4, 3), &deep, &EXACT),
        Err(CompileError::Infeasible(_))
    ));
    let model = Wanted {
        graph: &poly,
        output_shapes: &[],
        facts: &mut ModelFacts::default(),
        calibrated: None,
    };
    let paper = ParameterSet::new(Profile::Paper).unwrap();
    let mut manager = Manager::new();
    let refused = compile_within(&model, &paper, None, 1 << 20, &EXACT, &mut manager);
    assert!(matches!(refused, Err(CompileError::Infeasible(_))));
}

#[test]
fn a_program_for_a_levelled_set_that_bootstraps_is_refused() {
    let schedule = choose(&squares(1), &wish(), &EXACT).unwrap();
    let mut program = schedule.program().clone();
    let op = heron_schedule::proto::Bootstrap {
        kind: heron_schedule::proto::bootstrap::Kind::Full.into(),
        src: vec![0],
        dst: vec![0],
        level_in: program.inputs[0].level,
        level_out: program.inputs[0].level,
        log_slots: 0,
    };
    let bootstrap = heron_schedule::proto::Instruction {
        layer: 0,
        op: Some(heron_schedule::proto::instruction::Op::Bootstrap(op)),
        free: vec![],
    };
    program.instructions.insert(1, bootstrap);
    let refused = Schedule::new(program, schedule.weights().clone());
    let text = refused.err().unwrap().to_string();
    assert!(text.contains("no rows for bootstrapping"), "{text}");
}
