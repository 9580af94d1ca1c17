"""Files in and out: images, plates, label images, ROIs, tables, overlays."""
