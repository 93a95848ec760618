//! ONNX to schedule.

pub mod bisect;
pub mod calibration;
pub mod choose;
pub mod emit;
pub mod facts;
pub mod npz;
pub mod numbers;
pub mod onnx;
pub mod pipeline;
pub mod predict;
pub mod reference;
pub mod softmax_variant;
