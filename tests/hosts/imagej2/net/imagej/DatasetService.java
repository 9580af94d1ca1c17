package net.imagej;

import net.imagej.axis.AxisType;

/** Makes Datasets. */
public interface DatasetService {
    Dataset create(
            long[] dims, String name, AxisType[] axes, int bitsPerPixel, boolean signed, boolean floating);

    Dataset create(
            long[] dims,
            String name,
            AxisType[] axes,
            int bitsPerPixel,
            boolean signed,
            boolean floating,
            boolean virtual);

    Dataset create(Object type, long[] dims, String name, AxisType[] axes);
}
