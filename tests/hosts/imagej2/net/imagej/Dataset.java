package net.imagej;

import net.imagej.axis.AxisType;
import net.imagej.axis.CalibratedAxis;

/** An image of ImageJ2, as far as it is used. */
public interface Dataset {
    String getName();

    int numDimensions();

    long dimension(int d);

    long dimension(AxisType type);

    CalibratedAxis axis(int d);

    void setAxis(CalibratedAxis axis, int d);

    Object getType();

    Object getPlane(int planeNumber);

    Object getPlane(int planeNumber, boolean copyOK);

    boolean setPlaneSilently(int planeNum, Object newPlane);

    boolean isRGBMerged();

    void setRGBMerged(boolean rgbMerged);
}
