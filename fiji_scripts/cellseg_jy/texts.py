"""Between texts and bytes; Jython leaves what Java's constructors give as java.lang.String."""

from __future__ import unicode_literals

from java.lang import String


def to_text(data, charset="UTF-8"):
    """Give the text of bytes."""
    return String(data, charset).toString()


def to_bytes(text, charset="UTF-8"):
    """Give the bytes of a text."""
    return String(text).getBytes(charset)


def to_hex(data):
    """Give bytes of Java as hexadecimal digits."""
    return "".join("{:02x}".format(byte & 0xFF) for byte in data)


def as_text(value):
    """Give text of anything, also of byte strings that are no ASCII."""
    if isinstance(value, unicode):
        return value
    if isinstance(value, str):
        return value.decode("utf-8", "replace")
    try:
        return unicode(value)
    except UnicodeError:
        return repr(value).decode("ascii", "replace")
