package cellseg.testhost;

import ij.IJ;
import ij.Macro;
import ij.macro.Interpreter;

import java.io.File;
import java.lang.reflect.InvocationTargetException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.List;

/** What every ImageJ can be asked for; apart from Server, which must not load ImageJ early. */
final class Requests {

    private static final String ABORTED = "[aborted]";

    private static ClassLoader ownLoader;

    private Requests() {}

    /** Runs a macro; gives what it returns, "[aborted]" if it did not come to its end, or null. */
    static String runMacro(final String text, final String argument) {
        // Not IJ.runMacro: it gives null after an error that a command of the macro raised.
        final Interpreter interpreter = new Interpreter();
        try {
            final String result = interpreter.run(text, argument == null ? "" : argument);
            final boolean isDone = !interpreter.wasError() && interpreter.getErrorMessage() == null;
            return isDone ? result : ABORTED;
        } catch (final RuntimeException problem) {
            interpreter.abortMacro();
            if (Macro.MACRO_CANCELED.equals(problem.getMessage())) {
                return ABORTED;
            }
            throw problem;
        }
    }

    /** Runs Jython for a test that looks at things; gives its variable "result" as text. */
    static String runPython(final String text) throws Exception {
        // By reflection: in a plain ImageJ only the class loader of plugins knows Jython.
        final ClassLoader loader = jythonLoader();
        final Thread thread = Thread.currentThread();
        final ClassLoader before = thread.getContextClassLoader();
        thread.setContextClassLoader(loader);
        try {
            final Class<?> type = loader.loadClass("org.python.util.PythonInterpreter");
            final Object interpreter = type.getConstructor().newInstance();
            final Object code =
                type.getMethod("compile", String.class).invoke(interpreter, text);
            type.getMethod("exec", loader.loadClass("org.python.core.PyObject"))
                .invoke(interpreter, code);
            final Object result = type.getMethod("get", String.class, Class.class)
                .invoke(interpreter, "result", Object.class);
            return String.valueOf(result);
        } catch (final InvocationTargetException problem) {
            throw new IllegalStateException(problem.getCause());
        } finally {
            thread.setContextClassLoader(before);
        }
    }

    /** Gives ImageJ's class loader, or a private one where ImageJ has no Jython. */
    private static synchronized ClassLoader jythonLoader() throws Exception {
        final ClassLoader plugins = IJ.getClassLoader();
        final ClassLoader usual = plugins == null ? Requests.class.getClassLoader() : plugins;
        final String folder = System.getProperty("cellseg.jython");
        if (usual.getResource("org/python/util/PythonInterpreter.class") != null) {
            return usual;
        }
        if (ownLoader == null) {
            final List<URL> jars = new ArrayList<>();
            for (final File jar : new File(folder).listFiles()) {
                jars.add(jar.toURI().toURL());
            }
            ownLoader = new URLClassLoader(jars.toArray(new URL[0]), usual);
        }
        return ownLoader;
    }
}
