package net.imagej.axis;

/** A dimension with a scale. */
public interface CalibratedAxis {
    AxisType type();

    String unit();

    double calibratedValue(double rawValue);

    double averageScale(double rawValue1, double rawValue2);
}
