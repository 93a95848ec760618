//! Everything at full size on a GPU against the CPU and against answers known beforehand, bit for bit.

use super::lab::{upload, Lab, Outcome, HOISTED};
use heron_runtime::backend::gpu::{Gpu, GpuPoly};
use heron_runtime::backend::Backend;
use heron_runtime::bootstrap::{Bootstrapper, Kind, Tuning};
use heron_runtime::ckks::{Basis, Evaluator, Plaintext, RotationStep, Transfer};
use heron_runtime::ring::{Form, RnsPoly};
use heron_schedule::params::Level;
use std::collections::BTreeMap;

/// Polynomials of one check, on whichever machine.
type Polys<B> = Outcome<Vec<<B as Backend>::Poly>>;

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Single operations: for tools under which a launch takes long.
    Operations,
    /// Bootstraps too.
    All,
}

/// Answers by the name of the check.
pub type Known = BTreeMap<String, String>;

/// Reads the lines that [`known`] prints.
pub fn read_known(path: &str) -> Outcome<Known> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!("\"{name}\":\"")).nth(1)?;
        Some(rest.split('"').next()?.to_string())
    };
    let each = text.lines();
    Ok(each
        .filter_map(|l| Some((field(l, "check")?, field(l, "blake3")?)))
        .collect())
}

fn hash(polys: &[RnsPoly]) -> String {
    let mut hasher = blake3::Hasher::new();
    for poly in polys {
        for limb in poly.limbs() {
            hasher.update(&limb.0.to_le_bytes());
        }
        hasher.update(bytemuck::cast_slice(poly.data()));
    }
    hasher.finalize().to_hex()[..32].to_string()
}

/// Each check by its name, from transforms up to a bootstrap. The same on every machine.
fn checks<B: Transfer>(
    lab: &Lab,
    on: &Evaluator<B>,
    extent: Extent,
    each: &mut dyn FnMut(String, Polys<B>) -> Outcome,
) -> Outcome {
    let (ring, backend) = (lab.context.ring(), on.backend());
    let all = ring.all_limbs();
    let mut random = RnsPoly::zero(ring, &all, Form::Coefficient);
    for (position, &limb) in all.iter().enumerate() {
        let source = lab.random.derive("residues", &[position as u64]);
        source.uniform_limb(ring.prime(limb), random.limb_mut(position));
    }
    let mut poly = backend.upload(&random);
    backend.to_evaluation(&mut poly);
    each("forward transform".into(), Ok(vec![poly.clone()]))?;
    backend.to_coefficient(&mut poly);
    each("backward transform".into(), Ok(vec![poly]))?;

    let params = lab.context.params();
    let top = params.top_usable();
    for level in [Level(top.0 / 2), top] {
        let a = backend.bring(lab.input(level, 1)?);
        let b = backend.bring(lab.input(level, 2)?);
        let mut check = |what: &str, ct: Result<heron_runtime::ckks::Ciphertext<B::Poly>, _>| {
            let polys = ct.map(|ct| ct.into_polys());
            each(
                format!("{what} at level {}", level.0),
                polys.map_err(|e: heron_runtime::ckks::CkksError| e.into()),
            )
        };
        check("product", on.mul_rescale(&a, &b))?;
        check("rotation", on.rotate(&a, RotationStep(3)))?;
        check("conjugate", on.conjugate(&a))?;
        check("rescaling", on.rescale(&a))?;
        check("adjustment", on.adjust(&a, Level(1), 0.5))?;
        let steps: Vec<RotationStep> = (1..=HOISTED).map(RotationStep).collect();
        let hoisted = on.rotate_hoisted(&a, &steps)?;
        let polys = hoisted.into_iter().flat_map(|ct| ct.into_polys());
        each(
            format!("hoisted rotations at level {}", level.0),
            Ok(polys.collect()),
        )?;
        let four = [&a, &b, &a, &b];
        let together = on.rotate_hoisted_each(&four, &steps[..2])?;
        let polys = together
            .into_iter()
            .flatten()
            .flat_map(|ct| ct.into_polys());
        each(
            format!("rotations of four at level {}", level.0),
            Ok(polys.collect()),
        )?;
        let scale = params.scale(level)?;
        for (what, length) in [("whole", lab.encoder().slots()), ("periodic", 256)] {
            let slots = &lab.slots(7)[..length];
            let encoded = lab.encoder().encode_real(slots, scale)?;
            let (context, basis) = (&lab.context, Basis::Extended);
            let plain =
                Plaintext::made_on(backend, context, &encoded, (level, scale), basis, true)?;
            let polys = Ok(vec![plain.poly().clone()]);
            each(format!("{what} plaintext at level {}", level.0), polys)?;
        }
    }
    if extent == Extent::Operations {
        return Ok(());
    }
    let kinds = [Kind::Full];
    let bootstrapper = Bootstrapper::new(&lab.context, backend, Tuning::STANDARD, &kinds)?;
    let level = params.bootstrap_level();
    let cts = [3, 4].map(|seed| lab.input(level, seed));
    let [a, b] = cts.map(|ct| ct.map(|ct| backend.bring(ct)));
    let (a, b) = (a?, b?);
    // On a device launch by launch, then recorded and started as a whole, then started again.
    let times = if backend.device().is_some() { 3 } else { 1 };
    for _ in 0..times {
        let one = bootstrapper.full(on, &a, top).map(|ct| ct.into_polys());
        each("bootstrap".into(), one.map_err(Into::into))?;
    }
    let two = bootstrapper.each(on, &[&a, &b], Kind::Full, top)?;
    let polys = two.into_iter().flat_map(|ct| ct.into_polys());
    each("bootstrap of two".into(), Ok(polys.collect()))
}

fn line(lab: &Lab, check: &str, rest: &str) {
    let log_n = lab.context.params().log_n();
    println!("{{\"check\":\"{check}\",\"log2_n\":{log_n},{rest}}}");
}

/// Prints the CPU's answers.
pub fn known(lab: &Lab) -> Outcome {
    checks(lab, &lab.cpu, Extent::All, &mut |check, polys| {
        line(lab, &check, &format!("\"blake3\":\"{}\"", hash(&polys?)));
        Ok(())
    })
}

/// Prints a line for each check, and fails at the end if the GPU's residues were others anywhere.
pub fn same(lab: &Lab, gpu: &Evaluator<Gpu>, extent: Extent, known: Option<&Known>) -> Outcome {
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut compare = |check: String, polys: Outcome<Vec<GpuPoly>>| -> Outcome {
        // A device that failed once does nothing any more: the first failure is the one to tell.
        let polys = polys?;
        let polys = polys.iter().map(|p| gpu.backend().fetch(p));
        let polys = polys.collect::<Result<Vec<RnsPoly>, _>>()?;
        let answer = hash(&polys);
        if let Some(known) = known {
            let same = known.get(&check) == Some(&answer);
            line(
                lab,
                &check,
                &format!("\"same_as_known\":{same},\"blake3\":\"{answer}\""),
            );
            if !same {
                wrong.push(format!("{check} (known)"));
            }
        }
        let before = found.insert(check.clone(), answer.clone());
        if before.is_some_and(|before| before != answer) {
            wrong.push(format!("{check} (again)"));
        }
        Ok(())
    };
    let ran = checks(lab, gpu, extent, &mut compare);
    // What was found before a failure is compared as well.
    let mut answers = found
        .iter()
        .map(|(c, a)| (c.clone(), a.clone()))
        .collect::<Known>();
    checks(lab, &lab.cpu, extent, &mut |check, polys| {
        let expected = hash(&polys?);
        if let Some(answer) = answers.remove(&check) {
            let same = answer == expected;
            line(
                lab,
                &check,
                &format!("\"same_as_cpu\":{same},\"blake3\":\"{answer}\""),
            );
            if !same {
                wrong.push(check);
            }
        }
        Ok(())
    })?;
    ran?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("other residues than expected: {}", wrong.join(", ")).into()),
    }
}

/// One ciphertext of each level where something is measured.
pub fn operand(
    lab: &Lab,
    gpu: &Evaluator<Gpu>,
    level: Level,
) -> Outcome<heron_runtime::ckks::Ciphertext<GpuPoly>> {
    let seed = if level == lab.context.params().bootstrap_level() {
        3
    } else {
        1
    };
    Ok(upload(gpu, &lab.input(level, seed)?))
}
