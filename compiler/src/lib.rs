//! ONNX to schedule.

pub mod calibration;
pub mod npz;
pub mod onnx;
pub mod reference;
