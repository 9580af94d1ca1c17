"""Plugins > CellSeg > Next Image: opens one that is not in the training set, with its objects."""
#@ String (label="Folder with images", description="Searched with its sub-folders; empty: the one used last.", value="", persist=false) image_folder
#@ String (label="Training folder", description="As in Add To Training Set; empty: the one used last.", value="", persist=false) training_folder
#@ String (label="Model", description="auto takes the newest one made from the training folder, and nuclei before there is one.", value="auto", persist=false) model
#@ Double (label="Diameter [px]", description="Typical diameter of the objects; 0 takes that of the training set, and estimates it before there is one.", value=0.0, min=0.0, max=10000.0, stepSize=1, persist=false) diameter_px
#@ String (label="Channel", description="As in Segment Cells: the channel that shows the objects.", value="auto", persist=false) channel
#@ String (label="Nuclear channel", description="As in Segment Cells: a second channel with nuclei, or none.", value="none", persist=false) nuclear_channel
#@ String (label="Invert", description="As in Segment Cells: yes for dark objects on a bright background.", value="auto", choices={"auto", "yes", "no"}, persist=false) invert
#@ Boolean (label="Discard ROIs", description="Also go on if the ROI Manager has ROIs that are not in the training set; they are lost.", value=false, persist=false) discard_rois

from cellseg_jy import next_image, problems

problems.guarded(next_image.command, globals())
