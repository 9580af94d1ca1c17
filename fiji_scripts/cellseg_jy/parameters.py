r"""The values that a script was given: by its dialog, by a program, or by a macro.

A macro's text is read again here. ImageJ itself finds ``channel=`` also inside
``nuclear_channel=2``, passes over a bare word such as ``exclude_edge_objects``, and says nothing
about a word that means nothing.
"""

from __future__ import unicode_literals

from collections import namedtuple

from ij import Macro

from cellseg_jy.problems import Problem
from cellseg_jy.texts import as_text

Parameter = namedtuple(str("Parameter"), "name kind default choices")
"""``kind`` is text, choice, number, integer or boolean."""

IMAGE = Parameter("image", "text", "", ())
"""Macro key for the title of the image, instead of the current one."""
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def collect(declared, given):
    """Give the value of each parameter.

    Parameters
    ----------
    declared
        The `Parameter` list of the script.
    given
        The script's ``globals()``: what its dialog or a program set.

    Raises
    ------
    Problem
        A macro has a word that is none of the parameters, or a value of the wrong kind.
    """
    options = Macro.getOptions()
    words = parse_options(options or "")
    _check_names(words, [parameter.name for parameter in declared])
    values = {}
    for parameter in declared:
        name = parameter.name
        if name in words:
            value = words[name]
        elif options and Macro.getValue(options, name, None) is not None:
            value = parameter.default  # ImageJ took the value of another, longer word
        else:
            value = given.get(name)
        values[name] = _convert(parameter, parameter.default if value is None else value)
    return values


def parse_options(text):
    """Give the words of a macro's options: ``a=1 b=[two words] c`` with c as True."""
    words = {}
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        start = place
        while place < len(text) and not text[place].isspace() and text[place] != "=":
            place += 1
        name = text[start:place].lower()
        if place < len(text) and text[place] == "=":
            value, place = _read_value(text, place + 1)
            words.setdefault(name, value)
        else:
            words.setdefault(name, True)
    return words


def _read_value(text, place):
    """Give a value, without its brackets or quotes, and where the text goes on."""
    opener = text[place : place + 1]
    if opener == "'":
        end = text.find("'", place + 1)
        if end > 0:
            return text[place + 1 : end], end + 1
    if opener == "[":
        depth = 0
        for end in range(place, len(text)):
            depth += {"[": 1, "]": -1}.get(text[end], 0)
            if depth == 0:
                return text[place + 1 : end], end + 1
    end = place
    while end < len(text) and not text[end].isspace():
        end += 1
    return text[place:end], end


def _check_names(words, names):
    unknown = sorted(set(words) - set(names))
    if unknown:
        raise Problem(
            "There is no parameter called {}.".format(unknown[0]),
            "Known are: {}.".format(", ".join(sorted(names))),
            "parameter",
        )


def _convert(parameter, value):
    convert = {
        "boolean": _to_boolean,
        "number": float,
        "integer": _to_integer,
        "text": _to_text,
        "choice": _to_text,
    }[parameter.kind]
    try:
        converted = convert(value)
    except (ValueError, TypeError):
        converted = None
    if converted is None or (parameter.kind == "choice" and converted not in parameter.choices):
        allowed = {
            "boolean": "true or false",
            "number": "a number",
            "integer": "a whole number",
            "text": "a text, as in {}=value".format(parameter.name),
            "choice": "one of " + ", ".join(parameter.choices),
        }[parameter.kind]
        shown = "empty" if value is True else as_text(value)
        raise Problem(
            "{} is {}; allowed is {}.".format(parameter.name, shown, allowed), code="parameter"
        )
    return converted


def _to_boolean(value):
    word = as_text(value).lower()
    return True if word in _YES else False if word in _NO else None


def _to_integer(value):
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _to_text(value):
    if value is True:
        raise ValueError
    return as_text(value).strip()
