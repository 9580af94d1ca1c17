package cellseg.minifiji;

import ij.IJ;
import ij.Macro;

import org.scijava.Priority;
import org.scijava.convert.ConvertService;
import org.scijava.module.Module;
import org.scijava.module.ModuleItem;
import org.scijava.module.process.AbstractPreprocessorPlugin;
import org.scijava.module.process.PreprocessorPlugin;
import org.scijava.plugin.Parameter;
import org.scijava.plugin.Plugin;

/** Gives a script the values of run("Name", "key=value"), as imagej-legacy does. */
@Plugin(type = PreprocessorPlugin.class, priority = 2 * Priority.VERY_HIGH)
public class MacroOptions extends AbstractPreprocessorPlugin {

    @Parameter
    private ConvertService convert;

    @Override
    public void process(final Module module) {
        final String options = IJ.isMacro() ? Macro.getOptions() : null;
        if (options == null) {
            return;
        }
        for (final ModuleItem<?> input : module.getInfo().inputs()) {
            final String value = Macro.getValue(options, input.getName(), null);
            if (value != null && convert.supports(value, input.getType())) {
                module.setInput(input.getName(), convert.convert(value, input.getType()));
                module.resolveInput(input.getName());
            }
        }
    }
}
