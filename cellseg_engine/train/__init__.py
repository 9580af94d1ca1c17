"""Training: from annotated images to a weights file with its card and size model."""
