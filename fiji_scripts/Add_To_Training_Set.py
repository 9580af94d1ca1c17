"""Plugins > CellSeg > Add To Training Set: the current image with its corrected ROIs."""
#@ String (label="Training folder", description="A folder of its own, made if needed; empty: the one used last.", value="", persist=false) training_folder
#@ String (label="ROIs from", description="auto takes those of the ROI Manager, or of the overlay where there are no windows.", value="auto", choices={"auto", "manager", "overlay", "archive"}, persist=false) source
#@ String (label="ROI archive", description="Path of a ROI archive (.zip), for ROIs from an archive.", value="", persist=false) archive
#@ Boolean (label="Only in the selected rectangle", description="Every object that reaches into the rectangle has a ROI; the rest of the image is not annotated.", value=false, persist=false) only_selection

from cellseg_jy import adding, problems

problems.guarded(adding.command, globals())
