"""What is wrong with the fields of a file, in words.

Goes in: pydantic's error. Comes out: the first field that is wrong, what is wrong with it, and how
many more are. Does not know which file it is.

    >>> first_problem(error)
    'slots.0.hub: Input should be greater than or equal to 0 (and 2 more)'
"""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Name the first field that is wrong; the input itself is not repeated."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    words = first["msg"].removeprefix("Value error, ")
    others = error.error_count() - 1
    return (f"{field}: " if field else "") + words + (f" (and {others} more)" if others else "")
