"""Reading a statement from left to right."""

from __future__ import annotations

from redshift_standin.lexer import Kind, Tokens, quote, string_value
from redshift_standin.statements import SYNTAX_ERROR, RedshiftError

_NAMES = (Kind.NAME, Kind.QUOTED)


class Reader:
    """Goes through a statement's tokens from left to right."""

    def __init__(self, tokens: Tokens, index: int = 0, end: int | None = None) -> None:
        self.tokens = tokens
        self.index = index
        self.end = len(tokens.all) if end is None else end

    @property
    def word(self) -> str:
        """The word that comes next, an empty string at the end."""
        return self.tokens.word(self.index) if self.index < self.end else ""

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.index >= self.end

    def take(self, *words: str) -> bool:
        """Step over these words if they come next."""
        if self.index + len(words) <= self.end and self.tokens.starts(self.index, *words):
            self.index += len(words)
            return True
        return False

    def expect(self, *words: str) -> None:
        """Step over these words, which have to come next."""
        for word in words:
            if not self.take(word):
                raise self.unexpected()

    def one_of(self, *words: str) -> str | None:
        """Step over one of these words and say which."""
        word = self.word
        return word if word and word in words and self.take(word) else None

    def name(self) -> str:
        """Step over a name and return it as Redshift keeps it."""
        if self.at_end or self.tokens.at(self.index).kind not in _NAMES:
            raise self.unexpected()
        self.index += 1
        return self.tokens.at(self.index - 1).name

    def path(self) -> tuple[str, ...]:
        """Step over a name with its qualifiers."""
        parts = [self.name()]
        while self.take("."):
            parts.append(self.name())
        return tuple(parts)

    def names(self) -> tuple[str, ...]:
        """Step over a bracket of names."""
        self.expect("(")
        found = [self.name()]
        while self.take(","):
            found.append(self.name())
        self.expect(")")
        return tuple(found)

    def string(self) -> str:
        """Step over a string and return what it stands for."""
        if self.at_end or self.tokens.at(self.index).kind is not Kind.STRING:
            raise self.unexpected()
        self.index += 1
        return string_value(self.tokens.at(self.index - 1))

    def is_string(self) -> bool:
        """Whether a string comes next."""
        return not self.at_end and self.tokens.at(self.index).kind is Kind.STRING

    def number(self) -> int:
        """Step over a whole number."""
        sign = -1 if self.take("-") else 1
        if self.at_end or not self.tokens.at(self.index).text.isdigit():
            raise self.unexpected()
        self.index += 1
        return sign * int(self.tokens.at(self.index - 1).text)

    def finish(self) -> None:
        """Refuse whatever is left."""
        if not self.at_end:
            raise self.unexpected()

    def unexpected(self) -> RedshiftError:
        """What Redshift says of the token that comes next."""
        if self.at_end:
            return RedshiftError("syntax error at end of input", SYNTAX_ERROR)
        text = self.tokens.at(self.index).text
        return RedshiftError(f'syntax error at or near "{text}"', SYNTAX_ERROR)


def written(path: tuple[str, ...]) -> str:
    """A qualified name as PostgreSQL takes it."""
    return ".".join(quote(part) for part in path)
