package net.imagej.axis;

import java.util.HashMap;
import java.util.Map;

/** The kinds of dimensions, one object each. */
public final class Axes {
    private static final Map<String, AxisType> KNOWN = new HashMap<>();

    private Axes() {}

    public static AxisType get(final String label) {
        return get(label, false);
    }

    public static AxisType get(final String label, final boolean spatial) {
        return KNOWN.computeIfAbsent(label, Named::new);
    }

    private static final class Named implements AxisType {
        private final String label;

        Named(final String label) {
            this.label = label;
        }

        @Override
        public String getLabel() {
            return label;
        }

        @Override
        public boolean isXY() {
            return "X".equals(label) || "Y".equals(label);
        }

        @Override
        public boolean isSpatial() {
            return isXY() || "Z".equals(label);
        }
    }
}
