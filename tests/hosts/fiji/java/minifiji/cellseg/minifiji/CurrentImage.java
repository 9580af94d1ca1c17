package cellseg.minifiji;

import ij.ImagePlus;
import ij.WindowManager;

import org.scijava.Priority;
import org.scijava.module.Module;
import org.scijava.module.process.AbstractSingleInputPreprocessor;
import org.scijava.module.process.PreprocessorPlugin;
import org.scijava.plugin.Plugin;

/** Gives a script with one ImagePlus input the current image, as imagej-legacy does. */
@Plugin(type = PreprocessorPlugin.class, priority = Priority.VERY_HIGH + 1)
public class CurrentImage extends AbstractSingleInputPreprocessor {

    @Override
    public void process(final Module module) {
        final ImagePlus image = WindowManager.getCurrentImage();
        final String input = image == null ? null : getSingleInput(module, ImagePlus.class);
        if (input != null) {
            module.setInput(input, image);
            module.resolveInput(input);
        }
    }
}
