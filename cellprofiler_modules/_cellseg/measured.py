"""The measurements of IdentifyCells: which there are, and how they are written."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
from cellprofiler_core.constants.measurement import (
    C_CHILDREN,
    C_COUNT,
    C_LOCATION,
    C_NUMBER,
    C_PARENT,
    C_THRESHOLD,
    COLTYPE_FLOAT,
    COLTYPE_INTEGER,
    COLTYPE_VARCHAR_FORMAT,
    FF_CHILDREN_COUNT,
    FF_COUNT,
    FF_PARENT,
    FTR_CENTER_X,
    FTR_CENTER_Y,
    FTR_CENTER_Z,
    FTR_FINAL_THRESHOLD,
    FTR_OBJECT_NUMBER,
    FTR_ORIG_THRESHOLD,
    FTR_SUM_OF_ENTROPIES,
    FTR_WEIGHTED_VARIANCE,
    IMAGE,
    M_LOCATION_CENTER_X,
    M_LOCATION_CENTER_Y,
    M_LOCATION_CENTER_Z,
    M_NUMBER_OBJECT_NUMBER,
    MCA_AVAILABLE_EACH_CYCLE,
    R_CHILD,
    R_PARENT,
)

from _cellseg import own_settings
from _cellseg.objects import Edited, Pairs

CATEGORY = "CellSeg"
# Feature of each object: column of the engine's table.
QUALITY = {"MeanProbability": "mean_probability", "FlowError": "flow_error"}
NUCLEI_COUNT = "NucleiCount"
ABOUT = {
    "DiameterUsed": COLTYPE_FLOAT,
    "Seconds": COLTYPE_FLOAT,
    "Model": COLTYPE_VARCHAR_FORMAT % 255,
    "WeightsSHA256": COLTYPE_VARCHAR_FORMAT % 255,
    "EngineVersion": COLTYPE_VARCHAR_FORMAT % 32,
}
# IdentifyPrimaryObjects has them and other modules may ask for them; here they are not a number.
THRESHOLDS = (
    FTR_FINAL_THRESHOLD,
    FTR_ORIG_THRESHOLD,
    FTR_WEIGHTED_VARIANCE,
    FTR_SUM_OF_ENTROPIES,
)


def found_names(module: Any) -> List[str]:
    """Give the names of the objects that the module makes."""
    names = [module.y_name.value]
    if module.wants_nuclei.value == own_settings.NUCLEI_FROM_MODEL:
        names.append(module.nuclei_name.value)
    return names


def nuclei_name(module: Any) -> str:
    """Give the name of the nuclei, "" if the cells are not related to any."""
    if module.wants_nuclei.value == own_settings.NUCLEI_FROM_OBJECTS:
        return str(module.nuclei_objects.value)
    if module.wants_nuclei.value == own_settings.NUCLEI_FROM_MODEL:
        return str(module.nuclei_name.value)
    return ""


# --- writing -----------------------------------------------------------------------------------


def add(module: Any, workspace: Any, name: str, result: Any, edited: Edited) -> None:
    """Write the measurements of a set of objects that the engine found."""
    module.add_measurements(workspace, name)
    measurements = workspace.measurements
    rows = np.searchsorted(result.table["label"], edited.kept)
    for feature, column in QUALITY.items():
        values = np.asarray(result.table[column], dtype=float)[rows]
        measurements.add_measurement(name, _object_feature(feature), values)
    model = result.provenance["model"]
    side = result.provenance.get("volume", {}).get("model_side_views", model)
    about = {
        "DiameterUsed": result.diameter_px,
        "Seconds": result.seconds["total"],
        "Model": " and ".join(dict.fromkeys([str(model["name"]), str(side["name"])])),
        "WeightsSHA256": " ".join(model["weights_sha256"]),
        "EngineVersion": str(result.provenance["cellseg_engine"]),
    }
    for feature, value in about.items():
        measurements.add_image_measurement(_image_feature(feature, name), value)
    for feature in THRESHOLDS:
        measurements.add_image_measurement(_threshold(feature, name), np.nan)


def add_pairs(module: Any, workspace: Any, pairs: Pairs) -> None:
    """Write which nucleus is whose: Parent, Children and the relationship."""
    cells, nuclei = module.y_name.value, nuclei_name(module)
    measurements = workspace.measurements
    counts = np.zeros(pairs.cell_of_nucleus.size, int)
    has_nucleus = np.flatnonzero(pairs.nucleus_of_cell)
    parents = pairs.nucleus_of_cell[has_nucleus]
    counts[parents - 1] = 1
    measurements.add_measurement(cells, FF_PARENT % nuclei, pairs.nucleus_of_cell)
    measurements.add_measurement(nuclei, FF_CHILDREN_COUNT % cells, counts)
    measurements.add_measurement(cells, _object_feature(NUCLEI_COUNT), pairs.nuclei_in_cell)
    if not has_nucleus.size:
        return
    numbers = np.full(has_nucleus.size, measurements.image_set_number)
    children = has_nucleus + 1
    for relation, first, second in ((R_PARENT, nuclei, cells), (R_CHILD, cells, nuclei)):
        of_first, of_second = (parents, children) if relation == R_PARENT else (children, parents)
        measurements.add_relate_measurement(
            module.module_num, relation, first, second, numbers, of_first, numbers, of_second
        )


# --- announcing --------------------------------------------------------------------------------


def columns(module: Any) -> List[Tuple[Any, ...]]:
    """Give (objects, measurement, type) of everything."""
    result = []  # type: List[Tuple[Any, ...]]
    for name in found_names(module):
        result += [
            (name, M_LOCATION_CENTER_X, COLTYPE_FLOAT),
            (name, M_LOCATION_CENTER_Y, COLTYPE_FLOAT),
            (name, M_LOCATION_CENTER_Z, COLTYPE_FLOAT),
            (name, M_NUMBER_OBJECT_NUMBER, COLTYPE_INTEGER),
            (IMAGE, FF_COUNT % name, COLTYPE_INTEGER),
        ]
        result += [(name, _object_feature(feature), COLTYPE_FLOAT) for feature in QUALITY]
        result += [(IMAGE, _image_feature(feature, name), kind) for feature, kind in ABOUT.items()]
        result += [(IMAGE, _threshold(feature, name), COLTYPE_FLOAT) for feature in THRESHOLDS]
    nuclei = nuclei_name(module)
    if nuclei:
        cells = module.y_name.value
        result += [
            (cells, FF_PARENT % nuclei, COLTYPE_INTEGER),
            (cells, _object_feature(NUCLEI_COUNT), COLTYPE_INTEGER),
            (nuclei, FF_CHILDREN_COUNT % cells, COLTYPE_INTEGER),
        ]
    return result


def categories(module: Any, object_name: str) -> List[str]:
    """Give the categories of an object name."""
    nuclei = nuclei_name(module)
    if object_name == IMAGE:
        return [C_COUNT, CATEGORY, C_THRESHOLD]
    found = []
    if object_name in found_names(module):
        found += [C_LOCATION, C_NUMBER, CATEGORY]
    if nuclei and object_name == module.y_name.value:
        found.append(C_PARENT)
    if nuclei and object_name == nuclei:
        found.append(C_CHILDREN)
    return found


def features(module: Any, object_name: str, category: str) -> List[str]:
    """Give the features of a category."""
    if category not in categories(module, object_name):
        return []
    names = found_names(module)
    if object_name == IMAGE:
        by_category = {C_COUNT: names, CATEGORY: list(ABOUT), C_THRESHOLD: list(THRESHOLDS)}
        return by_category[category]
    cells, nuclei = module.y_name.value, nuclei_name(module)
    quality = list(QUALITY)
    if nuclei and object_name == cells:
        quality.append(NUCLEI_COUNT)
    by_category = {
        C_LOCATION: [FTR_CENTER_X, FTR_CENTER_Y, FTR_CENTER_Z],
        C_NUMBER: [FTR_OBJECT_NUMBER],
        CATEGORY: quality,
        C_PARENT: [nuclei],
        C_CHILDREN: ["{}_Count".format(cells)],
    }
    return by_category[category]


def objects_of(module: Any, object_name: str, category: str, feature: str) -> List[str]:
    """Give the objects that a measurement of the image is about."""
    is_about_objects = object_name == IMAGE and category in (CATEGORY, C_THRESHOLD)
    if is_about_objects and feature in features(module, object_name, category):
        return found_names(module)
    return []


def relationships(module: Any) -> List[Tuple[str, str, str, str]]:
    """Give the relationships that are written."""
    nuclei = nuclei_name(module)
    if not nuclei:
        return []
    cells = module.y_name.value
    return [
        (R_PARENT, nuclei, cells, MCA_AVAILABLE_EACH_CYCLE),
        (R_CHILD, cells, nuclei, MCA_AVAILABLE_EACH_CYCLE),
    ]


def _object_feature(feature: str) -> str:
    return "{}_{}".format(CATEGORY, feature)


def _image_feature(feature: str, name: str) -> str:
    return "{}_{}_{}".format(CATEGORY, feature, name)


def _threshold(feature: str, name: str) -> str:
    return "{}_{}_{}".format(C_THRESHOLD, feature, name)
