package cellseg.minifiji;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;

import net.imagej.patcher.LegacyHooks;

import org.scijava.module.ModuleService;
import org.scijava.script.ScriptInfo;
import org.scijava.script.ScriptService;
import org.scijava.thread.ThreadService;

/** Runs scripts that a macro calls, in a pooled thread that knows the macro's options. */
public class MacroHooks extends LegacyHooks {

    static final String SCRIPT = "script:";

    private final ScriptService scripts;
    private final ModuleService modules;
    private final ThreadService threads;

    MacroHooks(final ScriptService scripts, final ModuleService modules,
        final ThreadService threads)
    {
        this.scripts = scripts;
        this.modules = modules;
        this.threads = threads;
    }

    @Override
    public Object interceptRunPlugIn(final String className, final String argument) {
        if (!className.startsWith(SCRIPT)) {
            return null;
        }
        for (final ScriptInfo script : scripts.getScripts()) {
            if (script.getPath().equals(className.substring(SCRIPT.length()))) {
                return run(script);
            }
        }
        return null;
    }

    private Object run(final ScriptInfo script) {
        try {
            return modules.run(script, true).get();
        } catch (final InterruptedException | ExecutionException problem) {
            throw new IllegalStateException(problem);
        }
    }

    @Override
    public Iterable<Thread> getThreadAncestors() {
        final List<Thread> ancestors = new ArrayList<>();
        Thread thread = threads.getParent(Thread.currentThread());
        while (thread != null && !ancestors.contains(thread)) {
            ancestors.add(thread);
            thread = threads.getParent(thread);
        }
        return ancestors;
    }

    @Override
    public void error(final Throwable problem) {
        problem.printStackTrace();
    }

    @Override
    public void debug(final String text) {
        // As in Fiji, shown on request only.
    }
}
