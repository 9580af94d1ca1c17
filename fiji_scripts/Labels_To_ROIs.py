"""Plugins > CellSeg > Labels To ROIs: the outlines of the objects of a label image."""
#@ Boolean (label="Add to ROI Manager", description="Append the objects to the ROI Manager as a group of their own; what is in it stays.", value=true, persist=false) add_to_roi_manager
#@ String (label="Save archive as", description="Path of a ROI archive (.zip); empty: nothing is saved.", value="", persist=false) save_as

from cellseg_jy import problems, tracing

problems.guarded(tracing.command, globals())
