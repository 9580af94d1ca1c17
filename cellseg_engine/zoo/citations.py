"""What to cite for a model: the method, and those who made and annotated its images."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A paper.

    Attributes
    ----------
    text
        Authors, year, title and place.
    doi
        Without the address of the resolver.
    """

    text: str
    doi: str

    def __str__(self) -> str:
        return f"{self.text} doi:{self.doi}"


METHOD = Citation(
    "Stringer C, Wang T, Michaelos M, Pachitariu M (2021) Cellpose: a generalist algorithm for "
    "cellular segmentation. Nature Methods 18:100-106.",
    "10.1038/s41592-020-01018-x",
)
TRAINING = Citation(
    "Pachitariu M, Stringer C (2022) Cellpose 2.0: how to train your own model. Nature Methods "
    "19:1634-1641.",
    "10.1038/s41592-022-01663-4",
)
_NUCLEI = Citation(
    "Caicedo JC et al. (2019) Nucleus segmentation across imaging experiments: the 2018 Data "
    "Science Bowl. Nature Methods 16:1247-1253.",
    "10.1038/s41592-019-0612-7",
)
_PHASE = Citation(
    "Tsai HF, Gajda J, Sloan TFW, Rares A, Shen AQ (2019) Usiigaci: instance-aware cell tracking "
    "in stain-free phase contrast microscopy enabled by machine learning. SoftwareX 9:230-237.",
    "10.1016/j.softx.2019.02.007",
)
_VOLUMES = Citation(
    "Wolny A et al. (2020) Accurate and versatile 3D segmentation of plant tissues at cellular "
    "resolution. eLife 9:e57613.",
    "10.7554/eLife.57613",
)

DATA = {
    "nuclei": (_NUCLEI,),
    "generalist": (_NUCLEI, _PHASE),
    "phase": (_NUCLEI, _PHASE),
    "nuclei3d": (_NUCLEI, _VOLUMES),
}
"""Of the images that taught our models, and those that they went on from, by name of the model."""
