"""Plugins > CellSeg > ROIs To Labels: a label image of the size of the current image."""
#@ String (label="ROIs from", description="auto takes those of the ROI Manager, or of the overlay if there are none.", value="auto", choices={"auto", "manager", "overlay", "archive"}, persist=false) source
#@ String (label="ROI archive", description="Path of a ROI archive (.zip), for ROIs from an archive.", value="", persist=false) archive

from cellseg_jy import painting, problems

problems.guarded(painting.command, globals())
