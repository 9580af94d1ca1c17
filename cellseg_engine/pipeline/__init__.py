"""The way of an image: from pixels and settings to labels."""
