package net.imagej.types;

import java.util.function.Function;
import net.imagej.Dataset;
import net.imagej.DatasetService;
import net.imagej.axis.AxisType;
import net.imagej.axis.CalibratedAxis;
import net.imagej.axis.DefaultLinearAxis;

/** The gateway of the stand-in, its service, and a Dataset of planes. */
public final class Planes implements DatasetService {
    public static final class UnsignedByteType {}

    public static final class ByteType {}

    public static final class UnsignedShortType {}

    public static final class ShortType {}

    public static final class UnsignedIntType {}

    public static final class IntType {}

    public static final class FloatType {}

    public static final class DoubleType {}

    public DatasetService dataset() {
        return this;
    }

    @Override
    public Dataset create(
            final long[] dims,
            final String name,
            final AxisType[] axes,
            final int bits,
            final boolean signed,
            final boolean floating) {
        final Object type;
        final Function<Integer, Object> make;
        if (bits == 8) {
            type = signed ? new ByteType() : new UnsignedByteType();
            make = byte[]::new;
        } else if (bits == 16) {
            type = signed ? new ShortType() : new UnsignedShortType();
            make = short[]::new;
        } else if (floating) {
            type = bits == 32 ? new FloatType() : new DoubleType();
            make = bits == 32 ? float[]::new : double[]::new;
        } else {
            type = signed ? new IntType() : new UnsignedIntType();
            make = int[]::new;
        }
        return new Image(dims, name, axes, type, make);
    }

    @Override
    public Dataset create(
            final long[] dims,
            final String name,
            final AxisType[] axes,
            final int bits,
            final boolean signed,
            final boolean floating,
            final boolean virtual) {
        return create(dims, name, axes, bits, signed, floating);
    }

    @Override
    public Dataset create(
            final Object type, final long[] dims, final String name, final AxisType[] axes) {
        throw new UnsupportedOperationException();
    }

    private static final class Image implements Dataset {
        private final long[] dims;
        private final String name;
        private final CalibratedAxis[] axes;
        private final Object type;
        private final Object[] planes;
        private boolean merged;

        Image(
                final long[] dims,
                final String name,
                final AxisType[] types,
                final Object type,
                final Function<Integer, Object> make) {
            this.dims = dims;
            this.name = name;
            this.type = type;
            axes = new CalibratedAxis[types.length];
            int n = 1;
            for (int d = 0; d < dims.length; d++) {
                axes[d] = new DefaultLinearAxis(types[d]);
                n *= d > 1 ? (int) dims[d] : 1;
            }
            planes = new Object[n];
            for (int i = 0; i < n; i++) planes[i] = make.apply((int) (dims[0] * dims[1]));
        }

        @Override
        public String getName() {
            return name;
        }

        @Override
        public int numDimensions() {
            return dims.length;
        }

        @Override
        public long dimension(final int d) {
            return dims[d];
        }

        @Override
        public long dimension(final AxisType kind) {
            for (int d = 0; d < dims.length; d++) if (axes[d].type() == kind) return dims[d];
            return 1;
        }

        @Override
        public CalibratedAxis axis(final int d) {
            return axes[d];
        }

        @Override
        public void setAxis(final CalibratedAxis axis, final int d) {
            axes[d] = axis;
        }

        @Override
        public Object getType() {
            return type;
        }

        @Override
        public Object getPlane(final int number) {
            return planes[number];
        }

        @Override
        public Object getPlane(final int number, final boolean copyOK) {
            return planes[number];
        }

        @Override
        public boolean setPlaneSilently(final int number, final Object plane) {
            if (plane.getClass() != planes[number].getClass()) throw new ClassCastException();
            planes[number] = plane;
            return true;
        }

        @Override
        public boolean isRGBMerged() {
            return merged;
        }

        @Override
        public void setRGBMerged(final boolean rgbMerged) {
            merged = rgbMerged;
        }
    }
}
