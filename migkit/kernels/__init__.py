"""Numba kernels: QEMU's migration loop over two models of RAM, file by file."""
