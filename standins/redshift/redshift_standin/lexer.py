"""Redshift's tokens.

A parser of the whole language would have to write every statement out again, and whatever it does
not know would be lost or changed on the way (sqlglot drops PIVOT and IGNORE NULLS and moves
subscripts by one). The stand-in changes only what differs, so it works on tokens: what it
leaves alone reaches PostgreSQL as it was written, comments and parameters included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from redshift_standin.statements import SYNTAX_ERROR, RedshiftError


class Kind(Enum):
    """What a token is."""

    NAME = "name"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    PARAMETER = "parameter"
    OPERATOR = "operator"
    PUNCTUATION = "punctuation"


@dataclass(frozen=True)
class Token:
    """A token and where it stands in the text.

    Attributes:
        word: A name or keyword in lower case, an operator as it is, else an empty string.
        start: Its first character's index.
        end: The index after its last character.
    """

    kind: Kind
    text: str
    word: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The token as an identifier: Redshift folds quoted ones too."""
        if self.kind is Kind.QUOTED:
            return fold(self.text[1:-1].replace('""', '"'))
        return fold(self.text)


_SKIPPED = re.compile(r"(?:\s+|--[^\n]*)+", re.ASCII)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_TOKEN = re.compile(
    r"""
    (?P<parameter> \$\d+ )
  | (?P<string> [eEbBxX]?'(?:[^'\\]|''|\\.)*' )
  | (?P<quoted> "(?:[^"]|"")*" )
  | (?P<number> (?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)? )
  | (?P<name> \#?(?:[^\W\d]|[^\x00-\x7f])(?:[\w$]|[^\x00-\x7f])* )
  | (?P<punctuation> ::|[()\[\],;.] )
  | (?P<operator> [-+*/<>=~!@\#%^&|`?:]+ )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_DOLLAR_QUOTED = re.compile(r"\$([A-Za-z_]\w*)?\$")
_ASCII_UPPER = {ord(letter): ord(letter.lower()) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_KINDS = {
    "parameter": Kind.PARAMETER,
    "string": Kind.STRING,
    "quoted": Kind.QUOTED,
    "number": Kind.NUMBER,
    "name": Kind.NAME,
    "punctuation": Kind.PUNCTUATION,
    "operator": Kind.OPERATOR,
}


def words(text: str) -> frozenset[str]:
    """The set of the words in a text."""
    return frozenset(text.split())


def fold(name: str) -> str:
    """A name as Redshift keeps it: ASCII letters in lower case."""
    return name.translate(_ASCII_UPPER)


def quote(name: str) -> str:
    """A name as PostgreSQL takes it literally."""
    return '"' + name.replace('"', '""') + '"'


def string_value(token: Token) -> str:
    """What a string literal stands for."""
    if token.text.startswith("$"):
        tag = token.text[: token.text.index("$", 1) + 1]
        return token.text[len(tag) : -len(tag)]
    inner = token.text[token.text.index("'") + 1 : -1]
    return re.sub(r"\\(.)|''", lambda match: _escaped(match[1]), inner, flags=re.DOTALL)


def _escaped(letter: str | None) -> str:
    if letter is None:
        return "'"
    return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(letter, letter)


def literal(value: str) -> str:
    """A string as a literal for PostgreSQL with standard_conforming_strings off."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def tokens(text: str) -> list[Token]:
    """The tokens of a text, without comments and white space.

    Raises:
        RedshiftError: A string, a quoted name or a comment is not closed, or a character has no
            place in SQL.
    """
    found: list[Token] = []
    position = 0
    while position < len(text):
        if skipped := _SKIPPED.match(text, position):
            position = skipped.end()
        elif text.startswith("/*", position):
            position = _comment_end(text, position)
        else:
            found.append(_token(text, position))
            position = found[-1].end
    return found


def _token(text: str, position: int) -> Token:
    if opening := _DOLLAR_QUOTED.match(text, position):
        closing = text.find(opening[0], opening.end())
        if closing < 0:
            raise RedshiftError("unterminated dollar-quoted string", SYNTAX_ERROR)
        end = closing + len(opening[0])
        return Token(Kind.STRING, text[position:end], "", position, end)
    match = _TOKEN.match(text, position)
    if match is None or match.lastgroup is None:
        if text[position] in "'\"":
            what = "quoted string" if text[position] == "'" else "quoted identifier"
            raise RedshiftError(f"unterminated {what}", SYNTAX_ERROR)
        raise RedshiftError(f'syntax error at or near "{text[position]}"', SYNTAX_ERROR)
    kind = _KINDS[match.lastgroup]
    end = match.end()
    if kind is Kind.OPERATOR:
        end = _operator_end(text, position, end)
    found = text[position:end]
    if kind in (Kind.NAME, Kind.QUOTED):
        _check_name(found)
    word = "" if kind in (Kind.QUOTED, Kind.STRING, Kind.NUMBER) else fold(found)
    return Token(kind, found, word, position, end)


def _check_name(text: str) -> None:
    name = text[1:-1].replace('""', '"') if text.startswith('"') else text
    if not name.isprintable():
        raise RedshiftError(
            f"syntax error at or near {name!r}",
            SYNTAX_ERROR,
            "A name consists of printable characters only.",
        )


def _operator_end(text: str, start: int, end: int) -> int:
    """Where an operator ends: before a comment, and before a sign that follows it."""
    for comment in ("--", "/*"):
        index = text.find(comment, start, end)
        if index > start:
            end = index
    # As in PostgreSQL, an operator ends in + or - only if it holds one of these.
    while (
        end - start > 1 and text[end - 1] in "+-" and not set(text[start:end]) & set("~!@#%^&|`?")
    ):
        end -= 1
    return end


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    raise RedshiftError("unterminated /* comment", SYNTAX_ERROR)


def split(text: str) -> list[str]:
    """The statements of a text, each without its semicolon; empty ones are left out."""
    statements = []
    start = 0
    has_tokens = False
    for token in tokens(text):
        if token.word == ";":
            if has_tokens:
                statements.append(text[start : token.start].strip())
            start, has_tokens = token.end, False
        else:
            has_tokens = True
    if has_tokens:
        statements.append(text[start:].strip())
    return statements


class Tokens:
    """A statement's tokens, and for each opening bracket the closing one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all = tokens(text)
        self.closing = _pairs(self.all)

    def at(self, index: int) -> Token:
        """The token at an index.

        Raises:
            RedshiftError: The statement ends before it.
        """
        if not 0 <= index < len(self.all):
            raise RedshiftError("syntax error at end of input", SYNTAX_ERROR)
        return self.all[index]

    def word(self, index: int) -> str:
        """The word at an index; an empty string outside of the statement."""
        return self.all[index].word if 0 <= index < len(self.all) else ""

    def starts(self, index: int, *words: str) -> bool:
        """Whether these words stand at an index."""
        return all(self.word(index + offset) == word for offset, word in enumerate(words))

    def source(self, start: int, end: int) -> str:
        """The text of the tokens [start, end) as it is written."""
        if start >= end:
            return ""
        return self.text[self.at(start).start : self.at(end - 1).end]

    def gap(self, index: int) -> str:
        """The white space and comments before a token."""
        start = self.all[index - 1].end if index else 0
        return self.text[start : self.all[index].start]

    def separated(self, start: int, end: int, word: str = ",") -> list[tuple[int, int]]:
        """The ranges that commas (or `word`) divide [start, end) into, except inside brackets."""
        if start >= end:
            return []
        ranges = []
        begin = index = start
        while index < end:
            if self.word(index) == word:
                ranges.append((begin, index))
                begin = index + 1
            index = self.after(index)
        ranges.append((begin, end))
        return ranges

    def after(self, index: int) -> int:
        """The next index at this level: behind the closing bracket, if one opens here."""
        return self.closing.get(index, index) + 1

    def find(self, start: int, end: int, *words: str) -> int | None:
        """The index of the first of these words at this level, outside of inner brackets."""
        index = start
        while index < end:
            if self.word(index) in words:
                return index
            index = self.after(index)
        return None


def _pairs(found: list[Token]) -> dict[int, int]:
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for index, token in enumerate(found):
        if token.word in ("(", "["):
            opened.append(index)
        elif token.word in (")", "]"):
            if not opened or found[opened[-1]].word != {")": "(", "]": "["}[token.word]:
                raise RedshiftError(f'syntax error at or near "{token.text}"', SYNTAX_ERROR)
            pairs[opened.pop()] = index
    if opened:
        raise RedshiftError("syntax error at end of input", SYNTAX_ERROR)
    return pairs
