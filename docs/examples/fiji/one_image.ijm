// Segments one image and saves label image, ROIs and table beside it, in a folder "cellseg".
// Run it from the script editor, or headless with the path of the image as argument.

path = getArgument();
if (path == "") path = File.openDialog("Image with nuclei");
open(path);
title = getTitle();

run("Segment Cells", "model=nuclei diameter_px=30 save_to=["
    + File.getParent(path) + "/cellseg]");

// The label image has a fixed name, so that a macro always finds it.
selectImage(title + "-labels");
getStatistics(area, mean, min, max);
print(title + ": " + max + " objects, diameter " + Property.get("cellseg_diameter_px") + " px");
