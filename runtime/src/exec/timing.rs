//! Where the time of a run went: by kind of instruction, and by layer and primitive.

use heron_schedule::primitive::{Booked, Primitive};
use heron_schedule::proto::Program;

/// What time is booked under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Bootstraps.
    Bootstrap,
    /// Plaintext-linear steps, their rotations included.
    Linear,
    /// Products of ciphertexts, relinearised and rescaled.
    CiphertextProduct,
    /// Rotations that are instructions of their own.
    Rotation,
    /// Encoding of plaintexts, wherever it happens.
    Encoding,
    /// Combinations: additions, constants, adjustments.
    Combine,
    /// Inputs, outputs and what remains.
    Other,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 7] = [
        Kind::Bootstrap,
        Kind::Linear,
        Kind::CiphertextProduct,
        Kind::Rotation,
        Kind::Encoding,
        Kind::Combine,
        Kind::Other,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bootstrap => "bootstrap",
            Kind::Linear => "linear",
            Kind::CiphertextProduct => "ciphertext_product",
            Kind::Rotation => "rotation",
            Kind::Encoding => "encoding",
            Kind::Combine => "combine",
            Kind::Other => "other",
        }
    }
}

/// How often something was done, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KindTime {
    /// By kind of instruction: instructions. By primitive: bootstraps, products, rotations, encoded vectors; instructions for the rest.
    pub count: u64,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl KindTime {
    fn add(&mut self, count: u64, seconds: f64) {
        self.count += count;
        self.seconds += seconds;
    }
}

/// What an executor measured inside one instruction: wall time of the thread that runs the schedule. Other threads work for it meanwhile, so
/// that no second is counted twice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Seconds spent encoding plaintext vectors.
    pub encoding: f64,
    /// Vectors encoded.
    pub encoded: u64,
    /// Seconds spent rotating, inside a linear map.
    pub rotation: f64,
}

/// One row of a breakdown: a time per primitive, in the order of [`Primitive::ALL`].
pub type Row = [KindTime; Primitive::ALL.len()];

/// Where the time of a walk went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    kinds: [KindTime; Kind::ALL.len()],
    /// Wall time of the whole walk. The kinds sum to it, and so do the layers.
    pub seconds: f64,
    /// For each layer in the order of `Program.layers`, then for what belongs to none: time by primitive.
    layers: Vec<Row>,
}

impl Timing {
    /// Nothing yet.
    pub fn new(program: &Program) -> Timing {
        Timing {
            layers: vec![Row::default(); program.layers.len() + 1],
            ..Timing::default()
        }
    }

    /// Each kind with its count and time.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, KindTime)> + '_ {
        Kind::ALL.into_iter().zip(self.kinds)
    }

    /// Time by primitive, of each layer in the order of `Program.layers`, and at the end of what belongs to no layer.
    pub fn layers(&self) -> &[Row] {
        &self.layers
    }

    /// Each primitive with its count and time.
    pub fn primitives(&self) -> impl Iterator<Item = (Primitive, KindTime)> + '_ {
        Primitive::ALL
            .into_iter()
            .enumerate()
            .map(|(i, primitive)| {
                let mut total = KindTime::default();
                for row in &self.layers {
                    total.add(row[i].count, row[i].seconds);
                }
                (primitive, total)
            })
    }

    /// Adds another walk.
    pub fn merge(&mut self, other: &Timing) {
        for (a, b) in self.kinds.iter_mut().zip(&other.kinds) {
            a.add(b.count, b.seconds);
        }
        self.seconds += other.seconds;
        if self.layers.len() < other.layers.len() {
            self.layers.resize(other.layers.len(), Row::default());
        }
        for (a, b) in self
            .layers
            .iter_mut()
            .flatten()
            .zip(other.layers.iter().flatten())
        {
            a.add(b.count, b.seconds);
        }
    }

    /// Books one instruction of so many seconds. Parts are cut to what there is.
    pub(super) fn book(
        &mut self,
        layer: u32,
        kind: Kind,
        booked: &Booked,
        parts: Parts,
        seconds: f64,
    ) {
        let encoding = parts.encoding.clamp(0.0, seconds);
        let rotation = parts.rotation.clamp(0.0, seconds - encoding);
        self.kinds[kind as usize].add(1, seconds - encoding);
        self.kinds[Kind::Encoding as usize].add(0, encoding);
        // A layer the program does not have is none.
        let none = self.layers.len().saturating_sub(1);
        if let Some(row) = self.layers.get_mut((layer as usize).min(none)) {
            row[booked.primitive as usize].add(booked.count, seconds - encoding - rotation);
            row[Primitive::Rotation as usize].add(booked.rotations, rotation);
            row[Primitive::Encoding as usize].add(parts.encoded, encoding);
        }
    }

    /// Books what is left of the whole.
    pub(super) fn close(&mut self, seconds: f64) {
        self.seconds = seconds;
        let booked: f64 = self.kinds.iter().map(|k| k.seconds).sum();
        let left = (seconds - booked).max(0.0);
        self.kinds[Kind::Other as usize].add(0, left);
        if let Some(row) = self.layers.last_mut() {
            row[Primitive::Rest as usize].add(0, left);
        }
    }
}
