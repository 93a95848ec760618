//! The elementwise functions of models, in f64.

use crate::ir::tensor::Function;

impl Function {
    /// The function's value at `x`.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Function::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Function::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            Function::QuickGelu => x * sigmoid(1.702 * x),
            Function::Silu => x * sigmoid(x),
            Function::Relu => x.max(0.0),
            Function::Tanh => libm::tanh(x),
            Function::Sigmoid => sigmoid(x),
        }
    }

    /// All functions.
    pub const ALL: [Function; 7] = [
        Function::Gelu,
        Function::GeluTanh,
        Function::QuickGelu,
        Function::Silu,
        Function::Relu,
        Function::Tanh,
        Function::Sigmoid,
    ];

    /// The function of a name.
    pub fn from_name(name: &str) -> Option<Function> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }

    /// The name used in dumps and reports.
    pub fn name(self) -> &'static str {
        match self {
            Function::Gelu => "gelu",
            Function::GeluTanh => "gelu_tanh",
            Function::QuickGelu => "quick_gelu",
            Function::Silu => "silu",
            Function::Relu => "relu",
            Function::Tanh => "tanh",
            Function::Sigmoid => "sigmoid",
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_is_half_x_plus_an_even_function() {
        for x in [0.3, 1.0, 2.5] {
            let even = |x: f64| Function::Gelu.value(x) - x / 2.0;
            assert!((even(x) - even(-x)).abs() < 1e-15);
        }
        assert!((Function::Gelu.value(1.0) - 0.841_344_746_068_542_9).abs() < 1e-15);
    }
}
