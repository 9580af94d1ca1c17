// Segments all images of a folder and its sub-folders. A stopped run goes on where it was.
// Run it from the script editor, or headless with the two folders, separated by a comma.

given = split(getArgument(), ",");
if (given.length == 2) {
    input = given[0];
    output = given[1];
} else {
    input = getDirectory("Folder with images");
    output = getDirectory("Folder for results");
}

run("Segment Folder", "input_folder=[" + input + "] output_folder=[" + output + "]"
    + " model=nuclei diameter_px=30");

// summary.csv has a row per image: what failed says why.
lines = split(File.openAsString(output + "/summary.csv"), "\n");
print((lines.length - 1) + " images are in the summary");
