// Counts the nuclei in every frame of a time series, with the time of each frame.
// Run it from the script editor, or headless with the path of the image as argument.

path = getArgument();
if (path == "") path = File.openDialog("Time series");
open(path);
title = getTitle();
interval = Stack.getFrameInterval();

run("Segment Cells", "model=nuclei diameter_px=30");

// The ROIs lie in the overlay, each at its frame, and are called LABEL-SLICE-FRAME.
selectImage(title);
Stack.getDimensions(width, height, channels, slices, frames);
counts = newArray(frames);
for (i = 0; i < Overlay.size; i++) {
    Overlay.activateSelection(i);
    parts = split(Roi.getName, "-");
    frame = parseInt(parts[2]);
    counts[frame - 1] += 1;
}
run("Select None");
for (t = 0; t < frames; t++)
    print("frame " + (t + 1) + ", " + t * interval + " s: " + counts[t] + " nuclei");
