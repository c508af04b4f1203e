"""Names that others chose, of tensors, operators, models and files, as text that cannot act on what shows it.

A name may hold anything: newlines that forge lines, escape sequences, marks that turn the reading direction. Models
and files get theirs made visible where they come in, so that listings, plans and rows hold no such characters.
"""

import codecs
import re

_LONGEST = 2000  # characters of an error line, so that it stays one that a person can read
_ASCII = {"…": "...", "µ": "u", "×": "x", "←": "<-", "→": "->"}  # what our own texts use
# A backslash before these takes their meaning away; an underscore has none between letters and digits.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")


def shown(text: str) -> str:
    """Text on one line in which everything is seen: other characters than printable ones as Python's escapes.

    Those are controls, line and paragraph separators, marks without width or of direction, spaces other than
    U+0020, lone surrogates, and what Unicode has not assigned.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    """Python's escape; what stands for a byte that is no character (PEP 383) as that byte."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(character)[1:-1]


def line(text: str) -> str:
    """A message as one line for a person; of a very long one the beginning and the end, where the remedy is."""
    text = shown(" ".join(text.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def markdown(text: str) -> str:
    """Text for a line or a cell of Markdown, without markup, HTML or mathematics."""
    text = shown(text).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN.sub(r"\\\g<0>", text)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """What to write for characters that an output's encoding lacks."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


REPLACE = "cosma.replace"  # an error handler for the encodings of output streams
codecs.register_error(REPLACE, _replace)
