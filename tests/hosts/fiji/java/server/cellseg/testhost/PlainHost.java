package cellseg.testhost;

import ij.IJ;
import ij.ImageJ;

import java.util.Map;

/** ImageJ alone, with its window and menus. */
final class PlainHost implements Server.Host {

    @Override
    public void start() {
        ImageJ.main(new String[0]); // plugins.dir says where its folder is
        IJ.getInstance().exitWhenQuitting(true);
    }

    @Override
    public Map<String, String> runScript(final String path, final Map<String, String> inputs) {
        throw new UnsupportedOperationException(
            "A plain ImageJ has no #@ scripts: use the menu command, by a macro.");
    }
}
