"""A Serve config file as YAML: read strictly, and what is wrong with it in one sentence with its line and column.

Ray's own reader takes the last of two values of one name, and says nothing. No sentence repeats what stands in the
file, for a key may stand there by mistake.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from deployments.errors import ConfigError
from deployments.secrecy import shown

# PyYAML's words for what newcomers do, by the beginning of its text, and ours.
_PROBLEMS: Mapping[str, str] = {
    "found character '\\t'": "a tab stands there, and YAML takes only blanks to indent",
    "mapping values are not allowed": "a colon stands where none may: is the indentation right, or are quotes missing?",
    "could not find expected ':'": "a key has no colon behind it",
    "expected <block end>": "the indentation is not that of the lines above, or a key has no colon behind it",
    "expected ',' or": "a bracket is not closed, or a comma is missing",
    "did not find expected": "a bracket is not closed, or a comma is missing",
    "found unexpected end of stream": "a quote is not closed",
    "but found another document": "the line --- begins another document, and there is to be one",
    "found undefined alias": "a value that begins with * needs quotes",
    "could not determine a constructor": "a value that begins with ! needs quotes",
    "found unhashable key": "{ stands before a key: a text with { needs quotes",
    "found character '%'": "a value that begins with % needs quotes",
    "found character '@'": "a value that begins with @ needs quotes",
    "found character '`'": "a value that begins with ` needs quotes",
}
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class _Twice(yaml.YAMLError):
    """A name is there twice in one object. The argument is the sentence."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            known, mark = (name.tag, name.value), name.start_mark
            if known in lines:
                raise _Twice(f"{_place(mark)}: {shown(name.value)} is there twice, first in line {lines[known]}")
            lines[known] = mark.line + 1
        return super().construct_mapping(node, deep)


def read_yaml(path: str) -> object:
    """Return what a file says. Raises ConfigError with one sentence."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return yaml.load(file, _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not YAML: the file is not in UTF-8") from None
    except _Twice as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_sentence(error)}") from None
    except (
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ):  # PyYAML's, for `2024-99-99` and others
        raise ConfigError(
            f"{path}: not YAML: a value in it can't be read: does a date or a number need quotes?"
        ) from None


def _sentence(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return ": not YAML: it has a character that no text file has"
    ours = (words for beginning, words in _PROBLEMS.items() if problem.startswith(beginning))
    return f", {_place(mark)}: not YAML: {next(ours, None) or _QUOTED.sub('something', problem)}"


def _place(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
