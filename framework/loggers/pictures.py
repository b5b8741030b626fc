"""Pictures as a logger's thread may take them: nobody else's, so that the training may go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from framework.autodiff import Tensor
from framework.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""


def check_list(key: str, images: Any) -> None:
    """Raise ConfigError where the pictures are no list."""
    if not isinstance(images, list | tuple):
        raise ConfigError(f"log_image({key!r}, images=…) takes a list of pictures, got {type(images).__name__}")


def pixels(picture: Tensor) -> Any:
    """A copy on the host of (height, width) or (channels, height, width), with the channels last."""
    array = picture.detach().numpy()
    return (array.transpose(1, 2, 0) if array.ndim == 3 else array).copy()


def drawn(figure: Any) -> bytes:
    """A matplotlib figure, which may be drawn over or closed at any time, as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def png_or_pixels(key: str, picture: Any) -> Any:
    """The content of a PNG file, or an array (height, width) or (height, width, channels).

    Raises:
        ConfigError: it is no picture, or a file of another format.
    """
    if isinstance(picture, str | Path):
        content = Path(picture).read_bytes()
        if not content.startswith(PNG):
            raise ConfigError(f"log_image({key!r}, …) takes PNG files, and {str(picture)!r} is none; hand it an array")
        return content
    if hasattr(picture, "savefig"):
        return drawn(picture)
    if getattr(picture, "ndim", 0) not in (2, 3):
        shape = f" of shape {tuple(picture.shape)}" if hasattr(picture, "shape") else ""
        raise ConfigError(
            f"log_image({key!r}, …) takes Tensors (height, width) or (channels, height, width), arrays (height, width) "
            f"or (height, width, channels), matplotlib figures and PNG files; got a {type(picture).__name__}{shape}"
        )
    return pixels(picture) if isinstance(picture, Tensor) else picture.copy()
