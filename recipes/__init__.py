"""How the models of `vaelib.pretrained` were trained: a script each.

    python -m recipes.mnist_vae              # trains, measures, writes to vaelib/weights/
    python -m recipes.mnist_vae              # after Ctrl-C: goes on where it was
    python -m recipes.mnist_vae --as-it-is   # measures and writes what there is
    python -m recipes.mnist_vae --quick      # seconds: does it run?

`--device` is CUDA where there is one. The data are read from `VAELIB_DATA`, or downloaded.
"""
