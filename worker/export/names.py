"""Names of the formats, for the command line, which must not wait for arrays and networks."""

NAMES = ("onnx", "openvino", "executorch", "litert")
