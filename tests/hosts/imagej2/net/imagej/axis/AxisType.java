package net.imagej.axis;

/** What a dimension means. */
public interface AxisType {
    String getLabel();

    boolean isXY();

    boolean isSpatial();
}
