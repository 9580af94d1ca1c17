"""Our conversions for `scyjava.to_python` and `scyjava.to_java`, registered when asked."""

from __future__ import annotations

from typing import Any

from cellseg_engine.errors import MissingDependencyError
from cellseg_imagej.arrays import ImageArray, to_array, to_imageplus
from cellseg_imagej.java import IMAGEPLUS, find_class

_NAME = "cellseg_imagej"


def register_converters() -> None:
    """Make ``scyjava.to_python(imp)`` give an `ImageArray`, and ``scyjava.to_java`` take one.

    They go before those of pyimagej, which give xarray; Datasets are left to it. May be called
    before the Java machine runs, and again.

    Raises
    ------
    MissingDependencyError
        scyjava is not installed.
    """
    try:
        import scyjava
        from scyjava import Converter, Priority
    except ImportError as error:
        raise MissingDependencyError(
            "Converters need the package scyjava, which is not installed.",
            hint="pip install 'cellseg-engine[imagej]'",
        ) from error

    def register() -> None:
        if _registered():
            return
        scyjava.add_py_converter(
            Converter(
                name=_NAME,
                predicate=_is_imageplus,
                converter=to_array,
                priority=Priority.VERY_HIGH,
            )
        )
        scyjava.add_java_converter(
            Converter(
                name=_NAME,
                predicate=lambda thing: isinstance(thing, ImageArray),
                converter=to_imageplus,
                priority=Priority.EXTREMELY_HIGH + 2,  # an ImageArray is a tuple, too
            )
        )

    scyjava.when_jvm_starts(register)


def _registered() -> bool:
    import scyjava

    return any(str(one) == _NAME for one in scyjava.py_converters)


def _is_imageplus(thing: Any) -> bool:
    kind = find_class(IMAGEPLUS)
    return kind is not None and isinstance(thing, kind)
