package cellseg.imagej;

import ij.IJ;
import ij.ImagePlus;
import ij.Macro;
import ij.plugin.PlugIn;

import java.awt.GraphicsEnvironment;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A menu command of a plain ImageJ that runs one of the CellSeg scripts for Fiji.
 *
 * Fiji reads the #@ lines at the top of a script, asks for these values and gives them to it. A
 * plain ImageJ does not; this class does it there. In a macro the values come from the options of
 * run(), by the same names as in Fiji; what they leave out has its default and nothing is asked.
 */
public class ScriptCommand implements PlugIn {

    /** Runs a script.
     *
     * @param script its file name in the folder scripts/Plugins/CellSeg of ImageJ
     */
    @Override
    public void run(final String script) {
        final String title = script.replaceAll("\\.py$", "").replace('_', ' ');
        try {
            final File folder = new File(imagejFolder(), "scripts/Plugins/CellSeg");
            runScript(title, new File(folder, script));
        } catch (final ProblemException problem) {
            IJ.error(title, problem.getMessage()); // ends a macro too
        }
    }

    private static void runScript(final String title, final File file) throws ProblemException {
        final String text = read(file);
        final List<Item> items = Header.parse(text);
        final Map<String, Object> values = new LinkedHashMap<>();
        final String options = Macro.getOptions();
        if (options != null || GraphicsEnvironment.isHeadless()) {
            values.putAll(Options.values(items, options == null ? "" : options));
        } else {
            final ItemDialog dialog = new ItemDialog(title, items);
            if (dialog.hasFields() && !dialog.isConfirmed()) {
                Macros.end();
                return;
            }
            values.putAll(dialog.values());
            dialog.record(values);
        }
        for (final Item item : items) {
            if (item.isImage() && !item.isOutput()) {
                final ImagePlus image = IJ.getImage(); // none: says so, and ends the macro
                values.put(item.name(), image);
            }
        }
        Jython.run(file, text, values, new File(imagejFolder(), "jars/Lib"), items);
    }

    private static File imagejFolder() {
        return new File(IJ.getDirectory("imagej"));
    }

    private static String read(final File file) throws ProblemException {
        try {
            return new String(Files.readAllBytes(file.toPath()), StandardCharsets.UTF_8);
        } catch (final IOException problem) {
            throw new ProblemException("The script " + file + " is missing or cannot be read.\n"
                + "Install CellSeg again: cellseg install fiji \"" + imagejFolder() + "\"");
        }
    }
}
