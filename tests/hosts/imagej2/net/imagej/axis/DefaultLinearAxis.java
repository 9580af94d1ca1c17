package net.imagej.axis;

/** A dimension whose values rise evenly. */
public class DefaultLinearAxis implements CalibratedAxis {
    private final AxisType type;
    private final String unit;
    private final double scale;
    private final double origin;

    public DefaultLinearAxis(final AxisType type) {
        this(type, null, 1, 0);
    }

    public DefaultLinearAxis(final AxisType type, final double scale, final double origin) {
        this(type, null, scale, origin);
    }

    public DefaultLinearAxis(
            final AxisType type, final String unit, final double scale, final double origin) {
        this.type = type;
        this.unit = unit;
        this.scale = scale;
        this.origin = origin;
    }

    @Override
    public AxisType type() {
        return type;
    }

    @Override
    public String unit() {
        return unit;
    }

    @Override
    public double calibratedValue(final double rawValue) {
        return scale * rawValue + origin;
    }

    @Override
    public double averageScale(final double rawValue1, final double rawValue2) {
        return (calibratedValue(rawValue2) - calibratedValue(rawValue1)) / (rawValue2 - rawValue1);
    }
}
