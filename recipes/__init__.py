"""The scripts that trained the models of `vaelib.pretrained`, one per model.

    python -m recipes.mnist_vae              # trains, measures, writes to vaelib/weights/
    python -m recipes.mnist_vae              # after Ctrl-C: continues
    python -m recipes.mnist_vae --as-it-is   # measures and writes the model as it is
    python -m recipes.mnist_vae --quick      # checks in seconds that the script runs

`--device` is CUDA if available. Data are read from `VAELIB_DATA`, or downloaded.
"""
