"""JAX as a backend: immutable arrays, and programs compiled by XLA. Importing it does not import JAX."""

from fw_jax.backend import JaxBackend as JaxBackend
