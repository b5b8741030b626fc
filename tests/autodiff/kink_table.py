"""The tables of `docs/kinks.md`: expressions of x, the point, the derivative, and what JAX and PyTorch return."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kinks.md"
LINE = re.compile(r"^\| `(.+)` \| `x = (.+)` \| (\S+) \| (\S+) \| (\S+) \|$")


@dataclass(frozen=True)
class Kink:
    """One line: a library's entry is None where it has no such function."""

    expression: str
    at: float
    element: float
    jax: float | None
    torch: float | None

    @property
    def names(self) -> set[str]:
        """The functions in the expression."""
        return set(re.findall(r"[A-Za-z_][\w.]*(?=\()", self.expression))

    def function(self, names: Any) -> Any:
        """The expression as a function of x, names looked up in `names`."""
        code = compile(self.expression, self.expression, "eval")

        def fn(x: Any) -> Any:
            return eval(code, {"__builtins__": {"__import__": __import__}}, _Names(names, x))

        return fn


class _Names(dict[str, Any]):
    def __init__(self, names: Any, x: Any) -> None:
        super().__init__(x=x, inf=math.inf, nan=math.nan)
        self.namespace = names

    def __missing__(self, name: str) -> Any:
        return getattr(self.namespace, name)


def number(text: str) -> float | None:
    """A number, a fraction, ∞, nan, or a dash for None."""
    if text == "—":
        return None
    text = text.replace("∞", "inf")
    return float(Fraction(text)) if "/" in text else float(text)


def parse(text: str) -> list[Kink]:
    """All lines of all tables."""
    kinks = []
    for line in text.splitlines():
        if line.startswith("| `"):
            found = LINE.match(line)
            assert found, f"not a line of a table of kinks: {line}"
            expression, at, element, jax, torch = found.groups()
            kinks.append(Kink(expression, float(at), number(element), number(jax), number(torch)))  # type: ignore[arg-type]
    return kinks


KINKS = parse(PAGE.read_text())


# -- the same expressions in other libraries ------------------------------------------------------------------


def jax_names(jax: Any) -> dict[str, Any]:
    """What JAX calls differently."""
    jnp = jax.numpy
    return {
        "stack": lambda xs: jnp.stack([jnp.asarray(x) for x in xs]),
        "softmax": jax.nn.softmax,
        "log_softmax": jax.nn.log_softmax,
        "logsumexp": jax.nn.logsumexp,
        "sigmoid": jax.nn.sigmoid,
        "relu": jax.nn.relu,
        "nn": jax.nn,
    }


def torch_names(torch: Any) -> dict[str, Any]:
    """What PyTorch calls differently: it takes no numbers beside Tensors, and wants a `dim`."""

    def tensor(x: Any) -> Any:
        return x if torch.is_tensor(x) else torch.tensor(x, dtype=torch.float64)

    def of_two(name: str) -> Any:
        return lambda x, y: getattr(torch, name)(tensor(x), tensor(y))

    own = {name: of_two(name) for name in "fmax fmin hypot atan2 pow logaddexp logaddexp2 copysign".split()}
    own |= {name: of_two(name) for name in ("maximum", "minimum", "remainder")}
    return own | {
        "stack": lambda xs: torch.stack([tensor(x) for x in xs]),
        "ones": lambda shape: torch.ones(shape, dtype=torch.float64),
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "clip": lambda x, low, high: torch.clip(tensor(x), tensor(low), tensor(high)),
        "nn": torch.nn.functional,
    }
