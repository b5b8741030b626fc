"""Every error the framework raises on purpose.

    FrameworkError
    ├── ConfigError        (ValueError)        a configuration file, flag or argument
    ├── BackendError       (RuntimeError)      a plugin or device that cannot be used
    ├── ShapeError         (ValueError)        shapes that do not fit
    │   └── AxisError      (IndexError)        an axis, or an index of one, that an array does not have
    ├── DTypeError         (TypeError)         dtypes that do not fit
    ├── GradientError      (RuntimeError)      a derivative that cannot be taken
    ├── DataError          (ValueError)        data that is missing, damaged or out of range
    ├── CheckpointError    (ValueError)        a checkpoint that cannot be written or read
    ├── WorkerError        (RuntimeError)      a process that read data died
    └── NonFiniteError     (ArithmeticError)   a loss or gradient that is NaN or infinite

Each is also the builtin that a Python user would expect. A message says what was given, what was
expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


class FrameworkError(Exception):
    """Base of every error that the framework raises on purpose."""


class ConfigError(FrameworkError, ValueError):
    """A configuration file, a flag or an argument is wrong."""


class BackendError(FrameworkError, RuntimeError):
    """A backend plugin or a device cannot be used."""


class ShapeError(FrameworkError, ValueError):
    """Shapes do not fit together."""


class AxisError(ShapeError, IndexError):
    """An array has no such axis, or an axis no such index."""


class DTypeError(FrameworkError, TypeError):
    """Dtypes do not fit together."""


class GradientError(FrameworkError, RuntimeError):
    """A derivative cannot be taken."""


class DataError(FrameworkError, ValueError):
    """Data is missing, damaged or out of range."""


class CheckpointError(FrameworkError, ValueError):
    """A checkpoint cannot be written, found or read."""


class WorkerError(FrameworkError, RuntimeError):
    """A process that read data for a DataLoader died, or could not be started."""


class NonFiniteError(FrameworkError, ArithmeticError):
    """A loss or a gradient is NaN or infinite."""


class CompileWarning(UserWarning):
    """A compiled call runs as it is, without being replayed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when none comes close.

    Examples:
        >>> nearest("max_epoch", ["max_epochs", "max_steps"])
        'max_epochs'
        >>> nearest("Adamw", ["Adam", "AdamW"])
        'AdamW'
    """
    import difflib

    names = list(known)
    same = next((other for other in names if other.lower() == name.lower()), None)
    found = [same] if same else difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The sentence that ends an error about an unknown name; empty when nothing comes close.

    Examples:
        >>> did_you_mean("relux", ["relu", "gelu"])
        " Did you mean 'relu'?"
    """
    found = nearest(name, known)
    return f" Did you mean {found!r}?" if found else ""
