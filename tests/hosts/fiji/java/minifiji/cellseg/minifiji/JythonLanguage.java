package cellseg.minifiji;

import java.io.Reader;
import java.util.ArrayList;
import java.util.List;

import javax.script.Bindings;
import javax.script.ScriptEngine;
import javax.script.ScriptException;
import javax.script.SimpleBindings;

import org.python.jsr223.PyScriptEngineFactory;
import org.python.util.PythonInterpreter;
import org.scijava.plugin.Plugin;
import org.scijava.script.AbstractScriptEngine;
import org.scijava.script.AdaptedScriptLanguage;
import org.scijava.script.ScriptLanguage;

/** Tells SciJava of Jython, as scripting-jython does in Fiji. */
@Plugin(type = ScriptLanguage.class, name = "Python (Jython)")
public class JythonLanguage extends AdaptedScriptLanguage {

    public JythonLanguage() {
        super(new PyScriptEngineFactory());
    }

    @Override
    public ScriptEngine getScriptEngine() {
        return new SharedState();
    }

    /** Keeps imported modules from run to run, as in Fiji. */
    private static final class SharedState extends AbstractScriptEngine {

        private final PythonInterpreter interpreter = new PythonInterpreter();

        SharedState() {
            engineScopeBindings = new SimpleBindings() {
                @Override
                public Object put(final String name, final Object value) {
                    interpreter.set(name, value);
                    return super.put(name, value);
                }
                @Override
                public Object get(final Object name) {
                    return interpreter.get(String.valueOf(name), Object.class);
                }
            };
        }

        @Override
        public Object eval(final String script) throws ScriptException {
            try {
                interpreter.exec(interpreter.compile(script, String.valueOf(get(FILENAME))));
                return null;
            } catch (final Exception problem) {
                throw new ScriptException(problem);
            }
        }

        @Override
        public Object eval(final Reader reader) throws ScriptException {
            throw new UnsupportedOperationException();
        }
    }
}
