"""Open_clip and timm models become ONNX graphs that run without torch."""
