//! The compiler as the commands see it: a model in, a schedule and its plaintext twin out.

use crate::args::{CompileOptions, Optimize, Positions, Side, Target};
use crate::failure::{At, Failure, Outcome};
use crate::inputs::{is_witness, OutputSet};
use crate::judge::Calibrated;
use heron_compiler::bisect::matching::matches;
use heron_compiler::bisect::record::Plain;
use heron_compiler::calibration::{self, UserInput};
use heron_compiler::choose::{compile_by_need, compile_within, Model, Objective, Wish};
use heron_compiler::facts::{layer_ranges, ModelFacts};
use heron_compiler::npz::Arrays;
use heron_compiler::onnx::{self, InputSpec, OutputSpec, Shapes};
use heron_compiler::pipeline::CompileError;
use heron_compiler::predict;
use heron_compiler::reference::{Reference, ReferenceError};
use heron_compiler::softmax_variant::{softmax_variant, Setting};
use heron_passes::budget::Budget;
use heron_passes::calibrate_ranges::calibrate_ranges;
use heron_passes::client_head::{self, take_head};
use heron_passes::cost::prices;
use heron_passes::ir::tensor::{ClientInput, TensorGraph, TensorOp};
use heron_passes::last_position::LastPosition;
use heron_passes::pass::{Manager, PassError};
use heron_passes::sites::SiteRanges;
use heron_passes::to_poly::{to_poly, Named};
use heron_passes::witness;
use heron_schedule::client::ClientGraph;
use heron_schedule::params::{ParameterSet, Profile};
use heron_schedule::proto::Program;
use heron_schedule::Schedule;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What compiling gives.
pub struct Compiled {
    /// For the server.
    pub schedule: Schedule,
    /// The model in the clear.
    pub model: PlainModel,
}

/// The ONNX model, to compare with.
pub struct PlainModel {
    path: PathBuf,
    inputs: Vec<InputSpec>,
    outputs: Vec<OutputSpec>,
    /// In place of the file where the reference engine lacks an operator.
    own: Option<(TensorGraph, ClientGraph)>,
}

impl PlainModel {
    fn load(&self) -> Outcome<Reference> {
        match (
            Reference::load(&self.path, &self.inputs, &self.outputs),
            &self.own,
        ) {
            (Err(ReferenceError::Load { .. }), Some((graph, client))) => Ok(Reference::own(
                graph.clone(),
                client.clone(),
                &self.inputs,
                &self.outputs,
            )),
            (found, _) => Ok(found?),
        }
    }

    /// Prepared inputs and the model's results for (the first) calibration inputs.
    fn calibration(
        &mut self,
        graph: &TensorGraph,
        client: &ClientGraph,
        users: &[UserInput],
        most: usize,
    ) -> Outcome<(Vec<Named>, Vec<Named>)> {
        let loaded = Reference::load(&self.path, &self.inputs, &self.outputs);
        let reference = match loaded {
            Err(e @ ReferenceError::Load { .. }) => {
                eprintln!("warning: {e}; errors are measured against heron's own reading of the model in f64");
                self.own = Some((graph.clone(), client.clone()));
                self.load()?
            }
            other => other?,
        };
        let first: Vec<(usize, &UserInput)> = users.iter().take(most).enumerate().collect();
        let both: Outcome<Vec<(Named, Named)>> = first
            .into_par_iter()
            .map(|(number, user)| {
                let found = reference.run(number, user)?;
                let names = self.outputs.iter().map(|o| o.name.clone());
                Ok((prepared(graph, user)?, names.zip(found).collect()))
            })
            .collect();
        Ok(both?.into_iter().unzip())
    }

    /// The model's results on the first `count` inputs, in the order of the program's outputs.
    pub fn reference(
        &self,
        program: &Program,
        arrays: &Arrays,
        count: usize,
    ) -> Outcome<OutputSet> {
        let reference = self.load()?;
        let inputs = calibration::user_inputs(&self.inputs, arrays)?;
        let mut set = OutputSet::new(program);
        let first: Vec<(usize, &UserInput)> = inputs.iter().take(count).enumerate().collect();
        let all: Outcome<Vec<Vec<Vec<f64>>>> = first
            .into_par_iter()
            .map(|(number, input)| Ok(reference.run(number, input)?))
            .collect();
        for results in all? {
            let ports = program.outputs.iter().zip(&mut set.ports);
            for (port, values) in ports.filter(|(port, _)| !is_witness(port)) {
                let found = self.outputs.iter().position(|o| o.name == port.name);
                let result = found.and_then(|i| results.get(i)).ok_or_else(|| {
                    Failure::new("graph", format!("the model has no output `{}`", port.name))
                })?;
                values.push(result.clone());
            }
        }
        Ok(set)
    }
}

/// The largest error that the compiler predicted, over the standard deviation of the reference; `None` where the file does not say.
pub fn predicted_error(program: &Program) -> Option<f64> {
    let facts: serde_json::Value = serde_json::from_slice(&program.report_json).ok()?;
    facts.get("estimate")?.get("output_error")?.as_f64()
}

/// What to say when the predicted error is beyond the tolerance asked for.
pub fn too_inaccurate(program: &Program, tolerance: f64) -> Option<String> {
    let predicted = predicted_error(program).filter(|p| *p > tolerance)?;
    Some(format!(
        "warning: results may be off by {predicted:.1e} of their standard deviation, the tolerance is {tolerance:.1e}: calibrate with more \
         inputs like those of use, or see layers[].approximation in the report"
    ))
}

/// Inputs of a synthetic calibration set, and most inputs that errors are measured on (ranges come from all): fewer for models of so
/// many weights that running them takes long.
fn inputs_worth_running(weights: usize) -> usize {
    const MOST: usize = 64;
    const LEAST: usize = 8;
    (MOST * 1_000_000 / weights.max(1)).clamp(LEAST, MOST)
}

/// Where calibration inputs come from.
enum Calibration {
    Arrays(PathBuf, Arrays),
    Synthetic(u64),
}

fn calibration(model: &Path, given: Option<&str>) -> Outcome<Calibration> {
    if let Some(seed) = given.and_then(|g| g.strip_prefix("synthetic:")) {
        let seed = seed.parse().map_err(|_| {
            Failure::new(
                "mismatch",
                format!("--calibration synthetic:SEED needs a number, found `{seed}`"),
            )
        })?;
        return Ok(Calibration::Synthetic(seed));
    }
    let (path, arrays) = calibration::read(model, given.map(Path::new))?;
    Ok(Calibration::Arrays(path, arrays))
}

/// Token counts of the inputs that are looked up in a table.
fn vocabularies(graph: &TensorGraph, client: &ClientGraph) -> BTreeMap<String, usize> {
    let nodes = graph.topological().into_iter().map(|v| &graph.node(v).op);
    let embedded = nodes.filter_map(|op| match op {
        TensorOp::Input {
            name,
            client: ClientInput::Embedding { table, .. },
        } => Some((name.clone(), table.rows())),
        _ => None,
    });
    embedded.chain(client.vocabularies()).collect()
}

/// What the client would encrypt for a user's input, by input name.
fn prepared(graph: &TensorGraph, user: &UserInput) -> Outcome<Named> {
    let mut found = Named::new();
    for v in graph.topological() {
        if let TensorOp::Input { name, client } = &graph.node(v).op {
            let missing = || Failure::new("mismatch", format!("no input `{name}`"));
            let values = client
                .prepare(name, user.get(name).ok_or_else(missing)?)
                .map_err(|e| Failure::new("range", e.to_string()))?;
            found.insert(name.clone(), values);
        }
    }
    Ok(found)
}

/// Prepared inputs and results of the graph itself, in f64, for the first calibration inputs.
fn own_results(
    graph: &TensorGraph,
    users: &[UserInput],
    most: usize,
) -> Outcome<(Vec<Named>, Vec<Named>)> {
    let first: Vec<&UserInput> = users.iter().take(most).collect();
    let both: Outcome<Vec<(Named, Named)>> = first
        .into_par_iter()
        .map(|user| {
            let found = graph.outputs_for(user);
            let found = found.map_err(|e| Failure::new("range", e.to_string()))?;
            let names = graph.outputs.iter().map(|(name, _)| name.clone());
            Ok((prepared(graph, user)?, names.zip(found).collect()))
        })
        .collect();
    Ok(both?.into_iter().unzip())
}

/// The outputs cut to their last position; at least one must have several.
fn last_positions(outputs: &[OutputSpec]) -> Outcome<Vec<OutputSpec>> {
    let cut: Result<Vec<OutputSpec>, _> = outputs.iter().map(OutputSpec::last_position).collect();
    let cut = cut.map_err(|o| Failure::new("shape", o.to_string()))?;
    if cut.iter().any(|o| o.last) {
        return Ok(cut);
    }
    let found: Vec<String> = outputs
        .iter()
        .map(|o| format!("`{}` {:?}", o.name, o.shape))
        .collect();
    Err(Failure::new(
        "shape",
        format!(
            "--positions last needs an output of shape [positions, features], found {}; compile with --positions all",
            found.join(", ")
        ),
    ))
}

/// Compiles a model: imports, calibrates, runs the passes, writes the schedule. `dump_ir`: a folder for the text of every stage.
pub fn compile(
    model: &Path,
    options: &CompileOptions,
    dump_ir: Option<&Path>,
) -> Outcome<Compiled> {
    let shapes = Shapes(options.shape.iter().cloned().collect());
    let mut calibration = calibration(model, options.calibration.as_deref())?;
    if let (Calibration::Arrays(_, arrays), true) = (&mut calibration, options.fit_calibration) {
        for (name, shape) in &options.shape {
            // The first axis is the batch.
            arrays.fit(name, shape.get(1..).unwrap_or(&[]));
        }
    }
    let arrays = match &calibration {
        Calibration::Arrays(_, arrays) => Some(arrays),
        Calibration::Synthetic(_) => None,
    };
    let imported = onnx::import_with_arrays(model, &shapes, arrays)?;
    let mut tensor = imported.graph;
    let mut outputs = imported.outputs;
    let mut trouble = None;
    let mut manager = Manager::new();
    if let Some(folder) = dump_ir {
        std::fs::create_dir_all(folder).at(folder)?;
        manager = manager.with_sink(Box::new(|stage| {
            let name = format!("{:02}-{}.{}", stage.number, stage.pass, stage.stage);
            let path = folder.join(name);
            if let Err(e) = heron_schedule::atomic::write_bytes(&path, false, stage.text.as_bytes())
            {
                trouble.get_or_insert(Failure::from(e).at(&path));
            }
        }));
    }
    if options.positions == Positions::Last {
        outputs = last_positions(&outputs).at(model)?;
    }
    let most = inputs_worth_running(imported.parameters);
    let (source, mut users) = match &calibration {
        Calibration::Arrays(path, arrays) => {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (
                name,
                calibration::user_inputs(&imported.inputs, arrays).at(path)?,
            )
        }
        Calibration::Synthetic(seed) => {
            let ids = vocabularies(&tensor, &imported.client);
            let users = calibration::synthetic(&imported.inputs, &ids, *seed, most);
            (format!("synthetic:{seed}"), users)
        }
    };
    for user in &mut users {
        imported
            .client
            .extend(user)
            .map_err(|e| Failure::new("range", e.to_string()))?;
    }
    let mut sites =
        calibrate_ranges(&mut tensor, &users).map_err(|e| Failure::new("range", e.to_string()))?;
    manager.enter("onnx", &tensor)?;
    if options.positions == Positions::Last {
        // Ranges are those of all positions: each input has one last position, too few to fit functions by.
        sites.write(&mut tensor);
        manager.run(&LastPosition, &mut tensor)?;
        sites = SiteRanges::of(&tensor);
    }
    let output_shapes = |outputs: &[OutputSpec]| outputs.iter().map(|o| o.shape.clone()).collect();
    let mut output_shapes: Vec<Vec<usize>> = output_shapes(&outputs);
    let mut head = None;
    if let (Side::Client, Some(shape)) = (options.head, output_shapes.first_mut()) {
        sites.write(&mut tensor);
        let taken = take_head(&mut tensor, shape)?;
        manager.enter(client_head::NAME, &tensor)?;
        sites = SiteRanges::of(&tensor);
        *shape = vec![taken.shape.0, taken.shape.1];
        head = Some(taken);
    }
    let mut plain = PlainModel {
        path: model.into(),
        inputs: imported.all_inputs,
        outputs,
        own: None,
    };
    let (inputs, reference) = match head {
        None => plain.calibration(&tensor, &imported.client, &users, most)?,
        // No other engine knows the value that the head reads.
        Some(_) => own_results(&tensor, &users, most)?,
    };
    // What approximations and the variant reckon with; the model's own set is chosen below.
    let named = ParameterSet::new(options.profile)?;
    let mut poly = to_poly(
        &tensor,
        &sites,
        &inputs,
        &reference,
        Budget::for_levels(usize::from(named.levels_between_bootstraps())).for_inputs(users.len()),
        options.tolerance,
        &mut manager,
    )?;
    let pairs = matches(&tensor, &poly.graph, &poly.outputs, &users, &inputs);
    if options.witness {
        witness::add(&mut poly.graph);
    }
    let target = match options.target {
        Target::Cpu => prices::Target::Cpu,
        Target::Cuda => prices::Target::Cuda,
    };
    let mut facts = ModelFacts {
        target,
        plain: Some(Plain::new(&tensor, &sites, pairs)),
        opset: Some(imported.opset),
        parameters: Some(imported.parameters as u64),
        calibration_source: Some(source),
        calibration_inputs: Some(users.len()),
        ranges: layer_ranges(&tensor),
        plots: poly.plots,
        chosen_because: None,
        softmax_variant: softmax_variant(
            &tensor,
            &Setting {
                target,
                users: &users,
                inputs: &inputs,
                tolerance: options.tolerance,
                params: &named,
                batch: options.batch.map(|b| b as usize),
                parameters: imported.parameters,
                client: &imported.client,
            },
        ),
        external: options.external.clone(),
        client: imported.client,
        head,
    };
    // Large models hold their weights once more in every graph: those that are not read any more make room.
    let inputs = heron_passes::prepared::prepared(&tensor, &poly.graph, &inputs);
    drop(tensor);
    let judge = Calibrated {
        users: &users,
        reference: &reference,
    };
    let mut wanted = Model {
        graph: &poly.graph,
        output_shapes: &output_shapes,
        facts: &mut facts,
        calibrated: Some(predict::Calibrated {
            inputs: &inputs,
            reference: &reference,
            clean: &poly.results,
            approximation: poly.error,
        }),
    };
    let batch = options.batch.map(|b| b as usize);
    let schedule = match options.profile {
        Profile::Secure | Profile::ToyLevelled => {
            let wish = Wish {
                profile: options.profile,
                objective: match options.optimize {
                    Optimize::Latency => Objective::Latency,
                    Optimize::Throughput => Objective::Throughput,
                },
                batch,
                inputs: options.inputs,
                max_memory: options.max_memory,
                tolerance: options.tolerance,
            };
            compile_by_need(&mut wanted, &wish, &judge, &mut manager)?
        }
        profile => {
            let params = ParameterSet::new(profile)?;
            let because = format!("profile `{profile}` was asked for");
            wanted.facts.chosen_because = Some(because);
            let batch = match (batch, options.optimize) {
                (None, Optimize::Latency) => Some(1),
                (batch, _) => batch,
            };
            compile_within(
                &wanted,
                &params,
                batch,
                options.max_memory,
                &judge,
                &mut manager,
            )?
        }
    };
    drop(manager);
    match trouble {
        Some(failure) => Err(failure),
        None => Ok(Compiled {
            schedule,
            model: plain,
        }),
    }
}

impl From<PassError> for Failure {
    fn from(e: PassError) -> Self {
        let kind = match &e {
            PassError::Resource { .. } => "resource",
            PassError::Refused { .. } => "range",
            PassError::Invalid { .. } => "graph",
        };
        // One error is one line.
        Failure::new(kind, e.to_string().replace('\n', "; "))
    }
}

impl From<CompileError> for Failure {
    fn from(e: CompileError) -> Self {
        match e {
            CompileError::Pass(e) => e.into(),
            CompileError::Infeasible(reason) => Failure::new("resource", reason),
            e => Failure::new("graph", e.to_string().replace('\n', "; ")),
        }
    }
}
