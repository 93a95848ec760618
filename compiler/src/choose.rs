//! Parameters by need: the cheapest ring, chain and batch that a model fits, within the memory allowed.
//!
//! A model whose whole depth fits a chain without bootstrapping is packed for every ring that has such a chain, priced on each chain by
//! the cost table, and compared with the ring that bootstraps. Candidates are tried in the order of their estimates: the first that
//! stays within the memory and (where levels have 27 bits) within half of the tolerance, by modelled noise on the calibration inputs, is
//! taken.

mod candidates;
mod depth;

use heron_passes::ir::packed::PackedGraph;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::Manager;
use heron_schedule::params::{LevelBits, LevelledShape, ParameterSet, Profile};
use heron_schedule::proto::Program;
use heron_schedule::Schedule;

use crate::facts::ModelFacts;
use crate::pipeline::{compile_packed, CompileError};
use crate::predict::Calibrated;
use candidates::{bootstrapped_candidates, levelled_candidates, others, Candidate};

pub use depth::least_depth;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// Seconds of one run.
    Latency,
    /// Seconds per input.
    Throughput,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The family of parameter sets.
    pub profile: Profile,
    /// What to minimise.
    pub objective: Objective,
    /// Inputs side by side, if the user says.
    pub batch: Option<usize>,
    /// Number of inputs there will be, if known: lanes beyond them are worth nothing.
    pub inputs: Option<usize>,
    /// Bytes one run may take.
    pub max_memory: u64,
    /// Largest error, over the standard deviation of the reference.
    pub tolerance: f64,
}

/// What only the caller can tell.
pub trait Judge {
    /// Bytes the server needs for one run at most, keys included.
    fn peak_bytes(&self, program: &Program, params: &ParameterSet) -> u64;
    /// Largest error on calibration inputs with modelled noise, over the standard deviation of the reference.
    fn error(&self, schedule: &Schedule) -> Option<f64>;
}

/// The model to compile.
pub struct Model<'a> {
    /// Its polynomials.
    pub graph: &'a PolyGraph,
    /// Shapes of the outputs for one input.
    pub output_shapes: &'a [Vec<usize>],
    /// For the report; choosing adds why. Large models keep themselves in it, so it is lent, not copied.
    pub facts: &'a mut ModelFacts,
    /// What calibration knows, for predicting the error.
    pub calibrated: Option<Calibrated<'a>>,
}

/// Share of the tolerance that the noise of 27-bit levels may use.
const NOISE_SHARE: f64 = 0.5;
/// Most candidates that are compiled to the end before giving up.
const TRIES: usize = 24;

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / 2f64.powi(30))
}

/// Compiles for one parameter set and holds it against the memory allowed.
pub fn compile_within(
    model: &Model<'_>,
    params: &ParameterSet,
    batch: Option<usize>,
    max_memory: u64,
    judge: &dyn Judge,
    manager: &mut Manager<'_>,
) -> Result<Schedule, CompileError> {
    let slots = params.slots();
    let packed = manager.lower(&LowerPacked { slots, batch }, model.graph)?;
    compile_packed_within(model, &packed, params, max_memory, judge, manager)
}

fn compile_packed_within(
    model: &Model<'_>,
    packed: &PackedGraph,
    params: &ParameterSet,
    max_memory: u64,
    judge: &dyn Judge,
    manager: &mut Manager<'_>,
) -> Result<Schedule, CompileError> {
    let Model {
        graph,
        output_shapes,
        facts,
        calibrated,
    } = model;
    let schedule = compile_packed(
        graph,
        packed,
        params,
        output_shapes,
        facts,
        calibrated.as_ref(),
        manager,
    )?;
    let needed = judge.peak_bytes(schedule.program(), params);
    if needed > max_memory {
        return Err(CompileError::Infeasible(format!(
            "a run would take about {} with keys; --max-memory allows {}: allow {}, lower --batch, or use --optimize latency",
            gib(needed),
            gib(max_memory),
            gib(needed)
        )));
    }
    Ok(schedule)
}

/// Compiles for the parameters that serve the wish best; see the module.
pub fn compile_by_need(
    model: &mut Model<'_>,
    wish: &Wish,
    judge: &dyn Judge,
    manager: &mut Manager<'_>,
) -> Result<Schedule, CompileError> {
    let least = least_depth(model.graph);
    let deepest = LevelledShape::all()
        .filter_map(|shape| ParameterSet::levelled(wish.profile, 16, shape).ok())
        .map(|set| u32::from(set.top_usable().0))
        .max();
    let can_bootstrap = wish.profile == Profile::Secure;
    let mut candidates = Vec::new();
    if deepest.is_some_and(|deepest| least <= deepest) {
        candidates = levelled_candidates(model, wish, least);
    }
    if candidates.is_empty() && can_bootstrap {
        // Nothing to compare with: large models are packed once.
        let (packed, found) = bootstrapped_candidates(model, wish, manager)?;
        let mut refused = None;
        for chosen in &found {
            let memory = match refused {
                None => "",
                Some(_) => "; what is cheaper needs more memory than is allowed",
            };
            model.facts.chosen_because = Some(format!(
                "{}: {:.3} s estimated{}{memory}; no chain without bears the {least} levels that the model takes at least",
                chosen.describe(),
                chosen.seconds,
                others(&found, chosen)
            ));
            let most = wish.max_memory;
            match compile_packed_within(model, &packed, &chosen.params, most, judge, manager) {
                Err(CompileError::Infeasible(why)) => refused = refused.or(Some(why)),
                other => return other,
            }
        }
        return Err(CompileError::Infeasible(refused.unwrap_or_else(|| {
            format!("profile `{}` has no chain with bootstrapping", wish.profile)
        })));
    }
    let mut refused = None;
    if can_bootstrap {
        match bootstrapped_candidates(model, wish, &mut Manager::new()) {
            // The others cost more on the same packing.
            Ok((_, found)) => candidates.extend(found.into_iter().take(1)),
            Err(e) => refused = Some(e),
        }
    }
    candidates.sort_by(|a, b| {
        a.score
            .total_cmp(&b.score)
            .then(a.params.log_n().cmp(&b.params.log_n()))
            .then(a.batch.cmp(&b.batch))
    });
    let Some(cheapest) = candidates.first().cloned() else {
        return Err(refused.unwrap_or_else(|| {
            CompileError::Infeasible(format!(
                "no parameter set of profile `{}` bears {least} levels without bootstrapping; use --profile secure",
                wish.profile
            ))
        }));
    };
    let alternative = |chosen: &Candidate| {
        candidates
            .iter()
            .find(|c| c.params.can_bootstrap() != chosen.params.can_bootstrap())
            .map_or(String::new(), |c| {
                format!("; {} is estimated at {:.3} s", c.describe(), c.seconds)
            })
    };
    let mut least_memory: Option<(u64, String)> = None;
    let mut skipped = Vec::new();
    let mut rejected: Vec<(u32, LevelBits)> = Vec::new();
    let mut tries = 0;
    // The error is predicted for the candidate that is taken.
    let calibrated = model.calibrated;
    for candidate in &candidates {
        let shape = candidate.params.levelled_shape();
        // Noise depends on the ring and the bits of a level, hardly on digits.
        if shape.is_some_and(|s| rejected.contains(&(candidate.params.log_n(), s.bits))) {
            continue;
        }
        tries += 1;
        if tries > TRIES {
            break;
        }
        let per = match wish.objective {
            Objective::Latency => "for one run".to_string(),
            Objective::Throughput => format!("for each run of {}", candidate.batch),
        };
        let mut because = format!(
            "{}: {:.3} s estimated {per}{}",
            candidate.describe(),
            candidate.seconds,
            alternative(candidate)
        );
        if candidate.score > cheapest.score {
            because += &format!("; cheaper ones refused: {}", skipped.join(", "));
        }
        model.facts.chosen_because = Some(because);
        let batch = Some(candidate.batch);
        // Candidates that noise may still refuse are not to be seen in dumps; the others are compiled once.
        let tried = shape.is_some_and(|s| s.bits == LevelBits::TwentySeven);
        let mut unseen = Manager::new();
        model.calibrated = calibrated.filter(|_| !tried);
        let schedule = compile_within(
            model,
            &candidate.params,
            batch,
            u64::MAX,
            judge,
            if tried { &mut unseen } else { &mut *manager },
        )?;
        let needed = judge.peak_bytes(schedule.program(), &candidate.params);
        if needed > wish.max_memory {
            skipped.push(format!("{} needs {}", candidate.describe(), gib(needed)));
            if least_memory
                .as_ref()
                .is_none_or(|(least, _)| needed < *least)
            {
                least_memory = Some((needed, candidate.describe()));
            }
            continue;
        }
        let Some(shape) = shape.filter(|_| tried) else {
            return Ok(schedule);
        };
        let error = judge.error(&schedule).unwrap_or(f64::INFINITY);
        if error.is_nan() || error > NOISE_SHARE * wish.tolerance {
            skipped.push(format!("{} errs by {error:.1e}", candidate.describe()));
            rejected.push((candidate.params.log_n(), shape.bits));
            continue;
        }
        model.calibrated = calibrated;
        return compile_within(model, &candidate.params, batch, u64::MAX, judge, manager);
    }
    Err(CompileError::Infeasible(match least_memory {
        Some((needed, what)) => format!(
            "no parameters run this model within --max-memory {}: the least, {what}, takes about {} with keys; allow {}, or give --batch 1",
            gib(wish.max_memory),
            gib(needed),
            gib(needed)
        ),
        None => format!("no candidate meets the tolerance: {}", skipped.join(", ")),
    }))
}
