"""The table of objects: CSV of the engine to a table of ImageJ, and CSV files."""

from __future__ import unicode_literals

import csv
import io

from ij.measure import ResultsTable
from java.lang import Double

_SHIFTED = (("centroid_x_px", "x"), ("centroid_y_px", "y"))


def make_table(rows):
    """Give lists of text, the names first, as a table of ImageJ; what is empty is NaN."""
    table = ResultsTable()
    table.showRowNumbers(False)
    table.setNaNEmptyCells(True)
    names = rows[0]
    for row in rows[1:]:
        table.addRow()
        for name, cell in zip(names, row):
            number = _number(cell)
            table.addValue(name, cell if number is None else number)
    return table


def parse_csv(text):
    """Give the rows of a CSV text as lists of text; cells in quotes may hold commas and lines."""
    if '"' not in text:
        return [line.split(",") for line in text.splitlines()]
    lines = csv.reader(io.BytesIO(text.encode("utf-8")))
    return [[cell.decode("utf-8") for cell in line] for line in lines]


def to_csv(rows):
    """Give rows as CSV text."""
    return "".join(",".join(_quote(cell) for cell in row) + "\n" for row in rows)


def shift(rows, source):
    """Move the centroids of a part of an image to their places in the whole image."""
    names = rows[0]
    sizes = source.request()["pixel_size_um"]
    offsets = {"x": source.bounds.x, "y": source.bounds.y}
    moves = []
    for name, letter in _SHIFTED:
        micron = name[: -len("px")] + "um"
        if name in names:
            moves.append((names.index(name), offsets[letter]))
        if micron in names:
            moves.append((names.index(micron), offsets[letter] * sizes[letter.upper()]))
    for row in rows[1:]:
        for column, offset in moves:
            if row[column]:
                row[column] = "{:.9g}".format(float(row[column]) + offset)


def column(rows, name):
    """Give the cells of a column."""
    index = rows[0].index(name)
    return [row[index] for row in rows[1:]]


def _number(cell):
    if cell == "":
        return Double.NaN
    try:
        return float(cell)
    except ValueError:
        return None


def _quote(cell):
    if any(letter in cell for letter in ',"\n\r'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
