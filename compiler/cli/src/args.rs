//! The command line, as INTERFACE promises it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use heron_schedule::params::Profile;
use std::path::PathBuf;

/// Private inference: compiles ONNX models to CKKS schedules and runs them on encrypted data.
#[derive(Debug, Parser)]
#[command(name = "heron", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// No progress on stderr.
    #[arg(long, global = true)]
    pub quiet: bool,
    /// More details on stderr.
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether a model compiles, and every obstacle if not.
    Check(Check),
    /// Compile a model: X.heron for the server, X.client beside it for the client.
    Compile(Compile),
    /// The depth report of a schedule.
    Report(Report),
    /// Make the client's key and the server's keys.
    Keygen(Keygen),
    /// Encrypt inputs, on the client.
    Encrypt(Encrypt),
    /// Run a schedule on encrypted inputs, on the server.
    Run(Run),
    /// Decrypt results, on the client.
    Decrypt(Decrypt),
    /// All of it in one process, for trying a model.
    Infer(Infer),
    /// Compare a schedule with the plaintext model, node by node.
    Bisect(Bisect),
    /// What changed between two compilations.
    Diff(Diff),
    /// Run one pass on the text of a graph, as --dump-ir writes it.
    Opt(Opt),
    /// Measure, as JSON lines.
    Bench(Bench),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Html,
    Dot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextOrJson {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendChoice {
    Auto,
    Cpu,
    Cuda,
    Clear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServerBackend {
    Auto,
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Optimize {
    Latency,
    Throughput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    Cpu,
    Cuda,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Positions {
    Last,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    Server,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsPlace {
    Inside,
    External,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    Ops,
    Bootstrap,
    Model,
}

fn profile(text: &str) -> Result<Profile, String> {
    text.parse::<Profile>().map_err(|e| e.to_string())
}

/// `NAME=1,16,32`.
fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, dims) = text.rsplit_once('=').ok_or("expected NAME=1,16,32")?;
    let dims: Result<Vec<usize>, _> = dims.split(',').map(|d| d.trim().parse()).collect();
    match dims {
        Ok(dims) if !name.is_empty() && dims.iter().all(|d| *d > 0) => Ok((name.into(), dims)),
        _ => Err("expected NAME=1,16,32 with positive whole numbers".into()),
    }
}

/// `NAME=32,64,128`.
fn sweep(text: &str) -> Result<(String, Vec<usize>), String> {
    shape(text).map_err(|_| "expected NAME=32,64,128 with positive whole numbers".into())
}

/// `16G`, `512M`, or bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a size such as 16G")?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".into())
}

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t.is_finite() && t > 0.0 => Ok(t),
        _ => Err("expected a positive number such as 0.01".into()),
    }
}

#[derive(Debug, Args)]
pub struct Check {
    /// The model.
    pub model: PathBuf,
    /// Fix the shape of an input, batch axis included.
    #[arg(long, value_name = "NAME=1,16,32", value_parser = shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextOrJson,
}

#[derive(Debug, Args)]
pub struct Compile {
    /// The model.
    pub model: PathBuf,
    /// Where to write the schedule; the client's file goes beside it.
    #[arg(short, long, value_name = "X.heron", required_unless_present = "sweep")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub options: CompileOptions,
    /// Print every graph into this folder, one numbered file per pass.
    #[arg(long, value_name = "DIR")]
    pub dump_ir: Option<PathBuf>,
    /// Write the report as a page.
    #[arg(long, value_name = "REPORT.html")]
    pub report: Option<PathBuf>,
    /// Weights inside the file, or by path and hash.
    #[arg(long, value_enum, default_value = "inside")]
    pub weights: WeightsPlace,
    /// Estimate for several sizes of a symbolic axis; writes nothing.
    #[arg(long, value_name = "NAME=32,64", value_parser = sweep, conflicts_with_all = ["report", "dump_ir"])]
    pub sweep: Option<(String, Vec<usize>)>,
    /// How the table of --sweep is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextOrJson,
}

#[derive(Clone, Debug, Args)]
pub struct CompileOptions {
    /// Calibration inputs, or synthetic:SEED; default NAME.calibration.npz beside the model.
    #[arg(long, value_name = "CALIB.npz")]
    pub calibration: Option<String>,
    /// Fix the shape of an input, batch axis included.
    #[arg(long, value_name = "NAME=1,16,32", value_parser = shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// secure (default), paper, standard; toy is insecure and for tests.
    #[arg(long, default_value = "secure", value_parser = profile)]
    pub profile: Profile,
    /// Inputs side by side in one run; default what the slots allow.
    #[arg(long)]
    pub batch: Option<u32>,
    #[arg(long, value_enum, default_value = "throughput")]
    pub optimize: Optimize,
    /// What the schedule is priced and chosen for; any backend runs it.
    #[arg(long, value_enum, default_value = "cpu")]
    pub target: Target,
    /// Largest |difference| over the standard deviation of the reference.
    #[arg(long, default_value = "0.01", value_parser = tolerance)]
    pub tolerance: f64,
    /// Return the arguments of all approximations too, so that the client sees after decryption whether any left its fitted interval.
    /// They depend on the weights: a client learns about them.
    #[arg(long)]
    pub witness: bool,
    /// Memory one run may take.
    #[arg(long, default_value = "16G", value_parser = bytes)]
    pub max_memory: u64,
    /// Where weights stay in the files of the model: the folder that they are found from.
    #[arg(skip)]
    pub external: Option<PathBuf>,
    /// Number of inputs there will be, where the command knows it: more lanes than that are worth nothing.
    #[arg(skip)]
    pub inputs: Option<usize>,
    /// Cut calibration inputs to the shapes given, or repeat them: for estimates.
    #[arg(skip)]
    pub fit_calibration: bool,
    /// Which positions of a sequence to return.
    #[arg(long, value_enum, default_value = "all")]
    pub positions: Positions,
    /// Who computes the final projection. `client` discloses its weights to the client.
    #[arg(long, value_enum, default_value = "server")]
    pub head: Side,
}

#[derive(Debug, Args)]
pub struct Report {
    /// The schedule.
    pub schedule: PathBuf,
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Keygen {
    /// X.client or X.heron.
    pub client: PathBuf,
    /// Where to write the secret key; never replaced.
    #[arg(long)]
    pub client_key: PathBuf,
    /// Where to write the evaluation keys.
    #[arg(long)]
    pub server_keys: PathBuf,
}

#[derive(Debug, Args)]
pub struct Encrypt {
    /// X.client or X.heron.
    pub client: PathBuf,
    #[arg(long)]
    pub client_key: PathBuf,
    /// Inputs: .npz or .npy.
    #[arg(long)]
    pub input: PathBuf,
    /// Where to write the ciphertexts.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Only the first N inputs.
    #[arg(long)]
    pub limit: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The schedule.
    pub schedule: PathBuf,
    #[arg(long)]
    pub server_keys: PathBuf,
    /// Encrypted inputs.
    #[arg(long)]
    pub input: PathBuf,
    /// Where to write the encrypted results.
    #[arg(short, long)]
    pub output: PathBuf,
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: ServerBackend,
    #[arg(long)]
    pub threads: Option<usize>,
    /// Where to write the time by kind of operation.
    #[arg(long, value_name = "PROFILE.json")]
    pub profile_out: Option<PathBuf>,
    /// Save the state there now and then.
    #[arg(long, value_name = "DIR")]
    pub checkpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Decrypt {
    /// X.client or X.heron.
    pub client: PathBuf,
    #[arg(long)]
    pub client_key: PathBuf,
    /// Encrypted results.
    #[arg(long)]
    pub input: PathBuf,
    /// Where to write the results.
    #[arg(short, long)]
    pub output: PathBuf,
}

#[derive(Debug, Args)]
pub struct Infer {
    /// A model, or a schedule.
    pub model: PathBuf,
    /// Inputs: .npz or .npy.
    #[arg(long)]
    pub input: PathBuf,
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: BackendChoice,
    #[command(flatten)]
    pub options: CompileOptions,
    /// Only the first N inputs.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where to write the results.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Expected results, instead of running the plaintext model.
    #[arg(long)]
    pub expect: Option<PathBuf>,
    #[arg(long)]
    pub threads: Option<usize>,
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextOrJson,
}

#[derive(Debug, Args)]
pub struct Bisect {
    pub schedule: PathBuf,
    #[arg(long)]
    pub input: PathBuf,
    #[arg(long, value_enum, default_value = "clear")]
    pub backend: BackendChoice,
    #[arg(long, default_value = "0.01", value_parser = tolerance)]
    pub tolerance: f64,
    /// Only the first N inputs.
    #[arg(long)]
    pub limit: Option<usize>,
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextOrJson,
}

#[derive(Debug, Args)]
pub struct Diff {
    pub a: PathBuf,
    pub b: PathBuf,
    #[arg(long, value_enum, default_value = "text")]
    pub format: TextOrJson,
}

#[derive(Debug, Args)]
pub struct Opt {
    /// The graph: .tensor, .poly, .packed or .levelled.
    pub file: Option<PathBuf>,
    /// Which pass.
    #[arg(long, value_name = "NAME")]
    pub pass: Option<String>,
    /// Name the passes.
    #[arg(long)]
    pub list: bool,
    /// Where to write the result; default stdout.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Where ring degree and highest level come from, unless given below.
    #[arg(long, default_value = "secure", value_parser = profile)]
    pub profile: Profile,
    /// lower-packed: slots of a ciphertext; default half the ring degree.
    #[arg(long)]
    pub slots: Option<usize>,
    /// lower-packed: inputs side by side; default what the slots allow.
    #[arg(long)]
    pub batch: Option<usize>,
    /// assign-levels: log2 of the ring degree.
    #[arg(long)]
    pub log_n: Option<u32>,
    /// assign-levels: highest usable level.
    #[arg(long)]
    pub top: Option<u32>,
    /// substitute-polynomials: divide the default errors of approximations by this.
    #[arg(long, default_value = "1", value_parser = tolerance)]
    pub tighten: f64,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[arg(value_enum)]
    pub what: BenchKind,
    /// For `model`: the schedule.
    pub schedule: Option<PathBuf>,
    #[arg(long, default_value = "secure", value_parser = profile)]
    pub profile: Profile,
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: ServerBackend,
    #[arg(long)]
    pub threads: Option<usize>,
    /// Roughly how long to measure each thing.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
}
