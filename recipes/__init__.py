"""How the models of `vaelib.pretrained` were trained: a script each, `python -m recipes.NAME`."""
