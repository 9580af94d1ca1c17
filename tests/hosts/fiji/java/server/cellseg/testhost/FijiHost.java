package cellseg.testhost;

import java.io.File;
import java.util.LinkedHashMap;
import java.util.Map;

import org.scijava.Context;
import org.scijava.module.ModuleItem;
import org.scijava.script.ScriptModule;
import org.scijava.script.ScriptService;

/** ImageJ with SciJava: a real Fiji, or the mini-Fiji. */
final class FijiHost implements Server.Host {

    private Context context;

    @Override
    public void start() {
        Thread.currentThread().setContextClassLoader(FijiHost.class.getClassLoader());
        context = new Context(); // its legacy service patches and starts ImageJ
    }

    @Override
    public Map<String, String> runScript(final String path, final Map<String, String> inputs)
        throws Exception
    {
        final Map<String, Object> given = new LinkedHashMap<>(inputs);
        final ScriptModule module = context.getService(ScriptService.class)
            .run(new File(path), true, given).get();
        for (final ModuleItem<?> input : module.getInfo().inputs()) {
            if (input.isRequired() && module.getInput(input.getName()) == null) {
                throw new IllegalStateException("Nothing gave the input " + input.getName() + ".");
            }
        }
        final Map<String, String> outputs = new LinkedHashMap<>();
        module.getOutputs().forEach((name, value) -> outputs.put(name, String.valueOf(value)));
        return outputs;
    }
}
