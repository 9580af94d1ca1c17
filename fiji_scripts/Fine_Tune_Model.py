"""Plugins > CellSeg > Fine Tune Model: a model goes on learning from the training set."""
#@ String (label="Training folder", description="Filled by Add To Training Set; empty: the one used last.", value="", persist=false) training_folder
#@ String (label="Name of the new model", description="Up to 100 letters, digits, dots, _ and -; empty: the folder's name and a number.", value="", persist=false) name
#@ String (label="Start from", description="The model that goes on learning, always anew from its own state: a name, or the path of a weights file.", value="nuclei", persist=false) start_from
#@ Integer (label="Epochs", description="Passes over the images; 100 in the Cellpose 2.0 paper.", value=100, min=1, max=100000, persist=false) epochs
#@ String (label="Channel", description="As in Segment Cells: the channel that shows the objects.", value="auto", persist=false) channel
#@ String (label="Nuclear channel", description="As in Segment Cells: a second channel with nuclei, or none.", value="none", persist=false) nuclear_channel
#@ String (label="Invert", description="As in Segment Cells: yes for dark objects on a bright background.", value="auto", choices={"auto", "yes", "no"}, persist=false) invert

from cellseg_jy import fine_tuning, problems

problems.guarded(fine_tuning.command, globals())
