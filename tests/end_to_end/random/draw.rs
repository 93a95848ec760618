//! What a random transformer looks like: drawn from a seed, printed when a case fails.

/// Reproducible numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Draws {
        Draws(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, n).
    pub fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// In [0, 1).
    fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Mean 0, deviation 1, at most 6 in size.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Mean 0, deviation 1, at most √3 in size: without the tails that no calibration set covers.
    pub fn bounded(&mut self) -> f64 {
        (2.0 * self.unit() - 1.0) * 3f64.sqrt()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epsilon {
    /// (Σ s^p) + ε.
    Sum,
    /// ((Σ s^p)/L + ε) · L.
    Mean,
    /// s^p / ((Σ s^p)/L + ε), then divided by L.
    MeanThenLength,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mask {
    None,
    /// Query i sees keys up to i; multiplied before or after the power.
    Causal {
        before: bool,
    },
    /// The last keys are never seen.
    Padding {
        before: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// One LayerNormalization node.
    Layer,
    /// ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add.
    LayerParts,
    /// Mul, ReduceMean, Add, Sqrt, Div, Mul.
    Rms,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    GeluErf,
    GeluTanh,
    QuickGelu,
    Silu,
    Relu,
    Tanh,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// Mean over tokens, then classes.
    Mean,
    /// The first token, then classes.
    Cls,
    /// Classes for every token.
    All,
}

/// A random transformer, but for its numbers.
#[derive(Clone, Debug)]
pub struct Spec {
    pub seed: u64,
    pub tokens: usize,
    pub width: usize,
    pub heads: usize,
    /// Fewer than heads: grouped queries.
    pub kv_heads: usize,
    pub power: u32,
    /// Spelled as a chain of products instead of Pow.
    pub power_as_products: bool,
    pub epsilon: Epsilon,
    pub mask: Mask,
    /// Norms before the blocks and one at the end, instead of after each residual sum.
    pub norm_first: bool,
    pub norm: Norm,
    pub activation: Activation,
    /// The activation multiplies a second projection (SwiGLU and its kin).
    pub gated: bool,
    pub rotary: bool,
    /// Q, K and V come from one projection, split.
    pub fused_qkv: bool,
    pub head: Head,
    /// Token ids instead of float inputs.
    pub vocabulary: Option<usize>,
    pub layers: usize,
    pub hidden: usize,
    pub classes: usize,
}

impl Spec {
    /// The transformer of a seed.
    pub fn draw(seed: u64) -> Spec {
        let mut d = Draws::new(seed);
        let heads = d.pick(&[1, 1, 2, 2, 4]);
        let head_width = d.pick(&[2, 4, 6, 8]);
        // Widths 4 to 32.
        let width = (heads * head_width).clamp(4, 32);
        let tokens = 2 + d.below(15);
        let kv_heads = if heads > 1 && d.below(4) == 0 {
            heads / 2
        } else {
            heads
        };
        let before = d.coin();
        let mask = match d.below(4) {
            0 => Mask::Causal { before },
            1 => Mask::Padding { before },
            _ => Mask::None,
        };
        let gated = d.below(4) == 0;
        Spec {
            seed,
            tokens,
            width,
            heads,
            kv_heads,
            power: d.pick(&[2, 4, 4, 6, 8]),
            power_as_products: d.coin(),
            epsilon: d.pick(&[Epsilon::Sum, Epsilon::Mean, Epsilon::MeanThenLength]),
            mask,
            norm_first: d.coin(),
            norm: d.pick(&[Norm::Layer, Norm::LayerParts, Norm::Rms]),
            activation: d.pick(&[
                Activation::GeluErf,
                Activation::GeluTanh,
                Activation::QuickGelu,
                Activation::Silu,
                Activation::Relu,
                Activation::Tanh,
            ]),
            gated,
            rotary: d.below(3) == 0,
            fused_qkv: kv_heads == heads && d.coin(),
            head: d.pick(&[Head::Mean, Head::Cls, Head::All]),
            vocabulary: (d.below(3) == 0).then(|| 5 + d.below(20)),
            layers: 1 + usize::from(d.below(3) == 0),
            hidden: width * d.pick(&[1, 2, 3]),
            classes: 2 + d.below(6),
        }
    }

    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }
}
