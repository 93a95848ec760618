//! ONNX to schedule.
