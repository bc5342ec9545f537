"""The base of the errors of both packages."""

from __future__ import annotations

from functools import cache
from inspect import Parameter, Signature, get_annotations
from typing import dataclass_transform

__all__ = ["AnnotatedError"]


@dataclass_transform(eq_default=False)
class AnnotatedError(Exception):
    """An exception that takes the names that its class annotates and keeps them as attributes.

    As in a dataclass, names after ``_: KW_ONLY`` are keywords, and a value in the class is a
    default. `Exception` gets the values that are not keywords, so that every error pickles. (Real
    dataclasses are too slow: every command imports all errors, and compiling 40 takes 5 ms.)
    """

    def __init__(self, *args: object, **named: object) -> None:
        signature = _signature(type(self).__mro__)
        if not signature.parameters:  # a class that annotates nothing is a plain exception
            super().__init__(*args, **named)
            return
        bound = signature.bind(*args, **named)
        bound.apply_defaults()
        super().__init__(*bound.args)
        self.__dict__.update(bound.arguments)


@cache
def _signature(classes: tuple[type, ...]) -> Signature:
    """Return the parameters of a class, from what it and its bases annotate."""
    parameters: dict[str, Parameter] = {}
    is_keyword = False
    for base in reversed(classes):
        for name, annotation in get_annotations(base).items():
            if annotation == "KW_ONLY":
                is_keyword = True
                continue
            place = Parameter.KEYWORD_ONLY if is_keyword else Parameter.POSITIONAL_OR_KEYWORD
            default = getattr(classes[0], name, Parameter.empty)
            parameters[name] = Parameter(name, place, default=default)
    return Signature(list(parameters.values()))
