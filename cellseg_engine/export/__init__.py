"""Models written for other programs: official weights, ONNX, BioImage.IO packages."""
