"""The model engine: a subprocess that alone touches MLX.

`protocol` and `blas` may be imported by the daemon, since they import no MLX; everything else here
runs in the subprocess that `python -m permesh.inference.engine` starts. The engine knows layers,
tokens and tensors; it must never know members, peers or records.
"""
