//! Where the device's time goes: by kernel, with the bytes each had to move.

use super::lab::{Lab, Outcome, HOISTED};
use super::same::operand;
use heron_runtime::backend::gpu::pipes::Effort;
use heron_runtime::backend::gpu::{Gpu, KernelTime};
use heron_runtime::backend::Backend;
use heron_runtime::bootstrap::{Bootstrapper, Kind, Tuning};
use heron_runtime::ckks::{Evaluator, RotationStep};
use heron_schedule::params::Level;
use std::time::Instant;

/// Runs of which the middle one counts.
const RUNS: usize = if SIMULATED { 1 } else { 9 };
/// Only to see that this program works.
const SIMULATED: bool = cfg!(feature = "simulator");

fn effort() -> Effort {
    let least = Effort {
        blocks: 1,
        steps: 2,
        copied: 1 << 20,
    };
    match SIMULATED {
        true => least,
        false => Effort::FULL,
    }
}

/// Pipes and memory, one line each.
pub fn pipes(gpu: &Gpu) -> Outcome {
    for pipe in gpu.pipes(effort())? {
        println!(
            "{{\"pipe\":\"{}\",\"unit\":\"{}\",\"per_second\":{:.4e}}}",
            pipe.name, pipe.unit, pipe.per_second
        );
    }
    Ok(())
}

/// Prints the time of `work` by the clock, with all kernels, and by kernel.
fn kernels(gpu: &Gpu, what: &str, bandwidth: f64, work: &mut dyn FnMut() -> Outcome) -> Outcome {
    // Keys, tables and memory are there from now on, and what can be recorded is.
    for _ in 0..2 {
        work()?;
    }
    gpu.settle()?;
    let mut seconds = Vec::new();
    for _ in 0..RUNS {
        let started = Instant::now();
        work()?;
        gpu.settle()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let started = Instant::now();
    for _ in 0..RUNS {
        work()?;
    }
    let started_all = started.elapsed().as_secs_f64() / RUNS as f64;
    gpu.settle()?;
    let in_a_row = started.elapsed().as_secs_f64() / RUNS as f64;
    let (done, times) = gpu.timed(&mut *work)?;
    done?;
    let sum = |f: fn(&KernelTime) -> f64| times.iter().map(f).sum::<f64>();
    let (launches, on_device) = (sum(|k| k.launches as f64), sum(|k| k.seconds));
    let moves = sum(|k| k.moves as f64);
    let median = seconds[RUNS / 2];
    println!(
        "{{\"work\":\"{what}\",\"median_s\":{median:.7},\"in_a_row_s\":{in_a_row:.7},\"host_s\":{started_all:.7},\"kernels_s\":{on_device:.7},\
         \"launches\":{launches},\"moves_bytes\":{moves},\"share_of_bandwidth\":{:.3}}}",
        moves / median / bandwidth
    );
    for k in &times {
        println!(
            "{{\"work\":\"{what}\",\"kernel\":\"{}\",\"launches\":{},\"seconds\":{:.7},\"moves_bytes\":{},\"share_of_bandwidth\":{:.3}}}",
            k.kernel,
            k.launches,
            k.seconds,
            k.moves,
            k.moves as f64 / k.seconds / bandwidth
        );
    }
    Ok(())
}

/// Transforms, rotations, products and bootstraps.
pub fn all(lab: &Lab, on: &Evaluator<Gpu>) -> Outcome {
    let gpu = on.backend();
    let bandwidth = gpu.copied_per_second(effort().copied)?;
    println!("{{\"pipe\":\"memory\",\"unit\":\"bytes read and written\",\"per_second\":{bandwidth:.4e}}}");
    let params = lab.context.params();
    let top = params.top_usable();
    let steps: Vec<RotationStep> = (1..=HOISTED).map(RotationStep).collect();
    for level in [top, Level(top.0 / 2)] {
        let a = operand(lab, on, level)?;
        let at = |what: &str| {
            format!(
                "{what}, level {}, {} limbs",
                level.0,
                gpu.limbs(&a.polys()[0]).len()
            )
        };
        let mut poly = a.polys()[0].clone();
        kernels(gpu, &at("there and back"), bandwidth, &mut || {
            gpu.to_coefficient(&mut poly);
            gpu.to_evaluation(&mut poly);
            Ok(())
        })?;
        kernels(gpu, &at("rotate"), bandwidth, &mut || {
            on.rotate(&a, RotationStep(1))?;
            Ok(())
        })?;
        kernels(gpu, &at("multiply and rescale"), bandwidth, &mut || {
            on.mul_rescale(&a, &a)?;
            Ok(())
        })?;
        kernels(gpu, &at("rescale"), bandwidth, &mut || {
            on.rescale(&a)?;
            Ok(())
        })?;
        for batch in [1, 4, 8] {
            let many: Vec<_> = (0..batch).map(|_| &a).collect();
            let what = at(&format!("8 hoisted rotations, {batch} at once"));
            kernels(gpu, &what, bandwidth, &mut || {
                on.rotate_hoisted_each(&many, &steps)?;
                Ok(())
            })?;
        }
    }
    let bootstrapper = Bootstrapper::new(&lab.context, gpu, Tuning::STANDARD, &[Kind::Full])?;
    let input = operand(lab, on, params.bootstrap_level())?;
    for (batch, recorded) in [(1, false), (1, true), (4, false), (4, true), (8, true)] {
        // What starting as a whole gains.
        gpu.record_repeated(recorded);
        let how = if recorded {
            "recorded"
        } else {
            "launch by launch"
        };
        let many: Vec<_> = (0..batch).map(|_| &input).collect();
        let what = format!("bootstrap, {batch} at once, {how}");
        kernels(gpu, &what, bandwidth, &mut || {
            bootstrapper.each(on, &many, Kind::Full, top)?;
            Ok(())
        })?;
    }
    Ok(())
}
