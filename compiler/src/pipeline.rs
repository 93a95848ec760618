//! The order of passes.

use heron_passes::assign_levels::{AssignLevels, Placing};
use heron_passes::cost::prices::Target;
use heron_passes::cost::{ChainCost, CostTable};
use heron_passes::ir::levelled::LevelledGraph;
use heron_passes::ir::packed::PackedGraph;
use heron_passes::ir::poly::PolyGraph;
use heron_passes::lower_packed::LowerPacked;
use heron_passes::pass::{Manager, PassError};
use heron_schedule::params::{LevelBits, ParameterSet};
use heron_schedule::{Schedule, VerifyError};

use crate::emit::{emit, EmitError, EmitOptions};
use crate::facts::{facts, ModelFacts};
use crate::predict::{predict, Calibrated, PredictError, Prediction};

/// Why compiling stopped.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A pass refused the graph.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph does not fit the format.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// No parameter set meets the request.
    #[error("{0}")]
    Infeasible(String),
    /// The graph could not be evaluated with noise.
    #[error("predicting the error: {0}")]
    Predict(#[from] PredictError),
    /// The program that was written is not valid: a defect of the compiler.
    #[error(
        "the compiler wrote a program that does not verify: {0}; please report this with the model"
    )]
    Program(#[from] VerifyError),
}

/// Prices for a parameter set on a target.
pub fn cost_table(params: &ParameterSet, target: Target) -> CostTable {
    let shape = params.levelled_shape();
    let digit = params.digits().first().map_or(1, Vec::len);
    let bootstrap_from = u32::from(params.bootstrap_level().0);
    let chain = ChainCost {
        one_limb_levels: shape.is_some_and(|s| s.bits == LevelBits::TwentySeven),
        special: params.special().len(),
        digit: shape.map_or(digit, |s| usize::from(s.digit_limbs)),
        bootstrap_from: params.can_bootstrap().then_some(bootstrap_from),
    };
    CostTable {
        log_n: params.log_n(),
        top: u32::from(params.top_usable().0),
        chain,
        target,
    }
}

/// Poly → packed → levelled.
pub fn lower_poly(
    graph: &PolyGraph,
    (params, target): (&ParameterSet, Target),
    batch: Option<usize>,
    manager: &mut Manager<'_>,
) -> Result<LevelledGraph, PassError> {
    let slots = params.slots();
    let packed = manager.lower(&LowerPacked { slots, batch }, graph)?;
    lower_packed(&packed, (params, target), manager)
}

/// Packed → levelled.
pub fn lower_packed(
    packed: &PackedGraph,
    (params, target): (&ParameterSet, Target),
    manager: &mut Manager<'_>,
) -> Result<LevelledGraph, PassError> {
    let costs = cost_table(params, target);
    let placing = Placing::Best;
    manager.lower(&AssignLevels { costs, placing }, packed)
}

/// Levelled → schedule. `output_shapes`: shapes of the model's outputs for one input, without the batch axis;
/// `error`: what is predicted of the results.
pub fn write_schedule(
    graph: &LevelledGraph,
    params: &ParameterSet,
    output_shapes: &[Vec<usize>],
    model: &ModelFacts,
    error: Option<Prediction>,
) -> Result<Schedule, CompileError> {
    let options = EmitOptions {
        params,
        output_shapes,
        report_json: Vec::new(),
        client: &model.client,
        head: model.head.as_ref(),
        bases: model.plain.as_ref().map_or(&[], |p| p.bases()),
        external: model.external.as_deref(),
    };
    let (mut program, weights, places) = emit(graph, &options)?;
    program.report_json = facts(graph, model, error).to_string().into_bytes();
    let record = model.plain.as_ref().map(|p| p.record(graph, &places));
    let schedule = Schedule::new(program, weights)?;
    Ok(schedule.with_record(record.unwrap_or_default()))
}

/// Poly graph → schedule: everything below the approximations. With `calibrated`, the error of the whole is predicted for the report.
pub fn compile_poly(
    graph: &PolyGraph,
    params: &ParameterSet,
    batch: Option<usize>,
    output_shapes: &[Vec<usize>],
    model: &ModelFacts,
    calibrated: Option<&Calibrated<'_>>,
    manager: &mut Manager<'_>,
) -> Result<Schedule, CompileError> {
    let slots = params.slots();
    let packed = manager.lower(&LowerPacked { slots, batch }, graph)?;
    compile_packed(
        graph,
        &packed,
        params,
        output_shapes,
        model,
        calibrated,
        manager,
    )
}

/// [`compile_poly`] of a graph that is packed already.
pub fn compile_packed(
    graph: &PolyGraph,
    packed: &PackedGraph,
    params: &ParameterSet,
    output_shapes: &[Vec<usize>],
    model: &ModelFacts,
    calibrated: Option<&Calibrated<'_>>,
    manager: &mut Manager<'_>,
) -> Result<Schedule, CompileError> {
    let levelled = lower_packed(packed, (params, model.target), manager)?;
    let error = match calibrated {
        Some(known) => Some(predict(graph, &levelled, params, known)?),
        None => None,
    };
    write_schedule(&levelled, params, output_shapes, model, error)
}
