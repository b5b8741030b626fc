"""Arrays in files that other libraries read and write, too: `save` and `load`."""

from framework.interchange.files import load as load
from framework.interchange.files import save as save
