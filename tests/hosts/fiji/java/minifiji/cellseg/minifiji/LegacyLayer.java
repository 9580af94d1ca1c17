package cellseg.minifiji;

import ij.ImagePlus;
import ij.Menus;

import java.io.File;

import net.imagej.patcher.LegacyEnvironment;
import net.imagej.patcher.LegacyInjector;

import org.scijava.Priority;
import org.scijava.log.LogService;
import org.scijava.module.ModuleService;
import org.scijava.plugin.Parameter;
import org.scijava.plugin.Plugin;
import org.scijava.script.ScriptInfo;
import org.scijava.script.ScriptService;
import org.scijava.service.AbstractService;
import org.scijava.service.SciJavaService;
import org.scijava.service.Service;
import org.scijava.thread.ThreadService;

/**
 * Joins ImageJ and SciJava where Maven Central has no imagej-legacy: patches ImageJ for headless
 * use, starts it, and makes scripts of the folder "scripts" commands of macros.
 */
@Plugin(type = Service.class, priority = Priority.NORMAL + 1)
public class LegacyLayer extends AbstractService implements SciJavaService {

    static {
        LegacyInjector.preinit(); // before any class of ImageJ is loaded
    }

    @Parameter
    private ScriptService scripts;

    @Parameter
    private ModuleService modules;

    @Parameter
    private ThreadService threads;

    @Parameter
    private LogService log;

    @Override
    public void initialize() {
        final ClassLoader loader = Thread.currentThread().getContextClassLoader();
        LegacyInjector.installHooks(loader, new MacroHooks(scripts, modules, threads));
        try {
            final boolean headless = java.awt.GraphicsEnvironment.isHeadless();
            final LegacyEnvironment environment = new LegacyEnvironment(loader, headless);
            environment.disableInitializer();
            environment.noPluginClassLoader();
            environment.suppressIJ1ScriptDiscovery();
            environment.applyPatches();
            environment.newImageJ1(true);
        } catch (final ClassNotFoundException problem) {
            throw new IllegalStateException(problem);
        }
        InMenus.add(scripts);
        InMenus.alias(scripts);
    }

    /** What loads classes of ImageJ, and so has to wait for the patches. */
    private static final class InMenus {

        @SuppressWarnings("unchecked") // a bare Hashtable
        static void add(final ScriptService scripts) {
            for (final ScriptInfo script : scripts.getScripts()) {
                final String name = new File(script.getPath()).getName();
                if (name.contains("_")) { // as in Fiji: others are in the menu, but no commands
                    Menus.getCommands().put(script.getMenuPath().getLeaf().getName(),
                        MacroHooks.SCRIPT + script.getPath());
                }
            }
        }

        static void alias(final ScriptService scripts) {
            scripts.addAlias(ImagePlus.class);
        }
    }
}
