import java.awt.image.BufferedImage;
import java.awt.image.Raster;
import java.io.File;
import java.nio.ShortBuffer;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Consumer;
import javax.imageio.ImageIO;
import org.apposed.appose.Appose;
import org.apposed.appose.Environment;
import org.apposed.appose.NDArray;
import org.apposed.appose.NDArray.DType;
import org.apposed.appose.NDArray.Shape;
import org.apposed.appose.Service;
import org.apposed.appose.Service.ResponseType;
import org.apposed.appose.Service.Task;
import org.apposed.appose.Service.TaskStatus;
import org.apposed.appose.TaskEvent;

/**
 * Cells of images, by the CellSeg engine in an Appose worker.
 *
 * <p>Arguments: the folder with the engine's Python, a diameter in pixels (0: estimated), seconds
 * after which an image is cancelled (0: never), then pairs of an image and the 16-bit PNG to write
 * its labels to. The exit code is 1 if an image got no labels. See docs/appose.md.
 */
public final class SegmentWithAppose {

    /** Runs once, when the worker starts: the model stays loaded for all tasks. */
    private static final String START =
            String.join(
                    "\n",
                    "import numpy",
                    "from cellseg_engine import CellSegError, Segmenter, make_settings",
                    "from cellseg_engine.errors import CancelledError",
                    "segmenter = Segmenter(make_settings())");

    /** Runs for each image; image and labels are memory that both processes share. */
    private static final String SEGMENT =
            String.join(
                    "\n",
                    "def tell(progress):",
                    "    task.update(progress.stage, progress.done, progress.total)",
                    "",
                    "try:",
                    "    result = segmenter.segment(",
                    "        image.ndarray(),",
                    "        axes,",
                    "        settings=make_settings(settings),",
                    "        keep_fields=False,",
                    "        progress=tell,",
                    "        is_cancelled=lambda: task.cancel_requested,",
                    "    )",
                    "    if result.n_objects > 65535:",
                    "        task.outputs['problem'] = 'More than 65,535 objects.'",
                    "    else:",
                    "        labels.ndarray()[:] = result.labels",
                    "        task.outputs['n_objects'] = result.n_objects",
                    "        task.outputs['warnings'] = list(result.warnings)",
                    "except CancelledError:",
                    "    task.cancel()",
                    "except CellSegError as problem:",
                    "    task.outputs['problem'] = str(problem)");

    private SegmentWithAppose() {}

    public static void main(final String[] args) throws Exception {
        final Environment engine = Appose.custom().binPaths(args[0]).build();
        final Map<String, Object> settings = new HashMap<>();
        settings.put("diameter_px", Double.parseDouble(args[1]));
        final double limit = Double.parseDouble(args[2]);
        boolean complete = true;
        try (Service worker = engine.python()) {
            worker.init(START);
            for (int i = 3; i + 1 < args.length; i += 2) {
                final File from = new File(args[i]);
                complete &= segment(worker, settings, limit, from, new File(args[i + 1]));
            }
        }
        if (!complete) {
            System.exit(1);
        }
    }

    /** Gives whether labels were written. */
    private static boolean segment(
            final Service worker,
            final Map<String, Object> settings,
            final double limit,
            final File from,
            final File to)
            throws Exception {
        final Raster pixels = ImageIO.read(from).getRaster();
        final int width = pixels.getWidth();
        final int height = pixels.getHeight();
        final Shape shape = new Shape(Shape.Order.C_ORDER, height, width);
        // Both made here: memory that the worker makes is never given back.
        try (NDArray image = new NDArray(DType.UINT16, shape);
                NDArray labels = new NDArray(DType.UINT16, shape)) {
            final ShortBuffer values = image.buffer().asShortBuffer();
            for (final int value : pixels.getSamples(0, 0, width, height, 0, (int[]) null)) {
                values.put((short) value);
            }
            final Map<String, Object> inputs = new HashMap<>();
            inputs.put("image", image);
            inputs.put("labels", labels);
            inputs.put("axes", "YX");
            inputs.put("settings", settings);
            final Task task = worker.task(SEGMENT, inputs);
            task.listen(new Watch(from.getName(), limit));
            task.waitFor();
            if (task.status == TaskStatus.CANCELED) {
                System.out.println(from.getName() + ": cancelled after " + limit + " s");
                return false;
            }
            if (task.status != TaskStatus.COMPLETE) {
                throw new IllegalStateException(task.status + ": " + task.error);
            }
            if (task.outputs.containsKey("problem")) {
                System.out.println(from.getName() + ": " + task.outputs.get("problem"));
                return false;
            }
            write(labels, width, height, to);
            System.out.println(from.getName() + ": " + task.outputs.get("n_objects") + " objects");
            return true;
        }
    }

    private static void write(
            final NDArray labels, final int width, final int height, final File to)
            throws Exception {
        final short[] values = new short[width * height];
        labels.buffer().asShortBuffer().get(values);
        final BufferedImage picture =
                new BufferedImage(width, height, BufferedImage.TYPE_USHORT_GRAY);
        picture.getRaster().setDataElements(0, 0, width, height, values);
        ImageIO.write(picture, "png", to);
    }

    /** Prints how far an image is, and cancels it when its time is over. */
    private static final class Watch implements Consumer<TaskEvent> {
        private final String name;
        private final double limit;
        private long start;

        Watch(final String name, final double limit) {
            this.name = name;
            this.limit = limit;
        }

        /** Called by Appose in a thread of its own. */
        @Override
        public void accept(final TaskEvent event) {
            if (event.responseType == ResponseType.LAUNCH) {
                start = System.nanoTime();
            }
            if (event.responseType != ResponseType.UPDATE) {
                return;
            }
            System.out.println(
                    name + ": " + event.message + " " + event.current + " of " + event.maximum);
            if (limit > 0 && System.nanoTime() - start > limit * 1e9) {
                event.task.cancel();
            }
        }
    }
}
