package cellseg.imagej;

import ij.IJ;
import ij.ImagePlus;
import ij.Macro;
import ij.plugin.Macro_Runner;

import java.awt.GraphicsEnvironment;
import java.io.File;
import java.util.List;
import java.util.Map;
import java.util.Properties;

import org.python.core.Py;
import org.python.core.PyCode;
import org.python.core.PyException;
import org.python.core.PyList;
import org.python.core.PyString;
import org.python.core.PySystemState;
import org.python.util.PythonInterpreter;

/** Runs a script with ImageJ's Jython. */
final class Jython {

    private Jython() {}

    /** Runs a script.
     *
     * @param file for messages
     * @param text of the script
     * @param values of its variables
     * @param library folder with the modules that it imports
     * @param items its #@ lines; images among its outputs are shown
     * @throws ProblemException there is no Jython
     */
    static void run(final File file, final String text, final Map<String, Object> values,
        final File library, final List<Item> items) throws ProblemException
    {
        check();
        final Thread thread = Thread.currentThread();
        final ClassLoader before = thread.getContextClassLoader();
        thread.setContextClassLoader(Jython.class.getClassLoader());
        try {
            Runner.run(file, text, values, library, items);
        } finally {
            thread.setContextClassLoader(before);
        }
    }

    private static void check() throws ProblemException {
        try {
            Class.forName("org.python.util.PythonInterpreter");
            return;
        } catch (final ClassNotFoundException missing) {
            if (Macro.getOptions() == null && !GraphicsEnvironment.isHeadless()) {
                // ImageJ itself offers to download its Jython.jar when a Python script is run. In a
                // macro it would do so without asking.
                Macro_Runner.runPython("pass", "");
            }
        }
        throw new ProblemException("CellSeg needs Jython, which this ImageJ does not have yet.\n"
            + "If it has just been downloaded, run the command again; else put Jython.jar\n"
            + "from the ImageJ website into the plugins folder.");
    }

    /** What cannot even be loaded without Jython. */
    private static final class Runner {

        static void run(final File file, final String text, final Map<String, Object> values,
            final File library, final List<Item> items)
        {
            final PythonInterpreter interpreter = start();
            final PyList path = interpreter.getSystemState().path;
            final PyString folder = Py.fileSystemEncode(library.getPath());
            if (!path.contains(folder)) {
                path.insert(0, folder);
            }
            interpreter.set("__name__", "__main__");
            interpreter.set("__file__", file.getPath());
            for (final Map.Entry<String, Object> value : values.entrySet()) {
                interpreter.set(value.getKey(), value.getValue());
            }
            try {
                final PyCode code = Py.compile_flags(text, file.getPath(),
                    org.python.core.CompileMode.exec, new org.python.core.CompilerFlags());
                interpreter.exec(code);
            } catch (final PyException problem) {
                report(problem);
                return;
            }
            show(interpreter, items);
        }

        /** Gives an interpreter; one at a time: threads that load Jython together can block. */
        private static synchronized PythonInterpreter start() {
            final Properties settings = new Properties();
            settings.setProperty("python.cachedir.skip", "true");
            settings.setProperty("python.import.site", "false");
            PySystemState.initialize(System.getProperties(), settings);
            return new PythonInterpreter();
        }

        private static void report(final PyException problem) {
            if (problem.match(Py.SystemExit)) {
                return;
            }
            for (Throwable cause = problem; cause != null; cause = cause.getCause()) {
                if (Macro.MACRO_CANCELED.equals(cause.getMessage())) {
                    throw new RuntimeException(Macro.MACRO_CANCELED); // ImageJ's way to end it
                }
            }
            IJ.handleException(problem);
            Macros.end();
        }

        private static void show(final PythonInterpreter interpreter, final List<Item> items) {
            for (final Item item : items) {
                final Object value =
                    item.isOutput() ? interpreter.get(item.name(), Object.class) : null;
                if (value instanceof ImagePlus && !((ImagePlus) value).isVisible()) {
                    ((ImagePlus) value).show();
                }
            }
        }
    }
}
