"""What the framework costs, measured: against NumPy by hand, bare matrix products, PyTorch, Lightning, JAX, autograd.

    fw bench                          # every row
    fw bench gradient step --rounds 51 --threads 1
    fw bench --list

A *row* (`rows/`) names what is compared and the bar it is to meet. Each of its *contenders*
(`contenders/`) lives in a child process of its own (`worker.py`), with the BLAS that the library itself
would choose and the same number of threads. The children take turns, round after round; what is
reported is the median and the quartiles of the rounds' ratios, so that a machine which is slower for a
while is slower for all. Nothing here is imported by the framework or asserted by its tests.
"""
